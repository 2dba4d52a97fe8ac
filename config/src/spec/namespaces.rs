//! `linux.namespaces`, config-linux.md "Namespaces".
//!
//! A path is looked at here, so that a wrong one is refused by its pointer and not by an EINVAL of setns(2) halfway through
//! a start. A kind that is not listed is the runtime's own (what that means for mounts says `without_mounts`). The host's mount
//! namespace by its path is refused: `pivot_root(2)` would give every process there the container's root. So is one in which
//! the root of the container's user namespace may mount nothing: `user_namespaces(7)`, "Interaction of user namespaces and
//! other types of namespaces".

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;

use crate::container::{Ids, Namespace, NamespaceKind};
use crate::ids::IdMaps;
use crate::pod::{Pod, Shared};
use crate::refuse::{At, Refusal};
use crate::spec::{nsfs, paths};

pub(super) fn resolve(namespaces: &[oci::LinuxNamespace], pod: Option<&Pod>) -> Result<Vec<Namespace>, Refusal> {
    let mut list: Vec<Namespace> = Vec::with_capacity(namespaces.len());
    for (index, namespace) in namespaces.iter().enumerate() {
        let kind = kind(namespace.typ());
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
                let reason = format!("the pod has no {} namespace to share: its own mode is CONTAINER", name(kind));
                return Err(Refusal::new(format!("/{index}/path"), reason));
            }
        }
    }
    let mount = namespaces.iter().position(|namespace| namespace.typ() == oci::LinuxNamespaceType::Mount);
    refuse_foreign_mounts(&list).at("/path").at_index(mount.unwrap_or_default())?;
    list.retain(|namespace| namespace.kind != NamespaceKind::User || !is_the_runtimes(namespace));
    list.sort_unstable_by_key(|namespace| namespace.kind);
    Ok(list)
}

/// Whether the container's namespace of this kind is another one than the runtime's: new, or joined and not the same.
pub(super) fn has_own(namespaces: &[Namespace], kind: NamespaceKind) -> bool {
    let Some(namespace) = namespaces.iter().find(|namespace| namespace.kind == kind) else { return false };
    // One that has gone meanwhile is nobody's.
    namespace.path.as_ref().is_none_or(|path| identity(path).is_some()) && !is_the_runtimes(namespace)
}

/// The ids of the container's user namespace; none where that is the runtime's own.
pub(super) fn ids(namespaces: &[Namespace], mappings: &IdMaps) -> Option<Ids> {
    let user = namespaces.iter().find(|namespace| namespace.kind == NamespaceKind::User)?;
    Some(user.path.clone().map_or_else(|| Ids::Maps(mappings.clone()), Ids::Namespace))
}

/// Whether a namespace is joined that the runtime is in anyway. Of a user namespace the kernel refuses that (setns(2), EINVAL),
/// for it would give rights anew.
pub(crate) fn is_the_runtimes(namespace: &Namespace) -> bool {
    let Some(path) = &namespace.path else { return false };
    let ours = identity(&Path::new("/proc/self/ns").join(namespace.kind.file_name()));
    ours.is_some() && identity(path) == ours
}

/// Refuses a joined mount namespace beside a user namespace that it does not belong to. `list` is as given.
fn refuse_foreign_mounts(list: &[Namespace]) -> Result<(), Refusal> {
    let of = |kind| list.iter().find(|namespace| namespace.kind == kind);
    let (Some(user), Some(mount)) = (of(NamespaceKind::User), of(NamespaceKind::Mount)) else { return Ok(()) };
    let Some(mount) = &mount.path else { return Ok(()) };
    let belongs = match &user.path {
        None => false,
        Some(user) => nsfs::belongs(mount, user)
            .map_err(|errno| Refusal::new("", format!("look for the owner of {}: {errno}", mount.display())))?,
    };
    if belongs {
        return Ok(());
    }
    let reason =
        format!("not of the container's user namespace, whose root may mount nothing in it: {}", mount.display());
    Err(Refusal::new("", reason))
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

fn kind(kind: oci::LinuxNamespaceType) -> NamespaceKind {
    match kind {
        oci::LinuxNamespaceType::User => NamespaceKind::User,
        oci::LinuxNamespaceType::Time => NamespaceKind::Time,
        oci::LinuxNamespaceType::Ipc => NamespaceKind::Ipc,
        oci::LinuxNamespaceType::Uts => NamespaceKind::Uts,
        oci::LinuxNamespaceType::Network => NamespaceKind::Network,
        oci::LinuxNamespaceType::Pid => NamespaceKind::Pid,
        oci::LinuxNamespaceType::Cgroup => NamespaceKind::Cgroup,
        oci::LinuxNamespaceType::Mount => NamespaceKind::Mount,
    }
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
