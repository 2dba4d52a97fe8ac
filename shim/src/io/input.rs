//! Stdin: a client's fifo, relayed to a pipe or a terminal's master from Start on.
//!
//! A fifo for stdin is not handed over, as one for output is (D8). A client may write all of its input and close the fifo the moment somebody opens
//! the other end, and only then learn how to say `CloseIO`: `ctr` does, which knows its task once Create has been answered.
//! If that moment came at Create, its last word would be lost and the process would wait for ever, for our own write end
//! (which lets a client detach and another attach, without an end of file in between) holds the end off until `CloseIO`. So
//! nobody opens the fifo before Start, and as the process must have a stdin to be created with, it gets a pipe.
//!
//! ```text
//!  Create    client ─▷ fifo                 pipe ══▶ process      whoever opens the fifo to write, waits
//!  Start     client ══▶ fifo ══relay══▶ pipe ══▶ process          we hold: the fifo's write end too
//!  CloseIO   client ══▶ fifo ══relay══▶ pipe ══▶ process          not any more
//!  no writer is left:  the relay closes the pipe                   end of file
//! ```
//!
//! A relay holds one buffer at most: as long as the process does not read, neither does the relay, and the client waits.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use runtime_core::watch::watch;
use runtime_core::{Error, Kind, Result};
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use super::fifo::{is_fifo, opened, read, reopened, write};
use super::uri::Uri;

/// As much as a pipe hands over at once to a client that writes in small pieces.
const CHUNK: usize = 16 * 1024;

/// Where input comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Nothing: /dev/null.
    Null,
    /// A file. A regular one is copied; another becomes the process's own descriptor.
    File(OwnedFd),
    /// A client's fifo.
    Fifo(Input),
}

/// A client's fifo. Dropping it ends its relay, and the process's input with it.
#[derive(Debug)]
pub(super) struct Input {
    /// `O_PATH`: counts neither as a reader nor as a writer.
    fifo: OwnedFd,
    /// Our write end.
    writer: Option<OwnedFd>,
    /// `CloseIO` has come.
    closed: bool,
    relay: JoinSet<()>,
}

impl Source {
    /// What `stdin` names in a request; it must exist.
    pub(super) fn open(stdin: &str) -> Result<Self> {
        let path = match Uri::parse("stdin", stdin)? {
            Uri::Null => return Ok(Self::Null),
            Uri::Path(path) => path,
            Uri::File(_) | Uri::Binary(_) => {
                return Err(Error::new(Kind::Invalid, format!("stdin {stdin}: not a path")));
            }
        };
        if !is_fifo("stdin", &path)? {
            return Ok(Self::File(opened("stdin", &path, OFlags::RDONLY)?));
        }
        let fifo = opened("stdin", &path, OFlags::PATH)?;
        Ok(Self::Fifo(Input { fifo, writer: None, closed: false, relay: JoinSet::new() }))
    }

    /// The fifo that a terminal's input comes from, if any.
    pub(super) fn for_terminal(self) -> Result<Option<Input>> {
        match self {
            Self::Null => Ok(None),
            Self::Fifo(input) => Ok(Some(input)),
            Self::File(_) => Err(Error::new(Kind::Invalid, "stdin: a terminal's input must come from a fifo")),
        }
    }
}

impl Input {
    /// Begins to relay to `sink`; to be called when the process has been started. On error the process's input has ended.
    pub(super) fn begin(&mut self, sink: Rc<AsyncFd<OwnedFd>>) -> Result<()> {
        let failed = |e: io::Error| Error::io("relay stdin", &e);
        let reader = reopened(&self.fifo, OFlags::RDONLY).map_err(failed)?;
        let writer = reopened(&self.fifo, OFlags::WRONLY).map_err(failed)?;
        let reader = watch(reader, Interest::READABLE).map_err(failed)?;
        self.relay.spawn_local(async move {
            if let Err(error) = copy(&reader, &sink).await {
                log::debug!("stdin is read no more: {error}");
            }
        });
        // Closed only now where `CloseIO` came first: without a writer there is no hang-up to wake the relay.
        self.writer = (!self.closed).then_some(writer);
        Ok(())
    }

    /// `CloseIO`: the input ends when no client has the fifo open.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.writer = None;
    }
}

/// Copies to the end of file.
async fn copy(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = read(from, &mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut bytes = &buffer[..count];
        while !bytes.is_empty() {
            let written = write(to, bytes).await?;
            bytes = &bytes[written..];
        }
    }
}
