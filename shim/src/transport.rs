//! A connection for ttrpc, which is woken when there is something to read, and for nothing else.
//!
//! tokio's own stream watches both directions, edge by edge: each time that the other side has read a message, and so made
//! room, its writer is woken, who waits for nothing. That is one wake-up for each answer and each event. Here room is watched
//! only when there is none, over a duplicate (a descriptor has one place in an epoll), for as long as that lasts.
//!
//! And a read takes what there is: ttrpc asks for a message's head, then for its body, then for the next one's head, which
//! would be three system calls for each.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use runtime_core::watch::watch;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// More than any call takes that comes often: an exec's is a kilobyte.
const AHEAD: usize = 2048;

/// A connected socket, in both directions.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: AsyncFd<OwnedFd>,
    /// While there is no room.
    room: Option<AsyncFd<OwnedFd>>,
    ahead: Box<[u8; AHEAD]>,
    /// What of `ahead` was received and has not been asked for.
    unread: Range<usize>,
}

impl Transport {
    /// Within the runtime.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        let socket = watch(stream.into_std()?.into(), Interest::READABLE)?;
        Ok(Self { socket, room: None, ahead: Box::new([0; AHEAD]), unread: 0..0 })
    }

    /// Receives into `bytes`, or, where they are few, ahead of what is asked for; how much went into `bytes`.
    fn poll_recv(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let here = bytes.len() >= AHEAD;
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            let space = if here { &mut *bytes } else { &mut self.ahead[..] };
            let wanted = space.len();
            match ready.try_io(|socket| Ok(recv(socket, space, RecvFlags::DONTWAIT)?.1)) {
                Ok(Ok(received)) => {
                    // All that there was: the next will be an edge. (The end is one that stays.)
                    if (1..wanted).contains(&received) {
                        ready.clear_ready();
                    }
                    if !here {
                        self.unread = 0..received;
                    }
                    return Poll::Ready(Ok(if here { received } else { 0 }));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.unread.is_empty() {
            let received = ready!(this.poll_recv(cx, buffer.initialize_unfilled()))?;
            buffer.advance(received);
        }
        let given = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[this.unread.start..][..given]);
        this.unread.start += given;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let write = |socket: &AsyncFd<OwnedFd>| Ok(send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?);
        loop {
            let written = match &this.room {
                None => write(&this.socket),
                Some(room) => match ready!(room.poll_write_ready(cx))?.try_io(write) {
                    Ok(written) => written,
                    Err(_would_block) => continue,
                },
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    this.room = Some(watch(this.socket.as_fd().try_clone_to_owned()?, Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => {
                    this.room = None;
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&self.socket, Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use rustix::event::epoll::EventFlags;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    /// More than a socket takes while nobody reads.
    const MUCH: usize = 4 << 20;

    fn pair() -> (Transport, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Transport::new(ours).unwrap(), theirs)
    }

    #[tokio::test]
    async fn what_comes_in_one_piece_is_read_in_many_and_the_other_way_round() {
        let (mut ours, mut theirs) = pair();
        let sent: Vec<u8> = (0..MUCH).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (wrote, read) = tokio::join!(
            async {
                for piece in sent.chunks(AHEAD * 3 + 1) {
                    theirs.write_all(piece).await.unwrap();
                }
                theirs.shutdown().await.unwrap();
                sent.len()
            },
            async {
                let mut read = Vec::new();
                // Fewer bytes than are read ahead, as many, and more.
                for size in [10, 1, AHEAD - 1, AHEAD, AHEAD + 1, AHEAD * 4].into_iter().cycle() {
                    let mut bytes = vec![0; size];
                    match ours.read(&mut bytes).await.unwrap() {
                        0 => break,
                        length => read.extend_from_slice(&bytes[..length]),
                    }
                }
                read
            }
        );
        assert_eq!(wrote, read.len());
        assert!(read == sent);
    }

    #[tokio::test]
    async fn a_writer_waits_for_room_and_no_longer() {
        let (mut ours, mut theirs) = pair();
        let (wrote, read) = tokio::join!(
            async {
                ours.write_all(&vec![7; MUCH]).await.unwrap();
                assert!(ours.room.is_none());
                ours.shutdown().await
            },
            async {
                tokio::task::yield_now().await;
                let mut read = Vec::new();
                theirs.read_to_end(&mut read).await.map(|_| read)
            }
        );
        wrote.unwrap();
        assert!(read.unwrap() == vec![7; MUCH]);
    }

    /// What an epoll of this process watches `fd` for: the lines `tfd` of proc_pid_fdinfo(5).
    fn watched_for(fd: &impl AsRawFd) -> EventFlags {
        let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        let texts: Vec<_> = infos.filter_map(|info| std::fs::read_to_string(info.unwrap().path()).ok()).collect();
        let mut lines =
            texts.iter().flat_map(|text| text.lines()).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let fd = fd.as_raw_fd().to_string();
        let line = lines.find(|words| words.len() > 3 && words[0] == "tfd:" && words[1] == fd).unwrap();
        EventFlags::from_bits_retain(u32::from_str_radix(line[3], 16).unwrap())
    }

    #[tokio::test]
    async fn room_is_watched_for_while_there_is_none() {
        let (mut ours, _theirs) = pair();
        let watched = watched_for(&ours.socket);
        assert!(watched.contains(EventFlags::IN) && !watched.contains(EventFlags::OUT), "{watched:?}");
        let much = vec![7; MUCH];
        assert!(timeout(Duration::ZERO, ours.write_all(&much)).await.is_err());
        assert!(watched_for(ours.room.as_ref().unwrap()).contains(EventFlags::OUT));
    }
}
