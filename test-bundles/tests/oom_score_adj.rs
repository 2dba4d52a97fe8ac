//! `process.oomScoreAdj` (proc_pid_oom_score_adj(5)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::process::Command;

use serde_json::json;
use test_bundles::bundle::{Bundle, ours};

#[test]
fn set_where_given() {
    assert_eq!(Bundle::new("oom_score_adj").seen()["oom_score_adj"], 417);
}

#[test]
fn inherited_where_absent() {
    let own: i64 = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let mut bundle = Bundle::new("oom_score_adj");
    bundle.config["process"].as_object_mut().unwrap().remove("oomScoreAdj");
    assert_eq!(bundle.seen()["oom_score_adj"], own);
}

#[test]
fn exec_has_its_own() {
    let mut bundle = Bundle::new("oom_score_adj");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process["oomScoreAdj"] = json!(523);
    // runc 1.1 gives an exec the value of init.
    assert_eq!(bundle.exec(&process).json()["oom_score_adj"], if ours() { 523 } else { 417 });
}

/// Zero is a value like any other, and not what the runtime has.
#[test]
fn zero_is_set_too() {
    let mut bundle = Bundle::new("oom_score_adj");
    bundle.config["process"]["oomScoreAdj"] = json!(0);
    let inner = bundle.command();
    let mut command = Command::new("sh");
    let script = "echo 321 >/proc/self/oom_score_adj && exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    let ran = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let seen: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(seen["oom_score_adj"], 0);
}
