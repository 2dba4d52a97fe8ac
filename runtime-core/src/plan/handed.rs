//! What the parent opens for a container that may not open it itself.
//!
//! In a user namespace of its own the container's root is nobody on the host: a rootfs or a bind's source may lie where it
//! may not walk, devices cannot be made (mknod(2)), and of a mount with others below it that it did not make there is no copy
//! without them. So all that comes from the host is opened by the parent, as detached mounts that are only attached
//! in the container. And whoever id-maps a mount must own the file system: that is the parent, too.
//!
//! What the parent has copied has nothing locked (mount_namespaces(7), "Restrictions on mount namespaces"): the flags that the
//! host has set could be cleared in it. So options that would clear one are refused when it is opened.

use std::path::Path;

use config::container::{Device, DeviceKind, Idmap, NamespaceKind, Propagation, PropagationKind};
use config::ids::host_of;
use init::{Descriptor, Step};

use crate::plan::{Change, Facts, Plan, Source, mounts};
use crate::rootfs::RootfsMount;

/// Whether the container has another user namespace than the runtime, new or joined.
pub(super) fn has_user_namespace(container: &config::Container) -> bool {
    container.has(NamespaceKind::User)
}

/// How the host's mounts propagate into the container. What the host mounts later may show there (slave); nothing of the
/// container's shows on the host, and nothing ever may where another user namespace is between.
pub(super) fn propagation(container: &config::Container) -> Propagation {
    let default = Propagation { kind: PropagationKind::Slave, recursive: true };
    let Propagation { kind, recursive } = container.rootfs_propagation.unwrap_or(default);
    match kind {
        // Unbindable would forbid the bind that follows; it is set on the finished root.
        PropagationKind::Unbindable => Propagation { kind: PropagationKind::Private, recursive },
        PropagationKind::Shared if has_user_namespace(container) => {
            Propagation { kind: PropagationKind::Slave, recursive }
        }
        _ => Propagation { kind, recursive },
    }
}

/// The mounts at a host path (all below it; not following a link in its last place), where the container cannot copy them
/// itself. `changes` is what is said of their flags.
pub(super) fn tree(
    plan: &mut Plan,
    container: &config::Container,
    path: &Path,
    (recursive, nofollow): (bool, bool),
    idmap: Option<&Idmap>,
    changes: Vec<Change>,
) -> Option<Descriptor> {
    let locks = has_user_namespace(container);
    // After the pivot there is no path of the host's any more.
    let comes_late = plan.stage_one.iter().any(|step| matches!(step, Step::EnterRoot { .. }));
    if idmap.is_none() && !locks && !comes_late {
        return None;
    }
    let propagation = mounts::flag(propagation(container).kind);
    let (path, idmap, changes) = (path.to_owned(), idmap.cloned(), if locks { changes } else { Vec::new() });
    Some(plan.source(Source::Tree { path, recursive, nofollow, propagation, idmap, changes }))
}

/// A new file system that is id-mapped.
pub(super) fn filesystem(
    plan: &mut Plan,
    fs_type: &str,
    source: &str,
    options: &[(String, Option<String>)],
    idmap: &Idmap,
) -> Descriptor {
    let option = |(key, value): &(String, Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    };
    let mount = RootfsMount {
        fs_type: fs_type.to_owned(),
        source: source.to_owned(),
        target: String::new(),
        options: options.iter().map(option).collect(),
    };
    plan.source(Source::Filesystem { mount, idmap: idmap.clone() })
}

/// The host's own, where a user namespace may not make a new one: of a proc or mqueue only if the container shares the host's
/// namespace that it shows. A sysfs shows the host's devices either way.
pub(super) fn instead(plan: &mut Plan, container: &config::Container, fs_type: &str) -> Option<Descriptor> {
    let path = match fs_type {
        "sysfs" => "/sys",
        "proc" if !container.has(NamespaceKind::Pid) => "/proc",
        "mqueue" if !container.has(NamespaceKind::Ipc) => "/dev/mqueue",
        _ => return None,
    };
    tree(plan, container, Path::new(path), (true, false), None, Vec::new())
}

/// The host's node in place of one that cannot be made: config-linux.md "Devices" leaves that to the runtime. It keeps the owner
/// and mode that it has on the host, by which the host says who may open it. One that the host has not is made by the parent, and
/// is what config.json says.
pub(super) fn device(
    plan: &mut Plan,
    container: &config::Container,
    device: &Device,
    facts: &Facts<'_>,
) -> Option<Descriptor> {
    let makes_nodes = facts.makes_devices && !has_user_namespace(container);
    if makes_nodes || device.kind == DeviceKind::Fifo {
        return None;
    }
    let propagation = mounts::flag(propagation(container).kind);
    let (maps, unmapped) = (&container.mappings, "its owner is not mapped by /linux/uidMappings and gidMappings");
    let owner = match host_of(&maps.uids, device.uid).zip(host_of(&maps.gids, device.gid)) {
        _ if !facts.makes_devices => Err("the runtime is in a user namespace, which can make none"),
        owner => owner.ok_or(unmapped),
    };
    Some(plan.source(Source::Device { device: device.clone(), owner, propagation }))
}
