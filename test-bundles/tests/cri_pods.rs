//! What a kubelet does to a running pod: probes, ephemeral containers, log rotation, grace periods, memory that runs out, pods with
//! a user namespace, resources that change. On each containerd 2.x with a pause container and without, and the same through
//! runc: whatever is asserted holds there too, where nothing else is said.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_bundles::containerd::Release;
use test_bundles::cri::mode::{CONTAINER, POD, TARGET};
use test_bundles::cri::{self, IMAGE, Node};
use test_bundles::{leftovers, wait_until};

const HANDLERS: [&str; 3] = ["runc", "paused", "held"];

const LIMIT: Duration = Duration::from_secs(20);

/// A pod that is being worked with.
struct Pod<'a> {
    node: &'a Node,
    handler: &'static str,
    config: Value,
    id: String,
}

/// Does `what` on each containerd 2.x that is here and `takes`, with a pod of each handler whose namespace options are `options`.
fn each(takes: impl Fn(&Release) -> bool, options: &Value, what: impl Fn(&Pod<'_>)) {
    cri::each(takes, |node, release| {
        for handler in HANDLERS {
            println!("containerd {}, {handler}", release.version);
            let config = node.pod(handler, handler, options);
            let pod = Pod { node, handler, id: node.run_pod(handler, &config), config };
            what(&pod);
            node.crictl(&["rmp", "--force", &pod.id]);
            assert!(wait_until(LIMIT, || node.left().is_empty()), "left are {:?}", node.left());
        }
    });
}

impl Pod<'_> {
    /// Starts a container that runs `script`, with the pod's namespace options changed by `options`.
    fn container(&self, name: &str, script: &str, options: &Value) -> String {
        self.limited(name, script, options, &json!({}))
    }

    fn limited(&self, name: &str, script: &str, options: &Value, resources: &Value) -> String {
        let mut own = self.config["linux"]["security_context"]["namespace_options"].clone();
        own.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let container = json!({
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", script],
            "log_path": format!("{}-{name}", self.handler),
            "linux": {"security_context": {"namespace_options": own}, "resources": resources},
        });
        self.node.add(&self.id, &self.config, &container)
    }

    /// What `script` says in a container.
    fn exec(&self, id: &str, script: &str) -> String {
        self.node.crictl(&["exec", "--sync", id, "sh", "-c", script])
    }

    fn status(&self, id: &str) -> Value {
        self.node.json(&["inspect", id])["status"].take()
    }

    /// Its exit code and the reason, once it has ended.
    fn end(&self, id: &str) -> (u64, String) {
        assert!(wait_until(LIMIT, || self.status(id)["state"] == "CONTAINER_EXITED"), "{}", self.status(id));
        let status = self.status(id);
        (status["exitCode"].as_u64().unwrap(), status["reason"].as_str().unwrap().to_owned())
    }

    /// The command lines of the pod's processes that have `word` in theirs.
    fn running(&self, word: &str) -> Vec<String> {
        let parent = self.config["linux"]["cgroup_parent"].as_str().unwrap();
        let lines = leftovers::processes_in_cgroup(parent).into_iter().map(leftovers::command_line);
        lines.filter(|line| line.contains(word)).collect()
    }
}

#[test]
fn a_probe_that_takes_too_long_is_ended_and_its_container_goes_on() {
    each(cri::every, &json!({"pid": CONTAINER}), |pod| {
        let id = pod.container("probed", "exec sleep 1000000", &json!({}));
        // Who ignores SIGTERM is ended too; what it has left in the background is the container's, and holds no stream.
        let script = "trap '' TERM; sleep 7001 >/dev/null 2>&1 & while :; do sleep 0.1; done; echo 7002";
        let begun = Instant::now();
        let said = pod.node.crictl_fails(&["exec", "--sync", "--timeout", "1", &id, "sh", "-c", script]);
        assert!(said.contains("DeadlineExceeded") && said.contains("timeout 1s exceeded"), "{said}");
        assert!((1..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert!(wait_until(LIMIT, || pod.running("7002").is_empty()), "{:?}", pod.running("7002"));
        assert_eq!(pod.running("sleep 7001").len(), 1);
        assert_eq!(pod.exec(&id, "echo goes on"), "goes on");
        let said = pod.node.crictl_fails(&["exec", "--sync", &id, "sh", "-c", "exit 3"]);
        assert!(said.contains("exited with 3"), "{said}");
        pod.node.crictl(&["stop", "--timeout", "0", &id]);
        assert!(wait_until(LIMIT, || pod.running("sleep 7001").is_empty()), "{:?}", pod.running("7001"));
    });
}

#[test]
fn an_ephemeral_container_is_where_its_target_is_and_ends_with_it() {
    each(cri::every, &json!({"pid": CONTAINER}), |pod| {
        let target = pod.container("target", "trap 'exit 4' TERM; while :; do sleep 0.1; done; echo 7003", &json!({}));
        let aim = json!({"pid": TARGET, "target_id": target});
        let debugger = pod.container("debugger", "exec sleep 1000000", &aim);
        let namespace = "readlink /proc/self/ns/pid";
        assert_eq!(pod.exec(&debugger, namespace), pod.exec(&target, namespace));
        assert!(pod.exec(&debugger, "cat /proc/1/cmdline").contains("7003"));
        assert_eq!(pod.exec(&debugger, "ls /proc/1/root >/dev/null && kill -0 1 && echo traces"), "traces");
        // One that leaves takes nobody along.
        let second = pod.container("second", "exit 6", &aim);
        assert_eq!(pod.end(&second), (6, "Error".into()));
        assert_eq!(pod.exec(&target, "echo goes on"), "goes on");
        pod.node.crictl(&["stop", "--timeout", "20", &target]);
        assert_eq!(pod.end(&target), (4, "Error".into()));
        assert_eq!(pod.end(&debugger), (137, "Error".into()));
    });
}

#[test]
fn a_log_goes_on_in_a_new_file_and_loses_nothing() {
    each(cri::every, &json!({"pid": POD}), |pod| {
        let script = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.01; done";
        let id = pod.container("writer", script, &json!({}));
        let log = pod.node.0.dir().join("logs").join(format!("{}-writer", pod.handler));
        let lines = |path: &std::path::Path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let number = |line: &str| line.rsplit(' ').next()?.parse::<usize>().ok();
            text.lines().filter_map(number).collect::<Vec<_>>()
        };
        let mut rotated = Vec::new();
        for nth in 0..3 {
            assert!(wait_until(LIMIT, || lines(&log).len() > 10));
            let aside = log.with_extension(nth.to_string());
            fs::rename(&log, &aside).unwrap();
            assert!(pod.node.try_crictl(&["logs", "--reopen", "--tail", "0", &id]).is_some());
            rotated.push(aside);
        }
        assert!(wait_until(LIMIT, || lines(&log).len() > 10));
        pod.node.crictl(&["stop", "--timeout", "0", &id]);
        rotated.push(log);
        let all: Vec<_> = rotated.iter().flat_map(|path| lines(path)).collect();
        assert_eq!(all, (0..all.len()).collect::<Vec<_>>());
    });
}

#[test]
fn who_does_not_end_in_its_grace_period_is_killed_with_all_it_started() {
    // In a pid namespace of the pod's no end of a first process does it.
    each(cri::every, &json!({"pid": POD}), |pod| {
        let script = "trap '' TERM; sleep 7004 & while :; do sleep 0.1; done";
        let stubborn = pod.container("stubborn", script, &json!({}));
        let polite = pod.container("polite", "trap 'exit 5' TERM; while :; do sleep 0.1; done", &json!({}));
        // Itself, and the shell that has been given the word.
        assert!(wait_until(LIMIT, || pod.running("sleep 7004").len() == 2), "{:?}", pod.running("7004"));
        let begun = Instant::now();
        pod.node.crictl(&["stop", "--timeout", "20", &polite]);
        assert_eq!(pod.end(&polite), (5, "Error".into()));
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        let begun = Instant::now();
        pod.node.crictl(&["stop", "--timeout", "2", &stubborn]);
        assert!((2..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(pod.end(&stubborn), (137, "Error".into()));
        assert!(wait_until(LIMIT, || pod.running("sleep 7004").is_empty()), "{:?}", pod.running("7004"));
    });
}

#[test]
fn memory_that_ran_out_is_the_reason_told() {
    for mode in [POD, CONTAINER] {
        each(cri::every, &json!({"pid": mode}), |pod| {
            let limit = json!({"memory_limit_in_bytes": 32 << 20, "memory_swap_limit_in_bytes": 32 << 20});
            let id = pod.limited("greedy", "exec tail -c 900000000 /dev/zero", &json!({}), &limit);
            let (code, reason) = pod.end(&id);
            // runc's shim loses it now and then.
            let lost = pod.handler == "runc" && reason == "Error";
            assert!(code == 137 && (reason == "OOMKilled" || lost), "{code} {reason}");
        });
    }
}

#[test]
fn a_pod_with_a_user_namespace_takes_all_that_others_do() {
    let map = json!([{"container_id": 0, "host_id": 200_000, "length": 65536}]);
    for mode in [POD, CONTAINER] {
        let options = json!({"pid": mode, "userns_options": {"mode": POD, "uids": map, "gids": map}});
        // Up to 2.1 containerd asks only runc's type for what it can.
        each(
            |release| release.version != "2.1",
            &options,
            |pod| {
                let id =
                    pod.container("mapped", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done", &json!({}));
                assert_eq!(pod.exec(&id, "id -u; set -- $(cat /proc/self/uid_map); echo $*"), "0\n0 200000 65536");
                assert_eq!(pod.exec(&id, "touch /x /dev/shm/x && hostname"), "pod");
                let debugger =
                    pod.container("debugger", "exec sleep 1000000", &json!({"pid": TARGET, "target_id": id}));
                let namespaces = "for kind in pid user; do readlink /proc/self/ns/$kind; done";
                assert_eq!(pod.exec(&debugger, namespaces), pod.exec(&id, namespaces));
                let said = pod.node.crictl_fails(&["exec", "--sync", "--timeout", "1", &id, "sleep", "7005"]);
                assert!(said.contains("DeadlineExceeded"), "{said}");
                assert!(wait_until(LIMIT, || pod.running("sleep 7005").is_empty()));
                pod.node.crictl(&["stop", "--timeout", "20", &id]);
                assert_eq!(pod.end(&id), (5, "Error".into()));
            },
        );
    }
}

/// crictl has no word for it: one gRPC call by curl.
#[test]
fn a_pods_resources_may_change() {
    let curl = Command::new("curl").arg("--version").output();
    if !curl.is_ok_and(|curl| String::from_utf8_lossy(&curl.stdout).contains(" HTTP2 ")) {
        println!("skipped: no curl here that speaks HTTP/2");
        return;
    }
    each(
        |release| release.version != "2.1",
        &json!({"pid": CONTAINER}),
        |pod| {
            let id = pod.container("one", "exec sleep 1000000", &json!({}));
            // UpdatePodSandboxResourcesRequest: pod_sandbox_id = 1, resources = 3 with memory_limit_in_bytes = 4.
            let message = [&[10, 64], pod.id.as_bytes(), &[26, 5, 32, 128, 128, 128, 16]].concat();
            assert_eq!(call(pod.node, "UpdatePodSandboxResources", &message), "0");
            let resources = &pod.node.json(&["inspectp", &pod.id])["info"]["resources"];
            assert_eq!(resources["linux"]["memory_limit_in_bytes"], 32 << 20, "{resources}");
            // The sum of what containers may use is no limit of the pod's.
            assert_eq!(pod.exec(&id, "echo goes on"), "goes on");
            let log = pod.node.0.log_tail("has changed");
            assert_eq!(
                log.contains(&format!("the record of sandbox {} has changed: extensions", pod.id)),
                pod.handler == "held",
                "{log}"
            );
        },
    );
}

/// The status of a call of CRI's runtime service.
fn call(node: &Node, method: &str, message: &[u8]) -> String {
    let body = node.0.dir().join("call");
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    fs::write(&body, [&[0], &length[..], message].concat()).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--http2-prior-knowledge", "-D", "-", "-o", "/dev/null", "--unix-socket"]).arg(node.0.socket());
    curl.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary"]);
    curl.arg(format!("@{}", body.display())).arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"));
    let said = String::from_utf8(curl.output().unwrap().stdout).unwrap();
    let status = said.lines().find_map(|line| line.strip_prefix("grpc-status: "));
    status.unwrap_or_else(|| panic!("{said}")).trim().to_owned()
}
