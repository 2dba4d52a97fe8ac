//! `linux.namespaces`, config-linux.md "Namespaces".
//!
//! A path is looked at here, so that a wrong one is refused by its pointer and not by an EINVAL of setns(2) halfway through
//! a start. A container without a mount namespace is refused: everything that a root file system needs would be mounted
//! on the host. The host's by its path is refused too: `pivot_root(2)` would give every process there the container's root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;

use crate::container::{Namespace, NamespaceKind};
use crate::pod::{Pod, Shared};
use crate::refuse::{At, Refusal};
use crate::spec::{nsfs, paths};

pub(super) fn resolve(namespaces: &[oci::LinuxNamespace], pod: Option<&Pod>) -> Result<Vec<Namespace>, Refusal> {
    let mut list: Vec<Namespace> = Vec::with_capacity(namespaces.len());
    for (index, namespace) in namespaces.iter().enumerate() {
        let kind = kind(namespace.typ()).at("/type").at_index(index)?;
        if list.iter().any(|other| other.kind == kind) {
            return Err(Refusal::new(format!("/{index}"), format!("a second {} namespace", name(kind))));
        }
        let place = namespace.path().as_deref();
        match pod.and_then(|pod| pod.meant_by(place?, kind)) {
            None => {
                let path = path(place, kind).at("/path").at_index(index)?;
                list.push(Namespace { kind, path });
            }
            Some(Shared::Own(path)) => list.push(Namespace { kind, path: Some(path.to_owned()) }),
            // Where the runtime is: there is nothing to enter.
            Some(Shared::Hosts) => {}
            Some(Shared::Nothing) => {
                let reason = format!("the pod has no {} namespace that its containers share", name(kind));
                return Err(Refusal::new(format!("/{index}/path"), reason));
            }
        }
    }
    if !list.iter().any(|namespace| namespace.kind == NamespaceKind::Mount) {
        return Err(Refusal::new("", "no mount namespace: a container needs one, new or joined"));
    }
    list.sort_unstable_by_key(|namespace| namespace.kind);
    Ok(list)
}

/// Whether the container's namespace of this kind is another one than the runtime's: new, or joined and not the same.
pub(super) fn has_own(namespaces: &[Namespace], kind: NamespaceKind) -> bool {
    let Some(namespace) = namespaces.iter().find(|namespace| namespace.kind == kind) else { return false };
    let Some(path) = &namespace.path else { return true };
    match (identity(path), identity(&Path::new("/proc/self/ns").join(kind.file_name()))) {
        (Some(theirs), Some(ours)) => theirs != ours,
        _ => false,
    }
}

/// Whether `path` is the mount namespace of the runtime or of the machine's first process; a service manager may have given
/// the runtime one of its own.
fn is_the_hosts(path: &Path) -> bool {
    let hosts = ["/proc/self/ns/mnt", "/proc/1/ns/mnt"];
    let found = identity(path);
    found.is_some() && hosts.iter().any(|host| identity(Path::new(host)) == found)
}

/// Two paths lead to the same namespace if these are equal.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn kind(kind: oci::LinuxNamespaceType) -> Result<NamespaceKind, Refusal> {
    Ok(match kind {
        oci::LinuxNamespaceType::User => return Err(Refusal::unsupported("", "user namespaces are")),
        oci::LinuxNamespaceType::Time => return Err(Refusal::unsupported("", "time namespaces are")),
        oci::LinuxNamespaceType::Ipc => NamespaceKind::Ipc,
        oci::LinuxNamespaceType::Uts => NamespaceKind::Uts,
        oci::LinuxNamespaceType::Network => NamespaceKind::Network,
        oci::LinuxNamespaceType::Pid => NamespaceKind::Pid,
        oci::LinuxNamespaceType::Cgroup => NamespaceKind::Cgroup,
        oci::LinuxNamespaceType::Mount => NamespaceKind::Mount,
    })
}

/// Checks that `path` is a file to join a namespace of `kind` by; none where a new one is meant.
pub(crate) fn path(path: Option<&Path>, kind: NamespaceKind) -> Result<Option<PathBuf>, Refusal> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    let path = paths::absolute(path)?;
    let refuse = |reason: String| Err(Refusal::new("", reason));
    match nsfs::kind(&path) {
        Ok(Some(NamespaceKind::Mount)) if kind == NamespaceKind::Mount && is_the_hosts(&path) => {
            refuse(format!("the host's own mount namespace: {}", path.display()))
        }
        Ok(Some(found)) if found == kind => Ok(Some(path)),
        Ok(Some(found)) => {
            refuse(format!("a namespace of kind {}, not {}: {}", name(found), name(kind), path.display()))
        }
        Ok(None) => refuse(format!("not a namespace file: {}", path.display())),
        Err(errno) => refuse(format!("open {}: {errno}", path.display())),
    }
}

/// The spec's name.
fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::User => "user",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Network => "network",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
        NamespaceKind::Mount => "mount",
    }
}

#[cfg(test)]
mod tests {
    use super::{NamespaceKind, name, nsfs};

    const ALL: [NamespaceKind; 8] = [
        NamespaceKind::User,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Network,
        NamespaceKind::Pid,
        NamespaceKind::Cgroup,
        NamespaceKind::Time,
        NamespaceKind::Mount,
    ];

    #[test]
    fn the_kernel_agrees_on_every_kind() {
        for kind in ALL {
            let path = format!("/proc/self/ns/{}", kind.file_name());
            assert_eq!(nsfs::kind(path.as_ref()), Ok(Some(kind)), "{}", name(kind));
        }
        assert_eq!(nsfs::kind("/proc/self/status".as_ref()), Ok(None));
    }
}
