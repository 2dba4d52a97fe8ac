//! The one way in which a descriptor comes under tokio's watch.
//!
//! tokio asks for a promise that the descriptor stays open and the same while it is watched. An [`OwnedFd`] that is moved in
//! keeps it by its type, so the unsafe call is made here and nowhere else.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for `interest`. Inside a tokio runtime.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, is nobody else's, and answers the same number until it is dropped, inside the AsyncFd.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(io::Error::from)
}
