//! Incoming connections, of our own user's alone.
//!
//! The socket directory keeps others out already; containerd's own shims ask the kernel all the same who is calling
//! (`SO_PEERCRED`), and so do we. ttrpc's accept loop starts over at once after an error, so being out of descriptors would
//! have it spin: it is made to wait here. Each connection counts as a client until it is closed.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::time::Sleep;
use ttrpc::r#async::transport::Listener;

use super::answers::Answers;
use super::rest::Rest;
use crate::idle::{Connection, Idle};
use crate::transport::Transport;

/// How long nothing is accepted after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream of connections that ttrpc takes from.
struct Incoming {
    listener: UnixListener,
    /// The only user served.
    uid: u32,
    /// Set after an error, until when nothing is tried.
    pause: Option<Pin<Box<Sleep>>>,
    /// Who is told of clients.
    idle: Idle,
    /// And of what they send and are sent.
    rest: Rest,
}

/// A client's connection.
struct Client {
    transport: Transport,
    connection: Connection,
    rest: Rest,
    answers: Answers,
}

/// A listener for ttrpc's server on an inherited socket. To be called within the runtime.
pub(super) fn listener(socket: StdListener, idle: Idle, rest: Rest) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    let uid = rustix::process::geteuid().as_raw();
    Ok(Listener::new(Incoming { listener: UnixListener::from_std(socket)?, uid, pause: None, idle, rest }))
}

impl Stream for Incoming {
    type Item = io::Result<Client>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let accepted = ready!(self.listener.poll_accept(cx));
            // Whoever it is, there was somebody.
            let connection = self.idle.connection();
            match accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), Transport::new(stream)?))) {
                Ok((uid, transport)) if uid == self.uid => {
                    let (rest, answers) = (self.rest.clone(), Answers::default());
                    return Poll::Ready(Some(Ok(Client { transport, connection, rest, answers })));
                }
                Ok((uid, _)) => log::warn!("refused a connection from user {uid}"),
                Err(error) => {
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.connection.called();
            self.rest.disturb();
        }
        read
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.rest.disturb();
        let Self { transport, answers, .. } = &mut *self;
        let count = ready!(Pin::new(transport).poll_write(cx, answers.next(bytes)))?;
        answers.written(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    /// Whether a connection of ours is accepted where only user `uid` is served; if not, it must have been hung up on.
    async fn is_accepted(uid: u32) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut incoming = Incoming {
            listener: UnixListener::bind(&path).unwrap(),
            uid,
            pause: None,
            idle: Idle::new(),
            rest: Rest::default(),
        };
        let mut client = UnixStream::connect(&path).await.unwrap();
        tokio::select! {
            accepted = poll_fn(|cx| Pin::new(&mut incoming).poll_next(cx)) => accepted.unwrap().is_ok(),
            end = client.read_u8() => {
                assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
                false
            }
        }
    }

    #[test]
    fn only_the_own_user_is_served() {
        let own = rustix::process::geteuid().as_raw();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(is_accepted(own).await);
            assert!(!is_accepted(own + 1).await);
        });
    }
}
