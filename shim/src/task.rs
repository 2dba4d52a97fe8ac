//! Tasks: one actor per container, and the handles by which the ttrpc handlers reach it (D5).
//!
//! ```text
//!  ttrpc handlers ──Find──▶ registry          id → Task
//!        │                                     (a mailbox and a view)
//!        ├──Start, Exec, Kill, Delete, …──▶ mailbox ─▶ actor ─▶ lifecycle ─▶ effects ─▶ kernel, publisher
//!        └──State, Wait, Connect──────────▶ view ◀───────┘
//! ```
//!
//! The actor handles each command at once: what takes time (a fork, an execve, an unmount) runs as a future beside it and
//! comes back as another input. So nothing queues behind a slow Create, and a Kill reaches its pidfd while a Start hangs.
//! ttrpc drops a handler when its client's deadline passes; it only drops the receiver of a reply with it, and the work
//! goes on to a consistent end.

mod actor;
mod create;
mod events;
mod registry;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use config::ContainerId;
use config::resources::Resources;
use containerd_shim_protos::events::task::TaskCreate;
use runtime_core::cgroup::stats::Stats;
use runtime_core::rootfs::RootfsMount;
use runtime_core::sandbox::{Member, Shared};
use runtime_core::{Error, Exit, Kind, Result};
use tokio::sync::{mpsc, oneshot, watch};

use crate::io::Streams;

pub(crate) use registry::Tasks;

/// Where an actor's answer goes. Nobody may be listening any more.
type Reply<T> = oneshot::Sender<Result<T>>;

/// A container to be created.
#[derive(Debug)]
pub(crate) struct Create {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Absolute path of its bundle.
    pub(crate) bundle: PathBuf,
    /// What is to be mounted at the bundle's `rootfs`; nothing where it is there already.
    pub(crate) rootfs: Vec<RootfsMount>,
    /// Init's stdio.
    pub(crate) streams: Streams,
    /// Runtime options.
    pub(crate) options: config::Options,
    /// What will be told of it, all but the pid.
    pub(crate) event: TaskCreate,
    /// What it shares with its pod, in a [sandbox](crate::sandbox); needed until it is created.
    pub(crate) pod: Option<Arc<Shared>>,
    /// Its place among the sandbox's containers, for as long as it is there.
    pub(crate) member: Option<Member>,
}

/// What a client may ask of a container. `id` is an exec's, or [empty](crate::lifecycle::INIT) for init.
#[derive(Debug)]
enum Command {
    Start { id: String, reply: Reply<i32> },
    Exec { id: String, process: Box<config::Process>, streams: Streams, reply: Reply<()> },
    Kill { id: String, signal: i32, all: bool, reply: Reply<()> },
    Delete { id: String, reply: Reply<Deleted> },
    Pids { reply: Reply<Vec<Pid>> },
    Stats { reply: Reply<Stats> },
    Update { resources: Box<Resources>, reply: Reply<()> },
    Pause { reply: Reply<()> },
    Resume { reply: Reply<()> },
    Resize { id: String, rows: u16, columns: u16, reply: Reply<()> },
    CloseStdin { id: String, reply: Reply<()> },
}

/// A process that has been deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Its pid while it lived.
    pub(crate) pid: i32,
    /// How it ended.
    pub(crate) exit: Exit,
}

/// A process of a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pid {
    /// In the host's pid namespace.
    pub(crate) pid: i32,
    /// Of which exec it is the first process.
    pub(crate) exec_id: Option<String>,
}

/// What clients may know of a container's processes, by id. Empty until it is created.
type View = BTreeMap<String, ProcessView>;

/// What clients may know of a process.
#[derive(Debug, Clone)]
pub(crate) struct ProcessView {
    /// Where it is in its life.
    pub(crate) status: Status,
    /// 0 for an exec that was not started.
    pub(crate) pid: i32,
    /// Its stdio, as asked for.
    pub(crate) streams: Arc<Streams>,
    /// How it ended, once that was told.
    pub(crate) exit: watch::Receiver<Option<Exit>>,
}

/// The status of a process, as the API has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was not started.
    Created,
    /// It was started.
    Running,
    /// It is being stopped where it is, with the whole container.
    Pausing,
    /// It is stopped where it is.
    Paused,
    /// Its end was told.
    Stopped,
}

/// A container that exists or is being created.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    bundle: Arc<str>,
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<View>,
}

impl Task {
    /// Path of the bundle.
    pub(crate) fn bundle(&self) -> &str {
        &self.bundle
    }

    /// What is known of process `id`. Never waits.
    pub(crate) fn process(&self, id: &str) -> Result<ProcessView> {
        let view = self.view.borrow();
        if view.is_empty() {
            return Err(not_created());
        }
        let process = view.get(id).cloned();
        process.ok_or_else(|| Error::new(Kind::NotFound, format!("process {id} does not exist")))
    }

    /// What is known of every process, init first. Never waits.
    pub(crate) fn processes(&self) -> Vec<(String, ProcessView)> {
        self.view.borrow().clone().into_iter().collect()
    }

    /// Waits until the end of process `id` has been told.
    pub(crate) async fn wait(&self, id: &str) -> Result<Exit> {
        let mut exit = self.process(id)?.exit;
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        ended.ok_or_else(not_created)
    }

    /// Starts a created process. Gives its pid.
    pub(crate) async fn start(&self, id: String) -> Result<i32> {
        self.ask(|reply| Command::Start { id, reply }).await
    }

    /// Prepares a further process: forked, and waiting to be started.
    pub(crate) async fn exec(&self, id: String, process: config::Process, streams: Streams) -> Result<()> {
        let process = Box::new(process);
        self.ask(|reply| Command::Exec { id, process, streams, reply }).await
    }

    /// Sends a signal to a process; with `all`, and for init, to every process of the container.
    pub(crate) async fn kill(&self, id: String, signal: i32, all: bool) -> Result<()> {
        self.ask(|reply| Command::Kill { id, signal, all, reply }).await
    }

    /// Clears away a process that has ended or was never started; with init, the container.
    pub(crate) async fn delete(&self, id: String) -> Result<Deleted> {
        self.ask(|reply| Command::Delete { id, reply }).await
    }

    /// Every process of the container's cgroup.
    pub(crate) async fn pids(&self) -> Result<Vec<Pid>> {
        self.ask(|reply| Command::Pids { reply }).await
    }

    /// What the container has used.
    pub(crate) async fn stats(&self) -> Result<Stats> {
        self.ask(|reply| Command::Stats { reply }).await
    }

    /// Changes what the container may use: all of it, or on error nothing.
    pub(crate) async fn update(&self, resources: Resources) -> Result<()> {
        let resources = Box::new(resources);
        self.ask(|reply| Command::Update { resources, reply }).await
    }

    /// Stops every process of the container where it is.
    pub(crate) async fn pause(&self) -> Result<()> {
        self.ask(|reply| Command::Pause { reply }).await
    }

    /// Lets them go on.
    pub(crate) async fn resume(&self) -> Result<()> {
        self.ask(|reply| Command::Resume { reply }).await
    }

    /// Sets the size of a process's terminal.
    pub(crate) async fn resize(&self, id: String, rows: u16, columns: u16) -> Result<()> {
        self.ask(|reply| Command::Resize { id, rows, columns, reply }).await
    }

    /// Lets a process see the end of its input once its client has closed it.
    pub(crate) async fn close_stdin(&self, id: String) -> Result<()> {
        self.ask(|reply| Command::CloseStdin { id, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        // An actor that is gone takes no command, and drops those that it had not read: the container is deleted.
        _ = self.commands.send(command(reply));
        answer.await.unwrap_or_else(|_| Err(not_created()))
    }
}

impl Command {
    /// Answers it with an error.
    fn refuse(self, error: Error) {
        // The receiver may be gone with its client.
        match self {
            Self::Start { reply, .. } => _ = reply.send(Err(error)),
            Self::Delete { reply, .. } => _ = reply.send(Err(error)),
            Self::Pids { reply } => _ = reply.send(Err(error)),
            Self::Stats { reply } => _ = reply.send(Err(error)),
            Self::Exec { reply, .. }
            | Self::Update { reply, .. }
            | Self::Pause { reply }
            | Self::Resume { reply }
            | Self::Kill { reply, .. }
            | Self::Resize { reply, .. }
            | Self::CloseStdin { reply, .. } => _ = reply.send(Err(error)),
        }
    }
}

/// The words that clients of containerd's own shims know.
fn not_created() -> Error {
    Error::new(Kind::NotFound, "container not created")
}
