//! The socket between the verbs and the keeper: `<root>/<id>/control.sock`.
//!
//! A client sends one request as JSON, descriptors along with it (SCM_RIGHTS, unix(7)), and closes its sending side. The
//! keeper answers with JSON lines: one, or for `Exec` the pid at first and the exit status at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use runtime_core::watch::watch;
use runtime_core::{Error, Kind, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;

const SOCKET: &str = "control.sock";

/// SCM_MAX_FD: as many descriptors as go with one message.
const MOST_FDS: usize = 253;

/// What a verb asks of the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Comes with the descriptors for init: three, and what is preserved. The first request of every keeper, and nobody else's.
    Create(Create),
    Start,
    State,
    Kill {
        signal: i32,
        all: bool,
    },
    Delete {
        force: bool,
    },
    /// For init's end.
    Wait,
    Pids,
    Pause,
    Resume,
    /// A resources object, as JSON.
    Update(String),
    /// Comes with the descriptors for the process, likewise.
    Exec(Exec),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Create {
    pub(crate) bundle: PathBuf,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) foreground: Option<Size>,
    pub(crate) systemd_cgroup: bool,
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
    /// How many of the preserved descriptors are sockets that init is to listen on.
    pub(crate) listen_fds: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exec {
    /// The spec's process object, as JSON.
    pub(crate) process: String,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) foreground: Option<Size>,
    pub(crate) ignore_paused: bool,
}

/// Of the terminal of a caller in the foreground, to which the new one is relayed: rows and columns.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Size(pub(crate) u16, pub(crate) u16);

/// What the keeper says to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Failed(String),
    Pid(i32),
    /// 128 + signal, or the exit code.
    Exit(u32),
    State(State),
    Pids(Vec<i32>),
}

/// The spec's state object (runtime.md, "State"); also `<root>/<id>/state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) status: Status,
    /// 0 once stopped.
    pub(crate) pid: i32,
    pub(crate) bundle: PathBuf,
    /// Beside the spec's fields, as runc has them.
    pub(crate) rootfs: PathBuf,
    pub(crate) created: String,
    pub(crate) owner: String,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

/// The client's end: reads the answers to one request.
#[derive(Debug)]
pub(crate) struct Answers(BufReader<UnixStream>);

impl Answers {
    /// The next answer; a failure becomes an error. None when the keeper has closed.
    pub(crate) fn next(&mut self) -> Result<Option<Answer>> {
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(|error| Error::io("read from the container's keeper", &error))?;
        match serde_json::from_str(&line) {
            Ok(Answer::Failed(text)) => Err(Error::new(Kind::System, text)),
            Ok(answer) => Ok(Some(answer)),
            Err(_) if line.is_empty() => Ok(None),
            Err(error) => Err(Error::new(Kind::System, format!("answer of the container's keeper: {error}: {line}"))),
        }
    }

    /// The answer that must come.
    pub(crate) fn one(&mut self) -> Result<Answer> {
        self.next()?.ok_or_else(|| Error::new(Kind::System, "the container's keeper has ended without an answer"))
    }

    /// Waits for the next answer without keeping the event loop.
    pub(crate) async fn come(&self) -> Result<()> {
        if !self.0.buffer().is_empty() {
            return Ok(());
        }
        let stream = self.0.get_ref().as_fd().try_clone_to_owned();
        let stream = stream.and_then(|stream| watch(stream, Interest::READABLE));
        let come = async { stream?.readable().await.map(drop) };
        come.await.map_err(|error| Error::io("wait for the container's keeper", &error))
    }

    /// Returns when the keeper has gone.
    pub(crate) fn until_closed(mut self) -> Result<()> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

/// Makes the socket in state directory `directory`.
pub(crate) fn bind(directory: &Path) -> io::Result<UnixListener> {
    // A socket address holds 107 bytes, a path may be longer: through the open directory every path is short.
    let open = File::open(directory)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()))
}

/// Connects to the keeper of `directory`: NotFound where there is no container, ConnectionRefused where its keeper has died.
pub(crate) fn connect(directory: &Path) -> io::Result<UnixStream> {
    let open = File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()))
}

/// Sends `request` with `fds`.
pub(crate) fn send(mut stream: UnixStream, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Answers> {
    let bytes = serde_json::to_vec(request).expect("a request has string keys only");
    let sent = send_with_fds(&stream, &bytes, fds)
        .and_then(|sent| stream.write_all(bytes.get(sent..).unwrap_or_default()))
        .and_then(|()| stream.shutdown(Shutdown::Write));
    sent.map_err(|error| Error::io("ask the container's keeper", &error))?;
    Ok(Answers(BufReader::new(stream)))
}

/// The keeper's end: reads one request with the descriptors that came along.
pub(crate) async fn receive(stream: &tokio::net::UnixStream) -> Result<(Request, Vec<OwnedFd>)> {
    let (mut bytes, mut fds) = (Vec::new(), Vec::new());
    loop {
        let read = stream.async_io(Interest::READABLE, || receive_some(stream, &mut bytes, &mut fds)).await;
        if read.map_err(|error| Error::io("read a request", &error))? == 0 {
            break;
        }
    }
    let request =
        serde_json::from_slice(&bytes).map_err(|e| Error::new(Kind::Invalid, format!("not a request: {e}")))?;
    Ok((request, fds))
}

/// Sends a console's master to the socket at `path`, as runc does: its name as the data.
pub(crate) fn send_console(path: &Path, master: &OwnedFd) -> Result<()> {
    let sent = UnixStream::connect(path).and_then(|stream| send_with_fds(&stream, b"/dev/ptmx", &[master.as_fd()]));
    sent.map(drop).map_err(|error| Error::io(format!("send the console to {}", path.display()), &error))
}

/// Takes what [`send_console`] has sent to `listener`.
pub(crate) fn receive_console(listener: &UnixListener) -> Result<OwnedFd> {
    let (mut name, mut fds) = (Vec::new(), Vec::new());
    let taken = listener.set_nonblocking(true).and_then(|()| listener.accept());
    let taken = taken.and_then(|(stream, _)| receive_some(&stream, &mut name, &mut fds));
    taken.map_err(|error| Error::io("take the console", &error))?;
    fds.pop().ok_or_else(|| Error::new(Kind::System, "take the console: no descriptor came"))
}

/// Writes the state file in one step, so that nobody reads half of it.
pub(crate) fn write_state(directory: &Path, state: &State) -> Result<()> {
    let (new, file) = (directory.join("state.json.new"), directory.join("state.json"));
    let text = serde_json::to_vec(state).expect("a state has string keys only");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &file));
    written.map_err(|error| Error::io(format!("write {}", file.display()), &error))
}

/// Reads the state file.
pub(crate) fn read_state(directory: &Path) -> Result<State> {
    let file = directory.join("state.json");
    let text = fs::read(&file).map_err(|error| Error::io(format!("read {}", file.display()), &error))?;
    serde_json::from_slice(&text).map_err(|error| Error::new(Kind::Invalid, format!("{}: {error}", file.display())))
}

fn send_with_fds(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        let text = format!("{} descriptors are more than the {MOST_FDS} that a message takes", fds.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

fn receive_some(stream: impl AsFd, bytes: &mut Vec<u8>, fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut part = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut part)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    bytes.extend(part.iter().take(received.bytes));
    Ok(received.bytes)
}
