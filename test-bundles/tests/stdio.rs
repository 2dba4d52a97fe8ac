//! Descriptors: 0, 1 and 2 are the caller's, and there are no others.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use serde_json::json;
use test_bundles::bundle::Bundle;

#[test]
fn only_0_1_and_2_are_open_and_they_are_the_callers() {
    let bundle = Bundle::new("stdio");
    let input = bundle.path().join("input");
    fs::write(&input, "").unwrap();
    let (output, error) = (bundle.path().join("output"), bundle.path().join("error"));
    let mut create = bundle.command();
    create.args(["create", "--bundle", bundle.path().to_str().unwrap(), "--pid-file", &bundle.pid_file(), bundle.id()]);
    create.stdin(File::open(&input).unwrap());
    create.stdout(File::create(&output).unwrap()).stderr(File::create(&error).unwrap());
    assert!(create.status().unwrap().success(), "{}", fs::read_to_string(&error).unwrap());
    bundle.call(&["start", bundle.id()]).success();
    bundle.wait();

    let seen: serde_json::Value = serde_json::from_str(&fs::read_to_string(&output).unwrap()).unwrap();
    assert_eq!(seen["fds"], json!({ "0": input, "1": output, "2": error }));
}

#[test]
fn what_the_caller_left_open_does_not_leak_into_init() {
    let _open = inheritable();
    let seen = Bundle::new("stdio").seen();
    assert_eq!(names(&seen["fds"]), ["0", "1", "2"]);
}

#[test]
fn nor_into_an_exec() {
    let _open = inheritable();
    let mut bundle = Bundle::new("stdio");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    assert_eq!(names(&bundle.exec(&process).json()["fds"]), ["0", "1", "2"]);
}

#[test]
fn output_on_both_arrives_apart() {
    let mut bundle = Bundle::new("stdio");
    let ran = bundle.probe(&["no-such-action"]).run();
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.starts_with("usage: probe"), "{}", ran.stderr);
}

/// A directory of the host, open without close-on-exec: the way out of a container that leaks it.
fn inheritable() -> File {
    let directory = File::open("/").unwrap();
    rustix::io::fcntl_setfd(&directory, rustix::io::FdFlags::empty()).unwrap();
    assert!(directory.as_raw_fd() > 2);
    directory
}

fn names(fds: &serde_json::Value) -> Vec<&str> {
    fds.as_object().unwrap().keys().map(String::as_str).collect()
}
