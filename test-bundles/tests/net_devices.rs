//! `linux.netDevices`: devices of the runtime's network namespace that move into the container (config-linux.md "Network
//! Devices"). The runtime gets a network namespace of its own here, with veth devices in it to lose.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::process::{Command, Output};

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

const DEVICES: &str = "ip link add first type veth peer name near1 && ip link add second type veth peer name near2 && \
    ip address add 192.0.2.1/24 dev first && ip -6 address add 2001:db8::1/64 dev first nodad && \
    ip address add 192.0.2.99/24 dev first valid_lft 1000 preferred_lft 1000 && \
    ip link set dev first up && ip link set lo up";

#[test]
fn devices_move_and_are_renamed() {
    let Some(ran) = run(json!({ "first": { "name": "inside" }, "second": {} }), "; ip -o link show >&2") else {
        return;
    };
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&ran)));
    assert_eq!(seen["/sys/class/net"], json!(["inside", "lo", "second"]));
    // Nothing is left where they came from.
    assert!(!said(&ran).contains("first") && !said(&ran).contains("second"), "{}", said(&ran));
}

#[test]
fn the_addresses_are_there_and_the_device_is_up() {
    let files = ["/proc/net/if_inet6", "/proc/net/fib_trie", "/sys/class/net/inside/flags"];
    let devices = json!({ "first": { "name": "inside" } });
    let Some(ran) = run_probe(devices, &[&["read"], &files[..]].concat(), "") else { return };
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&ran)));
    let text = |file: &str| seen[file].as_str().unwrap_or_default().to_owned();
    let inet6 = text(files[0]);
    let global: Vec<_> =
        inet6.lines().filter(|line| line.ends_with("inside") && line.starts_with("20010db8")).collect();
    if ours() {
        // runc 1.5 reads the addresses when the device is down, and these are gone.
        assert_eq!(global.len(), 1, "{inet6}");
        assert!(global[0].contains(" 40 00 80 ") || global[0].contains(" 40 00 82 "), "{inet6}");
    }
    assert!(text(files[1]).contains("192.0.2.1\n"), "{}", text(files[1]));
    assert!(!text(files[1]).contains("192.0.2.99"), "that one has an end");
    assert_eq!(i64::from_str_radix(text(files[2]).trim().trim_start_matches("0x"), 16).unwrap() & 1, 1);
}

#[test]
fn a_template_becomes_the_first_name_that_is_free() {
    if !ours() {
        // runc 1.5 looks for a device of the template's own name.
        return;
    }
    let Some(ran) = run(json!({ "first": { "name": "eth%d" }, "second": { "name": "eth%d" } }), "") else { return };
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&ran)));
    assert_eq!(seen["/sys/class/net"], json!(["eth0", "eth1", "lo"]));
}

#[test]
fn what_cannot_be_moved_is_said() {
    for (devices, words) in [
        (json!({ "missing": {} }), "/linux/netDevices/missing: find the device: ENODEV"),
        (json!({ "first": { "name": "lo" } }), "/linux/netDevices/first: the container has a device lo already"),
    ] {
        let Some(ran) = run(devices, "") else { return };
        assert!(!ran.status.success(), "{}", said(&ran));
        assert!(!ours() || said(&ran).contains(words), "{words}: {}", said(&ran));
    }
}

fn run(devices: Value, afterwards: &str) -> Option<Output> {
    run_probe(devices, &["list", "/sys/class/net"], afterwards)
}

/// Runs a container with `devices`, and `afterwards` in the namespace that they came from. None where another runtime has no
/// such thing.
fn run_probe(devices: Value, probe: &[&str], afterwards: &str) -> Option<Output> {
    let mut bundle = Bundle::new("net_devices");
    if !ours() && bundle.call(&["features"]).json()["linux"]["netDevices"]["enabled"] != true {
        return None;
    }
    bundle.config["linux"]["netDevices"] = devices;
    bundle.probe(probe);
    let inner = bundle.command();
    let mut command = Command::new("unshare");
    let script = format!("{DEVICES} || exit 99; \"$@\"; code=$?{afterwards}; exit $code");
    command.args(["--net", "sh", "-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    let ran = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
    assert_ne!(ran.status.code(), Some(99), "no veth devices: {}", said(&ran));
    bundle.assert_nothing_left();
    Some(ran)
}

fn said(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stderr).into_owned()
}
