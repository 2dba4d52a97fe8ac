//! `mounts[]`: config.md "Mounts", and the cgroup mount of config-linux.md.

use std::path::Path;

use config::container::{Mount, MountAttributes, MountKind, NamespaceKind, PropagationKind};
use init::step::{Attributes, Links, TakeOver};
use init::{Pair, Span, Step, Text};

use crate::plan::{Facts, Plan, lsm};

/// `MOUNT_ATTR_RDONLY`, `_NOSUID`, `_NODEV`, `_NOEXEC`: linux/mount.h.
const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;

/// `MS_UNBINDABLE`, `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`: linux/mount.h.
pub(super) fn flag(kind: PropagationKind) -> u64 {
    match kind {
        PropagationKind::Unbindable => 1 << 17,
        PropagationKind::Private => 1 << 18,
        PropagationKind::Slave => 1 << 19,
        PropagationKind::Shared => 1 << 20,
    }
}

/// A read-only tmpfs still has mount points and devices made in it; like runc's, it becomes read-only at the end.
pub(super) fn becomes_readonly_late(mount: &Mount) -> bool {
    let readonly = mount.attributes.set & RDONLY != 0;
    match &mount.kind {
        MountKind::Filesystem { fs_type, .. } => readonly && fs_type == "tmpfs",
        MountKind::Cgroup => readonly,
        MountKind::Bind { .. } | MountKind::Remount => false,
    }
}

/// The steps of one mount.
pub(super) fn mount(plan: &mut Plan, mount: &Mount, container: &config::Container, facts: &Facts<'_>) {
    let destination = plan.path(&mount.destination);
    let attributes = attributes(mount.attributes);
    let recursive_attributes = self::attributes(mount.recursive_attributes);
    match &mount.kind {
        MountKind::Bind { source, recursive, links } => {
            let source = plan.path(source);
            let recursive = *recursive;
            let config::container::Links { source_nofollow, destination_nofollow, copy } = *links;
            let links = Links { source_nofollow, destination_nofollow, copy };
            plan.second(Step::MountBind { source, recursive, links, attributes, recursive_attributes, destination });
        }
        MountKind::Filesystem { fs_type, .. } if fs_type == "sysfs" && lacks_the_network(container) => {
            let source = plan.text("/sys");
            let (recursive, links) = (true, Links::default());
            plan.second(Step::MountBind { source, recursive, links, attributes, recursive_attributes, destination });
        }
        MountKind::Filesystem { fs_type, source, options, copy_up } => {
            let late = if becomes_readonly_late(mount) { RDONLY } else { 0 };
            // A tmpfs looks like the directory that it covers, where there is one and nothing else is said.
            let mode = fs_type == "tmpfs" && !options.iter().any(|(key, _)| key == "mode");
            let take_over = TakeOver { mode, content: *copy_up };
            let label = lsm::mount_option(container, fs_type, options);
            let options: Vec<_> = options.iter().cloned().chain(label).collect();
            filesystem(plan, (fs_type, source), &options, attributes.set & !late, take_over, destination);
            all_below(plan, recursive_attributes, destination);
        }
        MountKind::Cgroup => {
            cgroup(plan, mount, container, facts, destination);
            all_below(plan, recursive_attributes, destination);
        }
        MountKind::Remount => {
            plan.second(Step::SetAttributes { path: destination, attributes, recursive: false });
            all_below(plan, recursive_attributes, destination);
        }
    }
    for propagation in &mount.propagation {
        let (kind, recursive) = (flag(propagation.kind), propagation.recursive);
        plan.second(Step::SetPropagation { path: destination, kind, recursive });
    }
}

/// A new sysfs shows a network namespace, and belongs to who owns that: in a user namespace that has none of its own the
/// host's is bound, with what is mounted in it, for nothing of that may be uncovered there.
fn lacks_the_network(container: &config::Container) -> bool {
    let has = |kind| container.namespaces.iter().any(|namespace| namespace.kind == kind);
    has(NamespaceKind::User) && !has(NamespaceKind::Network)
}

/// Where v2's hierarchy is mounted on the host.
const UNIFIED: &str = "/sys/fs/cgroup";

/// The container's own cgroup, and no more of the tree. On v1 a tmpfs with one bind per hierarchy; on v2 one bind, or the
/// whole hierarchy where the container shares the host's cgroup namespace, for there /proc/self/cgroup tells whole paths.
/// Always a bind of the host's mount: a new one, made in the host's cgroup namespace, would take away from the host's what
/// options (`nsdelegate`, `memory_recursiveprot`) it does not name itself.
fn cgroup(plan: &mut Plan, mount: &Mount, container: &config::Container, facts: &Facts<'_>, destination: Text) {
    let bind = |plan: &mut Plan, host: &Path, destination: Text| {
        let source = plan.path(host);
        let (attributes, recursive_attributes) = (attributes(mount.attributes), Attributes::default());
        let links = Links::default();
        plan.second(Step::MountBind { source, recursive: false, links, attributes, recursive_attributes, destination });
    };
    if let [only] = facts.hierarchies
        && only.name.is_empty()
    {
        let has_its_own = container.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Cgroup);
        bind(plan, if has_its_own { &only.host } else { Path::new(UNIFIED) }, destination);
        return;
    }
    let options = [("mode".to_owned(), Some("755".to_owned()))];
    let attributes = NOSUID | NODEV | NOEXEC;
    filesystem(plan, ("tmpfs", "tmpfs"), &options, attributes, TakeOver::default(), destination);
    for hierarchy in facts.hierarchies {
        let place = plan.path(&mount.destination.join(&hierarchy.name));
        bind(plan, &hierarchy.host, place);
        for link in &hierarchy.links {
            let target = plan.text(&hierarchy.name);
            let path = plan.path(&mount.destination.join(link));
            plan.second(Step::MakeLink { target, path });
        }
    }
}

fn filesystem(
    plan: &mut Plan,
    (fs_type, source): (&str, &str),
    options: &[(String, Option<String>)],
    attributes: u64,
    take_over: TakeOver,
    destination: Text,
) {
    let start = plan.pairs.len();
    for (key, value) in options {
        let pair = Pair { key: plan.text(key), value: value.as_ref().map(|value| plan.text(value)) };
        plan.pairs.push(pair);
    }
    let options: Span = Plan::span(start, plan.pairs.len());
    let (fs_type, source) = (plan.text(fs_type), plan.text(source));
    plan.second(Step::MountFilesystem { fs_type, source, options, attributes, take_over, destination });
}

fn all_below(plan: &mut Plan, attributes: Attributes, path: Text) {
    if !attributes.is_empty() {
        plan.second(Step::SetAttributes { path, attributes, recursive: true });
    }
}

fn attributes(attributes: MountAttributes) -> Attributes {
    Attributes { set: attributes.set, clear: attributes.clear }
}
