//! Task events as containerd forwards them to subscribers: the order in which the shim published them.

use std::time::Duration;

use anyhow::{Context, Result};
use containerd_client::events as payload;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use prost::Message;
use prost_types::Any;
use tokio::sync::mpsc;

use crate::client::Case;

/// Topic of the event that tells when the subscription has begun.
const MARK: &str = "/test/listening";

/// An event that has not arrived by then was lost.
const LIMIT: Duration = Duration::from_secs(15);

/// One task event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Without `/tasks/`: `create`, `start`, `exec-added`, `exec-started`, `exit`, `delete`.
    pub kind: String,
    /// The container.
    pub container_id: String,
    /// The process: the container's own id, or the exec's.
    pub id: String,
    /// Host pid; 0 where the event has none.
    pub pid: u32,
    /// 0 where the event has none.
    pub exit_status: u32,
}

impl Event {
    /// `exit visit`, `delete`: kind, and the process where that is not init.
    pub fn short(&self) -> String {
        if self.id == self.container_id { self.kind.clone() } else { format!("{} {}", self.kind, self.id) }
    }
}

/// A subscription. Events of other tests on the same daemon pass by.
#[derive(Debug)]
pub struct Events {
    arriving: mpsc::UnboundedReceiver<Event>,
    /// Events of other containers, for a later question.
    passed: Vec<Event>,
}

impl Case {
    /// Subscribes; what happens after this returns is heard.
    pub async fn events(&self) -> Result<Events> {
        let (send, arriving) = mpsc::unbounded_channel();
        let (mark, mut marked) = mpsc::unbounded_channel();
        let client = self.client();
        let namespace = self.daemon.namespace.clone();
        tokio::spawn(async move {
            let filters = vec![format!("namespace=={namespace}")];
            // Answered with the first event, not with the subscription: hence the mark.
            let Ok(answer) = client.events().subscribe(SubscribeRequest { filters }).await else { return };
            let mut stream = answer.into_inner();
            while let Ok(Some(envelope)) = stream.message().await {
                if envelope.topic == MARK {
                    // Only the first is waited for.
                    let _ = mark.send(());
                } else if let Some(event) = decode(&envelope)
                    && send.send(event).is_err()
                {
                    break;
                }
            }
        });
        loop {
            let event = Some(Any { type_url: "containerd.events.NamespaceCreate".to_owned(), value: Vec::new() });
            let request = self.ask(PublishRequest { topic: MARK.to_owned(), event });
            self.client().events().publish(request).await.context("publish the mark")?;
            if tokio::time::timeout(Duration::from_millis(20), marked.recv()).await.is_ok_and(|mark| mark.is_some()) {
                return Ok(Events { arriving, passed: Vec::new() });
            }
        }
    }
}

impl Events {
    /// All events of container `id` that have not been returned yet, up to and including init's event `last`.
    pub async fn of(&mut self, id: &str, last: &str) -> Result<Vec<Event>> {
        let mut seen = Vec::new();
        let mut kept = Vec::new();
        for event in std::mem::take(&mut self.passed) {
            if event.container_id == id { seen.push(event) } else { kept.push(event) }
        }
        self.passed = kept;
        while !seen.iter().any(|event| event.kind == last && event.id == id) {
            let next = tokio::time::timeout(LIMIT * crate::slower(), self.arriving.recv()).await;
            let short: Vec<_> = seen.iter().map(Event::short).collect();
            let event = next.with_context(|| format!("{id}: no {last} event in {LIMIT:?}, only {short:?}"))?;
            let event = event.with_context(|| format!("{id}: the event stream ended after {short:?}"))?;
            if event.container_id == id { seen.push(event) } else { self.passed.push(event) }
        }
        Ok(seen)
    }
}

/// Task events become an [`Event`]; others, such as a snapshot's, are none of ours.
fn decode(envelope: &Envelope) -> Option<Event> {
    let kind = envelope.topic.strip_prefix("/tasks/")?;
    let bytes = envelope.event.as_ref()?.value.as_slice();
    let (container_id, id, pid, exit_status) = match kind {
        "create" => {
            let event = payload::TaskCreate::decode(bytes).ok()?;
            (event.container_id, String::new(), event.pid, 0)
        }
        "start" => {
            let event = payload::TaskStart::decode(bytes).ok()?;
            (event.container_id, String::new(), event.pid, 0)
        }
        "exec-added" => {
            let event = payload::TaskExecAdded::decode(bytes).ok()?;
            (event.container_id, event.exec_id, 0, 0)
        }
        "exec-started" => {
            let event = payload::TaskExecStarted::decode(bytes).ok()?;
            (event.container_id, event.exec_id, event.pid, 0)
        }
        "exit" => {
            let event = payload::TaskExit::decode(bytes).ok()?;
            (event.container_id, event.id, event.pid, event.exit_status)
        }
        "delete" => {
            let event = payload::TaskDelete::decode(bytes).ok()?;
            (event.container_id, event.id, event.pid, event.exit_status)
        }
        "paused" => {
            let event = payload::TaskPaused::decode(bytes).ok()?;
            (event.container_id, String::new(), 0, 0)
        }
        "resumed" => {
            let event = payload::TaskResumed::decode(bytes).ok()?;
            (event.container_id, String::new(), 0, 0)
        }
        "oom" => {
            let event = payload::TaskOom::decode(bytes).ok()?;
            (event.container_id, String::new(), 0, 0)
        }
        _ => return None,
    };
    let id = if id.is_empty() { container_id.clone() } else { id };
    Some(Event { kind: kind.to_owned(), container_id, id, pid, exit_status })
}
