//! The output of a terminal: console master → the client's stdout fifo. One task per terminal.
//!
//! A terminal's output must be copied: its slave lives in the container's devpts. (Its input is relayed as that of a pipe
//! is, see [`super::input`].) The relay never gives up on a client: a full fifo makes it wait, and through the terminal's
//! own buffer the program too; a logger that died or a full disk makes it drop output rather than block the program for
//! ever.
//!
//! A program may close its terminal and open it again: systemd does so for each line that it writes at boot, and agetty(8) hangs
//! the terminal up before it (vhangup(2)). While no slave is open, read(2) on the master fails with EIO and epoll(7) reports
//! EPOLLHUP. Neither is the end of the process, but tokio takes EPOLLHUP for final: whoever waits for the master after it
//! never sleeps again.
//!
//! So we hold a slave open ourselves as long as the process lives. The master never hangs up before the end, nobody is woken
//! for nothing, and what is written or typed later arrives. A vhangup(2) takes the use of our slave away, but it still counts
//! as open. Only the reader of a master can see whether a slave is open, so nothing changes for the container. When the
//! process has ended, which its pidfd says, we close the slave, and EIO is the end of the output.
//!
//! Others do it otherwise: containerd's own shim takes EIO for a pause and waits for the next edge in an epoll of its own;
//! conmon looks every 100 ms as long as the terminal is hung up.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use runtime_core::watch::watch;
use runtime_core::{Error, Result};
use rustix::io::ioctl_fionbio;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::sync::watch::Receiver;

use super::fifo::{self, Output, read};
use super::sink::Sink;

/// How long output is still taken after the process has ended, from others that hold the terminal open.
const AFTERLIFE: Duration = Duration::from_secs(1);

/// Twice what the line discipline hands over at once.
const CHUNK: usize = 32 * 1024;

/// The console's master, shared by the relays of output and input and by `ResizePty`.
#[derive(Debug, Clone)]
pub(super) struct Console(Rc<AsyncFd<OwnedFd>>);

impl Console {
    /// Takes over a master.
    pub(super) fn new(master: OwnedFd) -> Result<Self> {
        ioctl_fionbio(&master, true).map_err(|e| Error::io("set O_NONBLOCK on the console", &e.into()))?;
        let master = watch(master, Interest::READABLE | Interest::WRITABLE);
        Ok(Self(Rc::new(master.map_err(|e| Error::io("watch the console", &e))?)))
    }

    /// One more slave, by the master and not by a path of the container's.
    pub(super) fn slave(&self) -> Result<OwnedFd> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        ioctl_tiocgptpeer(self.0.get_ref(), flags).map_err(|e| Error::io("hold the console open", &e.into()))
    }

    /// Where input is written.
    pub(super) fn sink(&self) -> Rc<AsyncFd<OwnedFd>> {
        Rc::clone(&self.0)
    }

    /// Sets the size; the kernel sends SIGWINCH to the foreground process group.
    pub(super) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.0.get_ref(), size)
            .map_err(|e| Error::io(format_args!("resize the console to {columns}x{rows}"), &e.into()))
    }
}

/// The relay's end on the client's side.
#[derive(Debug)]
pub(super) struct Relay {
    sink: Sink,
    /// Our read end, where the sink is a fifo.
    reader: Option<OwnedFd>,
}

impl Relay {
    /// To `output`.
    pub(super) fn new(output: Output) -> Result<Self> {
        Ok(Self { sink: Sink::new(output.writer)?, reader: output.reader })
    }

    /// Copies until `ended` is true and the terminal hangs up, or [`AFTERLIFE`] later. `slave` keeps it from hanging up
    /// before. Says so in `drained` when the last byte has been handed on, and then waits until it was read.
    pub(super) async fn run(
        self,
        console: Console,
        slave: OwnedFd,
        ended: Receiver<bool>,
        drained: oneshot::Sender<()>,
    ) {
        let Self { sink, reader } = self;
        to_client(&console.0, &sink, afterlife(ended, slave)).await;
        // The terminal is of no more use; programs that still hold it shall be told.
        drop(console);
        _ = drained.send(());
        if let Some(reader) = reader {
            fifo::linger(reader, sink).await;
        }
    }
}

/// Copies until there is no more, or until it is `too_late`.
async fn to_client(master: &AsyncFd<OwnedFd>, sink: &Sink, too_late: impl Future<Output = ()>) {
    let mut buffer = vec![0; CHUNK];
    let mut too_late = pin!(too_late);
    loop {
        let count = tokio::select! {
            biased;
            // EIO: no slave is open any more, ours included, and everything was read.
            read = read(master, &mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            },
            () = &mut too_late => return,
        };
        sink.take(&buffer[..count]).await;
    }
}

/// Lets go of `slave` once the process has `ended`, and is over when others have had their time.
async fn afterlife(mut ended: Receiver<bool>, slave: OwnedFd) {
    // A sender that is gone counts as an end.
    _ = ended.wait_for(|ended| *ended).await;
    drop(slave);
    tokio::time::sleep(AFTERLIFE).await;
}
