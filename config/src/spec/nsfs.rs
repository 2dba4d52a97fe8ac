//! What kind of namespace a file is, and whose, `ioctl_ns(2)`.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};

use crate::container::NamespaceKind;

nix::ioctl_none!(
    /// `NS_GET_NSTYPE`: answers with the `CLONE_NEW*` flag that makes such a namespace.
    ns_get_nstype,
    0xb7,
    0x3
);

nix::ioctl_none!(
    /// `NS_GET_USERNS`: answers with a descriptor of the user namespace that owns the namespace.
    ns_get_userns,
    0xb7,
    0x1
);

nix::ioctl_none!(
    /// `NS_GET_PARENT`: answers with a descriptor of the user namespace that a user namespace lies in.
    ns_get_parent,
    0xb7,
    0x2
);

/// The magic number of the file system that namespace files are in (linux/magic.h).
const NSFS_MAGIC: FsType = FsType(libc::NSFS_MAGIC as _);

/// The kind of the namespace file at `path`; none if it is another sort of file.
///
/// Whatever else the path leads to is not opened, only looked at: opening a fifo or a device can wait, or do something.
pub(super) fn kind(path: &Path) -> Result<Option<NamespaceKind>, Errno> {
    let place = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstatfs(&place)?.filesystem_type() != NSFS_MAGIC {
        return Ok(None);
    }
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = File::from(open(link.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    // SAFETY: the request takes no argument and touches no memory; `file` is open until after the call.
    let flag = unsafe { ns_get_nstype(file.as_raw_fd()) }?;
    Ok(Some(match flag {
        libc::CLONE_NEWUSER => NamespaceKind::User,
        libc::CLONE_NEWIPC => NamespaceKind::Ipc,
        libc::CLONE_NEWUTS => NamespaceKind::Uts,
        libc::CLONE_NEWNET => NamespaceKind::Network,
        libc::CLONE_NEWPID => NamespaceKind::Pid,
        libc::CLONE_NEWCGROUP => NamespaceKind::Cgroup,
        libc::CLONE_NEWTIME => NamespaceKind::Time,
        libc::CLONE_NEWNS => NamespaceKind::Mount,
        _ => return Ok(None),
    }))
}

/// The user namespace that owns the namespace at `path`, which is no user namespace itself. `EPERM` where it is outside the
/// runtime's own.
pub fn owner(path: &Path) -> Result<OwnedFd, Errno> {
    let file = File::open(path).map_err(|error| from_io(&error))?;
    // SAFETY: as in `kind`.
    let owner = unsafe { ns_get_userns(file.as_raw_fd()) }?;
    // SAFETY: the kernel has just made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

/// Whether the namespace at `path` is owned by the user namespace at `user`, or by one inside that.
pub(super) fn belongs(path: &Path, user: &Path) -> Result<bool, Errno> {
    let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino())).map_err(|error| from_io(&error));
    let wanted = identity(&File::open(user).map_err(|error| from_io(&error))?)?;
    let file = File::open(path).map_err(|error| from_io(&error))?;
    // SAFETY: as in `kind`.
    let mut next = unsafe { ns_get_userns(file.as_raw_fd()) };
    loop {
        let owner = match next {
            // SAFETY: the kernel has just made the descriptor for us.
            Ok(owner) => unsafe { File::from_raw_fd(owner) },
            // The next one is outside the runtime's own.
            Err(Errno::EPERM) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        if identity(&owner)? == wanted {
            return Ok(true);
        }
        // SAFETY: as above; `owner` is open until after the call.
        next = unsafe { ns_get_parent(owner.as_raw_fd()) };
    }
}

fn from_io(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}
