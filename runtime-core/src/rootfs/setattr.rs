//! `mount_setattr(2)`, which rustix does not have. Linux 5.12.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use syscalls::{Sysno, syscall};

/// `AT_RECURSIVE`: the whole tree below.
pub(super) const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;

/// `struct mount_attr`, first version.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets and clears `MOUNT_ATTR_*` on the mount that `mount` is the root of, and its propagation (`MS_*`, 0 leaves it).
pub(super) fn mount_setattr(
    mount: BorrowedFd<'_>,
    flags: u32,
    set: u32,
    clear: u32,
    propagation: u32,
) -> Result<(), Errno> {
    let attributes = MountAttr { set: set.into(), clear: clear.into(), propagation: propagation.into(), userns_fd: 0 };
    // SAFETY: the kernel reads the path (static, ends in NUL) and `attributes`, whose size is passed along and which
    // outlives the call; the borrowed fd keeps the descriptor open meanwhile. Nothing is written.
    let done = unsafe {
        syscall!(
            Sysno::mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH | flags,
            &raw const attributes,
            size_of::<MountAttr>()
        )
    };
    done.map(drop).map_err(|errno| Errno::from_raw(errno.into_raw()))
}
