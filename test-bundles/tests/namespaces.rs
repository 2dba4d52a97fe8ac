//! `linux.namespaces`: new, joined by path, or inherited (namespaces(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};
use test_bundles::holder::Holder;

/// Name in config.json and in /proc/PID/ns, with unshare(1)'s flag.
const KINDS: [(&str, &str, &str); 6] = [
    ("pid", "pid", "--pid"),
    ("network", "net", "--net"),
    ("ipc", "ipc", "--ipc"),
    ("uts", "uts", "--uts"),
    ("mount", "mnt", "--mount"),
    ("cgroup", "cgroup", "--cgroup"),
];

#[test]
fn each_listed_kind_is_new_and_the_rest_is_inherited() {
    let seen = Bundle::new("namespaces").seen();
    for (_, file, _) in KINDS {
        assert_ne!(seen["namespaces"][file], own(file), "{file}");
        assert!(seen["namespaces"][file].is_string(), "{file}");
    }
    for file in ["user", "time"] {
        assert_eq!(seen["namespaces"][file], own(file), "{file}");
    }
}

#[test]
fn a_kind_that_is_not_listed_is_inherited() {
    // A mount namespace of its own is what keeps the rootfs the container's; the others can be left out one by one.
    for (kind, file, _) in KINDS.into_iter().filter(|(kind, ..)| *kind != "mount") {
        let mut bundle = Bundle::new("namespaces");
        bundle.config.as_object_mut().unwrap().remove("hostname");
        if kind == "network" {
            // A sysfs shows the network namespace that it was mounted in; only that namespace's owner may mount one.
            bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
        }
        namespaces(&mut bundle).retain(|namespace| namespace["type"] != kind);
        assert_eq!(bundle.seen()["namespaces"][file], own(file), "{kind}");
    }
}

#[test]
fn a_namespace_is_joined_by_its_path() {
    for (kind, file, flag) in KINDS {
        let holder = Holder::new(&[flag]);
        let mut bundle = Bundle::new("namespaces");
        bundle.config.as_object_mut().unwrap().remove("hostname");
        join(&mut bundle, kind, &holder.path(file));
        let expected = link(&holder.path(file));
        let ran = bundle.call(&["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]);
        // A mount namespace that lives on keeps the root that was made in it.
        drop(holder);
        bundle.assert_nothing_left();
        assert_eq!(ran.json()["namespaces"][file], expected, "{kind}");
    }
}

#[test]
fn a_pod_shares_the_sandboxs_namespaces() {
    let holder = Holder::new(&["--net", "--ipc", "--uts", "--pid"]);
    let mut bundle = Bundle::new("namespaces");
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        join(&mut bundle, kind, &holder.path(file));
    }
    let seen = bundle.seen();
    for file in ["net", "ipc", "uts", "pid"] {
        assert_eq!(seen["namespaces"][file], link(&holder.path(file)), "{file}");
    }
    // The holder's first process is pid 1 there, and the parent of ours is out of sight.
    assert_ne!(seen["pid"], 1);
    assert_eq!(seen["ppid"], 0);
}

#[test]
fn exec_is_in_the_namespaces_of_init() {
    let mut bundle = Bundle::new("namespaces");
    let init = bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    let seen = bundle.exec(&process).json();
    for (_, file, _) in KINDS {
        assert_eq!(seen["namespaces"][file], link(&format!("/proc/{init}/ns/{file}")), "{file}");
    }
}

#[test]
fn the_runtimes_own_mount_namespace_is_not_pivoted_away() {
    // Were it joined, everybody in it would find the container's root at /. So this runtime gets one of its own to lose.
    let mut bundle = Bundle::new("namespaces");
    join(&mut bundle, "mount", "/proc/self/ns/mnt");
    let inner = bundle.command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(inner.get_program()).args(inner.get_args());
    let ran = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
    assert!(!ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(!ours() || error.contains("/linux/namespaces/4/path"), "{error}");
    bundle.assert_nothing_left();
}

/// Who owns a namespace that is joined.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Inherited,
    New,
    Joined,
}

/// A sample in which each pair of kinds meets in each pair of ways: lines of an orthogonal array of strength two. Joined beside
/// a joined user namespace is what belongs to that; joined beside another, what is the host's.
#[test]
fn kinds_are_combined_as_one_likes() {
    const KINDS: [(&str, &str); 7] = [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ];
    let flags = ["--net", "--ipc", "--uts", "--pid", "--cgroup", "--time"];
    let hosts = Holder::new(&flags);
    let owned = Holder::with_ids(&flags, "0 100000 65536", "0 100000 65536");
    for (a, b, c) in (0..27).map(|n| (n / 9, n / 3 % 3, n % 3)) {
        let digits = [a, b, c, a + b, a + c, b + c, a + b + c];
        let mut ways = digits.map(|digit| [Way::Inherited, Way::New, Way::Joined][digit % 3]);
        let mut bundle = Bundle::new("namespaces");
        bundle.config.as_object_mut().unwrap().remove("hostname");
        namespaces(&mut bundle).retain(|namespace| namespace["type"] == "mount");
        let holder = if ways[0] == Way::Joined { &owned } else { &hosts };
        for ((kind, file), way) in KINDS.iter().zip(&mut ways) {
            // A new user namespace may not show what a joined pid or ipc namespace of the host's has.
            if ["pid", "ipc"].contains(kind) && digits[0] % 3 == 1 && *way == Way::Joined {
                *way = Way::New;
            }
            match way {
                Way::Inherited => {}
                Way::New => namespaces(&mut bundle).push(json!({ "type": kind })),
                Way::Joined => namespaces(&mut bundle).push(json!({ "type": kind, "path": holder.path(file) })),
            }
        }
        if ways[0] == Way::New {
            let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
            bundle.config["linux"]["uidMappings"] = map.clone();
            bundle.config["linux"]["gidMappings"] = map;
        }
        if ways[0] != Way::Inherited {
            std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
        }
        if ways[0] == Way::Inherited && ways[1] == Way::Inherited || !ours() {
            bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
        }
        if ways[4] == Way::Inherited && ways[0] != Way::Inherited && !ours() {
            continue;
        }
        // Of the host's ipc namespace there is no mqueue to show where the host has not mounted it.
        if ways[2] == Way::Inherited && ways[0] != Way::Inherited {
            bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
        }
        let seen = bundle.seen();
        for ((kind, file), way) in KINDS.iter().zip(ways) {
            let there = seen["namespaces"][*file].as_str().unwrap();
            let as_wanted = match way {
                Way::Inherited => there == own(file),
                Way::New => there != own(file) && there != link(&holder.path(file)),
                Way::Joined => there == link(&holder.path(file)),
            };
            assert!(as_wanted, "{kind} in {digits:?}: {there}");
        }
    }
}

#[test]
fn a_pid_namespace_that_has_lost_its_init_takes_nobody() {
    let holder = Holder::new(&["--pid"]);
    let path = holder.path("pid");
    let keep = std::fs::File::open(&path).unwrap();
    drop(holder);
    let mut bundle = Bundle::new("namespaces");
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&keep));
    join(&mut bundle, "pid", &path);
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(!ours() || (ran.stderr.contains("fork") && ran.stderr.contains("ENOMEM")), "{}", ran.stderr);
}

fn namespaces(bundle: &mut Bundle) -> &mut Vec<Value> {
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap()
}

fn join(bundle: &mut Bundle, kind: &str, path: &str) {
    let namespace = namespaces(bundle).iter_mut().find(|namespace| namespace["type"] == kind).unwrap();
    namespace["path"] = json!(path);
}

/// `net:[4026531840]`: kind and inode.
fn link(path: &str) -> String {
    fs::read_link(path).unwrap().to_string_lossy().into_owned()
}

fn own(file: &str) -> String {
    link(&format!("/proc/self/ns/{file}"))
}
