//! The plan: everything that will be done between clone and execve, as data, before anything is done (D1).
//!
//! Pure: a [`config::Container`] and a few [`Facts`] of the host in, two lists of steps out. What the children will read is
//! laid out here in one string pool and a few tables, so that they need no allocator; what they need open is asked for by
//! name ([`Source`]) and opened by the parent just before the fork. So a plan can be printed, compared and tested
//! without a process.
//!
//! Read [`Plan::init`] for the order of things and why; the modules below say how each subject becomes steps.

mod devices;
mod display;
mod mounts;
mod namespaces;
mod process;
mod rootfs;
mod sandbox;
pub mod seccomp;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI32;

use config::container::{Namespace, Process};
use init::sync;
use init::{Descriptor, Instruction, Pair, Program, Span, Step, Text};

use crate::cgroup::Hierarchy;
use crate::error::{Error, Kind, Result};
use crate::plan::seccomp::Filter;

pub use sandbox::Stay;

/// What a plan must know beside config.json.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What /sys/fs/cgroup shows in the container.
    pub hierarchies: &'a [Hierarchy],
    /// The v1 cgroup directories that the process joins by their `tasks` files; none on v2, where it is born in its cgroup.
    pub joins: &'a [PathBuf],
    /// The compiled seccomp profile.
    pub filter: Option<&'a Filter>,
    /// The highest capability that the kernel knows (/proc/sys/kernel/cap_last_cap).
    pub last_capability: u32,
    /// The user's home directory, for a `HOME` where the environment has none.
    pub home: &'a str,
}

/// An open file that the children need, by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What becomes descriptor 0, 1 or 2.
    Stdio(usize),
    /// One of the cgroup's `tasks` files, by its place in [`Facts::joins`].
    Tasks(usize),
    /// A namespace file to join.
    Namespace(PathBuf),
    /// The pidfd of the container's init.
    Init,
}

/// Steps and all they refer to. See the module's head.
#[derive(Debug, Default)]
pub struct Plan {
    text: Vec<u8>,
    stage_one: Vec<Step>,
    stage_two: Vec<Step>,
    sources: Vec<Source>,
    pairs: Vec<Pair>,
    gids: Vec<u32>,
    candidates: Vec<Text>,
    filter: Vec<Instruction>,
    args: Vec<Text>,
    env: Vec<Text>,
}

impl Plan {
    /// The plan of a container's init.
    ///
    /// The order of the second stage: mounts before the pivot, while the host's paths are there; paths of the container
    /// masked after it; the working directory after the masks, for it must not lie below one; the root read-only last of
    /// all that writes. Then the process: what needs rights first, rights away, seccomp as near to execve as it can be.
    pub fn init(container: &config::Container, facts: &Facts<'_>) -> Result<Self> {
        let mut plan = Self::default();
        namespaces::enter(&mut plan, container, facts);
        plan.second(Step::NewSession);
        rootfs::build(&mut plan, container, facts);
        process::attach(&mut plan, &container.process, true);
        rootfs::protect(&mut plan, container);
        process::settle(&mut plan, &container.process, true);
        rootfs::finish(&mut plan, container);
        process::execute(&mut plan, &container.process, facts);
        plan.checked()
    }

    /// The plan of a process executed into a container whose namespaces are `namespaces`.
    pub fn exec(process: &Process, namespaces: &[Namespace], facts: &Facts<'_>) -> Result<Self> {
        let mut plan = Self::default();
        namespaces::join_container(&mut plan, process, namespaces, facts);
        plan.second(Step::NewSession);
        process::attach(&mut plan, process, false);
        process::settle(&mut plan, process, false);
        process::execute(&mut plan, process, facts);
        plan.checked()
    }

    /// What the parent must have open for the children, in this order.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Gives `f` the form that the children read. `descriptors` are the [`Plan::sources`], opened; `channel` is the
    /// children's end of the socket; `pid` is where the pid of stage two will be found, in memory shared with them.
    pub fn with_program<T>(
        &self,
        descriptors: &[i32],
        channel: i32,
        pid: &AtomicI32,
        f: impl FnOnce(&Program<'_>) -> T,
    ) -> T {
        let vector = |texts: &[Text]| -> Vec<*const u8> {
            let strings = texts.iter().map(|text| self.text[text.0 as usize..].as_ptr());
            strings.chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (vector(&self.args), vector(&self.env));
        let mut keep: Vec<i32> = descriptors.iter().copied().chain([channel]).collect();
        keep.sort_unstable();
        f(&Program {
            text: &self.text,
            stage_one: &self.stage_one,
            stage_two: &self.stage_two,
            descriptors,
            pairs: &self.pairs,
            gids: &self.gids,
            candidates: &self.candidates,
            filter: &self.filter,
            argv: &argv,
            envp: &envp,
            channel,
            pid,
            keep: &keep,
        })
    }

    /// All steps with their numbers, as errors name them: `  17  mount proc at /proc (nosuid,nodev,noexec)`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let steps = self.stage_one.iter().chain(&self.stage_two);
        steps.enumerate().map(|(place, step)| format!("{:4}  {}", place + 1, self.describe(step)))
    }

    /// `step 17: mount proc at /proc (nosuid,nodev,noexec)` for a place counted from 0 over both stages.
    pub(crate) fn name(&self, place: u32) -> String {
        match place {
            sync::CLOSE => return "close the runtime's files".to_owned(),
            sync::FORK => return "fork the container's process".to_owned(),
            _ => {}
        }
        let place = place as usize;
        let steps = self.stage_one.iter().chain(&self.stage_two);
        match steps.enumerate().nth(place) {
            Some((_, step)) => format!("step {}: {}", place + 1, self.describe(step)),
            None => format!("step {}", place + 1),
        }
    }

    /// The name of the last step, execve.
    pub(crate) fn last(&self) -> String {
        let steps = self.stage_one.len() + self.stage_two.len();
        self.name(u32::try_from(steps.saturating_sub(1)).unwrap_or(sync::FORK))
    }

    fn first(&mut self, step: Step) {
        self.stage_one.push(step);
    }

    fn second(&mut self, step: Step) {
        self.stage_two.push(step);
    }

    /// Puts a string into the pool. It holds no NUL: `config` refused those.
    fn text(&mut self, bytes: impl AsRef<[u8]>) -> Text {
        // A pool of 4 GiB is refused in `checked`.
        let text = Text(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.text.extend_from_slice(bytes.as_ref());
        self.text.push(0);
        text
    }

    fn path(&mut self, path: &Path) -> Text {
        self.text(path.as_os_str().as_bytes())
    }

    fn source(&mut self, source: Source) -> Descriptor {
        self.sources.push(source);
        Descriptor(u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX))
    }

    /// The span of a table that begins at `start` and ends at `end`.
    fn span(start: usize, end: usize) -> Span {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { start: number(start), len: number(end - start) }
    }

    /// The string at `text`, for people.
    fn show(&self, text: Text) -> String {
        let bytes = self.text.get(text.0 as usize..).unwrap_or_default();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    fn checked(self) -> Result<Self> {
        if u32::try_from(self.text.len()).is_err() {
            return Err(Error::new(Kind::Invalid, "the strings of config.json add up to more than 4 GiB"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
