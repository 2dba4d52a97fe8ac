//! Pods through CRI while containerd crashes or their shim does, with a pause container and without: nothing is lost, nothing is
//! left.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use test_bundles::cri::{self, IMAGE, Node, mode};
use test_bundles::{leftovers, wait_until};

/// Containers that share the pod's pid namespace, and such as have their own.
const PID_MODES: [(&str, u8); 2] = [("shared", mode::POD), ("own", mode::CONTAINER)];

const LIMIT: Duration = Duration::from_secs(20);

/// Does `what` on each containerd 2.x that is here, with a pod of either handler and of either pid mode.
fn each(what: impl Fn(&Node, &str, &str)) {
    cri::each(cri::every, |node, release| {
        for (handler, (mode, pid)) in ["paused", "held"].into_iter().flat_map(|one| PID_MODES.map(|mode| (one, mode))) {
            println!("containerd {}, {handler}, {mode} pid namespace", release.version);
            let options = json!({"pid": pid});
            let pod = node.pod(mode, &format!("{handler}-{mode}"), &options);
            let container = json!({
                "metadata": {"name": "sleeper"},
                "image": {"image": IMAGE},
                "command": ["sh", "-c", "trap 'exit 7' TERM; sleep 1000000 & wait"],
                "log_path": format!("{handler}-{mode}"),
                "linux": {"security_context": {"namespace_options": options}},
            });
            let (pod_id, id) = node.run(handler, &pod, &container);
            what(node, &pod_id, &id);
            // containerd may be at clearing up after a dead shim: then a kubelet asks again.
            assert!(wait_until(LIMIT, || node.try_crictl(&["rmp", "--force", &pod_id]).is_some()));
            let shims = || leftovers::shims(&node.0, &pod_id);
            assert!(wait_until(LIMIT, || shims().is_empty()), "{:?} are left", shims());
            assert!(wait_until(LIMIT, || node.left().is_empty()), "left are {:?}", node.left());
        }
    });
}

fn state(node: &Node, what: &str, id: &str) -> String {
    node.json(&[what, id])["status"]["state"].as_str().unwrap().to_owned()
}

fn restart(node: &Node) {
    node.0.kill().unwrap();
    node.0.restart().unwrap();
    // The socket is there before the service is.
    assert!(wait_until(LIMIT, || node.try_crictl(&["version"]).is_some()));
}

#[test]
fn a_pod_outlives_a_crash_of_containerd() {
    each(|node, pod, id| {
        let shims = leftovers::shims(&node.0, pod);
        restart(node);
        assert_eq!(leftovers::shims(&node.0, pod), shims, "other shims");
        assert_eq!(
            (state(node, "inspectp", pod), state(node, "inspect", id)),
            ("SANDBOX_READY".into(), "CONTAINER_RUNNING".into())
        );
        assert_eq!(node.crictl(&["exec", "--sync", id, "hostname"]), "pod");
        node.crictl(&["stop", "--timeout", "10", id]);
        assert_eq!(node.json(&["inspect", id])["status"]["exitCode"], 7);
    });
}

#[test]
fn an_end_while_containerd_is_away_is_told() {
    each(|node, pod, id| {
        let pid = node.json(&["inspect", id])["info"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap();
        node.0.kill().unwrap();
        leftovers::signal(pid, Signal::SIGTERM);
        assert!(wait_until(LIMIT, || !leftovers::is_running(pid)));
        node.0.restart().unwrap();
        assert!(wait_until(LIMIT, || node.try_crictl(&["version"]).is_some()));
        assert!(wait_until(LIMIT, || state(node, "inspect", id) == "CONTAINER_EXITED"));
        assert_eq!(state(node, "inspectp", pod), "SANDBOX_READY");
    });
}

#[test]
fn of_a_pod_whose_shim_was_killed_nothing_is_left() {
    each(|node, pod, id| {
        for shim in leftovers::shims(&node.0, pod) {
            leftovers::signal(shim, Signal::SIGKILL);
        }
        assert!(
            wait_until(LIMIT, || state(node, "inspect", id) == "CONTAINER_EXITED"),
            "{}",
            state(node, "inspect", id)
        );
        // Until containerd has heard of the shim's end it asks there, and crictl is told that nobody answers.
        assert!(wait_until(LIMIT, || {
            node.try_crictl(&["inspectp", pod]).is_some_and(|said| said.contains("\"SANDBOX_NOTREADY\""))
        }));
    });
}
