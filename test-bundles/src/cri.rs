//! A containerd with CRI, as a node of Kubernetes has it, and crictl in place of the kubelet. Both are the lab's, and so are the
//! plugins that make a pod's network.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::containerd::{Containerd, Release, lab};
use crate::ctr::finish;
use crate::image::Image;
use crate::{leftovers, wait_until};

/// The image of every container.
pub const IMAGE: &str = "docker.io/local/busybox:1";

/// The image of a pod's first container where the shim does not hold its namespaces.
const PAUSE: &str = "docker.io/local/pause:1";

/// CRI's `NamespaceMode`: who shares a namespace with a container.
pub mod mode {
    /// The pod.
    pub const POD: u8 = 0;
    /// Nobody.
    pub const CONTAINER: u8 = 1;
    /// The host.
    pub const NODE: u8 = 2;
    /// Another container, which is named.
    pub const TARGET: u8 = 3;
}

/// A configuration with the handlers `paused` for pods with a pause container, `held` for pods without, and `runc`.
pub const HANDLERS: &str = "version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.paused]
runtime_type = 'io.containerd.myshim.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.held]
runtime_type = 'io.containerd.myshim.v2'
sandboxer = 'shim'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
";

/// Does `what` on a node of each containerd 2.x that is here and `takes`, with the handlers `paused`, `held` and `runc`.
pub fn each(takes: impl Fn(&Release) -> bool, what: impl Fn(&Node, &Release)) {
    if let Some(missing) = missing() {
        println!("skipped: {missing}");
        return;
    }
    let releases = Release::known().into_iter().filter(|release| release.version.starts_with("2."));
    for release in releases.filter(takes) {
        match release.missing() {
            Some(missing) => println!("skipped: {missing}"),
            None => what(&Node::start(&release, HANDLERS), &release),
        }
    }
}

/// Every containerd, for [`each`].
pub fn every(_: &Release) -> bool {
    true
}

/// Why there can be none here, or `None`.
pub fn missing() -> Option<&'static str> {
    let is_there = lab().join("bin/crictl").exists() && lab().join("sid/cni/ptp").exists();
    (!is_there).then_some("crictl and CNI plugins of the lab are not there")
}

/// What a configuration leaves to the machine: a network for pods, the image of a pause container, and no right to protect processes
/// from being killed for want of memory.
fn surroundings(form: &str, dir: &Path) -> std::io::Result<String> {
    let (plugins, conf) = (lab().join("sid/cni"), dir.join("cni"));
    let range = json!([[{"subnet": "10.99.0.0/24"}]]);
    let ipam = json!({"type": "host-local", "dataDir": conf.join("state"), "ranges": range});
    let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}]});
    fs::create_dir_all(&conf)?;
    fs::write(conf.join("10-pods.conflist"), network.to_string())?;
    let (plugins, conf) = (plugins.display(), conf.display());
    Ok(match form {
        "version = 2" => format!(
            "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {PAUSE:?}\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{plugins}\"\nconf_dir = \"{conf}\"\n"
        ),
        _ => format!(
            "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = {PAUSE:?}\n\
             [plugins.\"io.containerd.cri.v1.runtime\"]\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.cri.v1.runtime\".cni]\nbin_dirs = [\"{plugins}\"]\nconf_dir = \"{conf}\"\n"
        ),
    })
}

/// The node.
#[derive(Debug)]
pub struct Node(pub Containerd);

impl Node {
    /// Starts `release` with `configuration`, whose first line is its form, and gives it the images.
    pub fn start(release: &Release, configuration: &str) -> Self {
        static IMAGES: OnceLock<(tempfile::TempDir, [Image; 2])> = OnceLock::new();
        let (_, images) = IMAGES.get_or_init(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let image = |name, command: &[&str]| Image::named(dir.path(), name, command).expect("an image");
            let images = [image(IMAGE, &["sh"]), image(PAUSE, &["sleep", "1000000"])];
            (dir, images)
        });
        let form = configuration.lines().next().unwrap_or_default();
        let tables = |dir: &Path| configuration.to_owned() + &surroundings(form, dir).expect("a network's description");
        let node = Self(Containerd::start_with_cri(release, tables).expect("a containerd"));
        for image in images {
            image.import_for(&node.0, "k8s.io").expect("an import");
        }
        // CRI hears of images a moment later.
        for name in [IMAGE, PAUSE] {
            let known = wait_until(Duration::from_secs(10), || node.try_crictl(&["inspecti", name]).is_some());
            assert!(known, "{name} is not known:\n{}", node.0.log_tail("plugin"));
        }
        node
    }

    /// What crictl says; nothing where it fails.
    pub fn try_crictl(&self, args: &[&str]) -> Option<String> {
        self.ask(args).inspect_err(|said| println!("crictl {args:?}: {said}")).ok()
    }

    /// What crictl complains of, which has to fail.
    pub fn crictl_fails(&self, args: &[&str]) -> String {
        self.ask(args).expect_err("crictl succeeds")
    }

    /// What crictl prints, or where it fails what it prints as errors.
    pub fn ask(&self, args: &[&str]) -> Result<String, String> {
        let endpoint = format!("unix://{}", self.0.socket().display());
        let mut crictl = Command::new(lab().join("bin/crictl"));
        let endpoints = ["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint];
        crictl.args(["--config", "/dev/null", "--timeout", "60s"]).args(endpoints).args(args);
        let child = crictl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let output = finish(child.expect("crictl starts")).expect("crictl ends");
        if output.code == 0 { Ok(output.stdout.trim().to_owned()) } else { Err(output.stderr) }
    }

    /// What crictl says, which has to succeed.
    pub fn crictl(&self, args: &[&str]) -> String {
        let said = self.try_crictl(args);
        said.unwrap_or_else(|| panic!("crictl {args:?} failed\n{}", self.0.log_tail("level=error")))
    }

    /// What crictl says, in JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.crictl(args)).expect("JSON")
    }

    /// Runs a pod through `handler`, with one container, from CRI's `PodSandboxConfig` and `ContainerConfig`; says the ids of
    /// both.
    pub fn run(&self, handler: &str, pod: &Value, container: &Value) -> (String, String) {
        let pod_id = self.run_pod(handler, pod);
        let id = self.add(&pod_id, pod, container);
        (pod_id, id)
    }

    /// Runs a pod without a container; says its id.
    pub fn run_pod(&self, handler: &str, pod: &Value) -> String {
        self.crictl(&["runp", "--runtime", handler, &self.file("pod", pod)])
    }

    /// A `PodSandboxConfig`: `options` are its `NamespaceOption`.
    pub fn pod(&self, name: &str, uid: &str, options: &Value) -> Value {
        json!({
            "metadata": {"name": name, "uid": uid, "namespace": "default"},
            "hostname": "pod",
            "log_directory": self.0.dir().join("logs"),
            "linux": {"cgroup_parent": self.cgroup(), "security_context": {"namespace_options": options}},
        })
    }

    /// What pods of [`Node::pod`] have left here.
    pub fn left(&self) -> Vec<String> {
        leftovers::of_clients(&self.0.socket(), &self.cgroup())
    }

    fn cgroup(&self) -> String {
        format!("/{}", self.0.namespace)
    }

    /// Creates a container in a pod that runs and starts it; says its id.
    pub fn add(&self, pod_id: &str, pod: &Value, container: &Value) -> String {
        let id = self.crictl(&["create", pod_id, &self.file("container", container), &self.file("pod", pod)]);
        self.crictl(&["start", &id]);
        id
    }

    /// The path of a file of the node's that has `value`, for crictl to read.
    pub fn file(&self, name: &str, value: &Value) -> String {
        let path = self.0.dir().join(name).with_extension("json");
        fs::write(&path, value.to_string()).expect("a file");
        path.to_string_lossy().into_owned()
    }
}
