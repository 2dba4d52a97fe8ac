//! The seccomp agent: who is given the listener of a filter with `SCMP_ACT_NOTIFY`. Runtime spec config-linux.md, "Seccomp"
//! and "The Container Process State"; seccomp_unotify(2).
//!
//! ```text
//! runtime ── connect ─────────────────────────────▶ agent at listenerPath
//! runtime ── JSON of the state + SCM_RIGHTS(fd) ──▶ agent
//! runtime ── close                                  one connection a process; what the agent answers goes to the kernel
//! ```

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use config::container::SeccompListener;
use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::error::{Error, Kind, Result};
use crate::subject::{OCI_VERSION, Status, Subject};

/// How long an agent may let a message lie that its socket has no room for. The process waits meanwhile, and so does its client.
const PATIENCE: Duration = Duration::from_secs(10);

/// An agent who is to hear of one new process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agent<'a> {
    pub(crate) listener: &'a SeccompListener,
    pub(crate) subject: &'a Subject,
    /// For an exec: init's pid, and whether the container was started.
    pub(crate) init: Option<(i32, bool)>,
}

impl Agent<'_> {
    /// Gives away the listener of the process `pid`.
    pub(crate) async fn give(&self, pid: i32, listener: OwnedFd) -> Result<()> {
        let path = &self.listener.path;
        let letter = self.letter(pid).to_string();
        let sent = tokio::time::timeout(PATIENCE, send(path, letter.as_bytes(), listener)).await;
        let what = || format!("tell the seccomp agent at {}", path.display());
        match sent {
            Ok(sent) => sent.map_err(|error| Error::io(what(), &error)),
            Err(_) => Err(Error::new(Kind::System, format!("{}: it does not read", what()))),
        }
    }

    /// The container process state.
    fn letter(&self, pid: i32) -> Value {
        let (init, status) = match self.init {
            None => (pid, Status::Creating),
            Some((init, false)) => (init, Status::Created),
            Some((init, true)) => (init, Status::Running),
        };
        let mut letter = json!({
            "ociVersion": OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "state": self.subject.state(status, Some(init)),
        });
        if let Some(metadata) = &self.listener.metadata {
            letter["metadata"] = json!(metadata);
        }
        letter
    }
}

/// The descriptor goes with the first byte, so that it is there whatever an agent reads first.
async fn send(path: &Path, letter: &[u8], file: OwnedFd) -> io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&files));
        Ok(sendmsg(&stream, &[IoSlice::new(letter)], &mut control, SendFlags::NOSIGNAL)?)
    });
    let sent = sent.await?;
    stream.write_all(letter.get(sent..).unwrap_or_default()).await
}
