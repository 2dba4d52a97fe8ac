//! Events to containerd, in order, however long containerd is away.
//!
//! One queue and one worker: the event at its head is sent until containerd has taken it, and only then the next. So an
//! exit can never overtake its start, and a restart of containerd costs time, not events. An event whose answer was lost is
//! sent again: containerd sees each at least once. The Go shim sends events side by side and drops one after five failures.
//!
//! An event that containerd itself refuses, again on a fresh connection and once more, is its own fault and not the
//! connection's: it is logged and left out, for it would keep all others from arriving.

use std::time::Duration;

use containerd_shim::event::Event;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{Message, MessageField};
use containerd_shim::protos::shim::event::Envelope;
use containerd_shim::protos::shim::events::ForwardRequest;
use containerd_shim::protos::shim_async::EventsClient;
use containerd_shim::util::timestamp;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use ttrpc::Code;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::with_duration;

use crate::transport::Transport;

/// The protobuf package of all events: api/events/task.proto.
const EVENTS: &str = "containerd.events";

/// For one connection attempt, and for one event to be answered.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Between attempts: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Refusals after which an event is left out.
const MAX_REFUSALS: u32 = 3;

/// The queue's entrance. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    namespace: String,
    /// None where there is nobody to tell.
    queue: Option<mpsc::UnboundedSender<Envelope>>,
    /// How many events containerd has not taken yet.
    pending: watch::Sender<usize>,
}

impl Publisher {
    /// Starts the worker, in the runtime that this is called in. It connects when there is something to send.
    pub(crate) fn spawn(ttrpc_address: Option<String>, namespace: String) -> Self {
        let pending = watch::Sender::new(0);
        let queue = ttrpc_address.map(|address| {
            let (queue, events) = mpsc::unbounded_channel();
            tokio::spawn(Worker { address, client: None }.run(events, pending.clone()));
            queue
        });
        if queue.is_none() {
            log::warn!("neither TTRPC_ADDRESS nor -address is set: no event will be published");
        }
        Self { namespace, queue, pending }
    }

    /// Puts the event at the end of the queue. Never blocks and never drops.
    pub(crate) fn publish(&self, event: &(impl Event + Message)) {
        let Some(queue) = &self.queue else { return };
        self.pending.send_modify(|pending| *pending += 1);
        let envelope = envelope(event, &self.namespace);
        if queue.send(envelope).is_err() {
            log::error!("an event comes after the end of the event loop");
        }
    }

    /// How many events containerd has not taken yet.
    pub(crate) fn pending(&self) -> usize {
        *self.pending.borrow()
    }

    /// Waits until containerd has taken every event, or for `limit`; says whether it has.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        let mut pending = self.pending.subscribe();
        let drained = pending.wait_for(|pending| *pending == 0);
        matches!(timeout(limit, drained).await, Ok(Ok(_)))
    }
}

/// Packs an event as containerd's typeurl has it: the message's bare name, no host before it.
///
/// The name is put together here: to ask the message for it would have protobuf parse its descriptors, which costs every
/// shim more memory than all else that it holds.
fn envelope<E: Event + Message>(event: &E, namespace: &str) -> Envelope {
    let value = event.write_to_bytes().expect("an event is encoded to memory and has no required fields");
    let packed = Any { type_url: format!("{EVENTS}.{}", E::NAME), value, ..Any::default() };
    Envelope {
        timestamp: MessageField::from_option(timestamp().ok()),
        namespace: namespace.to_owned(),
        topic: event.topic(),
        event: MessageField::some(packed),
        ..Envelope::default()
    }
}

/// What becomes of one attempt to send an event.
enum Attempt {
    Taken,
    /// containerd's own answer to this event.
    Refused(String),
    /// Anything else: the connection, a timeout, a containerd on its way up or down.
    Failed(String),
}

/// The queue's exit.
struct Worker {
    address: String,
    client: Option<EventsClient>,
}

impl Worker {
    async fn run(mut self, mut events: mpsc::UnboundedReceiver<Envelope>, pending: watch::Sender<usize>) {
        while let Some(envelope) = events.recv().await {
            // Who waits for an answer goes first: it was ready in the same moment.
            tokio::task::yield_now().await;
            self.deliver(envelope).await;
            pending.send_modify(|pending| *pending -= 1);
        }
    }

    /// Sends one event until it is taken, or was refused too often.
    async fn deliver(&mut self, envelope: Envelope) {
        let topic = envelope.topic.clone();
        let request = ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() };
        let (mut refusals, mut failures, mut pause) = (0, 0_u32, Duration::ZERO);
        loop {
            match self.attempt(&request).await {
                Attempt::Taken if failures == 0 => return,
                Attempt::Taken => return log::info!("event {topic} delivered after {failures} failures"),
                Attempt::Refused(error) => {
                    refusals += 1;
                    if refusals == MAX_REFUSALS {
                        return log::error!("event {topic} is left out, containerd refuses it: {error}");
                    }
                }
                Attempt::Failed(error) => {
                    // One line says that containerd is away; the next one, that it is back.
                    if failures == 1 {
                        log::warn!("event {topic} has to wait: {error}");
                    }
                    failures = failures.saturating_add(1);
                }
            }
            // Whatever went wrong, the next attempt gets a connection of its own. The first comes at once: an idle
            // connection to a containerd that has restarted meanwhile shows only when it is used.
            self.client = None;
            sleep(pause).await;
            pause = (pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        }
    }

    async fn attempt(&mut self, request: &ForwardRequest) -> Attempt {
        let client = match self.connected().await {
            Ok(client) => client,
            Err(error) => return Attempt::Failed(format!("connect to {}: {error}", self.address)),
        };
        // ttrpc keeps the time: a timer of ours beside its own would wake the event loop once more for each event.
        match client.forward(with_duration(CALL_LIMIT), request).await {
            Ok(_) => Attempt::Taken,
            Err(ttrpc::Error::RpcStatus(status)) if is_refusal(status.code()) => {
                Attempt::Refused(status.message().to_owned())
            }
            Err(error) => Attempt::Failed(error.to_string()),
        }
    }

    async fn connected(&mut self) -> std::io::Result<&EventsClient> {
        // Not ttrpc's own connect, which blocks the thread while containerd is too busy to accept.
        let client = if let Some(client) = self.client.take() {
            client
        } else {
            let path = self.address.strip_prefix("unix://").unwrap_or(&self.address);
            let stream = timeout(CALL_LIMIT, UnixStream::connect(path)).await??;
            EventsClient::new(Client::new(Socket::new(Transport::new(stream)?)))
        };
        Ok(self.client.insert(client))
    }
}

/// Whether the code judges the event. (Errors of a broadcaster that shuts down arrive as Unknown.)
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::INVALID_ARGUMENT
            | Code::NOT_FOUND
            | Code::PERMISSION_DENIED
            | Code::UNAUTHENTICATED
            | Code::OUT_OF_RANGE
            | Code::UNIMPLEMENTED
    )
}

#[cfg(test)]
mod tests;
