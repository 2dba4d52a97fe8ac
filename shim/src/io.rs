//! A process's stdio, on our side: opened at Create and Exec, closed at Delete. Called by the task actor.
//!
//! Output is handed over, not copied (D8): a fifo becomes the process's own descriptor. Stdin (for the reason that [`input`]
//! gives), terminals and what may not be handed over ([`copied`]) have a relay, and `binary://` loggers a pipe. The end of a process is told at once
//! and never waits for its output; whatever is still in a fifo or a terminal then stays readable until Delete, which waits
//! for a relay a bounded time.
//!
//! ```text
//!  client ══▶ stdin fifo ══ relay ══▶ pipe ══▶ process    from Start on; we hold: the fifo's write end until CloseIO
//!  process ══▶ stdout, stderr fifos ══▶ client             their read ends until Delete
//!  process ◀══ slave ◀═▶ master ◀═ relays ═▶ fifos ◀══▶ client    we hold: a slave until the process has ended
//! ```

mod binary;
mod copied;
mod fifo;
mod input;
mod sink;
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
use copied::Copied;
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
    /// The relays of output that is copied.
    copied: Vec<Rc<Copied>>,
    /// A terminal's relay until there is a console.
    relay: Option<Relay>,
    console: Option<Console>,
    /// A file that is the process's input, until it is relayed.
    input_file: Option<OwnedFd>,
    /// One comes from each relay that has handed on all output.
    drained: Vec<oneshot::Receiver<()>>,
    logger: Option<Logger>,
    /// Whether the process has ended, for a terminal's relay.
    ended: watch::Sender<bool>,
    /// Whether it is deleted, for other relays.
    closing: watch::Sender<bool>,
    /// The relays, and what keeps unread output readable.
    tasks: JoinSet<()>,
}

impl Io {
    /// Opens what `streams` name, and gives the process's side of it too.
    pub(crate) async fn open(streams: &Streams, owner: &Owner) -> Result<(Self, Stdio)> {
        let stdout = Uri::parse("stdout", &streams.stdout)?;
        let source = Source::open(&streams.stdin)?;
        let mut io = Self::default();
        let (output, error) = io.open_outputs(&stdout, streams, owner).await?;
        if streams.terminal {
            io.input = source.for_terminal()?;
            io.relay = Some(Relay::new(output)?);
            return Ok((io, Stdio::Terminal));
        }
        let stdin = match source {
            Source::Null => fifo::null(OFlags::RDONLY)?,
            Source::File(file) if copied::is_regular(&file) => {
                io.input_file = Some(file);
                io.pipe_for_stdin()?
            }
            Source::File(file) => file,
            Source::Fifo(input) => {
                io.input = Some(input);
                io.pipe_for_stdin()?
            }
        };
        io.outputs.extend([output.reader, error.reader].into_iter().flatten().map(Rc::new));
        let files = [stdin, blocking(output.writer)?, blocking(error.writer)?];
        files.iter().try_for_each(|file| fifo::give_to(file, owner))?;
        Ok((io, Stdio::Files(files)))
    }

    /// Prepares the pipe that input will be relayed to. Gives the process's end.
    fn pipe_for_stdin(&mut self) -> Result<OwnedFd> {
        let (stdin, sink) = fifo::pipe("stdin")?;
        let failed = |e: io::Error| Error::io("watch the pipe for stdin", &e);
        rustix::io::ioctl_fionbio(&sink, true).map_err(|e| failed(e.into()))?;
        self.sink = Some(Rc::new(watch(sink, Interest::WRITABLE).map_err(failed)?));
        Ok(stdin)
    }

    /// Begins to copy what is written to a pipe to `output`. Gives the process's end of the pipe.
    fn copied(&mut self, output: Output) -> Result<Output> {
        let (copied, pipe) = Copied::new(output)?;
        let (drained, all) = oneshot::channel();
        self.tasks.spawn_local(Rc::clone(&copied).run(self.closing.subscribe(), drained));
        self.copied.push(copied);
        self.drained.push(all);
        Ok(pipe)
    }

    /// Stdout and stderr. A logger or log file takes both, as in containerd's own shims; otherwise each has its own path.
    async fn open_outputs(&mut self, stdout: &Uri, streams: &Streams, owner: &Owner) -> Result<(Output, Output)> {
        match stdout {
            Uri::Binary(uri) => {
                let (logger, output, error) = Logger::start(uri, owner).await?;
                self.logger = Some(logger);
                Ok((output, error))
            }
            Uri::File(path) => {
                let output = Output::log("stdout", path)?;
                let output = if streams.terminal { output } else { self.copied(output)? };
                let error = output.share()?;
                Ok((output, error))
            }
            _ if streams.terminal => Ok((open_output("stdout", stdout).await?, Output::null()?)),
            _ => {
                let stderr = Uri::parse("stderr", &streams.stderr)?;
                let output = self.output("stdout", stdout).await?;
                Ok((output, self.output("stderr", &stderr).await?))
            }
        }
    }

    /// One of them, for a process that gets it as its own: copied where it must not have it.
    async fn output(&mut self, name: &str, uri: &Uri) -> Result<Output> {
        let output = open_output(name, uri).await?;
        let public = matches!(uri, Uri::Path(path) if output.reader.is_some() && copied::is_public(path));
        if public || copied::is_regular(&output.writer) { self.copied(output) } else { Ok(output) }
    }

    /// Begins to relay the terminal whose master is `console`.
    pub(crate) fn attach(&mut self, console: OwnedFd) -> Result<()> {
        let Some(relay) = self.relay.take() else { return Ok(()) };
        let console = Console::new(console)?;
        let (drained, all) = oneshot::channel();
        let slave = console.slave()?;
        self.tasks.spawn_local(relay.run(console.clone(), slave, self.ended.subscribe(), drained));
        self.drained.push(all);
        self.sink = Some(console.sink());
        self.console = Some(console);
        Ok(())
    }

    /// The process has been started: the client's input flows from here on.
    pub(crate) fn started(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        if let Some(file) = self.input_file.take() {
            self.tasks.spawn_local(copied::input(file, sink));
        } else if let Some(input) = &mut self.input
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
        self.input_file = None;
        self.sink = None;
        self.console = None;
        self.ended.send_replace(true);
        // Not kept: with the relay goes our write end of a client's fifo, and only then its output has an end.
        for copied in std::mem::take(&mut self.copied) {
            copied.ended();
        }
        for reader in &self.outputs {
            if let Some(writer) = fifo::unread(reader) {
                self.tasks.spawn_local(fifo::linger(Rc::clone(reader), writer));
            }
        }
    }

    /// Closes everything; a relay and a logger may first hand on what they have, for a bounded time.
    pub(crate) async fn close(mut self) {
        self.ended.send_replace(true);
        self.closing.send_replace(true);
        let drained = std::mem::take(&mut self.drained);
        let all = async {
            for drained in drained {
                // Gone without a word is gone, too.
                _ = drained.await;
            }
        };
        if timeout(DRAIN, all).await.is_err() {
            log::warn!("output that nobody has read within {} s is lost", DRAIN.as_secs());
        }
        let logger = self.logger.take();
        drop(self);
        if let Some(logger) = logger {
            logger.close(DRAIN).await;
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
