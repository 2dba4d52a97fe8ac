//! Incoming connections, of our own user's alone.
//!
//! The socket directory keeps others out already; containerd's own shims ask the kernel all the same who is calling
//! (`SO_PEERCRED`), and so do we. ttrpc's accept loop starts over at once after an error, so being out of descriptors would
//! have it spin: it is made to wait here.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::net::UnixListener;
use tokio::time::Sleep;
use ttrpc::r#async::transport::Listener;

use super::connection::{Connection, Connections};

/// How long nothing is accepted after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream of connections that ttrpc takes from.
struct Incoming {
    listener: UnixListener,
    /// The only user served.
    uid: u32,
    /// Set after an error, until when nothing is tried.
    pause: Option<Pin<Box<Sleep>>>,
    connections: Connections,
}

/// A listener for ttrpc's server on an inherited socket; what it accepts is counted. To be called within the runtime.
pub(super) fn listener(socket: StdListener, connections: Connections) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    let uid = rustix::process::geteuid().as_raw();
    Ok(Listener::new(Incoming { listener: UnixListener::from_std(socket)?, uid, pause: None, connections }))
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)).and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)))
            {
                Ok((uid, stream)) if uid == self.uid => {
                    return Poll::Ready(Some(Ok(Connection::new(stream, &self.connections))));
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
        let (listener, connections) = (UnixListener::bind(&path).unwrap(), Connections::default());
        let mut incoming = Incoming { listener, uid, pause: None, connections };
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

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connections = Connections::default();
            connections.closed().await;
            let connection = Connection::new(UnixStream::pair().unwrap().0, &connections);
            assert!(!connections.is_closed());
            drop(connection);
            connections.closed().await;
        });
    }
}
