//! Descriptors that epoll(7) watches for us. The one place in this crate where tokio asks for a promise about a descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};

/// Watches `fd`, which must not block. Gives it back where it is a file that epoll(7) does not take.
pub(super) fn watch(fd: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: the descriptor must stay open and the same while it is registered. An OwnedFd owns its descriptor until it
    // is dropped, always answers as_raw_fd with the same number, and moves into the AsyncFd here, which deregisters first.
    unsafe { AsyncFd::register_with_interest(fd, interest) }
}

/// Reads what there is, or waits for it; 0 is the end.
pub(super) async fn read(fd: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd.as_fd(), &mut *buffer)?)).await
}

/// Writes as much as there is room for, or waits for room.
pub(super) async fn write(fd: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    fd.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd.as_fd(), bytes)?)).await
}
