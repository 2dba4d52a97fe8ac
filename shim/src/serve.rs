//! The server: one per pod, one thread (D4), from the inherited socket to the last event delivered.
//!
//! Started by `start`, with the listening socket as stdin and the bundle of the pod's first container as working directory.
//! It leaves containerd's session and its pipes, adopts what its containers orphan (subreaper), and lets nobody trace it
//! or read its memory. It ends after Shutdown, when [nobody needs it](crate::idle), or on SIGTERM or SIGINT: the socket goes
//! first, so that a new pod of that name finds no half-dead server, then what containerd has not yet been told is
//! delivered, then the process, which may stay for loggers that are slow to end. Containers that are left on a signal go on;
//! containerd's `delete` ends them.

mod accept;
mod answers;
mod dump;
mod rest;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use config::Options;
use nix::sys::prctl;
use runtime_core::{Error, Kind, Result, reaper};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Timeout, timeout};
use ttrpc::r#async::Server;

use self::rest::Rest;
use crate::flags::Flags;
use crate::idle::Idle;
use crate::logger;
use crate::publisher::Publisher;
use crate::sandbox::Sandbox;
use crate::service::Service;
use crate::start::socket;
use crate::task::Tasks;

/// For events on the way out; containerd gives a shim that shuts down some seconds.
const DRAIN_LIMIT: Duration = Duration::from_millis(4500);

/// For those who asked for the end to hear the answer and hang up.
///
/// A Go client that finds an answer and the end of the connection at once takes either for the result of its call
/// (github.com/containerd/ttrpc, `Client.dispatch`). containerd excuses that of a Shutdown, and not of a ShutdownSandbox. So
/// clients are waited for, which hang up once they have the answer.
const HANG_UP_LIMIT: Duration = Duration::from_secs(1);

/// For answers on the way out. A `Wait` that still hangs has no other end.
const ANSWER_LIMIT: Duration = Duration::from_millis(100);

/// Serves until told to stop.
#[inline(never)]
pub(crate) fn serve(flags: &Flags) -> Result<()> {
    let listener = inherited()?;
    logger::init(flags)?;
    detach()?;
    let serving = run(flags.clone(), listener);
    // A task like all others: whoever wakes what `block_on` itself polls writes to the loop's eventfd, at each call of a client.
    crate::event_loop()?
        .block_on(async { tokio::task::spawn_local(serving).await.expect("a panic aborts the process") })
}

/// The socket that `start` made.
fn inherited() -> Result<UnixListener> {
    let stdin = std::io::stdin();
    if !rustix::net::sockopt::socket_acceptconn(stdin.as_fd()).unwrap_or(false) {
        let text = "stdin is no listening socket: containerd runs this program with the command `start`";
        return Err(Error::new(Kind::Invalid, text));
    }
    let socket = stdin.as_fd().try_clone_to_owned().map_err(|e| Error::io("keep the socket", &e))?;
    Ok(socket.into())
}

/// Leaves the caller's session and becomes what a server of containers must be. (Of the standard files, `start` has given
/// us /dev/null for two already.)
fn detach() -> Result<()> {
    let null = File::open("/dev/null").map_err(|e| Error::io("open /dev/null", &e))?;
    rustix::stdio::dup2_stdin(&null).map_err(|e| Error::io("put /dev/null on stdin", &e.into()))?;
    // Refused to the leader of a process group, which we are not unless run by hand; then it is no loss.
    let _ = rustix::process::setsid();
    // The kernel may have named us after the descriptor that we were executed from.
    prctl::set_name(c"containerd-shim").map_err(|e| Error::sys("set the process's name", e))?;
    prctl::set_dumpable(false).map_err(|e| Error::sys("become untraceable", e))?;
    prctl::set_child_subreaper(true).map_err(|e| Error::sys("become a subreaper", e))
}

async fn run(flags: Flags, listener: UnixListener) -> Result<()> {
    let address = listener.local_addr().map_err(|e| Error::io("name of the socket", &e))?;
    let mut signals = Signals::new().map_err(|e| Error::io("watch signals", &e))?;
    let ttrpc_address = std::env::var("TTRPC_ADDRESS").ok().filter(|address| !address.is_empty());
    let publisher = Publisher::spawn(ttrpc_address, flags.namespace.clone());
    let idle = Idle::new();
    let tasks = Tasks::new(flags.namespace.clone(), publisher.clone(), idle.clone());
    let sandbox = Sandbox::new(flags.namespace.clone(), tasks.clone(), idle.clone());

    let socket = listener.try_clone().map_err(|e| Error::io("keep the socket", &e))?.into();
    let rest = Rest::default();
    tokio::task::spawn_local(rest.clone().run());
    let incoming = accept::listener(listener, idle.clone(), rest).map_err(|e| Error::io("listen", &e))?;
    let mut methods = Service::new(tasks.clone(), sandbox.clone()).methods();
    methods.extend(sandbox.clone().methods());
    let mut server = Server::new().add_listener(incoming).register_service(methods);
    server.start().await.map_err(|e| Error::new(Kind::System, format!("serve: {e}")))?;
    log::debug!("serving as process {}", std::process::id());

    let (released, hang_up) = tokio::select! {
        released = until_idle(&idle, idle_limit(&flags), address.as_pathname(), &socket) => {
            log::debug!("leaving, for nobody needs this server any more");
            (released, if idle.has_ended() { HANG_UP_LIMIT } else { Duration::ZERO })
        }
        signal = signals.until_leaving(&tasks, &sandbox, &publisher) => {
            log::info!("leaving on {signal}");
            (address.as_pathname().map_or(Ok(()), socket::release), Duration::ZERO)
        }
    };
    let others = timeout(hang_up, idle.unconnected());
    released.and(leave(&mut server, &publisher, others).await)
}

/// How long a server that nobody needs stays; none is for ever.
fn idle_limit(flags: &Flags) -> Option<Duration> {
    let seconds: u32 = flags.idle_seconds.parse().unwrap_or(Options::default().idle_seconds);
    (seconds > 0).then_some(Duration::from_secs(seconds.into()))
}

/// Waits until nobody needs the server, and takes its socket away. Who has connected by then is served first.
async fn until_idle(idle: &Idle, limit: Option<Duration>, path: Option<&Path>, socket: &OwnedFd) -> Result<()> {
    loop {
        idle.over(limit).await;
        match path.map_or(Ok(true), |path| socket::retire(path, socket)) {
            Ok(false) => idle.changed().await,
            retired => {
                idle.retired();
                return retired.map(drop);
            }
        }
    }
}

/// The end, once the socket has gone, in an order in which nothing is lost; `others` is the wait for those who are connected.
async fn leave(server: &mut Server, publisher: &Publisher, others: Timeout<impl Future<Output = ()>>) -> Result<()> {
    if !publisher.drain(DRAIN_LIMIT).await {
        log::error!("leaving with {} events that containerd did not take", publisher.pending());
    }
    // Who stays connected all the same has not asked for the end.
    _ = others.await;
    let answered = timeout(ANSWER_LIMIT, server.shutdown()).await;
    crate::io::loggers_ended().await;
    answered.unwrap_or(Ok(())).map_err(|e| Error::new(Kind::System, format!("stop serving: {e}")))
}

/// The signals that the server acts on. (SIGPIPE is ignored from the start, by Rust's runtime.)
struct Signals {
    child: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
    dump: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            child: unix::signal(SignalKind::child())?,
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            dump: unix::signal(SignalKind::user_defined1())?,
        })
    }

    /// Acts on signals until one of them asks to leave, and names it.
    async fn until_leaving(&mut self, tasks: &Tasks, sandbox: &Sandbox, publisher: &Publisher) -> &'static str {
        loop {
            tokio::select! {
                _ = self.child.recv() => reaper::sweep(),
                _ = self.dump.recv() => dump::dump(tasks, sandbox, publisher.pending()).await,
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
            }
        }
    }
}
