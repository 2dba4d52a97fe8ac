//! Processes that only are there. systemd makes no scope without a process and keeps none without one (systemd.scope(5)), so
//! one of them stays in it until a container's init has been born there. A user namespace has no maps but through a process
//! that is in it (user_namespaces(7)), so one of them is born there until they are written. And a pid namespace lives as long
//! as its first process (pid_namespaces(7)): where the containers of a pod share one, that process is none of theirs.

use crate::run::{Launched, fork_child, show_as};
use crate::step::OwnStrings;
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
    if !tied || sys::close_range(0, u32::MAX).is_err() || sys::parent_pid() != parent {
        sys::exit(1);
    }
    loop {
        sys::pause();
    }
}

/// Is the first process of a pid namespace, and reaps: with SIGCHLD ignored the kernel frees each child as it ends, those that
/// had ended before they became ours too (wait(2), NOTES). No signal from within ends it, for it handles none
/// (pid_namespaces(7)). Closing its last file tells the parent that it has come so far.
///
/// It is seen as what has its place elsewhere, the program of Kubernetes' pause image.
pub(crate) fn reap(own: OwnStrings) -> ! {
    show_as(&own, c"pause");

    if sys::ignore_children().is_err() || sys::close_range(0, u32::MAX).is_err() {
        sys::exit(1);
    }
    #[allow(unsafe_code)]
    // SAFETY: nothing is read any more, and nobody returns.
    unsafe {
        sys::forget_callers(&own);
    }
    loop {
        sys::pause();
    }
}
