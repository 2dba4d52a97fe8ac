//! A container without a mount namespace: it is in the runtime's, where nothing may be mounted for it (runtime spec
//! config-linux.md, "Namespaces"). Each test has a mount namespace of its own for its host, so that a runtime that fails leaves
//! nothing on the machine.
//!
//! Other runtimes mount on the host here, and want a /proc.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use test_bundles::bundle::{Bundle, ours};
use test_bundles::mounts::unshare_mounts;

/// A bundle in which nothing is to be mounted; none where another runtime is under test.
fn bundle() -> Option<Bundle> {
    if !ours() {
        return None;
    }
    unshare_mounts().unwrap();
    Some(without_mounts())
}

fn without_mounts() -> Bundle {
    let mut bundle = Bundle::new("namespaces");
    bundle.config["mounts"] = json!([]);
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "mount");
    bundle
}

/// What is mounted where the test is.
fn table() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

#[test]
fn it_runs_in_its_root_and_nothing_is_mounted_for_it() {
    let Some(mut bundle) = bundle() else { return };
    let before = table();
    bundle.config["process"]["cwd"] = json!("/made/for/us");
    for flags in [&[][..], &["--no-pivot"]] {
        let seen = bundle.probe(&["list", "/", "../../../../../.."]).seen_with(flags);
        assert_eq!(seen["/"], json!(["dev", "made", "probe"]));
        assert_eq!(seen["/"], seen["../../../../../.."], "there is no way up");
        assert_eq!(table(), before);
    }
    let seen = bundle.probe(&[]).seen();
    assert_eq!((&seen["cwd"], &seen["hostname"], &seen["pid"]), (&json!("/made/for/us"), &json!("probe"), &json!(1)));
    let init = bundle.probe(&["sleep"]).start();
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/mnt")).unwrap();
    assert_eq!(namespace(&init.to_string()), namespace("thread-self"));
    assert_eq!(fs::read_link(format!("/proc/{init}/root")).unwrap(), bundle.rootfs());
}

#[test]
fn what_is_executed_into_it_is_in_its_root() {
    let Some(mut bundle) = bundle() else { return };
    let before = table();
    bundle.config["hooks"] = json!({
        "startContainer": [{ "path": "/probe", "args": ["probe", "hook", "startContainer", "/recorded"] }],
        "createContainer": [{ "path": bundle.rootfs().join("probe"), "args": ["probe", "exit", "0"] }],
    });
    bundle.probe(&["sleep"]).start();
    assert!(bundle.rootfs().join("recorded").exists(), "a hook has another root");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "list", "/", "../../.."]);
    let seen = bundle.exec(&process).json();
    assert_eq!(seen, json!({ "/": ["dev", "probe", "recorded"], "../../..": ["dev", "probe", "recorded"] }));
    process["cwd"] = json!(bundle.path());
    assert_ne!(bundle.exec(&process).status, 0, "a directory of the host's");
    assert_eq!(table(), before);
}

#[test]
fn it_may_be_in_every_namespace_of_the_runtimes() {
    let Some(mut bundle) = bundle() else { return };
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for namespaces in [json!([]), json!([{ "type": "pid" }]), json!([{ "type": "network" }, { "type": "time" }])] {
        bundle.config["linux"]["namespaces"] = namespaces;
        assert_eq!(bundle.probe(&["list", "/"]).seen(), json!({ "/": ["dev", "probe"] }));
    }
}

#[test]
fn its_devices_are_nodes_in_its_root() {
    let Some(mut bundle) = bundle() else { return };
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/devices/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600 }]);
    bundle.probe(&["write", "/dev/null"]);
    assert_eq!(bundle.seen(), json!({ "/dev/null": "ok" }));
    for (path, number) in [("dev/null", 0x103), ("devices/zero", 0x105)] {
        let node = fs::symlink_metadata(bundle.rootfs().join(path)).unwrap();
        assert!(node.file_type().is_char_device() && node.rdev() == number, "{path}");
    }
}

/// Whoever has no mounts of its own may have been given the host's /dev.
#[test]
fn a_ptmx_that_is_a_device_stays() {
    let Some(bundle) = bundle() else { return };
    let ptmx = bundle.rootfs().join("dev/ptmx");
    fs::create_dir(bundle.rootfs().join("dev")).unwrap();
    mknod(&ptmx, SFlag::S_IFCHR, Mode::from_bits_retain(0o666), makedev(5, 2)).unwrap();
    bundle.run().success();
    assert_eq!(fs::symlink_metadata(&ptmx).unwrap().rdev(), 0x502);
}

#[test]
fn its_sysctls_are_set() {
    let Some(mut bundle) = bundle() else { return };
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    let init = bundle.probe(&["sleep"]).start().to_string();
    let mut read = Command::new("nsenter");
    read.args(["--net", "--target", &init, "cat", "/proc/sys/net/ipv4/ip_forward"]);
    assert_eq!(String::from_utf8_lossy(&read.output().unwrap().stdout), "1\n");
}

#[test]
fn what_would_be_mounted_is_refused_and_nothing_is_mounted() {
    if !ours() {
        return;
    }
    unshare_mounts().unwrap();
    let before = table();
    let tmpfs = json!([{ "destination": "/t", "type": "tmpfs", "source": "tmpfs" }]);
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    for (changes, says) in [
        // A foreground caller needs a terminal of its own for that one: a detached one has a socket.
        (json!({ "/process/terminal": true }), "/process/terminal: it would be mounted at /dev/console on the host"),
        (
            json!({ "/mounts": tmpfs }),
            "/mounts/0: /t would be mounted on the host: the container has no mount namespace",
        ),
        (
            json!({ "/linux/maskedPaths": ["/probe"] }),
            "/linux/maskedPaths/0: what hides /probe would be mounted on the host",
        ),
        (json!({ "/linux/readonlyPaths": ["/dev"] }), "/linux/readonlyPaths/0: what makes /dev read-only would be"),
        (json!({ "/root/readonly": true }), "/root/readonly: it would be changed on the host"),
        (json!({ "/root/path": "/" }), "/root/path: the host's own root"),
        (json!({ "/linux/rootfsPropagation": "private" }), "/linux/rootfsPropagation: it would be changed on the host"),
        (
            json!({ "/linux/namespaces": [{ "type": "user" }], "/hostname": null, "/linux/uidMappings": maps, "/linux/gidMappings": maps }),
            "/linux/namespaces/0: needs a mount namespace",
        ),
    ] {
        let mut bundle = without_mounts();
        for (pointer, value) in changes.as_object().unwrap() {
            let place = pointer.split('/').skip(1).fold(&mut bundle.config, |place, key| &mut place[key]);
            *place = value.clone();
        }
        let ran = if changes.get("/process/terminal").is_some() {
            bundle.create_with(&["--console-socket", "/not/reached"])
        } else {
            bundle.run()
        };
        assert!(ran.status != 0 && ran.stderr.contains(says), "{says}: {}", ran.stderr);
    }
    assert_eq!(table(), before);
}
