//! `mount_setattr(2)`, which rustix does not have. Linux 5.12, after the oldest kernel we run on.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use syscalls::{Sysno, syscall};

use crate::error::{Error, Kind, Result};

/// The whole tree below.
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;

/// `MOUNT_ATTR_IDMAP`
const IDMAP: u64 = 0x10_0000;

/// `struct mount_attr`, first version.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets and clears `MOUNT_ATTR_*` on the mount that `mount` is the root of.
pub(super) fn attributes(mount: BorrowedFd<'_>, set: u32, clear: u32) -> Result<()> {
    let attributes = MountAttr { set: set.into(), clear: clear.into(), ..MountAttr::default() };
    call(mount, &attributes, false).map_err(|errno| failed("mount_setattr", errno))
}

/// Sets the propagation (`MS_*`) of the mount that `mount` is the root of.
pub(crate) fn propagation(mount: BorrowedFd<'_>, propagation: u64, recursive: bool) -> Result<()> {
    let attributes = MountAttr { propagation, ..MountAttr::default() };
    call(mount, &attributes, recursive).map_err(|errno| failed("mount_setattr propagation", errno))
}

/// Shows the owners of files in the detached mount `mount` by the maps of the user namespace `user`.
pub(crate) fn idmap(mount: BorrowedFd<'_>, user: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let userns_fd = user.as_raw_fd().try_into().expect("a borrowed descriptor is not negative");
    let attributes = MountAttr { set: IDMAP, userns_fd, ..MountAttr::default() };
    call(mount, &attributes, recursive).map_err(|errno| match errno {
        Errno::EINVAL => {
            let what = "mount_setattr idmap (its file system cannot be id-mapped on this kernel)";
            failed(what, errno)
        }
        Errno::EPERM => failed("mount_setattr idmap (it is id-mapped already, or not the runtime's to map)", errno),
        errno => failed("mount_setattr idmap", errno),
    })
}

fn call(mount: BorrowedFd<'_>, attributes: &MountAttr, recursive: bool) -> std::result::Result<(), Errno> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads the path (static, ends in NUL) and `attributes`, whose size is passed along and which
    // outlives the call; the borrowed fd keeps the descriptor open meanwhile. Nothing is written.
    let done = unsafe {
        syscall!(
            Sysno::mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>()
        )
    };
    done.map(drop).map_err(|errno| Errno::from_raw(errno.into_raw()))
}

fn failed(what: &str, errno: Errno) -> Error {
    match errno {
        Errno::ENOSYS => Error::new(Kind::Unimplemented, format!("{what}: needs Linux 5.12 or newer")),
        errno => Error::sys(what, errno),
    }
}
