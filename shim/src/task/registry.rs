//! Which containers this shim has: a mailbox of its own, so that ids are taken and freed in one order.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use runtime_core::{Error, Kind, Result};
use tokio::sync::{mpsc, oneshot, watch};

use super::actor::{self, Surroundings};
use super::{Create, Reply, Task, View, not_created};
use crate::idle::{Hold, Idle};
use crate::publisher::Publisher;

/// The containers of this shim, reachable from any handler.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    messages: mpsc::UnboundedSender<Message>,
}

/// What the registry is told.
#[derive(Debug)]
pub(super) enum Message {
    Create(Box<Create>, Reply<i32>),
    Find(String, oneshot::Sender<Option<Task>>),
    All(oneshot::Sender<Vec<(String, Task)>>),
    /// The container with this id is gone, or was never made.
    Gone(String),
    Shutdown(oneshot::Sender<()>),
}

impl Tasks {
    /// No containers yet, in containerd's `namespace`. Tells `idle` of each, and of Shutdown. To be called in the event loop.
    pub(crate) fn new(namespace: String, publisher: Publisher, idle: Idle) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let surroundings = Surroundings { namespace, publisher, registry: messages.clone() };
        tokio::task::spawn_local(serve(inbox, surroundings, idle));
        Self { messages }
    }

    /// Creates a container. Gives init's pid.
    pub(crate) async fn create(&self, order: Create) -> Result<i32> {
        self.ask(|reply| Message::Create(Box::new(order), reply)).await.unwrap_or_else(|| Err(not_created()))
    }

    /// The container of this id.
    pub(crate) async fn find(&self, id: &str) -> Result<Task> {
        self.ask(|reply| Message::Find(id.to_owned(), reply)).await.flatten().ok_or_else(not_created)
    }

    /// Every container, by id.
    pub(crate) async fn all(&self) -> Vec<(String, Task)> {
        self.ask(Message::All).await.unwrap_or_default()
    }

    /// Asks the server to end, which it does if no container is left; then its socket has gone when this is over.
    pub(crate) async fn shutdown(&self) {
        self.ask(Message::Shutdown).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).ok()?;
        answer.await.ok()
    }
}

async fn serve(mut inbox: mpsc::UnboundedReceiver<Message>, surroundings: Surroundings, idle: Idle) {
    let mut tasks: HashMap<String, (Task, Hold)> = HashMap::new();
    // A handler that asked may be gone with its client: replies are sent to whom it may concern.
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Create(order, reply) => match tasks.entry(order.id.as_str().to_owned()) {
                Slot::Vacant(slot) => {
                    // Held before anything is created, and until all of it has gone.
                    let hold = idle.hold();
                    slot.insert((create(*order, reply, surroundings.clone()), hold));
                }
                Slot::Occupied(slot) => {
                    let error = format!("container {} exists already", slot.key());
                    _ = reply.send(Err(Error::new(Kind::Exists, error)));
                }
            },
            Message::Find(id, reply) => _ = reply.send(tasks.get(&id).map(|(task, _)| task.clone())),
            Message::All(reply) => {
                let all = tasks.iter().map(|(id, (task, _))| (id.clone(), task.clone()));
                _ = reply.send(all.collect());
            }
            Message::Gone(id) => _ = tasks.remove(&id),
            Message::Shutdown(reply) => {
                idle.shutdown();
                let idle = idle.clone();
                tokio::task::spawn_local(async move {
                    idle.settled().await;
                    _ = reply.send(());
                });
            }
        }
    }
}

fn create(order: Create, reply: Reply<i32>, surroundings: Surroundings) -> Task {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (show, view) = watch::channel(View::new());
    let bundle: Arc<str> = order.bundle.to_string_lossy().into();
    tokio::task::spawn_local(actor::run(order, reply, inbox, show, surroundings));
    Task { bundle, commands, view }
}
