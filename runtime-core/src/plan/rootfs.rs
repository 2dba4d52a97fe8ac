//! The container's root: config.md "Root" and "Mounts", config-linux.md "Devices", "Masked Paths", "Readonly Paths",
//! "Sysctl" and "Rootfs Mount Propagation".

use config::container::{Hooks, MountKind, NamespaceKind, Propagation, PropagationKind};
use init::Step;
use init::step::{Attributes, Procfs};
use init::sync::Point;

use crate::error::{Error, Kind, Result};
use crate::plan::{Facts, Plan, devices, handed, mounts};

/// `MOUNT_ATTR_RDONLY`
const READONLY: Attributes = Attributes { set: 1, clear: 0 };

/// From the host's tree to the container's: mounts, devices, pivot.
///
/// Without a pivot the host's mounts stay in the namespace and are detached one by one, so then they are slaves always, or
/// they would go on the host too.
pub(super) fn build(plan: &mut Plan, container: &config::Container, facts: &Facts<'_>) -> Result<()> {
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
    plan.second(Step::HostPropagation { path: slash, kind: mounts::flag(kind), recursive });
    let path = plan.path(&container.root.path);
    let tree = handed::tree(plan, container, &container.root.path, (true, false), None, Vec::new());
    plan.second(Step::OpenRoot { path, tree });
    for mount in container.mounts.iter().enumerate() {
        mounts::mount(plan, mount, container, facts);
    }
    if !brings_its_own_dev(container) {
        devices::populate(plan, container, facts);
    }
    if waits_at_root(container) {
        plan.second(Step::Sync { point: Point::Root });
    }
    let procfs = procfs(container, facts);
    if procfs == Procfs::Host {
        sysctls(plan, container, procfs);
    }
    plan.second(if facts.no_pivot_root { Step::MoveRoot } else { Step::PivotRoot });
    if let Some(name) = &container.hostname {
        let name = plan.text(name);
        plan.second(Step::Hostname { name });
    }
    if let Some(name) = &container.domainname {
        let name = plan.text(name);
        plan.second(Step::Domainname { name });
    }
    if procfs == Procfs::Own {
        sysctls(plan, container, procfs);
    }
    Ok(())
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
        plan.second(Step::WriteProc { procfs, path, value });
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
        plan.second(Step::MaskPath { path });
    }
    for path in &container.readonly_paths {
        let path = plan.path(path);
        plan.second(Step::ReadonlyPath { path });
    }
}

/// What had to wait until nothing is made in the root any more.
pub(super) fn finish(plan: &mut Plan, container: &config::Container) {
    for mount in container.mounts.iter().filter(|mount| mounts::becomes_readonly_late(mount)) {
        let path = plan.path(&mount.destination);
        plan.second(Step::SetAttributes { path, attributes: READONLY, recursive: false });
    }
    let slash = plan.text("/");
    if container.root.readonly {
        plan.second(Step::SetAttributes { path: slash, attributes: READONLY, recursive: false });
    }
    if let Some(Propagation { kind: kind @ (PropagationKind::Shared | PropagationKind::Unbindable), recursive }) =
        container.rootfs_propagation
    {
        plan.second(Step::SetPropagation { path: slash, kind: mounts::flag(kind), recursive });
    }
}

/// A bind over /dev brings devices of its own, in which nothing of ours belongs.
fn brings_its_own_dev(container: &config::Container) -> bool {
    let dev = |mount: &&config::container::Mount| mount.destination == std::path::Path::new("/dev");
    container.mounts.iter().rfind(dev).is_some_and(|mount| matches!(mount.kind, MountKind::Bind { .. }))
}
