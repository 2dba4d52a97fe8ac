//! What cgroup v2 alone has: files by name, and one tree that is shown inside (runtime spec config-linux.md, "Control groups";
//! Documentation/admin-guide/cgroup-v2.rst). Skipped where the host has v1.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::MetadataExt;
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

/// What is mounted writable, in a cgroup namespace of the container's own, is given to its user (config-linux.md, "Cgroup
/// ownership"): the directory, and of the files those that the kernel names.
#[test]
fn a_writable_cgroup_belongs_to_the_processes_user() {
    let list = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap();
    for (user_namespace, uid, option, cgroup_namespace, owner) in [
        (true, 0, "rw", true, 100_000),
        (true, 7, "rw", true, 100_007),
        (false, 7, "rw", true, 7),
        (true, 0, "ro", true, 0),
        (false, 7, "rw", false, 0),
    ] {
        let mut bundle = on_v2!();
        namespaces(&mut bundle, user_namespace, cgroup_namespace);
        mount(&mut bundle, option);
        bundle.config["process"]["user"]["uid"] = json!(uid);
        bundle.probe(&["sleep"]).start();
        let directory = directory(&bundle);
        assert_eq!(fs::metadata(&directory).unwrap().uid(), owner, "{uid} {option}");
        for file in fs::read_dir(&directory).unwrap().flatten() {
            let name = file.file_name();
            let given = list.lines().any(|listed| name == listed);
            assert_eq!(file.metadata().unwrap().uid(), if given { owner } else { 0 }, "{uid} {option}: {name:?}");
        }
    }
}

#[test]
fn the_root_of_a_user_namespace_makes_cgroups_below_and_limits_them() {
    let mut bundle = on_v2!();
    namespaces(&mut bundle, true, true);
    mount(&mut bundle, "rw");
    bundle.probe(&["nest"]).start();
    let beside = directory(&bundle).join("beside");
    let done = test_bundles::wait_until(std::time::Duration::from_secs(10), || beside.join("done").exists());
    assert!(done, "{:?}", bundle.output());
    assert_eq!(fs::read_to_string(beside.join("pids.max")).unwrap(), "7\n");
    // What limits all of it is not its own.
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "write", "/sys/fs/cgroup/pids.max"]);
    assert_eq!(bundle.exec(&process).json(), json!({ "/sys/fs/cgroup/pids.max": "EACCES" }));
}

fn namespaces(bundle: &mut Bundle, user: bool, cgroup: bool) {
    let linux = &mut bundle.config["linux"];
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.extend(cgroup.then(|| json!({ "type": "cgroup" })));
    namespaces.extend(user.then(|| json!({ "type": "user" })));
    if user {
        linux["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        linux["gidMappings"] = json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
        std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(200_000)).unwrap();
    }
}

fn mount(bundle: &mut Bundle, option: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
    cgroup["options"] = json!(["nosuid", "noexec", "nodev", option]);
}
