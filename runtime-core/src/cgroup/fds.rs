//! Two calls on descriptors that have no safe form: `pidfd_send_signal(2)` with any number (rustix cannot name the real-time
//! signals safely), and tokio's registration of an fd (which asks that it stay the same and open).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use syscalls::{Sysno, syscall};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sends `signal` to the process that `pidfd` holds.
pub(super) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: no memory is passed: the siginfo pointer is null, which the call allows; the borrowed fd keeps the descriptor
    // open meanwhile.
    let done = unsafe { syscall!(Sysno::pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
    done.map(drop).map_err(|errno| Errno::from_raw(errno.into_raw()))
}

/// `fd` with its readiness reported by the runtime.
pub(super) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names one descriptor as long as it lives and closes it only when dropped, which the AsyncFd that
    // owns it does after it has taken the registration back.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(Into::into)
}
