//! `cgroup.events` and its like: files of a v2 cgroup whose change poll(2) reports; cgroup-v2.rst, "(Un)populated Notification".

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::uio::pread;
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::open_fd;
use crate::error::{Error, Result};
use crate::watch::watch;

/// Waits until `line` has gone from `cgroup.events` of `directory`, at most until `deadline`; says whether it has. A cgroup
/// that is gone has no lines.
pub(super) async fn until_without(directory: &Path, line: &str, deadline: Instant) -> Result<bool> {
    // An error is a cgroup that has gone.
    let Ok(file) = Changing::open(&directory.join("cgroup.events")) else { return Ok(true) };
    loop {
        if !file.text().lines().any(|one| one == line) {
            return Ok(true);
        }
        match timeout_at(deadline, file.changed()).await {
            Ok(changed) => changed?,
            Err(_) => return Ok(false),
        }
    }
}

/// A file that is watched for change. Reading takes a pending change away; what comes after is reported anew. So: open, then
/// look, then wait.
#[derive(Debug)]
pub(super) struct Changing {
    file: AsyncFd<OwnedFd>,
    name: String,
}

impl Changing {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = watch(open_fd(path, OFlags::RDONLY)?, Interest::PRIORITY);
        Ok(Self { file: file.map_err(|error| Error::io(format_args!("watch {name}"), &error))?, name })
    }

    /// What it says now; nothing once the cgroup has gone.
    pub(super) fn text(&self) -> String {
        let mut text = [0; 512];
        let length = pread(self.file.get_ref(), &mut text, 0).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    /// Waits until it says something else than when it was last read.
    pub(super) async fn changed(&self) -> Result<()> {
        let ready = self.file.ready(Interest::PRIORITY).await;
        ready.map_err(|error| Error::io(format_args!("watch {}", self.name), &error))?.clear_ready();
        Ok(())
    }
}
