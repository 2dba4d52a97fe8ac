//! Who is in a cgroup and below it, and signals to all of them.
//!
//! A pid read from `cgroup.procs` may have ended and been given to a stranger before it is used. So each is held by a pidfd,
//! and signalled only if it is still listed after that.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::SIGKILL;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::write::put;
use crate::error::{Error, Result};
use crate::pidfd::send_signal;

/// Rounds of killing: each finds only what was forked during the one before. With a freezer one is enough.
const ROUNDS: usize = 100;
/// How often a freezer is asked whether it is done; a process in the kernel's deep sleep may keep it from it.
const FREEZER_READS: usize = 200;

/// Every process in `directory` and below it, in the order of their pids. A cgroup that is not there has none.
pub(super) fn pids(directory: &Path) -> Result<Vec<i32>> {
    let mut found = BTreeSet::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(directory) = rest.pop() {
        let file = directory.join("cgroup.procs");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            // Gone, before or while it was read.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(Error::io(format_args!("read {}", file.display()), &error)),
        };
        // 0 stands for a process that has no pid in our pid namespace.
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 0));
        rest.extend(subdirectories(&directory)?);
    }
    Ok(found.into_iter().collect())
}

pub(super) fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(format_args!("read {}", directory.display()), &error)),
    };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.map(|entry| entry.path()).collect())
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENODEV))
}

/// The processes in `directory` and below it, each held by a pidfd.
pub(super) fn hold(directory: &Path) -> Result<Vec<(i32, OwnedFd)>> {
    let mut held = Vec::new();
    for pid in pids(directory)? {
        let Some(number) = Pid::from_raw(pid) else { continue };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => held.push((pid, pidfd)),
            // Ended meanwhile, or is a thread's number by now.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
            Err(errno) => {
                let errno = Errno::from_raw(errno.raw_os_error());
                return Err(Error::sys(format_args!("pidfd_open {pid}"), errno));
            }
        }
    }
    let still = pids(directory)?;
    held.retain(|(pid, _)| still.binary_search(pid).is_ok());
    Ok(held)
}

/// Sends `signal` to all of them, once, and says who they were. Goes on past errors and reports the first.
pub(super) fn signal(directory: &Path, signal: i32) -> Result<BTreeSet<i32>> {
    let mut first = Ok(());
    let mut reached = BTreeSet::new();
    for (pid, pidfd) in hold(directory)? {
        match send_signal(pidfd.as_fd(), signal) {
            Ok(()) => drop(reached.insert(pid)),
            Err(Errno::ESRCH) => {}
            Err(errno) => first = first.and(Err(Error::sys(format_args!("signal {signal} to {pid}"), errno))),
        }
    }
    first.map(|()| reached)
}

/// Kills all of a v2 cgroup at once, forks in flight included. False before Linux 5.14, which has no such file.
pub(super) fn kill_v2(directory: &Path) -> Result<bool> {
    let file = directory.join("cgroup.kill");
    match put(&file, "1") {
        Ok(()) => Ok(true),
        // ENOENT also where the cgroup has gone: then there is nobody for the slow way to find.
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
        Err(errno) => Err(Error::sys(format_args!("write 1 to {}", file.display()), errno)),
    }
}

/// Kills all of a cgroup one by one: frozen meanwhile, so that none can fork, and thawed after, which is when they die. Where
/// that is not to be had, rounds go on until all who are listed have been killed.
pub(super) fn kill_each(directory: &Path, freezer: Option<&Path>) -> Result<()> {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS {
        // Who is still listed and was killed is on the way out; anybody else came by a fork meanwhile. Mostly nobody is there
        // at all, and the first freeze on a host, like the last thaw, patches its kernel's code: half a millisecond.
        if pids(directory)?.iter().all(|pid| killed.contains(pid)) {
            return Ok(());
        }
        let frozen = freezer.filter(|freezer| freeze(freezer));
        let reached = signal(directory, SIGKILL);
        if let Some(freezer) = freezer {
            thaw(freezer)?;
        }
        killed.extend(reached?);
        if frozen.is_some() {
            return Ok(());
        }
    }
    Err(Error::sys(
        format_args!("kill all in {}: still forking after {ROUNDS} rounds", directory.display()),
        Errno::EAGAIN,
    ))
}

/// Whether all of it is frozen. A failure is no error: killing goes on without.
pub(super) fn freeze(freezer: &Path) -> bool {
    let state = freezer.join("freezer.state");
    (0..FREEZER_READS).any(|_| {
        // Written again each time: only that makes the kernel look at processes that appeared meanwhile.
        put(&state, "FROZEN").is_ok() && std::fs::read_to_string(&state).is_ok_and(|state| state.trim() == "FROZEN")
    })
}

fn thaw(freezer: &Path) -> Result<()> {
    let state = freezer.join("freezer.state");
    match put(&state, "THAWED") {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(Error::sys(format_args!("write THAWED to {}", state.display()), errno)),
    }
}
