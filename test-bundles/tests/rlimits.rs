//! `process.rlimits` (getrlimit(2)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::json;
use test_bundles::bundle::{Bundle, ours};

#[test]
fn soft_and_hard_limits_are_set() {
    let seen = Bundle::new("rlimits").seen();
    let limits = &seen["rlimits"];
    assert_eq!(limits["RLIMIT_NOFILE"], json!([512, 1024]));
    assert_eq!(limits["RLIMIT_CORE"], json!([0, 0]));
    assert_eq!(limits["RLIMIT_NPROC"], json!([300, 400]));
    assert_eq!(limits["RLIMIT_STACK"], json!([1 << 20, u64::MAX]));
}

#[test]
fn exec_has_limits_of_its_own() {
    let mut bundle = Bundle::new("rlimits");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    assert_eq!(bundle.exec(&process).json()["rlimits"]["RLIMIT_NOFILE"], json!([100, 200]));
}

#[test]
fn an_exec_without_any_has_those_of_init() {
    if !ours() {
        println!("skipped: runc 1.1 gives it those of its caller");
        return;
    }
    let mut bundle = Bundle::new("rlimits");
    let limits = bundle.config["process"]["rlimits"].clone();
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process.as_object_mut().unwrap().remove("rlimits");
    let seen = bundle.exec(&process).json();
    for limit in limits.as_array().unwrap() {
        let name = limit["type"].as_str().unwrap();
        assert_eq!(seen["rlimits"][name], json!([limit["soft"], limit["hard"]]), "{name}");
    }
    process["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 2 }]);
    assert_eq!(bundle.exec(&process).json()["rlimits"]["RLIMIT_CORE"], json!([1, 2]));
}
