//! A process by descriptor, and signals by it with any signal number: pidfd_open(2), pidfd_send_signal(2).
//!
//! The wrappers at hand take named signals only, and a container may be stopped with SIGRTMIN+3 as systemd wants it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use syscalls::{Sysno, syscall};

use crate::error::{Error, Result};

/// The descriptor of a child of ours that is not reaped; of another process only whoever looks at it behind the descriptor
/// knows which one it is.
pub(crate) fn open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
    let opened = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    opened.map_err(|errno| Error::sys("pidfd_open", Errno::from_raw(errno.raw_os_error())))
}

/// Sends `signal` to the process behind `pidfd`. ESRCH once it has been reaped; a zombie takes every signal.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> std::result::Result<(), Errno> {
    // SAFETY: takes numbers; no siginfo is passed.
    let done = unsafe { syscall!(Sysno::pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
    done.map(|_| ()).map_err(|errno| Errno::from_raw(errno.into_raw()))
}
