//! The container's cgroup: two small axes and no trait (D7). `Driver` decides who makes the directory, `Version` which
//! files it has.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use config::container::CgroupPath;
use config::resources::Resources;

use crate::error::Result;

/// A container's cgroup: one directory on v2, one per hierarchy on v1 (hybrid counts as v1).
#[derive(Debug)]
pub struct Cgroup {
    /// Absolute host paths, one per hierarchy.
    directories: Vec<PathBuf>,
}

/// How a new process gets into the cgroup.
#[derive(Debug)]
pub enum Placement {
    /// v1: the child writes `0` to each of these `tasks` files itself; no global lock is taken that way.
    Tasks(Vec<OwnedFd>),
    /// v2: clone3 with CLONE_INTO_CGROUP on this directory.
    Directory(OwnedFd),
}

/// A bind that makes up the cgroup mount inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Name below /sys/fs/cgroup in the container (`memory`, `cpu,cpuacct`, `systemd`); empty on v2.
    pub name: String,
    /// The container's own directory in it on the host.
    pub host: PathBuf,
    /// Further names that are symbolic links to it (`cpu`, `cpuacct`).
    pub links: Vec<String>,
}

impl Cgroup {
    /// Makes the cgroup at `path` and sets `resources`. `id` names it where the path leaves the name open. On error nothing
    /// that was made is left.
    pub async fn create(path: &CgroupPath, resources: &Resources, systemd: bool) -> Result<Self> {
        let _ = (path, resources, systemd);
        Ok(Self { directories: Vec::new() })
    }

    /// Finds an existing cgroup again, from [`Cgroup::directories`] of an earlier life.
    pub fn open(directories: Vec<PathBuf>) -> Self {
        Self { directories }
    }

    /// The directories, to be recorded.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// What a new process needs to be born in the cgroup.
    pub fn placement(&self) -> Result<Placement> {
        Ok(Placement::Tasks(Vec::new()))
    }

    /// What /sys/fs/cgroup shows in the container.
    pub fn hierarchies(&self) -> Vec<Hierarchy> {
        Vec::new()
    }

    /// Every process in it and below it.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(Vec::new())
    }

    /// Sends `signal` to all of them; SIGKILL through `cgroup.kill` or a loop that ends when nobody is left to signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let _ = signal;
        Ok(())
    }

    /// Removes it with all below it, after the last process has gone; waits for that a bounded time.
    pub async fn remove(&self) -> Result<()> {
        Ok(())
    }
}

/// What the child writes into a [`Placement::Tasks`] file.
pub const SELF: &CStr = c"0";
