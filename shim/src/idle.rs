//! When the server has nothing more to do: it then ends by itself, for containerd may have crashed in the middle of a
//! Create, or have lost a Shutdown, and nobody would ever call it again.
//!
//! Whoever needs the server holds something: a container (from the moment that its Create is read) and a sandbox a [`Hold`], a
//! client a [`Connection`]. Nothing is polled: a timer runs only while nobody holds anything.
//!
//! | containers, sandbox | Shutdown was asked for | clients | it ends |
//! |---|---|---|---|
//! | some | | | not |
//! | none | no | some | not |
//! | none | no | none | after `IdleSeconds` |
//! | none | yes | the caller | at once |
//! | none | yes | others, or one was looking | when all have gone, after [`GRACE`] |
//! | whatever is left | of the sandbox | some | at once |
//!
//! The last but one is the pod whose next container is on its way while its last one goes: `start` has looked whether
//! somebody listens, and told containerd so. Each such visit announces one container, the start of the server itself too.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long after `start` has found this server a Create may take to arrive.
const GRACE: Duration = Duration::from_secs(2);

/// Who needs this server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Idle(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    holds: usize,
    connections: usize,
    /// Of them those that have asked for nothing yet: such a one may be a visit.
    silent: usize,
    /// Containers that were announced and have not come.
    announced: usize,
    /// When somebody last connected and asked for nothing.
    visited: Option<Instant>,
    /// Shutdown was asked for, and no container has come since.
    shutdown: bool,
    /// The sandbox was shut down, and with it the server.
    ended: bool,
    /// The server's socket has been taken away.
    retired: bool,
}

/// What a container or a sandbox holds while it exists.
#[derive(Debug)]
pub(crate) struct Hold(Idle);

/// What a client's connection holds.
#[derive(Debug)]
pub(crate) struct Connection {
    idle: Idle,
    called: bool,
}

impl Idle {
    /// Nobody, but the one for whom the server was started is on its way.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State { announced: 1, ..State::default() }))
    }

    /// A container or a sandbox that exists from now on until this is dropped.
    pub(crate) fn hold(&self) -> Hold {
        self.0.send_modify(|state| {
            state.holds += 1;
            state.announced = state.announced.saturating_sub(1);
            state.shutdown = false;
        });
        Hold(self.clone())
    }

    /// A client that is connected from now on until this is dropped.
    pub(crate) fn connection(&self) -> Connection {
        self.0.send_modify(|state| {
            state.connections += 1;
            state.silent += 1;
        });
        Connection { idle: self.clone(), called: false }
    }

    /// Shutdown was asked for: without effect while there is a container or a sandbox.
    pub(crate) fn shutdown(&self) {
        self.0.send_modify(|state| state.shutdown = state.holds == 0);
    }

    /// Waits until the socket has gone, if the server is about to end: whoever asked for that and has the answer finds it
    /// gone, as with containerd's own shims.
    pub(crate) async fn settled(&self) {
        let ends = |state: &State| state.left(None) == Some(Duration::ZERO);
        // We hold a sender.
        _ = self.0.subscribe().wait_for(|state| state.retired || !ends(state)).await;
    }

    /// The server's socket has gone, or cannot be taken away.
    pub(crate) fn retired(&self) {
        self.0.send_modify(|state| state.retired = true);
    }

    /// The sandbox is shut down: whatever is left of its containers, nobody will ask for it here.
    pub(crate) fn end(&self) {
        self.0.send_modify(|state| state.ended = true);
    }

    /// Whether it was the sandbox that was shut down.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.borrow().ended
    }

    /// Waits until nobody has needed the server for as long as the table says; `limit` is `IdleSeconds`, if at all.
    pub(crate) async fn over(&self, limit: Option<Duration>) {
        let mut state = self.0.subscribe();
        loop {
            let left = state.borrow_and_update().left(limit);
            let timer = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // We hold a sender.
                _ = state.changed() => {}
                () = timer => return,
            }
        }
    }

    /// Waits until no client is connected.
    pub(crate) async fn unconnected(&self) {
        // We hold a sender.
        _ = self.0.subscribe().wait_for(|state| state.connections == 0).await;
    }

    /// Waits until somebody comes or goes.
    pub(crate) async fn changed(&self) {
        // We hold a sender.
        _ = self.0.subscribe().changed().await;
    }
}

impl State {
    /// How long the server stays if all remains as it is; none is for ever.
    fn left(&self, limit: Option<Duration>) -> Option<Duration> {
        let visited = self.visited.is_some_and(|at| at.elapsed() < GRACE);
        let awaited = self.silent > 0 || (self.announced > 0 && visited);
        match (self.holds, self.connections) {
            _ if self.ended => Some(Duration::ZERO),
            (0, 0 | 1) if self.shutdown && !awaited => Some(Duration::ZERO),
            (0, 0) if self.shutdown => Some(GRACE),
            (0, 0) => limit,
            _ => None,
        }
    }
}

impl Connection {
    /// The client has asked for something.
    pub(crate) fn called(&mut self) {
        if !std::mem::replace(&mut self.called, true) {
            self.idle.0.send_modify(|state| state.silent -= 1);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.holds -= 1);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.idle.0.send_modify(|state| {
            state.connections -= 1;
            if !self.called {
                state.silent -= 1;
                state.announced += 1;
                state.visited = Some(Instant::now());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    impl Idle {
        fn left(&self) -> Option<Duration> {
            self.0.borrow().left(Some(LIMIT))
        }

        fn visit(&self) {
            drop(self.connection());
        }
    }

    #[test]
    fn without_anybody_it_stays_for_the_limit() {
        let idle = Idle::new();
        assert_eq!(idle.left(), Some(LIMIT));
        assert_eq!(idle.0.borrow().left(None), None);
        let client = idle.connection();
        assert_eq!(idle.left(), None);
        let container = idle.hold();
        drop(client);
        assert_eq!(idle.left(), None);
        drop(container);
        assert_eq!(idle.left(), Some(LIMIT));
    }

    #[test]
    fn shutdown_ends_it_only_without_containers() {
        let idle = Idle::new();
        let mut caller = idle.connection();
        caller.called();
        let container = idle.hold();
        idle.shutdown();
        drop(container);
        assert_eq!(idle.left(), None, "it was refused when it was asked for");
        idle.shutdown();
        assert_eq!(idle.left(), Some(Duration::ZERO));
        let next = idle.hold();
        drop(next);
        assert_eq!(idle.left(), None, "a container came after it");
    }

    #[test]
    fn shutdown_waits_for_those_who_have_found_the_server() {
        let idle = Idle::new();
        let mut caller = idle.connection();
        caller.called();
        idle.visit();
        idle.shutdown();
        assert_eq!(idle.left(), None, "start has just looked");
        drop(caller);
        assert_eq!(idle.left(), Some(GRACE));

        let idle = Idle::new();
        idle.shutdown();
        let visit = idle.connection();
        assert_eq!(idle.left(), None, "who has told it to end has gone, and start looks");
        drop(visit);
        assert_eq!(idle.left(), Some(GRACE));

        let idle = Idle::new();
        let clients = [idle.connection(), idle.connection()].map(|mut client| {
            client.called();
            client
        });
        idle.shutdown();
        assert_eq!(idle.left(), None, "another is connected");
        drop(clients);
        assert_eq!(idle.left(), Some(Duration::ZERO));
    }

    #[test]
    fn who_has_come_is_not_waited_for() {
        let idle = Idle::new();
        let mut caller = idle.connection();
        caller.called();
        let first = idle.hold();
        idle.visit();
        idle.visit();
        drop((first, idle.hold()));
        idle.shutdown();
        assert_eq!(idle.left(), None, "of two one has come");
        drop(idle.hold());
        idle.shutdown();
        assert_eq!(idle.left(), Some(Duration::ZERO));
    }

    #[test]
    fn the_end_of_a_sandbox_is_that_of_the_server() {
        let idle = Idle::new();
        let clients = [idle.connection(), idle.connection()];
        let sandbox = idle.hold();
        let container = idle.hold();
        drop(container);
        idle.shutdown();
        assert_eq!(idle.left(), None, "there is a sandbox");
        let stuck = idle.hold();
        idle.end();
        drop(sandbox);
        assert_eq!(idle.left(), Some(Duration::ZERO));
        drop((clients, stuck));
        assert_eq!(idle.left(), Some(Duration::ZERO));
    }

    #[test]
    fn clients_are_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let idle = Idle::new();
            idle.unconnected().await;
            let clients = [idle.connection(), idle.connection()];
            let (gone, ()) = tokio::join!(
                async {
                    idle.unconnected().await;
                    idle.0.borrow().connections
                },
                async {
                    for client in clients {
                        tokio::task::yield_now().await;
                        drop(client);
                    }
                }
            );
            assert_eq!(gone, 0);
        });
    }

    #[test]
    fn the_time_starts_anew_with_each_visit() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let idle = Idle::new();
            let limit = Duration::from_millis(200);
            let start = Instant::now();
            tokio::join!(idle.over(Some(limit)), async {
                tokio::time::sleep(limit / 2).await;
                idle.visit();
            });
            assert!(start.elapsed() >= limit + limit / 2, "{:?}", start.elapsed());
        });
    }

    #[test]
    fn an_answer_to_shutdown_waits_for_the_socket_to_go_and_for_nothing_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let idle = Idle::new();
            let mut caller = idle.connection();
            caller.called();
            idle.settled().await;
            idle.shutdown();
            assert!(tokio::time::timeout(Duration::ZERO, idle.settled()).await.is_err(), "the socket is there");
            let other = idle.connection();
            idle.settled().await;
            drop(other);
            idle.retired();
            idle.settled().await;
        });
    }
}
