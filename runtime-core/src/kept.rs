//! A process that only is there (see `init::keep`), until this is dropped.

use std::os::fd::{AsFd, OwnedFd};

use init::Launched;
use nix::errno::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::error::{Error, Result};
use crate::process::WALL;

/// Owns the process.
#[derive(Debug)]
pub(crate) struct Kept {
    pid: i32,
    pidfd: OwnedFd,
}

impl Kept {
    /// In the runtime's own namespaces.
    pub(crate) fn fork() -> Result<Self> {
        Self::new(init::keep(), "fork")
    }

    /// In a user namespace of its own, which has no maps yet.
    pub(crate) fn fork_into_user_namespace() -> Result<Self> {
        Self::new(init::keep_user_namespace(), "fork into a new user namespace")
    }

    fn new(forked: std::result::Result<Launched, rustix::io::Errno>, what: &str) -> Result<Self> {
        let Launched { pid, pidfd } =
            forked.map_err(|errno| Error::sys(what, Errno::from_raw(errno.raw_os_error())))?;
        Ok(Self { pid, pidfd })
    }

    /// Its pid, which is nobody else's while this lives.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WALL);
    }
}
