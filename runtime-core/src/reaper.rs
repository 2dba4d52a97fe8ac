//! Who reaps whom (D6). A child that we made is owned: it is waited for by its pidfd, by one waiter. Everything else that
//! ends below us is a stranger, re-parented to the subreaper when its own parent died, and is swept away.
//!
//! No child of ours can be taken for a stranger: until execve it has no exit signal and a wait without `__WALL` does not
//! see it (see `init`'s fork); by the time it is released to execve its pid is in the list below.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::peek::ended_child;
use crate::process::WALL;

thread_local! {
    /// Pids of the children that somebody owns. There is one thread (D4), and children belong to the whole process.
    static OWNED: RefCell<HashSet<i32>> = RefCell::default();
    /// Pids of children that were given up before they were reaped.
    static ABANDONED: RefCell<Vec<i32>> = RefCell::default();
    /// Whether the last sweep stopped at an owned child that had ended, behind which there may be strangers.
    static STOPPED: Cell<bool> = const { Cell::new(false) };
}

/// A child that is waited for by whoever holds this, and by nobody else.
#[derive(Debug)]
pub struct Owned {
    pid: i32,
}

impl Drop for Owned {
    fn drop(&mut self) {
        OWNED.with_borrow_mut(|owned| owned.remove(&self.pid));
        if STOPPED.take() {
            sweep();
        }
    }
}

/// Declares the child `pid` owned until the answer is dropped, at once after its owner has reaped it: a pid that is free may
/// be a stranger's next.
pub fn own(pid: i32) -> Owned {
    OWNED.with_borrow_mut(|owned| owned.insert(pid));
    Owned { pid }
}

/// Gives up a child that nobody will wait for any more, and that is about to end: sweeps reap it from now on. One that has not
/// come to execve sends no SIGCHLD; the next sweep for another's sake finds it.
pub(crate) fn abandon(child: Owned) {
    ABANDONED.with_borrow_mut(|abandoned| abandoned.push(child.pid));
    drop(child);
}

/// Reaps every stranger that has ended, and every abandoned child. To be called on SIGCHLD.
pub fn sweep() {
    ABANDONED.with_borrow_mut(|abandoned| abandoned.retain(|pid| !reap(*pid)));
    while let Some(pid) = ended_child() {
        if OWNED.with_borrow(|owned| owned.contains(&pid)) {
            STOPPED.set(true);
            return;
        }
        reap(pid);
        log::debug!("reaped stranger {pid}");
    }
}

/// Whether child `pid` has ended and is reaped now.
fn reap(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    !matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WALL), Ok(None))
}
