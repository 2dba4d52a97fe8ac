//! Which child has ended, whatever ended it: waitid(2) that leaves the child as it is.
//!
//! The wrappers at hand either do not tell the pid, or fail for a child that a real-time signal has killed.

use nix::libc;

/// The pid of some child that has ended and was not reaped; only of those with an exit signal, as wait(2) without `__WALL`.
pub(crate) fn ended_child() -> Option<i32> {
    // SAFETY: siginfo_t is plain data, of which all zeros is a value: no child.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid to write for the call.
    let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    // SAFETY: waitid fills in the fields of a SIGCHLD, or leaves zeros.
    let pid = unsafe { info.si_pid() };
    (done == 0 && pid != 0).then_some(pid)
}
