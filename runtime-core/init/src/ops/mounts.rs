//! Mounts, by the descriptor-based mount API throughout: fsopen(2), open_tree(2), mount_setattr(2), move_mount(2). What is
//! mounted is complete before it is attached, and it is attached to an opened place, not to a path.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use crate::ops::{Failure, Work, copy, paths};
use crate::step::{Attributes, Descriptor, Links, NODE, Origin, Pair, Procfs, Root, Span, TakeOver, Text, entries};
use crate::sync::{DETAIL_BYTES, Report};
use crate::sys;

/// `MS_SLAVE`, sys/mount.h.
const MS_SLAVE: u64 = 1 << 19;

/// `MOUNT_ATTR_NOSUID | _NODEV | _NOEXEC`, linux/mount.h.
const INERT: u64 = 0xe;

/// The same with `MOUNT_ATTR_RDONLY`.
const SEALED: u64 = 0xf;

/// `PROC_SUPER_MAGIC`, linux/magic.h.
const PROC_MAGIC: u64 = 0x9fa0;

/// Major and minor number of /dev/null.
const NULL_DEVICE: (u32, u32) = (1, 3);

impl Work<'_> {
    /// Makes the rootfs a mount of its own, where it is to be one, and opens it.
    pub(super) fn open_root(&mut self, path: Text, root: Root) -> Result<(), Errno> {
        let path = match root {
            Root::Mounted => self.str(path)?,
            Root::Tree(_) => c"/",
            Root::Directory(directory) => {
                self.root = Some(self.handed(directory)?);
                return Ok(());
            }
        };
        paths::make_enclosing_mount_private(path)?;
        let tree = match root {
            Root::Tree(tree) => self.handed(tree)?,
            _ => clone_mount(CWD, path, true)?,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(path, flags, Mode::empty())?;
        attach(tree.as_fd(), place.as_fd())?;
        self.root = Some(tree);
        Ok(())
    }

    /// What was made, or the host's in its place where the kernel does not allow it: in a user namespace only those may mount
    /// a proc, sysfs or mqueue whose own is the namespace that it shows.
    pub(super) fn or_instead(
        &self,
        made: Result<OwnedFd, Failure>,
        instead: Option<Descriptor>,
        set: u64,
    ) -> Result<OwnedFd, Failure> {
        match (made, instead) {
            (Err(Failure { errno: Errno::PERM, .. }), Some(instead)) => {
                let mount = rustix::io::fcntl_dupfd_cloexec(self.fd(instead)?, 3)?;
                // The host has its own mounts below.
                sys::mount_setattr(mount.as_fd(), Attributes { set, clear: 0 }, 0, true)?;
                Ok(mount)
            }
            (made, _) => made,
        }
    }

    pub(super) fn attach_filesystem(
        &mut self,
        mount: BorrowedFd<'_>,
        fs_type: Text,
        take_over: TakeOver,
        destination: Text,
    ) -> Result<(), Errno> {
        let fs_type = self.str(fs_type)?;
        let there = if take_over.mode { self.open_if_there(destination)? } else { None };
        let is_kernels = fs_type == c"proc" || fs_type == c"sysfs";
        let resolve = if is_kernels { ResolveFlags::NO_SYMLINKS } else { self.rules(destination)? };
        let place = self.directory(destination, resolve)?;
        self.refuse_proc(place.as_fd(), destination)?;
        if let Some(there) = there {
            copy::permissions(there.as_fd(), mount)?;
        }
        if take_over.content {
            copy::directory(place.as_fd(), mount)?;
        }
        attach(mount, place.as_fd())
    }

    pub(super) fn mount_bind(
        &mut self,
        (source, origin, recursive): (Text, Origin, bool),
        links: Links,
        [own, all]: [Attributes; 2],
        destination: Text,
    ) -> Result<(), Errno> {
        if links.copy && self.copy_link((source, origin), destination)? {
            return Ok(());
        }
        let mount = match origin {
            Origin::Host if !links.source_nofollow => clone_mount(CWD, self.str(source)?, recursive)?,
            Origin::Host => clone_mount(self.open_source(source, origin, true)?.as_fd(), c"", recursive)?,
            Origin::Parent(tree) => self.handed(tree)?,
            Origin::Device(tree) => self.node(tree)?,
            Origin::Container { idmap } => {
                let place = self.open_source(source, origin, links.source_nofollow)?;
                let mount = clone_mount(place.as_fd(), c"", recursive)?;
                if let Some(ids) = idmap {
                    self.report_and_wait(Report::Idmap { ids: ids.0 }, Some(mount.as_fd()))?;
                }
                mount
            }
        };
        if !own.is_empty() {
            sys::mount_setattr(mount.as_fd(), own, 0, false)?;
        }
        if !all.is_empty() {
            sys::mount_setattr(mount.as_fd(), all, 0, true)?;
        }
        let resolve = self.rules(destination)?;
        let link = if links.destination_nofollow && resolve.is_empty() { self.link_at(destination)? } else { None };
        let place = match link {
            Some(link) => link,
            None if is_directory(mount.as_fd())? => self.directory(destination, resolve)?,
            None => self.file_place(destination, resolve)?,
        };
        self.refuse_proc(place.as_fd(), destination)?;
        attach(mount.as_fd(), place.as_fd())
    }

    /// A detached mount that the parent has made, or a directory that it has opened.
    fn handed(&self, tree: Descriptor) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(self.fd(tree)?, 3)
    }

    /// A mount of a device's node alone. Of a tmpfs that is attached nowhere the kernel makes no copy before 6.15: so it is
    /// attached as long as that takes, over `/`, where no path leads through it.
    fn node(&self, tree: Descriptor) -> Result<OwnedFd, Errno> {
        let tree = self.handed(tree)?;
        if !is_directory(tree.as_fd())? {
            return Ok(tree);
        }
        let slash = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        attach(tree.as_fd(), slash.as_fd())?;
        let node = clone_mount(tree.as_fd(), NODE, false)?;
        rustix::process::fchdir(&tree)?;
        unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")?;
        Ok(node)
    }

    /// A bind's source as a place.
    pub(super) fn open_source(&mut self, source: Text, origin: Origin, nofollow: bool) -> Result<OwnedFd, Errno> {
        let path = self.str(source)?;
        let flags = if nofollow { OFlags::NOFOLLOW } else { OFlags::empty() };
        match origin {
            Origin::Container { .. } => paths::open_in(self.root()?, path, flags),
            _ => rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
        }
    }

    pub(super) fn mask_path(&mut self, path: Text) -> Result<(), Failure> {
        let Some(place) = self.open_if_there(path)? else { return Ok(()) };
        if is_directory(place.as_fd())? {
            return self.cover_directory(place.as_fd());
        }
        Ok(attach(self.null_device()?.as_fd(), place.as_fd())?)
    }

    pub(super) fn readonly_path(&mut self, path: Text) -> Result<(), Errno> {
        let Some(place) = self.open_if_there(path)? else { return Ok(()) };
        let cover = clone_mount(place.as_fd(), c"", true)?;
        let readonly = Attributes { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), clear: 0 };
        sys::mount_setattr(cover.as_fd(), readonly, 0, true)?;
        attach(cover.as_fd(), place.as_fd())
    }

    /// No link but procfs's own `self` is followed, and what is opened is of the procfs that was meant.
    pub(super) fn write_proc(&mut self, procfs: Procfs, path: Text, value: Text) -> Result<(), Failure> {
        let (path, value) = (self.str(path)?, self.str(value)?);
        let host;
        let root = match procfs {
            Procfs::Host => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                host = rustix::fs::open(c"/proc", flags, Mode::empty())?;
                if !is_proc(host.as_fd())? {
                    return Err(Errno::NODEV.into());
                }
                host.as_fd()
            }
            Procfs::Own => self.own_procfs()?,
        };
        let file = paths::look_up(root, path, OFlags::WRONLY, ResolveFlags::BENEATH | ResolveFlags::NO_XDEV)?;
        rustix::io::write(&file, value.to_bytes())?;
        Ok(())
    }

    /// A procfs that is attached nowhere, made when it is first needed.
    pub(super) fn own_procfs(&mut self) -> Result<BorrowedFd<'_>, Failure> {
        if self.procfs.is_none() {
            self.procfs = Some(new_filesystem(c"proc", c"proc", INERT, |_| Ok(()))?);
        }
        Ok(self.procfs.as_ref().ok_or(Errno::BADF)?.as_fd())
    }

    /// The new root comes to lie below the old one at `/`; the old one, made a slave so that nothing shows on the host, is
    /// detached. pivot_root(2), "pivot_root(".", ".")".
    pub(super) fn pivot_root(&mut self) -> Result<(), Errno> {
        let old = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::fchdir(self.root()?)?;
        rustix::process::pivot_root(c".", c".")?;
        rustix::process::fchdir(&old)?;
        sys::mount_setattr_at(c".", MS_SLAVE, true)?;
        unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")
    }

    /// The root without a mount namespace: nothing is mounted, and the host's tree stays where it is.
    pub(super) fn change_root(&mut self) -> Result<(), Errno> {
        rustix::process::fchdir(self.root()?)?;
        rustix::process::chroot(c".")?;
        rustix::process::chdir(c"/")
    }

    /// How the place of a mount is found. Later steps go by the names /proc, /sys and /dev: what is masked and made read-only
    /// by them would lie elsewhere had the image made one a link (CVE-2019-19921, CVE-2023-27561), and devices would be made
    /// in whatever is mounted there later. So there a link is an error, ELOOP, of the very lookup that gives the place.
    fn rules(&self, destination: Text) -> Result<ResolveFlags, Errno> {
        let is_relied_on = [c"/proc", c"/sys", c"/dev"].contains(&self.str(destination)?);
        Ok(if is_relied_on { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() })
    }

    /// EPERM for a destination that leads into /proc by a link: `config` let only harmless names below /proc through
    /// (CVE-2019-16884).
    pub(super) fn refuse_proc(&self, place: BorrowedFd<'_>, destination: Text) -> Result<(), Errno> {
        let rest = self.str(destination)?.to_bytes().strip_prefix(b"/proc");
        let by_name = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        if is_proc(place)? && !by_name { Err(Errno::PERM) } else { Ok(()) }
    }

    /// A path of the container that may be missing.
    fn open_if_there(&mut self, path: Text) -> Result<Option<OwnedFd>, Errno> {
        match self.open(path) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Mounts an empty read-only directory at `place`. Only what is attached can be bound: of a detached mount the kernel
    /// clones none before 6.15. The file system has no room: a container that remounts it can still write nothing there.
    fn cover_directory(&mut self, place: BorrowedFd<'_>) -> Result<(), Failure> {
        if let Some(mask) = &self.mask {
            let cover = clone_mount(mask.as_fd(), c"", false)?;
            return Ok(attach(cover.as_fd(), place)?);
        }
        let mask = new_filesystem(c"tmpfs", c"tmpfs", SEALED, |context| {
            fsconfig_set_string(context, c"size", c"4k")?;
            fsconfig_set_string(context, c"nr_inodes", c"1")?;
            fsconfig_set_flag(context, c"ro")
        })?;
        attach(mask.as_fd(), place)?;
        self.mask = Some(mask);
        Ok(())
    }

    /// A detached mount of the container's /dev/null, after a look at what it really is (CVE-2025-31133).
    fn null_device(&mut self) -> Result<OwnedFd, Errno> {
        let null = paths::open_in(self.root()?, c"/dev/null", OFlags::NOFOLLOW)?;
        let stat = rustix::fs::fstat(&null)?;
        let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || number != NULL_DEVICE {
            return Err(Errno::NODEV);
        }
        clone_mount(null.as_fd(), c"", false)
    }

    /// A new file system with the options of a plan, attached nowhere; a proc shows the pid namespace that is given.
    pub(super) fn planned_filesystem(
        &self,
        (fs_type, source): (Text, Text),
        pid_namespace: Option<Descriptor>,
        options: Span,
        attributes: u64,
    ) -> Result<OwnedFd, Failure> {
        let options = entries(self.program.pairs, options)?;
        new_filesystem(self.str(fs_type)?, self.str(source)?, attributes, |context| {
            if let Some(namespace) = pid_namespace {
                fsconfig_set_fd(context, c"pidns", self.fd(namespace)?)?;
            }
            options.iter().try_for_each(|Pair { key, value }| match value {
                Some(value) => fsconfig_set_string(context, self.str(*key)?, self.str(*value)?),
                None => fsconfig_set_flag(context, self.str(*key)?),
            })
        })
    }
}

/// A new file system, attached nowhere. `set_options` sets its options.
fn new_filesystem(
    fs_type: &CStr,
    source: &CStr,
    attributes: u64,
    set_options: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<OwnedFd, Failure> {
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).map_err(|_| Errno::INVAL)?);
    let configure = || {
        if !source.is_empty() {
            fsconfig_set_string(&context, c"source", source)?;
        }
        set_options(context.as_fd())?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    configure().map_err(|errno| explain(context.as_fd(), errno))
}

/// A detached copy of what is mounted at `path` (at `dir` itself where the path is empty).
pub(super) fn clone_mount(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
    open_tree(dir, path, flags)
}

/// Attaches a detached mount at an opened place.
pub(super) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags)
}

fn is_directory(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::Directory)
}

pub(super) fn is_proc(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(u64::try_from(rustix::fs::fstatfs(file)?.f_type) == Ok(PROC_MAGIC))
}

/// Adds what the kernel wrote into the context about the error: `tmpfs: Unknown parameter 'sise'`.
fn explain(context: BorrowedFd<'_>, errno: Errno) -> Failure {
    let mut detail = [0; DETAIL_BYTES];
    // Empty (ENODATA) when the file system has nothing to say.
    let _ = rustix::io::read(context, &mut detail);
    Failure { errno, detail }
}
