//! A bundle made ready to run, and the runtime under test run on it: the harness of the tests by OCI subject.
//!
//! `bundles/<subject>/config.json` is a whole configuration that any OCI runtime takes (put `probe` into `rootfs/` beside it
//! to run it by hand). A test copies it into a directory of its own, varies a field where it needs to, runs it, and looks
//! at what `probe` saw from inside.
//!
//! The runtime is our `oci`, or what the environment variable `OCI` names (`OCI=runc`): a test that passes with both tests
//! the specification and not our habits.
//!
//! Whatever happens, nothing may be left: [`Bundle::run`] looks for cgroups, mounts, processes and state once the runtime
//! has returned, and dropping a [`Bundle`] deletes its container and looks again.

#![allow(clippy::missing_panics_doc, reason = "a harness panics wherever something is not as the test needs it")]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll as poll_until};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Seconds after which a runtime that does not return has failed its test.
const PATIENCE: u32 = 60;

/// Below this cgroup are all that the tests make.
const CGROUP: &str = "/myshim-test";

/// A bundle in a directory of its own, with its container once it is created.
#[derive(Debug)]
pub struct Bundle {
    /// config.json, written out when the runtime is called.
    pub config: Value,
    id: String,
    directory: TempDir,
    outputs: AtomicU32,
}

/// How one call of the runtime ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code, or 128 + the signal that ended the runtime itself.
    pub status: i32,
    /// Standard output: of the runtime and of the process that it gave its descriptors to.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

/// Whether our own runtime is under test: only then does its wording count.
pub fn ours() -> bool {
    std::env::var_os("OCI").is_none()
}

impl Bundle {
    /// The bundle of `bundles/<subject>`, with an id and a cgroup that no other test has and a rootfs that holds `/probe`.
    #[must_use]
    pub fn new(subject: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles").join(subject).join("config.json");
        let text = fs::read(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let mut config: Value = serde_json::from_slice(&text).expect("config.json is JSON");
        let id = format!("{subject}-{}-{:03}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        config["linux"]["cgroupsPath"] = json!(format!("{CGROUP}/{id}"));

        let directory =
            tempfile::Builder::new().prefix(&format!("bundle-{id}-")).tempdir().expect("a temporary directory");
        let bundle = Self { config, id, directory, outputs: AtomicU32::new(0) };
        fs::create_dir(bundle.rootfs()).expect("mkdir rootfs");
        fs::set_permissions(bundle.rootfs(), fs::Permissions::from_mode(0o755)).expect("chmod rootfs");
        let probe = bundle.rootfs().join("probe");
        if fs::hard_link(built("probe"), &probe).is_err() {
            fs::copy(built("probe"), &probe).expect("copy probe into the rootfs");
        }
        bundle
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The root file system's directory.
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// The cgroup, as `cgroupsPath` has it.
    pub fn cgroup(&self) -> String {
        format!("{CGROUP}/{}", self.id)
    }

    /// The cgroup's directories: one for each hierarchy of v1 that has it, or v2's.
    pub fn cgroup_directories(&self) -> impl Iterator<Item = PathBuf> {
        let cgroup = self.cgroup();
        let hierarchies = entries("/sys/fs/cgroup").chain([PathBuf::from("/sys/fs/cgroup")]);
        let directory = move |hierarchy: PathBuf| hierarchy.join(cgroup.trim_start_matches('/'));
        hierarchies.map(directory).filter(|path| path.exists())
    }

    /// Makes init run `/probe` with `arguments`.
    pub fn probe(&mut self, arguments: &[&str]) -> &mut Self {
        self.config["process"]["args"] = std::iter::once(&"/probe").chain(arguments).copied().collect();
        self
    }

    /// `run`: a whole life in the foreground, after which nothing may be left.
    pub fn run(&self) -> Ran {
        let ran = self.call(&["run", "--bundle", &self.path().to_string_lossy(), &self.id]);
        self.assert_nothing_left();
        ran
    }

    /// `run`, and what `probe` printed.
    pub fn seen(&self) -> Value {
        self.run().json()
    }

    /// `run` by what [`Bundle::command`] begins: what `probe` printed, and what the runtime has logged.
    pub fn seen_and_logged(&self, mut command: Command) -> (Value, String) {
        let log = self.path().join("log");
        let _ = fs::remove_file(&log);
        command.arg("--log").arg(&log).args(["run", "--bundle", &self.path().to_string_lossy(), &self.id]);
        let ran = command.output().expect("run the runtime");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        (serde_json::from_slice(&ran.stdout).expect("JSON of probe"), fs::read_to_string(&log).unwrap_or_default())
    }

    /// What `probe` printed in a whole life by `create` with further flags, `start` and `delete`, after which nothing may be left.
    pub fn seen_with(&self, flags: &[&str]) -> Value {
        self.create_with(flags).success();
        self.call(&["start", &self.id]).success();
        self.wait();
        let seen = self.output().json();
        self.call(&["delete", &self.id]).success();
        self.assert_nothing_left();
        seen
    }

    /// `create`. What init prints once started is in [`Bundle::output`].
    pub fn create(&self) -> Ran {
        self.create_with(&[])
    }

    /// `create` with further flags.
    pub fn create_with(&self, flags: &[&str]) -> Ran {
        let (bundle, pid_file) = (self.path().to_string_lossy().into_owned(), self.pid_file());
        let own = ["create", "--bundle", &bundle, "--pid-file", &pid_file];
        self.call_into("init", &[&own, flags, &[&self.id]].concat())
    }

    /// `create` and `start`, which must succeed; gives init's pid.
    pub fn start(&self) -> i32 {
        self.create().success();
        self.call(&["start", &self.id]).success();
        self.pid()
    }

    /// Where `create` writes init's pid.
    pub fn pid_file(&self) -> String {
        self.path().join("pid").to_string_lossy().into_owned()
    }

    /// Init's pid, from the file that `create` wrote.
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.pid_file())
            .expect("create writes the pid file")
            .parse()
            .expect("a pid and nothing else")
    }

    /// What init has printed so far.
    pub fn output(&self) -> Ran {
        self.output_of("init", 0)
    }

    /// `exec` of a whole process object, in the foreground.
    pub fn exec(&self, process: &Value) -> Ran {
        let file = self.path().join("process.json");
        fs::write(&file, process.to_string()).expect("write process.json");
        self.call(&["exec", "--process", &file.to_string_lossy(), &self.id])
    }

    /// `state`, which must succeed.
    pub fn state(&self) -> Value {
        self.call(&["state", &self.id]).json()
    }

    /// Waits until init, which must have been created, has ended.
    pub fn wait(&self) {
        // No such process has ended already.
        if let Ok(init) = pidfd(self.pid()) {
            wait(&init);
        }
    }

    /// Calls the runtime with `arguments` behind the state directory.
    pub fn call(&self, arguments: &[&str]) -> Ran {
        let name = format!("call-{}", self.outputs.fetch_add(1, Ordering::Relaxed));
        self.call_into(&name, arguments)
    }

    /// The runtime with its state in the bundle, for a test that sets more of its surroundings.
    pub fn command(&self) -> Command {
        fs::write(self.path().join("config.json"), self.config.to_string()).expect("write config.json");
        let runtime = std::env::var_os("OCI").map_or_else(|| built("oci"), PathBuf::from);
        let mut command = Command::new("timeout");
        command
            .arg("--signal=KILL")
            .arg((PATIENCE * crate::slower()).to_string())
            .arg(runtime)
            .arg("--root")
            .arg(self.state_directory());
        command.stdin(Stdio::null());
        command
    }

    /// Looks for cgroups, mounts, processes and state of this bundle.
    pub fn assert_nothing_left(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// Files take the output: unlike a pipe, one that a container keeps open blocks nobody.
    fn call_into(&self, name: &str, arguments: &[&str]) -> Ran {
        let file = |suffix| File::create(self.path().join(format!("{name}.{suffix}"))).expect("create an output file");
        let status = self.command().args(arguments).stdout(file("stdout")).stderr(file("stderr")).status();
        let status = status.expect("run timeout(1)");
        self.output_of(name, status.code().or_else(|| status.signal().map(|s| 128 + s)).expect("one of the two"))
    }

    fn output_of(&self, name: &str, status: i32) -> Ran {
        let text = |suffix| {
            let text = fs::read(self.path().join(format!("{name}.{suffix}"))).expect("the output file is there");
            String::from_utf8_lossy(&text).into_owned()
        };
        Ran { status, stdout: text("stdout"), stderr: text("stderr") }
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(self.cgroup_directories().map(|path| path.display().to_string()));
        let directory = self.path().to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        left.extend(mounts.lines().filter(|line| line.contains(&*directory)).map(String::from));
        for process in entries("/proc") {
            let text = |file| fs::read(process.join(file)).map(|t| String::from_utf8_lossy(&t).replace('\0', " "));
            // A process that has just gone has nothing to read. One that has lost its cgroup is known by its root.
            let (cgroup, command) = (text("cgroup").unwrap_or_default(), text("cmdline").unwrap_or_default());
            let root = text("mountinfo").unwrap_or_default();
            // An ended child of a runtime that has gone is the machine's init's to reap, at its leisure.
            let ended = text("stat").is_ok_and(|stat| stat.contains(") Z "));
            let ours = cgroup.contains(&self.cgroup()) || command.contains(&self.id) || root.contains(&*directory);
            if ours && !ended {
                left.push(format!("{}: {command}", process.display()));
            }
        }
        left.extend(entries(&self.state_directory()).map(|path| path.display().to_string()));
        left
    }

    fn state_directory(&self) -> PathBuf {
        self.path().join("state")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.left().is_empty() {
            return;
        }
        let deleted = self.call(&["delete", "--force", &self.id]);
        if !std::thread::panicking() {
            assert_eq!(deleted.status, 0, "delete --force: {}", deleted.stderr);
            self.assert_nothing_left();
        }
    }
}

impl Ran {
    /// Asserts success, and gives the same back.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use, reason = "a success that is not looked at is one")]
    pub fn success(self) -> Self {
        assert_eq!(self.status, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as the one JSON document that it must be.
    #[track_caller]
    pub fn json(self) -> Value {
        let ran = self.success();
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {:?}{}", ran.stdout, ran.stderr))
    }
}

/// A process, by a descriptor that cannot come to mean another.
pub fn pidfd(pid: i32) -> rustix::io::Result<OwnedFd> {
    pidfd_open(Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::empty())
}

/// Waits until a process has ended.
pub fn wait(process: &OwnedFd) {
    assert!(ends_within(process, Duration::from_mins(1)), "the process has not ended after a minute");
}

/// Whether a process ends in that time.
pub fn ends_within(process: &OwnedFd, limit: Duration) -> bool {
    let mut poll = [PollFd::new(process, PollFlags::IN)];
    let limit = Timespec::try_from(limit).expect("a time that a test waits");
    poll_until(&mut poll, Some(&limit)) == Ok(1)
}

/// A program built beside the test: `target/<triple>/<profile>/`, where the test is in `deps/` below it.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors().nth(2).expect("a test is in <profile>/deps").join(name)
}

fn entries(directory: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}
