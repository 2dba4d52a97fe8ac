//! `hostname` and `domainname` (runtime spec config.md; uts_namespaces(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::json;
use test_bundles::bundle::{Bundle, ours};

#[test]
fn the_hostname_is_the_containers_alone() {
    let own = rustix::system::uname().nodename().to_owned();
    assert_eq!(Bundle::new("hostname").seen()["hostname"], "mars.example");
    assert_eq!(rustix::system::uname().nodename(), &*own);
}

#[test]
fn the_domainname_too() {
    // runc knows it from 1.2.
    if ours() {
        let mut bundle = Bundle::new("hostname");
        bundle.config["domainname"] = json!("planets");
        assert_eq!(bundle.seen()["domainname"], "planets");
    }
}

#[test]
fn exec_sees_it() {
    let mut bundle = Bundle::new("hostname");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    assert_eq!(bundle.exec(&process).json()["hostname"], "mars.example");
}
