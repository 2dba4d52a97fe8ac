//! The Task service: each method decodes its request, asks the container's [task](crate::task), and encodes the answer.
//!
//! The semantics are containerd's api/runtime/task/v3/shim.proto and those of its own shims. One implementation answers
//! under both names that containerd has given the same messages (D11).

mod convert;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse,
    ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::{Task, create_task};
use runtime_core::{Error, Kind};
use ttrpc::r#async::TtrpcContext;

use crate::error::status;
use crate::lifecycle::INIT;
use crate::metrics;
use crate::sandbox::Sandbox;
use crate::task::Tasks;

/// The name since containerd 2.0.
const V3: &str = "containerd.task.v3.Task";
/// The name until containerd 1.7.
const V2: &str = "containerd.task.v2.Task";

/// The Task service of this shim.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    tasks: Tasks,
    sandbox: Sandbox,
}

impl Service {
    /// The service of these containers, which are this sandbox's where there is one.
    pub(crate) fn new(tasks: Tasks, sandbox: Sandbox) -> Self {
        Self { tasks, sandbox }
    }

    /// What a ttrpc server registers: the same methods under both names.
    pub(crate) fn methods(self) -> HashMap<String, ttrpc::r#async::Service> {
        let mut methods = create_task(Arc::new(self.clone()));
        let older = create_task(Arc::new(self)).remove(V3);
        methods.extend(older.map(|service| (V2.to_owned(), service)));
        methods
    }

    async fn find(&self, id: &str) -> ttrpc::Result<crate::task::Task> {
        self.tasks.find(id).await.map_err(refused)
    }

    /// The answer to a method that is not there yet, for a container that is.
    async fn unimplemented<T>(&self, id: &str, what: &str) -> ttrpc::Result<T> {
        self.find(id).await?;
        Err(refused(Error::new(Kind::Unimplemented, format!("{what} is not implemented by this shim"))))
    }
}

#[async_trait]
impl Task for Service {
    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        let mut order = convert::create(request).map_err(refused)?;
        self.sandbox.admit(&mut order).map_err(refused)?;
        let pid = self.tasks.create(order).await.map_err(refused)?;
        Ok(CreateTaskResponse { pid: pid.unsigned_abs(), ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let pid = self.find(&request.id).await?.start(request.exec_id).await.map_err(refused)?;
        Ok(StartResponse { pid: pid.unsigned_abs(), ..Default::default() })
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let task = self.find(&request.id).await?;
        let (id, process, streams) = convert::exec(request).map_err(refused)?;
        task.exec(id, process, streams).await.map_err(refused)?;
        Ok(Empty::new())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let task = self.find(&request.id).await?;
        let signal = convert::signal(request.signal).map_err(refused)?;
        task.kill(request.exec_id, signal, request.all).await.map_err(refused)?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = self.find(&request.id).await?.wait(&request.exec_id).await.map_err(refused)?;
        let exited_at = MessageField::some(exit.at.into());
        Ok(WaitResponse { exit_status: exit.status, exited_at, ..Default::default() })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let deleted = self.find(&request.id).await?.delete(request.exec_id).await.map_err(refused)?;
        Ok(DeleteResponse {
            pid: deleted.pid.unsigned_abs(),
            exit_status: deleted.exit.status,
            exited_at: MessageField::some(deleted.exit.at.into()),
            ..Default::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let task = self.find(&request.id).await?;
        let process = task.process(&request.exec_id).map_err(refused)?;
        Ok(convert::state(request, task.bundle(), &process))
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let pids = self.find(&request.id).await?.pids().await.map_err(refused)?;
        convert::pids(pids).map_err(refused)
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        // This is how containerd looks for a shim after its restart: it gets an answer, whatever became of the container.
        let task = self.tasks.find(&request.id).await;
        let init = task.and_then(|task| task.process(INIT));
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: init.map_or(0, |init| init.pid.unsigned_abs()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let task = self.find(&request.id).await?;
        let (rows, columns) = convert::size(&request).map_err(refused)?;
        task.resize(request.exec_id, rows, columns).await.map_err(refused)?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        self.find(&request.id).await?.close_stdin(request.exec_id).await.map_err(refused)?;
        Ok(Empty::new())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.tasks.shutdown().await;
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let stats = self.find(&request.id).await?.stats().await.map_err(refused)?;
        let stats = MessageField::some(metrics::pack(&stats).map_err(refused)?);
        Ok(StatsResponse { stats, ..Default::default() })
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let task = self.find(&request.id).await?;
        let resources = convert::resources(&request).map_err(refused)?;
        task.update(resources).await.map_err(refused)?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        self.find(&request.id).await?.pause().await.map_err(refused)?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        self.find(&request.id).await?.resume().await.map_err(refused)?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        self.unimplemented(&request.id, "checkpoint").await
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn refused(error: Error) -> ttrpc::Error {
    status(&error)
}
