//! The publisher against a containerd that fails, refuses, hangs up and restarts.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use containerd_shim::protos::events::task::{TaskExit, TaskStart};
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::empty::Empty;
use containerd_shim::protos::shim_async::{Events, create_events};
use tokio::runtime::Builder;
use ttrpc::r#async::{Server, TtrpcContext};
use ttrpc::{Error, get_status};

use super::*;

/// Answers with `code` for as long as `failures` last, then takes and passes on.
struct Exchange {
    taken: mpsc::UnboundedSender<Envelope>,
    failures: Arc<AtomicU32>,
    code: Code,
}

#[async_trait]
impl Events for Exchange {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let failing = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if failing.is_ok() {
            return Err(Error::RpcStatus(get_status(self.code, "not now")));
        }
        self.taken.send(request.envelope.unwrap()).unwrap();
        Ok(Empty::new())
    }
}

/// A socket on which containerd comes and goes, and what it has taken so far.
struct Containerd {
    dir: tempfile::TempDir,
    sender: mpsc::UnboundedSender<Envelope>,
    taken: mpsc::UnboundedReceiver<Envelope>,
    started: Cell<u32>,
}

impl Containerd {
    fn new() -> Self {
        let (sender, taken) = mpsc::unbounded_channel();
        Self { dir: tempfile::tempdir().unwrap(), sender, taken, started: Cell::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("c.sock.ttrpc")
    }

    fn address(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    /// Starts a life that answers `failures` times with `code` first.
    async fn start(&self, failures: u32, code: Code) -> Server {
        self.started.set(self.started.get() + 1);
        let failures = Arc::new(AtomicU32::new(failures));
        let exchange = Exchange { taken: self.sender.clone(), failures, code };
        let mut server =
            Server::new().bind(&self.address()).unwrap().register_service(create_events(Arc::new(exchange)));
        server.start().await.unwrap();
        server
    }

    async fn stop(&self, mut server: Server) {
        server.shutdown().await.unwrap();
        std::fs::remove_file(self.path()).unwrap();
    }

    async fn next(&mut self) -> Envelope {
        timeout(Duration::from_secs(10), self.taken.recv()).await.expect("an event is lost").unwrap()
    }

    /// The exit statuses of all events taken so far.
    fn statuses(&mut self) -> Vec<u32> {
        let mut events = VecDeque::new();
        while let Ok(envelope) = self.taken.try_recv() {
            events.push_back(status(&envelope));
        }
        events.into()
    }
}

fn exit(status: u32) -> TaskExit {
    TaskExit { exit_status: status, ..TaskExit::default() }
}

fn status(envelope: &Envelope) -> u32 {
    TaskExit::parse_from_bytes(&envelope.event.value).unwrap().exit_status
}

fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn an_event_arrives_as_containerd_packs_its_own() {
    on_one_thread(async {
        let mut containerd = Containerd::new();
        let _server = containerd.start(0, Code::OK).await;
        let publisher = Publisher::spawn(Some(containerd.address()), "k8s.io".into());
        publisher.publish(&TaskStart { container_id: "a".into(), pid: 7, ..TaskStart::default() });

        let envelope = containerd.next().await;
        assert_eq!((envelope.namespace.as_str(), envelope.topic.as_str()), ("k8s.io", "/tasks/start"));
        assert!(envelope.timestamp.seconds > 1_600_000_000);
        assert_eq!(envelope.event.type_url, "containerd.events.TaskStart");
        assert_eq!(TaskStart::parse_from_bytes(&envelope.event.value).unwrap().pid, 7);
        assert!(publisher.drain(Duration::from_secs(5)).await);
    });
}

#[test]
fn failures_hold_the_queue_and_change_no_order() {
    on_one_thread(async {
        let mut containerd = Containerd::new();
        let _server = containerd.start(4, Code::UNKNOWN).await;
        let publisher = Publisher::spawn(Some(containerd.address()), "n".into());
        (0..50).for_each(|number| publisher.publish(&exit(number)));
        assert!(publisher.drain(Duration::from_secs(10)).await);
        assert_eq!(containerd.statuses(), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn restarts_lose_nothing() {
    on_one_thread(async {
        let mut containerd = Containerd::new();
        let publisher = Publisher::spawn(Some(containerd.address()), "n".into());
        let mut expected = 0;
        for life in 0..4 {
            // Published while containerd is away, and while it is there.
            publisher.publish(&exit(life * 2));
            let server = containerd.start(0, Code::OK).await;
            publisher.publish(&exit(life * 2 + 1));
            for _ in 0..2 {
                assert_eq!(status(&containerd.next().await), expected);
                expected += 1;
            }
            assert!(publisher.drain(Duration::from_secs(5)).await);
            containerd.stop(server).await;
        }
        assert_eq!(containerd.started.get(), 4);
        assert!(containerd.statuses().is_empty(), "an event came twice");
    });
}

#[test]
fn an_event_that_is_refused_for_good_lets_the_next_pass() {
    on_one_thread(async {
        let mut containerd = Containerd::new();
        let _server = containerd.start(MAX_REFUSALS, Code::INVALID_ARGUMENT).await;
        let publisher = Publisher::spawn(Some(containerd.address()), "n".into());
        (0..3).for_each(|number| publisher.publish(&exit(number)));
        assert!(publisher.drain(Duration::from_secs(5)).await);
        assert_eq!(containerd.statuses(), [1, 2]);
    });
}

#[test]
fn one_refusal_is_no_reason_to_give_up() {
    on_one_thread(async {
        let mut containerd = Containerd::new();
        let _server = containerd.start(MAX_REFUSALS - 1, Code::INVALID_ARGUMENT).await;
        let publisher = Publisher::spawn(Some(containerd.address()), "n".into());
        publisher.publish(&exit(0));
        assert!(publisher.drain(Duration::from_secs(5)).await);
        assert_eq!(containerd.statuses(), [0]);
    });
}

#[test]
fn a_peer_that_hangs_up_is_called_again() {
    on_one_thread(async {
        let mut containerd = Containerd::new();
        let path: PathBuf = containerd.path();
        let rude = tokio::net::UnixListener::bind(Path::new(&path)).unwrap();
        let publisher = Publisher::spawn(Some(containerd.address()), "n".into());
        (0..3).for_each(|number| publisher.publish(&exit(number)));
        for _ in 0..2 {
            drop(rude.accept().await.unwrap());
        }
        drop(rude);
        std::fs::remove_file(path).unwrap();
        let _server = containerd.start(0, Code::OK).await;
        assert!(publisher.drain(Duration::from_secs(10)).await);
        assert_eq!(containerd.statuses(), [0, 1, 2]);
    });
}

#[test]
fn draining_is_bounded_and_needs_no_containerd() {
    on_one_thread(async {
        let containerd = Containerd::new();
        let publisher = Publisher::spawn(Some(containerd.address()), "n".into());
        publisher.publish(&exit(0));
        assert!(!publisher.drain(Duration::from_millis(50)).await);
        assert_eq!(publisher.pending(), 1);

        let nobody = Publisher::spawn(None, "n".into());
        nobody.publish(&exit(0));
        assert!(nobody.drain(Duration::ZERO).await);
    });
}
