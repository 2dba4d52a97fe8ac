//! `process.noNewPrivileges` (prctl(2), PR_SET_NO_NEW_PRIVS).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::json;
use test_bundles::bundle::Bundle;

#[test]
fn set_only_where_it_is_asked_for() {
    let mut bundle = Bundle::new("no_new_privileges");
    assert_eq!(bundle.seen()["no_new_privileges"], true);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(bundle.seen()["no_new_privileges"], false);
}

#[test]
fn each_exec_has_its_own() {
    let mut bundle = Bundle::new("no_new_privileges");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    assert_eq!(bundle.exec(&process).json()["no_new_privileges"], true);
    process["noNewPrivileges"] = json!(false);
    assert_eq!(bundle.exec(&process).json()["no_new_privileges"], false);
}
