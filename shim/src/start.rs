//! `start`: finds the group's server or makes one, and tells containerd where it listens.
//!
//! ```text
//! containerd ──fork──▶ start ──bind, listen──▶ socket        (connectable from here on)
//!     ▲                  └──spawn──▶ serve   stdin: the socket · stdout, stderr: /dev/null · cwd: the bundle
//!     └──address on stdout──┘                sealed program · own session · oom score one above containerd's
//! ```
//!
//! containerd reads until everyone has closed stdout and stderr, so the server holds neither. It becomes nobody's child
//! when `start` ends. One process is created, by `posix_spawn(3)`: there is no code of ours between fork and exec.

pub(crate) mod socket;

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use config::Options;
use containerd_shim::protos::TASK_API_VERSION;
use containerd_shim_protos::api::ConnectRequest;
use containerd_shim_protos::shim_async::TaskClient;
use log::LevelFilter;
use runtime_core::{Error, Result, cgroup};
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::with_duration;

use crate::bootstrap::{self, Dialect, Request};
use crate::flags::Flags;
use crate::start::socket::Claim;
use crate::{PROGRAM, options, seal};

/// In the bundle: where the container's server listens. containerd before 2.0 looks for it here after a restart, and so
/// does our own `delete`.
pub(crate) const ADDRESS_FILE: &str = "address";

/// What every server of ours speaks, and every containerd.
const OLDEST_API_VERSION: i32 = 2;

/// How long a running server may take to say what it speaks.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The highest `oom_score_adj` there is.
const MAX_OOM_SCORE: i32 = 1000;

/// What the daemon's environment holds for the daemon itself, or for Go programs, and no container's server should see.
const NOT_INHERITED: [&str; 15] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "MAX_SHIM_VERSION",
    "GRPC_ADDRESS",
    "NAMESPACE",
    "GOMAXPROCS",
    "GOGC",
    "GODEBUG",
];

/// The annotations that put several containers into one server, in order of precedence.
#[derive(Debug, Default, Deserialize)]
struct Annotations {
    #[serde(rename = "io.containerd.runc.v2.group")]
    group: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-id")]
    sandbox: Option<String>,
}

/// As much of config.json as concerns `start`.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    annotations: Annotations,
}

/// Runs `start` in the bundle, which is the working directory.
pub(crate) fn start(flags: &Flags) -> Result<()> {
    let request = bootstrap::request(flags, &bootstrap::read_stdin()?, |name| std::env::var(name).ok())?;
    let options = options::resolve(request.options.as_ref())?;
    let group = group(Path::new("config.json"), &request.id)?;
    let path = socket::path(&request.socket_dir, &request.grpc_address, &request.namespace, &group)?;
    let address = format!("unix://{}", path.display());
    match socket::claim(&path)? {
        Claim::Taken => {
            write_address(&address)?;
            crate::print(&bootstrap::reply(request.dialect, &address, spoken(request.dialect, &path)?))
        }
        Claim::Ours(listener) => launch(&request, &options, listener, &address).inspect_err(|_| {
            // The error that led here is the one to tell; a socket that stays is found dead by the next start.
            let _ = socket::release(&path);
        }),
    }
}

/// Starts a server on `listener` and answers; on error there is none.
fn launch(request: &Request, options: &Options, listener: UnixListener, address: &str) -> Result<()> {
    write_address(address)?;
    raise_oom_score()?;
    if let Some(path) = &options.shim_cgroup {
        // The server is born where this process is.
        cgroup::join(path).map_err(|error| error.context("ShimCgroup"))?;
    }
    let mut server = spawn(request, options, listener)?;
    crate::print(&bootstrap::reply(request.dialect, address, TASK_API_VERSION)).inspect_err(|_| {
        // Nobody will ever call a server of which nobody has heard.
        let _ = server.kill();
    })
}

/// Which version of the task API the server at `path` speaks. It may be older than this program, or newer: it is asked.
/// Only the protobuf answer tells it. No answer in time, and a refusal, leave the version that everyone speaks.
fn spoken(dialect: Dialect, path: &Path) -> Result<i32> {
    if dialect == Dialect::Address {
        return Ok(OLDEST_API_VERSION);
    }
    crate::event_loop()?.block_on(async {
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|e| Error::io(format!("connect to {}", path.display()), &e))?;
        let client = TaskClient::new(Client::new(Socket::new(stream)));
        let request = ConnectRequest::new();
        let answer = timeout(ANSWER_LIMIT, client.connect(with_duration(ANSWER_LIMIT), &request)).await;
        let answered = matches!(answer, Ok(Ok(_)));
        Ok(if answered { TASK_API_VERSION } else { OLDEST_API_VERSION })
    })
}

/// The group of a bundle's container. Without a config.json (containerd's shim sandboxes), or with one that does not parse,
/// which Create will refuse in better words, a container is a group of its own.
pub(crate) fn group(config: &Path, id: &str) -> Result<String> {
    let text = match fs::read(config) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(id.to_owned()),
        Err(e) => return Err(Error::io(format!("read {}", config.display()), &e)),
    };
    let Annotations { group, sandbox } = serde_json::from_slice::<Config>(&text).unwrap_or_default().annotations;
    Ok([group, sandbox].into_iter().flatten().find(|name| !name.is_empty()).unwrap_or_else(|| id.to_owned()))
}

/// Leaves `address` in the bundle, whole or not at all.
fn write_address(address: &str) -> Result<()> {
    let draft = format!(".{ADDRESS_FILE}");
    fs::write(&draft, address)
        .and_then(|()| fs::rename(&draft, ADDRESS_FILE))
        .map_err(|e| Error::io(format!("write {ADDRESS_FILE} in the bundle"), &e))
}

/// Makes this process, and so the server it becomes the parent of, a likelier victim than containerd: by one point. A
/// score that is higher already stays.
fn raise_oom_score() -> Result<()> {
    const OWN: &str = "/proc/self/oom_score_adj";
    let score = (read_score(&format!("/proc/{}/oom_score_adj", parent_id()))? + 1).min(MAX_OOM_SCORE);
    if score > read_score(OWN)? {
        fs::write(OWN, score.to_string()).map_err(|e| Error::io(format!("write {score} to {OWN}"), &e))?;
    }
    Ok(())
}

fn read_score(path: &str) -> Result<i32> {
    let text = fs::read_to_string(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    text.trim().parse().map_err(|e| Error::new(runtime_core::Kind::System, format!("parse {path}: {e}")))
}

/// Runs the sealed program as the server. Its arguments are for those who read `ps`, as the Go shim's are.
fn spawn(request: &Request, options: &Options, listener: UnixListener) -> Result<Child> {
    let program = seal::program(&request.socket_dir)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command
        .arg0(std::env::args_os().next().unwrap_or_else(|| OsString::from(PROGRAM)))
        .args(["-namespace", &request.namespace, "-id", &request.id, "-address", &request.grpc_address])
        .env("OTEL_SERVICE_NAME", format!("containerd-shim-{}", request.id))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if options.idle_seconds != Options::default().idle_seconds {
        command.args(["-idle-seconds", &options.idle_seconds.to_string()]);
    }
    match log_level(request.log_level, options.log_level) {
        LevelFilter::Info => {}
        LevelFilter::Debug => _ = command.arg("-debug"),
        level => _ = command.args(["-log-level", level.as_str()]),
    }
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    match &request.ttrpc_address {
        Some(address) => command.env("TTRPC_ADDRESS", address),
        None => command.env_remove("TTRPC_ADDRESS"),
    };
    command.spawn().map_err(|e| Error::io("run the sealed copy of this program as the server", &e))
}

/// The option's level, raised where containerd asks for debug or trace.
fn log_level(asked: LevelFilter, option: Option<LevelFilter>) -> LevelFilter {
    match option {
        Some(level) if asked > LevelFilter::Info => level.max(asked),
        Some(level) => level,
        None => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(config: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, config).unwrap();
        group(&path, "own").unwrap()
    }

    #[test]
    fn the_level_is_the_options_and_never_less_than_a_debugger_asks_for() {
        use LevelFilter::{Debug, Info, Trace, Warn};
        for (asked, option, level) in [
            (Info, None, Info),
            (Warn, None, Warn),
            (Info, Some(Warn), Warn),
            (Warn, Some(Debug), Debug),
            (Debug, Some(Warn), Debug),
            (Debug, Some(Trace), Trace),
        ] {
            assert_eq!(log_level(asked, option), level, "{asked} {option:?}");
        }
    }

    #[test]
    fn the_group_is_the_annotation_that_comes_first() {
        let both = r#"{"process": {"args": ["a"]}, "annotations": {"io.kubernetes.cri.sandbox-id": "pod", "x": "y",
            "io.containerd.runc.v2.group": "group"}}"#;
        assert_eq!(group_of(both), "group");
        assert_eq!(group_of(r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}"#), "pod");
        assert_eq!(group_of(r#"{"annotations": {"io.kubernetes.cri.sandbox-id": ""}}"#), "own");
        assert_eq!(group_of(r#"{"ociVersion": "1.0.0"}"#), "own");
    }

    #[test]
    fn a_config_that_is_missing_or_broken_makes_a_group_of_one() {
        assert_eq!(group(Path::new("/nonexistent/config.json"), "own").unwrap(), "own");
        assert_eq!(group_of("{"), "own");
        assert_eq!(group_of(r#"{"annotations": 1}"#), "own");
        assert!(group(Path::new("/proc/self/mem"), "own").is_err());
    }
}
