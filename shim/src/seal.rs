//! A copy of this program that nobody can write to, for the server to run from (D9).
//!
//! A container that gets hold of its runtime's /proc/PID/exe and opens it for writing owns the host at the next start of
//! any container (CVE-2019-5736). So `start` runs the server not from the installed file but from a read-only overlay over
//! its directory, in a mount that is attached nowhere and seen by nobody: the open fails with EROFS, whoever asks, and all
//! servers share the file's pages. Where overlay is not to be had, a sealed memfd does the same for a copy in memory.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use runtime_core::{Error, Kind, Result};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

/// The kernel's name of the running program.
const SELF: &str = "/proc/self/exe";

/// A descriptor (close-on-exec) to execute this program from. `spare` is any directory outside the program's own: overlay
/// wants two layers, and what the second one holds does not matter.
pub(crate) fn program(spare: &Path) -> Result<OwnedFd> {
    // Every failure of the first way has the second as its answer: which of its dozen reasons it was changes nothing.
    overlay(spare).or_else(|_| memfd())
}

/// This program, opened through a detached read-only overlay over its directory.
fn overlay(spare: &Path) -> Result<OwnedFd> {
    let exe = std::fs::read_link(SELF).map_err(|e| Error::io("read /proc/self/exe", &e))?;
    let (Some(directory), Some(name)) = (exe.parent(), exe.file_name()) else {
        return Err(Error::new(Kind::System, format!("{} is no file in a directory", exe.display())));
    };
    let layers = layers(directory, spare)?;
    let context = |e| Error::sys(format!("mount overlay of {}", directory.display()), errno(e));

    let configuration = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(context)?;
    fsconfig_set_string(&configuration, "source", "overlay").map_err(context)?;
    fsconfig_set_string(&configuration, "lowerdir", layers.as_slice()).map_err(context)?;
    fsconfig_create(&configuration).map_err(context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&configuration, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(context)?;
    // A name that ends in " (deleted)" is not there: an upgrade has replaced us, and the copy in memory is made.
    openat(&mount, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).map_err(context)
}

/// `directory:spare` as overlay's option, which gives `:` and `\` a meaning of their own.
fn layers(directory: &Path, spare: &Path) -> Result<Vec<u8>> {
    let layers = [directory.as_os_str().as_bytes(), spare.as_os_str().as_bytes()];
    if layers.iter().any(|layer| layer.iter().any(|byte| b":\\,".contains(byte))) {
        return Err(Error::new(Kind::Invalid, format!("{} cannot be an overlay layer", directory.display())));
    }
    Ok(layers.join(&b':'))
}

/// This program, copied into memory that the kernel lets nobody change.
fn memfd() -> Result<OwnedFd> {
    let mut source = File::open(SELF).map_err(|e| Error::io("open /proc/self/exe", &e))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = memfd_create(crate::PROGRAM, flags).map_err(|e| Error::sys("create memfd", errno(e)))?;
    let mut copy = File::from(copy);
    io::copy(&mut source, &mut copy).map_err(|e| Error::io("copy /proc/self/exe to memory", &e))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals).map_err(|e| Error::sys("seal memfd", errno(e)))?;
    Ok(copy.into())
}

fn errno(errno: rustix::io::Errno) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;

    /// What opening the program for writing through /proc says, as a container would do it.
    fn write_error(program: &OwnedFd) -> i32 {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let opened = File::options().write(true).open(path);
        opened.and_then(|mut file| io::Write::write(&mut file, b"x")).unwrap_err().raw_os_error().unwrap()
    }

    fn is_this_program(program: &OwnedFd) -> bool {
        let (mut copy, mut original) = (Vec::new(), Vec::new());
        File::open(format!("/proc/self/fd/{}", program.as_raw_fd())).unwrap().read_to_end(&mut copy).unwrap();
        File::open(SELF).unwrap().read_to_end(&mut original).unwrap();
        copy == original
    }

    #[test]
    fn an_overlay_shows_this_program_and_refuses_writers() {
        let spare = tempfile::tempdir().unwrap();
        let program = overlay(spare.path()).unwrap();
        assert_eq!(write_error(&program), nix::errno::Errno::EROFS as i32);
        assert!(is_this_program(&program));
    }

    #[test]
    fn a_memfd_shows_this_program_and_refuses_writers() {
        let program = memfd().unwrap();
        assert_eq!(write_error(&program), nix::errno::Errno::EPERM as i32);
        assert!(is_this_program(&program));
    }

    #[test]
    fn a_spare_layer_that_overlay_refuses_leaves_the_memfd() {
        let program = program(Path::new("/nonexistent")).unwrap();
        assert_eq!(write_error(&program), nix::errno::Errno::EPERM as i32);
        assert!(layers(Path::new("/opt/a:b"), Path::new("/run")).is_err());
    }
}
