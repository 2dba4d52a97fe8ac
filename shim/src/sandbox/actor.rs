//! The actor of the sandbox: owns it, does one thing after the other, and shows what clients may see. Whoever asked may be gone
//! with its client; what was asked for comes to its end all the same.

use std::time::{Duration, SystemTime};

use config::SandboxRequest;
use containerd_shim_protos::sandbox_api::CreateSandboxRequest;
use nix::libc::{SIGKILL, SIGTERM};
use runtime_core::cgroup::stats::Stats;
use runtime_core::{Error, Exit, Kind, Result};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{Command, Stage, View};
use crate::idle::{Hold, Idle};
use crate::lifecycle::INIT;
use crate::task::{Task, Tasks};

/// What containerd sends of CRI's pods.
const POD_CONFIG: &str = "runtime.v1.PodSandboxConfig";

/// How long a container may take to end that was sent SIGKILL. Longer takes only what the kernel does not let go.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// The sandbox and what it needs of the world around it.
pub(super) struct Actor {
    namespace: String,
    tasks: Tasks,
    view: watch::Sender<Option<View>>,
    idle: Idle,
    /// From Create to Stop.
    sandbox: Option<runtime_core::Sandbox>,
    /// From Create to Shutdown: its state can be asked for, whatever becomes of its containers.
    hold: Option<Hold>,
}

/// Serves until the handles are gone.
pub(super) async fn run(mut commands: mpsc::UnboundedReceiver<Command>, mut actor: Actor) {
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => actor.handle(command).await,
                None => return,
            },
            exit = ended(actor.sandbox.as_ref()) => actor.has_ended(exit).await,
        }
    }
}

/// The end of the sandbox's process. Without one there is none to wait for.
async fn ended(sandbox: Option<&runtime_core::Sandbox>) -> Result<Exit> {
    match sandbox.and_then(runtime_core::Sandbox::init) {
        Some(init) => init.wait().await,
        None => std::future::pending().await,
    }
}

impl Actor {
    pub(super) fn new(namespace: String, tasks: Tasks, view: watch::Sender<Option<View>>, idle: Idle) -> Self {
        Self { namespace, tasks, view, idle, sandbox: None, hold: None }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Create(request, reply) => _ = reply.send(self.create(&request).await),
            Command::Start(reply) => _ = reply.send(self.start().await),
            Command::Stop(limit, reply) => _ = reply.send(self.stop(limit, killed_by(0)).await),
            Command::Shutdown(reply) => _ = reply.send(self.shutdown().await),
            Command::Metrics(reply) => _ = reply.send(self.stats()),
        }
    }

    async fn create(&mut self, request: &CreateSandboxRequest) -> Result<()> {
        if let Some(view) = &*self.view.borrow() {
            return Err(Error::new(Kind::Exists, format!("this shim is that of sandbox {} already", view.id)));
        }
        let spec = resolve(request, &self.namespace)?;
        let hold = self.idle.hold();
        let sandbox = runtime_core::Sandbox::create(&spec).await?;
        self.hold = Some(hold);
        self.view.send_replace(Some(View {
            id: request.sandbox_id.clone(),
            bundle: spec.bundle,
            stage: Stage::Created,
            pid: sandbox.shared().pod.pid,
            created_at: SystemTime::now(),
            shared: Some(sandbox.shared().clone()),
        }));
        self.sandbox = Some(sandbox);
        Ok(())
    }

    async fn start(&mut self) -> Result<View> {
        let Some(sandbox) = self.sandbox.as_ref().filter(|_| self.stage() == Some(Stage::Created)) else {
            return Err(Error::new(Kind::Precondition, "the sandbox was started before"));
        };
        sandbox.start().await?;
        self.show(|view| view.stage = Stage::Ready);
        let view = self.view.borrow().clone();
        view.ok_or_else(|| Error::new(Kind::NotFound, "the sandbox is gone"))
    }

    /// Ends the containers, then the sandbox. A second time there is nothing to do.
    async fn stop(&mut self, limit: Duration, exit: Exit) -> Result<()> {
        let Some(sandbox) = self.sandbox.take() else { return Ok(()) };
        self.show(|view| view.stage = Stage::Stopping);
        end_all(&self.tasks, limit).await;
        let stopped = sandbox.stop().await;
        self.show(|view| {
            view.stage = Stage::Stopped(Exit { at: SystemTime::now(), ..exit });
            view.shared = None;
        });
        stopped
    }

    /// Its process has ended, and with it the pid namespace and all that was in it.
    async fn has_ended(&mut self, exit: Result<Exit>) {
        let exit = exit.unwrap_or_else(|error| {
            log::error!("{error}");
            killed_by(SIGKILL)
        });
        log::warn!("the process of the sandbox ended with status {}", exit.status);
        if let Err(error) = self.stop(Duration::ZERO, exit).await {
            log::error!("stop the sandbox: {error}");
        }
    }

    /// Ends all there is, and the server. What cannot be ended is told, and found by `delete`.
    async fn shutdown(&mut self) -> Result<()> {
        if self.hold.is_none() {
            self.tasks.shutdown().await;
            return Ok(());
        }
        let mut outcome = self.stop(Duration::ZERO, killed_by(0)).await;
        for (id, task) in self.tasks.all().await {
            outcome = outcome.and(task.delete(INIT.to_owned()).await.map(drop).map_err(|error| error.context(id)));
        }
        self.hold = None;
        self.idle.end();
        self.idle.settled().await;
        outcome
    }

    fn stats(&self) -> Result<Stats> {
        let gone = || Error::new(Kind::Precondition, "the sandbox is stopped");
        self.sandbox.as_ref().ok_or_else(gone)?.stats()
    }

    fn stage(&self) -> Option<Stage> {
        self.view.borrow().as_ref().map(|view| view.stage)
    }

    fn show(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| {
            if let Some(view) = view {
                change(view);
            }
        });
    }
}

/// Reads a request. What it asks for that a sandbox without a root has no use for is refused.
fn resolve(request: &CreateSandboxRequest, namespace: &str) -> Result<config::Sandbox> {
    if !request.rootfs.is_empty() {
        return Err(Error::new(Kind::Invalid, "rootfs: this runtime's sandboxes have none"));
    }
    let name = request.options.type_url.rsplit('/').next().unwrap_or_default();
    if !matches!(name, "" | POD_CONFIG) {
        return Err(Error::new(Kind::Invalid, format!("options of type {name}: not {POD_CONFIG}")));
    }
    let bundle = std::path::Path::new(&request.bundle_path);
    if !bundle.is_absolute() {
        return Err(Error::new(Kind::Invalid, format!("bundle path {:?} is not absolute", request.bundle_path)));
    }
    Ok(config::Sandbox::resolve(&SandboxRequest {
        id: &request.sandbox_id,
        bundle,
        namespace,
        netns_path: &request.netns_path,
        config: &request.options.value,
    })?)
}

/// Ends every container: politely, with `limit` for them to end in, then at once.
async fn end_all(tasks: &Tasks, limit: Duration) {
    let tasks = tasks.all().await;
    if !limit.is_zero() {
        signal_all(&tasks, SIGTERM, false).await;
        // Who does not end in time is killed below.
        _ = timeout(limit, wait_for_all(&tasks)).await;
    }
    signal_all(&tasks, SIGKILL, true).await;
    if timeout(KILL_LIMIT, wait_for_all(&tasks)).await.is_err() {
        log::error!("a container of the sandbox does not end");
    }
}

/// One that has ended, is not there yet or not any more, takes no signal and needs none.
async fn signal_all(tasks: &[(String, Task)], signal: i32, all: bool) {
    for (_, task) in tasks {
        _ = task.resume().await;
        _ = task.kill(INIT.to_owned(), signal, all).await;
    }
}

async fn wait_for_all(tasks: &[(String, Task)]) {
    for (_, task) in tasks {
        _ = task.wait(INIT).await;
    }
}

/// The exit of a sandbox: 0 where it was stopped.
fn killed_by(signal: i32) -> Exit {
    let status = if signal == 0 { 0 } else { 128 + signal.unsigned_abs() };
    Exit { status, at: SystemTime::now() }
}
