//! The README's Kubernetes section: each of its snippets configures a containerd or describes a pod, and is run as it stands.
//!
//! A private containerd with CRI is given the snippet, for each release that is installed and has its form, and crictl does
//! what a kubelet does with the RuntimeClass and the pod. Needs crictl and CNI plugins from the lab.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use test_bundles::containerd::{Containerd, Release, lab, shim_binary};
use test_bundles::ctr::finish;
use test_bundles::image::Image;
use test_bundles::{cgroups, leftovers, wait_until};

const README: &str = include_str!("../../README.md");

/// The image of the pod.
const IMAGE: &str = "docker.io/local/busybox:1";

/// The image of a pod's first container where the shim does not hold its namespaces.
const PAUSE: &str = "docker.io/local/pause:1";

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

/// What a snippet leaves to the machine: a network for pods, the image of a pause container, and no right to protect processes
/// from being killed for want of memory.
fn surroundings(form: u64, dir: &Path) -> String {
    let (plugins, conf) = (lab().join("sid/cni"), dir.join("cni"));
    let range = json!([[{"subnet": "10.99.0.0/24"}]]);
    let ipam = json!({"type": "host-local", "dataDir": conf.join("state"), "ranges": range});
    let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}]});
    fs::create_dir_all(&conf).unwrap();
    fs::write(conf.join("10-pods.conflist"), network.to_string()).unwrap();
    match form {
        2 => format!(
            "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {PAUSE:?}\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {plugins:?}\nconf_dir = {conf:?}\n"
        ),
        _ => format!(
            "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = {PAUSE:?}\n\
             [plugins.\"io.containerd.cri.v1.runtime\"]\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.cri.v1.runtime\".cni]\nbin_dirs = [{plugins:?}]\nconf_dir = {conf:?}\n"
        ),
    }
}

/// A containerd as a node of Kubernetes has it, and crictl in place of a kubelet.
struct Node(Containerd);

impl Node {
    fn start(release: &Release, snippet: &Snippet) -> Self {
        static IMAGES: OnceLock<(tempfile::TempDir, [Image; 2])> = OnceLock::new();
        let (_, images) = IMAGES.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let image = |name, command: &[&str]| Image::named(dir.path(), name, command).unwrap();
            let images = [image(IMAGE, &["sh"]), image(PAUSE, &["sleep", "1000000"])];
            (dir, images)
        });
        let shim = shim_binary().unwrap();
        let installed = snippet.text.replace(INSTALLED, shim.to_str().unwrap());
        let tables = |dir: &Path| installed + &surroundings(snippet.form, dir);
        let node = Self(Containerd::start_with_cri(release, tables).unwrap());
        images.iter().for_each(|image| image.import_for(&node.0, "k8s.io").unwrap());
        // CRI hears of images a moment later.
        for name in [IMAGE, PAUSE] {
            let known = wait_until(Duration::from_secs(10), || node.try_crictl(&["inspecti", name]).is_some());
            assert!(known, "{name} is not known:\n{}", node.0.log_tail("plugin"));
        }
        node
    }

    fn try_crictl(&self, args: &[&str]) -> Option<String> {
        let endpoint = format!("unix://{}", self.0.socket().display());
        let mut crictl = Command::new(lab().join("bin/crictl"));
        crictl
            .args(["--config", "/dev/null", "--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint])
            .args(args);
        let child = crictl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = finish(child).unwrap();
        if output.code != 0 {
            println!("crictl {args:?}: {}", output.stderr);
        }
        (output.code == 0).then_some(output.stdout)
    }

    fn crictl(&self, args: &[&str]) -> String {
        let said = self.try_crictl(args);
        said.unwrap_or_else(|| panic!("crictl {args:?} failed\n{}", self.0.log_tail("level=error"))).trim().to_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.crictl(args)).unwrap()
    }

    fn file(&self, name: &str, value: &Value) -> String {
        let path = self.0.dir().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// What Kubernetes offers depends on what the node says of the handler.
    fn ensure_features(&self, handler: &str) {
        let info = self.json(&["info"]);
        let handlers = info["runtimeHandlers"].as_array().into_iter().flatten();
        let features = handlers.filter(|one| one["name"] == handler).map(|one| &one["features"]).next();
        let expected = json!({"recursive_read_only_mounts": true, "user_namespaces": true});
        assert_eq!(features, Some(&expected), "{handler} of {info:#}");
    }

    /// The pod of the README's, as a kubelet asks for it with a handler: it runs, is limited, costs what the RuntimeClass says,
    /// and goes.
    fn run_pod(&self, handler: &str, systemd: bool) {
        let pod = document("Pod");
        let name = pod["metadata"]["name"].as_str().unwrap();
        let container = &pod["spec"]["containers"][0];
        let parent = if systemd { self.0.slice() } else { format!("/{}", self.0.namespace) };
        let logs = self.0.dir().join(handler);
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
        let (sandbox, config) = (self.file("pod.json", &sandbox), self.file("container.json", &config));
        let pod_id = self.crictl(&["runp", "--runtime", handler, &sandbox]);
        let id = self.crictl(&["create", &pod_id, &config, &sandbox]);
        self.crictl(&["start", &id]);
        let said = || fs::read_to_string(logs.join("log")).unwrap_or_default();
        let expected = format!("hello from {name}");
        assert!(wait_until(Duration::from_secs(10), || said().contains(&expected)), "it says {}", said());
        assert_eq!(self.crictl(&["exec", "--sync", &id, "hostname"]), name);

        let cgroup = if systemd { format!("/{parent}/cri-containerd-{id}.scope") } else { format!("{parent}/{id}") };
        let file = cgroups::either("memory.limit_in_bytes", "memory.max");
        assert_eq!(cgroups::read(&cgroup, file).unwrap(), limit.to_string());
        self.ensure_cheap(&pod_id);

        self.crictl(&["rmp", "--force", &pod_id]);
        let shims = || leftovers::shims(&self.0, &pod_id);
        assert!(wait_until(Duration::from_secs(10), || shims().is_empty()), "{:?} are left", shims());
        assert_eq!(leftovers::cgroup_dirs(&cgroup), [] as [PathBuf; 0]);
    }

    /// A pod's shim is ours, and all that a pod has beside its containers takes no more memory than the RuntimeClass says: the
    /// shim, and a pause container or the process that a shared pid namespace has.
    fn ensure_cheap(&self, pod_id: &str) {
        let mut pids = leftovers::shims(&self.0, pod_id);
        let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert!(!pids.is_empty() && pids.iter().all(|pid| name(pid).trim() == SHIM_COMM), "{pids:?}");
        let pause = self.json(&["inspectp", pod_id])["info"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pids.extend(pause.filter(|pause| *pause > 0 && !pids.contains(pause)));
        let own = |pid: &u32| {
            let maps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let line = maps.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
        };
        let used: u64 = pids.iter().map(own).sum();
        let overhead = quantity(&document("RuntimeClass")["overhead"]["podFixed"]["memory"]);
        assert!(used <= overhead, "{used} bytes are a pod's own");
        println!("a pod's own memory: {} kB", used >> 10);
    }
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
    if !lab().join("bin/crictl").exists() || !lab().join("sid/cni/ptp").exists() {
        println!("skipped: crictl and CNI plugins of the lab are not there");
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
            let node = Node::start(&release, snippet);
            for handler in snippet.handlers.keys().filter(|handler| handler.starts_with("myshim")) {
                println!("containerd {}, {handler} of\n{}", release.version, snippet.text);
                node.run_pod(handler, snippet.is_systemd());
                if release.version == "2.4" || snippet.text.contains(INSTALLED) {
                    node.ensure_features(handler);
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
