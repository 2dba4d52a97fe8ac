//! From a request to a container whose init waits to be started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Bundle;
use runtime_core::rootfs::RootfsMount;
use runtime_core::timing::{Timing, milliseconds};
use runtime_core::{Container, Error, Kind, Process, Result, rootfs};
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::{Command, Create, Deleted, Reply, not_created};
use crate::io::{Io, Owner, Streams};
use crate::lifecycle::INIT;

/// Of a slow Create the warning names as many parts.
const SLOWEST: usize = 3;

/// A container that was created.
#[derive(Debug)]
pub(super) struct Created {
    /// The container.
    pub(super) container: Container,
    /// Our side of init's stdio.
    pub(super) io: Io,
    /// Where we mounted something.
    pub(super) rootfs: Option<PathBuf>,
}

/// Until it is created a container is not there, but for Delete, which undoes what was made of it.
pub(super) async fn create_unless_deleted(
    order: &Create,
    namespace: &str,
    commands: &mut mpsc::UnboundedReceiver<Command>,
) -> std::result::Result<Created, (Error, Option<Reply<Deleted>>)> {
    let mut creating = Box::pin(create(order, namespace));
    loop {
        tokio::select! {
            created = &mut creating => return created.map_err(|error| (error, None)),
            Some(command) = commands.recv() => match command {
                Command::Delete { id, reply } if id == INIT => {
                    let error = Error::new(Kind::Precondition, "deleted while it was being created");
                    return Err((error, Some(reply)));
                }
                command => command.refuse(not_created()),
            },
        }
    }
}

/// Creates a container. What can be refused is refused before anything is touched. On error, and when this future is
/// dropped, what was made so far is undone in reverse: each step's value undoes it.
async fn create(order: &Create, namespace: &str) -> Result<Created> {
    let mut timing = Timing::default();
    let mut spec = Bundle::read_in(&order.bundle, &order.id, order.pod.as_ref().map(|shared| &shared.pod))?;
    // The request knows whether a client is there to hold the other end.
    spec.process.terminal = order.streams.terminal;
    let (uid, gid) = (order.options.io_uid, order.options.io_gid);
    let owner = Owner { id: order.id.as_str().to_owned(), namespace: namespace.to_owned(), uid, gid };
    timing.lap("read config.json");
    let (mut io, stdio) = Io::open(&order.streams, &owner).await?;
    timing.lap("open stdio");
    let mounted = Mounted::new(&order.rootfs, order.bundle.join("rootfs"))?;
    timing.lap("mount the rootfs");
    let container = Container::create(&spec, &order.options, stdio.into(), &mut timing).await?;
    if let Err(error) = attach(container.init(), &mut io).await {
        if let Err(left) = container.delete().await {
            log::warn!("undo create of {}: {left}", owner.id);
        }
        return Err(error);
    }
    tell(order.id.as_str(), &timing, order.options.slow_create_milliseconds);
    Ok(Created { container, io, rootfs: mounted.map(Mounted::keep) })
}

/// Logs where the time went: all of it for who debugs, and the slowest parts where it was too much.
fn tell(id: &str, timing: &Timing, slow_milliseconds: u32) {
    if log::log_enabled!(log::Level::Debug) {
        for (what, took) in timing.parts() {
            log::debug!("create {id}: {what}: {}", milliseconds(took));
        }
    }
    let total = timing.total();
    if slow_milliseconds > 0 && total >= Duration::from_millis(slow_milliseconds.into()) {
        log::warn!("create {id} took {}; slowest: {}", milliseconds(total), timing.slowest(SLOWEST));
    }
}

/// Forks a further process into a container; it waits to be started.
pub(super) async fn prepare(
    container: &Container,
    mut spec: config::Process,
    streams: &Streams,
    owner: &Owner,
) -> Result<(Process, Io)> {
    spec.terminal = streams.terminal;
    container.refuse_frozen()?;
    let (mut io, stdio) = Io::open(streams, owner).await?;
    let process = container.exec(&spec, stdio.into()).await?;
    attach(&process, &mut io).await?;
    Ok((process, io))
}

/// Begins the relay of a new process's terminal, if it has one. On error the process is ended and reaped.
async fn attach(process: &Process, io: &mut Io) -> Result<()> {
    let Some(console) = process.take_console() else { return Ok(()) };
    let attached = io.attach(console);
    if attached.is_err() {
        // It may have ended by itself.
        _ = process.signal(Signal::KILL.as_raw());
        process.wait().await?;
    }
    attached
}

/// A mounted rootfs; dropping it unmounts it.
struct Mounted(PathBuf);

impl Mounted {
    fn new(mounts: &[RootfsMount], path: PathBuf) -> Result<Option<Self>> {
        if mounts.is_empty() {
            return Ok(None);
        }
        rootfs::mount(mounts, &path)?;
        Ok(Some(Self(path)))
    }

    /// Leaves it mounted.
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let kept = self.0 == Path::new("");
        if !kept && let Err(error) = rootfs::unmount(&self.0) {
            log::warn!("undo create: {error}");
        }
    }
}
