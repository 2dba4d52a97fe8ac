//! What real clients send, resolved: none of it may be refused, and what becomes of each field is on record.
//!
//! `runc-spec.json` is what `runc spec` (1.1) writes; `ctr-run.json` what `ctr run` makes of `ctr oci spec`; the others
//! follow what containerd's CRI plugin and Docker send, with containerd's own default seccomp profile.

use std::time::Instant;

use config::Container;
use config::container::Seccomp;
use serde_json::Value;

use crate::common::{self, OwnNamespaces, resolve, sample};

/// The container as text, a line an item; masks and mount attributes in hexadecimal. `linux.resources` has tests of its own.
fn printed(container: &Container) -> String {
    let Container { id, bundle, root, process, hostname, domainname, mounts, namespaces, cgroup, devices, .. } =
        container;
    let Container { sysctl, masked_paths, readonly_paths, rootfs_propagation, seccomp, annotations, .. } = container;
    let mut lines = vec![
        format!("{id} {bundle:?} {root:?} {cgroup:?}"),
        format!("{hostname:?} {domainname:?} {rootfs_propagation:?} {:?}", container.mount_label),
        format!("{process:?}").replace(&format!("{:?}", process.capabilities), "…"),
        format!("{:x?}", process.capabilities),
        format!("masked {masked_paths:?}"),
        format!("read-only {readonly_paths:?}"),
    ];
    lines.extend(mounts.iter().map(|mount| format!("{mount:x?}")));
    lines.extend(namespaces.iter().map(|namespace| format!("{namespace:?}")));
    lines.extend(devices.iter().map(|device| format!("{device:?}")));
    lines.extend(sysctl.iter().chain(annotations).map(|(key, value)| format!("{key} = {value}")));
    if let Some(Seccomp { default_action, architectures, flags, rules, listener }) = seccomp {
        lines.push(format!("seccomp {default_action:?} {architectures:?} {flags:#x} {listener:?}"));
        lines.extend(rules.iter().map(|rule| format!("{rule:x?}")));
    }
    lines.join("\n")
}

/// The sample with its namespace paths led to namespaces that exist: the test's own, and a network of its own.
fn with_namespaces(name: &str, own: &OwnNamespaces) -> Value {
    let mut spec = sample(name);
    for namespace in spec["linux"]["namespaces"].as_array_mut().expect("a list") {
        if let Some(path) = namespace["path"].as_str() {
            namespace["path"] =
                own.path(path.rsplit('/').next().filter(|_| path.contains("/ns/")).unwrap_or("net")).into();
        }
    }
    spec
}

fn check(name: &str) {
    let own = OwnNamespaces::new();
    let container = resolve(&with_namespaces(name, &own)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    insta::assert_snapshot!(name, own.redact(&printed(&container)));
}

#[test]
fn runc_spec() {
    check("runc-spec");
}

#[test]
fn ctr_run() {
    check("ctr-run");
}

#[test]
fn docker_run() {
    check("docker-run");
}

#[test]
fn cri_sandbox() {
    check("cri-sandbox");
}

#[test]
fn cri_container() {
    check("cri-container");
}

/// A Create reads config.json once, so this time is part of every start. Printed, and held to a bound that only a mistake
/// of another order of magnitude would miss, on any machine and without optimisation.
#[test]
fn reading_is_quick() {
    let own = OwnNamespaces::new();
    let bundle = common::bundle(&with_namespaces("cri-container", &own));
    let mut times: Vec<_> = (0..101)
        .map(|_| {
            let start = Instant::now();
            common::read(bundle.path()).expect("the sample is good");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("config.json of a CRI container: {:?} (median)", times[50]);
    assert!(times[50].as_millis() < 50, "{:?}", times[50]);
}
