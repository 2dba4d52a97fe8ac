//! `process.rlimits` (getrlimit(2)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::json;
use test_bundles::bundle::Bundle;

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
