//! How a process ends, as its caller learns it: its code, or 128 + the signal.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::json;
use test_bundles::bundle::Bundle;

#[test]
fn the_exit_code_is_handed_on() {
    for code in [0, 1, 42, 126, 127, 255] {
        let mut bundle = Bundle::new("exit");
        assert_eq!(bundle.probe(&["exit", &code.to_string()]).run().status, code);
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    for signal in [1, 9, 15] {
        let mut bundle = Bundle::new("exit");
        // As pid 1 of a namespace it would survive its own signals.
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
        assert_eq!(bundle.probe(&["signal", &signal.to_string()]).run().status, 128 + signal);
    }
}

#[test]
fn pid_1_survives_its_own_signals() {
    assert_eq!(Bundle::new("exit").probe(&["signal", "15"]).run().status, 99);
}

#[test]
fn an_exec_has_its_own_end_and_init_lives_on() {
    let mut bundle = Bundle::new("exit");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    for (arguments, status) in [(json!(["/probe", "exit", "7"]), 7), (json!(["/probe", "signal", "9"]), 137)] {
        process["args"] = arguments;
        assert_eq!(bundle.exec(&process).status, status);
    }
    assert_eq!(bundle.state()["status"], "running");
}

#[test]
fn what_init_leaves_behind_ends_with_it() {
    // With a pid namespace the kernel sees to it, without one the runtime must. Bundle::run looks for the orphan.
    for keep in ["pid", "nothing"] {
        let mut bundle = Bundle::new("exit");
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid" || keep == "pid");
        assert_eq!(bundle.probe(&["fork-orphan"]).run().status, 0, "{keep}");
    }
}
