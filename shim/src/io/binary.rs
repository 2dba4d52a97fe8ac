//! `binary://` loggers: a program of the client's that takes a container's output on descriptors 3 and 4.
//!
//! The contract is that of containerd's pkg/shim logging (core/runtime/v2/logging): arguments from the URI's query, an
//! environment of exactly `CONTAINER_ID` and `CONTAINER_NAMESPACE`, stdout on 3, stderr on 4, and 5 to be closed (or
//! written to) when it is ready. Where containerd's own shims send SIGTERM at once, a logger gets time to read to the end
//! of file and to leave by itself first: that is when it flushes. No Delete waits as long; the server does before it ends, for
//! nobody else would see to it. Of one that dies before its container we take over the reading, and drop what comes: a
//! program must neither be killed by its log nor wait for ever in it.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use runtime_core::reaper::{self, Owned};
use runtime_core::watch::watch;
use runtime_core::{Error, Kind, Result};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::Owner;
use super::fifo::{Output, pipe, read};
use super::uri::Binary;

/// How long a logger may take to say that it is ready.
const READY: Duration = Duration::from_secs(10);
/// How long it may go on by itself after its input has ended.
const FLUSH: Duration = Duration::from_secs(3);
/// How long it may take to obey SIGTERM; containerd's own shims allow the same.
const TERMINATE: Duration = Duration::from_secs(12);

thread_local! {
    /// How many loggers have been told to end and have not.
    static ENDING: watch::Sender<usize> = watch::Sender::new(0);
}

/// Waits until every logger that has been told to end has ended: for [`FLUSH`] and [`TERMINATE`] at most.
pub(crate) async fn loggers_ended() {
    let mut ending = ENDING.with(watch::Sender::subscribe);
    _ = ending.wait_for(|loggers| *loggers == 0).await;
}

/// A logger at work. Dropping it lets the logger end in its own time, supervised.
#[derive(Debug)]
pub(super) struct Logger {
    wanted: oneshot::Sender<()>,
    gone: oneshot::Receiver<()>,
}

impl Logger {
    /// Starts the logger of one process and waits until it is ready. The outputs are stdout and stderr.
    pub(super) async fn start(uri: &Binary, owner: &Owner) -> Result<(Self, Output, Output)> {
        let (stdout, writer_out) = pipe("a logger")?;
        let (stderr, writer_err) = pipe("a logger")?;
        let (ready, is_ready) = pipe("a logger")?;
        let child = Child::spawn(uri, owner, [&stdout, &stderr, &is_ready])?;
        drop(is_ready);
        let (wanted, unwanted) = oneshot::channel();
        let (leaves, gone) = oneshot::channel();
        tokio::task::spawn_local(child.supervise(unwanted, leaves, [stdout, stderr]));
        let logger = Self { wanted, gone };
        wait_until_ready(ready, uri).await?;
        let output = |writer| Output { writer, reader: None };
        Ok((logger, output(writer_out), output(writer_err)))
    }

    /// Waits for the logger to end, for at most `limit`; to be called when its input has ended.
    pub(super) async fn close(self, limit: Duration) {
        drop(self.wanted);
        _ = timeout(limit, self.gone).await;
    }
}

/// A logger's process, reaped by us alone.
struct Child {
    pidfd: AsyncFd<OwnedFd>,
    program: String,
    _ownership: Owned,
}

impl Child {
    fn spawn(uri: &Binary, owner: &Owner, descriptors: [&OwnedFd; 3]) -> Result<Self> {
        let program = uri.program.display().to_string();
        let failed = |e: nix::Error| Error::sys(format_args!("start logger {program}"), e);
        let path = c_string(uri.program.as_os_str().as_bytes())?;
        let mut arguments = vec![path.clone()];
        for argument in &uri.arguments {
            arguments.push(c_string(argument.as_bytes())?);
        }
        let environment = [
            c_string(format!("CONTAINER_ID={}", owner.id).as_bytes())?,
            c_string(format!("CONTAINER_NAMESPACE={}", owner.namespace).as_bytes())?,
        ];
        let (actions, _high) = file_actions(descriptors)?;
        let attributes = default_signals().map_err(failed)?;
        let pid = posix_spawn(path.as_c_str(), &actions, &attributes, &arguments, &environment).map_err(failed)?;
        // Nothing is awaited between the spawn and this: the sweep of strangers cannot take it.
        let ownership = reaper::own(pid.as_raw());
        let id = Pid::from_raw(pid.as_raw()).expect("posix_spawn gives a pid above zero");
        let pidfd = pidfd_open(id, PidfdFlags::NONBLOCK).map_err(std::io::Error::from);
        let pidfd = pidfd.and_then(|fd| watch(fd, Interest::READABLE));
        let pidfd = pidfd.map_err(|e| Error::io(format_args!("watch logger {program}"), &e))?;
        Ok(Self { pidfd, program, _ownership: ownership })
    }

    /// Waits for its end, or for the one who wants it to go; then sees to it that it ends.
    async fn supervise(self, mut unwanted: oneshot::Receiver<()>, leaves: oneshot::Sender<()>, outputs: [OwnedFd; 2]) {
        let ended = tokio::select! {
            () = self.reaped() => true,
            _ = &mut unwanted => false,
        };
        if ended {
            log::warn!("logger {} has ended before its container, whose output is dropped", self.program);
            _ = leaves.send(());
            let [stdout, stderr] = outputs;
            let drained = async { tokio::join!(drain(stdout), drain(stderr)) };
            tokio::select! {
                _ = drained => {}
                _ = unwanted => {}
            }
            return;
        }
        drop(outputs);
        ENDING.with(|ending| ending.send_modify(|loggers| *loggers += 1));
        if timeout(FLUSH, self.reaped()).await.is_err() {
            self.signal(Signal::TERM);
            if timeout(TERMINATE, self.reaped()).await.is_err() {
                log::warn!("logger {} does not obey SIGTERM: killed", self.program);
                self.signal(Signal::KILL);
                self.reaped().await;
            }
        }
        ENDING.with(|ending| ending.send_modify(|loggers| *loggers -= 1));
        _ = leaves.send(());
    }

    async fn reaped(&self) {
        let wait = |fd: &OwnedFd| Ok(waitid(WaitId::PidFd(fd.as_fd()), WaitIdOptions::EXITED)?);
        if let Err(error) = self.pidfd.async_io(Interest::READABLE, wait).await {
            log::error!("wait for logger {}: {error}", self.program);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(self.pidfd.get_ref(), signal) {
            log::warn!("signal logger {}: {error}", self.program);
        }
    }
}

/// Reads to the end of file for nobody.
async fn drain(output: OwnedFd) {
    let watched = rustix::io::ioctl_fionbio(&output, true).map_err(std::io::Error::from);
    let watched = watched.and_then(|()| watch(output, Interest::READABLE));
    let mut buffer = vec![0; 16 * 1024];
    match watched {
        Ok(output) => while read(&output, &mut buffer).await.is_ok_and(|count| count > 0) {},
        Err(error) => log::warn!("read for a logger that has ended: {error}"),
    }
}

/// Descriptors 0 to 2 on /dev/null, 3 to 5 as given. The sources are duplicated above them first, for dup2(2) in order
/// would overwrite one that happens to be a target.
fn file_actions(descriptors: [&OwnedFd; 3]) -> Result<(PosixSpawnFileActions, Vec<OwnedFd>)> {
    let failed = |e: nix::Error| Error::sys("prepare the descriptors of a logger", e);
    let mut actions = PosixSpawnFileActions::init().map_err(failed)?;
    let mut high = Vec::new();
    for target in 0..3 {
        actions.add_open(target, c"/dev/null", OFlag::O_RDWR, Mode::empty()).map_err(failed)?;
    }
    for (target, fd) in (3..).zip(descriptors) {
        let source = rustix::io::fcntl_dupfd_cloexec(fd, 10);
        let source = source.map_err(|e| Error::io("duplicate a descriptor for a logger", &e.into()))?;
        actions.add_dup2(source.as_raw_fd(), target).map_err(failed)?;
        high.push(source);
    }
    Ok((actions, high))
}

/// No signal blocked, none ignored: the server's own settings are no business of its children.
fn default_signals() -> nix::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK)?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    Ok(attributes)
}

async fn wait_until_ready(ready: OwnedFd, uri: &Binary) -> Result<()> {
    let program = uri.program.display();
    let failed = |e: std::io::Error| Error::io(format_args!("wait for logger {program}"), &e);
    rustix::io::ioctl_fionbio(&ready, true).map_err(|e| failed(e.into()))?;
    let ready = watch(ready, Interest::READABLE).map_err(failed)?;
    let mut byte = [0; 1];
    let said = ready.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut byte)?));
    match timeout(READY, said).await {
        Ok(Ok(0)) if uri.strict => {
            Err(Error::new(Kind::System, format!("logger {program} has closed descriptor 5 without being ready")))
        }
        Ok(said) => said.map(drop).map_err(failed),
        Err(_) => Err(Error::new(Kind::System, format!("logger {program} is not ready after {} s", READY.as_secs()))),
    }
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::new(Kind::Invalid, "a logger's URI holds a NUL byte"))
}
