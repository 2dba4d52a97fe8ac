//! A mount table of one's own, and a great many mounts in it: a host that has them, to whoever starts there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Gives this thread, and the threads and processes that come from it, a mount namespace of which the machine sees nothing.
pub fn unshare_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare the mount namespace")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make every mount private")
}

/// Mounts that are there until this is dropped.
#[derive(Debug)]
pub struct Mounts(PathBuf);

impl Mounts {
    /// `count` bind mounts below a new directory of `dir`.
    pub fn new(dir: &Path, count: u32) -> Result<Self> {
        let dir = dir.join("mounts");
        fs::create_dir_all(&dir)?;
        let none = None::<&str>;
        mount(Some("mounts"), &dir, Some("tmpfs"), MsFlags::empty(), none).context("mount a tmpfs")?;
        let mounts = Self(dir);
        for nth in 1..count {
            let at = mounts.0.join(nth.to_string());
            fs::create_dir(&at)?;
            mount(Some(&at), &at, none, MsFlags::MS_BIND, none).with_context(|| format!("bind {}", at.display()))?;
        }
        Ok(mounts)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("what was mounted here can be unmounted");
    }
}
