//! The binary as containerd runs it: `start`, the server that it leaves behind, `delete`, `-info` and `-v`.
//!
//! Needs root, as the shim does. Sockets are in a temporary directory, which only the protobuf dialect can ask for.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use containerd_shim::bootstrap::{BootstrapParams, BootstrapResult};
use containerd_shim::protos::api::{ConnectRequest, DeleteResponse, ShutdownRequest};
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::shim_sync::TaskClient;
use containerd_shim::protos::ttrpc;
use containerd_shim::protos::types::introspection::RuntimeInfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getsid};

/// What the build asks git for.
#[path = "../build.rs"]
#[allow(dead_code, reason = "its main is run by cargo")]
mod build;

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-myshim-v2");

/// A bundle in a temporary directory, with the directory for sockets beside it. Servers that are left are killed.
struct Bundle {
    dir: tempfile::TempDir,
    servers: Vec<i32>,
}

impl Bundle {
    fn new(config: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bundle")).unwrap();
        fs::write(dir.path().join("myshim.toml"), "").unwrap();
        if let Some(config) = config {
            fs::write(dir.path().join("bundle/config.json"), config).unwrap();
        }
        Self { dir, servers: Vec::new() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    fn socket_dir(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn node_file(&self) -> PathBuf {
        self.dir.path().join("myshim.toml")
    }

    fn run(&self, id: &str, verb: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(SHIM)
            .args(["-namespace", "test", "-address", "/nonexistent/c.sock", "-publish-binary", "/bin/false", "-id", id])
            .args(verb)
            .current_dir(self.path())
            .env("GRPC_ADDRESS", "/nonexistent/c.sock")
            .env("OTEL_TEST", "kept")
            .env("MYSHIM_CONFIG", self.node_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap()
    }

    fn params(&self, id: &str) -> Vec<u8> {
        BootstrapParams {
            instance_id: id.into(),
            namespace: "test".into(),
            containerd_grpc_address: "/nonexistent/c.sock".into(),
            containerd_ttrpc_address: "/nonexistent/c.sock.ttrpc".into(),
            socket_dir: Some(self.socket_dir().display().to_string()),
            ..BootstrapParams::default()
        }
        .write_to_bytes()
        .unwrap()
    }

    /// `start`, and the answer that containerd would read from both of its outputs.
    fn start(&mut self, id: &str) -> Server {
        let output = self.run(id, &["start"], &self.params(id));
        assert!(output.status.success(), "{output:?}");
        let answer = BootstrapResult::parse_from_bytes(&[output.stdout, output.stderr].concat()).unwrap();
        assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
        let server = Server::at(answer.address.strip_prefix("unix://").unwrap());
        self.servers.push(server.pid);
        server
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for pid in &self.servers {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
}

/// A server that answers at a socket.
struct Server {
    path: PathBuf,
    pid: i32,
}

impl Server {
    fn at(path: &str) -> Self {
        let pid = client(path).connect(context(), &ConnectRequest::new()).unwrap().shim_pid;
        Self { path: path.into(), pid: pid.try_into().unwrap() }
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    }

    /// Ended: a zombie that nobody has waited for counts.
    fn is_gone(&self) -> bool {
        fs::read_to_string(self.proc("stat")).map_or(true, |stat| stat.contains(") Z "))
    }

    fn wait_until_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.is_gone() {
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn client(path: &str) -> TaskClient {
    TaskClient::new(ttrpc::Client::connect(&format!("unix://{path}")).unwrap())
}

fn context() -> ttrpc::context::Context {
    ttrpc::context::with_duration(Duration::from_secs(5))
}

#[test]
fn the_server_is_alone_small_and_sealed() {
    let mut bundle = Bundle::new(Some("{}"));
    let server = bundle.start("a");
    let pid = Pid::from_raw(server.pid);

    assert_eq!(server.status("Threads"), "1");
    assert_eq!(server.status("Name"), "containerd-shim");
    assert_eq!((getsid(Some(pid)).unwrap(), getpgid(Some(pid)).unwrap()), (pid, pid));
    assert_eq!(fs::read_link(server.proc("cwd")).unwrap(), bundle.path());
    let parents = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse::<i32>().unwrap();
    let own = fs::read_to_string(server.proc("oom_score_adj")).unwrap().trim().parse::<i32>().unwrap();
    assert_eq!(own, (parents + 1).min(1000));

    let line = fs::read_to_string(server.proc("cmdline")).unwrap().replace('\0', " ");
    assert!(line.ends_with("-namespace test -id a -address /nonexistent/c.sock "), "{line}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&server.path), mode(&bundle.socket_dir())), (0o600, 0o700));
    let address = fs::read_to_string(bundle.path().join("address")).unwrap();
    assert_eq!(address, format!("unix://{}", server.path.display()));
}

#[test]
fn the_servers_program_is_ours_and_cannot_be_written() {
    let mut bundle = Bundle::new(Some("{}"));
    let server = bundle.start("a");
    let exe = server.proc("exe");
    let error = fs::File::options().write(true).open(&exe).unwrap_err().raw_os_error();
    assert_eq!(error, Some(nix::errno::Errno::EROFS as i32));
    assert_eq!(fs::read(exe).unwrap(), fs::read(SHIM).unwrap());
}

#[test]
fn the_server_holds_nothing_of_its_callers() {
    let bundle = Bundle::new(Some("{}"));
    // A descriptor without close-on-exec, as a careless caller leaves it.
    let script = format!("exec 9</dev/zero; exec {SHIM} -namespace test -id a -address /nonexistent/c.sock start");
    let mut start = Command::new("sh")
        .args(["-c", &script])
        .current_dir(bundle.path())
        .env("NOTIFY_SOCKET", "/x")
        .env("OTEL_TEST", "kept")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    start.stdin.take().unwrap().write_all(&bundle.params("a")).unwrap();
    let mut answer = Vec::new();
    start.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
    assert!(start.wait().unwrap().success());
    let answer = BootstrapResult::parse_from_bytes(&answer).unwrap();
    let server = Server::at(answer.address.strip_prefix("unix://").unwrap());

    let files: Vec<String> = fs::read_dir(server.proc("fd"))
        .unwrap()
        // The server goes on meanwhile: what it closes has gone.
        .filter_map(|entry| Some(fs::read_link(entry.unwrap().path()).ok()?.display().to_string()))
        .collect();
    assert_eq!(files.iter().filter(|file| *file == "/dev/null").count(), 3, "{files:?}");
    assert!(!files.iter().any(|file| file.contains("zero") || file.contains("pipe:")), "{files:?}");
    let environment = String::from_utf8(fs::read(server.proc("environ")).unwrap()).unwrap();
    assert!(!environment.contains("NOTIFY_SOCKET"), "{environment}");
    for kept in ["OTEL_TEST=kept", "TTRPC_ADDRESS=/nonexistent/c.sock.ttrpc", "OTEL_SERVICE_NAME=containerd-shim-a"] {
        assert!(environment.split('\0').any(|variable| variable == kept), "{environment}");
    }
    kill(Pid::from_raw(server.pid), Signal::SIGKILL).unwrap();
}

#[test]
fn a_pods_containers_find_the_pods_server() {
    let mut bundle = Bundle::new(Some(r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}"#));
    let first = bundle.start("pod");
    let second = bundle.start("container");
    assert_eq!((first.pid, &first.path), (second.pid, &second.path));

    kill(Pid::from_raw(first.pid), Signal::SIGKILL).unwrap();
    first.wait_until_gone();
    assert!(first.path.exists());
    let third = bundle.start("pod");
    assert_eq!(third.path, first.path);
    assert_ne!(third.pid, first.pid);
}

/// A server of the days before containerd 2.0 runs on under a newer `start`.
#[test]
fn a_group_hit_is_answered_with_what_the_running_server_speaks() {
    struct Old;
    impl containerd_shim::protos::shim_sync::Task for Old {}

    let mut bundle = Bundle::new(Some("{}"));
    let first = bundle.start("a");
    assert_eq!(bundle.start("a").pid, first.pid, "version 3 is asserted there");
    kill(Pid::from_raw(first.pid), Signal::SIGKILL).unwrap();
    first.wait_until_gone();
    fs::remove_file(&first.path).unwrap();
    let services = containerd_shim::protos::shim_sync::create_task(std::sync::Arc::new(Old));
    let services = services.into_values().map(|service| ("containerd.task.v2.Task".to_owned(), service)).collect();
    let address = format!("unix://{}", first.path.display());
    let mut old = ttrpc::Server::new().bind(&address).unwrap().register_service(services);
    old.start().unwrap();
    let output = bundle.run("a", &["start"], &bundle.params("a"));
    let answer = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((answer.version, answer.address), (2, address), "{output:?}");
    old.shutdown();
}

#[test]
fn a_server_that_nobody_needs_ends_by_itself() {
    let mut bundle = Bundle::new(Some("{}"));
    fs::write(bundle.node_file(), "IdleSeconds = 1\n").unwrap();
    let server = bundle.start("a");
    // A client that stays connected is one that may call.
    let client = client(server.path.to_str().unwrap());
    client.connect(context(), &ConnectRequest::new()).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!server.is_gone() && server.path.exists());
    drop(client);
    server.wait_until_gone();
    assert!(!server.path.exists());
}

/// A cgroup of the test's own, in some hierarchy.
struct OwnCgroup(PathBuf, String);

impl OwnCgroup {
    fn new(name: &str) -> Self {
        let name = format!("front-{}-{name}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let pids = root.join("pids");
        let at = if pids.is_dir() { pids } else { root.to_owned() }.join(&name);
        fs::create_dir(&at).unwrap();
        Self(at, name)
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // A process that has just ended may be in it for some moments more.
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn the_server_joins_the_cgroup_that_the_options_name() {
    let cgroup = OwnCgroup::new("join");
    let mut bundle = Bundle::new(Some("{}"));
    fs::write(bundle.node_file(), format!("ShimCgroup = '/{}'\nLogLevel = 'debug'\n", cgroup.1)).unwrap();
    let server = bundle.start("a");
    let members = fs::read_to_string(cgroup.0.join("cgroup.procs")).unwrap();
    assert!(members.lines().any(|pid| pid == server.pid.to_string()), "{members}");
    let line = fs::read_to_string(server.proc("cmdline")).unwrap().replace('\0', " ");
    assert!(line.contains(" -debug"), "{line}");
    kill(Pid::from_raw(server.pid), Signal::SIGKILL).unwrap();
    server.wait_until_gone();
}

#[test]
fn options_that_cannot_be_honoured_start_nothing() {
    let bundle = Bundle::new(Some("{}"));
    for (options, expected) in [
        ("Speed = 9\n", "myshim.toml: Speed: there is no such option\n"),
        ("ShimCgroup = '/no/such/cgroup'\n", "ShimCgroup: no hierarchy has a cgroup /no/such/cgroup\n"),
    ] {
        fs::write(bundle.node_file(), options).unwrap();
        let output = bundle.run("a", &["start"], &bundle.params("a"));
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.ends_with(expected), "{text}");
        let sockets = fs::read_dir(bundle.socket_dir()).map_or(0, Iterator::count);
        assert_eq!(sockets, 0);
    }
}

#[test]
fn an_options_file_that_cannot_be_read_is_named() {
    let bundle = Bundle::new(Some("{}"));
    let dir = bundle.dir.path();
    fs::write(dir.join("latin1.toml"), b"# \xe9\n").unwrap();
    for (file, says) in [
        (dir.join("missing.toml"), "No such file or directory (os error 2)"),
        (dir.join("latin1.toml"), "stream did not contain valid UTF-8"),
        (dir.join("bundle"), "Is a directory (os error 21)"),
        (dir.join("myshim.toml/x"), "Not a directory (os error 20)"),
        (PathBuf::from("relative.toml"), "not an absolute path"),
    ] {
        let expected = format!("options file {}: {says}\n", file.display());
        let flags = ["-namespace", "test", "-id", "a", "-address", "/c.sock", "start"];
        let started = Command::new(SHIM).args(flags).env("MYSHIM_CONFIG", &file).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(started.stderr).unwrap();
        assert!(!started.status.success() && started.stdout.is_empty() && text.ends_with(&expected), "{text}");
    }
}

#[test]
fn a_bundle_without_a_config_is_a_group_of_its_own() {
    let mut bundle = Bundle::new(None);
    let server = bundle.start("sandbox");
    assert!(server.path.starts_with(bundle.socket_dir()));
}

#[test]
fn the_log_goes_to_the_fifo_that_containerd_reads() {
    let mut bundle = Bundle::new(Some("{}"));
    let path = bundle.path().join("log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut log = BufReader::new(fs::File::options().read(true).write(true).open(path).unwrap());
    let server = bundle.start("a");
    kill(Pid::from_raw(server.pid), Signal::SIGUSR1).unwrap();
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains(r#"level=info msg="state: 0 containers, 0 events to deliver, "#), "{line}");
    assert!(line.contains(r#" descriptors open" id="a" namespace="test""#), "{line}");
}

#[test]
fn both_ways_to_stop_leave_no_socket() {
    let mut bundle = Bundle::new(Some("{}"));
    let asked = bundle.start("a");
    client(asked.path.to_str().unwrap()).shutdown(context(), &ShutdownRequest::new()).unwrap();
    let signalled = bundle.start("b");
    kill(Pid::from_raw(signalled.pid), Signal::SIGTERM).unwrap();
    for server in [asked, signalled] {
        server.wait_until_gone();
        assert!(!server.path.exists());
    }
}

#[test]
fn an_error_is_one_sentence_on_stderr_and_leaves_nothing() {
    let bundle = Bundle::new(Some("{}"));
    let mut params = BootstrapParams::parse_from_bytes(&bundle.params("a")).unwrap();
    params.socket_dir = Some(format!("{}/{}", bundle.socket_dir().display(), "d".repeat(60)));
    let output = bundle.run("a", &["start"], &params.write_to_bytes().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("containerd-shim-myshim-v2: socket path /") && text.ends_with("106 at the most\n"),
        "{text}"
    );
    assert!(!bundle.socket_dir().exists() && !bundle.path().join("address").exists());
}

#[test]
fn delete_reports_a_killed_container_and_removes_the_dead_socket() {
    let mut bundle = Bundle::new(Some("{}"));
    let server = bundle.start("a");
    kill(Pid::from_raw(server.pid), Signal::SIGKILL).unwrap();
    server.wait_until_gone();
    let path = bundle.path();
    for _ in 0..2 {
        let output = bundle.run("a", &["-bundle", path.to_str().unwrap(), "delete"], b"");
        assert!(output.status.success(), "{output:?}");
        let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
        assert_eq!(response.exit_status, 137);
        assert!(response.exited_at.seconds > 1_600_000_000);
        assert!(!server.path.exists());
    }
}

#[test]
fn what_it_is_and_can_needs_neither_namespace_nor_containerd() {
    let run = |flag: &str| Command::new(SHIM).arg(flag).env_clear().stdin(Stdio::null()).output().unwrap();
    let info = run("-info");
    assert!(info.status.success() && info.stderr.is_empty(), "{info:?}");
    assert_eq!(RuntimeInfo::parse_from_bytes(&info.stdout).unwrap().name, "io.containerd.myshim.v2");
    for flag in ["-v", "--version"] {
        let version = String::from_utf8(run(flag).stdout).unwrap();
        let mut lines = version.lines();
        assert_eq!(lines.next(), Some("containerd-shim-myshim-v2:"));
        assert_eq!(lines.next(), Some(concat!("  Version:  ", env!("CARGO_PKG_VERSION"))));
        let revision = lines.next().unwrap().strip_prefix("  Revision: ").unwrap();
        // The build has asked git; so do we, unless somebody has told it another.
        if option_env!("REVISION").is_none() {
            assert_eq!(revision.trim_end_matches(".m"), build::revision(workspace()).trim_end_matches(".m"));
        }
        assert!(lines.next().is_some_and(|line| line.starts_with("  Rust version: 1.")), "{version}");
        assert_eq!(lines.next(), None);
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_revision_is_the_sources_own_commit() {
    if Command::new("git").arg("--version").output().is_err() {
        println!("skipped: there is no git here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let git = |directory: &Path, arguments: &[&str]| {
        let identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").arg("-C").arg(directory).args(identity).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // A tarball has none, wherever it is unpacked.
    let source = dir.path().join("packages/source");
    fs::create_dir_all(source.join("shim/src")).unwrap();
    fs::write(source.join("shim/src/main.rs"), "fn main() {}").unwrap();
    assert_eq!(build::revision(&source), build::UNKNOWN);
    git(dir.path(), &["init", "-q"]);
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-q", "-m", "packages"]);
    assert_eq!(build::revision(&source), build::UNKNOWN);

    git(&source, &["init", "-q"]);
    git(&source, &["add", "."]);
    git(&source, &["commit", "-q", "-m", "source"]);
    let head = git(&source, &["rev-parse", "HEAD"]);
    assert_eq!(build::revision(&source), head);
    // What is built beside it is no change of it.
    fs::write(source.join("output"), "").unwrap();
    assert_eq!(build::revision(&source), head);
    fs::write(source.join("shim/src/main.rs"), "fn main() { changed() }").unwrap();
    assert_eq!(build::revision(&source), head + ".m");
}

#[test]
fn help_says_what_it_is_what_it_can_be_asked_and_where_more_is_told() {
    for arguments in [&["-h"][..], &["--help"], &["-help"], &["help"], &["-namespace", "n", "-h"]] {
        let output = Command::new(SHIM).args(arguments).env_clear().stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let words = ["containerd shim", "start", "delete", "plan [--options FILE] BUNDLE", "-info", "--version"];
        for word in words.into_iter().chain(["README.md", "/etc/containerd/myshim.toml", "MYSHIM_CONFIG"]) {
            assert!(text.contains(word), "{word} is not in:\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }
    let output = Command::new(SHIM).arg("dance").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.ends_with("unknown command \"dance\"; -h tells which there are\n"), "{text}");
}

/// By this a daemon knows to ask for what an older one asked for.
#[test]
fn a_service_or_a_method_that_is_unknown_is_not_implemented() {
    let mut bundle = Bundle::new(Some("{}"));
    let server = bundle.start("a");
    let client = ttrpc::Client::connect(&format!("unix://{}", server.path.display())).unwrap();
    let code = |service: &str, method: &str| {
        let request = ttrpc::Request { service: service.into(), method: method.into(), ..Default::default() };
        match client.request(request).unwrap_err() {
            ttrpc::Error::RpcStatus(status) => status.code(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(code("containerd.task.v9.Task", "State"), ttrpc::Code::UNIMPLEMENTED);
    assert_eq!(code("", ""), ttrpc::Code::UNIMPLEMENTED);
    assert_eq!(code("grpc.health.v1.Health", &"long".repeat(2000)), ttrpc::Code::UNIMPLEMENTED);
    for service in ["containerd.task.v2.Task", "containerd.task.v3.Task", "containerd.runtime.sandbox.v1.Sandbox"] {
        assert_eq!(code(service, "Dance"), ttrpc::Code::UNIMPLEMENTED, "{service}");
    }
    // The same connection still serves.
    assert_eq!(code("containerd.task.v3.Task", "State"), ttrpc::Code::NOT_FOUND);
}

#[test]
fn run_by_hand_it_says_what_is_missing() {
    let output = Command::new(SHIM).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("run by containerd, not by hand"));
}
