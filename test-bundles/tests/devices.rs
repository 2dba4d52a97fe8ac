//! `linux.devices` and the devices that are always there (runtime spec config-linux.md, "Devices", "Default Devices").

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use nix::sys::stat::{Mode, SFlag};
use serde_json::{Value, json};
use test_bundles::bundle::Bundle;

#[test]
fn the_default_nodes() {
    let seen = Bundle::new("devices").seen();
    for (path, numbers) in [
        ("/dev/null", [1, 3]),
        ("/dev/zero", [1, 5]),
        ("/dev/full", [1, 7]),
        ("/dev/random", [1, 8]),
        ("/dev/urandom", [1, 9]),
        ("/dev/tty", [5, 0]),
    ] {
        assert_eq!(seen["devices"][path], node("c", 0o666, [0, 0], numbers), "{path}");
    }
}

#[test]
fn the_default_links() {
    let seen = Bundle::new("devices").seen();
    for (path, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        assert_eq!(seen["devices"][path]["type"], "l", "{path}");
        assert_eq!(seen["devices"][path]["target"], target, "{path}");
    }
}

#[test]
fn what_is_in_dev_is_known() {
    let seen = Bundle::new("devices").seen();
    let known = [
        "core",
        "disk",
        "fd",
        "full",
        "loop-control-of-ours",
        "mqueue",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    ];
    for path in seen["devices"].as_object().unwrap().keys() {
        assert!(known.contains(&path.strip_prefix("/dev/").unwrap()), "{path}");
    }
}

#[test]
fn further_devices_are_made_with_mode_and_owner() {
    let mut bundle = Bundle::new("devices");
    bundle.probe(&["stat", "/dev/loop-control-of-ours", "/dev/disk/block", "/fifo"]);
    let seen = bundle.seen();
    assert_eq!(seen["/dev/loop-control-of-ours"], node("c", 0o640, [11, 12], [10, 237]));
    assert_eq!(seen["/dev/disk/block"], node("b", 0o600, [0, 6], [7, 3]));
    let fifo = &seen["/fifo"];
    assert_eq!((&fifo["type"], &fifo["mode"]), (&json!("p"), &json!(0o622)));
}

#[test]
fn a_device_is_what_it_says() {
    let mut bundle = Bundle::new("devices");
    bundle.probe(&["write", "/dev/null", "/dev/full"]);
    assert_eq!(bundle.seen(), json!({ "/dev/null": "ok", "/dev/full": "ENOSPC" }));
}

#[test]
fn a_dev_of_the_hosts_is_left_as_it_is() {
    // A bind on /dev says that the caller provides the devices: nothing may be made in it.
    let host = tempfile::TempDir::new().unwrap();
    // Runtimes want this one, and look at what it is.
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::mknod(&host.path().join("null"), SFlag::S_IFCHR, Mode::from_bits_retain(0o666), null).unwrap();
    let mut bundle = Bundle::new("devices");
    bundle.config["linux"].as_object_mut().unwrap().remove("devices");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    mounts.push(json!({ "destination": "/dev", "type": "bind", "source": host.path(), "options": ["rbind"] }));
    bundle.probe(&["list", "/dev"]);
    assert_eq!(bundle.seen(), json!({ "/dev": ["null"] }));
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 1);
}

#[test]
fn a_mount_takes_the_place_of_a_default_device() {
    // `-v /dev/urandom:/dev/random` is common.
    for (source, destination) in
        [("/dev/urandom", "/dev/random"), ("/dev/null", "/dev/tty"), ("/dev/null", "/dev/stdin")]
    {
        let mut bundle = Bundle::new("devices");
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": destination, "type": "bind", "source": source, "options": ["bind"] }));
        bundle.probe(&["stat", destination]);
        let device = bundle.seen()[destination]["device"].clone();
        assert_eq!(device, if source == "/dev/null" { json!([1, 3]) } else { json!([1, 9]) }, "{destination}");
    }
}

#[test]
fn a_dev_of_the_images_that_is_right_and_read_only_is_taken_as_it_is() {
    let image = tempfile::TempDir::new().unwrap();
    rustix::mount::mount("tmpfs", image.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let mounted = Mounted(image);
    let root = mounted.0.path();
    for directory in ["dev", "proc"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    let mut bundle = Bundle::new("devices");
    std::fs::copy(bundle.rootfs().join("probe"), root.join("probe")).unwrap();
    bundle.config["linux"].as_object_mut().unwrap().remove("devices");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
    bundle.config["root"]["path"] = json!(root);
    bundle.probe(&["stat", "/dev/fd"]);
    let first = bundle.seen();
    rustix::mount::mount_remount(root, rustix::mount::MountFlags::RDONLY, "").unwrap();
    assert_eq!(bundle.seen(), first);
}

struct Mounted(tempfile::TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

fn node(kind: &str, mode: u32, [uid, gid]: [u32; 2], numbers: [u32; 2]) -> Value {
    json!({ "type": kind, "mode": mode, "uid": uid, "gid": gid, "device": numbers, "target": null })
}
