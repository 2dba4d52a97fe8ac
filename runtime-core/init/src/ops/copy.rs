//! A copy of a directory's content: what `tmpcopyup` begins with.
//!
//! It is done here, by the container's own process, though that has no allocator: the pages of the new tmpfs count against
//! the container's memory limit, not the runtime's, and the one thread of the parent does not stand still for as long as an
//! image's directory is long. Every name is opened from the directory that it was read from, and no link is followed, so
//! that a neighbour who changes the directory meanwhile changes at the most what is copied.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown,
    fstat, futimens, mkdirat, mknodat, openat, sendfile, statat, symlinkat,
};
use rustix::io::Errno;

use crate::ops::nodes::with_target;

/// A deeper tree is refused with ELOOP: each level takes two descriptors and some kilobytes of the stack.
const DEEPEST: u32 = 128;

/// Enough for the longest name, and a few dozen usual ones.
const ENTRY_BYTES: usize = 2048;

/// As much as one call moves at the most.
const CHUNK_BYTES: usize = 1 << 20;

/// The permission bits of the directory `from`, for `to`; both may be mere places.
pub(super) fn permissions(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    chmodat(to, c".", Mode::from_raw_mode(fstat(from)?.st_mode), AtFlags::empty())
}

/// Copies what is in the directory `from` into the directory `to`; both may be mere places.
pub(super) fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    entries(open_directory(from, c".")?.as_fd(), open_directory(to, c".")?.as_fd(), DEEPEST)
}

fn entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); ENTRY_BYTES];
    let mut list = RawDir::new(from, &mut buffer);
    while let Some(entry) = list.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
            let source = open_directory(from, name)?;
            mkdirat(to, name, Mode::RWXU)?;
            let copy = open_directory(to, name)?;
            entries(source.as_fd(), copy.as_fd(), depth)?;
            settle(copy.as_fd(), &stat)
        }
        FileType::RegularFile => file(from, to, name),
        FileType::Symlink => {
            with_target(from, name, |target| symlinkat(target, to, name))?;
            chown(to, name, &stat)
        }
        kind => {
            mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
            chown(to, name, &stat)
        }
    }
}

/// NONBLOCK, for what was a file a moment ago may be a fifo now.
fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = openat(from, name, flags | OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
    let stat = fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::STALE);
    }
    let copy = openat(to, name, flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
    while sendfile(&copy, &source, None, CHUNK_BYTES)? > 0 {}
    settle(copy.as_fd(), &stat)
}

/// Owner, permissions and times. The owner first, for that takes away set-user-ID.
fn settle(file: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    fchown(file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(file, Mode::from_raw_mode(stat.st_mode))?;
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let nanoseconds = |n| i64::try_from(n).map_err(|_| Errno::INVAL);
    futimens(
        file,
        &Timestamps {
            last_access: time(stat.st_atime, nanoseconds(stat.st_atime_nsec)?),
            last_modification: time(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)?),
        },
    )
}

fn chown(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
