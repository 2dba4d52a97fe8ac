//! Paths of the container, always resolved below its root: openat2(2) with RESOLVE_IN_ROOT at the moment of use, and then
//! used by descriptor. Nothing that the image or a neighbour does to a link in between can lead outside (D10).

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::ops::Work;
use crate::step::Text;

/// PATH_MAX of linux/limits.h, with its NUL.
pub(super) const PATH_BYTES: usize = 4096;

/// How often a lookup is repeated that raced with a rename somewhere on the host: openat2(2) answers EAGAIN then.
const RACES: u32 = 128;

/// Mode of directories that are made because something is to be mounted in them.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// A path in a buffer, to be cut at its slashes.
struct PathBuffer {
    bytes: [u8; PATH_BYTES],
    len: usize,
}

impl PathBuffer {
    fn new(path: &CStr) -> Result<Self, Errno> {
        let from = path.to_bytes();
        let mut bytes = [0; PATH_BYTES];
        // The last byte stays NUL.
        if from.len() >= PATH_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        for (to, from) in bytes.iter_mut().zip(from) {
            *to = *from;
        }
        Ok(Self { bytes, len: from.len() })
    }

    /// Where the first component that starts at or after `from` ends; none at the end of the path.
    fn component_end(&self, from: usize) -> Option<usize> {
        let rest = self.bytes.get(from..self.len)?;
        let start = from.checked_add(rest.iter().position(|b| *b != b'/')?)?;
        let component = self.bytes.get(start..self.len)?;
        let length = component.iter().position(|b| *b == b'/').unwrap_or(component.len());
        start.checked_add(length)
    }

    /// Gives `f` the path up to `end`, NUL-terminated.
    fn with_prefix<T>(&mut self, end: usize, f: impl FnOnce(&CStr) -> Result<T, Errno>) -> Result<T, Errno> {
        let byte = self.bytes.get_mut(end).ok_or(Errno::NAMETOOLONG)?;
        let kept = core::mem::replace(byte, 0);
        let result = CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::INVAL).and_then(f);
        if let Some(byte) = self.bytes.get_mut(end) {
            *byte = kept;
        }
        result
    }

    /// Where the last component starts, trailing slashes not counted.
    fn last_component(&self) -> Option<usize> {
        let path = self.bytes.get(..self.len)?;
        let end = path.iter().rposition(|b| *b != b'/')?.checked_add(1)?;
        let slash = path.get(..end)?.iter().rposition(|b| *b == b'/');
        Some(slash.map_or(0, |at| at.saturating_add(1)))
    }
}

/// Opens `path` below `root` as a mere place (O_PATH), following links inside the root.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    for _ in 0..RACES {
        match openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Makes every missing directory of `path` up to `end` (all of it: the path's length) and returns the last.
fn make_directories(root: BorrowedFd<'_>, path: &mut PathBuffer, end: usize) -> Result<OwnedFd, Errno> {
    match path.with_prefix(end, |prefix| open_in(root, prefix, OFlags::DIRECTORY)) {
        Err(Errno::NOENT) => {}
        done => return done,
    }
    let mut parent = open_in(root, c"/", OFlags::DIRECTORY)?;
    let mut start = 0;
    while let Some(stop) = path.component_end(start).filter(|stop| *stop <= end) {
        parent = match path.with_prefix(stop, |prefix| open_in(root, prefix, OFlags::DIRECTORY)) {
            Err(Errno::NOENT) => {
                // Below the directory that was just opened, so a link can lead nowhere; EEXIST is somebody else's success,
                // unless it is a dangling link, which the open then reports.
                path.with_prefix(stop, |prefix| make_one(parent.as_fd(), last_of(prefix)))?;
                path.with_prefix(stop, |prefix| open_in(root, prefix, OFlags::DIRECTORY))?
            }
            done => done?,
        };
        start = stop;
    }
    Ok(parent)
}

fn make_one(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, DIRECTORY_MODE) {
        Err(Errno::EXIST) => Ok(()),
        done => done,
    }
}

/// The last component of `path`.
fn last_of(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let at = bytes.iter().rposition(|b| *b == b'/').map_or(0, |at| at.saturating_add(1));
    bytes.get(at..).and_then(|name| CStr::from_bytes_with_nul(name).ok()).unwrap_or(path)
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

    /// A directory of the container, made with its parents where missing.
    pub(super) fn directory(&mut self, path: Text) -> Result<OwnedFd, Errno> {
        let mut path = PathBuffer::new(self.str(path)?)?;
        let end = path.len;
        make_directories(self.root()?, &mut path, end)
    }

    /// The directory that holds `path`, made where missing, and the last component of `path`, given to `f`.
    #[inline(never)]
    pub(super) fn in_parent<T>(
        &mut self,
        path: Text,
        f: impl FnOnce(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut path = PathBuffer::new(self.str(path)?)?;
        let name_at = path.last_component().ok_or(Errno::INVAL)?;
        let parent = make_directories(self.root()?, &mut path, name_at)?;
        let name = path.bytes.get(name_at..).ok_or(Errno::INVAL)?;
        f(parent.as_fd(), CStr::from_bytes_until_nul(name).map_err(|_| Errno::INVAL)?)
    }

    /// A place to mount a file on: what is at `path`, or an empty file made there.
    pub(super) fn file_place(&mut self, path: Text) -> Result<OwnedFd, Errno> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        self.in_parent(path, |parent, name| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
            match rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno),
            }
        })?;
        self.open(path)
    }
}

/// Makes the mount that holds the host path `path` private, so that nothing mounted there shows on the host and
/// pivot_root(2) takes it: walks up until a mount point is found.
#[inline(never)]
pub(super) fn make_enclosing_mount_private(path: &CStr) -> Result<(), Errno> {
    const MS_PRIVATE: u64 = 1 << 18;
    let mut path = PathBuffer::new(path)?;
    loop {
        let end = path.len.max(1);
        match path.with_prefix(end, |prefix| crate::sys::mount_setattr_at(prefix, MS_PRIVATE, false)) {
            // Not a mount point: its parent directory then.
            Err(Errno::INVAL) if path.len > 1 => path.len = path.last_component().unwrap_or(0).saturating_sub(1).max(1),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PathBuffer, last_of};

    #[test]
    fn a_path_is_cut_at_its_slashes() {
        let mut path = PathBuffer::new(c"/a//bc/d/").unwrap();
        assert_eq!(path.component_end(0), Some(2));
        assert_eq!(path.component_end(2), Some(6));
        assert_eq!(path.component_end(6), Some(8));
        assert_eq!(path.component_end(8), None);
        assert_eq!(path.last_component(), Some(7));
        assert_eq!(path.with_prefix(6, |prefix| Ok(prefix == c"/a//bc")), Ok(true));
        assert_eq!(last_of(c"/a/bc"), c"bc");
        assert_eq!(last_of(c"bc"), c"bc");
        assert_eq!(PathBuffer::new(c"///").unwrap().last_component(), None);
        assert_eq!(PathBuffer::new(c"x").unwrap().last_component(), Some(0));
    }
}
