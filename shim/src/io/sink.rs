//! Where a relay writes output: the client's fifo, or a log file.

use std::io;
use std::os::fd::OwnedFd;

use runtime_core::watch::watch;
use runtime_core::{Error, Result};
use rustix::fs::{FileType, fstat};
use rustix::io::ioctl_fionbio;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::fifo::write;

/// Where output is written.
#[derive(Debug)]
pub(super) enum Sink {
    /// A fifo or pipe.
    Pipe(AsyncFd<OwnedFd>),
    /// A file or /dev/null, for which epoll(7) has no readiness: writing does not wait.
    File(OwnedFd),
}

impl Sink {
    pub(super) fn new(writer: OwnedFd) -> Result<Self> {
        let failed = |e: io::Error| Error::io("watch the output", &e);
        let meta = fstat(&writer).map_err(|e| failed(e.into()))?;
        if FileType::from_raw_mode(meta.st_mode) != FileType::Fifo {
            return Ok(Self::File(writer));
        }
        ioctl_fionbio(&writer, true).map_err(|e| failed(e.into()))?;
        watch(writer, Interest::WRITABLE).map(Self::Pipe).map_err(failed)
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Pipe(pipe) => write(pipe, bytes).await?,
                Self::File(file) => rustix::io::write(file, bytes)?,
            };
            bytes = &bytes[written..];
        }
        Ok(())
    }
}
