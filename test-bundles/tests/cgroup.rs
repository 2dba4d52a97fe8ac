//! `linux.cgroupsPath`: a cgroup of its own for every container (runtime spec config-linux.md, "Cgroups Path").

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};
use test_bundles::cgroups::{self, either, is_mounted, is_v2};

#[test]
fn init_is_in_the_given_cgroup_of_every_hierarchy() {
    let mut bundle = Bundle::new("cgroup");
    bundle.probe(&["sleep"]);
    let init = bundle.start();
    let cgroups = fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    assert!(cgroups.lines().count() > 0);
    for line in cgroups.lines().filter(|line| is_mounted(line)) {
        // The hybrid tree's v2 hierarchy has no controllers, and runc leaves it out.
        assert!(line.ends_with(&format!(":{}", bundle.cgroup())) || (line.starts_with("0::") && !ours()), "{line}");
    }
}

/// A process that joins a frozen cgroup stands still there, so Create and Exec would have no end.
#[test]
fn a_frozen_cgroup_is_refused_with_the_one_to_thaw() {
    let (parent, freeze) =
        (format!("/myshim-test/frozen-{}", std::process::id()), either("freezer.state", "cgroup.freeze"));
    let directory = cgroups::directory("freezer", &parent);
    fs::create_dir_all(&directory).unwrap();
    let set = |directory: &Path, value: &str| fs::write(directory.join(freeze), value).unwrap();
    let mut bundle = Bundle::new("cgroup");
    bundle.probe(&["sleep"]);
    let apart = bundle.config["linux"]["cgroupsPath"].clone();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{parent}/pod/container"));
    set(&directory, either("FROZEN", "1"));
    let ran = bundle.create();
    set(&directory, either("THAWED", "0"));
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("frozen") && ran.stderr.contains(directory.to_str().unwrap()), "{}", ran.stderr);
    bundle.assert_nothing_left();
    fs::remove_dir(&directory).unwrap();

    bundle.config["linux"]["cgroupsPath"] = apart;
    bundle.start();
    let own = cgroups::directory("freezer", &bundle.cgroup());
    set(&own, either("FROZEN", "1"));
    let process = json!({ "args": ["/probe"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
    let ran = bundle.exec(&process);
    set(&own, either("THAWED", "0"));
    assert_ne!(ran.status, 0);
    assert!(!ours() || ran.stderr.contains("frozen"), "{}", ran.stderr);
}

#[test]
fn with_a_cgroup_namespace_its_root_is_the_containers() {
    let mut bundle = Bundle::new("cgroup");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
    for line in bundle.seen()["cgroup"].as_array().unwrap() {
        let line = line.as_str().unwrap();
        assert!(line.ends_with(":/") || (line.starts_with("0::") && !ours()), "{line}");
    }
}

#[test]
fn the_mount_shows_the_containers_own_cgroup() {
    let mut bundle = Bundle::new("cgroup");
    let mut files = vec!["/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs"];
    if is_v2() {
        // With the host's namespace the whole tree is shown there.
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
        files = vec!["/sys/fs/cgroup/cgroup.procs"];
    }
    // Pid 1's own cgroup is where the mount starts.
    bundle.probe(&[&["read"], files.as_slice()].concat());
    let seen = bundle.seen();
    for file in files {
        assert_eq!(seen[file], "1\n", "{file}");
    }
}

#[test]
fn the_mount_is_read_only_where_it_is_asked_for() {
    let mut bundle = Bundle::new("cgroup");
    bundle.probe(&[]);
    let seen = bundle.seen();
    let below: Vec<&Value> = seen["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["mount_point"].as_str().unwrap().starts_with("/sys/fs/cgroup"))
        .collect();
    assert!(!below.is_empty());
    for mount in below {
        // The directory of hierarchies holds nothing of the host's, and runc 1.1 leaves it writable.
        if mount["fs_type"] == "tmpfs" && !ours() {
            continue;
        }
        let options = mount["options"].as_array().unwrap();
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(options.contains(&json!(option)), "{mount}");
        }
    }
}

#[test]
fn a_relative_path_has_a_cgroup_too() {
    let mut bundle = Bundle::new("cgroup");
    // Below the runtime's own cgroup or the root, as the runtime likes; but always the same, and never outside.
    bundle.config["linux"]["cgroupsPath"] = json!(bundle.cgroup().trim_start_matches('/'));
    let seen = bundle.seen();
    for line in seen["cgroup"].as_array().unwrap() {
        let line = line.as_str().unwrap();
        assert!(line.ends_with(&bundle.cgroup()) || (line.starts_with("0::") && !ours()), "{line}");
    }
}

/// Whether a process inside may write to its cgroup's files: the kernel refuses what is written, and not the writing.
#[test]
fn the_mount_is_writable_where_it_is_asked_for() {
    for (option, answer) in [("ro", "EROFS"), ("rw", "EINVAL")] {
        let mut bundle = Bundle::new("cgroup");
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
        mount_cgroup(&mut bundle, option);
        let file = format!("/sys/fs/cgroup{}/cgroup.procs", if is_v2() { "" } else { "/memory" });
        assert_eq!(bundle.probe(&["write", &file]).seen()[&file], answer, "{option}");
    }
}

fn mount_cgroup(bundle: &mut Bundle, option: &str) {
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev", option]);
        }
    }
}

/// As systemd or a nested engine does it: into a cgroup below, controllers enabled for those beside it. An exec must still
/// find a place then: on v2 beside init, for a cgroup with limited ones below takes no process.
#[test]
fn cgroups_below_can_be_made_and_limited() {
    let mut bundle = Bundle::new("cgroup");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
    mount_cgroup(&mut bundle, "rw");
    bundle.probe(&["nest"]);
    bundle.start();
    let directory = cgroups::directory("pids", &bundle.cgroup());
    let beside = directory.join("beside");
    let done = test_bundles::wait_until(std::time::Duration::from_secs(10), || beside.join("done").exists());
    assert!(done, "{:?}", bundle.output());
    assert_eq!(fs::read_to_string(beside.join("pids.max")).unwrap(), "7\n");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "read", "/proc/self/cgroup"]);
    let seen = bundle.exec(&process).json();
    if is_v2() {
        assert_eq!(seen, json!({"/proc/self/cgroup": "0::/init\n"}));
    } else {
        assert!(seen["/proc/self/cgroup"].as_str().unwrap().contains(":pids:/\n"), "{seen}");
    }
    assert!(directory.join("init").exists());
}
