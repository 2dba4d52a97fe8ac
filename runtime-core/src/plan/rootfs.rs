//! The container's root: config.md "Root" and "Mounts", config-linux.md "Devices", "Masked Paths", "Readonly Paths",
//! "Sysctl" and "Rootfs Mount Propagation".

use config::container::{MountKind, Propagation, PropagationKind};
use init::Step;
use init::step::{Attributes, Procfs};

use crate::plan::{Facts, Plan, devices, handed, mounts};

/// `MOUNT_ATTR_RDONLY`
const READONLY: Attributes = Attributes { set: 1, clear: 0 };

/// From the host's tree to the container's: mounts, devices, pivot.
pub(super) fn build(plan: &mut Plan, container: &config::Container, facts: &Facts<'_>) {
    let Propagation { kind, recursive } = handed::propagation(container);
    let slash = plan.text("/");
    plan.second(Step::HostPropagation { path: slash, kind: mounts::flag(kind), recursive });
    let path = plan.path(&container.root.path);
    let tree = handed::tree(plan, container, &container.root.path, true, None);
    plan.second(Step::OpenRoot { path, tree });
    for mount in &container.mounts {
        mounts::mount(plan, mount, container, facts);
    }
    if !brings_its_own_dev(container) {
        devices::populate(plan, container, facts);
    }
    plan.second(Step::PivotRoot);
    if let Some(name) = &container.hostname {
        let name = plan.text(name);
        plan.second(Step::Hostname { name });
    }
    if let Some(name) = &container.domainname {
        let name = plan.text(name);
        plan.second(Step::Domainname { name });
    }
    for (path, value) in &container.sysctl {
        let path = plan.text(format!("sys/{path}"));
        let value = plan.text(value);
        plan.second(Step::WriteProc { procfs: Procfs::Own, path, value });
    }
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
