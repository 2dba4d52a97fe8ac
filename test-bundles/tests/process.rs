//! `process`: what is executed, as whom and where (runtime spec config.md, "Process" and "User").

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

#[test]
fn arguments_and_environment_arrive_as_written() {
    let mut bundle = Bundle::new("process");
    bundle.config["process"]["args"] = json!(["/probe"]);
    let seen = bundle.seen();
    assert_eq!(seen["args"], json!(["/probe"]));
    // A runtime may add HOME, which names the user's home; nothing else.
    let environment = seen["env"].as_array().unwrap();
    let others: Vec<_> = environment.iter().filter(|entry| !entry.as_str().unwrap().starts_with("HOME=")).collect();
    assert_eq!(json!(others), json!(["PATH=/", "GREETING=hello world", "EMPTY=", "TWICE=a=b"]));
}

#[test]
fn of_a_variable_that_is_repeated_the_last_value_counts() {
    let mut bundle = Bundle::new("process");
    let env = json!(["A=first", "PATH=/nowhere", "B=b", "A=second", "PATH=/"]);
    bundle.config["process"]["env"] = env.clone();
    bundle.config["process"]["args"] = json!(["probe"]);
    let expected = json!(["B=b", "A=second", "PATH=/", "HOME=/"]);
    assert_eq!(bundle.seen()["env"], expected);

    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["probe"]);
    assert_eq!(bundle.exec(&process).json()["env"], expected);
}

#[test]
fn an_empty_home_is_that_of_passwd() {
    let mut bundle = Bundle::new("process");
    fs::create_dir(bundle.rootfs().join("etc")).unwrap();
    fs::write(bundle.rootfs().join("etc/passwd"), "web:x:1000:1000::/var/www:/bin/false\n").unwrap();
    let process = |bundle: &Bundle, env: &Value| {
        let mut process = bundle.config["process"].clone();
        (process["args"], process["env"]) = (json!(["/probe"]), env.clone());
        process
    };
    // Of a repeated one the last is looked at.
    for (env, expected) in [
        (json!(["HOME=", "A=b"]), json!(["A=b", "HOME=/var/www"])),
        (json!(["HOME=/given", "A=b", "HOME="]), json!(["A=b", "HOME=/var/www"])),
        (json!(["HOME=", "A=b", "HOME=/given"]), json!(["A=b", "HOME=/given"])),
    ] {
        bundle.config["process"] = process(&bundle, &env);
        assert_eq!(bundle.seen()["env"], expected, "{env}");
    }
    bundle.probe(&["sleep"]).start();
    let process = process(&bundle, &json!(["HOME=", "A=b"]));
    assert_eq!(bundle.exec(&process).json()["env"], json!(["A=b", "HOME=/var/www"]));
}

#[test]
fn a_name_without_a_slash_is_found_on_the_containers_path() {
    let mut bundle = Bundle::new("process");
    bundle.config["process"]["args"] = json!(["probe", "env", "GREETING"]);
    bundle.config["process"]["env"] = json!(["PATH=/nowhere:/", "GREETING=found"]);
    assert_eq!(bundle.seen(), "found");
}

#[test]
fn a_missing_cwd_is_made() {
    let seen = Bundle::new("process").seen();
    assert_eq!(seen["cwd"], "/made/for/us");
}

#[test]
fn user_group_and_supplementary_groups() {
    let seen = Bundle::new("process").seen();
    assert_eq!(seen["uid"], json!([1000, 1000, 1000]));
    assert_eq!(seen["gid"], json!([1001, 1001, 1001]));
    // Linux lists the primary group only where it is asked for as an additional one.
    assert_eq!(seen["groups"], json!([5, 7, 70000]));
}

/// setresuid(2) and its kin take it for "leave it as it is": who asks for it would be root.
#[test]
fn the_number_that_is_no_id_is_refused() {
    for (user, says) in [
        (json!({ "uid": u32::MAX, "gid": 1 }), "/process/user/uid: 4294967295 is no id"),
        (json!({ "uid": 1, "gid": u32::MAX }), "/process/user/gid: 4294967295 is no id"),
        (
            json!({ "uid": 1, "gid": 1, "additionalGids": [1, u32::MAX] }),
            "/process/user/additionalGids/1: 4294967295 is no id",
        ),
    ] {
        let mut bundle = Bundle::new("process");
        bundle.config["process"]["user"] = user;
        let ran = bundle.run();
        assert!(ran.status != 0 && (!ours() || ran.stderr.contains(says)), "{says}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn root_keeps_none_of_the_callers_groups() {
    let mut bundle = Bundle::new("process");
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    let seen = bundle.seen();
    assert_eq!(seen["uid"], json!([0, 0, 0]));
    assert_eq!(seen["groups"], json!([]));
}

#[test]
fn the_umask_is_the_users_or_0022() {
    let mut bundle = Bundle::new("process");
    assert_eq!(bundle.seen()["umask"], 0o027);
    bundle.config["process"]["user"].as_object_mut().unwrap().remove("umask");
    assert_eq!(bundle.seen()["umask"], 0o022);
}

#[test]
fn init_is_pid_1_and_leads_a_session_of_its_own() {
    let seen = Bundle::new("process").seen();
    assert_eq!((&seen["pid"], &seen["ppid"]), (&json!(1), &json!(0)));
    assert_eq!((&seen["sid"], &seen["pgid"]), (&json!(1), &json!(1)));
}
