//! Descriptors 0, 1 and 2: handed over, or a terminal of the container's own. And those from 3 on that are handed over.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, fstatfs, major, minor, openat};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::ops::{Work, mounts, paths};
use crate::step::{Descriptor, Text};
use crate::sync::{self, Report};
use crate::{run, sys};

/// `DEVPTS_SUPER_MAGIC`, linux/magic.h.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Number of a devpts' ptmx.
const PTMX: (u32, u32) = (5, 2);

impl Work<'_> {
    /// The slave comes from the master by TIOCGPTPEER, never by a path in the container (CVE-2025-52565).
    pub(super) fn open_console(
        &mut self,
        size: Option<(u16, u16)>,
        uid: u32,
        mount: Option<Text>,
    ) -> Result<(), Errno> {
        let terminals = paths::open_in(self.root()?, c"/dev/pts", OFlags::DIRECTORY)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let master = openat(&terminals, c"ptmx", flags, Mode::empty())?;
        verify_ptmx(master.as_fd())?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        if let Some((rows, columns)) = size {
            tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        }
        give_to(slave.as_fd(), uid)?;
        if let Some(path) = mount {
            let cover = mounts::clone_mount(slave.as_fd(), c"", false)?;
            let place = self.file_place(path, ResolveFlags::empty())?;
            self.refuse_proc(place.as_fd(), path)?;
            mounts::attach(cover.as_fd(), place.as_fd())?;
        }
        for number in 0..3 {
            sys::duplicate_onto(slave.as_fd(), number)?;
        }
        sync::send(sys::borrow(self.program.channel)?, Report::Console, Some(master.as_fd()))
    }

    pub(super) fn set_stdio(&self, files: [Descriptor; 3], uid: u32) -> Result<(), Errno> {
        for (number, file) in (0..3).zip(files) {
            let file = self.fd(file)?;
            give_to(file, uid)?;
            sys::duplicate_onto(file, number)?;
        }
        Ok(())
    }

    /// What the objects of this program hold is closed under them: nothing uses them any more, and nobody drops them.
    pub(super) fn close_others(&self, from: u32) -> Result<(), Errno> {
        run::close_from(from, &[self.program.channel])
    }

    /// The parent lends what it lends under higher numbers, and it has all closed that is not lent: nothing is overwritten.
    pub(super) fn preserve(&self, first: Descriptor, count: u32) -> Result<(), Errno> {
        for (number, nth) in (3..).zip(0..count) {
            let file = Descriptor(first.0.checked_add(nth).ok_or(Errno::BADF)?);
            sys::duplicate_onto(self.fd(file)?, number)?;
        }
        Ok(())
    }
}

/// Neither takes a right: this process leads no group yet, and the terminal is nobody's.
pub(super) fn new_session(terminal: bool) -> Result<(), Errno> {
    rustix::process::setsid()?;
    if terminal { rustix::process::ioctl_tiocsctty(sys::borrow(0)?) } else { Ok(()) }
}

fn verify_ptmx(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = fstat(file)?;
    let magic = u64::try_from(fstatfs(file)?.f_type).map_err(|_| Errno::NODEV)?;
    let right = magic == DEVPTS_MAGIC && (major(stat.st_rdev), minor(stat.st_rdev)) == PTMX;
    if right { Ok(()) } else { Err(Errno::NODEV) }
}

/// Makes `uid` the owner of a pipe or terminal, as runc does, so that a program that is not root can open /dev/stdout. Other
/// files keep their owner: a log file or /dev/null is not the container's. Where the kernel or file system refuses, it stays.
fn give_to(file: BorrowedFd<'_>, uid: u32) -> Result<(), Errno> {
    let stat = fstat(file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let terminal = kind == FileType::CharacterDevice && major(stat.st_rdev) == UNIX98_PTY_SLAVE_MAJOR;
    if stat.st_uid == uid || !(terminal || kind == FileType::Fifo) {
        return Ok(());
    }
    match fchown(file, Some(Uid::from_raw(uid)), None) {
        Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Major number of /dev/pts/0 to 255 (linux/major.h; eight majors follow one another, but devpts uses the first).
const UNIX98_PTY_SLAVE_MAJOR: u32 = 136;
