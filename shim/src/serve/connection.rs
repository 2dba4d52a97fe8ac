//! A connection that is counted for as long as it is there.
//!
//! A Go client that finds an answer and the end of the connection at once takes either for the result of its call
//! (github.com/containerd/ttrpc, `Client.dispatch`). containerd excuses that of a Shutdown, and not of a ShutdownSandbox. So
//! the server, when it was asked to end, first waits for the others to hang up, as containerd does once it has the answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// All connections of a server: each holds a receiver, and [`watch::Sender::closed`] tells when there is none.
pub(super) type Connections = watch::Sender<()>;

/// One of them.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    _counted: watch::Receiver<()>,
}

impl Connection {
    /// Counts `stream` among `connections` until it is dropped.
    pub(super) fn new(stream: UnixStream, connections: &Connections) -> Self {
        Self { stream, _counted: connections.subscribe() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
