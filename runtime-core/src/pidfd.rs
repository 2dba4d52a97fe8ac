//! Signals by pidfd, with any signal number: pidfd_send_signal(2).
//!
//! The wrappers at hand take named signals only, and a container may be stopped with SIGRTMIN+3 as systemd wants it.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use syscalls::{Sysno, syscall};

/// Sends `signal` to the process behind `pidfd`. ESRCH once it has been reaped; a zombie takes every signal.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: takes numbers; no siginfo is passed.
    let done = unsafe { syscall!(Sysno::pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
    done.map(|_| ()).map_err(|errno| Errno::from_raw(errno.into_raw()))
}
