//! A private containerd: own root, state and sockets in one directory, nothing of the machine's touched.
//!
//! Used by the tests, the demo and the benchmark. Started and ended by pid; it may be killed and started again on the
//! same state, which is how the tests see that a shim outlives its daemon.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{leftovers, wait_until};

/// Longest path a unix socket address holds, the closing zero left out, as containerd counts.
const SOCKET_PATH_BYTES: usize = 106;
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Left out: plugins that touch the machine outside our directory (`opt`, `nri`), and those that only complain of what they lack.
const OFF: [&str; 10] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
];

/// What CRI is made of, which wants a network: left out too, but where it is asked for.
const CRI: [&str; 4] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.podsandbox.controller.v1.podsandbox",
];

/// An installed containerd with its `ctr`.
#[derive(Debug, Clone)]
pub struct Release {
    /// `1.6`, `2.4`: what a test's name says.
    pub version: String,
    /// Directory of `containerd`, `ctr` and the release's own runc shim.
    bin: PathBuf,
    /// Directories searched after `bin`, for `runc`.
    path: Vec<PathBuf>,
}

impl Release {
    /// The distribution's, from the package `containerd`.
    pub fn distribution() -> Self {
        let asked = Command::new("/usr/bin/containerd").arg("--version").output();
        let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let version = release_of(&said).unwrap_or("distribution").to_owned();
        Self { version, bin: "/usr/bin".into(), path: Vec::new() }
    }

    /// Every release that is known, whether it is installed or not; the distribution's first.
    pub fn known() -> Vec<Self> {
        let lab = lab();
        let sid = lab.join("sid/bin");
        let at = |version: &str, bin: &str| Self {
            version: version.to_owned(),
            bin: lab.join(bin),
            path: vec![sid.clone()],
        };
        vec![Self::distribution(), at("1.7", "go/1.7/bin"), at("2.1", "sid/bin"), at("2.4", "go/2.4/bin")]
    }

    /// Whether it is installed.
    pub fn is_installed(&self) -> bool {
        self.bin.join("containerd").exists()
    }

    /// Why this release cannot be used here, or `None` when it can.
    pub fn missing(&self) -> Option<String> {
        let wanted = std::env::var("CONTAINERD").unwrap_or_default();
        if !wanted.is_empty() && !wanted.split(',').any(|one| one == self.version) {
            return Some(format!("CONTAINERD={wanted} leaves it out"));
        }
        (!self.is_installed()).then(|| format!("{} is not there", self.bin.join("containerd").display()))
    }

    /// Whether it is the distribution's: the one that is tested most.
    pub fn is_distribution(&self) -> bool {
        self.path.is_empty()
    }

    /// Its `ctr`.
    pub fn ctr(&self) -> PathBuf {
        self.bin.join("ctr")
    }

    /// PATH of the daemon: the shim under test, then the release's own programs, then the machine's.
    fn search_path(&self, shim_dir: &Path) -> Result<std::ffi::OsString> {
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        let dirs =
            [shim_dir.to_path_buf(), self.bin.clone()].into_iter().chain(self.path.iter().cloned()).chain(system);
        Ok(std::env::join_paths(dirs)?)
    }
}

/// A running daemon. Dropping it ends it and everything started through it.
#[derive(Debug)]
pub struct Containerd {
    /// Which release runs.
    pub release: Release,
    /// Its containerd namespace: unlike any other on the machine, so that cgroups and processes can be told apart.
    pub namespace: String,
    dir: PathBuf,
    shim_dir: PathBuf,
    /// Whether it has a network of its own, for that of its pods is made beside it.
    own_network: bool,
    process: Mutex<Option<Child>>,
    /// Held for its drop: a directory of its own goes with the daemon.
    _own_dir: Option<tempfile::TempDir>,
}

impl Containerd {
    /// Starts `release` in a new temporary directory.
    pub fn start(release: &Release) -> Result<Self> {
        let own_dir =
            tempfile::Builder::new().prefix("myshim-").tempdir().context("make a directory for containerd")?;
        let dir = own_dir.path().to_path_buf();
        Self::start_in(release, dir, Some(own_dir), None)
    }

    /// Starts `release` in a new temporary directory, with the plugin that serves Kubernetes and in a network of its own.
    /// `tables` of its configuration are made for the directory; the first line is the form's, `version = 3`.
    pub fn start_with_cri(release: &Release, tables: impl FnOnce(&Path) -> String) -> Result<Self> {
        let own_dir = tempfile::Builder::new().prefix("cri-").tempdir().context("make a directory for containerd")?;
        let dir = own_dir.path().to_path_buf();
        let tables = tables(&dir);
        Self::start_in(release, dir, Some(own_dir), Some(&tables))
    }

    /// Starts the distribution's release in `dir`, whose images outlive it.
    pub fn start_at(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        Self::start_in(&Release::distribution(), dir.to_path_buf(), None, None)
    }

    fn start_in(
        release: &Release,
        dir: PathBuf,
        own_dir: Option<tempfile::TempDir>,
        cri: Option<&str>,
    ) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let namespace = if own_dir.is_some() {
            let nth = STARTED.fetch_add(1, Ordering::Relaxed);
            format!("test-{}-{nth}", std::process::id())
        } else {
            // Nobody else's cgroup on this machine has this name, whatever they call their namespaces.
            format!("demo-{}", &crate::sha256_hex(dir.as_os_str().as_encoded_bytes())[..8])
        };
        let shim_dir = dir.join("bin");
        let daemon = Self {
            release: release.clone(),
            namespace,
            dir,
            shim_dir,
            own_network: cri.is_some(),
            process: Mutex::new(None),
            _own_dir: own_dir,
        };
        let socket = daemon.socket();
        // ".ttrpc" is appended for the shims' way back.
        let socket_bytes = socket.as_os_str().len() + ".ttrpc".len();
        ensure!(
            socket_bytes <= SOCKET_PATH_BYTES,
            "{} is too long for a socket ({SOCKET_PATH_BYTES} bytes with .ttrpc): use a directory with a shorter name",
            socket.display()
        );
        // An earlier daemon in this directory may have been interrupted.
        leftovers::sweep(&daemon.dir, &daemon.namespace);
        daemon.link_shim()?;
        fs::write(daemon.config_file(), daemon.config(cri)).context("write containerd's configuration")?;
        daemon.spawn(release)?;
        Ok(daemon)
    }

    /// Kills the daemon with SIGKILL, as a crash would; containers and shims go on.
    pub fn kill(&self) -> Result<()> {
        let mut process = self.process().take().context("containerd is not running")?;
        process.kill().context("kill containerd")?;
        process.wait().context("wait for containerd")?;
        Ok(())
    }

    /// Starts it again on the state that [`Self::kill`] left.
    pub fn restart(&self) -> Result<()> {
        self.restart_as(&self.release)
    }

    /// Starts another release on the state that [`Self::kill`] left, as an upgrade does.
    pub fn restart_as(&self, release: &Release) -> Result<()> {
        ensure!(self.process().is_none(), "containerd is still running");
        self.spawn(release)
    }

    /// Ends the daemon and whatever runs under it, and says what could not be ended.
    pub fn stop(self) -> Result<()> {
        self.end()
    }

    /// The address that `ctr` and clients take.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// Everything of this daemon is below this directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bundle of a container while it has a task.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir.join("state/io.containerd.runtime.v2.task").join(&self.namespace).join(id)
    }

    /// A slice of systemd's for the tests of this daemon alone.
    pub fn slice(&self) -> String {
        leftovers::slice(&self.namespace)
    }

    /// The daemon's pid; 0 while it is down.
    pub fn pid(&self) -> u32 {
        self.process().as_ref().map_or(0, Child::id)
    }

    /// The last lines of its log that mention `about`, for a message.
    pub fn log_tail(&self, about: &str) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(about)).collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().expect("nobody panics while holding it")
    }

    /// Connecting is what readiness means: the socket is there and somebody accepts.
    fn spawn(&self, release: &Release) -> Result<()> {
        let program = release.bin.join("containerd");
        let log =
            fs::File::options().create(true).append(true).open(self.log_file()).context("open containerd's log")?;
        let mut command = if self.own_network {
            // It executes containerd, whose pid is the same.
            let mut command = Command::new("unshare");
            command.arg("--net").arg(&program);
            command
        } else {
            Command::new(&program)
        };
        let process = command
            .arg("--config")
            .arg(self.config_file())
            .env("PATH", release.search_path(&self.shim_dir)?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut running = self.process();
        let process = running.insert(process);
        let socket = self.dir.join("containerd.sock");
        let mut ended = None;
        let ready = wait_until(START_LIMIT, || {
            ended = process.try_wait().ok().flatten();
            ended.is_some() || UnixStream::connect(&socket).is_ok()
        });
        match ended {
            Some(status) => bail!("containerd {} ended: {status}\n{}", release.version, self.log_tail("")),
            None if ready => Ok(()),
            None => bail!("containerd {} does not answer\n{}", release.version, self.log_tail("")),
        }
    }

    /// SIGTERM first: a daemon that was told to end closes its database.
    fn end(&self) -> Result<()> {
        let mut problems = String::new();
        if let Some(mut process) = self.process().take() {
            leftovers::signal(process.id(), nix::sys::signal::Signal::SIGTERM);
            if !wait_until(STOP_LIMIT, || matches!(process.try_wait(), Ok(Some(_)))) {
                let _ = write!(problems, "containerd {} ignored SIGTERM; ", self.release.version);
                process.kill()?;
                process.wait()?;
            }
        }
        for one in leftovers::sweep(&self.dir, &self.namespace) {
            let _ = write!(problems, "{one}; ");
        }
        ensure!(problems.is_empty(), "{problems}");
        Ok(())
    }

    /// One name on the daemon's PATH, whatever the binary is called and whatever else lies beside it.
    fn link_shim(&self) -> Result<()> {
        fs::create_dir_all(&self.shim_dir)?;
        let link = self.shim_dir.join(SHIM_NAME);
        let _ = fs::remove_file(&link);
        match shim_binary() {
            Ok(binary) => std::os::unix::fs::symlink(binary, link).context("link the shim"),
            Err(_) if crate::is_runc() => Ok(()),
            Err(missing) => Err(missing),
        }
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("containerd.log")
    }

    /// The tables of `cri` come last, but for the version, which is their first line.
    fn config(&self, cri: Option<&str>) -> String {
        let dir = self.dir.display();
        let off = if cri.is_some() { OFF.to_vec() } else { [&CRI[..], &OFF].concat() };
        let (version, tables) = cri.and_then(|tables| tables.split_once('\n')).unwrap_or(("version = 2", ""));
        format!(
            "{version}\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\ndisabled_plugins = {off:?}\n\n\
             [grpc]\naddress = \"{dir}/containerd.sock\"\n\n[ttrpc]\naddress = \"{dir}/containerd.sock.ttrpc\"\n\n{tables}"
        )
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(problem) = self.end() {
            eprintln!("containerd {}: {problem}", self.release.version);
        }
    }
}

/// Where further releases and clients live.
pub fn lab() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    std::env::var_os("LAB").map_or_else(|| cache.join("shim-lab"), PathBuf::from)
}

/// `1.7` of `containerd github.com/containerd/containerd 1.7.24~ds1 …`.
fn release_of(said: &str) -> Option<&str> {
    let version = said.split_whitespace().nth(2)?.trim_start_matches('v');
    let dot = version.find('.')?;
    let end = version[dot + 1..].find(|c: char| !c.is_ascii_digit()).map_or(version.len(), |length| dot + 1 + length);
    Some(&version[..end])
}

/// containerd derives it from `io.containerd.myshim.v2`.
const SHIM_NAME: &str = "containerd-shim-myshim-v2";

/// The shim under test: `SHIM`, or the one built beside this program.
pub fn shim_binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("SHIM") {
        let given = PathBuf::from(given);
        return fs::canonicalize(&given).with_context(|| format!("SHIM={}", given.display()));
    }
    built(SHIM_NAME).with_context(|| format!("{SHIM_NAME} is not built: run `cargo build --workspace`, or set SHIM"))
}

/// A program of this workspace, beside this one: in the profile's directory, or one above when this is a test.
pub fn built(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::release_of;

    #[test]
    fn a_release_is_two_numbers() {
        for said in
            ["containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1", "c u v1.7", "c u 1.7\n"]
        {
            assert_eq!(release_of(said), Some("1.7"), "{said}");
        }
        assert_eq!(release_of("containerd"), None);
    }
}
