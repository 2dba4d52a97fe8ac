//! The README's Kubernetes section: each of its snippets configures a containerd or describes a pod, and is run as it stands.
//!
//! A private containerd with CRI is given the snippet, for each release that is installed and has its form, and crictl does
//! what a kubelet does with the RuntimeClass and the pod. Needs crictl and CNI plugins from the lab.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use test_bundles::containerd::{Release, shim_binary};
use test_bundles::cri::{self, IMAGE, Node};
use test_bundles::{cgroups, leftovers, measure, wait_until};

const README: &str = include_str!("../../README.md");

/// The snippets of the section that are in `language`.
fn snippets(language: &str) -> Vec<String> {
    let section = README.split("\n### Kubernetes\n").nth(1).and_then(|rest| rest.split("\n### ").next()).unwrap();
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The documents of the YAML snippet by their kind.
fn document(kind: &str) -> Value {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&snippets("yaml").concat()).unwrap();
    documents.into_iter().find(|one| one["kind"] == kind).unwrap()
}

/// `64Mi`, in bytes.
fn quantity(text: &Value) -> u64 {
    text.as_str().and_then(|text| text.strip_suffix("Mi")).unwrap().parse::<u64>().unwrap() << 20
}

/// What Kubernetes offers depends on what the node says of the handler.
fn ensure_features(node: &Node, handler: &str) {
    let info = node.json(&["info"]);
    let handlers = info["runtimeHandlers"].as_array().into_iter().flatten();
    let features = handlers.filter(|one| one["name"] == handler).map(|one| &one["features"]).next();
    let expected = json!({"recursive_read_only_mounts": true, "user_namespaces": true});
    assert_eq!(features, Some(&expected), "{handler} of {info:#}");
}

/// The pod of the README's, as a kubelet asks for it with a handler: it runs, is limited, costs what the RuntimeClass says,
/// and goes.
fn run_pod(node: &Node, handler: &str, systemd: bool) {
    let pod = document("Pod");
    let name = pod["metadata"]["name"].as_str().unwrap();
    let container = &pod["spec"]["containers"][0];
    let parent = if systemd { node.0.slice() } else { format!("/{}", node.0.namespace) };
    let logs = node.0.dir().join(handler);
    let sandbox = json!({
        "metadata": {"name": name, "uid": handler, "namespace": "default"},
        "hostname": name,
        "log_directory": logs,
        "linux": {"cgroup_parent": parent},
    });
    let limit = quantity(&container["resources"]["limits"]["memory"]);
    let config = json!({
        "metadata": {"name": container["name"]},
        // There is no registry.
        "image": {"image": container["image"].as_str().unwrap().replace("busybox:1", IMAGE)},
        "command": container["command"],
        "log_path": "log",
        "linux": {"resources": {"memory_limit_in_bytes": limit}},
    });
    let (pod_id, id) = node.run(handler, &sandbox, &config);
    let said = || fs::read_to_string(logs.join("log")).unwrap_or_default();
    let expected = format!("hello from {name}");
    assert!(wait_until(Duration::from_secs(10), || said().contains(&expected)), "it says {}", said());
    assert_eq!(node.crictl(&["exec", "--sync", &id, "hostname"]), name);

    let cgroup = if systemd { format!("/{parent}/cri-containerd-{id}.scope") } else { format!("{parent}/{id}") };
    let file = cgroups::either("memory.limit_in_bytes", "memory.max");
    assert_eq!(cgroups::read(&cgroup, file).unwrap(), limit.to_string());
    ensure_cheap(node, &pod_id);

    node.crictl(&["rmp", "--force", &pod_id]);
    let shims = || leftovers::shims(&node.0, &pod_id);
    assert!(wait_until(Duration::from_secs(10), || shims().is_empty()), "{:?} are left", shims());
    assert_eq!(leftovers::cgroup_dirs(&cgroup), [] as [PathBuf; 0]);
}

/// A pod's shim is ours, and all that a pod has beside its containers takes no more memory than the RuntimeClass says: the
/// shim, and a pause container or the process that a shared pid namespace has.
fn ensure_cheap(node: &Node, pod_id: &str) {
    let mut pids = leftovers::shims(&node.0, pod_id);
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert!(!pids.is_empty() && pids.iter().all(|pid| name(pid).trim() == SHIM_COMM), "{pids:?}");
    let pause = node.json(&["inspectp", pod_id])["info"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    pids.extend(pause.filter(|pause| *pause > 0 && !pids.contains(pause)));
    let own = |pid: &u32| u64::from(measure::memory(*pid).unwrap().anonymous_kb) << 10;
    let used: u64 = pids.iter().map(own).sum();
    let overhead = quantity(&document("RuntimeClass")["overhead"]["podFixed"]["memory"]);
    assert!(used <= overhead, "{used} bytes are a pod's own");
    println!("a pod's own memory: {} kB", used >> 10);
}

/// A configuration of the README's.
struct Snippet {
    text: String,
    /// Of the configuration: 2 or 3.
    form: u64,
    handlers: toml::Table,
}

impl Snippet {
    fn all() -> Vec<Self> {
        let read = |text: String| {
            let table: toml::Table = text.parse().unwrap();
            let form = table["version"].as_integer().unwrap().unsigned_abs();
            let plugin = if form == 2 { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" };
            let handlers = table["plugins"][plugin]["containerd"]["runtimes"].as_table().unwrap().clone();
            Self { text, form, handlers }
        };
        snippets("toml").into_iter().map(read).collect()
    }

    fn is_for(&self, release: &Release) -> bool {
        (self.form == 3) == release.version.starts_with("2.")
    }

    fn is_systemd(&self) -> bool {
        self.text.contains("SystemdCgroup = true")
    }
}

/// Where the README has the binary installed.
const INSTALLED: &str = "/usr/local/bin/containerd-shim-myshim-v2";

/// As the kernel shows a process of it: the first 15 bytes.
const SHIM_COMM: &str = "containerd-shim";

#[test]
fn every_snippet_is_run() {
    if let Some(missing) = cri::missing() {
        println!("skipped: {missing}");
        return;
    }
    for release in Release::known() {
        if let Some(missing) = release.missing() {
            println!("skipped: {missing}");
            continue;
        }
        for snippet in Snippet::all().iter().filter(|snippet| snippet.is_for(&release)) {
            if snippet.is_systemd() && !cgroups::has_systemd() {
                println!("skipped: {}: SystemdCgroup: systemd is not the init system here", release.version);
                continue;
            }
            let shim = shim_binary().unwrap();
            let node = Node::start(&release, &snippet.text.replace(INSTALLED, shim.to_str().unwrap()));
            for handler in snippet.handlers.keys().filter(|handler| handler.starts_with("myshim")) {
                println!("containerd {}, {handler} of\n{}", release.version, snippet.text);
                run_pod(&node, handler, snippet.is_systemd());
                if release.version == "2.4" || snippet.text.contains(INSTALLED) {
                    ensure_features(&node, handler);
                }
            }
        }
    }
}

#[test]
fn the_runtime_class_names_a_handler_of_each_configuration() {
    let class = document("RuntimeClass");
    assert_eq!(document("Pod")["spec"]["runtimeClassName"], class["metadata"]["name"]);
    let snippets = Snippet::all();
    assert_eq!(snippets.len(), 5);
    for snippet in snippets {
        assert!(snippet.handlers.contains_key(class["handler"].as_str().unwrap()), "{}", snippet.text);
    }
}
