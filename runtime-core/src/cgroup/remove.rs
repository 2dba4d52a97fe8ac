//! Removal of a cgroup with all below it, waiting for its last process by what the kernel tells, for a bounded time.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout_at};

use super::{events, processes};
use crate::error::{Error, Result};
use crate::watch::watch;

/// How long the last process may take to end after it was killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between a process's end and its leaving the cgroup the kernel gives no sign on v1.
const LEAVING: Duration = Duration::from_millis(1);

/// Until when to wait, for all directories of a cgroup together.
pub(super) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// Removes `directory` of a hierarchy with v2's files or v1's. One that is not there is removed.
pub(super) async fn remove(directory: &Path, is_v2: bool, deadline: Instant) -> Result<()> {
    loop {
        match remove_tree(directory)? {
            Ok(()) => return Ok(()),
            Err(errno) if Instant::now() >= deadline => return Err(still_there(directory, errno)),
            Err(_) => {}
        }
        let waited =
            if is_v2 { until_unpopulated(directory, deadline).await } else { until_ended(directory, deadline).await };
        waited?;
    }
}

fn still_there(directory: &Path, errno: Errno) -> Error {
    let left = processes::pids(directory).unwrap_or_default();
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    let who =
        if left.is_empty() { "no process is listed".into() } else { format!("still has pids {}", left.join(", ")) };
    Error::sys(format_args!("rmdir {} ({who} after {} s)", directory.display(), PATIENCE.as_secs()), errno)
}

/// Removes what is empty, depth first. The inner error is EBUSY: somebody is in it.
fn remove_tree(directory: &Path) -> Result<nix::Result<()>> {
    match rmdir(directory)? {
        Ok(()) => return Ok(Ok(())),
        Err(_) => {
            for below in processes::subdirectories(directory)? {
                if let Err(errno) = remove_tree(&below)? {
                    return Ok(Err(errno));
                }
            }
        }
    }
    rmdir(directory)
}

fn rmdir(directory: &Path) -> Result<nix::Result<()>> {
    match std::fs::remove_dir(directory).map_err(|error| (error.raw_os_error().map(Errno::from_raw), error)) {
        Ok(()) | Err((Some(Errno::ENOENT | Errno::ENODEV), _)) => Ok(Ok(())),
        Err((Some(errno @ (Errno::EBUSY | Errno::ENOTEMPTY)), _)) => Ok(Err(errno)),
        Err((_, error)) => Err(Error::io(format_args!("rmdir {}", directory.display()), &error)),
    }
}

/// Waits until nobody is in it and below it.
pub(super) async fn until_unpopulated(directory: &Path, deadline: Instant) -> Result<()> {
    events::until_without(directory, "populated 1", deadline).await.map(drop)
}

/// Waits for the end of every process that is in it now.
async fn until_ended(directory: &Path, deadline: Instant) -> Result<()> {
    for (pid, pidfd) in processes::hold(directory)? {
        let failed = |error: &std::io::Error| Error::io(format_args!("wait for {pid}"), error);
        let pidfd = watch(pidfd, Interest::READABLE).map_err(|error| failed(&error))?;
        match timeout_at(deadline, pidfd.readable()).await {
            Ok(ready) => drop(ready.map_err(|error| failed(&error))?),
            Err(_) => return Ok(()),
        }
    }
    sleep(LEAVING).await;
    Ok(())
}
