//! A terminal in the foreground: `run` and `exec` relay their caller's stdio to it, as runc does (its tty.go).
//!
//! Its master comes as it does to any caller that gives `--console-socket`, through a socket of our own. The caller's
//! terminal is the first of stderr, stdout, stdin and /dev/tty that is one; without any there is nobody to sit at the new
//! one, which is an error, as with runc. It becomes raw for that time and lends the new one its size, and each new size.
//! What is relayed are stdin and stdout, whatever they are: a terminal of a caller whose output goes to a file writes to the
//! file.
//!
//! ```text
//!  caller's stdin ──▶ master ◀═▶ slave ◀═▶ process
//! caller's stdout ◀──    │         ▲ we hold one too: a process may close its own and open it again
//! ```
//!
//! A descriptor of the caller's may be shared with others, for whom O_NONBLOCK would be a surprise: pipes and terminals are
//! opened once more. Files and sockets cannot be, and wait as they do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use runtime_core::watch::watch;
use runtime_core::{Error, Kind, Result};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::ioctl_fionbio;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tempfile::TempDir;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::control::{self, Size};

/// As much as a terminal hands over at once.
const CHUNK: usize = 16 * 1024;

/// A caller that waits for a terminal.
#[derive(Debug)]
pub(crate) struct Foreground {
    caller: OwnedFd,
    directory: TempDir,
    listener: UnixListener,
}

/// A terminal that is relayed. Dropping it gives the caller's terminal back.
#[derive(Debug)]
pub(crate) struct Relay {
    output: JoinHandle<()>,
    /// Dropped when the process has ended.
    ended: oneshot::Sender<()>,
    _others: JoinSet<()>,
    _raw: Raw,
}

impl Foreground {
    /// Where a new process has its terminal, in runc's rules: a caller that waits for its end has it on its own stdio; one that
    /// does not gives a socket to which the terminal is sent.
    pub(crate) fn new(detach: bool, terminal: bool, console_socket: Option<&Path>) -> Result<Option<Self>> {
        match (detach, terminal, console_socket) {
            (true, true, None) => {
                Err(Error::new(Kind::Invalid, "a detached process cannot have a terminal without --console-socket"))
            }
            (false, _, Some(_)) | (_, false, Some(_)) => {
                Err(Error::new(Kind::Invalid, "--console-socket is for a detached process with a terminal"))
            }
            (false, true, None) => Self::open().map(Some),
            (true, true, Some(_)) | (_, false, None) => Ok(None),
        }
    }

    /// Finds the caller's terminal, and opens the socket for the new one.
    fn open() -> Result<Self> {
        let caller = callers_terminal()?;
        let failed = |error: io::Error| Error::io("make a console socket", &error);
        let directory = tempfile::Builder::new().prefix("oci-").tempdir().map_err(failed)?;
        let listener = UnixListener::bind(directory.path().join("console.sock")).map_err(failed)?;
        Ok(Self { caller, directory, listener })
    }

    /// Where the terminal's master is to be sent.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("console.sock")
    }

    /// For [`prepare`].
    pub(crate) fn size(&self) -> Option<Size> {
        tcgetwinsize(&self.caller).ok().map(|size| Size(size.ws_row, size.ws_col))
    }

    /// Takes the master, which must have been sent, and begins to relay. Inside the event loop.
    pub(crate) fn attach(self) -> Result<Relay> {
        let master = control::receive_console(&self.listener)?;
        let failed = |error: io::Error| Error::io("relay the terminal", &error);
        let slave = held_open(&master).map_err(|e| failed(e.into()))?;
        let master = Rc::new(watch(master, Interest::READABLE | Interest::WRITABLE).map_err(failed)?);
        let stdin = Stream::open(io::stdin().as_fd(), OFlags::RDONLY).map_err(failed)?;
        let stdout = Stream::open(io::stdout().as_fd(), OFlags::WRONLY).map_err(failed)?;
        let raw = Raw::set(self.caller.try_clone().map_err(failed)?).map_err(|e| failed(e.into()))?;

        let (ended, end) = oneshot::channel();
        let mut others = JoinSet::new();
        others.spawn_local(follow_size(self.caller, Rc::clone(&master)));
        others.spawn_local(input(stdin, Rc::clone(&master)));
        let output = tokio::task::spawn_local(output(master, slave, stdout, end));
        Ok(Relay { output, ended, _others: others, _raw: raw })
    }
}

impl Relay {
    /// The process has ended: returns when all that it wrote has been handed on.
    pub(crate) async fn finish(self) {
        let Self { output, ended, _others, _raw } = self;
        drop(ended);
        _ = output.await;
    }
}

/// Stderr, stdout, stdin or /dev/tty: all but one may be redirected.
fn callers_terminal() -> Result<OwnedFd> {
    let (stderr, stdout, stdin) = (io::stderr(), io::stdout(), io::stdin());
    for fd in [stderr.as_fd(), stdout.as_fd(), stdin.as_fd()] {
        if isatty(fd) {
            return fd.try_clone_to_owned().map_err(|error| Error::io("dup", &error));
        }
    }
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    terminal.map(OwnedFd::from).map_err(|error| Error::io("open /dev/tty", &error))
}

/// Makes the terminal of a new process ready to be relayed, before the program can write to it: it has the caller's size, and
/// line ends are the caller's terminal's to make.
pub(crate) fn prepare(master: &OwnedFd, Size(rows, columns): Size) -> Result<()> {
    let prepared = tcgetattr(master).and_then(|mut settings| {
        settings.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(master, OptionalActions::Now, &settings)?;
        tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
    });
    prepared.map_err(|error| Error::io("prepare the terminal", &error.into()))
}

/// A slave that keeps a master from hanging up, which does not wait from now on.
fn held_open(master: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    ioctl_fionbio(master, true)?;
    ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
}

/// The caller's terminal as it was, given back when this is dropped.
#[derive(Debug)]
struct Raw(OwnedFd, Termios);

impl Raw {
    fn set(terminal: OwnedFd) -> rustix::io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut settings = before.clone();
        settings.make_raw();
        // Line ends are still made here.
        settings.output_modes.insert(OutputModes::OPOST);
        tcsetattr(&terminal, OptionalActions::Now, &settings)?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It may have gone.
        _ = tcsetattr(&self.0, OptionalActions::Now, &self.1);
    }
}

/// The size that the caller's terminal has, and each that it will have.
async fn follow_size(caller: OwnedFd, master: Rc<AsyncFd<OwnedFd>>) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    loop {
        // Either may have gone.
        _ = tcgetwinsize(&caller).and_then(|size| tcsetwinsize(master.get_ref(), size));
        if changed.recv().await.is_none() {
            return;
        }
    }
}

/// Its end is no end for the terminal, where a caller types ^D.
async fn input(stdin: Stream, master: Rc<AsyncFd<OwnedFd>>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = stdin.read(&mut buffer).await {
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while !bytes.is_empty() {
            let Ok(written) = write(&master, bytes).await else { return };
            bytes = bytes.get(written..).unwrap_or_default();
        }
    }
}

/// Copies until the process has ended and what it wrote has been read; what others write then is lost.
async fn output(master: Rc<AsyncFd<OwnedFd>>, slave: OwnedFd, stdout: Stream, mut end: oneshot::Receiver<()>) {
    let (mut buffer, mut stdout) = (vec![0; CHUNK], Some(stdout));
    loop {
        let count = tokio::select! {
            biased;
            read = read(&master, &mut buffer) => read,
            _ = &mut end => break,
        };
        let Ok(count @ 1..) = count else { return };
        show(&mut stdout, buffer.get(..count).unwrap_or_default()).await;
    }
    drop(slave);
    // EIO where no slave is open any more, EAGAIN where others hold one.
    while let Ok(count @ 1..) = rustix::io::read(master.get_ref(), &mut buffer) {
        show(&mut stdout, buffer.get(..count).unwrap_or_default()).await;
    }
}

/// A caller that reads no more does not stop the process.
async fn show(stdout: &mut Option<Stream>, bytes: &[u8]) {
    if let Some(stream) = stdout
        && stream.write_all(bytes).await.is_err()
    {
        *stdout = None;
    }
}

/// One of the caller's descriptors.
#[derive(Debug)]
enum Stream {
    /// A pipe, a terminal, a socket.
    Watched(AsyncFd<OwnedFd>),
    /// A file or /dev/null, for which epoll(7) has no readiness.
    File(OwnedFd),
}

impl Stream {
    fn open(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Self> {
        let file = match FileType::from_raw_mode(fstat(fd)?.st_mode) {
            FileType::Fifo | FileType::CharacterDevice => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                open(path, access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?
            }
            _ => fd.try_clone_to_owned()?,
        };
        let interest = if access == OFlags::RDONLY { Interest::READABLE } else { Interest::WRITABLE };
        match watch(file.try_clone()?, interest) {
            Ok(watched) => Ok(Self::Watched(watched)),
            Err(error) if error.raw_os_error() == Some(nix::libc::EPERM) => Ok(Self::File(file)),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Watched(fd) => read(fd, buffer).await,
            Self::File(fd) => Ok(rustix::io::read(fd, buffer)?),
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Watched(fd) => write(fd, bytes).await?,
                Self::File(fd) => rustix::io::write(fd, bytes)?,
            };
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

async fn read(fd: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)).await
}

async fn write(fd: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    fd.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await
}
