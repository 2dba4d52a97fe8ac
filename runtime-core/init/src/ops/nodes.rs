//! Device nodes, fifos and symbolic links: what /dev is made of. Each is made in an opened directory by its bare name, and
//! what is there already is looked at, never trusted.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chownat, fstat, makedev, mknodat, readlinkat_raw, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::ops::Work;
use crate::ops::path_buffer::PATH_BYTES;
use crate::step::{Origin, Text};

impl Work<'_> {
    /// A link in the last place is followed inside the root, as runc does. An image that may have a link among the parents could
    /// lead the node to the same place, so to refuse the last one would protect nothing. What matters is that nothing else is
    /// taken for the device: what is there already must be that very node. (runc and crun take whatever is there.)
    pub(super) fn make_node(
        &mut self,
        path: Text,
        mode: u32,
        (major, minor): (u32, u32),
        (uid, gid): (u32, u32),
    ) -> Result<(), Errno> {
        let kind = FileType::from_raw_mode(mode);
        let permissions = Mode::from_raw_mode(mode);
        let number = makedev(major, minor);
        self.at_the_end(path, |parent, name| {
            match mknodat(parent, name, kind, permissions, number) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let there = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    let same = FileType::from_raw_mode(there.st_mode) == kind && there.st_rdev == number;
                    return if same { Ok(()) } else { Err(Errno::EXIST) };
                }
                Err(errno) => return Err(errno),
            }
            // Made with its mode, for chmod(2) would follow a link that a neighbour puts there in a directory they share.
            chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Makes the link that is at `source` anew at `destination`. False where there is none; EEXIST where another thing than
    /// such a link is at the destination.
    pub(super) fn copy_link(&mut self, (source, origin): (Text, Origin), destination: Text) -> Result<bool, Errno> {
        let source = self.open_source(source, origin, true)?;
        if FileType::from_raw_mode(fstat(&source)?.st_mode) != FileType::Symlink {
            return Ok(false);
        }
        let copied = with_target(source.as_fd(), c"", |target| {
            self.in_parent(destination, |parent, name| match symlinkat(target, parent, name) {
                Err(Errno::EXIST) => match with_target(parent, name, |there| Ok(there == target))? {
                    Some(true) => Ok(()),
                    _ => Err(Errno::EXIST),
                },
                done => done,
            })
        })?;
        Ok(copied.is_some())
    }

    pub(super) fn make_link(&mut self, target: Text, path: Text) -> Result<(), Errno> {
        let target = self.str(target)?;
        self.in_parent(path, |parent, name| match symlinkat(target, parent, name) {
            // Where it says so already it may be on something that cannot be written.
            Err(Errno::EXIST) if says(parent, name, target) => Ok(()),
            // The host's own /dev has a device for ptmx.
            Err(Errno::EXIST) if is_device(parent, name) => Ok(()),
            Err(Errno::EXIST) => {
                unlinkat(parent, name, AtFlags::empty())?;
                symlinkat(target, parent, name)
            }
            done => done,
        })
    }
}

/// Gives `f` what the link at `path` says. None where there is no link.
#[inline(never)]
pub(super) fn with_target<T>(
    dir: BorrowedFd<'_>,
    path: &CStr,
    f: impl FnOnce(&CStr) -> Result<T, Errno>,
) -> Result<Option<T>, Errno> {
    read_link(dir, path, &mut [0; PATH_BYTES])?.map(f).transpose()
}

/// What the link at `path` says, written into `buffer`, which is all zeros. None where there is no link.
pub(super) fn read_link<'a>(
    dir: BorrowedFd<'_>,
    path: &CStr,
    buffer: &'a mut [u8; PATH_BYTES],
) -> Result<Option<&'a CStr>, Errno> {
    match readlinkat_raw(dir, path, buffer.as_mut_slice()) {
        Ok(_) => CStr::from_bytes_until_nul(buffer).map(Some).map_err(|_| Errno::NAMETOOLONG),
        Err(Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn is_device(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::CharacterDevice)
}

/// Whether `name` is a symbolic link to `target`.
fn says(parent: BorrowedFd<'_>, name: &CStr, target: &CStr) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 64];
    readlinkat_raw(parent, name, &mut buffer).is_ok_and(|(found, _)| *found == *target.to_bytes())
}
