//! `linux.resources` on cgroup v2: each by the kernel's own file, and by what it does where that is cheap (runtime spec
//! config-linux.md, "Control groups"; Documentation/admin-guide/cgroup-v2.rst). Skipped where the host has v1.

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
fn memory() {
    let mut bundle = on_v2!();
    let resources = json!({"memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20}});
    let seen = files(&mut bundle, resources, &["memory.max", "memory.low", "memory.swap.max"]);
    assert_eq!(seen, [(64 << 20).to_string(), (32 << 20).to_string(), (32 << 20).to_string()]);
}

#[test]
fn memory_without_bound() {
    let mut bundle = on_v2!();
    let seen = files(&mut bundle, json!({"memory": {"limit": -1}}), &["memory.max", "memory.swap.max"]);
    assert_eq!(seen, ["max", "max"]);
}

#[test]
fn cpu() {
    let mut bundle = on_v2!();
    let resources =
        json!({"cpu": {"shares": 1024, "quota": 20_000, "period": 50_000, "burst": 10_000, "cpus": "0", "mems": "0"}});
    let names = ["cpu.weight", "cpu.max", "cpu.max.burst", "cpuset.cpus", "cpuset.mems"];
    assert_eq!(files(&mut bundle, resources, &names), ["100", "20000 50000", "10000", "0", "0"]);
}

#[test]
fn an_idle_group() {
    let mut bundle = on_v2!();
    assert_eq!(files(&mut bundle, json!({"cpu": {"idle": 1}}), &["cpu.idle"]), ["1"]);
}

#[test]
fn pids_and_huge_pages() {
    let mut bundle = on_v2!();
    let resources = json!({"pids": {"limit": 20}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]});
    let names = ["pids.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"];
    assert_eq!(files(&mut bundle, resources, &names), ["20", "4194304", "4194304"]);
}

#[test]
fn block_io() {
    let mut bundle = on_v2!();
    let Some((major, minor)) = disk() else {
        println!("skipped: no disk here");
        return;
    };
    let at = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let resources = json!({"blockIO": {
        "throttleReadBpsDevice": at(1 << 20), "throttleWriteBpsDevice": at(2 << 20),
        "throttleReadIOPSDevice": at(100), "throttleWriteIOPSDevice": at(200),
    }});
    let seen = files(&mut bundle, resources, &["io.max"]);
    assert_eq!(seen, [format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200")]);
}

/// A whole disk of the machine's, by its numbers.
fn disk() -> Option<(u32, u32)> {
    let names = ["vda", "sda", "nvme0n1"];
    let text = names.iter().find_map(|name| fs::read_to_string(format!("/sys/block/{name}/dev")).ok())?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
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
fn a_memory_limit_kills() {
    let mut bundle = on_v2!();
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let ran = bundle.probe(&["allocate", "64"]).run();
    assert_eq!(ran.status, 128 + 9, "{}{}", ran.stdout, ran.stderr);
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 128 << 20}});
    assert_eq!(bundle.run().status, 0);
}

#[test]
fn a_pids_limit_stops_a_fork() {
    let mut bundle = on_v2!();
    let forked = |bundle: &mut Bundle, limit: i64| {
        bundle.config["linux"]["resources"] = json!({"pids": {"limit": limit}});
        bundle.probe(&["fork", "5"]).seen()
    };
    assert_eq!(forked(&mut bundle, 4), json!({"forked": 3, "stopped": "EAGAIN"}), "init and three more");
    assert_eq!(forked(&mut bundle, -1), json!({"forked": 5, "stopped": null}));
    assert_eq!(forked(&mut bundle, 1), json!({"forked": 0, "stopped": "EAGAIN"}), "init alone");
}

#[test]
fn a_denied_device_gives_eperm() {
    let mut bundle = on_v2!();
    // kmsg, there by its node, is no default device.
    let node = json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666});
    bundle.config["linux"]["devices"] = json!([node]);
    let opened = |bundle: &mut Bundle, rules: Value| {
        bundle.config["linux"]["resources"] = json!({ "devices": rules });
        bundle.probe(&["write", "/dev/kmsg", "/dev/null"]).seen()
    };
    let deny = json!({"allow": false, "access": "rwm"});
    let allow = |access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
    assert_eq!(opened(&mut bundle, json!([deny])), json!({"/dev/kmsg": "EPERM", "/dev/null": "ok"}));
    assert_eq!(opened(&mut bundle, json!([deny, allow("rwm")])), json!({"/dev/kmsg": "ok", "/dev/null": "ok"}));
    assert_eq!(opened(&mut bundle, json!([deny, allow("rm")])), json!({"/dev/kmsg": "EPERM", "/dev/null": "ok"}));
    bundle.config["linux"].as_object_mut().unwrap().remove("resources");
    let seen = bundle.probe(&["write", "/dev/kmsg", "/dev/null"]).seen();
    assert_eq!(seen, json!({"/dev/kmsg": "EPERM", "/dev/null": "ok"}), "without any rules too");
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

/// As systemd or a nested engine does it: into a cgroup below, controllers enabled for those beside it. An exec must still
/// find a place then.
#[test]
fn cgroups_below_can_be_made_and_limited() {
    let mut bundle = on_v2!();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
    bundle.probe(&["nest"]);
    bundle.start();
    let (below, beside) = (directory(&bundle).join("init"), directory(&bundle).join("beside"));
    let done = test_bundles::wait_until(std::time::Duration::from_secs(10), || beside.join("done").exists());
    assert!(done, "{:?}", bundle.output());
    assert_eq!(fs::read_to_string(beside.join("pids.max")).unwrap(), "7\n");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "read", "/proc/self/cgroup"]);
    assert_eq!(bundle.exec(&process).json(), json!({"/proc/self/cgroup": "0::/init\n"}));
    assert!(below.exists());
}
