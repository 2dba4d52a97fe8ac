//! Containers, their tasks and their execs over containerd's gRPC, for tests that look at exact answers and codes.
//!
//! A [`Case`] is one test on one daemon. It remembers what it made, and [`Case::finish`] fails when anything of it stays.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::Client;
use containerd_client::services::v1 as api;
use containerd_client::tonic::{Code, Request, Status};
use containerd_client::types::Mount;
use prost_types::Any;
use serde_json::Value;

use crate::containerd::Containerd;
use crate::leftovers;
use crate::spec;
use crate::stdio::{Reader, Stdio, Streams};

mod process;

pub use process::{Exec, Process};

/// A shim has this long to go after its last container.
const GONE_LIMIT: Duration = Duration::from_secs(10);
const SNAPSHOTTER: &str = "overlayfs";

/// One test on one daemon.
pub struct Case {
    /// The daemon it runs on.
    pub daemon: Arc<Containerd>,
    /// Its connection, for requests that have no method here.
    pub client: RefCell<Arc<Client>>,
    name: &'static str,
    chain_id: String,
    made: RefCell<Vec<String>>,
    nth: Cell<u32>,
}

impl Case {
    /// Connects to `daemon`, which has the image whose layer is `chain_id`.
    pub async fn new(daemon: Arc<Containerd>, chain_id: String, name: &'static str) -> Result<Self> {
        let client = RefCell::new(Arc::new(Client::from_path(daemon.socket()).await.context("connect")?));
        Ok(Self { daemon, client, name, chain_id, made: RefCell::default(), nth: Cell::new(0) })
    }

    /// The connection.
    pub fn client(&self) -> Arc<Client> {
        self.client.borrow().clone()
    }

    /// Connects anew, after the daemon was started again.
    pub async fn reconnect(&self) -> Result<()> {
        let client = Client::from_path(self.daemon.socket()).await.context("connect again")?;
        self.client.replace(Arc::new(client));
        Ok(())
    }

    /// A request in the daemon's namespace.
    pub fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let namespace = self.daemon.namespace.parse().expect("a namespace is plain ASCII");
        request.metadata_mut().insert("containerd-namespace", namespace);
        request
    }

    /// A new name for a container of this test, which must leave nothing behind.
    pub fn new_id(&self) -> String {
        self.nth.set(self.nth.get() + 1);
        let id = format!("{}-{}", self.name.replace('_', "-"), self.nth.get());
        self.made.borrow_mut().push(id.clone());
        id
    }

    /// A container that runs `args`; nothing happens before [`NewContainer::create`].
    pub fn container(&self, args: &[&str]) -> NewContainer<'_> {
        let id = self.new_id();
        let spec = spec::container(&self.daemon.namespace, &id, args);
        let (runtime, stdio) = (crate::runtime(), Stdio::outputs());
        NewContainer { case: self, id, spec, spec_text: None, runtime, options: None, stdio }
    }

    /// The end of a test: whatever it made must be gone, or go in the time that a shim has to end.
    pub fn finish(&self) -> Result<()> {
        let look = || -> Vec<String> {
            self.made.borrow().iter().flat_map(|id| leftovers::of_container(&self.daemon, id)).collect()
        };
        let gone = crate::wait_until(GONE_LIMIT, || look().is_empty());
        ensure!(gone, "left behind:\n  {}", look().join("\n  "));
        Ok(())
    }
}

/// The code of a request that failed, or `None` for another error.
pub fn code(error: &anyhow::Error) -> Option<Code> {
    error.downcast_ref::<Status>().map(Status::code)
}

/// The text of a request's failure; fails when it did not fail.
pub fn refusal<T>(result: Result<T>) -> Result<(Code, String)> {
    match result {
        Ok(_) => anyhow::bail!("it succeeded, and should not have"),
        Err(error) => match error.downcast_ref::<Status>() {
            Some(status) => Ok((status.code(), status.message().to_owned())),
            None => Err(error),
        },
    }
}

/// A container before its task.
pub struct NewContainer<'c> {
    case: &'c Case,
    /// Its name.
    pub id: String,
    spec: Value,
    /// Sent in place of `spec`: what is no JSON cannot be a value.
    spec_text: Option<String>,
    runtime: String,
    options: Option<Any>,
    stdio: Stdio,
}

impl<'c> NewContainer<'c> {
    /// Changes the spec.
    #[must_use]
    pub fn spec(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.spec);
        self
    }

    /// Sends `text` as the spec, whatever it is.
    #[must_use]
    pub fn spec_text(mut self, text: &str) -> Self {
        self.spec_text = Some(text.to_owned());
        self
    }

    /// Sets stdio; the default is [`Stdio::outputs`].
    #[must_use]
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        if stdio.terminal {
            self.spec["process"]["terminal"] = Value::Bool(true);
        }
        self.stdio = stdio;
        self
    }

    /// Uses another runtime than the one under test.
    #[must_use]
    pub fn runtime(mut self, runtime: &str) -> Self {
        runtime.clone_into(&mut self.runtime);
        self
    }

    /// Sends runtime options: a message of the type `kind`.
    #[must_use]
    pub fn options(mut self, kind: &str, value: Vec<u8>) -> Self {
        self.options = Some(Any { type_url: kind.to_owned(), value });
        self
    }

    /// Has the cgroup made by systemd: `SystemdCgroup` of the runtime options.
    #[must_use]
    pub fn systemd_cgroup(self) -> Self {
        // Field 9 of containerd.runc.v1.Options, a bool.
        self.options("containerd.runc.v1.Options", vec![9 << 3, 1])
    }

    /// Creates container, snapshot and task. When the task is refused, container and snapshot go again.
    pub async fn create(self) -> Result<Container<'c>> {
        self.prepare().await?.create().await
    }

    /// Creates the container's record, its snapshot and its fifos: all but the task.
    pub async fn prepare(self) -> Result<Prepared<'c>> {
        let Self { case, id, spec, spec_text, runtime, options, stdio } = self;
        let runtime = api::container::Runtime { name: runtime, options };
        let rootfs = record(case, &id, runtime, spec_text.unwrap_or_else(|| spec.to_string())).await?;
        let streams = Streams::open(&case.daemon.dir().join("io"), &id, &stdio)?;
        let request = api::CreateTaskRequest {
            container_id: id.clone(),
            rootfs,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal: stdio.terminal,
            ..Default::default()
        };
        Ok(Prepared { container: Container { case, id, pid: 0, streams }, request })
    }
}

/// A container with everything but its task.
pub struct Prepared<'c> {
    container: Container<'c>,
    request: api::CreateTaskRequest,
}

impl<'c> Prepared<'c> {
    /// Shows the rootfs by `map` (`CONTAINER:HOST:SIZE`), as a snapshotter that remaps does it: lower layers by the mount options,
    /// the upper one belongs to the map's `root`.
    pub fn remap(mut self, map: &str, root: u32) -> Result<Self> {
        for mount in &mut self.request.rootfs {
            for directory in mount.options.iter().filter_map(|option| option.strip_prefix("upperdir=")) {
                std::os::unix::fs::chown(directory, Some(root), Some(root)).context("give the upper layer away")?;
            }
            mount.options.extend([format!("uidmap={map}"), format!("gidmap={map}")]);
        }
        Ok(self)
    }

    /// Creates the task: here the shim comes in.
    pub async fn create(self) -> Result<Container<'c>> {
        let Self { mut container, request } = self;
        match container.case.client().tasks().create(container.case.ask(request)).await {
            Ok(created) => {
                container.pid = created.into_inner().pid;
                Ok(container)
            }
            Err(status) => {
                container.forget().await?;
                Err(status.into())
            }
        }
    }
}

/// The container's record and its snapshot; returns the mounts of its rootfs.
async fn record(case: &Case, id: &str, runtime: api::container::Runtime, spec: String) -> Result<Vec<Mount>> {
    let record = api::Container {
        id: id.to_owned(),
        image: crate::image::NAME.to_owned(),
        runtime: Some(runtime),
        spec: Some(any("types.containerd.io/opencontainers/runtime-spec/1/Spec", spec)),
        snapshotter: SNAPSHOTTER.to_owned(),
        snapshot_key: id.to_owned(),
        ..Default::default()
    };
    let request = api::CreateContainerRequest { container: Some(record) };
    case.client().containers().create(case.ask(request)).await.context("create the container's record")?;
    let request = api::snapshots::PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: id.to_owned(),
        parent: case.chain_id.clone(),
        labels: HashMap::default(),
    };
    let prepared = case.client().snapshots().prepare(case.ask(request)).await.context("prepare the snapshot")?;
    Ok(prepared.into_inner().mounts)
}

fn any(type_url: &str, json: String) -> Any {
    Any { type_url: type_url.to_owned(), value: json.into_bytes() }
}

/// A container with a task.
pub struct Container<'c> {
    case: &'c Case,
    /// Its name.
    pub id: String,
    /// Its init, seen from the host.
    pub pid: u32,
    /// The test's ends of its stdio.
    pub streams: Streams,
}

impl<'c> Container<'c> {
    /// Starts the task.
    pub async fn start(&self) -> Result<()> {
        self.process("").start().await.map(drop)
    }

    /// Waits for init's exit.
    pub async fn wait(&self) -> Result<u32> {
        self.process("").wait().await
    }

    /// Starts the task, waits for its end, and deletes everything; what it said stays readable. Returns the exit status.
    pub async fn run(&mut self) -> Result<u32> {
        self.start().await?;
        let status = self.wait().await?;
        let deleted = self.delete().await?;
        ensure!(deleted == status, "wait says {status} and delete says {deleted}");
        Ok(status)
    }

    /// Sends a signal to init, or to every process with `all`.
    pub async fn kill(&self, signal: u32, all: bool) -> Result<()> {
        let request = api::KillRequest { container_id: self.id.clone(), signal, all, ..Default::default() };
        self.case.client().tasks().kill(self.case.ask(request)).await?;
        Ok(())
    }

    /// Stops every process where it is.
    pub async fn pause(&self) -> Result<()> {
        let request = api::PauseTaskRequest { container_id: self.id.clone() };
        self.case.client().tasks().pause(self.case.ask(request)).await?;
        Ok(())
    }

    /// Lets every process go on.
    pub async fn resume(&self) -> Result<()> {
        let request = api::ResumeTaskRequest { container_id: self.id.clone() };
        self.case.client().tasks().resume(self.case.ask(request)).await?;
        Ok(())
    }

    /// Changes what its cgroup may use: `linux.resources` of config.json.
    pub async fn update(&self, resources: Value) -> Result<()> {
        let type_url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned();
        let resources = Some(Any { type_url, value: resources.to_string().into_bytes() });
        let request = api::UpdateTaskRequest { container_id: self.id.clone(), resources, ..Default::default() };
        self.case.client().tasks().update(self.case.ask(request)).await?;
        Ok(())
    }

    /// The process of the task: init for `""`, otherwise an exec's.
    pub fn process(&self, exec_id: &str) -> Process<'c> {
        Process { case: self.case, container_id: self.id.clone(), exec_id: exec_id.to_owned() }
    }

    /// The pids of all its processes, seen from the host, in order.
    pub async fn pids(&self) -> Result<Vec<u32>> {
        let request = api::ListPidsRequest { container_id: self.id.clone() };
        let answer = self.case.client().tasks().list_pids(self.case.ask(request)).await?.into_inner();
        let mut pids: Vec<_> = answer.processes.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Adds a process, not yet started.
    pub async fn exec(&self, exec_id: &str, process: &Value, stdio: &Stdio) -> Result<Exec<'c>> {
        let name = format!("{}-{exec_id}", self.id);
        let streams = Streams::open(&self.case.daemon.dir().join("io"), &name, stdio)?;
        let mut process = process.clone();
        process["terminal"] = Value::Bool(stdio.terminal);
        let request = api::ExecProcessRequest {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal: stdio.terminal,
            spec: Some(any("types.containerd.io/opencontainers/runtime-spec/1/Process", process.to_string())),
        };
        self.case.client().tasks().exec(self.case.ask(request)).await?;
        Ok(Exec { process: self.process(exec_id), streams })
    }

    /// Adds a process that cannot be started; gives what its Start says.
    pub async fn refused_exec(&self, exec_id: &str, process: &Value, stdio: &Stdio) -> Result<(Code, String)> {
        let exec = self.exec(exec_id, process, stdio).await?;
        let refused = refusal(exec.process.start().await)?;
        exec.process.delete().await?;
        Ok(refused)
    }

    /// Deletes the task and then everything else; returns the exit status that the deletion reports.
    pub async fn delete(&mut self) -> Result<u32> {
        let status = self.delete_task().await?;
        self.forget().await?;
        Ok(status)
    }

    /// Deletes the task alone; returns the exit status that the deletion reports.
    pub async fn delete_task(&mut self) -> Result<u32> {
        let request = api::DeleteTaskRequest { container_id: self.id.clone() };
        Ok(self.case.client().tasks().delete(self.case.ask(request)).await?.into_inner().exit_status)
    }

    /// Kills every process and deletes everything.
    pub async fn end(mut self) -> Result<()> {
        self.kill(9, true).await?;
        self.wait().await?;
        self.delete().await.map(drop)
    }

    /// Removes the snapshot and then the record: without a record, containerd's collector may come first.
    pub async fn forget(&mut self) -> Result<()> {
        let request =
            api::snapshots::RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: self.id.clone() };
        self.case.client().snapshots().remove(self.case.ask(request)).await?;
        let request = api::DeleteContainerRequest { id: self.id.clone() };
        self.case.client().containers().delete(self.case.ask(request)).await?;
        Ok(())
    }

    /// What it writes to stdout; can be taken once.
    pub fn output(&mut self) -> Reader {
        self.streams.output.take().expect("stdout is a fifo, and taken once")
    }

    /// What it writes to stderr; can be taken once.
    pub fn errors(&mut self) -> Reader {
        self.streams.errors.take().expect("stderr is a fifo, and taken once")
    }

    /// Its stdin.
    pub fn input(&self) -> Result<File> {
        self.streams.input()
    }
}
