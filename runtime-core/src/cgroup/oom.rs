//! Kills for want of memory: counted on `oom_kill`, in the container's cgroup and all below it.
//!
//! Called by `cgroup`; watched from Create on. What wakes the watcher is a hint only, the count decides: v1 wakes every cgroup
//! below the one whose limit was hit, before it has chosen whom to kill, and reports nothing of cgroups below ours; v2 reports
//! each change of `memory.events`, which counts what happens below. The count is there before the killed process can have
//! ended: who reads it at a process's end misses nothing.
//!
//! ```text
//!        wakes                                      counted in
//! v1     one eventfd on memory.oom_control of       memory.oom_control, oom_kill: of each cgroup alone
//!        each cgroup; inotify on new ones below
//! v2     poll on memory.events                      memory.events, oom_kill: of all below too
//! ```
//!
//! A systemd scope goes with its last process, and may be gone before the count is read, and its slice with it. Then the
//! lowest that is left above tells, a cgroup or the host, which counts what happened below: what it has more than was known of
//! ours and of others is taken for a process of ours that ended by SIGKILL just now. What was known is brought up to date
//! whenever anything is counted, before a SIGKILL by a client too: only a neighbour's kill since then, together with a SIGKILL
//! that came from neither the kernel nor a client, can be mistaken for it.

use std::path::{Path, PathBuf};

use super::host::Version;
use super::stats::Keyed;
use crate::error::Result;

mod births;
mod v1;
mod v2;

/// Watches a container's cgroup for kills. One waiter at a time; anybody may count.
#[derive(Debug)]
pub struct OomWatch(Watch);

#[derive(Debug)]
enum Watch {
    V1(v1::Watch),
    V2(v2::Watch),
}

/// Processes were killed for want of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oom {
    /// How many, since the last count.
    pub kills: u64,
    /// The cgroup that the last of them was in, or on v2 the container's.
    pub killed_in: PathBuf,
    /// The cgroup whose limit was hit, where that can be told: the container's, one below, or one above (a pod's).
    pub limit_of: Option<PathBuf>,
}

impl OomWatch {
    /// `may_vanish`: somebody else, systemd, may remove the cgroup when its last process has ended.
    pub(super) fn new(directory: &Path, version: Version, may_vanish: bool) -> Result<Self> {
        Ok(Self(match version {
            Version::V1 => Watch::V1(v1::Watch::new(directory)?),
            Version::V2 => Watch::V2(v2::Watch::new(directory, may_vanish)?),
        }))
    }

    /// Waits until it is worth while to count. Cancel-safe.
    pub async fn changed(&self) -> Result<()> {
        match &self.0 {
            Watch::V1(watch) => watch.changed().await,
            Watch::V2(watch) => watch.changed().await,
        }
    }

    /// Kills that were not counted before. `killed`: a process of the cgroup has just ended by SIGKILL.
    pub fn count(&self, killed: bool) -> Option<Oom> {
        match &self.0 {
            Watch::V1(watch) => watch.count(),
            Watch::V2(watch) => watch.count(killed),
        }
    }
}

impl std::fmt::Display for Oom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "killed for want of memory: {} in {}; ", self.kills, self.killed_in.display())?;
        match &self.limit_of {
            Some(limit_of) => write!(f, "the limit of {} was hit", limit_of.display()),
            None => write!(f, "no limit of a cgroup was hit"),
        }
    }
}

/// A file of keys and numbers; empty where it, or its cgroup, has gone.
fn keyed(directory: &Path, file: &str) -> Keyed {
    std::fs::read_to_string(directory.join(file)).map(|text| Keyed::parse(&text)).unwrap_or_default()
}
