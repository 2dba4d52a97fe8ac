//! v1: an eventfd is registered by writing its number to `cgroup.event_control`; cgroup-v1/memory.rst, "OOM Control".

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::super::open_fd;
use super::super::processes::subdirectories;
use super::super::write::put;
use super::births::Births;
use super::{Oom, keyed};
use crate::error::{Error, Result};
use crate::watch::watch;

/// After a wake the kernel still looks for its victim: the count is read after each of these.
const LOOKS: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Watch {
    root: PathBuf,
    wakes: AsyncFd<OwnedFd>,
    /// New cgroups, and how many of them there were when we last looked below.
    births: Rc<Births>,
    born: Cell<u64>,
    /// `oom_kill` of each cgroup, as it was last counted.
    seen: RefCell<BTreeMap<PathBuf, u64>>,
    /// How often the count is still to be looked at without another wake; a count that finds something, which may come at any
    /// time, ends it.
    looks: Cell<u32>,
}

impl Watch {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let failed = |what: &str, errno: rustix::io::Errno| {
            Error::sys(format_args!("{what} for {}", root.display()), Errno::from_raw(errno.raw_os_error()))
        };
        let wakes = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wakes = wakes.map_err(|errno| failed("eventfd", errno))?;
        let wakes = watch(wakes, Interest::READABLE)
            .map_err(|error| Error::io(format_args!("watch {}", root.display()), &error))?;
        let watch = Self {
            root: root.to_owned(),
            wakes,
            births: Births::of_this_thread()?,
            born: Cell::new(0),
            seen: RefCell::default(),
            looks: Cell::new(0),
        };
        watch.register(root)?;
        watch.register_below();
        Ok(watch)
    }

    pub(super) async fn changed(&self) -> Result<()> {
        let failed = |error: &std::io::Error| Error::io(format_args!("watch {}", self.root.display()), error);
        if self.looks.get() > 0 {
            let nth = LOOKS - self.looks.get();
            tokio::select! {
                ready = self.wakes.readable() => self.woken(&mut ready.map_err(|error| failed(&error))?),
                () = sleep(FIRST_PAUSE * 2_u32.pow(nth)) => self.looks.set(self.looks.get().saturating_sub(1)),
            }
            return Ok(());
        }
        tokio::select! {
            ready = self.wakes.readable() => self.woken(&mut ready.map_err(|error| failed(&error))?),
            told = self.births.since(self.born.get()) => {
                told?;
                self.register_below();
                // A victim that was being looked for while the new one was registered wakes nobody.
                self.looks.set(LOOKS);
            }
        }
        Ok(())
    }

    fn woken(&self, ready: &mut tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>) {
        drain(&self.wakes);
        ready.clear_ready();
        self.looks.set(LOOKS);
    }

    pub(super) fn count(&self) -> Option<Oom> {
        let mut kills = 0;
        let mut killed_in = None;
        self.register_below();
        for (directory, seen) in self.seen.borrow_mut().iter_mut() {
            let now = keyed(directory, "memory.oom_control").get("oom_kill");
            if now > *seen {
                kills += now - *seen;
                *seen = now;
                killed_in = Some(directory.clone());
            }
        }
        let killed_in = killed_in?;
        self.looks.set(0);
        Some(Oom { kills, limit_of: limit_of(&killed_in), killed_in })
    }

    /// Registers what is below and was not; a container rarely has anything there.
    fn register_below(&self) {
        self.born.set(self.births.count());
        let mut rest = vec![self.root.clone()];
        while let Some(directory) = rest.pop() {
            if !self.seen.borrow().contains_key(&directory)
                && let Err(error) = self.register(&directory)
            {
                // It may have gone again.
                log::debug!("{error}");
            }
            rest.extend(subdirectories(&directory).unwrap_or_default());
        }
        self.seen.borrow_mut().retain(|directory, _| directory.exists());
    }

    fn register(&self, directory: &Path) -> Result<()> {
        let failed = |errno| Error::sys(format_args!("watch {} for new cgroups", directory.display()), errno);
        self.births.watch(directory).map_err(failed)?;
        let control = open_fd(&directory.join("memory.oom_control"), OFlags::RDONLY)?;
        let registration = format!("{} {}", self.wakes.get_ref().as_raw_fd(), control.as_raw_fd());
        let file = directory.join("cgroup.event_control");
        put(&file, &registration)
            .map_err(|errno| Error::sys(format_args!("write {registration} to {}", file.display()), errno))?;
        self.seen.borrow_mut().insert(directory.to_owned(), 0);
        Ok(())
    }
}

/// Reads until there is nothing more; what was read says nothing that the count does not.
pub(super) fn drain(fd: &AsyncFd<OwnedFd>) {
    let mut bytes = [0; 1024];
    while rustix::io::read(fd.get_ref(), &mut bytes).is_ok_and(|length| length > 0) {}
}

/// The kernel does not say which limit it was; it is the next one, from the killed process upward, that has been met.
fn limit_of(killed_in: &Path) -> Option<PathBuf> {
    let number = |directory: &Path, file: &str| -> Option<u64> {
        std::fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
    };
    let met = |directory: &&Path| {
        ["memory", "memory.memsw"].iter().any(|prefix| {
            let max = number(directory, &format!("{prefix}.max_usage_in_bytes"));
            let limit = number(directory, &format!("{prefix}.limit_in_bytes"));
            max.zip(limit).is_some_and(|(max, limit)| max >= limit)
        })
    };
    killed_in.ancestors().take_while(|above| above.join("memory.oom_control").exists()).find(met).map(Path::to_owned)
}
