//! What the caller has open beside 0, 1 and 2: all of it stays behind, but for what `--preserve-fds` and socket activation
//! (sd_listen_fds(3)) give to the container.
//!
//! Looked at before this program opens anything of its own: a descriptor that the caller has not open is an error then, and
//! never a file of ours.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{CLOSE_RANGE_CLOEXEC, c_int, c_uint, close_range};
use runtime_core::{Error, Result};

/// SD_LISTEN_FDS_START: where both begin.
const FIRST: u32 = 3;

/// Takes `count` descriptors from 3 on. The others end with this program: a keeper that lives as long as its container must not
/// hold pipes whose readers wait for their end.
pub(crate) fn take(count: u32) -> Result<Vec<OwnedFd>> {
    let flags = c_int::try_from(CLOSE_RANGE_CLOEXEC).expect("it is 4");
    // SAFETY: touches no memory, and closes nothing here.
    Errno::result(unsafe { close_range(FIRST, c_uint::MAX, flags) })
        .map_err(|errno| Error::sys("close_range", errno))?;
    (FIRST..FIRST.saturating_add(count)).map(|number| open(number, count)).collect()
}

fn open(number: u32, count: u32) -> Result<OwnedFd> {
    let raw = c_int::try_from(number).unwrap_or(c_int::MAX);
    // SAFETY: only asked about; it is an error if it is not open.
    let open = fcntl(unsafe { BorrowedFd::borrow_raw(raw) }, FcntlArg::F_GETFD);
    open.map_err(|errno| Error::sys(format!("preserve descriptor {number} (of {count} from 3 on)"), errno))?;
    // SAFETY: it is open, and nothing in this process owns a descriptor above 2 yet: main calls this first.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// How many sockets a service manager has opened for this process.
pub(crate) fn activated() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let meant = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| meant).unwrap_or(0)
}

/// Tells the container's first process of `count` such sockets, as runc does: it is pid 1 where it has pids of its own.
pub(crate) fn announce(env: &mut Vec<String>, count: u32) {
    if count > 0 {
        env.retain(|entry| !["LISTEN_FDS=", "LISTEN_PID="].iter().any(|name| entry.starts_with(name)));
        env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
    }
}
