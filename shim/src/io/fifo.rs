//! Fifos as a process's own descriptors (D8), and the files that are copied to (see [`super::copied`]).
//!
//! fifo(7) decides the order in which the ends are opened: `O_RDONLY` with `O_NONBLOCK` never waits, and `O_WRONLY`
//! with `O_NONBLOCK` succeeds once there is a reader. `O_NONBLOCK` belongs to the open file description, so it is
//! cleared again on an end before a container gets it.
//!
//! Of an output fifo we keep a read end, which never reads: what was written stays in the pipe, and a writer neither
//! fails nor ends, while containerd is away. But a client opens its own end at the side while it asks for Create, and
//! waits in that for a writer: were it so late that a short process has come and gone, it would wait for ever, or find
//! nothing. So Create and Exec wait for the client (containerd's own shims do so without an end), as long as it takes a
//! machine that has much to do.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use runtime_core::{Error, Result};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fcntl_getfl, fcntl_setfl, fstat, open};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Owner;

/// How long a client may take to open its end of an output fifo. One that never does costs this, and no more.
const CLIENT: Duration = Duration::from_secs(1);

/// Where output goes.
#[derive(Debug)]
pub(super) struct Output {
    /// For the process; does not block yet where it is a fifo.
    pub(super) writer: OwnedFd,
    /// Our end, of a fifo.
    pub(super) reader: Option<OwnedFd>,
}

impl Output {
    /// /dev/null.
    pub(super) fn null() -> Result<Self> {
        Ok(Self { writer: null(OFlags::WRONLY)?, reader: None })
    }

    /// A fifo or file that exists. `name` is the stream's.
    pub(super) async fn open(name: &str, path: &Path) -> Result<Self> {
        if !is_fifo(name, path)? {
            return Ok(Self { writer: opened(name, path, OFlags::WRONLY | OFlags::APPEND)?, reader: None });
        }
        let beside_client = beside_client(path).await;
        let reader = opened(name, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let writer = match beside_client {
            Some(writer) => writer,
            None => opened(name, path, OFlags::WRONLY | OFlags::NONBLOCK)?,
        };
        Ok(Self { writer, reader: Some(reader) })
    }

    /// A log file: made where missing, with its directories, and appended to.
    pub(super) fn log(name: &str, path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|e| Error::io(format_args!("make directory {} for {name}", parent.display()), &e))?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|e| Error::io(format_args!("open {name} {}", path.display()), &e))?;
        Ok(Self { writer: file.into(), reader: None })
    }

    /// A second handle of the same open file, for stderr.
    pub(super) fn share(&self) -> Result<Self> {
        let writer = self.writer.try_clone().map_err(|e| Error::io("share stdout with stderr", &e))?;
        Ok(Self { writer, reader: None })
    }
}

/// A write end beside a client's read end; none where no client comes within [`CLIENT`]. The kernel tells in one way only
/// whether somebody has, or is about to have, the other end open, and there is no event for it.
async fn beside_client(path: &Path) -> Option<OwnedFd> {
    let deadline = Instant::now() + CLIENT;
    let mut pause = Duration::from_millis(1);
    loop {
        match open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NXIO) if Instant::now() < deadline => tokio::time::sleep(pause).await,
            opened => return opened.ok(),
        }
        pause *= 2;
    }
}

/// /dev/null, to read from or to write to.
pub(super) fn null(flags: OFlags) -> Result<OwnedFd> {
    opened("nothing", Path::new("/dev/null"), flags)
}

/// The same descriptor, for a process that expects to wait in read(2) and write(2).
pub(super) fn blocking(fd: OwnedFd) -> Result<OwnedFd> {
    let flags = fcntl_getfl(&fd).and_then(|flags| fcntl_setfl(&fd, flags - OFlags::NONBLOCK));
    flags.map_err(|e| Error::io("clear O_NONBLOCK", &e.into()))?;
    Ok(fd)
}

/// Gives a pipe or fifo to its owner. A log file or /dev/null is not the container's.
pub(super) fn give_to(file: &OwnedFd, owner: &Owner) -> Result<()> {
    if (owner.uid, owner.gid) == (0, 0) {
        return Ok(());
    }
    let failed = |e: Errno| Error::io(format_args!("give stdio to {}:{}", owner.uid, owner.gid), &e.into());
    if FileType::from_raw_mode(fstat(file).map_err(failed)?.st_mode) != FileType::Fifo {
        return Ok(());
    }
    fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))).map_err(failed)
}

/// A write end beside the read end that we keep, where the pipe still holds something that nobody has read.
pub(super) fn unread(reader: &OwnedFd) -> Option<OwnedFd> {
    if holds_data(reader) { reopened(reader, OFlags::WRONLY).ok() } else { None }
}

/// Another end of an open fifo, whatever its path names by now. Does not block.
pub(super) fn reopened(fifo: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    Ok(open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

/// A pipe's read end and write end. Both block.
pub(super) fn pipe(purpose: &str) -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe().map_err(|e| Error::io(format_args!("make a pipe for {purpose}"), &e))?;
    Ok((reader.into(), writer.into()))
}

/// Reads what there is, or waits for it; 0 is the end.
pub(super) async fn read(fd: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)).await
}

/// Writes as much as there is room for, or waits for room.
pub(super) async fn write(fd: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    fd.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await
}

/// Keeps `writer` open until a client has read what the pipe holds.
///
/// A client that comes back after the process has ended opens the fifo again, and that open waits for a writer. There
/// is no event for "read to the end", so this looks, ever more seldom: a reader sees the end of file no later than twice
/// the time it took to read.
pub(super) async fn linger(reader: impl AsFd, writer: impl Sized) {
    let mut pause = Duration::from_millis(1);
    while holds_data(&reader) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    drop(writer);
}

fn holds_data(reader: impl AsFd) -> bool {
    rustix::io::ioctl_fionread(reader).is_ok_and(|bytes| bytes > 0)
}

/// Whether the file at `path` is a fifo. `name` is the stream's.
pub(super) fn is_fifo(name: &str, path: &Path) -> Result<bool> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(format_args!("open {name} {}", path.display()), &e))?;
    Ok(meta.file_type().is_fifo())
}

/// Opens what is at `path`, for the stream `name`.
pub(super) fn opened(name: &str, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
        .map_err(|e| Error::io(format_args!("open {name} {}", path.display()), &e.into()))
}
