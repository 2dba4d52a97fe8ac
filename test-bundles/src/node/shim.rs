//! A shim that runs, and the task API's calls to it: the same messages under the name of version 2 or 3.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse,
    ExecProcessRequest, KillRequest, ShutdownRequest, StartRequest, StartResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::ttrpc;
use serde_json::Value;
use ttrpc::r#async::Client;

use super::Container;
use crate::bundle;

/// For one call; Wait takes as long as it takes.
const LIMIT: Duration = Duration::from_mins(1);

/// A server and a connection to it. Clones share the connection.
#[derive(Clone)]
pub struct Shim {
    /// The server.
    pub pid: u32,
    client: Client,
    service: &'static str,
    namespace: String,
}

/// Where the output of a process goes: nowhere, to a fifo, or through a terminal to a fifo.
#[derive(Debug, Clone, Copy, Default)]
pub enum Streams<'a> {
    /// `/dev/null`.
    #[default]
    Null,
    /// The fifo is stdout and stderr.
    Fifo(&'a Path),
    /// The fifo is the terminal's output.
    Terminal(&'a Path),
}

/// An exec, from its Exec call on.
pub struct Exec {
    shim: Shim,
    container: String,
    name: String,
}

impl Shim {
    /// By the answer to `start`: a bare address, which means version 2, or JSON, which says the version.
    pub(super) async fn connect(answer: &[u8], namespace: &str, id: &str) -> Result<Self> {
        let text = std::str::from_utf8(answer).context("the answer to start")?.trim();
        let (address, version) = match serde_json::from_str::<Value>(text) {
            Ok(json) => (json["address"].as_str().context("no address")?.to_owned(), json["version"].as_u64()),
            Err(_) => (text.to_owned(), None),
        };
        let service = if version >= Some(3) { "containerd.task.v3.Task" } else { "containerd.task.v2.Task" };
        let client = Client::connect(&address).await.with_context(|| format!("connect to {address}"))?;
        let mut shim = Self { pid: 0, client, service, namespace: namespace.to_owned() };
        let connected: ConnectResponse =
            shim.call("Connect", &ConnectRequest { id: id.to_owned(), ..Default::default() }).await?;
        shim.pid = connected.shim_pid;
        Ok(shim)
    }

    /// Creates the container; gives init's pid.
    pub async fn create(&self, container: &Container, streams: Streams<'_>) -> Result<u32> {
        let (stdout, stderr, terminal) = streams.of_request();
        let request = CreateTaskRequest {
            id: container.id.clone(),
            bundle: container.path().to_string_lossy().into_owned(),
            rootfs: vec![container.rootfs.clone()],
            stdout,
            stderr,
            terminal,
            ..Default::default()
        };
        Ok(self.call::<_, CreateTaskResponse>("Create", &request).await?.pid)
    }

    /// Starts init, or an exec.
    pub async fn start(&self, id: &str, exec_id: &str) -> Result<()> {
        let request = StartRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call::<_, StartResponse>("Start", &request).await.map(drop)
    }

    /// Waits for the end of init, or of an exec; gives its status.
    pub async fn wait(&self, id: &str, exec_id: &str) -> Result<u32> {
        let request = WaitRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        Ok(self.call::<_, WaitResponse>("Wait", &request).await?.exit_status)
    }

    /// Deletes init with its container, or an exec.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Result<()> {
        let request = DeleteRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call::<_, DeleteResponse>("Delete", &request).await.map(drop)
    }

    /// Adds a process.
    pub async fn exec(&self, id: &str, exec_id: &str, process: &Value) -> Result<Exec> {
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: process.to_string().into_bytes(),
            ..Default::default()
        };
        let request = ExecProcessRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            spec: MessageField::some(spec),
            ..Default::default()
        };
        self.call::<_, Empty>("Exec", &request).await?;
        Ok(Exec { shim: self.clone(), container: id.into(), name: exec_id.into() })
    }

    /// All four calls of an exec that must succeed; how long they took.
    pub async fn run_exec(&self, id: &str, exec_id: &str, process: &Value) -> Result<Duration> {
        let started = Instant::now();
        self.exec(id, exec_id, process).await?.run().await?;
        Ok(started.elapsed())
    }

    /// Creates and starts a container that stays.
    pub async fn create_and_start(&self, container: &Container) -> Result<()> {
        self.create(container, Streams::Null).await?;
        self.start(&container.id, "").await
    }

    /// Kills a container and deletes it.
    pub async fn end(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("Kill", &KillRequest { id: id.into(), signal: 9, all: true, ..Default::default() })
            .await?;
        self.wait(id, "").await?;
        self.delete(id, "").await
    }

    /// Shutdown, and until the server has gone: containerd's last word, after which it hangs up.
    pub async fn shutdown(self, id: &str) -> Result<()> {
        let server = bundle::pidfd(self.pid.try_into()?)?;
        // One that serves no other container may be gone before its answer has come.
        let _ = self.call::<_, Empty>("Shutdown", &ShutdownRequest { id: id.into(), ..Default::default() }).await;
        drop(self);
        let limit = super::GONE_LIMIT * crate::slower();
        let gone = tokio::task::spawn_blocking(move || bundle::ends_within(&server, limit)).await?;
        ensure!(gone, "the shim has not ended {limit:?} after Shutdown");
        Ok(())
    }

    async fn call<Q: Message, A: Message>(&self, method: &str, request: &Q) -> Result<A> {
        let mut message = ttrpc::Request::new();
        message.service = self.service.to_owned();
        message.method = method.to_owned();
        message.payload = request.write_to_bytes()?;
        if method != "Wait" {
            message.timeout_nano = (LIMIT * crate::slower()).as_nanos().try_into()?;
        }
        message.metadata.push(ttrpc::proto::KeyValue {
            key: "containerd-namespace-ttrpc".to_owned(),
            value: self.namespace.clone(),
            ..Default::default()
        });
        let answer = self.client.request(message).await.with_context(|| method.to_owned())?;
        Ok(A::parse_from_bytes(&answer.payload)?)
    }
}

impl Exec {
    /// Start, Wait and Delete of one that must succeed.
    pub async fn run(self) -> Result<()> {
        let Self { shim, container, name } = self;
        shim.start(&container, &name).await?;
        let status = shim.wait(&container, &name).await?;
        shim.delete(&container, &name).await?;
        ensure!(status == 0, "exec {name} ended with {status}");
        Ok(())
    }
}

impl Streams<'_> {
    fn of_request(self) -> (String, String, bool) {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        match self {
            Self::Null => (String::new(), String::new(), false),
            Self::Fifo(path) => (text(path), text(path), false),
            Self::Terminal(path) => (text(path), String::new(), true),
        }
    }
}
