//! Pause and Resume: all of a cgroup stops where it is, and goes on; freezer-subsystem.rst (v1), cgroup-v2.rst,
//! `cgroup.freeze`.
//!
//! And nobody is put into what somebody else has frozen: a process that joins a frozen cgroup stops there, in the middle of a
//! Create that then has no end.
//!
//! Called by `cgroup`. A freeze takes as long as the slowest process is in the kernel, which may be for ever (a dead NFS
//! server): it is waited for without blocking, and taken back when it is not done in time. A thaw is done when it is written.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use rustix::fs::OFlags;
use tokio::time::{Instant, sleep};

use super::events;
use super::host::Version;
use super::open_fd;
use super::write::put;
use crate::error::{Error, Kind, Result};

/// How long a freeze may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at v1's state, of which nothing tells a change: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LAST_PAUSE: Duration = Duration::from_millis(20);

/// Freezes all in `directory`, which is the freezer's on v1. On error, and when dropped, nothing stays frozen.
pub(super) async fn freeze(directory: &Path, version: Version) -> Result<()> {
    freeze_until(directory, version, Instant::now() + PATIENCE).await
}

async fn freeze_until(directory: &Path, version: Version, deadline: Instant) -> Result<()> {
    let mut undo = Undo { directory: Some(directory), version };
    let frozen = match version {
        Version::V1 => freeze_v1(directory, deadline).await?,
        Version::V2 => {
            write(directory, "cgroup.freeze", "1")?;
            events::until_without(directory, "frozen 0", deadline).await?
        }
    };
    if !frozen {
        let text = format!("freeze {}: a process keeps it from that for {} s", directory.display(), PATIENCE.as_secs());
        return Err(Error::sys(text, Errno::EBUSY));
    }
    undo.directory = None;
    Ok(())
}

/// Lets all of it go on.
pub(super) fn thaw(directory: &Path, version: Version) -> Result<()> {
    match version {
        Version::V1 => write(directory, "freezer.state", "THAWED"),
        Version::V2 => write(directory, "cgroup.freeze", "0"),
    }
}

/// Refuses a cgroup in which a new process would stand still, for it is frozen or lies below one that is; it need not exist
/// yet. `root` is its hierarchy's. One that is still being frozen counts. The error names the one to thaw.
pub(super) fn refuse_frozen(directory: &Path, root: &Path, version: Version) -> Result<()> {
    // The root has no such files.
    let mut above = directory.ancestors().take_while(|above| *above != root);
    let (setting, thaw) = match version {
        Version::V1 => ("freezer.self_freezing", "THAWED to its freezer.state"),
        Version::V2 => ("cgroup.freeze", "0 to its cgroup.freeze"),
    };
    let Some(by) = above.find(|above| said(above, setting).is_some_and(|set| set.trim() == "1")) else { return Ok(()) };
    let text = format!("cgroup {} is frozen by {}: write {thaw}", directory.display(), by.display());
    Err(Error::new(Kind::Precondition, text))
}

/// What a short file says; none where there is no such file. In one read, for this is asked at each Create and Exec.
fn said(directory: &Path, file: &str) -> Option<String> {
    let file = open_fd(&directory.join(file), OFlags::RDONLY).ok()?;
    let mut text = [0; 256];
    let length = rustix::io::read(&file, &mut text).ok()?;
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// Until the state is FROZEN, FREEZING is written again each time: only that makes the kernel look at processes that were
/// forked meanwhile.
async fn freeze_v1(directory: &Path, deadline: Instant) -> Result<bool> {
    let state = directory.join("freezer.state");
    let mut pause = FIRST_PAUSE;
    loop {
        write(directory, "freezer.state", "FROZEN")?;
        let text = std::fs::read_to_string(&state)
            .map_err(|error| Error::io(format_args!("read {}", state.display()), &error))?;
        if text.trim() == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(pause).await;
        pause = LAST_PAUSE.min(pause * 2);
    }
}

fn write(directory: &Path, file: &str, value: &str) -> Result<()> {
    let path = directory.join(file);
    put(&path, value).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENODEV if !directory.exists() => Error::new(Kind::NotFound, "cgroup does not exist"),
        errno => Error::sys(format_args!("write {value} to {}", path.display()), errno),
    })
}

/// Takes a freeze back that did not come to its end.
struct Undo<'a> {
    directory: Option<&'a Path>,
    version: Version,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let thawed = self.directory.map_or(Ok(()), |directory| thaw(directory, self.version));
        if let Err(error) = thawed
            && error.kind() != Kind::NotFound
        {
            log::warn!("take a freeze back: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stats::tests::scratch;
    use super::*;

    fn state(directory: &Path, file: &str) -> String {
        std::fs::read_to_string(directory.join(file)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_that_does_not_come_is_taken_back() {
        // A file that says FREEZING whatever is written: the first bytes are overwritten, the end stays.
        let scratch =
            scratch(&[("freezer.state", "FREEZING"), ("cgroup.freeze", "0"), ("cgroup.events", "frozen 0\n")]);
        let error = freeze(scratch.path(), Version::V1).await.unwrap_err();
        assert!(error.to_string().contains("keeps it from that for 5 s: EBUSY"), "{error}");
        assert_eq!(state(scratch.path(), "freezer.state"), "THAWEDNG");
    }

    #[tokio::test]
    async fn a_cgroup_that_is_gone_is_not_found() {
        for version in [Version::V1, Version::V2] {
            let frozen = freeze(Path::new("/nowhere"), version).await;
            assert_eq!(frozen.unwrap_err().kind(), Kind::NotFound);
        }
    }

    #[tokio::test]
    async fn what_is_frozen_stays_frozen() {
        let scratch = scratch(&[("freezer.state", "")]);
        freeze(scratch.path(), Version::V1).await.unwrap();
        assert_eq!(state(scratch.path(), "freezer.state"), "FROZEN");
        thaw(scratch.path(), Version::V1).unwrap();
        assert_eq!(state(scratch.path(), "freezer.state"), "THAWED");
    }
}
