//! The way to the new root where pivot_root(2) cannot go it: `/` is a ramdisk, the first mount of all, which has no parent.
//!
//! The new root is moved over `/` and entered by chroot(2). Other than after a pivot, the host's mounts are still in the
//! namespace, below it; so every one but `/` itself is detached, that none with procfs, sysfs or data of the host can be
//! come at by who can unmount. The plan has made the host's tree slaves before: nothing here shows on the host.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::ops::mounts::attach;
use crate::ops::path_buffer::PATH_BYTES;
use crate::ops::paths::look_up;
use crate::ops::{Failure, Work};

/// Which of mountinfo's fields, from 0, is the mount point: proc_pid_mountinfo(5).
const MOUNT_POINT: u32 = 4;

/// Mounts may lie on one another, and what lies below is seen the next time only.
const PASSES: u32 = 64;

impl Work<'_> {
    pub(super) fn move_root(&mut self) -> Result<(), Failure> {
        let slash = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let root = rustix::io::fcntl_dupfd_cloexec(self.root()?, 0)?;
        attach(root.as_fd(), slash.as_fd())?;
        // Our own root is still the old one: its paths lead to what lies below the new.
        let procfs = self.own_procfs()?;
        let mut passes = 0..PASSES;
        while detach_all(procfs)? {
            passes.next().ok_or(Errno::BUSY)?;
        }
        // It shows the host's processes where a pid namespace is yet to be entered.
        self.procfs = None;
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(c".")?;
        Ok(rustix::process::chdir(c"/")?)
    }
}

/// Detaches what is mounted at any mount point that mountinfo knows. The new root's own are among them by name, and name
/// something else by these paths: nothing, or a mount of the host's at the same place. Whether there was anything.
#[inline(never)]
fn detach_all(procfs: BorrowedFd<'_>) -> Result<bool, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
    let file = look_up(procfs, c"self/mountinfo", OFlags::RDONLY, resolve)?;
    let (mut buffer, mut line, mut detached) = ([0; PATH_BYTES], MountPoint::new(), false);
    loop {
        let count = rustix::io::read(&file, &mut buffer)?;
        if count == 0 {
            return Ok(detached);
        }
        for byte in buffer.iter().take(count) {
            if let Some(point) = line.next(*byte)
                && point != c"/"
            {
                detached |= unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok();
            }
        }
    }
}

/// The mount point of a line of mountinfo, taken in byte by byte.
struct MountPoint {
    field: u32,
    /// What is read of a character that is written as a backslash and three octal digits.
    octal: Option<(u32, u8)>,
    path: [u8; PATH_BYTES],
    len: usize,
}

impl MountPoint {
    fn new() -> Self {
        Self { field: 0, octal: None, path: [0; PATH_BYTES], len: 0 }
    }

    /// The path, once its field ends. A path longer than PATH_MAX is none that unmount takes.
    fn next(&mut self, byte: u8) -> Option<&CStr> {
        match byte {
            b'\n' => (self.field, self.octal, self.len) = (0, None, 0),
            b' ' => {
                self.field = self.field.saturating_add(1);
                if self.field == MOUNT_POINT.saturating_add(1) {
                    *self.path.get_mut(self.len)? = 0;
                    return CStr::from_bytes_until_nul(&self.path).ok();
                }
            }
            _ if self.field == MOUNT_POINT => self.take(byte),
            _ => {}
        }
        None
    }

    fn take(&mut self, byte: u8) {
        let character = match self.octal {
            None if byte == b'\\' => {
                self.octal = Some((0, 0));
                return;
            }
            None => byte,
            Some((digits, value)) => {
                let value = value.wrapping_mul(8).wrapping_add(byte & 7);
                if digits < 2 {
                    self.octal = Some((digits.saturating_add(1), value));
                    return;
                }
                self.octal = None;
                value
            }
        };
        if let Some(place) = self.path.get_mut(self.len) {
            *place = character;
            self.len = self.len.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MountPoint;

    #[test]
    fn mount_points_are_the_fifth_field_with_its_escapes_undone() {
        let mut line = MountPoint::new();
        let text =
            b"22 1 8:1 / / rw,x shared:1 - ext4 /dev/a rw\n23 22 0:5 /a\\040b /mnt/with\\040a\\134b rw - tmpfs t rw\n";
        let mut expected = [c"/", c"/mnt/with a\\b"].into_iter();
        for byte in text {
            if let Some(path) = line.next(*byte) {
                assert_eq!(Some(path), expected.next());
            }
        }
        assert_eq!(expected.next(), None);
    }
}
