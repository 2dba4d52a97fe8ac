//! The session keyring (keyrings(7)): a container has its own, by a name that its execs find.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

#[test]
fn a_container_has_one_of_its_own() {
    let mut bundle = Bundle::new("keyring");
    let seen = bundle.probe(&[]).seen();
    let expected = format!("keyring;0;0;3f1b0000;_ses.{}", bundle.id());
    assert_eq!(seen["keyring"]["description"], expected);
}

#[test]
fn another_user_has_it_too() {
    let mut bundle = Bundle::new("keyring");
    bundle.config["process"]["user"] = json!({ "uid": 33, "gid": 34 });
    let description = bundle.probe(&[]).seen()["keyring"]["description"].clone();
    assert!(description.as_str().unwrap().ends_with(&format!(";_ses.{}", bundle.id())), "{description}");
}

#[test]
fn an_exec_joins_it() {
    let bundle = Bundle::new("keyring");
    bundle.start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    let first = bundle.exec(&process).json();
    process["user"] = json!({ "uid": 33, "gid": 34 });
    let second = bundle.exec(&process).json();
    let expected = format!("keyring;0;0;3f1b0000;_ses.{}", bundle.id());
    assert_eq!(first["keyring"]["description"], expected);
    // A number is never given twice in a row: it is the one that init holds.
    assert_eq!(first["keyring"]["id"], second["keyring"]["id"]);
}

/// runc has each exec make a new one there.
#[test]
fn an_exec_into_a_user_namespace_joins_it_too() {
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new("user_namespace");
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(200_000)).unwrap();
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    let keyrings = [0, 33].map(|uid| {
        process["user"] = json!({ "uid": uid, "gid": uid });
        bundle.exec(&process).json()["keyring"].clone()
    });
    for keyring in &keyrings {
        let description = keyring["description"].as_str().unwrap();
        assert!(description.ends_with(&format!(";_ses.{}", bundle.id())), "{description}");
    }
    assert_eq!(keyrings[0]["id"], keyrings[1]["id"]);
}

#[test]
fn without_a_new_one_it_has_the_runtimes() {
    let mut bundle = Bundle::new("keyring");
    bundle.probe(&[]);
    let call = |flags: &[&str]| -> Value {
        let own = ["run", "--bundle", bundle.path().to_str().unwrap()];
        bundle.call(&[&own, flags, &[bundle.id()]].concat()).json()
    };
    let runtimes = call(&["--no-new-keyring"])["keyring"].clone();
    let description = runtimes["description"].as_str().unwrap_or_default();
    assert!(!description.contains(bundle.id()), "{description}");
    assert_ne!(runtimes, call(&[])["keyring"]);
}
