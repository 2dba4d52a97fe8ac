//! Output and input that the shim copies, because the process must not have the file itself (D8).
//!
//! A descriptor is more than a stream. Whoever has a log file open can cut it short, write over what was logged before, take
//! O_APPEND off, and as root without a user namespace change its owner and mode. So a regular file of the host's stays here, and the
//! process has a pipe. So it is with a fifo whose directories let everybody in: it becomes the process's own, and others could
//! open it by its path.
//!
//! ```text
//!  process ══▶ pipe ══ relay ══▶ log file, or fifo in a public directory     until no writer is left, or Delete
//!  input file ══ relay ══▶ pipe ══▶ process                                  from Start on
//! ```
//!
//! A disk that is full makes the relay drop output rather than block the program for ever. A disk that is slow makes the shim
//! wait: it has one thread, and writing to a file cannot be waited for otherwise.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use runtime_core::watch::watch;
use runtime_core::{Error, Result};
use rustix::fs::{FileType, fstat};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::sync::watch::Receiver;

use super::fifo::{self, Output, pipe, read, write};
use super::sink::Sink;

/// Half of what a pipe holds.
const CHUNK: usize = 32 * 1024;

/// As much as any pipe may hold (`fs.pipe-max-size`): what is read of one at Delete, for others may go on writing.
const PIPE_BYTES: usize = 1024 * 1024;

/// The relay of one output.
#[derive(Debug)]
pub(super) struct Copied {
    from: AsyncFd<OwnedFd>,
    to: Sink,
    /// Our read end of the client's fifo, where it is one.
    reader: Option<OwnedFd>,
}

impl Copied {
    /// Puts a pipe before `output`. Gives the process's end of it, too.
    pub(super) fn new(output: Output) -> Result<(Rc<Self>, Output)> {
        let (from, writer) = pipe("output")?;
        let failed = |e: std::io::Error| Error::io("watch the pipe for output", &e);
        rustix::io::ioctl_fionbio(&from, true).map_err(|e| failed(e.into()))?;
        let from = watch(from, Interest::READABLE).map_err(failed)?;
        let to = Sink::new(output.writer)?;
        let copied = Self { from, to, reader: output.reader };
        Ok((Rc::new(copied), Output { writer, reader: None }))
    }

    /// Copies until no writer is left, or all that is there once `closing` is true. Says so in `drained`, and waits until a client
    /// has read it.
    pub(super) async fn run(self: Rc<Self>, mut closing: Receiver<bool>, drained: oneshot::Sender<()>) {
        let mut buffer = vec![0; CHUNK];
        let mut closed = pin!(closing.wait_for(|closing| *closing));
        loop {
            tokio::select! {
                biased;
                count = read(&self.from, &mut buffer) => match count {
                    Ok(0) | Err(_) => break,
                    Ok(count) => self.to.take(&buffer[..count]).await,
                },
                _ = &mut closed => {
                    self.rest(&mut buffer).await;
                    break;
                }
            }
        }
        _ = drained.send(());
        if let Some(reader) = &self.reader {
            fifo::linger(reader, &self.to).await;
        }
    }

    /// The process has ended. What it has written is in its log before anybody hears of that; a client reads a fifo in its own
    /// time.
    pub(super) fn ended(&self) {
        if self.to.is_file() {
            // Never pending: a file takes what it is given.
            _ = pin!(self.rest(&mut vec![0; CHUNK])).as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// What is in the pipe.
    async fn rest(&self, buffer: &mut [u8]) {
        let mut left = PIPE_BYTES;
        while left > 0
            && let Ok(count @ 1..) = rustix::io::read(self.from.get_ref(), &mut *buffer)
        {
            self.to.take(&buffer[..count]).await;
            left = left.saturating_sub(count);
        }
    }
}

/// Copies a file to its end; the input of a process ends with it.
pub(super) async fn input(file: OwnedFd, to: Rc<AsyncFd<OwnedFd>>) {
    let mut buffer = vec![0; CHUNK];
    // A process that reads no more ends it, too.
    while let Ok(count @ 1..) = rustix::io::read(&file, &mut buffer) {
        let mut bytes = &buffer[..count];
        while !bytes.is_empty() {
            let Ok(written) = write(&to, bytes).await else { return };
            bytes = &bytes[written..];
        }
    }
}

/// Whether `file` is a regular one.
pub(super) fn is_regular(file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Whether others than root can come to `path`: no directory on the way keeps them out.
pub(super) fn is_public(path: &Path) -> bool {
    const SEARCHABLE_BY_OTHERS: u32 = 0o001;
    let keeps_out = |directory: &Path| {
        std::fs::metadata(directory).is_ok_and(|meta| meta.permissions().mode() & SEARCHABLE_BY_OTHERS == 0)
    };
    !path.ancestors().skip(1).any(keeps_out)
}
