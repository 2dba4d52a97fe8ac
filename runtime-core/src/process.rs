//! One process that we forked: init or an exec, from "waits before execve" to reaped.
//!
//! It is owned by its pidfd: signals go through it, its end is read from it, nobody else waits for it (D6).

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use init::sync::Report;
use nix::errno::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};
use crate::plan::hint;
use crate::reaper::{self, Owned};
use crate::shared::Shared;
use crate::watch::watch;
use crate::{pidfd, spawn};

/// `__WALL`: also children that have no exit signal, as ours are before execve. sys/wait.h.
pub(crate) const WALL: WaitIdOptions = WaitIdOptions::from_bits_retain(0x4000_0000);

/// How long a process may take to end by itself that could not execute its program.
const LAST_STEPS: Duration = Duration::from_secs(2);

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
    /// Until it is released.
    waiting: RefCell<Option<Waiting>>,
    console: RefCell<Option<OwnedFd>>,
    exit: RefCell<Option<Exit>>,
    pid: i32,
    /// Until it is reaped; then its pid may be anybody's.
    owned: RefCell<Option<Owned>>,
}

/// What a process that waits for its go has in common with us.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Our end of the channel.
    pub(crate) channel: AsyncFd<OwnedFd>,
    /// What it has left where it could not report a failure.
    pub(crate) board: Rc<Shared>,
    /// How the step that may still fail is called.
    pub(crate) execute: String,
    /// Whether it has a seccomp filter.
    pub(crate) filtered: bool,
}

impl Drop for Process {
    /// One that was never reaped is not forgotten. Where it waits for its go, the end of the channel ends it.
    fn drop(&mut self) {
        self.waiting.take();
        if let Some(owned) = self.owned.take() {
            reaper::abandon(owned);
        }
    }
}

impl Process {
    /// A forked process that waits for its go.
    pub(crate) fn new(pid: i32, pidfd: OwnedFd, waiting: Waiting, console: Option<OwnedFd>) -> Result<Self> {
        let owned = RefCell::new(Some(reaper::own(pid)));
        let pidfd =
            watch(pidfd, Interest::READABLE).map_err(|error| Error::io(format!("watch process {pid}"), &error))?;
        let (waiting, console) = (RefCell::new(Some(waiting)), RefCell::new(console));
        Ok(Self { pidfd, waiting, console, exit: RefCell::default(), pid, owned })
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
    /// started: its exit tells. Where execve has failed it has ended when this returns, or is about to. Kind `Precondition`
    /// when called twice.
    pub async fn start(&self) -> Result<()> {
        let waiting = self.waiting.take();
        let waiting = waiting.ok_or_else(|| Error::new(Kind::Precondition, "the process was started before"))?;
        let started = Self::release(&waiting).await;
        let ends = async {
            while self.exit.borrow().is_none() && self.ended(WaitIdOptions::NOWAIT).is_ok_and(|ended| ended.is_none()) {
                _ = self.pidfd.readable().await;
            }
        };
        if started.is_err() && timeout(LAST_STEPS, ends).await.is_err() {
            // Somebody has stopped it. It may have ended at last.
            _ = self.signal(nix::libc::SIGKILL);
        }
        started
    }

    async fn release(waiting: &Waiting) -> Result<()> {
        spawn::release(waiting.channel.as_fd())?;
        match spawn::receive(&waiting.channel).await?.0 {
            None => waiting.board.failure().map_or(Ok(()), |(_, errno)| Err(waiting.failed(errno, &[]))),
            Some(Report::Failed { errno, detail, .. }) => Err(waiting.failed(errno, &detail)),
            Some(report) => Err(Error::new(Kind::System, format!("the process sent {report:?} after its go"))),
        }
    }

    /// Whether it was given its go.
    pub(crate) fn is_started(&self) -> bool {
        self.waiting.borrow().is_none()
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

impl Waiting {
    /// It was not executed.
    fn failed(&self, errno: i32, detail: &[u8]) -> Error {
        let errno = Errno::from_raw(errno);
        hint::error(&self.execute, errno, &hint::execution(errno, detail, self.filtered))
    }
}

/// The exit code, or 128 + the signal.
fn code(status: &WaitIdStatus) -> u32 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(255)
}
