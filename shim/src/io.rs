//! A process's stdio, on our side: opened at Create and Exec, closed at Delete. Called by the task actor.
//!
//! Output is handed over, not copied (D8): a fifo or file becomes the process's own descriptor. Only stdin (for the reason
//! that [`input`] gives) and terminals have a relay, and `binary://` loggers a pipe. The end of a process is told at once
//! and never waits for its output; whatever is still in a fifo or a terminal then stays readable until Delete, which waits
//! for a relay a bounded time.
//!
//! ```text
//!  client ══▶ stdin fifo ══ relay ══▶ pipe ══▶ process    from Start on; we hold: the fifo's write end until CloseIO
//!  process ══▶ stdout, stderr fifos ══▶ client             their read ends until Delete
//!  process ◀══ slave ◀═▶ master ◀═ relays ═▶ fifos ◀══▶ client    we hold: a slave until the process has ended
//! ```

mod binary;
mod fifo;
mod input;
mod terminal;
mod uri;

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use runtime_core::watch::watch;
use runtime_core::{Error, Kind, Result, Stdio};
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use binary::Logger;
pub(crate) use binary::loggers_ended;
use fifo::{Output, blocking};
use input::{Input, Source};
use terminal::{Console, Relay};
use uri::Uri;

/// How long Delete waits for a relay or a logger to hand on what it has.
const DRAIN: Duration = Duration::from_secs(1);

/// Where a client wants a process's stdio, as its request says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    /// A path, or empty.
    pub(crate) stdin: String,
    /// A path or URI, or empty.
    pub(crate) stdout: String,
    /// A path, or empty; unused where stdout is a logger or log file, or with a terminal.
    pub(crate) stderr: String,
    /// Whether the process gets a terminal.
    pub(crate) terminal: bool,
}

/// Whose stdio it is.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    /// The container's id, or the exec's: a logger is told.
    pub(crate) id: String,
    /// containerd's namespace: a logger is told.
    pub(crate) namespace: String,
    /// Who owns the pipes and fifos that the process gets. Both 0 change nothing.
    pub(crate) uid: u32,
    /// See [`Owner::uid`].
    pub(crate) gid: u32,
}

/// What we hold of one process's stdio. Dropping it closes everything at once.
#[derive(Debug, Default)]
pub(crate) struct Io {
    /// The client's stdin fifo.
    input: Option<Input>,
    /// Where stdin is relayed to, until that has begun: the process's pipe or terminal.
    sink: Option<Rc<AsyncFd<OwnedFd>>>,
    /// Our read ends of the output fifos.
    outputs: Vec<Rc<OwnedFd>>,
    /// A terminal's relay until there is a console.
    relay: Option<Relay>,
    console: Option<Console>,
    /// Comes when the relay has handed on all output.
    drained: Option<oneshot::Receiver<()>>,
    logger: Option<Logger>,
    /// Whether the process has ended, for the relay.
    ended: watch::Sender<bool>,
    /// The relay, and what keeps unread output readable.
    tasks: JoinSet<()>,
}

impl Io {
    /// Opens what `streams` name, and gives the process's side of it too.
    pub(crate) async fn open(streams: &Streams, owner: &Owner) -> Result<(Self, Stdio)> {
        let stdout = Uri::parse("stdout", &streams.stdout)?;
        let source = Source::open(&streams.stdin)?;
        let (output, error, logger) = open_outputs(&stdout, streams, owner).await?;
        let mut io = Self { logger, ..Self::default() };
        if streams.terminal {
            io.input = source.for_terminal()?;
            io.relay = Some(Relay::new(output)?);
            return Ok((io, Stdio::Terminal));
        }
        let stdin = match source {
            Source::Null => fifo::null(OFlags::RDONLY)?,
            Source::File(file) => file,
            Source::Fifo(input) => io.relay_from(input)?,
        };
        io.outputs.extend([output.reader, error.reader].into_iter().flatten().map(Rc::new));
        let files = [stdin, blocking(output.writer)?, blocking(error.writer)?];
        files.iter().try_for_each(|file| fifo::give_to(file, owner))?;
        Ok((io, Stdio::Files(files)))
    }

    /// Prepares the pipe that `input` will be relayed to. Gives the process's end.
    fn relay_from(&mut self, input: Input) -> Result<OwnedFd> {
        let (stdin, sink) = fifo::pipe("stdin")?;
        let failed = |e: io::Error| Error::io("watch the pipe for stdin", &e);
        rustix::io::ioctl_fionbio(&sink, true).map_err(|e| failed(e.into()))?;
        self.sink = Some(Rc::new(watch(sink, Interest::WRITABLE).map_err(failed)?));
        self.input = Some(input);
        Ok(stdin)
    }

    /// Begins to relay the terminal whose master is `console`.
    pub(crate) fn attach(&mut self, console: OwnedFd) -> Result<()> {
        let Some(relay) = self.relay.take() else { return Ok(()) };
        let console = Console::new(console)?;
        let (drained, all) = oneshot::channel();
        let slave = console.slave()?;
        self.tasks.spawn_local(relay.run(console.clone(), slave, self.ended.subscribe(), drained));
        self.drained = Some(all);
        self.sink = Some(console.sink());
        self.console = Some(console);
        Ok(())
    }

    /// The process has been started: the client's input flows from here on.
    pub(crate) fn started(&mut self) {
        if let Some(sink) = self.sink.take()
            && let Some(input) = &mut self.input
            && let Err(error) = input.begin(sink)
        {
            log::warn!("{error}");
        }
    }

    /// `CloseIO`: the process sees the end of its input once the client has closed its own end too.
    pub(crate) fn close_stdin(&mut self) {
        if let Some(input) = &mut self.input {
            input.close();
        }
    }

    /// `ResizePty`: a process without a terminal has nothing to resize, which is no error.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.console.as_ref().map_or(Ok(()), |console| console.resize(rows, columns))
    }

    /// The process has ended: a client's writes to its stdin fail from here on, and its output has an end.
    pub(crate) fn ended(&mut self) {
        self.input = None;
        self.sink = None;
        self.console = None;
        self.ended.send_replace(true);
        for reader in &self.outputs {
            if let Some(writer) = fifo::unread(reader) {
                self.tasks.spawn_local(fifo::linger(Rc::clone(reader), writer));
            }
        }
    }

    /// Closes everything; a relay and a logger may first hand on what they have, for a bounded time.
    pub(crate) async fn close(mut self) {
        self.ended.send_replace(true);
        if let Some(drained) = self.drained.take()
            && timeout(DRAIN, drained).await.is_err()
        {
            log::warn!("terminal output that nobody has read within {} s is lost", DRAIN.as_secs());
        }
        let logger = self.logger.take();
        drop(self);
        if let Some(logger) = logger {
            logger.close(DRAIN).await;
        }
    }
}

/// Stdout and stderr. A logger or log file takes both, as in containerd's own shims; otherwise each has its own path.
async fn open_outputs(stdout: &Uri, streams: &Streams, owner: &Owner) -> Result<(Output, Output, Option<Logger>)> {
    match stdout {
        Uri::Binary(uri) => {
            let (logger, output, error) = Logger::start(uri, owner).await?;
            Ok((output, error, Some(logger)))
        }
        Uri::File(path) => {
            let output = Output::log("stdout", path)?;
            let error = output.share()?;
            Ok((output, error, None))
        }
        _ if streams.terminal => Ok((open_output("stdout", stdout).await?, Output::null()?, None)),
        _ => {
            let stderr = Uri::parse("stderr", &streams.stderr)?;
            Ok((open_output("stdout", stdout).await?, open_output("stderr", &stderr).await?, None))
        }
    }
}

async fn open_output(name: &str, uri: &Uri) -> Result<Output> {
    match uri {
        Uri::Null => Output::null(),
        Uri::Path(path) => Output::open(name, path).await,
        Uri::File(path) => Output::log(name, path),
        Uri::Binary(uri) => {
            let program = uri.program.display();
            Err(Error::new(Kind::Invalid, format!("{name}: logger {program} must be stdout's as well")))
        }
    }
}

#[cfg(test)]
mod tests;
