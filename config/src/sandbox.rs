//! A pod's sandbox, resolved: what Kubernetes' CRI says of a pod (`runtime.v1.PodSandboxConfig`, api.proto of
//! k8s.io/cri-api) as the namespaces, names and files that its containers will share.
//!
//! The shim reads one in its CreateSandbox; `runtime-core` makes it. Pointers of refusals are the field names of the
//! message: `/linux/sysctls/kernel.panic: …`. The rules for sysctls, host names and cgroup paths are those of config.json, for
//! with a pause container these values would have stood there.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use protobuf::{EnumOrUnknown, Message};

use crate::container::{CgroupPath, Namespace, NamespaceKind};
use crate::id::ContainerId;
use crate::ids::{self, IdMap, IdMaps};
use crate::refuse::{At, Refusal};
use crate::spec::{cgroup, names, namespaces, nsfs, sysctl, user_namespace};
use proto::cri::{DNSConfig, IDMapping, NamespaceMode, NamespaceOption, PodSandboxConfig, UserNamespace};

pub use crate::spec::nsfs::owner;

#[allow(clippy::pedantic, clippy::unwrap_used, unreachable_pub, rust_2018_idioms)] // generated
mod proto {
    include!(concat!(env!("OUT_DIR"), "/cri/mod.rs"));
}

/// Pointer to where a pod says what it shares with the host.
const NAMESPACE_OPTIONS: &str = "/linux/security_context/namespace_options";

/// What the names of scopes begin with, as CRI has it.
const UNIT_PREFIX: &str = "cri-containerd";

/// What a sandbox is asked for.
#[derive(Debug, Clone, Copy)]
pub struct SandboxRequest<'a> {
    /// Its id.
    pub id: &'a str,
    /// Absolute path of its bundle.
    pub bundle: &'a Path,
    /// The client's namespace, in which ids are unique.
    pub namespace: &'a str,
    /// The network namespace that was made for it; empty where none was.
    pub netns_path: &'a str,
    /// A `runtime.v1.PodSandboxConfig`; empty is one without any field.
    pub config: &'a [u8],
}

/// One sandbox, ready to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: ContainerId,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// The namespaces that the pod has to itself, new or joined, in the order in which they are entered. Those that are not
    /// here are the host's, but for pid: then each container may have its own.
    pub namespaces: Vec<Namespace>,
    /// Those of its user namespace; none without one. Where a network namespace is joined, its owner is that user namespace, and
    /// has these maps; else it is a new one.
    pub mappings: IdMaps,
    /// Whether the pod is in the host's pid namespace.
    pub host_pid: bool,
    /// The pod's name in its own UTS namespace.
    pub hostname: Option<String>,
    /// (path below /proc/sys, value), only of the pod's own namespaces.
    pub sysctl: Vec<(String, String)>,
    /// What /etc/resolv.conf says; none is what it says on the host.
    pub resolv_conf: Option<String>,
    /// For what runs in the sandbox itself.
    pub cgroup: CgroupPath,
    /// The cgroup of the whole pod, where it has one.
    pub parent: Option<CgroupPath>,
}

impl Sandbox {
    /// Resolves all of `request`.
    pub fn resolve(request: &SandboxRequest<'_>) -> Result<Self, Refusal> {
        let config = PodSandboxConfig::parse_from_bytes(request.config);
        let config = config.map_err(|error| Refusal::new("", format!("decode PodSandboxConfig: {error}")))?;
        let id = ContainerId::new(request.id)?;
        let linux = config.linux.get_or_default();
        let options = linux.security_context.get_or_default().namespace_options.get_or_default();
        let namespaces = own(options, request.netns_path).at(NAMESPACE_OPTIONS)?;
        let mappings = mappings(options, &namespaces).at(NAMESPACE_OPTIONS)?;
        let parent = linux.cgroup_parent.as_str();
        Ok(Self {
            hostname: names::resolve(Some(config.hostname.as_str()), &namespaces).at("/hostname")?,
            sysctl: sysctl::resolve(Some(&linux.sysctls), &namespaces).at("/linux/sysctls")?,
            resolv_conf: config.dns_config.as_ref().map(resolv_conf).transpose().at("/dns_config")?,
            cgroup: own_cgroup(parent, request.namespace, &id).at("/linux/cgroup_parent")?,
            parent: pod_cgroup(parent, &id).at("/linux/cgroup_parent")?,
            bundle: request.bundle.to_owned(),
            host_pid: options.pid == EnumOrUnknown::new(NamespaceMode::NODE),
            id,
            namespaces,
            mappings,
        })
    }

    /// Whether the pod has a namespace of this kind to itself.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.namespaces.iter().any(|namespace| namespace.kind == kind)
    }
}

/// The namespaces that the pod has to itself.
fn own(options: &NamespaceOption, netns_path: &str) -> Result<Vec<Namespace>, Refusal> {
    let mut list = Vec::new();
    if of_pod(options.ipc).at("/ipc")? {
        list.push(Namespace { kind: NamespaceKind::Ipc, path: None });
    }
    if of_pod(options.network).at("/network")? {
        // The name belongs to the network: a pod that is on the host's is called as the host is, as CRI has it.
        list.push(Namespace { kind: NamespaceKind::Uts, path: None });
        let path = namespaces::path(Some(Path::new(netns_path)), NamespaceKind::Network).at("/network")?;
        list.push(Namespace { kind: NamespaceKind::Network, path });
    } else if !netns_path.is_empty() {
        return Err(Refusal::new("/network", format!("the host's, and yet {netns_path} was made for the pod")));
    }
    // CONTAINER: each container has its own, and the pod has none.
    if options.pid != EnumOrUnknown::new(NamespaceMode::CONTAINER) && of_pod(options.pid).at("/pid")? {
        list.push(Namespace { kind: NamespaceKind::Pid, path: None });
    }
    if let Some(users) = options.userns_options.as_ref()
        && of_pod(users.mode).at("/userns_options/mode")?
    {
        list.push(Namespace { kind: NamespaceKind::User, path: None });
    }
    Ok(list)
}

/// The maps of the pod's user namespace, where it has one.
fn mappings(options: &NamespaceOption, namespaces: &[Namespace]) -> Result<IdMaps, Refusal> {
    let of = |kind| namespaces.iter().find(|namespace| namespace.kind == kind);
    let (Some(users), Some(_)) = (options.userns_options.as_ref(), of(NamespaceKind::User)) else {
        return Ok(IdMaps::default());
    };
    let maps = maps(users).at("/userns_options")?;
    if let Some(path) = of(NamespaceKind::Network).and_then(|network| network.path.as_deref()) {
        refuse_unowned(path).at("/network")?;
    }
    Ok(maps)
}

fn maps(users: &UserNamespace) -> Result<IdMaps, Refusal> {
    let map = |list: &[IDMapping]| {
        let line = |line: &IDMapping| IdMap { container: line.container_id, host: line.host_id, size: line.length };
        let map: Vec<_> = list.iter().map(line).collect();
        ids::check(&map).and_then(|()| user_namespace::refuse_rootless(&map)).map(|()| map)
    };
    Ok(IdMaps { uids: map(&users.uids).at("/uids")?, gids: map(&users.gids).at("/gids")? })
}

/// Refuses a network namespace that was made for a pod with a user namespace, and belongs to that of the runtime: nobody in
/// the pod would have a right in it.
fn refuse_unowned(path: &Path) -> Result<(), Refusal> {
    let owner = nsfs::owner(path)
        .map_err(|errno| Refusal::new("", format!("look for the owner of {}: {errno}", path.display())))?;
    let named = format!("/proc/self/fd/{}", owner.as_raw_fd());
    if namespaces::is_the_runtimes(&Namespace { kind: NamespaceKind::User, path: Some(named.into()) }) {
        let reason = format!("{} belongs to the runtime's user namespace, and not to the pod's", path.display());
        return Err(Refusal::new("", reason));
    }
    Ok(())
}

/// The pod's own, or else the host's.
fn of_pod(mode: EnumOrUnknown<NamespaceMode>) -> Result<bool, Refusal> {
    match mode.enum_value() {
        Ok(NamespaceMode::POD) => Ok(true),
        Ok(NamespaceMode::NODE) => Ok(false),
        Ok(NamespaceMode::CONTAINER) => Err(Refusal::new("", "CONTAINER: a pod shares it or is on the host's")),
        Ok(NamespaceMode::TARGET) => Err(Refusal::new("", "TARGET: is for a container, not for a pod")),
        Err(number) => Err(Refusal::new("", format!("{number}: there is no such mode"))),
    }
}

/// resolv.conf(5), as CRI writes it.
fn resolv_conf(dns: &DNSConfig) -> Result<String, Refusal> {
    for (values, pointer) in [(&dns.searches, "/searches"), (&dns.servers, "/servers"), (&dns.options, "/options")] {
        if let Some(index) = values.iter().position(|value| value.contains(['\n', '\0'])) {
            return Err(Refusal::new(format!("{pointer}/{index}"), "has the end of a line in it"));
        }
    }
    let mut lines = Vec::new();
    if !dns.searches.is_empty() {
        lines.push(format!("search {}\n", dns.searches.join(" ")));
    }
    lines.extend(dns.servers.iter().map(|server| format!("nameserver {server}\n")));
    if !dns.options.is_empty() {
        lines.push(format!("options {}\n", dns.options.join(" ")));
    }
    Ok(lines.concat())
}

/// Where a pause container would be: below the pod's cgroup, in a form that says who makes it.
fn own_cgroup(parent: &str, namespace: &str, id: &ContainerId) -> Result<CgroupPath, Refusal> {
    let path = match slice(parent) {
        Some(slice) => PathBuf::from(format!("{slice}:{UNIT_PREFIX}:{id}")),
        None if parent.is_empty() => Path::new("/").join(namespace).join(id.as_str()),
        None => Path::new("/").join(parent).join(id.as_str()),
    };
    cgroup::resolve(Some(&path), id)
}

fn pod_cgroup(parent: &str, id: &ContainerId) -> Result<Option<CgroupPath>, Refusal> {
    if parent.is_empty() {
        return Ok(None);
    }
    let path = match slice(parent) {
        // A slice lies in the one that is named before its last dash: systemd.slice(5).
        Some(slice) => {
            let above = slice.rsplit_once('-').map_or("-.slice".to_owned(), |(above, _)| format!("{above}.slice"));
            PathBuf::from(format!("{above}::{slice}"))
        }
        None => Path::new("/").join(parent),
    };
    cgroup::resolve(Some(&path), id).map(Some)
}

/// The slice that a cgroup parent is, by its last part: `a.slice/a-b.slice` is `a-b.slice`.
fn slice(parent: &str) -> Option<&str> {
    let last = parent.trim_end_matches('/').rsplit('/').next()?;
    last.strip_suffix(".slice").map(|_| last)
}

#[cfg(test)]
mod tests;
