//! One process that we forked: init or an exec, from "waits before execve" to reaped.
//!
//! It is owned by its pidfd: signals go through it, its end is read from it, nobody else waits for it (D6).

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use crate::error::{Error, Kind, Result};

/// What becomes of a new process's descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// These three, in order.
    Files([OwnedFd; 3]),
    /// A new terminal from the container's devpts, on all three; its master is in [`Process::take_console`].
    Terminal,
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
    pid: i32,
    console: RefCell<Option<OwnedFd>>,
}

impl Process {
    /// Its pid in the runtime's own pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The terminal's master, once.
    pub fn take_console(&self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Releases it to execve and waits until execve has succeeded or failed. A process that was killed meanwhile counts as
    /// started: its exit tells. Kind `Precondition` when called twice.
    pub async fn start(&self) -> Result<()> {
        Err(Error::new(Kind::Unimplemented, "to be written"))
    }

    /// Sends `signal` (0 probes). Kind `NotFound` once it has ended, reaped or not.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let _ = signal;
        Err(Error::new(Kind::Unimplemented, "to be written"))
    }

    /// Waits for its end, reaps it and says how it ended. For one waiter; cancel-safe.
    pub async fn wait(&self) -> Result<Exit> {
        Err(Error::new(Kind::Unimplemented, "to be written"))
    }
}
