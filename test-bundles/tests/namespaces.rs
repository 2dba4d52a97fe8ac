//! `linux.namespaces`: new, joined by path, or inherited (namespaces(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

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

/// A process that holds namespaces: unshare(1) with a sleeping child, which is pid 1 where there is a new pid namespace.
struct Holder(Child);

impl Holder {
    fn new(flags: &[&str]) -> Self {
        let script = "echo ready; exec sleep infinity";
        let mut unshare = Command::new("unshare");
        unshare.args(["--fork", "--kill-child"]).args(flags).args(["sh", "-c", script]).stdout(Stdio::piped());
        let mut child = unshare.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self(child)
    }

    fn path(&self, file: &str) -> String {
        let file = if file == "pid" { "pid_for_children" } else { file };
        format!("/proc/{}/ns/{file}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).unwrap();
    }
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
