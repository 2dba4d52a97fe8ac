//! The parent's part while stage one waits in its namespaces (`Point::Namespaces`): what only the host's root may do there.
//! The order of it all is explained in `plan::namespaces`.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use config::container::{Clock, Namespace, NamespaceKind, TimeOffset};
use config::ids::IdMaps;
use nix::errno::Errno;
use rustix::fs::{FileType, fchown, fstat, major};

use crate::error::{Error, Result};
use crate::ids;
use crate::process::Stdio;

/// Major number of /dev/pts (linux/major.h).
const UNIX98_PTY_SLAVE_MAJOR: u32 = 136;

/// What a process needs of its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The namespaces of its container.
    pub(crate) namespaces: &'a [Namespace],
    /// The maps that a new user namespace gets, and one that is joined must have; none are not looked at.
    pub(crate) mappings: &'a IdMaps,
    /// What a new time namespace gets.
    pub(crate) offsets: &'a [TimeOffset],
    /// The process's user, in the container.
    pub(crate) uid: u32,
    /// Its descriptors 0, 1 and 2; none where it has none.
    pub(crate) stdio: Option<&'a Stdio>,
}

impl Part<'_> {
    /// Does it for the waiting process `pid`.
    pub(crate) fn perform(&self, pid: i32) -> Result<()> {
        if let Some(user) = self.namespaces.iter().find(|namespace| namespace.kind == NamespaceKind::User) {
            match (&user.path, self.mappings.is_empty()) {
                (_, true) => {}
                (None, false) => ids::write(pid, self.mappings)?,
                (Some(_), false) => ids::expect(pid, self.mappings)?,
            }
            self.give_stdio(pid)?;
        }
        write_offsets(pid, self.offsets)
    }

    /// Makes the process's user the owner of its pipes, as runc does, so that a program can open /dev/stdout again. In its user
    /// namespace it could not do so itself, for their owner has no id there.
    fn give_stdio(&self, pid: i32) -> Result<()> {
        let Some(Stdio::Files(files)) = self.stdio else { return Ok(()) };
        let owner = ids::host_user(pid, self.uid)?;
        files.iter().try_for_each(|file| give(file, owner))
    }
}

/// Other files than pipes and terminals keep their owner: a log file or /dev/null is not the container's.
fn give(file: &OwnedFd, owner: u32) -> Result<()> {
    let failed = |errno: rustix::io::Errno| {
        let what = format_args!("give descriptor {} to user {owner}", file.as_raw_fd());
        Error::sys(what, Errno::from_raw(errno.raw_os_error()))
    };
    let stat = fstat(file).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let terminal = kind == FileType::CharacterDevice && major(stat.st_rdev) == UNIX98_PTY_SLAVE_MAJOR;
    if terminal || kind == FileType::Fifo {
        fchown(file, Some(rustix::fs::Uid::from_raw(owner)), None).map_err(failed)?;
    }
    Ok(())
}

fn write_offsets(pid: i32, offsets: &[TimeOffset]) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let line = |mut text: String, offset: &TimeOffset| {
        let clock = match offset.clock {
            Clock::Monotonic => "monotonic",
            Clock::Boottime => "boottime",
        };
        let _ = writeln!(text, "{clock} {} {}", offset.seconds, offset.nanoseconds);
        text
    };
    let (path, text) = (format!("/proc/{pid}/timens_offsets"), offsets.iter().fold(String::new(), line));
    // ERANGE where a clock would show a time before the machine was started.
    fs::write(&path, &text)
        .map_err(|error| Error::io(format_args!("/linux/timeOffsets: write {:?} to {path}", text.trim_end()), &error))
}
