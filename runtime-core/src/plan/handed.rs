//! What the parent opens for a container that may not open it itself.
//!
//! In a user namespace of its own the container's root is nobody on the host: a rootfs or a bind's source may lie where it
//! may not walk, devices cannot be made (mknod(2)), and of a mount with others below it that it did not make there is no copy
//! without them. So all that comes from the host is opened by the parent, as detached mounts that are only attached
//! in the container. And whoever id-maps a mount must own the file system: that is the parent, too.

use std::path::Path;

use config::container::{Device, DeviceKind, Idmap, NamespaceKind, Propagation, PropagationKind};
use init::Descriptor;

use crate::plan::{Facts, Plan, Source, mounts};
use crate::rootfs::RootfsMount;

/// Whether the container has another user namespace than the runtime, new or joined.
pub(super) fn has_user_namespace(container: &config::Container) -> bool {
    has(container, NamespaceKind::User)
}

fn has(container: &config::Container, kind: NamespaceKind) -> bool {
    container.namespaces.iter().any(|namespace| namespace.kind == kind)
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
/// itself.
pub(super) fn tree(
    plan: &mut Plan,
    container: &config::Container,
    path: &Path,
    (recursive, nofollow): (bool, bool),
    idmap: Option<&Idmap>,
) -> Option<Descriptor> {
    if idmap.is_none() && !has_user_namespace(container) {
        return None;
    }
    let propagation = mounts::flag(propagation(container).kind);
    let (path, idmap) = (path.to_owned(), idmap.cloned());
    Some(plan.source(Source::Tree { path, recursive, nofollow, propagation, idmap }))
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
        "proc" if !has(container, NamespaceKind::Pid) => "/proc",
        "mqueue" if !has(container, NamespaceKind::Ipc) => "/dev/mqueue",
        _ => return None,
    };
    tree(plan, container, Path::new(path), (true, false), None)
}

/// The host's node in place of one that cannot be made: config-linux.md "Devices" leaves that to the runtime. It keeps the owner
/// and mode that it has on the host.
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
    Some(plan.source(Source::Device { device: device.clone(), propagation }))
}
