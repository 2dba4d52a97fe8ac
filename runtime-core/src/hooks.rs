//! Hooks: programs that run beside a container at points of its life. config.md "POSIX-platform Hooks", runtime.md
//! "Lifecycle". Called by `container`.
//!
//! ```text
//! create  Point::Root ── prestart, createRuntime   in the runtime's namespaces
//!                     └─ createContainer           in the container's, whose root is still the host's
//! start   startContainer                           in the container's, with init's identity
//!         execve
//!         poststart                                in the runtime's
//! delete  poststop                                 in the runtime's, when all else is gone
//! ```
//!
//! A hook is forked as everything else is: by a plan, through the two stages of `init`. The second joins init's namespaces by
//! its pidfd as an exec does, so that no helper program is needed to get there, nothing is allocated between fork and execve,
//! and no descriptor of ours reaches a hook. What it gets is the state object on stdin and its own environment. What it says
//! is kept for the error, the end of it; one that leaves a daemon behind which holds its output is not waited for.
//!
//! The specification does not say which environment a hook has that config.json gives none. A startContainer hook has that of
//! the process, `HOME` included, as with runc and crun. All others have the runtime's `PATH` and nothing else, so that they
//! find the programs that they run. runc and crun give them all of their own environment. Ours is a shim's: it names sockets
//! of containerd (`TTRPC_ADDRESS`, `GRPC_ADDRESS`, `NOTIFY_SOCKET`) and may hold a proxy's password, which is nobody's
//! business; and a poststop hook would not have the same as the others, for it may be run by another process of ours.
//!
//! Nothing here blocks: a hook is a [`Process`], awaited by its pidfd. Past its timeout, and when the future that runs it is
//! dropped, it is killed with its whole process group.
//!
//! What a failure means is `container`'s: up to poststart it is the end of the container, after that it is logged.

use std::convert::Infallible;
use std::io::{Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use config::container::{Hook, Namespace};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::agent::Agent;
use crate::cgroup::Placement;
use crate::error::{Error, Kind, Result};
use crate::memory_file;
use crate::plan::{Facts, Plan};
use crate::process::{Process, Stdio};
use crate::spawn::{self, Handover};
use crate::subject::{Status, Subject};
use crate::watch::watch;

/// How much of what a hook says an error repeats: the end, where the reason stands.
const SAID_BYTES: usize = 2048;

/// The init whose namespaces hooks run in.
#[derive(Clone, Copy)]
pub(crate) struct Inside<'a> {
    pub(crate) pid: i32,
    pub(crate) init: BorrowedFd<'a>,
    pub(crate) placement: &'a Placement,
    pub(crate) facts: &'a Facts<'a>,
    /// Who is given the listener of a hook's filter, where it has one.
    pub(crate) agent: Option<Agent<'a>>,
}

/// What a hook's processes need beside their plan.
#[derive(Clone, Copy)]
struct Around<'a> {
    placement: &'a Placement,
    init: Option<BorrowedFd<'a>>,
    agent: Option<Agent<'a>>,
}

impl Inside<'_> {
    async fn run(&self, hook: &Hook, plan: &Plan, state: &[u8]) -> Result<()> {
        let Self { placement, init, agent, .. } = *self;
        run(hook, plan, state, Around { placement, init: Some(init), agent }).await
    }

    /// Init's pid as it sees it itself.
    fn own_pid(&self) -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().last()?.parse().ok()
    }
}

/// prestart, createRuntime and createContainer hooks, in this order, while init waits before its pivot. The first that fails
/// is the last that runs.
pub(crate) async fn before_pivot(container: &config::Container, inside: &Inside<'_>) -> Result<()> {
    let (hooks, subject) = (&container.hooks, Subject::of(container));
    let state = subject.state(Status::Creating, Some(inside.pid)).to_json();
    outside("prestart", &hooks.prestart, &subject.bundle, &state).await?;
    outside("createRuntime", &hooks.create_runtime, &subject.bundle, &state).await?;
    let state = subject.state(Status::Creating, inside.own_pid()).to_json();
    for (number, hook) in hooks.create_container.iter().enumerate() {
        let plan = Plan::hook_before_pivot(hook, container, &path_alone(), inside.facts)?;
        inside.run(hook, &plan, &state).await.map_err(named("createContainer", number))?;
    }
    Ok(())
}

/// startContainer hooks of a container whose init is `process` and waits for its go.
pub(crate) async fn before_start(
    hooks: &[Hook],
    subject: &Subject,
    process: &config::Process,
    namespaces: &[Namespace],
    inside: &Inside<'_>,
) -> Result<()> {
    let state = subject.state(Status::Created, inside.own_pid()).to_json();
    for (number, hook) in hooks.iter().enumerate() {
        let plan = Plan::hook_inside(hook, process, namespaces, inside.facts)?;
        inside.run(hook, &plan, &state).await.map_err(named("startContainer", number))?;
    }
    Ok(())
}

/// poststart hooks of a container whose init is past execve; none is its pid where it has ended already.
pub(crate) async fn after_start(hooks: &[Hook], subject: &Subject, pid: Option<i32>) -> Result<()> {
    let status = if pid.is_some() { Status::Running } else { Status::Stopped };
    outside("poststart", hooks, &subject.bundle, &subject.state(status, pid).to_json()).await
}

/// poststop hooks of a container that is gone: all of them, whatever becomes of each.
pub(crate) async fn after_delete(hooks: &[Hook], subject: &Subject) {
    let state = subject.state(Status::Stopped, None).to_json();
    for (number, hook) in hooks.iter().enumerate() {
        let done = run_outside(hook, &subject.bundle, &state).await.map_err(named("poststop", number));
        if let Err(error) = done {
            log::warn!("{}: {error}", subject.id);
        }
    }
}

async fn outside(kind: &str, hooks: &[Hook], bundle: &Path, state: &[u8]) -> Result<()> {
    for (number, hook) in hooks.iter().enumerate() {
        run_outside(hook, bundle, state).await.map_err(named(kind, number))?;
    }
    Ok(())
}

async fn run_outside(hook: &Hook, bundle: &Path, state: &[u8]) -> Result<()> {
    let around = Around { placement: &Placement::default(), init: None, agent: None };
    run(hook, &Plan::hook_outside(hook, bundle, &path_alone())?, state, around).await
}

/// The environment of a hook of the host's that has none of its own.
fn path_alone() -> Vec<String> {
    std::env::var("PATH").ok().map(|path| format!("PATH={path}")).into_iter().collect()
}

/// `/hooks/poststop/0: …`
fn named(kind: &str, number: usize) -> impl FnOnce(Error) -> Error {
    move |error| error.context(format_args!("/hooks/{kind}/{number}"))
}

/// Runs one hook to its end, which must be a good one.
async fn run(hook: &Hook, plan: &Plan, state: &[u8], around: Around<'_>) -> Result<()> {
    let path = hook.path.display();
    let mut said = Said::default();
    let running = run_to_the_end(plan, state, around, &mut said);
    let ended = match hook.timeout {
        Some(limit) => tokio::time::timeout(limit, running).await,
        None => Ok(running.await),
    };
    let problem = match ended {
        Ok(Ok(0)) => return Ok(()),
        Ok(Ok(status)) => format!("{path} has ended with status {status}"),
        Ok(Err(error)) => return Err(error.context(path)),
        Err(_) => format!("{path} was killed, for it took longer than {:?}", hook.timeout.unwrap_or_default()),
    };
    Err(Error::new(Kind::System, format!("{problem}{}", said.quoted())))
}

/// Its exit code, or 128 + the signal that ended it.
async fn run_to_the_end(plan: &Plan, state: &[u8], around: Around<'_>, said: &mut Said) -> Result<u32> {
    let (output, stdio) = descriptors(state).map_err(|error| Error::io("make the descriptors of a hook", &error))?;
    let Around { placement, init, agent } = around;
    let handover = Handover { stdio: Some(&stdio), preserved: &[], placement, init, agent };
    let hook = Running(spawn::spawn(plan, &handover, async |_, _| Ok(())).await?.0);
    hook.0.start().await?;
    let exit = tokio::select! {
        exit = hook.0.wait() => exit?,
        never = said.listen(&output) => match never {},
    };
    said.rest(&output);
    Ok(exit.status)
}

/// Our end of what it says, and its descriptors: the state object from its beginning, and one pipe for all that it says.
fn descriptors(state: &[u8]) -> std::io::Result<(AsyncFd<OwnedFd>, Stdio)> {
    let mut input = memory_file::create(c"state")?;
    input.write_all(state)?;
    input.rewind()?;
    let (output, said) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let output = watch(output.into(), Interest::READABLE)?;
    Ok((output, Stdio::Files([input.into(), said.try_clone()?.into(), said.into()])))
}

/// A hook at work. Dropped as such, it is killed with all of its process group.
struct Running(Process);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill_group();
    }
}

/// The end of what a hook has said.
#[derive(Default)]
struct Said(Vec<u8>);

impl Said {
    /// Keeps what comes, so that a hook which says much is not held up.
    async fn listen(&mut self, output: &AsyncFd<OwnedFd>) -> Infallible {
        let mut part = [0; 4096];
        loop {
            match output.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut part)?)).await {
                Ok(count) if count > 0 => self.keep(&part[..count]),
                Ok(_) | Err(_) => return std::future::pending().await,
            }
        }
    }

    /// What is there once it has ended: a pipe full at the most, for others may go on writing.
    fn rest(&mut self, output: &AsyncFd<OwnedFd>) {
        let mut part = vec![0; 65536];
        if let Ok(count) = rustix::io::read(output, &mut part) {
            self.keep(&part[..count]);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.drain(..self.0.len().saturating_sub(SAID_BYTES));
    }

    /// `: …`, on one line; nothing where it said nothing.
    fn quoted(&self) -> String {
        match String::from_utf8_lossy(&self.0).trim() {
            "" => String::new(),
            text => format!(": {}", text.replace('\n', "; ")),
        }
    }
}
