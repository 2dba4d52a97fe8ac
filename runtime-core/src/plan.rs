//! The plan: everything that will be done between clone and execve, as data, before anything is done (D1).
//!
//! Pure: a [`config::Container`] and a few [`Facts`] of the host in, two lists of steps out. What the children will read is
//! laid out here in one string pool and a few tables, so that they need no allocator; what they need open is asked for by
//! name ([`Source`]) and opened by the parent just before the fork. So a plan can be printed, compared and tested
//! without a process.
//!
//! Read [`Plan::init`] for the order of things and why; the modules below say how each subject becomes steps.

mod devices;
pub(crate) mod display;
mod handed;
pub(crate) mod hint;
mod hook;
mod layers;
pub mod lsm;
mod mounts;
mod namespaces;
mod process;
mod rootfs;
mod sandbox;
pub mod seccomp;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use config::container::{Device, Idmap, Namespace, Process};
use init::sync;
use init::{Descriptor, Instruction, Pair, Program, Span, Step, Text};

use crate::cgroup::Hierarchy;
use crate::error::{Error, Kind, Result, visible};
use crate::own;
use crate::plan::lsm::Lsm;
use crate::plan::process::Executed;
use crate::plan::seccomp::Filter;
use crate::rootfs::RootfsMount;
use crate::shared::Shared;

pub use layers::Change;
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
    /// What can confine a process.
    pub lsm: Lsm,
    /// The capabilities that the process can be given; those that it asks for beside them are left out.
    pub grantable: u64,
    /// Whether a proc can be mounted for a pid namespace that its maker is not in.
    pub proc_for_others: bool,
    /// Whether the runtime may make device nodes: only in the machine's first user namespace.
    pub makes_devices: bool,
    /// `no_pivot_root`: `/` is a ramdisk, which pivot_root(2) cannot leave.
    pub no_pivot_root: bool,
    /// The root of a running container that has no mount namespace: what is executed into it does not come there by joining one.
    pub root: Option<&'a Path>,
    /// The session keyring's name, where the container gets one.
    pub keyring: Option<&'a str>,
    /// How many descriptors the program gets beside 0, 1 and 2.
    pub preserved: u32,
}

/// The variable that a program expects and images leave out.
const HOME: &str = "HOME=";

/// PATH_MAX, linux/limits.h.
const LONGEST_PATH: usize = 4096;

/// An open file that the children need, by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What becomes descriptor 0, 1 or 2.
    Stdio(usize),
    /// What becomes descriptor 3 or a later one.
    Preserved(usize),
    /// One of the cgroup's `tasks` files, by its place in [`Facts::joins`].
    Tasks(usize),
    /// A namespace file to join.
    Namespace(PathBuf),
    /// The pidfd of the container's init.
    Init,
    /// A detached copy of what is mounted at a host path.
    Tree {
        /// Absolute.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// Of a link itself, not of what it leads to.
        nofollow: bool,
        /// `MS_*` of all its mounts.
        propagation: u64,
        /// Whose ids it shows.
        idmap: Option<Idmap>,
        /// What becomes of its flags, where the container may clear none that the host has set.
        changes: Vec<Change>,
    },
    /// A directory of the host's, as a place.
    Directory(PathBuf),
    /// Not a file: the ids that the parent shows in a mount that the children send it.
    Idmap(Idmap),
    /// A new file system, detached.
    Filesystem {
        /// Its target is of no meaning.
        mount: RootfsMount,
        /// Whose ids it shows.
        idmap: Idmap,
    },
    /// A detached copy of the host's node of this path, type and number; where the host has none, a detached tmpfs with one.
    Device {
        /// What it must be.
        device: Device,
        /// The user and group on the host that are its owner in the container; or why none can be made.
        owner: Owner,
        /// `MS_*`
        propagation: u64,
    },
}

/// A user and a group of the host's, or why there are none.
pub type Owner = std::result::Result<(u32, u32), &'static str>;

/// Steps and all they refer to. See the module's head.
#[derive(Debug, Default)]
pub struct Plan {
    text: Vec<u8>,
    stage_one: Vec<Step>,
    stage_two: Vec<Step>,
    /// Whether what is planned from here on is stage two's.
    forked: bool,
    /// The pid namespace that is joined.
    pid_namespace: Option<Descriptor>,
    sources: Vec<Source>,
    pairs: Vec<Pair>,
    gids: Vec<u32>,
    words: Vec<u64>,
    candidates: Vec<Text>,
    filter: Vec<Instruction>,
    args: Vec<Text>,
    env: Vec<Text>,
    /// Whether the environment has a `HOME` that is found out by the children.
    finds_home: bool,
    /// How many descriptors from 3 on are the program's.
    preserved: u32,
}

impl Plan {
    /// The plan of a container's init.
    ///
    /// The order: mounts before the pivot, while the host's paths are there; paths of the container masked after it; the
    /// working directory after the masks, for it must not lie below one; the root read-only last of all that writes. Then the
    /// process: what needs rights first, rights away, seccomp as near to execve as it can be.
    ///
    /// The fork comes before all this where the pid namespace is a new one, for only who is in it can mount its proc. Where
    /// one is joined there are others who look on, and it comes as late as it can: see `plan::rootfs`.
    pub fn init(container: &config::Container, facts: &Facts<'_>) -> Result<Self> {
        let mut plan = Self::default();
        plan.preserve(facts.preserved);
        lsm::confine(&mut plan, &container.process, facts, "/process")?;
        lsm::check_mounts(container, facts)?;
        namespaces::enter(&mut plan, container, facts);
        if plan.pid_namespace.is_none() {
            plan.fork();
        }
        process::keyring(&mut plan, facts, true);
        rootfs::build(&mut plan, container, facts)?;
        process::attach(&mut plan, &container.process, true);
        rootfs::protect(&mut plan, container);
        process::settle(&mut plan, &container.process.cwd, true);
        rootfs::finish(&mut plan, container);
        process::execute(&mut plan, &container.process, &Executed::of(&container.process), facts);
        plan.checked()
    }

    /// The plan of a process executed into a container whose namespaces are `namespaces`. What it does before the fork the
    /// container cannot see.
    pub fn exec(process: &Process, namespaces: &[Namespace], facts: &Facts<'_>) -> Result<Self> {
        let mut plan = Self::default();
        plan.preserve(facts.preserved);
        lsm::confine(&mut plan, process, facts, "")?;
        namespaces::join_container(&mut plan, process, namespaces, facts);
        rootfs::enter_running(&mut plan, facts);
        process::keyring(&mut plan, facts, false);
        process::attach(&mut plan, process, false);
        process::settle(&mut plan, &process.cwd, false);
        process::execute(&mut plan, process, &Executed::of(process), facts);
        plan.checked()
    }

    /// What the parent must have open for the children, in this order.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The first descriptor number that is the children's own: where the sources and the channel must lie.
    pub fn first_number(&self) -> u32 {
        3 + self.preserved
    }

    /// Memory with room for the form that the children read.
    pub fn memory(&self) -> rustix::io::Result<Shared> {
        // As many as `with_program` makes.
        const TABLES: usize = 14;
        let vectors = (self.args.len() + self.env.len() + 3) * size_of::<*const u8>();
        let files = (2 * self.sources.len() + 1) * size_of::<i32>();
        let steps = size_of_val(&self.stage_one[..]) + size_of_val(&self.stage_two[..]);
        let tables = size_of_val(&self.pairs[..]) + size_of_val(&self.gids[..]) + size_of_val(&self.words[..]);
        let others = size_of_val(&self.candidates[..]) + size_of_val(&self.filter[..]);
        Shared::new(TABLES, self.text.len() + vectors + files + steps + tables + others + HOME.len() + LONGEST_PATH)
    }

    /// Gives `f` the form that the children read, all of it in `memory`, of [`Plan::memory`]. `descriptors` are the
    /// [`Plan::sources`], opened; `channel` is the children's end of the socket.
    pub fn with_program<T>(
        &self,
        descriptors: &[i32],
        channel: i32,
        memory: &Shared,
        f: impl FnOnce(&Program<'_>) -> T,
    ) -> T {
        let text = memory.hold(&self.text);
        let vector = |texts: &[Text]| -> Vec<*const u8> {
            let strings = texts.iter().map(|at| text[at.0 as usize..].as_ptr());
            strings.collect()
        };
        let end = std::ptr::null();
        let (mut argv, mut envp) = (vector(&self.args), vector(&self.env));
        argv.push(end);
        let home = self.home(memory);
        envp.extend(home.first().map(|first| std::ptr::from_ref(first).cast::<u8>()));
        envp.push(end);
        let mut keep: Vec<i32> = descriptors.iter().copied().chain([channel]).collect();
        keep.sort_unstable();
        f(&Program {
            text,
            stage_one: memory.hold(&self.stage_one),
            stage_two: memory.hold(&self.stage_two),
            descriptors: memory.hold(descriptors),
            pairs: memory.hold(&self.pairs),
            gids: memory.hold(&self.gids),
            words: memory.hold(&self.words),
            candidates: memory.hold(&self.candidates),
            filter: memory.hold(&self.filter),
            argv: memory.hold(&argv),
            envp: memory.hold(&envp),
            home: home.get(HOME.len()..).unwrap_or_default(),
            channel,
            board: memory,
            own: own::strings(),
            keep: memory.hold(&keep),
        })
    }

    /// `HOME=` with room for a path; empty where there is none to find.
    fn home<'a>(&self, memory: &'a Shared) -> &'a [AtomicU8] {
        if !self.finds_home {
            return &[];
        }
        let home = memory.zeros(HOME.len() + LONGEST_PATH);
        home.iter().zip(HOME.bytes()).for_each(|(place, byte)| place.store(byte, Ordering::Relaxed));
        home
    }

    /// All steps with their numbers, as errors name them: `  17  mount proc at /proc (nosuid,nodev,noexec)`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let steps = self.stage_one.iter().chain(&self.stage_two);
        steps.enumerate().map(|(place, step)| format!("{:4}  {}", place + 1, visible(self.describe(step))))
    }

    /// `step 17: mount proc at /proc (nosuid,nodev,noexec)` for a place counted from 0 over both stages.
    pub(crate) fn name(&self, place: u32) -> String {
        match place {
            sync::CLOSE => return "close the runtime's files".to_owned(),
            sync::FORK => return "fork the container's process".to_owned(),
            _ => {}
        }
        match self.step(place) {
            Some(step) => format!("step {}: {}", place + 1, self.describe(step)),
            None => format!("step {}", place + 1),
        }
    }

    /// The step at a place counted from 0 over both stages.
    fn step(&self, place: u32) -> Option<&Step> {
        self.stage_one.iter().chain(&self.stage_two).nth(place as usize)
    }

    /// The name of the last step, execve.
    pub(crate) fn last(&self) -> String {
        let steps = self.stage_one.len() + self.stage_two.len();
        self.name(u32::try_from(steps.saturating_sub(1)).unwrap_or(sync::FORK))
    }

    /// Descriptors of the caller's for the program: the first step of all.
    fn preserve(&mut self, count: u32) {
        let files: Vec<_> = (0..count as usize).map(|number| self.source(Source::Preserved(number))).collect();
        if let Some(first) = files.first() {
            self.push(Step::Preserve { first: *first, count });
        }
        self.preserved = count;
    }

    fn close_others(&mut self) {
        self.push(Step::CloseOthers { from: self.first_number() });
    }

    fn push(&mut self, step: Step) {
        let stage = if self.forked { &mut self.stage_two } else { &mut self.stage_one };
        stage.push(step);
    }

    /// What follows is done by stage two, which others in its pid namespace can see.
    fn fork(&mut self) {
        self.forked = true;
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

    /// A set of the words' table.
    fn set(&mut self, words: &[u64]) -> Span {
        let start = self.words.len();
        self.words.extend(words);
        Self::span(start, self.words.len())
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
