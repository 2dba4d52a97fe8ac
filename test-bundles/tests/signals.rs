//! Signal dispositions and mask, which survive execve(2) and are the runtime's to reset (signal(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::{Value, json};
use test_bundles::bundle::Bundle;

#[test]
fn init_starts_with_defaults_and_nothing_blocked() {
    assert_clean(&Bundle::new("signals").seen());
}

#[test]
fn an_exec_too() {
    let mut bundle = Bundle::new("signals");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    assert_clean(&bundle.exec(&process).json());
}

#[test]
fn a_signal_of_the_clients_choice_ends_init() {
    let mut bundle = Bundle::new("signals");
    // Only a process without default handling hears of a signal as pid 1; outside of a pid namespace all do.
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    for signal in ["USR1", "SIGTERM", "9"] {
        bundle.probe(&["sleep"]).start();
        bundle.call(&["kill", bundle.id(), signal]).success();
        bundle.wait();
        assert_eq!(bundle.state()["status"], "stopped", "{signal}");
        bundle.call(&["delete", bundle.id()]).success();
        bundle.assert_nothing_left();
    }
}

#[test]
fn pid_1_is_immune_to_what_it_does_not_handle() {
    let mut bundle = Bundle::new("signals");
    bundle.probe(&["sleep"]).start();
    bundle.call(&["kill", bundle.id(), "TERM"]).success();
    assert_eq!(bundle.state()["status"], "running");
    bundle.call(&["kill", bundle.id(), "KILL"]).success();
    bundle.wait();
    assert_eq!(bundle.state()["status"], "stopped");
}

#[track_caller]
fn assert_clean(seen: &Value) {
    // SIGPIPE is 13: ignored in most runtimes themselves.
    assert_eq!(seen["signals"]["blocked"], json!([]));
    assert_eq!(seen["signals"]["pending"], json!([[], []]));
    let ignored: Vec<_> =
        seen["signals"]["ignored"].as_array().unwrap().iter().filter(|signal| signal.as_u64() < Some(32)).collect();
    assert_eq!(json!(ignored), json!([]));
}
