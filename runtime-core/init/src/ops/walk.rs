//! A path of the container that is made where it is missing: the slow way, taken when openat2(2) has found something missing.
//!
//! The kernel resolves what is there, component for component and always below the root. Where it finds nothing, there are two
//! cases. Nothing is there: it is made. Or a symbolic link to nothing is there: mkdir(2), mknod(2) and O_EXCL do not follow it.
//! Then what the link says is written into the path in its place, and the walk goes on with that: so links lead where they lead
//! a process of the container, `..` ends at the root, and what the link is missing is made, as runc does it. (Images have such
//! links: /etc/resolv.conf to a file below /run, which systemd makes.) A neighbour who exchanges links meanwhile can change
//! where in the root something is made; every descriptor comes from an openat2 with RESOLVE_IN_ROOT, and names of one component
//! are all that is made in it.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat};
use rustix::io::Errno;

use crate::ops::mounts::is_proc;
use crate::ops::nodes::read_link;
use crate::ops::path_buffer::{Component, PATH_BYTES, PathBuffer};
use crate::ops::paths::open_at;

/// As many links as the kernel follows for one path: path_resolution(7).
const LINKS: u32 = 40;

/// Mode of directories that are made because something is to be mounted in them.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// `NO_SYMLINKS` where a link is an error.
    resolve: ResolveFlags,
    path: PathBuffer,
    /// The directory that is reached.
    parent: OwnedFd,
    /// What of `path` has led there.
    done: usize,
    /// How many links may still be followed.
    links: u32,
}

impl<'a> Walk<'a> {
    /// Begins at the last component where all before it is there, or at the root.
    pub(super) fn new(root: BorrowedFd<'a>, path: &CStr, resolve: ResolveFlags) -> Result<Self, Errno> {
        let mut path = PathBuffer::new(path)?;
        let last = path.last_component().unwrap_or(0);
        let parent = path.with_prefix(last, |prefix| open_at(root, prefix, OFlags::DIRECTORY, resolve));
        let (parent, done) = match parent {
            Err(Errno::NOENT) => (open_at(root, c"/", OFlags::DIRECTORY, resolve)?, 0),
            parent => (parent?, last),
        };
        Ok(Self { root, resolve, path, parent, done, links: LINKS })
    }

    /// Walks to the end, which is a directory.
    pub(super) fn directory(mut self) -> Result<OwnedFd, Errno> {
        while let Some(component) = self.path.component(self.done) {
            self.enter(component)?;
        }
        Ok(self.parent)
    }

    /// Gives `f` the directory and the name of the last component, which is not looked at.
    pub(super) fn in_parent<T>(
        mut self,
        f: impl FnOnce(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let last = self.enter_all_but_last()?;
        self.at(last, f)
    }

    /// The same where a last component that is a link stands for what it says: `f`, which answers EEXIST for a link, is then
    /// asked again.
    pub(super) fn at_the_end<T>(
        mut self,
        mut f: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        loop {
            let last = self.enter_all_but_last()?;
            match self.at(last, &mut f) {
                Err(Errno::EXIST) if self.follow(last)? => {}
                done => return done,
            }
        }
    }

    /// The last component; EEXIST for the root, which has none.
    fn enter_all_but_last(&mut self) -> Result<Component, Errno> {
        loop {
            let component = self.path.component(self.done).ok_or(Errno::EXIST)?;
            if self.path.component(component.end).is_none() {
                return Ok(component);
            }
            self.enter(component)?;
        }
    }

    /// Goes into a directory, which is made where there is none. At a link to nothing, only the path changes.
    fn enter(&mut self, component: Component) -> Result<(), Errno> {
        let directory = match self.open(component) {
            Err(Errno::NOENT) => {
                match self.at(component, |parent, name| mkdirat(parent, name, DIRECTORY_MODE)) {
                    Err(Errno::EXIST) if self.follow(component)? => return Ok(()),
                    // Made by somebody else meanwhile.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                self.open(component)?
            }
            directory => directory?,
        };
        (self.parent, self.done) = (directory, component.end);
        Ok(())
    }

    fn open(&mut self, component: Component) -> Result<OwnedFd, Errno> {
        let (root, resolve) = (self.root, self.resolve);
        self.path.with_prefix(component.end, |path| open_at(root, path, OFlags::DIRECTORY, resolve))
    }

    fn at<T>(
        &mut self,
        component: Component,
        f: impl FnOnce(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Self { path, parent, .. } = self;
        path.with_part(component, |name| f(parent.as_fd(), name))
    }

    /// Puts what the link at `component` says in its place. False where there is no link. A link of procfs is none that says
    /// where it leads: ELOOP, as from openat2 with RESOLVE_NO_MAGICLINKS.
    #[inline(never)]
    fn follow(&mut self, component: Component) -> Result<bool, Errno> {
        let mut buffer = [0; PATH_BYTES];
        let read =
            self.at(component, |parent, name| read_link(parent, name, &mut buffer).map(|said| said.is_some()))?;
        if !read {
            return Ok(false);
        }
        if self.resolve.contains(ResolveFlags::NO_SYMLINKS) || is_proc(self.parent.as_fd())? {
            return Err(Errno::LOOP);
        }
        self.links = self.links.checked_sub(1).ok_or(Errno::LOOP)?;
        let target = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno::NAMETOOLONG)?;
        self.path = self.path.replaced(component, target)?;
        if target.to_bytes().starts_with(b"/") {
            (self.parent, self.done) = (open_at(self.root, c"/", OFlags::DIRECTORY, self.resolve)?, 0);
        }
        Ok(true)
    }
}
