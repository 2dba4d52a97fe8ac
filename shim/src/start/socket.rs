//! The server's socket: its name, who gets it when several want it, and when a dead one may be taken away.
//!
//! Called by `start`, by `delete`, and by the server as it leaves. Every one of them holds a lock on the socket directory
//! while it looks and acts, so that a socket which is bound but does not listen yet is never taken for dead, and what was
//! found dead cannot have been replaced by a live one when it is unlinked. The lock is held for some microseconds.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use runtime_core::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, listen, socket_with};
use sha2::{Digest, Sha256};

/// Longest path that containerd allows for, one below what `sockaddr_un` holds.
const MAX_PATH_BYTES: usize = 106;

/// Connections that may wait to be accepted, as std has it.
const BACKLOG: i32 = 128;

/// Who has a group's socket after [`claim`].
#[derive(Debug)]
pub(crate) enum Claim {
    /// We: it listens, and a server is to be started on it.
    Ours(UnixListener),
    /// A server that runs already.
    Taken,
}

/// The group's socket in `dir`, by the rule of containerd's own shims: the hash keeps it short, whatever the names are.
pub(crate) fn path(dir: &Path, grpc_address: &str, namespace: &str, group: &str) -> Result<PathBuf> {
    let digest = Sha256::digest(format!("{grpc_address}/{namespace}/{group}"));
    let name = digest.iter().fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
    let path = dir.join(name);
    let length = path.as_os_str().len();
    if length > MAX_PATH_BYTES {
        let text = format!("socket path {} has {length} bytes, {MAX_PATH_BYTES} at the most", path.display());
        return Err(Error::new(Kind::Invalid, text));
    }
    Ok(path)
}

/// Listens at `path`, or finds who does. The directory is made (0700) where it is missing; the socket is the owner's alone.
pub(crate) fn claim(path: &Path) -> Result<Claim> {
    let dir = path.parent().expect("a socket path is made of a directory and a name");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::io(format!("create socket directory {}", dir.display()), &e))?;
    let _locked = lock(dir)?;
    let bound = match bind(path) {
        Err(Errno::ADDRINUSE) if is_alive(path, Look::Visit)? => return Ok(Claim::Taken),
        Err(Errno::ADDRINUSE) => unlink(path).map(|()| bind(path))?,
        bound => bound,
    };
    bound.map(Claim::Ours).map_err(|e| Error::io(format!("listen at {}", path.display()), &e.into()))
}

/// Takes away our own socket, on which we listen.
pub(crate) fn release(path: &Path) -> Result<()> {
    let _locked = lock(path.parent().unwrap_or(Path::new("/")))?;
    unlink(path)
}

/// Takes away our own socket unless somebody has connected to it and was not accepted yet; says whether it is away. `start`
/// looks for a server with the lock held: after this it finds none, and before this it is seen here.
pub(crate) fn retire(path: &Path, listener: &OwnedFd) -> Result<bool> {
    let _locked = lock(path.parent().unwrap_or(Path::new("/")))?;
    let mut waiting = [PollFd::new(listener, PollFlags::IN)];
    let count = poll(&mut waiting, Some(&Timespec::default()));
    if count.map_err(|e| Error::io(format!("look who connects to {}", path.display()), &e.into()))? > 0 {
        return Ok(false);
    }
    unlink(path).map(|()| true)
}

/// Takes away a socket on which nobody listens any more. None there is no error.
pub(crate) fn remove_dead(path: &Path) -> Result<()> {
    if !path.try_exists().unwrap_or(true) {
        return Ok(());
    }
    let _locked = lock(path.parent().unwrap_or(Path::new("/")))?;
    if is_alive(path, Look::Unseen)? { Ok(()) } else { unlink(path) }
}

/// An exclusive lock on the directory itself, given up with the returned file.
fn lock(dir: &Path) -> Result<File> {
    let file = File::open(dir).map_err(|e| Error::io(format!("open {}", dir.display()), &e))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::io(format!("lock {}", dir.display()), &e.into()))?;
    Ok(file)
}

/// Binds and listens. A socket's mode, set before it is bound, is the mode of the file that bind makes (unix(7) knows
/// only the umask, which belongs to the whole process): no moment passes in which others could connect.
fn bind(path: &Path) -> std::result::Result<UnixListener, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// How somebody who listens is found.
#[derive(Clone, Copy)]
enum Look {
    /// It is told: a client is coming, and it had better stay.
    Visit,
    /// It learns nothing of it. To connect with a socket of another type is refused, and otherwise where nobody has the path
    /// (connect(2), EPROTOTYPE).
    Unseen,
}

/// Whether somebody listens. Never waits: a server too busy to accept is a live one.
fn is_alive(path: &Path, look: Look) -> Result<bool> {
    let failed = |e: Errno| Error::io(format!("connect to {}", path.display()), &e.into());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = match look {
        Look::Visit => SocketType::STREAM,
        Look::Unseen => SocketType::DGRAM,
    };
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None).map_err(failed)?;
    match connect(&socket, &SocketAddrUnix::new(path).map_err(failed)?) {
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(e) => Err(failed(e)),
    }
}

fn unlink(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(format!("unlink {}", path.display()), &e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_name_is_the_one_of_containerds_own_shims() {
        let path = path(Path::new("/run/containerd/s"), "/run/containerd/containerd.sock", "default", "123").unwrap();
        let hash = "0ddfbd72d02b3551e75f3a0ed90b9965b533401be618f43a568bc522764e0ad0";
        assert_eq!(path, Path::new("/run/containerd/s").join(hash));
        let too_deep = super::path(Path::new(&"/d".repeat(30)), "a", "n", "g").unwrap_err();
        assert!(too_deep.to_string().ends_with("has 125 bytes, 106 at the most"), "{too_deep}");
    }

    #[test]
    fn a_claimed_socket_is_private_and_connectable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s/socket");
        let Claim::Ours(_listener) = claim(&path).unwrap() else { panic!("taken by nobody") };
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn the_second_finds_the_first_and_a_dead_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let Claim::Ours(first) = claim(&path).unwrap() else { panic!("taken by nobody") };
        assert!(matches!(claim(&path).unwrap(), Claim::Taken));
        first.set_nonblocking(true).unwrap();
        assert!(first.accept().is_ok(), "who may want it was not seen");
        remove_dead(&path).unwrap();
        assert!(path.exists(), "a live socket was removed");
        assert!(first.accept().is_err(), "whoever clears up was taken for a client");

        drop(first);
        let Claim::Ours(second) = claim(&path).unwrap() else { panic!("the dead hold nothing") };
        drop(second);
        remove_dead(&path).unwrap();
        assert!(!path.exists());
        remove_dead(&path).unwrap();
    }

    #[test]
    fn a_socket_is_not_taken_away_from_somebody_who_has_connected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let Claim::Ours(listener) = claim(&path).unwrap() else { panic!("taken by nobody") };
        let listener = OwnedFd::from(listener);
        let client = UnixStream::connect(&path).unwrap();
        assert!(!retire(&path, &listener).unwrap() && path.exists());
        UnixListener::from(listener.try_clone().unwrap()).accept().unwrap();
        drop(client);
        assert!(retire(&path, &listener).unwrap() && !path.exists());
    }

    #[test]
    fn a_busy_server_is_alive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, 0).unwrap();
        // Fills the queue, which nobody accepts from.
        let _waiting = UnixStream::connect(&path).unwrap();
        assert!(is_alive(&path, Look::Visit).unwrap());
        assert!(is_alive(&path, Look::Visit).unwrap());
    }

    #[test]
    fn nobody_looks_or_acts_while_another_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        for act in [|path: &Path| claim(path).map(drop), remove_dead, release] {
            let locked = lock(dir.path()).unwrap();
            std::thread::scope(|scope| {
                let (done, ended) = std::sync::mpsc::channel();
                let path = &path;
                scope.spawn(move || done.send(act(path)));
                assert!(ended.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "it did not wait");
                drop(locked);
                ended.recv().unwrap().unwrap();
            });
            drop(UnixListener::bind(&path));
        }
    }

    #[test]
    fn of_many_starters_one_gets_a_dead_socket() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = dir.path().join(round.to_string());
            drop(UnixListener::bind(&path).unwrap());
            let claims: Vec<Claim> = std::thread::scope(|scope| {
                let starters: Vec<_> = (0..8).map(|_| scope.spawn(|| claim(&path).unwrap())).collect();
                starters.into_iter().map(|starter| starter.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|claim| matches!(claim, Claim::Ours(_))).count(), 1);
            UnixStream::connect(&path).unwrap();
        }
    }
}
