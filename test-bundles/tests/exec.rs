//! `exec`: a further process in the container, with an identity of its own.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};
use test_bundles::cgroups::is_mounted;

#[test]
fn it_is_in_the_container() {
    let (bundle, process) = sleeping();
    let seen = bundle.exec(&process).json();
    assert_ne!(seen["pid"], 1);
    assert_eq!(seen["ppid"], 0);
    assert_eq!(seen["sid"], seen["pid"]);
    let lines = seen["cgroup"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    for line in lines.filter(|line| is_mounted(line)) {
        // The hybrid tree's v2 hierarchy has no controllers, and not every runtime uses it.
        assert!(line.ends_with(&bundle.cgroup()) || (line.starts_with("0::") && !ours()), "{line}");
    }
    assert!(seen["mounts"].as_array().unwrap().iter().any(|mount| mount["mount_point"] == "/dev/shm"));
}

#[test]
fn arguments_environment_and_cwd_are_its_own() {
    let (bundle, mut process) = sleeping();
    process["args"] = json!(["probe"]);
    process["env"] = json!(["PATH=/", "MINE=yes"]);
    process["cwd"] = json!("/proc");
    let seen = bundle.exec(&process).json();
    assert_eq!(seen["args"], json!(["probe"]));
    let environment = seen["env"].as_array().unwrap();
    assert!(environment.contains(&json!("MINE=yes")) && environment.len() <= 3, "{environment:?}");
    assert_eq!(seen["cwd"], "/proc");
}

#[test]
fn user_and_groups_are_its_own() {
    let (bundle, mut process) = sleeping();
    process["user"] = json!({ "uid": 33, "gid": 34, "additionalGids": [35, 36], "umask": 0o77 });
    let seen = bundle.exec(&process).json();
    assert_eq!(seen["uid"], json!([33, 33, 33]));
    assert_eq!(seen["gid"], json!([34, 34, 34]));
    assert_eq!(seen["groups"], json!([35, 36]));
    // runc 1.1 gives an exec the umask of init.
    assert_eq!(seen["umask"], if ours() { 0o77 } else { 0o22 });
}

#[test]
fn flags_stand_in_for_a_process_file() {
    let (bundle, _) = sleeping();
    let call = |flags: &[&str]| bundle.call(&[&["exec"], flags, &[bundle.id(), "/probe"]].concat()).json();
    let seen = call(&["--cwd", "/proc", "--env", "MINE=yes", "--user", "33:34"]);
    assert_eq!((&seen["cwd"], &seen["uid"][0], &seen["gid"][0]), (&json!("/proc"), &json!(33), &json!(34)));
    assert!(seen["env"].as_array().unwrap().contains(&json!("MINE=yes")));
}

#[test]
fn several_at_once() {
    let (bundle, process) = sleeping();
    let seen: Vec<Value> = std::thread::scope(|scope| {
        let execs: Vec<_> = (0..8)
            .map(|number| {
                let mut process = process.clone();
                process["env"] = json!(["PATH=/", format!("NUMBER={number}")]);
                process["args"] = json!(["/probe", "env", "NUMBER"]);
                let file = bundle.path().join(format!("process-{number}.json"));
                std::fs::write(&file, process.to_string()).unwrap();
                let bundle = &bundle;
                scope.spawn(move || bundle.call(&["exec", "--process", file.to_str().unwrap(), bundle.id()]).json())
            })
            .collect();
        execs.into_iter().map(|exec| exec.join().unwrap()).collect()
    });
    assert_eq!(json!(seen), json!(["0", "1", "2", "3", "4", "5", "6", "7"]));
}

#[test]
fn detached_it_outlives_its_caller_and_ends_with_init() {
    let (bundle, mut process) = sleeping();
    process["args"] = json!(["/probe", "sleep"]);
    let (file, pid_file) = (bundle.path().join("sleep.json"), bundle.path().join("exec.pid"));
    std::fs::write(&file, process.to_string()).unwrap();
    let (file, pid_file) = (file.to_str().unwrap(), pid_file.to_str().unwrap());
    bundle.call(&["exec", "--detach", "--pid-file", pid_file, "--process", file, bundle.id()]).success();
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.contains(&bundle.cgroup()), "{cgroup}");
    // Dropping the bundle finds out whether it has ended.
}

#[test]
fn what_cannot_be_executed_is_said_and_harms_nobody() {
    let (bundle, process) = sleeping();
    for (field, value, word) in [
        ("args", json!(["/not/there"]), "/not/there"),
        ("args", json!(["not-on-path"]), "not-on-path"),
        ("args", json!(["/proc/version"]), "/proc/version"),
        ("cwd", json!("/probe"), "/probe"),
    ] {
        let mut process = process.clone();
        process[field] = value;
        let ran = bundle.exec(&process);
        assert_ne!(ran.status, 0, "{field}");
        assert!(ran.stderr.contains(word) || !ours(), "{field}: {}", ran.stderr);
    }
    assert_eq!(bundle.state()["status"], "running");
}

#[test]
fn a_missing_cwd_is_said_and_not_made() {
    let (bundle, mut process) = sleeping();
    process["cwd"] = json!("/mistyped");
    let ran = bundle.exec(&process);
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("/mistyped") || !ours(), "{}", ran.stderr);
    assert!(!bundle.rootfs().join("mistyped").exists());
}

#[test]
fn there_is_none_in_a_stopped_container() {
    let (bundle, process) = sleeping();
    bundle.call(&["kill", bundle.id(), "KILL"]).success();
    bundle.wait();
    assert_ne!(bundle.exec(&process).status, 0);
}

/// A container whose init sleeps, and a process that looks around in it.
fn sleeping() -> (Bundle, Value) {
    let bundle = Bundle::new("exec");
    bundle.start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    (bundle, process)
}
