//! `mounts[]`: config.md "Mounts", and the cgroup mount of config-linux.md.

use std::path::Path;

use config::container::{Mount, MountAttributes, MountKind, NamespaceKind, PropagationKind};
use init::step::{Attributes, Links, Origin, TakeOver};
use init::{Descriptor, Pair, Span, Step, Text};

use crate::plan::{Facts, Plan, Source, handed, layers, lsm};

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

/// The steps of one mount, `number` of the container's.
pub(super) fn mount(
    plan: &mut Plan,
    (number, mount): (usize, &Mount),
    container: &config::Container,
    facts: &Facts<'_>,
) {
    let destination = plan.path(&mount.destination);
    let attributes = attributes(mount.attributes);
    let recursive_attributes = self::attributes(mount.recursive_attributes);
    match &mount.kind {
        MountKind::Bind { source, recursive, links } => {
            let recursive = *recursive;
            let config::container::Links { source_nofollow, destination_nofollow, copy } = *links;
            let (path, origin) = if let Some(path) = layers::source_in_container(container, number) {
                let idmap = mount.idmap.clone().map(|idmap| plan.source(Source::Idmap(idmap)));
                (path, Origin::Container { idmap })
            } else {
                let (how, changes) = ((recursive, source_nofollow), layers::changes(container, number));
                let tree = handed::tree(plan, container, source, how, mount.idmap.as_ref(), changes);
                (source.clone(), tree.map_or(Origin::Host, Origin::Parent))
            };
            let source = plan.path(&path);
            let links = Links { source_nofollow, destination_nofollow, copy };
            bind(plan, (source, origin, recursive), links, [attributes, recursive_attributes], destination);
        }
        MountKind::Filesystem { fs_type, source, options, copy_up } => {
            let late = if becomes_readonly_late(mount) { RDONLY } else { 0 };
            let set = attributes.set & !late;
            let label = lsm::mount_option(container, fs_type, options);
            let options: Vec<_> = options.iter().cloned().chain(label).collect();
            if let Some(idmap) = &mount.idmap {
                let origin = Origin::Parent(handed::filesystem(plan, fs_type, source, &options, idmap));
                let source = plan.text(fs_type);
                let attributes = [Attributes { set, clear: 0 }, recursive_attributes];
                bind(plan, (source, origin, false), Links::default(), attributes, destination);
            } else {
                // A tmpfs looks like the directory that it covers, where there is one and nothing else is said.
                let mode = fs_type == "tmpfs" && !options.iter().any(|(key, _)| key == "mode");
                let take_over = TakeOver { mode, content: *copy_up };
                let instead = handed::instead(plan, container, fs_type);
                filesystem(plan, (fs_type, source), &options, set, take_over, (destination, instead));
                all_below(plan, recursive_attributes, destination);
            }
        }
        MountKind::Cgroup => {
            cgroup(plan, (number, mount), container, facts, destination);
            all_below(plan, recursive_attributes, destination);
        }
        MountKind::Remount => {
            plan.push(Step::SetAttributes { path: destination, attributes, recursive: false });
            all_below(plan, recursive_attributes, destination);
        }
    }
    for propagation in &mount.propagation {
        let (kind, recursive) = (flag(propagation.kind), propagation.recursive);
        plan.push(Step::SetPropagation { path: destination, kind, recursive });
    }
}

/// Where v2's hierarchy is mounted on the host.
const UNIFIED: &str = "/sys/fs/cgroup";

/// The container's own cgroup, and no more of the tree. On v1 a tmpfs with one bind per hierarchy; on v2 one bind, or the
/// whole hierarchy where the container shares the host's cgroup namespace, for there /proc/self/cgroup tells whole paths.
/// Always a bind of the host's mount: a new one, made in the host's cgroup namespace, would take away from the host's what
/// options (`nsdelegate`, `memory_recursiveprot`) it does not name itself.
fn cgroup(
    plan: &mut Plan,
    (number, mount): (usize, &Mount),
    container: &config::Container,
    facts: &Facts<'_>,
    destination: Text,
) {
    let bind_own = |plan: &mut Plan, host: &Path, destination: Text| {
        let changes = layers::changes(container, number);
        let tree = handed::tree(plan, container, host, (false, false), None, changes);
        let (source, origin) = (plan.path(host), tree.map_or(Origin::Host, Origin::Parent));
        let (attributes, recursive_attributes) = (attributes(mount.attributes), Attributes::default());
        bind(plan, (source, origin, false), Links::default(), [attributes, recursive_attributes], destination);
    };
    if let [only] = facts.hierarchies
        && only.name.is_empty()
    {
        let has_its_own = container.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Cgroup);
        bind_own(plan, if has_its_own { &only.host } else { Path::new(UNIFIED) }, destination);
        return;
    }
    let options = [("mode".to_owned(), Some("755".to_owned()))];
    let attributes = NOSUID | NODEV | NOEXEC;
    filesystem(plan, ("tmpfs", "tmpfs"), &options, attributes, TakeOver::default(), (destination, None));
    for hierarchy in facts.hierarchies {
        let place = plan.path(&mount.destination.join(&hierarchy.name));
        bind_own(plan, &hierarchy.host, place);
        for link in &hierarchy.links {
            let target = plan.text(&hierarchy.name);
            let path = plan.path(&mount.destination.join(link));
            plan.push(Step::MakeLink { target, path });
        }
    }
}

fn filesystem(
    plan: &mut Plan,
    (fs_type, source): (&str, &str),
    options: &[(String, Option<String>)],
    attributes: u64,
    take_over: TakeOver,
    (destination, instead): (Text, Option<Descriptor>),
) {
    let start = plan.pairs.len();
    for (key, value) in options {
        let pair = Pair { key: plan.text(key), value: value.as_ref().map(|value| plan.text(value)) };
        plan.pairs.push(pair);
    }
    let options: Span = Plan::span(start, plan.pairs.len());
    // Who is in the namespace needs not name it.
    let pid_namespace = plan.pid_namespace.filter(|_| fs_type == "proc" && !plan.forked);
    let (fs_type, source) = (plan.text(fs_type), plan.text(source));
    plan.push(Step::MountFilesystem {
        fs_type,
        source,
        options,
        attributes,
        take_over,
        destination,
        instead,
        pid_namespace,
    });
}

/// A bind of `source`, which comes from `origin`.
fn bind(
    plan: &mut Plan,
    (source, origin, recursive): (Text, Origin, bool),
    links: Links,
    [attributes, recursive_attributes]: [Attributes; 2],
    destination: Text,
) {
    plan.push(Step::MountBind { source, origin, recursive, links, attributes, recursive_attributes, destination });
}

fn all_below(plan: &mut Plan, attributes: Attributes, path: Text) {
    if !attributes.is_empty() {
        plan.push(Step::SetAttributes { path, attributes, recursive: true });
    }
}

fn attributes(attributes: MountAttributes) -> Attributes {
    Attributes { set: attributes.set, clear: attributes.clear }
}
