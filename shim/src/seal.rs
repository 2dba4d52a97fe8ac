//! A copy of this program that nobody can write to, for the server to run from (D9).
//!
//! A container that gets hold of its runtime's /proc/PID/exe and opens it for writing owns the host at the next start of
//! any container (CVE-2019-5736). So `start` runs the server not from the installed file but from a read-only overlay over
//! its directory, in a mount that is attached nowhere and seen by nobody: the open fails with EROFS, whoever asks, and all
//! servers share the file's pages. Where overlay is not to be had, a tmpfs of its own does the same for a copy.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use runtime_core::{Error, Kind, Result};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// The kernel's name of the running program.
const SELF: &str = "/proc/self/exe";

/// A descriptor (close-on-exec) to execute this program from. `spare` is any directory outside the program's own: overlay
/// wants two layers, and what the second one holds does not matter.
pub(crate) fn program(spare: &Path) -> Result<OwnedFd> {
    // Every failure of the first way has the second as its answer: which of its dozen reasons it was changes nothing.
    overlay(spare).or_else(|_| copy())
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
    // A name that ends in " (deleted)" is not there: an upgrade has replaced us, and a copy is made.
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

/// A copy of this program in a tmpfs of its own, which becomes read-only for good. (A sealed memfd would do where
/// vm.memfd_noexec is not 2: with that the kernel makes none that can be executed.)
fn copy() -> Result<OwnedFd> {
    let mut source = File::open(SELF).map_err(|e| Error::io("open /proc/self/exe", &e))?;
    let context = |e| Error::sys("mount tmpfs for a copy of the program", errno(e));
    let configuration = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(context)?;
    fsconfig_set_string(&configuration, "mode", "0700").map_err(context)?;
    fsconfig_create(&configuration).map_err(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&configuration, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(context)?;

    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let failed = |e| Error::sys("make a copy of the program", errno(e));
    let mut file = File::from(openat(&mount, crate::PROGRAM, flags, Mode::RWXU).map_err(failed)?);
    io::copy(&mut source, &mut file).map_err(|e| Error::io("copy /proc/self/exe", &e))?;
    // A file that is open for writing keeps its file system from being made read-only.
    drop(file);
    fsconfig_set_flag(&configuration, "ro").map_err(context)?;
    fsconfig_reconfigure(&configuration).map_err(context)?;
    openat(&mount, crate::PROGRAM, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)
}

fn errno(errno: rustix::io::Errno) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::process::Command;

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
    fn a_copy_shows_this_program_and_refuses_writers() {
        let program = copy().unwrap();
        assert_eq!(write_error(&program), nix::errno::Errno::EROFS as i32);
        assert!(is_this_program(&program));
    }

    #[test]
    fn a_copy_can_be_executed() {
        let program = copy().unwrap();
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        let ran = command.args(["--exact", "no test of this name"]).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    /// The sysctl is of a pid namespace, and says whether files in memory can be executed: 2 forbids to make such.
    #[test]
    fn a_copy_can_be_executed_whatever_vm_memfd_noexec_says() {
        let tests = std::env::current_exe().unwrap();
        for value in 0..3 {
            let script = format!(
                "echo {value} >/proc/sys/vm/memfd_noexec && \"$0\" --exact seal::tests::a_copy_can_be_executed"
            );
            let mut command = Command::new("unshare");
            let ran = command.args(["--pid", "--fork", "sh", "-c", &script]).arg(&tests).output().unwrap();
            assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"), "{value}: {ran:?}");
        }
    }

    #[test]
    fn a_spare_layer_that_overlay_refuses_leaves_the_copy() {
        let program = program(Path::new("/nonexistent")).unwrap();
        assert!(is_this_program(&program));
        assert!(layers(Path::new("/opt/a:b"), Path::new("/run")).is_err());
    }
}
