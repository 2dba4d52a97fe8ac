//! `linux.sysctl`: values of the container's own namespaces (sysctl(8)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;

use serde_json::json;
use test_bundles::bundle::Bundle;

#[test]
fn values_are_set_in_the_containers_namespaces_alone() {
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    let own = fs::read_to_string(FORWARD).unwrap();
    let mut bundle = Bundle::new("sysctl");
    bundle.probe(&[
        "read",
        FORWARD,
        "/proc/sys/net/ipv4/ping_group_range",
        "/proc/sys/kernel/shm_rmid_forced",
        "/proc/sys/fs/mqueue/msg_max",
    ]);
    assert_eq!(
        bundle.seen(),
        json!({
            FORWARD: "1\n",
            "/proc/sys/net/ipv4/ping_group_range": "3\t7\n",
            "/proc/sys/kernel/shm_rmid_forced": "1\n",
            "/proc/sys/fs/mqueue/msg_max": "17\n",
        })
    );
    assert_eq!(fs::read_to_string(FORWARD).unwrap(), own);
}

#[test]
fn one_of_the_whole_machine_is_refused() {
    let mut bundle = Bundle::new("sysctl");
    bundle.config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" });
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("vm.swappiness"), "{}", ran.stderr);
}

#[test]
fn one_of_a_namespace_that_is_shared_with_the_host_is_refused() {
    let mut bundle = Bundle::new("sysctl");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "3 7" });
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("net.ipv4.ping_group_range"), "{}", ran.stderr);
}
