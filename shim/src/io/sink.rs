//! Where a relay writes output: the client's fifo, or a log file.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;

use runtime_core::watch::watch;
use runtime_core::{Error, Result};
use rustix::fs::{FileType, fstat};
use rustix::io::ioctl_fionbio;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::fifo::write;

/// Where output is written. What cannot be written is dropped, so that no program waits for ever for a logger that has died, or
/// for room on a disk.
#[derive(Debug)]
pub(super) struct Sink {
    to: To,
    /// Something was dropped, and the log says so.
    dropped: Cell<bool>,
}

#[derive(Debug)]
enum To {
    /// A fifo or pipe.
    Pipe(AsyncFd<OwnedFd>),
    /// A file or /dev/null, for which epoll(7) has no readiness: writing does not wait.
    File(OwnedFd),
}

impl Sink {
    pub(super) fn new(writer: OwnedFd) -> Result<Self> {
        let failed = |e: io::Error| Error::io("watch the output", &e);
        let meta = fstat(&writer).map_err(|e| failed(e.into()))?;
        let to = if FileType::from_raw_mode(meta.st_mode) == FileType::Fifo {
            ioctl_fionbio(&writer, true).map_err(|e| failed(e.into()))?;
            watch(writer, Interest::WRITABLE).map(To::Pipe).map_err(failed)?
        } else {
            To::File(writer)
        };
        Ok(Self { to, dropped: Cell::new(false) })
    }

    /// Whether writing never waits.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.to, To::File(_))
    }

    /// Writes all of `bytes`. A pipe that nobody reads any more takes nothing from then on; a disk may have room again.
    pub(super) async fn take(&self, bytes: &[u8]) {
        if self.dropped.get() && !self.is_file() {
            return;
        }
        if let Err(error) = self.write_all(bytes).await
            && !self.dropped.replace(true)
        {
            log::warn!("output is dropped: {error}");
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match &self.to {
                To::Pipe(pipe) => write(pipe, bytes).await?,
                To::File(file) => rustix::io::write(file, bytes)?,
            };
            bytes = &bytes[written..];
        }
        Ok(())
    }
}
