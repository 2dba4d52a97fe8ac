//! The two stages: a loop over steps each, the fork between them, and the one way out on failure.

use core::ffi::CStr;
use core::sync::atomic::Ordering;

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::ops::{Failure, Work, identity};
use crate::step::{OwnStrings, Program, Step};
use crate::sync::{self, Report};
use crate::sys::{self, Fork, Kinship};

/// Exit code of a child that failed; the report says why.
const FAILED: i32 = 1;

/// A stage one that is on its way.
#[derive(Debug)]
pub struct Launched {
    /// Its pid.
    pub pid: i32,
    /// Its pidfd; wait with `__WALL`, for its exit signal is 0.
    pub pidfd: OwnedFd,
}

/// Forks stage one of `program`, into the cgroup v2 directory `cgroup` where one is given. What follows is told over the
/// channel (see [`sync`]).
pub fn launch(program: &Program<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Launched, Errno> {
    program.board.begun.store(sys::now(), Ordering::Relaxed);
    fork_child(cgroup, 0, || stage_one(program))
}

/// Forks a child, into new namespaces where `namespaces` names some, that does `work` and exits.
///
/// Signals are blocked around the fork, so that no handler of the parent's runs in the child before it has reset them.
pub(crate) fn fork_child(
    cgroup: Option<BorrowedFd<'_>>,
    namespaces: u64,
    work: impl FnOnce(),
) -> Result<Launched, Errno> {
    let mask = sys::block_signals();
    #[allow(unsafe_code)]
    // SAFETY: the child does `work`, which all callers take from this crate, and exits.
    let forked = unsafe { sys::fork(&Kinship::Child(cgroup, namespaces)) };
    match forked {
        Ok(Fork::Child) => {
            work();
            sys::exit(FAILED)
        }
        Ok(Fork::Parent(pid, pidfd)) => {
            sys::restore_signals(mask);
            Ok(Launched { pid, pidfd: pidfd.ok_or(Errno::BADF)? })
        }
        Err(errno) => {
            sys::restore_signals(mask);
            Err(errno)
        }
    }
}

/// Joins what is to be joined, does what is to be done before anybody in a joined pid namespace can see it, forks stage two
/// and exits.
///
/// The kernel writes stage two's pid where the parent sees it. A message could be lost: a memory limit may end stage one at any
/// time, and stage two would then be nobody's.
fn stage_one(program: &Program<'_>) -> ! {
    sys::reset_signals();
    // Modes are what the steps say, not what the parent's mask leaves of them. The process's own is a step.
    rustix::process::umask(Mode::empty());
    // Nobody in a pid namespace that we pass through may look into us: CVE-2019-5736 and its kin. execve makes it normal.
    let _ = identity::stay_hidden();
    show_as(&program.own, c"containerd-shim");
    if let Err(errno) = close_all_but(program.keep) {
        fail(program, sync::CLOSE, errno.into());
    }
    // The page is mapped in here before a limit can get in the way of that.
    program.board.pid.store(0, Ordering::Relaxed);
    let mut work = Work::new(program);
    let place = perform(&mut work, program, program.stage_one, 0);
    #[allow(unsafe_code)]
    // SAFETY: the child runs `stage_two`, which is of this crate and never returns.
    match unsafe { sys::fork(&Kinship::Sibling(&program.board.pid)) } {
        Ok(Fork::Child) => stage_two(program, work, place),
        Ok(Fork::Parent(..)) => sys::exit(0),
        Err(errno) => fail(program, sync::FORK, errno.into()),
    }
}

/// Goes on where stage one has come to, with a copy of what it has, and executes the program.
fn stage_two(program: &Program<'_>, mut work: Work<'_>, place: u32) -> ! {
    let place = perform(&mut work, program, program.stage_two, place);
    // A plan ends with `Execute`, which does not return.
    fail(program, place, Errno::NOEXEC.into())
}

/// Is seen as `name`, by ps(1) and all who look into /proc: a container that shares a pid namespace with this process has no business
/// with where containerd is and what it calls its pods. What is left to see of the shim is `exe`, its sealed binary, for who may
/// trace anybody on the host.
pub(crate) fn show_as(own: &OwnStrings, name: &CStr) {
    #[allow(unsafe_code)]
    // SAFETY: a child has no use for what the shim was executed with, for it refers to no C library and to no `std`.
    unsafe {
        sys::overwrite(own, name);
    }
    let _ = sys::set_name(name);
}

/// Closes every file of the parent's that is not in `keep`. A child may wait for its go for days: meanwhile it must not hold
/// the parent's end of the channel, whose closing tells of the parent's death, nor sockets and pipes of other containers,
/// whose readers wait for their end.
fn close_all_but(keep: &[i32]) -> Result<(), Errno> {
    close_from(3, keep)
}

/// Closes every file from `first` on that is not in `keep`.
pub(crate) fn close_from(mut first: u32, keep: &[i32]) -> Result<(), Errno> {
    for kept in keep.iter().filter_map(|fd| u32::try_from(*fd).ok()) {
        if kept > first {
            sys::close_range(first, kept.saturating_sub(1))?;
        }
        first = kept.saturating_add(1).max(first);
    }
    sys::close_range(first, u32::MAX)
}

/// Performs `steps`, the first of which has the place `first`; returns the place after the last.
fn perform(work: &mut Work<'_>, program: &Program<'_>, steps: &[Step], first: u32) -> u32 {
    let mut place = first;
    for step in steps {
        if let Err(failure) = work.perform(step) {
            program.board.fail(place, failure.errno);
            fail(program, place, work.explain(step, failure));
        }
        if let Some(stamp) = usize::try_from(place).ok().and_then(|place| program.board.done.get(place)) {
            // Without a clock to be read from memory (vdso(7)) this is a call that a seccomp filter may end us for.
            let now = if work.is_filtered() { 1 } else { sys::now() };
            stamp.store(now, Ordering::Relaxed);
        }
        place = place.wrapping_add(1);
    }
    place
}

/// Tells the parent which step failed and why, and exits.
fn fail(program: &Program<'_>, step: u32, failure: Failure) -> ! {
    let Failure { errno, detail } = failure;
    program.board.fail(step, errno);
    let report = Report::Failed { step, errno: errno.raw_os_error(), detail };
    // Where the seccomp profile forbids this, the parent looks at the board.
    let _ = sys::borrow(program.channel).and_then(|channel| sync::send(channel, report, None));
    sys::exit(FAILED)
}
