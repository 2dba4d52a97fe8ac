//! Who reaps whom (D6). A child that we made is owned: it is waited for by its pidfd, by one waiter. Everything else that
//! ends below us is a stranger, re-parented to the subreaper when its own parent died, and is swept away.
//!
//! No child of ours can be taken for a stranger: until execve it has no exit signal and a wait without `__WALL` does not
//! see it (see `init`'s fork); by the time it is released to execve its pid is in the list below.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

thread_local! {
    /// Pids of the children that somebody owns. There is one thread (D4), and children belong to the whole process.
    static OWNED: RefCell<HashSet<i32>> = RefCell::default();
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

/// Reaps every stranger that has ended. To be called on SIGCHLD.
pub fn sweep() {
    while let Some(pid) = ended_child() {
        if OWNED.with_borrow(|owned| owned.contains(&pid.as_raw())) {
            STOPPED.set(true);
            return;
        }
        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        log::debug!("reaped stranger {pid}");
    }
}

/// Some child that has ended, left as it is.
fn ended_child() -> Option<Pid> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, flags) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => Some(pid),
        _ => None,
    }
}
