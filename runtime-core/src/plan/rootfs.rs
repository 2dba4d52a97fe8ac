//! The container's root: config.md "Root" and "Mounts", config-linux.md "Devices", "Masked Paths", "Readonly Paths",
//! "Sysctl" and "Rootfs Mount Propagation".

use std::path::Path;

use config::container::{Hooks, Mount, MountKind, NamespaceKind, Propagation, PropagationKind};
use init::Step;
use init::step::{Attributes, Procfs, Root, Way};
use init::sync::Point;

use crate::error::{Error, Kind, Result};
use crate::plan::{Facts, Plan, Source, devices, handed, mounts};

/// `MOUNT_ATTR_RDONLY`
const READONLY: Attributes = Attributes { set: 1, clear: 0 };

/// From the host's tree to the container's: mounts, devices, pivot.
///
/// Where a pid namespace is joined, whoever is there could look through this process at the host: at its mounts, by
/// /proc/PID/mountinfo, and with CAP_SYS_PTRACE at its files, by /proc/PID/root. So stage one does it all, for it is not in there.
/// Before Linux 6.18 a proc shows the pid namespace of its maker alone: there the proc, and what lies on it, is mounted by stage
/// two, which is forked after the pivot. Not in a user namespace, where a proc can be mounted only while another one is in sight:
/// there stage two does it all. Its memory belongs to the runtime's user namespace, so that nobody there may look through it; they
/// can still read the host's mount points in its mountinfo.
pub(super) fn build(plan: &mut Plan, container: &config::Container, facts: &Facts<'_>) -> Result<()> {
    let late = procs_last(plan, container, facts);
    let mounts = container.mounts.iter().enumerate();
    let (late, early): (Vec<_>, Vec<_>) = mounts.partition(|(number, _)| late.contains(number));
    let way = if container.has(NamespaceKind::Mount) {
        mount(plan, container, &early, facts)?
    } else {
        open_directory(plan, &container.root.path, facts)?
    };
    if !brings_its_own_dev(container) {
        devices::populate(plan, container, facts);
    }
    if waits_at_root(container) {
        plan.push(Step::Sync { point: Point::Root });
    }
    let procfs = procfs(container, facts);
    if procfs == Procfs::Host {
        sysctls(plan, container, procfs);
    }
    plan.push(Step::EnterRoot { way });
    if !late.is_empty() {
        plan.fork();
    }
    for mount in late {
        mounts::mount(plan, mount, container, facts);
    }
    if let Some(name) = &container.hostname {
        let name = plan.text(name);
        plan.push(Step::Hostname { name });
    }
    if let Some(name) = &container.domainname {
        let name = plan.text(name);
        plan.push(Step::Domainname { name });
    }
    if procfs == Procfs::Own {
        sysctls(plan, container, procfs);
    }
    Ok(())
}

/// Without a pivot the host's mounts stay in the namespace and are detached one by one, so then they are slaves always, or
/// they would go on the host too.
fn mount(plan: &mut Plan, container: &config::Container, mounts: &[(usize, &Mount)], facts: &Facts<'_>) -> Result<Way> {
    let mut propagation = handed::propagation(container);
    if facts.no_pivot_root {
        if propagation.kind == PropagationKind::Shared {
            let reason = "/linux/rootfsPropagation: shared with the host, which no_pivot_root would unmount";
            return Err(Error::new(Kind::Invalid, reason));
        }
        propagation = Propagation { kind: PropagationKind::Slave, recursive: true };
    }
    let Propagation { kind, recursive } = propagation;
    let slash = plan.text("/");
    plan.push(Step::HostPropagation { path: slash, kind: mounts::flag(kind), recursive });
    let path = plan.path(&container.root.path);
    let tree = handed::tree(plan, container, &container.root.path, (true, false), None, Vec::new());
    plan.push(Step::OpenRoot { path, root: tree.map_or(Root::Mounted, Root::Tree) });
    for mount in mounts {
        mounts::mount(plan, *mount, container, facts);
    }
    Ok(if facts.no_pivot_root { Way::Move } else { Way::Pivot })
}

/// Without a mount namespace nothing is mounted; `config` has refused what would be.
fn open_directory(plan: &mut Plan, root: &Path, facts: &Facts<'_>) -> Result<Way> {
    if !facts.makes_devices {
        let reason = "/linux/namespaces: no mount namespace: the runtime is in a user namespace and can make no devices, \
            and those of the host would be mounted on the host";
        return Err(Error::new(Kind::Invalid, reason));
    }
    let step = open_as_directory(plan, root);
    plan.push(step);
    Ok(Way::Change)
}

fn open_as_directory(plan: &mut Plan, root: &Path) -> Step {
    let (path, directory) = (plan.path(root), plan.source(Source::Directory(root.to_owned())));
    Step::OpenRoot { path, root: Root::Directory(directory) }
}

/// The way into a running container's root where there is no mount namespace to join.
pub(super) fn enter_running(plan: &mut Plan, facts: &Facts<'_>) {
    if let Some(root) = facts.root {
        let step = open_as_directory(plan, root);
        plan.push(step);
        plan.push(Step::EnterRoot { way: Way::Change });
    }
}

/// The mounts that stage two makes in a pid namespace that it joins: by their place, each proc and what lies on it. None where
/// stage one can make them all, or stage two makes everything.
fn procs_last(plan: &mut Plan, container: &config::Container, facts: &Facts<'_>) -> Vec<usize> {
    if plan.forked || facts.proc_for_others {
        return Vec::new();
    }
    let is_proc = |mount: &Mount| matches!(&mount.kind, MountKind::Filesystem { fs_type, .. } if fs_type == "proc");
    if !container.mounts.iter().any(is_proc) {
        return Vec::new();
    }
    if handed::has_user_namespace(container) {
        plan.fork();
        return Vec::new();
    }
    let procs: Vec<_> =
        container.mounts.iter().filter(|mount| is_proc(mount)).map(|mount| &mount.destination).collect();
    let lies_on_one = |mount: &Mount| procs.iter().any(|proc| mount.destination.starts_with(proc));
    let inner = container.mounts.iter().enumerate().filter(|(_, mount)| lies_on_one(mount));
    inner.map(|(number, _)| number).collect()
}

/// The procfs that sysctls are written through: which namespaces are meant is seen by the writer's own. In a user namespace the
/// kernel allows a new procfs only of a pid namespace that belongs to it, and where another one is in full sight. So there it is
/// the host's, before the pivot: until then nothing of the image's lies on the way to it. But it is in sight only where the mount
/// namespace is new.
fn procfs(container: &config::Container, facts: &Facts<'_>) -> Procfs {
    let is_user = handed::has_user_namespace(container) || !facts.makes_devices;
    let is =
        |kind, joined| container.namespaces.iter().any(|there| there.kind == kind && there.path.is_some() == joined);
    if is_user && !(is(NamespaceKind::Mount, true) && is(NamespaceKind::Pid, false)) {
        Procfs::Host
    } else {
        Procfs::Own
    }
}

fn sysctls(plan: &mut Plan, container: &config::Container, procfs: Procfs) {
    for (path, value) in &container.sysctl {
        let path = plan.text(format!("sys/{path}"));
        let value = plan.text(value);
        plan.push(Step::WriteProc { procfs, path, value });
    }
}

/// Whether the parent has something to do while the root is mounted and the host's tree is still there.
fn waits_at_root(container: &config::Container) -> bool {
    let Hooks { prestart, create_runtime, create_container, .. } = &container.hooks;
    let hooks = [prestart, create_runtime, create_container].iter().any(|hooks| !hooks.is_empty());
    hooks || !container.net_devices.is_empty()
}

/// What a process must not see or change.
pub(super) fn protect(plan: &mut Plan, container: &config::Container) {
    for path in &container.masked_paths {
        let path = plan.path(path);
        plan.push(Step::MaskPath { path });
    }
    for path in &container.readonly_paths {
        let path = plan.path(path);
        plan.push(Step::ReadonlyPath { path });
    }
}

/// What had to wait until nothing is made in the root any more.
pub(super) fn finish(plan: &mut Plan, container: &config::Container) {
    for mount in container.mounts.iter().filter(|mount| mounts::becomes_readonly_late(mount)) {
        let path = plan.path(&mount.destination);
        plan.push(Step::SetAttributes { path, attributes: READONLY, recursive: false });
    }
    let slash = plan.text("/");
    if container.root.readonly {
        plan.push(Step::SetAttributes { path: slash, attributes: READONLY, recursive: false });
    }
    if let Some(Propagation { kind: kind @ (PropagationKind::Shared | PropagationKind::Unbindable), recursive }) =
        container.rootfs_propagation
    {
        plan.push(Step::SetPropagation { path: slash, kind: mounts::flag(kind), recursive });
    }
}

/// A bind over /dev brings devices of its own, in which nothing of ours belongs.
fn brings_its_own_dev(container: &config::Container) -> bool {
    let dev = |mount: &&config::container::Mount| mount.destination == std::path::Path::new("/dev");
    container.mounts.iter().rfind(dev).is_some_and(|mount| matches!(mount.kind, MountKind::Bind { .. }))
}
