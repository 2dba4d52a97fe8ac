//! What cgroup v2 alone has: files by name, and one tree that is shown inside (runtime spec config-linux.md, "Control groups";
//! Documentation/admin-guide/cgroup-v2.rst). Skipped where the host has v1.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use test_bundles::bundle::Bundle;

/// The bundle, unless the host has cgroup v1: then the reason is told and the test is over.
macro_rules! on_v2 {
    () => {{
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            println!("skipped: the host has cgroup v1");
            return;
        }
        Bundle::new("cgroup")
    }};
}

/// What the kernel says of a running container with `resources`, file by file.
fn files(bundle: &mut Bundle, resources: Value, names: &[&str]) -> Vec<String> {
    bundle.config["linux"]["resources"] = resources;
    bundle.probe(&["sleep"]);
    bundle.start();
    let directory = directory(bundle);
    let read = |name: &&str| fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    names.iter().map(|name| read(name).trim().to_owned()).collect()
}

fn directory(bundle: &Bundle) -> PathBuf {
    bundle.cgroup_directories().next().unwrap()
}

#[test]
fn memory_without_bound() {
    let mut bundle = on_v2!();
    let seen = files(&mut bundle, json!({"memory": {"limit": -1}}), &["memory.max", "memory.swap.max"]);
    assert_eq!(seen, ["max", "max"]);
}

#[test]
fn files_by_name() {
    let mut bundle = on_v2!();
    let resources = json!({"unified": {"memory.high": "50331648", "pids.max": "30"}, "pids": {"limit": 20}});
    assert_eq!(files(&mut bundle, resources, &["memory.high", "pids.max"]), ["50331648", "30"]);
}

#[test]
fn a_refused_value_names_file_value_and_reason() {
    let mut bundle = on_v2!();
    bundle.config["linux"]["resources"] = json!({"cpu": {"cpus": "4000"}});
    let ran = bundle.probe(&["exit", "0"]).run();
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("write 4000 to cpuset.cpus: E"), "{}", ran.stderr);
}

#[test]
fn without_a_cgroup_namespace_the_mount_shows_the_tree_by_its_whole_paths() {
    let mut bundle = on_v2!();
    let procs = format!("/sys/fs/cgroup{}/cgroup.procs", bundle.cgroup());
    let options = || {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        table.lines().find(|line| line.contains(" /sys/fs/cgroup cgroup2 ")).unwrap().to_owned()
    };
    let before = options();
    assert_eq!(bundle.probe(&["read", &procs]).seen(), json!({ procs: "1\n" }));
    assert_eq!(options(), before, "the host's mount is as it was");
}
