//! The Sandbox service: containerd's api/runtime/sandbox/v1/sandbox.proto, beside the Task services on one socket. By it a pod
//! needs no pause image and no pause process: this shim holds its namespaces (see [`runtime_core::sandbox`]).
//!
//! ```text
//! Create ──▶ created ──Start──▶ ready ──Stop, or the end of its process──▶ stopped ──Shutdown──▶ the server ends
//!            └───────────────────Stop──────────────────────────────────────▶┘
//! ```
//!
//! containerd has it called so: Create and Start for RunPodSandbox, Wait at once and after its restart, Platform and Status for
//! every container, Stop, and at last Shutdown, also after a Create or Start that failed. Containers come by the Task
//! service; where `start` was answered with version 3, containerd asks for nothing else for them, and what is left of them is
//! ours to end.
//!
//! The pid that a sandbox reports is that of its process, or 0 where it has none. CRI of 2.1 to 2.4 makes `/proc/PID/ns/…`
//! of it in each container's config.json; those paths are read as names (see [`config::pod`]). To whom reads it, Start also
//! says where the namespaces and files really are, as an OCI spec; of that, containerd's future without pause containers is
//! made (containerd#14135).

mod actor;
mod answer;
mod update;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest, PlatformResponse,
    SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest, SandboxStatusResponse, ShutdownSandboxRequest,
    ShutdownSandboxResponse, StartSandboxRequest, StartSandboxResponse, StopSandboxRequest, StopSandboxResponse,
    WaitSandboxRequest, WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::{Sandbox as Methods, create_sandbox};
use runtime_core::cgroup::stats::Stats;
use runtime_core::sandbox::{Members, Shared};
use runtime_core::{Error, Exit, Kind, Result};
use tokio::sync::{mpsc, oneshot, watch};
use ttrpc::r#async::TtrpcContext;
use update::Update;

use crate::error::status;
use crate::idle::Idle;
use crate::metrics;
use crate::task::{Create, Tasks};

/// Where an actor's answer goes. Nobody may be listening any more.
type Reply<T> = oneshot::Sender<Result<T>>;

/// What the actor is asked.
#[derive(Debug)]
enum Command {
    Create(Box<CreateSandboxRequest>, Reply<()>),
    Start(Reply<View>),
    Stop(Duration, Reply<()>),
    Shutdown(Reply<()>),
    Metrics(Reply<Stats>),
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Created,
    Ready,
    /// It takes no more containers.
    Stopping,
    Stopped(Exit),
}

/// What clients may know of a sandbox.
#[derive(Debug, Clone)]
struct View {
    id: String,
    bundle: PathBuf,
    stage: Stage,
    pid: u32,
    created_at: SystemTime,
    /// None once it is stopped.
    shared: Option<Arc<Shared>>,
}

/// The sandbox of this shim, if it is asked to be one's; reachable from any handler.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<Option<View>>,
}

impl Sandbox {
    /// No sandbox yet. `tasks` are its containers; `idle` is told of it and of its end. To be called in the event loop.
    pub(crate) fn new(namespace: String, tasks: Tasks, idle: Idle) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (show, view) = watch::channel(None);
        tokio::task::spawn_local(actor::run(inbox, actor::Actor::new(namespace, tasks, show, idle)));
        Self { commands, view }
    }

    /// What a ttrpc server registers.
    pub(crate) fn methods(self) -> HashMap<String, ttrpc::r#async::Service> {
        let update = Update { service: self.clone() };
        let mut services = create_sandbox(Arc::new(self));
        for service in services.values_mut() {
            service.methods.insert(update::NAME.to_owned(), Box::new(update.clone()));
        }
        services
    }

    /// Makes a container that is to be created one of the sandbox's, if there is one. Kind `Precondition` where that is not
    /// ready.
    pub(crate) fn admit(&self, order: &mut Create) -> Result<()> {
        let Some(view) = self.view.borrow().clone() else { return Ok(()) };
        if view.stage != Stage::Ready {
            return Err(Error::new(Kind::Precondition, format!("sandbox {} is not ready", view.id)));
        }
        order.member = Some(Members::of(&view.bundle).add(&order.id, &order.bundle)?);
        order.pod = view.shared;
        Ok(())
    }

    /// `sandbox s1 ready, pid 0`, for people.
    pub(crate) fn described(&self) -> Option<String> {
        let view = self.view.borrow().clone()?;
        let stage = format!("{:?}", view.stage).to_lowercase();
        Some(format!("sandbox {} {stage}, pid {}, bundle {}", view.id, view.pid, view.bundle.display()))
    }

    fn find(&self, id: &str) -> ttrpc::Result<View> {
        let view = self.view.borrow().clone();
        view.filter(|view| view.id == id).ok_or_else(|| status(&missing(id)))
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> ttrpc::Result<T> {
        let (reply, answer) = oneshot::channel();
        // An actor that is gone answers nobody: the server is at its end.
        _ = self.commands.send(command(reply));
        let gone = || Err(Error::new(Kind::NotFound, "the sandbox is gone"));
        answer.await.unwrap_or_else(|_| gone()).map_err(|error| status(&error))
    }
}

#[async_trait]
impl Methods for Sandbox {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> ttrpc::Result<CreateSandboxResponse> {
        self.ask(|reply| Command::Create(Box::new(request), reply)).await?;
        Ok(CreateSandboxResponse::new())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> ttrpc::Result<StartSandboxResponse> {
        self.find(&request.sandbox_id)?;
        let view = self.ask(Command::Start).await?;
        let pod = view.shared.as_ref().map(|shared| &shared.pod);
        Ok(StartSandboxResponse {
            pid: view.pid,
            created_at: MessageField::some(view.created_at.into()),
            spec: pod.map(answer::spec).into(),
            ..Default::default()
        })
    }

    async fn platform(&self, _: &TtrpcContext, request: PlatformRequest) -> ttrpc::Result<PlatformResponse> {
        self.find(&request.sandbox_id)?;
        Ok(PlatformResponse { platform: MessageField::some(answer::platform()), ..Default::default() })
    }

    async fn stop_sandbox(&self, _: &TtrpcContext, request: StopSandboxRequest) -> ttrpc::Result<StopSandboxResponse> {
        self.find(&request.sandbox_id)?;
        let limit = Duration::from_secs(request.timeout_secs.into());
        self.ask(|reply| Command::Stop(limit, reply)).await?;
        Ok(StopSandboxResponse::new())
    }

    async fn wait_sandbox(&self, _: &TtrpcContext, request: WaitSandboxRequest) -> ttrpc::Result<WaitSandboxResponse> {
        self.find(&request.sandbox_id)?;
        let exit = |view: &Option<View>| match view.as_ref()?.stage {
            Stage::Stopped(exit) => Some(exit),
            _ => None,
        };
        let mut view = self.view.clone();
        let ended = view.wait_for(|view| exit(view).is_some()).await.ok().and_then(|view| exit(&view));
        let exit = ended.ok_or_else(|| status(&missing(&request.sandbox_id)))?;
        let exited_at = MessageField::some(exit.at.into());
        Ok(WaitSandboxResponse { exit_status: exit.status, exited_at, ..Default::default() })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> ttrpc::Result<SandboxStatusResponse> {
        let view = self.find(&request.sandbox_id)?;
        Ok(answer::status(&view, request.verbose))
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, request: PingRequest) -> ttrpc::Result<PingResponse> {
        self.find(&request.sandbox_id)?;
        Ok(PingResponse::new())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> ttrpc::Result<ShutdownSandboxResponse> {
        // A sandbox that could not be created has left a server that nobody else will end.
        if self.view.borrow().is_some() {
            self.find(&request.sandbox_id)?;
        }
        self.ask(Command::Shutdown).await?;
        Ok(ShutdownSandboxResponse::new())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> ttrpc::Result<SandboxMetricsResponse> {
        self.find(&request.sandbox_id)?;
        let stats = self.ask(Command::Metrics).await?;
        let data: Any = metrics::pack(&stats).map_err(|error| status(&error))?;
        let mut response = SandboxMetricsResponse::new();
        let metric = response.metrics.mut_or_insert_default();
        metric.id = request.sandbox_id;
        metric.timestamp = MessageField::some(SystemTime::now().into());
        metric.data = MessageField::some(data);
        Ok(response)
    }
}

fn missing(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("sandbox {id} does not exist"))
}
