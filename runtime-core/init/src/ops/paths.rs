//! Paths of the container, always resolved below its root: openat2(2) with RESOLVE_IN_ROOT at the moment of use, and then
//! used by descriptor. Nothing that the image or a neighbour does to a link in between can lead outside (D10).

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::ops::Work;
use crate::ops::path_buffer::PathBuffer;
use crate::ops::walk::Walk;
use crate::step::Text;

/// How often a lookup is repeated that raced with a rename somewhere on the host: openat2(2) answers EAGAIN then.
const RACES: u32 = 128;

/// Opens `path` below `root` as a mere place (O_PATH), following links inside the root.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_at(root, path, flags, ResolveFlags::empty())
}

/// The same with further rules: with `NO_SYMLINKS` a link is an error (ELOOP).
pub(super) fn open_at(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    look_up(root, path, flags | OFlags::PATH, resolve | ResolveFlags::IN_ROOT)
}

/// openat2(2) of what exists, never through a link of procfs; tried again where it raced with a rename.
pub(super) fn look_up(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let (flags, resolve) = (flags | OFlags::CLOEXEC, resolve | ResolveFlags::NO_MAGICLINKS);
    for _ in 0..RACES {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

impl Work<'_> {
    /// The container's root.
    pub(super) fn root(&mut self) -> Result<BorrowedFd<'_>, Errno> {
        if self.root.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.root = Some(rustix::fs::open(c"/", flags, Mode::empty())?);
        }
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Opens a path of the container as a place.
    pub(super) fn open(&mut self, path: Text) -> Result<OwnedFd, Errno> {
        let path = self.str(path)?;
        open_in(self.root()?, path, OFlags::empty())
    }

    /// What is at a path of the container, if that is a symbolic link.
    pub(super) fn link_at(&mut self, path: Text) -> Result<Option<OwnedFd>, Errno> {
        let path = self.str(path)?;
        match open_in(self.root()?, path, OFlags::NOFOLLOW) {
            Ok(there) => {
                let mode = rustix::fs::fstat(&there)?.st_mode;
                Ok(Some(there).filter(|_| FileType::from_raw_mode(mode) == FileType::Symlink))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// A directory of the container, made with its parents where missing. `resolve` are further rules of [`open_at`].
    pub(super) fn directory(&mut self, path: Text, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let (path, root) = (self.str(path)?, self.root()?);
        match open_at(root, path, OFlags::DIRECTORY, resolve) {
            Err(Errno::NOENT) => make_directory(root, path, resolve),
            done => done,
        }
    }

    /// A place to mount a file on: what is at `path`, or an empty file made there, with its parents.
    pub(super) fn file_place(&mut self, path: Text, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let (path, root) = (self.str(path)?, self.root()?);
        match open_at(root, path, OFlags::empty(), resolve) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        make_file(root, path, resolve)?;
        open_at(root, path, OFlags::empty(), resolve)
    }

    /// The directory that holds `path`, made where missing, and the last component of `path`, given to `f`.
    #[inline(never)]
    pub(super) fn in_parent<T>(
        &mut self,
        path: Text,
        f: impl FnOnce(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let path = self.str(path)?;
        Walk::new(self.root()?, path, ResolveFlags::empty())?.in_parent(f)
    }

    /// The same where `path` leads, should its last component be a link: `f` answers EEXIST for one.
    #[inline(never)]
    pub(super) fn at_the_end<T>(
        &mut self,
        path: Text,
        f: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let path = self.str(path)?;
        Walk::new(self.root()?, path, ResolveFlags::empty())?.at_the_end(f)
    }
}

#[inline(never)]
fn make_directory(root: BorrowedFd<'_>, path: &CStr, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    Walk::new(root, path, resolve)?.directory()
}

/// An empty file where `path` leads.
#[inline(never)]
fn make_file(root: BorrowedFd<'_>, path: &CStr, resolve: ResolveFlags) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let create = |parent: BorrowedFd<'_>, name: &CStr| {
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match Walk::new(root, path, resolve)?.at_the_end(create) {
        // Made by somebody else meanwhile.
        Err(Errno::EXIST) => Ok(()),
        done => done,
    }
}

/// Makes the mount that holds the host path `path` private, so that nothing mounted there shows on the host and
/// pivot_root(2) takes it: walks up until a mount point is found.
#[inline(never)]
pub(super) fn make_enclosing_mount_private(path: &CStr) -> Result<(), Errno> {
    const MS_PRIVATE: u64 = 1 << 18;
    let mut path = PathBuffer::new(path)?;
    loop {
        let end = path.len().max(1);
        match path.with_prefix(end, |prefix| crate::sys::mount_setattr_at(prefix, MS_PRIVATE, false)) {
            // Not a mount point: its parent directory then.
            Err(Errno::INVAL) if path.len() > 1 => path.cut_last(),
            done => return done,
        }
    }
}
