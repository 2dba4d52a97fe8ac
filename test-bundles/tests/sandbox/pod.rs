//! A shim that is asked to be a pod's sandbox, as containerd asks it, and containers in it: one server, one ttrpc client each
//! for its two services, no containerd.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteRequest, DeleteResponse, ShutdownRequest, StartRequest, WaitRequest,
};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, ShutdownSandboxRequest, StartSandboxRequest, StartSandboxResponse, StopSandboxRequest,
    WaitSandboxRequest, WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_sync::SandboxClient;
use containerd_shim_protos::shim_sync::TaskClient;
use containerd_shim_protos::ttrpc::context::{Context, with_duration};
use containerd_shim_protos::ttrpc::{self, Client, Code};
use serde_json::{Value, json};
use test_bundles::bundle::{self, Bundle};
use test_bundles::containerd::shim_binary;
pub(crate) use test_bundles::cri::mode::{CONTAINER, NODE};

/// For a call that does not wait for a container.
const LIMIT: Duration = Duration::from_secs(20);

/// A shim's server and the bundle of its sandbox.
pub(crate) struct Pod {
    pub(crate) id: String,
    dir: tempfile::TempDir,
    pub(crate) server: i32,
    ended: Server,
    address: String,
    pub(crate) sandbox: SandboxClient,
    pub(crate) tasks: TaskClient,
}

/// A call's code and text where it failed.
pub(crate) fn refusal<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> (Code, String) {
    match result {
        Err(ttrpc::Error::RpcStatus(status)) => (status.code(), status.message().to_owned()),
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn limit() -> Context {
    with_duration(LIMIT * test_bundles::slower())
}

/// A length-delimited field.
pub(crate) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 128).expect("a short field");
    [&[number << 3 | 2, length], content].concat()
}

/// A `NamespaceOption`.
pub(crate) fn modes(network: u8, pid: u8, ipc: u8) -> Vec<u8> {
    vec![1 << 3, network, 2 << 3, pid, 3 << 3, ipc]
}

/// As [`modes`], in a user namespace in which root is the host's `MAPPED`.
pub(crate) fn users(modes: &[u8]) -> Vec<u8> {
    let map = [&[1 << 3][..], &varint(MAPPED), &[2 << 3, 0, 3 << 3], &varint(65536)].concat();
    let users = field(5, &[&[1 << 3, 0][..], &field(2, &map), &field(3, &map)].concat());
    [modes, &users].concat()
}

/// The first id of the host's that pods with a user namespace have.
pub(crate) const MAPPED: u32 = 200_000;

fn varint(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 128 {
        bytes.push(number.to_le_bytes()[0] | 128);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}

/// A `LinuxPodSandboxConfig` as field 8 of its `PodSandboxConfig`.
pub(crate) fn linux(modes: &[u8], cgroup_parent: &str, sysctls: &[(&str, &str)]) -> Vec<u8> {
    let pair =
        |(name, value): &(&str, &str)| field(3, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    let sysctls = sysctls.iter().flat_map(pair).collect::<Vec<_>>();
    let parent = if cgroup_parent.is_empty() { vec![] } else { field(1, cgroup_parent.as_bytes()) };
    field(8, &[parent, field(2, &field(1, modes)), sysctls].concat())
}

impl Pod {
    /// Starts a server, as for a sandbox: in a bundle without a config.json.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("sandbox-{}-{:03}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix(&format!("pod-{id}-")).tempdir().unwrap();
        // Nobody but root walks into it, as containerd makes them.
        fs::DirBuilder::new().mode(0o700).create(dir.path().join("bundle")).unwrap();
        let params = BootstrapParams {
            instance_id: id.clone(),
            namespace: "test".into(),
            containerd_grpc_address: "/nonexistent/c.sock".into(),
            containerd_ttrpc_address: "/nonexistent/c.sock.ttrpc".into(),
            socket_dir: Some(dir.path().join("s").display().to_string()),
            ..BootstrapParams::default()
        };
        let answer = run(&id, &dir.path().join("bundle"), "start", &params.write_to_bytes().unwrap());
        let answer = BootstrapResult::parse_from_bytes(&answer).unwrap();
        let connect = || Client::connect(&answer.address).unwrap();
        let tasks = TaskClient::new(connect());
        let server = tasks.connect(limit(), &Default::default()).unwrap().shim_pid.try_into().unwrap();
        let ended = Server(bundle::pidfd(server).unwrap());
        Self { id, dir, server, ended, sandbox: SandboxClient::new(connect()), tasks, address: answer.address.clone() }
    }

    /// A pod with these options that is ready, and what Start answered.
    pub(crate) fn ready(config: &[u8]) -> (Self, StartSandboxResponse) {
        let pod = Self::new();
        pod.sandbox.create_sandbox(limit(), &pod.request(config)).unwrap();
        let started = pod.start().unwrap();
        (pod, started)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub(crate) fn request(&self, config: &[u8]) -> CreateSandboxRequest {
        let options =
            Any { type_url: "runtime.v1.PodSandboxConfig".into(), value: config.into(), ..Default::default() };
        CreateSandboxRequest {
            sandbox_id: self.id.clone(),
            bundle_path: self.bundle().display().to_string(),
            options: MessageField::some(options),
            ..Default::default()
        }
    }

    pub(crate) fn start(&self) -> ttrpc::Result<StartSandboxResponse> {
        self.sandbox.start_sandbox(limit(), &StartSandboxRequest { sandbox_id: self.id.clone(), ..Default::default() })
    }

    pub(crate) fn stop(&self, timeout_secs: u32) -> ttrpc::Result<()> {
        let request = StopSandboxRequest { sandbox_id: self.id.clone(), timeout_secs, ..Default::default() };
        self.sandbox.stop_sandbox(limit(), &request).map(drop)
    }

    pub(crate) fn wait(&self, limit: Duration) -> ttrpc::Result<WaitSandboxResponse> {
        let request = WaitSandboxRequest { sandbox_id: self.id.clone(), ..Default::default() };
        SandboxClient::new(Client::connect(&self.address).unwrap()).wait_sandbox(with_duration(limit), &request)
    }

    /// State and pid by Status.
    pub(crate) fn status(&self) -> (String, u32) {
        let status = self.sandbox.sandbox_status(limit(), &self.status_request(false)).unwrap();
        (status.state, status.pid)
    }

    pub(crate) fn status_request(&self, verbose: bool) -> containerd_shim_protos::sandbox_api::SandboxStatusRequest {
        containerd_shim_protos::sandbox_api::SandboxStatusRequest {
            sandbox_id: self.id.clone(),
            verbose,
            ..Default::default()
        }
    }

    /// Where the pod's namespaces are, by kind: what Status says to those who ask for more.
    pub(crate) fn namespaces(&self) -> Value {
        let status = self.sandbox.sandbox_status(limit(), &self.status_request(true)).unwrap();
        serde_json::from_str(&status.info["namespaces"]).unwrap()
    }

    /// Whether new clients find the server.
    pub(crate) fn listens(&self) -> bool {
        socket(&self.address).exists()
    }

    /// ShutdownSandbox, after which server, socket and all else must be gone.
    pub(crate) fn shutdown(self) {
        let request = ShutdownSandboxRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.sandbox.shutdown_sandbox(limit(), &request).unwrap();
        self.expect_gone();
    }

    /// Checks that the server ends, and that nothing is left of it.
    pub(crate) fn expect_gone(self) {
        // Hang up, as containerd does when it has its answer.
        let Self { dir, ended, address, sandbox, tasks, id, .. } = self;
        drop((sandbox, tasks));
        bundle::wait(&ended.0);
        assert!(!socket(&address).exists(), "the socket is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(&*dir.path().to_string_lossy())).collect();
        assert!(left.is_empty(), "{left:?}");
        let cgroups = cgroups(&format!("test/{id}"));
        assert!(cgroups.is_empty(), "{cgroups:?}");
        assert!(fs::read_dir(dir.path().join("bundle/containers")).map_or(0, Iterator::count) == 0, "members are left");
    }

    /// The verb `delete` in the sandbox's bundle.
    pub(crate) fn delete(&self) -> DeleteResponse {
        DeleteResponse::parse_from_bytes(&run(&self.id, &self.bundle(), "delete", &[])).unwrap()
    }

    /// Ends the server without asking it.
    pub(crate) fn kill_server(&self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.server), nix::sys::signal::Signal::SIGKILL).unwrap();
        bundle::wait(&self.ended.0);
    }

    /// A container of the pod, not yet created, whose namespaces are named as CRI names them.
    pub(crate) fn container(&self, arguments: &[&str]) -> Container<'_> {
        let pid = self.status().1;
        let mut bundle = Bundle::new("lifecycle");
        bundle.probe(arguments);
        bundle.config.as_object_mut().unwrap().remove("hostname");
        let shared = |kind, name| json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")});
        let shared = [shared("network", "net"), shared("ipc", "ipc"), shared("uts", "uts")];
        bundle.config["linux"]["namespaces"] =
            json!([{"type": "mount"}, {"type": "pid"}, shared[0], shared[1], shared[2]]);
        Container { pod: self, bundle }
    }
}

fn socket(address: &str) -> &Path {
    Path::new(address.trim_start_matches("unix://"))
}

/// The server's process. One that a test leaves behind is killed.
struct Server(std::os::fd::OwnedFd);

impl Drop for Server {
    fn drop(&mut self) {
        _ = rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL);
    }
}

/// A container of a pod.
pub(crate) struct Container<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) bundle: Bundle,
}

impl Container<'_> {
    /// Lets it share the pod's pid namespace too.
    pub(crate) fn shared_pid(mut self) -> Self {
        let path = format!("/proc/{}/ns/pid", self.pod.status().1);
        self.bundle.config["linux"]["namespaces"][1] = json!({"type": "pid", "path": path});
        self
    }

    pub(crate) fn create(&self) -> ttrpc::Result<i32> {
        let directory = self.bundle.path();
        fs::write(directory.join("config.json"), self.bundle.config.to_string()).unwrap();
        let request = CreateTaskRequest {
            id: self.bundle.id().to_owned(),
            bundle: directory.display().to_string(),
            stdout: format!("file://{}/out", directory.display()),
            ..Default::default()
        };
        self.pod.tasks.create(limit(), &request).map(|created| created.pid.try_into().unwrap())
    }

    /// Created and started; gives its pid.
    pub(crate) fn start(&self) -> i32 {
        let pid = self.create().unwrap();
        let request = StartRequest { id: self.bundle.id().to_owned(), ..Default::default() };
        self.pod.tasks.start(limit(), &request).unwrap();
        pid
    }

    /// Waits for its end; gives its status.
    pub(crate) fn wait(&self) -> u32 {
        let request = WaitRequest { id: self.bundle.id().to_owned(), ..Default::default() };
        self.pod.tasks.wait(limit(), &request).unwrap().exit_status
    }

    pub(crate) fn delete(&self) {
        let request = DeleteRequest { id: self.bundle.id().to_owned(), ..Default::default() };
        self.pod.tasks.delete(limit(), &request).unwrap();
        self.pod.tasks.shutdown(limit(), &ShutdownRequest::new()).unwrap();
    }

    /// Puts it in the pod's user namespace, as CRI does.
    pub(crate) fn users(mut self) -> Self {
        let path = format!("/proc/{}/ns/user", self.pod.status().1);
        let linux = &mut self.bundle.config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user", "path": path}));
        let map = json!([{"containerID": 0, "hostID": MAPPED, "size": 65536}]);
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
        std::os::unix::fs::chown(self.bundle.rootfs(), Some(MAPPED), Some(MAPPED)).unwrap();
        self
    }

    /// A whole life, and what it printed.
    pub(crate) fn run(self) -> Value {
        self.start();
        let status = self.wait();
        let text = fs::read_to_string(self.bundle.path().join("out")).unwrap();
        assert_eq!(status, 0, "{text}");
        self.delete();
        self.bundle.assert_nothing_left();
        serde_json::from_str(&text).unwrap()
    }
}

/// The cgroup directories of this name, in any hierarchy.
pub(crate) fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).chain([root.to_owned()]);
    hierarchies.map(|hierarchy| hierarchy.join(name)).filter(|path| path.exists()).collect()
}

fn run(id: &str, bundle: &Path, verb: &str, stdin: &[u8]) -> Vec<u8> {
    let mut child = Command::new(shim_binary().unwrap())
        .args([
            "-namespace",
            "test",
            "-address",
            "/nonexistent/c.sock",
            "-publish-binary",
            "/bin/false",
            "-id",
            id,
            verb,
        ])
        .current_dir(bundle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{verb}: {output:?}");
    output.stdout
}
