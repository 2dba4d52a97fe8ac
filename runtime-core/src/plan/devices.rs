//! /dev: config-linux.md "Default Devices", "Devices" and "/dev symbolic links".

use std::path::Path;

use config::container::{Device, DeviceKind};
use init::Step;
use init::step::{Attributes, Links, Origin};

use crate::plan::{Facts, Plan, handed};

/// What every container has: name and device number of mem(4) and tty(4).
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links into /proc and devpts.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// `S_IFCHR`, `S_IFBLK`, `S_IFIFO`: inode(7).
const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;

/// Makes the nodes and links. A device of config.json wins over a default one at the same path, and so does a mount:
/// `-v /dev/urandom:/dev/random` is common.
pub(super) fn populate(plan: &mut Plan, container: &config::Container, facts: &Facts<'_>) {
    let is_mounted = |path: &str| container.mounts.iter().any(|mount| mount.destination == Path::new(path));
    for (path, major, minor) in DEFAULT {
        if !is_mounted(path) && !container.devices.iter().any(|device| device.path == Path::new(path)) {
            let (path, kind) = (path.into(), DeviceKind::Character);
            let device = Device { path, kind, major, minor, mode: 0o666, uid: 0, gid: 0 };
            node(plan, container, &device, facts);
        }
    }
    for device in &container.devices {
        node(plan, container, device, facts);
    }
    for (path, target) in LINKS.into_iter().filter(|(path, _)| !is_mounted(path)) {
        let (target, path) = (plan.text(target), plan.text(path));
        plan.push(Step::MakeLink { target, path });
    }
}

fn node(plan: &mut Plan, container: &config::Container, device: &Device, facts: &Facts<'_>) {
    let path = plan.path(&device.path);
    if let Some(tree) = handed::device(plan, container, device, facts) {
        let (attributes, recursive_attributes) = (Attributes::default(), Attributes::default());
        let (source, destination, recursive) = (path, path, false);
        let (origin, links) = (Origin::Device(tree), Links::default());
        plan.push(Step::MountBind { source, origin, recursive, links, attributes, recursive_attributes, destination });
        return;
    }
    let kind = match device.kind {
        DeviceKind::Character => CHARACTER,
        DeviceKind::Block => BLOCK,
        DeviceKind::Fifo => FIFO,
    };
    let Device { major, minor, mode, uid, gid, .. } = *device;
    plan.push(Step::MakeNode { path, mode: kind | mode, major, minor, uid, gid });
}
