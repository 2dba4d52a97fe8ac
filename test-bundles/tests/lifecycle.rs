//! create, start, state, kill, delete (runtime spec runtime.md, "State", "Lifecycle", "Operations").

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::json;
use test_bundles::bundle::{self, Bundle, Ran, ours};

#[test]
fn state_tells_each_stage() {
    let mut bundle = Bundle::new("lifecycle");
    bundle.config["annotations"] = json!({ "org.example.key": "value" });
    bundle.create().success();
    let created = bundle.state();
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], bundle.id());
    assert_eq!(created["pid"], bundle.pid());
    assert_eq!(created["bundle"], json!(bundle.path()));
    assert_eq!(created["annotations"], json!({ "org.example.key": "value" }));
    assert!(created["ociVersion"].as_str().unwrap().starts_with("1."), "{created}");

    bundle.call(&["start", bundle.id()]).success();
    assert_eq!(bundle.state()["status"], "running");
    bundle.call(&["kill", bundle.id(), "KILL"]).success();
    bundle.wait();
    assert_eq!(bundle.state()["status"], "stopped");
    bundle.call(&["delete", bundle.id()]).success();
    bundle.assert_nothing_left();
    assert_ne!(bundle.call(&["state", bundle.id()]).status, 0);
}

#[test]
fn nothing_is_executed_before_start() {
    let mut bundle = Bundle::new("lifecycle");
    bundle.probe(&["env", "PATH"]);
    bundle.create().success();
    assert_eq!(bundle.output().stdout, "");
    bundle.call(&["start", bundle.id()]).success();
    bundle.wait();
    assert_eq!(bundle.output().stdout, "\"/\"\n");
}

/// No container can find in a process that waits in it what the runtime has read for itself, or for another container.
#[test]
fn what_waits_to_be_started_has_nothing_of_the_runtimes_heap() {
    const SECRET: &str = "known to the runtime alone";
    let mut bundle = Bundle::new("lifecycle");
    bundle.config["annotations"] = json!({ "org.example.key": SECRET });
    bundle.create().success();
    if !ours() {
        return;
    }
    assert!(!memory(bundle.pid()).windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()));
}

/// All that can be read of a process's memory.
fn memory(pid: i32) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(maps.contains("[stack]"), "{maps}");
    let file = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut memory = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" r")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // What the kernel itself has mapped there cannot be read.
        if file.read_exact_at(&mut bytes, start).is_ok() {
            memory.append(&mut bytes);
        }
    }
    memory
}

#[test]
fn an_id_is_taken_only_once() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    let path = bundle.path().to_str().unwrap().to_owned();
    refused(&bundle.call(&["create", "--bundle", &path, bundle.id()]), "exist");
    assert_eq!(bundle.state()["status"], "running");
}

#[test]
fn start_works_once() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    assert_ne!(bundle.call(&["start", bundle.id()]).status, 0);
    assert_eq!(bundle.state()["status"], "running");
}

#[test]
fn a_running_container_is_deleted_only_by_force() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    assert_ne!(bundle.call(&["delete", bundle.id()]).status, 0);
    assert_eq!(bundle.state()["status"], "running");
    bundle.call(&["delete", "--force", bundle.id()]).success();
    bundle.assert_nothing_left();
}

#[test]
fn a_created_container_can_be_killed_or_deleted() {
    let bundle = Bundle::new("lifecycle");
    bundle.create().success();
    bundle.call(&["kill", bundle.id(), "KILL"]).success();
    bundle.wait();
    bundle.call(&["delete", bundle.id()]).success();
    bundle.assert_nothing_left();

    let bundle = Bundle::new("lifecycle");
    bundle.create().success();
    bundle.call(&["delete", "--force", bundle.id()]).success();
    bundle.assert_nothing_left();
}

#[test]
fn verbs_on_what_does_not_exist() {
    let bundle = Bundle::new("lifecycle");
    for call in [&["state", "nobody"][..], &["start", "nobody"], &["kill", "nobody", "KILL"], &["delete", "nobody"]] {
        refused(&bundle.call(call), "not exist");
    }
    // Made for scripts that clean up.
    bundle.call(&["delete", "--force", "nobody"]).success();
    bundle.assert_nothing_left();
}

#[test]
fn kill_all_reaches_what_init_left_behind() {
    let mut bundle = Bundle::new("lifecycle");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    bundle.probe(&["fork-orphan"]).start();
    bundle.wait();
    let cgroup = bundle.cgroup_directories().next().expect("the container has a cgroup while it is not deleted");
    let alive = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    let orphan: i32 = alive.trim().parse().expect("one process is left");
    let orphan = bundle::pidfd(orphan).unwrap();
    bundle.call(&["kill", "--all", bundle.id(), "KILL"]).success();
    bundle::wait(&orphan);
}

#[test]
fn a_start_that_fails_says_what_and_leaves_a_container_to_delete() {
    let mut bundle = Bundle::new("lifecycle");
    bundle.config["process"]["args"] = json!(["/not/there"]);
    let created = bundle.create();
    // To find out at create is as good; then nothing has been made.
    let failed = if created.status == 0 { bundle.call(&["start", bundle.id()]) } else { created };
    assert_ne!(failed.status, 0);
    assert!(failed.stderr.contains("/not/there"), "{}", failed.stderr);
}

#[track_caller]
fn refused(ran: &Ran, ours_says: &str) {
    assert_ne!(ran.status, 0, "{}", ran.stdout);
    assert!(!ours() || ran.stderr.contains(ours_says), "{}", ran.stderr);
}
