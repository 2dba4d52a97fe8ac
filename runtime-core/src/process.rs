//! One process that we forked: init or an exec, from "waits before execve" to reaped.
//!
//! It is owned by its pidfd: signals go through it, its end is read from it, nobody else waits for it (D6).

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use init::sync::Report;
use nix::errno::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Kind, Result};
use crate::reaper::{self, Owned};
use crate::watch::watch;
use crate::{pidfd, spawn};

/// `__WALL`: also children that have no exit signal, as ours are before execve. sys/wait.h.
pub(crate) const WALL: WaitIdOptions = WaitIdOptions::from_bits_retain(0x4000_0000);

/// What becomes of a new process's descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// These three, in order.
    Files([OwnedFd; 3]),
    /// A new terminal from the container's devpts, on all three; its master is in [`Process::take_console`].
    Terminal,
}

/// What a new process finds open.
#[derive(Debug)]
pub struct Descriptors {
    /// 0, 1 and 2.
    pub stdio: Stdio,
    /// 3 and on: nothing, but where the caller wants files of its own preserved.
    pub preserved: Vec<OwnedFd>,
}

impl From<Stdio> for Descriptors {
    fn from(stdio: Stdio) -> Self {
        Self { stdio, preserved: Vec::new() }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 + the signal.
    pub status: u32,
    /// When its end was seen.
    pub at: SystemTime,
}

/// A process of a container. All methods take `&self`, so that one owner can wait while another signals.
#[derive(Debug)]
pub struct Process {
    pidfd: AsyncFd<OwnedFd>,
    /// Our end of the channel, until it is released.
    channel: RefCell<Option<AsyncFd<OwnedFd>>>,
    console: RefCell<Option<OwnedFd>>,
    exit: RefCell<Option<Exit>>,
    /// How the step that may still fail is called.
    execute: String,
    pid: i32,
    /// Until it is reaped; then its pid may be anybody's.
    owned: RefCell<Option<Owned>>,
}

impl Drop for Process {
    /// One that was never reaped is not forgotten. Where it waits for its go, the end of the channel ends it.
    fn drop(&mut self) {
        self.channel.take();
        if let Some(owned) = self.owned.take() {
            reaper::abandon(owned);
        }
    }
}

impl Process {
    /// A forked process that waits for its go. `execute` names its last step.
    pub(crate) fn new(
        pid: i32,
        pidfd: OwnedFd,
        channel: AsyncFd<OwnedFd>,
        console: Option<OwnedFd>,
        execute: String,
    ) -> Result<Self> {
        let owned = RefCell::new(Some(reaper::own(pid)));
        let pidfd =
            watch(pidfd, Interest::READABLE).map_err(|error| Error::io(format!("watch process {pid}"), &error))?;
        let (channel, console) = (RefCell::new(Some(channel)), RefCell::new(console));
        Ok(Self { pidfd, channel, console, exit: RefCell::default(), execute, pid, owned })
    }

    /// Its pid in the runtime's own pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The descriptor that stands for it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The terminal's master, once.
    pub fn take_console(&self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Releases it to execve and waits until execve has succeeded or failed. A process that was killed meanwhile counts as
    /// started: its exit tells. Kind `Precondition` when called twice.
    pub async fn start(&self) -> Result<()> {
        let channel = self.channel.take();
        let channel = channel.ok_or_else(|| Error::new(Kind::Precondition, "the process was started before"))?;
        spawn::release(channel.as_fd())?;
        match spawn::receive(&channel).await?.0 {
            None => Ok(()),
            Some(Report::Failed { errno, .. }) => Err(Error::sys(&self.execute, Errno::from_raw(errno))),
            Some(report) => Err(Error::new(Kind::System, format!("the process sent {report:?} after its go"))),
        }
    }

    /// Whether it was given its go.
    pub(crate) fn is_started(&self) -> bool {
        self.channel.borrow().is_none()
    }

    /// Sends `signal` (0 probes). Kind `NotFound` once it has ended, reaped or not.
    pub fn signal(&self, signal: i32) -> Result<()> {
        if self.exit.borrow().is_some() || self.ended(WaitIdOptions::NOWAIT)?.is_some() {
            return Err(Error::new(Kind::NotFound, format!("process {} has ended", self.pid())));
        }
        match pidfd::send_signal(self.pidfd(), signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(Error::new(Kind::NotFound, format!("process {} has ended", self.pid()))),
            Err(Errno::EINVAL) => Err(Error::new(Kind::Invalid, format!("there is no signal {signal}"))),
            Err(errno) => Err(Error::sys(format!("send signal {signal} to process {}", self.pid()), errno)),
        }
    }

    /// Kills it with all of its process group, which it leads since its session began. Until it is reaped its pid, and so the
    /// group's, is nobody else's.
    pub(crate) fn kill_group(&self) {
        if self.exit.borrow().is_none() {
            // A group that has ended needs no kill.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Waits for its end, reaps it and says how it ended; the same again when asked again. For one waiter at a time;
    /// cancel-safe.
    pub async fn wait(&self) -> Result<Exit> {
        loop {
            if let Some(exit) = *self.exit.borrow() {
                return Ok(exit);
            }
            // Before the wait for readiness too: an end that came before the watch did is as good as any.
            if let Some(status) = self.ended(WaitIdOptions::empty())? {
                let exit = Exit { status: code(&status), at: SystemTime::now() };
                self.exit.replace(Some(exit));
                self.owned.take();
                continue;
            }
            let ready = self.pidfd.readable().await;
            ready.map_err(|error| Error::io(format!("watch process {}", self.pid()), &error))?.clear_ready();
        }
    }

    /// Its status if it has ended; reaps it unless `extra` says NOWAIT.
    fn ended(&self, extra: WaitIdOptions) -> Result<Option<WaitIdStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WALL | extra;
        waitid(WaitId::PidFd(self.pidfd()), options).map_err(|errno| {
            Error::sys(format!("wait for process {}", self.pid()), Errno::from_raw(errno.raw_os_error()))
        })
    }
}

/// The exit code, or 128 + the signal.
fn code(status: &WaitIdStatus) -> u32 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(255)
}
