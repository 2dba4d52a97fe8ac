//! New cgroups below those of our containers: inotify(7), for v1, where each has to be registered on its own.
//!
//! One instance for all containers of this thread, and never closed: the kernel lets who closes one wait for all of the
//! host's readers of such lists, 20 ms on an idle machine (fs/notify/group.c, `fsnotify_wait_marks_destroyed`). That was the
//! larger part of a Delete. A directory's watch goes with the directory.
//!
//! A host has few instances (`fs.inotify.max_user_instances`, 128 by default, for all shims of root and all else of root's):
//! a pod that gets none runs all the same, and what a container's own cgroups lose to the OOM killer is then counted with the
//! next wake, or at a process's end, at the latest.

use std::cell::{Cell, OnceCell};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::v1::drain;
use crate::error::{Error, Result};
use crate::watch::watch;

/// Tells all who wait that somewhere a cgroup was made.
#[derive(Debug)]
pub(super) struct Births {
    /// None where the host has no more of them.
    inotify: Option<AsyncFd<OwnedFd>>,
    /// How often there was something to read.
    count: Cell<u64>,
}

impl Births {
    /// The instance of this thread, made when it is first asked for. To be called in the runtime that outlives all waiters.
    pub(super) fn of_this_thread() -> Result<Rc<Self>> {
        thread_local!(static BIRTHS: OnceCell<Rc<Births>> = const { OnceCell::new() });
        BIRTHS.with(|births| {
            if let Some(births) = births.get() {
                return Ok(Rc::clone(births));
            }
            let made = Rc::new(Self::new()?);
            Ok(Rc::clone(births.get_or_init(|| made)))
        })
    }

    fn new() -> Result<Self> {
        let inotify = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(made) => Some(watch(made, Interest::READABLE).map_err(|error| Error::io("watch new cgroups", &error))?),
            Err(rustix::io::Errno::MFILE) => {
                log::warn!(
                    "fs.inotify.max_user_instances is reached: kills in cgroups of a container's own are told late"
                );
                None
            }
            Err(errno) => return Err(Error::sys("inotify", Errno::from_raw(errno.raw_os_error()))),
        };
        Ok(Self { inotify, count: Cell::new(0) })
    }

    /// Watches `directory` until it is removed.
    pub(super) fn watch(&self, directory: &Path) -> nix::Result<()> {
        let Some(inotify) = &self.inotify else { return Ok(()) };
        let watched = inotify::add_watch(inotify.get_ref(), directory, WatchFlags::CREATE);
        watched.map(drop).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
    }

    /// To be kept by who looks at the directories now, for [`Births::since`].
    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Waits until there was a birth since the count was `seen`. Cancel-safe; any number may wait.
    pub(super) async fn since(&self, seen: u64) -> Result<()> {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        while self.count.get() == seen {
            let ready = inotify.readable().await;
            let mut ready = ready.map_err(|error| Error::io("watch new cgroups", &error))?;
            // Another who waits may have read it by now, and counted.
            if self.count.get() == seen {
                drain(inotify);
                ready.clear_ready();
                self.count.set(seen.wrapping_add(1));
            }
        }
        Ok(())
    }
}
