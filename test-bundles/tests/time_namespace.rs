//! `linux.timeOffsets` and time namespaces, new and joined (time_namespaces(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};
use test_bundles::holder::Holder;

/// Seconds between two looks at the clocks, at the most.
const MEANWHILE: i64 = 60;

/// How far the container's clocks are before the host's.
fn ahead(seen: &Value) -> [i64; 2] {
    [("monotonic", ClockId::Monotonic), ("boottime", ClockId::Boottime)].map(|(clock, id)| {
        let difference = seen["clocks"][clock].as_i64().unwrap() - clock_gettime(id).tv_sec;
        // The host's clock went on since.
        difference + MEANWHILE - (difference + MEANWHILE).rem_euclid(100)
    })
}

fn own() -> String {
    fs::read_link("/proc/self/ns/time").unwrap().to_string_lossy().into_owned()
}

#[test]
fn clocks_are_set_off() {
    let mut bundle = Bundle::new("time_namespace");
    bundle.config["linux"]["timeOffsets"] =
        json!({ "monotonic": { "secs": 86_400 }, "boottime": { "secs": 604_800, "nanosecs": 5 } });
    let init = bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    let seen = bundle.exec(&process).json();
    assert_ne!(seen["namespaces"]["time"], own());
    assert_eq!(seen["namespaces"]["time"], fs::read_link(format!("/proc/{init}/ns/time")).unwrap().to_str().unwrap());
    assert_eq!(seen["clocks"]["offsets"], json!([[86_400, 0], [604_800, 5]]));
    assert_eq!(ahead(&seen), [86_400, 604_800]);
}

#[test]
fn init_is_in_it() {
    let bundle = Bundle::new("time_namespace");
    let seen = bundle.seen();
    assert_ne!(seen["namespaces"]["time"], own());
    assert_eq!(seen["namespaces"]["time"], seen["namespaces"]["time_for_children"]);
    assert_eq!(ahead(&seen), [86_400, 604_800]);
}

#[test]
fn without_offsets_the_clocks_are_the_hosts() {
    let mut bundle = Bundle::new("time_namespace");
    bundle.config["linux"].as_object_mut().unwrap().remove("timeOffsets");
    let seen = bundle.seen();
    assert_ne!(seen["namespaces"]["time"], own());
    assert_eq!(ahead(&seen), [0, 0]);
}

#[test]
fn a_joined_one_keeps_its_offsets() {
    let holder = Holder::new(&["--time", "--boottime", "5000"]);
    let mut bundle = Bundle::new("time_namespace");
    bundle.config["linux"].as_object_mut().unwrap().remove("timeOffsets");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.iter_mut().find(|n| n["type"] == "time").unwrap()["path"] = json!(holder.path("time"));
    let seen = bundle.seen();
    assert_eq!(seen["namespaces"]["time"], fs::read_link(holder.path("time")).unwrap().to_str().unwrap());
    assert_eq!(ahead(&seen), [0, 5000]);
    bundle.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1 } });
    let ran = bundle.run();
    assert!(
        ran.status != 0 && (!ours() || ran.stderr.contains("/linux/timeOffsets: the time namespace is joined")),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_clock_before_the_start_of_the_machine_is_refused() {
    let mut bundle = Bundle::new("time_namespace");
    bundle.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": -4_000_000_000_i64 } });
    let ran = bundle.run();
    let says = "/linux/timeOffsets: write \"boottime -4000000000 0\"";
    assert!(
        ran.status != 0 && (!ours() || (ran.stderr.contains(says) && ran.stderr.contains("ERANGE"))),
        "{}",
        ran.stderr
    );
}
