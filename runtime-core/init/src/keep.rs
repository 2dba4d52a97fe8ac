//! A process that only is there. systemd makes no scope without a process and keeps none without one (systemd.scope(5)), so one
//! of these stays in it until a container's init has been born there. And a user namespace has no maps but through a process
//! that is in it (user_namespaces(7)), so one of these is born there until they are written.

use crate::run::{Launched, fork_child};
use crate::sys;
use rustix::io::Errno;

const PR_SET_PDEATHSIG: u32 = 1;
const SIGKILL: u64 = 9;

/// linux/sched.h
const CLONE_NEWUSER: u64 = 0x1000_0000;

/// Forks a process that does nothing, holds no file and ends when it is killed or the calling thread ends. Wait with
/// `__WALL`, for its exit signal is 0.
pub fn keep() -> Result<Launched, Errno> {
    keep_in(0)
}

/// The same in a new user namespace, which has no maps yet.
pub fn keep_user_namespace() -> Result<Launched, Errno> {
    keep_in(CLONE_NEWUSER)
}

fn keep_in(namespaces: u64) -> Result<Launched, Errno> {
    let parent = sys::own_pid();
    fork_child(None, namespaces, || stay(parent))
}

/// All signals stay blocked: only SIGKILL is meant for it.
fn stay(parent: usize) -> ! {
    let tied = sys::prctl(PR_SET_PDEATHSIG, SIGKILL, 0).is_ok();
    // A parent that died before the tie was made sends nothing.
    if !tied || sys::close_range(0, u32::MAX, 0).is_err() || sys::parent_pid() != parent {
        sys::exit(1);
    }
    loop {
        sys::pause();
    }
}
