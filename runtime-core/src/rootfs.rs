//! The mounts that containerd hands over for a container's rootfs, made and unmounted on the host.
//!
//! Called by the shim around Create and Delete, and by its `delete` after a dead shim. Every mount is built detached
//! (`fsopen(2)`, `open_tree(2)`) and attached when it is whole, to a directory held by fd, so that a half-made mount is never
//! seen and no path is walked twice (D10). Facts about what containerd still leaves to a shim are those of its
//! `core/mount/mount_linux.go`; what the mount manager of 2.2 resolves (`format/`, `mkdir/`) does not come here.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use config::container::Ids;

use crate::error::{Error, Kind, Result};
use crate::ids;
use options::Options;

pub(crate) mod mountinfo;
mod options;
mod overlay;
// SAFETY: one syscall wrapper; it passes a live fd, a static empty string and a struct on its own stack.
#[allow(unsafe_code)]
pub(crate) mod setattr;

/// How often a lookup is repeated that raced with a rename or a mount somewhere on the host.
const RACES: u32 = 128;

/// One mount as containerd's API carries it (`containerd.types.Mount`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsMount {
    /// `overlay`, `bind`, or any other file system type.
    pub fs_type: String,
    /// Device, directory or label.
    pub source: String,
    /// Below the rootfs; mostly empty.
    pub target: String,
    /// As for mount(8) -o.
    pub options: Vec<String>,
}

/// Makes `mounts`, in order, at `rootfs` (made, 0711, where missing and `mounts` is not empty). On error nothing is left.
///
/// Kind `Invalid` for a mount that can never be made, `Unimplemented` for `fuse.*` and `loop`.
pub fn mount(mounts: &[RootfsMount], rootfs: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let directory_is_ours = make_directory(rootfs)?;
    let mut made = Vec::with_capacity(mounts.len());
    for mount in mounts {
        match mount_one(mount, rootfs) {
            Ok(root) => made.push(root),
            Err(error) => {
                undo(&made, rootfs, directory_is_ours);
                return Err(error.context(describe(mount, rootfs)));
            }
        }
    }
    Ok(())
}

/// Detaches everything that is mounted at or below `rootfs`. Nothing mounted, or no such directory, is no error; a symbolic
/// link in the place of `rootfs` is never followed.
///
/// The common case costs two calls and no look at the host's mount table, which may have thousands of lines: a detach takes
/// along all that is mounted below, and an empty directory has nothing mounted below it.
pub fn unmount(rootfs: &Path) -> Result<()> {
    let path = c_path(rootfs)?;
    loop {
        match rustix::mount::unmount(path.as_c_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(sys(format_args!("unmount {}", rootfs.display()), errno)),
        }
    }
    match open_directory(&path) {
        Ok(directory) if is_empty(&directory) => Ok(()),
        Ok(directory) => unmount_below(&directory),
        // Not a directory, or gone: there is nothing that could carry a mount.
        Err(_) => Ok(()),
    }
}

fn describe(mount: &RootfsMount, rootfs: &Path) -> String {
    // Joining component by component adds no slash for an empty target.
    let target: PathBuf =
        rootfs.components().chain(Path::new(mount.target.trim_start_matches('/')).components()).collect();
    format!("mount {} at {} ({})", mount.fs_type, target.display(), mount.options.join(","))
}

/// Whether the directory had to be made. Its parent is the bundle, which containerd has made.
fn make_directory(rootfs: &Path) -> Result<bool> {
    match rustix::fs::mkdir(c_path(rootfs)?.as_c_str(), Mode::from_raw_mode(0o711)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(errno) => Err(sys(format_args!("mkdir {}", rootfs.display()), errno)),
    }
}

/// Makes one mount and returns its root.
fn mount_one(mount: &RootfsMount, rootfs: &Path) -> Result<OwnedFd> {
    refuse_what_needs_a_mount_program(mount)?;
    let options = Options::parse(&mount.options)?;
    let is_bind = options.bind.is_some() || mount.fs_type == "bind" || mount.fs_type == "rbind";
    let detached = if is_bind {
        bind(mount, &options)?
    } else if mount.fs_type == "overlay" && !overlay::takes_single_layers() {
        if !options.maps.is_empty() {
            return Err(Error::new(Kind::Unimplemented, "id-mapped layers of an overlay need Linux 6.8 or newer"));
        }
        let target = open_target(rootfs, &mount.target)?;
        overlay::mount_by_string(mount, &options, &target)?;
        // What was mounted is found on top of the target.
        let root = open_target(rootfs, &mount.target)?;
        return set_propagation(&options, root);
    } else if mount.fs_type == "overlay" && !options.maps.is_empty() {
        let layers = overlay::MappedLayers::mount(&options, &open_target(rootfs, &mount.target)?)?;
        filesystem(mount, &options, Some(&layers))?
    } else {
        let made = filesystem(mount, &options, None)?;
        idmap(&made, &options)?;
        made
    };
    let detached = set_propagation(&options, detached)?;
    let target = open_target(rootfs, &mount.target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&detached, c"", &target, c"", flags).map_err(|errno| sys("move_mount", errno))?;
    Ok(detached)
}

fn refuse_what_needs_a_mount_program(mount: &RootfsMount) -> Result<()> {
    if mount.fs_type.starts_with("fuse.") || mount.fs_type.starts_with("fuse3.") {
        return Err(Error::new(Kind::Unimplemented, "file systems in user space are not supported for a rootfs"));
    }
    if mount.options.iter().any(|option| option == "loop") {
        return Err(Error::new(Kind::Unimplemented, "the option loop is not supported for a rootfs"));
    }
    Ok(())
}

/// A new file system, attached nowhere. Its target means nothing.
pub(crate) fn detached(mount: &RootfsMount) -> Result<OwnedFd> {
    let options = Options::parse(&mount.options)?;
    filesystem(mount, &options, None)
        .map_err(|error| error.context(format_args!("mount {} ({})", mount.fs_type, mount.options.join(","))))
}

/// A detached copy of what is mounted at `path`, or at the link that it is.
pub(crate) fn clone_tree(path: &Path, recursive: bool, nofollow: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, nofollow);
    rustix::mount::open_tree(CWD, c_path(path)?.as_c_str(), flags)
        .map_err(|errno| sys(format_args!("open_tree {}", path.display()), errno))
}

/// A detached copy of the mount at `source`. The file system's own options have no meaning for it; mount(2) ignores them too.
fn bind(mount: &RootfsMount, options: &Options) -> Result<OwnedFd> {
    let tree = clone_tree(Path::new(&mount.source), options.bind.unwrap_or(mount.fs_type == "rbind"), false)?;
    idmap(&tree, options)?;
    if options.set != 0 || options.clear != 0 {
        // Only the top mount, as `mount -o bind,ro` does: the tree below keeps its own attributes.
        setattr::attributes(tree.as_fd(), options.set, options.clear)?;
    }
    Ok(tree)
}

fn idmap(mount: &OwnedFd, options: &Options) -> Result<()> {
    if options.maps.is_empty() {
        return Ok(());
    }
    let namespace = ids::namespace(&Ids::Maps(options.maps.clone()))?;
    setattr::idmap(mount.as_fd(), namespace.as_fd(), false)
}

/// A new file system, detached. `layers` are an overlay's, where it is not to take its lower ones as they are.
fn filesystem(mount: &RootfsMount, options: &Options, layers: Option<&overlay::MappedLayers>) -> Result<OwnedFd> {
    let name = c_string(&mount.fs_type)?;
    let context =
        rustix::mount::fsopen(name.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| sys("fsopen", errno))?;
    let is_overlay = mount.fs_type == "overlay";
    if !mount.source.is_empty() {
        set(&context, "source", Some(&mount.source))?;
    }
    for (key, value) in &options.own {
        match value {
            Some(value) if is_overlay && overlay::is_directory_option(key) => match layers {
                Some(layers) if key == "lowerdir" => layers.set(&context)?,
                _ => overlay::set_layers(&context, key, value)?,
            },
            value => set(&context, key, value.as_deref())?,
        }
    }
    rustix::mount::fsconfig_create(&context).map_err(|errno| with_log(&context, sys("fsconfig create", errno)))?;
    let attributes = rustix::mount::MountAttrFlags::from_bits_retain(options.set);
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| with_log(&context, sys("fsmount", errno)))
}

/// One fsconfig(2) of a flag (`value` none) or a string.
fn set(context: &OwnedFd, key: &str, value: Option<&str>) -> Result<()> {
    let c_key = c_string(key)?;
    let (done, what) = match value {
        None => (rustix::mount::fsconfig_set_flag(context, c_key.as_c_str()), format!("fsconfig {key}")),
        Some(value) => {
            let c_value = c_string(value)?;
            let done = rustix::mount::fsconfig_set_string(context, c_key.as_c_str(), c_value.as_c_str());
            (done, format!("fsconfig {key}={value}"))
        }
    };
    done.map_err(|errno| with_log(context, sys(what, errno)))
}

/// Adds what the kernel says about the failure: read(2) on the context gives one line each time (`e overlay: …`).
fn with_log(context: &OwnedFd, error: Error) -> Error {
    let mut lines = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length) = rustix::io::read(context, &mut buffer[..]) {
        if length == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(line.trim_end().trim_start_matches(['e', 'w', 'i']).trim_start().to_owned());
    }
    if lines.is_empty() { error } else { Error::new(error.kind(), format!("{error}: {}", lines.join("; "))) }
}

fn set_propagation(options: &Options, mount: OwnedFd) -> Result<OwnedFd> {
    for &(propagation, recursive) in &options.propagation {
        setattr::propagation(mount.as_fd(), propagation.into(), recursive)?;
    }
    Ok(mount)
}

/// The place of a mount: the rootfs as it is now, or what `target` names inside it, never outside.
fn open_target(rootfs: &Path, target: &str) -> Result<OwnedFd> {
    let root =
        open_directory(&c_path(rootfs)?).map_err(|errno| sys(format_args!("open {}", rootfs.display()), errno))?;
    let target = target.trim_start_matches('/');
    if target.is_empty() {
        return Ok(root);
    }
    open_in(&root, &c_string(target)?)
        .map_err(|errno| sys(format_args!("openat2 {target} in {}", rootfs.display()), errno))
}

/// Opens `path` below `root` as a mere place. On the way through a `..` openat2(2) answers EAGAIN if anything on the host is
/// renamed or mounted meanwhile, and must be asked again.
fn open_in(root: &OwnedFd, path: &CString) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RACES {
        match rustix::fs::openat2(root, path.as_c_str(), flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(rustix::io::Errno::AGAIN)
}

/// The directory on top of `path`; `ENOTDIR` for a symbolic link.
fn open_directory(path: &CString) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path.as_c_str(),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Takes `made` back, the last one first; what fails here is logged, for the caller has the error that matters.
fn undo(made: &[OwnedFd], rootfs: &Path, directory_is_ours: bool) {
    for mount in made.iter().rev() {
        // Through the magic link it is this mount, whatever lies on the path by now.
        let path = fd_path(mount);
        if let Err(errno) = rustix::mount::unmount(path.as_c_str(), UnmountFlags::DETACH) {
            log::warn!("{}", sys(format_args!("unmount a part of {}", rootfs.display()), errno));
        }
    }
    if directory_is_ours && let Err(error) = std::fs::remove_dir(rootfs) {
        log::warn!("{}", Error::io(format_args!("rmdir {}", rootfs.display()), &error));
    }
}

fn is_empty(directory: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Detaches what is mounted below `directory`, which is no mount point itself, newest first.
fn unmount_below(directory: &OwnedFd) -> Result<()> {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let path = std::fs::read_link(&link).map_err(|error| Error::io(format_args!("readlink {link}"), &error))?;
    let table =
        std::fs::read("/proc/self/mountinfo").map_err(|error| Error::io("read /proc/self/mountinfo", &error))?;
    let mut first = Ok(());
    for point in mountinfo::points_below(&table, &path).iter().rev() {
        match rustix::mount::unmount(c_path(point)?.as_c_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Gone with one that carried it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => first = first.and(Err(sys(format_args!("unmount {}", point.display()), errno))),
        }
    }
    first
}

/// `/proc/self/fd/N`: a short path to what an fd holds, for calls that take paths.
fn fd_path(fd: &OwnedFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("digits hold no NUL byte")
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(Kind::Invalid, format!("{}: holds a NUL byte", path.display())))
}

fn c_string(text: &str) -> Result<CString> {
    c_path(Path::new(text))
}

pub(crate) fn sys(what: impl std::fmt::Display, errno: rustix::io::Errno) -> Error {
    Error::sys(what, Errno::from_raw(errno.raw_os_error()))
}

#[cfg(test)]
mod tests;
