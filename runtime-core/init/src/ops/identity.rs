//! Who the program is: ids, capabilities, no_new_privs; and where it stands: working directory and executable.

use core::ffi::CStr;

use rustix::fs::{Access, AtFlags, CWD, FileType, ResolveFlags, accessat, fstat, stat};
use rustix::io::Errno;

use crate::ops::Work;
use crate::setting::Setting;
use crate::step::{Span, Text, entries};
use crate::sys;

const PR_SET_DUMPABLE: u32 = 4;
const PR_SET_KEEPCAPS: u32 = 8;
const PR_CAPBSET_DROP: u32 = 24;
const PR_SET_NO_NEW_PRIVS: u32 = 38;
const PR_CAP_AMBIENT: u32 = 47;
const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;

impl Work<'_> {
    pub(super) fn set(&self, setting: Setting) -> Result<(), Errno> {
        match setting {
            Setting::Scheduler(attributes) => sys::set_scheduler(&attributes),
            Setting::IoPriority(priority) => sys::set_io_priority(priority),
            Setting::Affinity(cpus) => sys::set_affinity(entries(self.program.words, cpus)?),
            Setting::Personality(persona) => sys::set_personality(persona),
            Setting::MemoryPolicy { mode, nodes } => sys::set_memory_policy(mode, entries(self.program.words, nodes)?),
        }
    }

    pub(super) fn identity(&self, uid: u32, gid: u32, groups: Span) -> Result<(), Errno> {
        let groups = entries(self.program.gids, groups)?;
        match sys::set_groups(groups) {
            // A user namespace may forbid it, lest somebody drop a group that is denied something (CVE-2014-8989): all were
            // dropped before it was joined.
            Err(Errno::PERM) if groups.is_empty() && sys::group_count()? == 0 => {}
            done => done?,
        }
        sys::prctl(PR_SET_KEEPCAPS, 1, 0)?;
        sys::set_ids(uid, gid)?;
        stay_hidden()
    }

    /// CVE-2024-21626: a descriptor that leaked could make `/proc/self/fd/N` a directory outside the root.
    pub(super) fn working_directory(&mut self, path: Text, make: bool) -> Result<(), Errno> {
        let directory = if make { self.directory(path, ResolveFlags::empty())? } else { self.open(path)? };
        if FileType::from_raw_mode(fstat(&directory)?.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        rustix::process::fchdir(&directory)?;
        if sys::cwd_is_reachable()? { Ok(()) } else { Err(Errno::XDEV) }
    }

    /// Candidates that are `searched` are tried like execvp(3): one that exists but may not be executed is remembered, for it
    /// says more than "not found". Of any other the error is the kernel's own.
    pub(super) fn find_executable(&mut self, candidates: Span, searched: bool) -> Result<(), Errno> {
        let mut worst = Errno::NOENT;
        for text in entries(self.program.candidates, candidates)? {
            let path = self.str(*text)?;
            match may_execute(path) {
                Ok(()) => {
                    self.executable = Some(*text);
                    return Ok(());
                }
                Err(Errno::NOENT | Errno::NOTDIR) if searched => {}
                Err(errno) => worst = errno,
            }
        }
        Err(worst)
    }
}

/// The error that execve(2) would have for `path`, as far as it can be known before.
pub(super) fn may_execute(path: &CStr) -> Result<(), Errno> {
    if FileType::from_raw_mode(stat(path)?.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// Lets nobody look into us who may not trace anybody. A change of user or of user namespace resets it to fs.suid_dumpable, by
/// which the user's other processes might look into us.
pub(crate) fn stay_hidden() -> Result<(), Errno> {
    sys::prctl(PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// Drops what is not in `keep`; EINVAL tells that the kernel knows no higher capability.
pub(super) fn bounding_set(keep: u64) -> Result<(), Errno> {
    for capability in 0..u64::BITS {
        if keep >> capability & 1 == 0 {
            match sys::prctl(PR_CAPBSET_DROP, capability.into(), 0) {
                Ok(_) => {}
                Err(Errno::INVAL) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Makes `mask` the ambient set.
pub(super) fn ambient_set(mask: u64) -> Result<(), Errno> {
    sys::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for capability in 0..u64::BITS {
        if mask >> capability & 1 == 1 {
            sys::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability.into())?;
        }
    }
    Ok(())
}

pub(super) fn no_new_privileges() -> Result<(), Errno> {
    sys::prctl(PR_SET_NO_NEW_PRIVS, 1, 0).map(|_| ())
}
