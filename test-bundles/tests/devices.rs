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

fn node(kind: &str, mode: u32, [uid, gid]: [u32; 2], numbers: [u32; 2]) -> Value {
    json!({ "type": kind, "mode": mode, "uid": uid, "gid": gid, "device": numbers, "target": null })
}
