//! A container: one init, its cgroup, and the processes executed into it.
//!
//! Called by the shim's task actor and by the `oci` command line. Nothing here is `Send`: everything runs on the caller's
//! one thread (D4).

use std::path::{Path, PathBuf};
use std::rc::Rc;

use config::container::{Namespace, NamespaceKind};
use config::resources::Resources;

use crate::cgroup::oom::OomWatch;
use crate::cgroup::stats::Stats;
use crate::cgroup::{Cgroup, Driver, Hierarchy};
use crate::error::{Error, Kind, Result};
use crate::plan::seccomp::{self, Filter};
use crate::plan::{Facts, Plan};
use crate::process::{Process, Stdio};
use crate::spawn::{self, Handover};
use crate::state::{self, State};
use crate::{home, kernel, rootfs};

/// Where the node's compiled seccomp profiles are kept.
const SECCOMP_CACHE: &str = "/run/containerd-shim-myshim/seccomp";

/// A created container. Dropping it kills nothing; [`Container::delete`] does.
#[derive(Debug)]
pub struct Container {
    init: Rc<Process>,
    cgroup: Rc<Cgroup>,
    oom: Option<Rc<OomWatch>>,
    bundle: PathBuf,
    namespaces: Vec<Namespace>,
    filter: Option<Filter>,
    oom_score_adj: Option<i32>,
}

impl Container {
    /// Makes the cgroup, forks twice, builds the root and leaves init waiting just before execve. The rootfs has been
    /// mounted by the caller (see [`crate::rootfs`]).
    ///
    /// On error nothing is left: no process, no cgroup, no record. When the future is dropped, they go soon after, by a task
    /// of the caller's `LocalSet`.
    pub async fn create(spec: &config::Container, options: &config::Options, stdio: Stdio) -> Result<Self> {
        if options.no_pivot_root {
            return Err(Error::new(Kind::Unimplemented, "no_pivot_root is not supported yet"));
        }
        let filter = compile(spec)?;
        let driver = Driver::choose(options.systemd_cgroup, &spec.cgroup, &spec.annotations);
        let cgroup = Cgroup::create(&spec.cgroup, &spec.resources, driver).await?;
        let unfinished = Unfinished::new(cgroup, &spec.bundle);
        let created = match unfinished.cgroup.oom_watch() {
            Ok(oom) => Self::fork(spec, &unfinished.cgroup, filter.as_ref(), &stdio).await.map(|init| (init, oom)),
            Err(error) => Err(error),
        };
        let cgroup = unfinished.finish();
        match created {
            Ok((init, oom)) => Ok(Self {
                init: Rc::new(init),
                cgroup,
                oom: oom.map(Rc::new),
                bundle: spec.bundle.clone(),
                namespaces: spec.namespaces.clone(),
                filter,
                oom_score_adj: spec.process.oom_score_adj,
            }),
            Err(error) => {
                undo(cgroup, spec.bundle.clone()).await;
                Err(error)
            }
        }
    }

    /// Forks init. Its record is written before, so that a shim that dies in between leaves a cgroup that can be found.
    async fn fork(
        spec: &config::Container,
        cgroup: &Cgroup,
        filter: Option<&Filter>,
        stdio: &Stdio,
    ) -> Result<Process> {
        let unit = cgroup.unit().map(str::to_owned);
        let mut record = State { cgroup: cgroup.directories().to_vec(), unit, ..State::default() };
        record.write(&spec.bundle)?;
        let placement = cgroup.placement()?;
        let hierarchies = cgroup.hierarchies();
        let home = home::directory(&spec.root.path, spec.process.user.uid);
        let plan = Plan::init(spec, &facts(&hierarchies, &placement.directories, filter, &home))?;
        let handover = Handover { stdio: Some(stdio), placement: &placement, init: None };
        let init = spawn::spawn(&plan, &handover, async |_, _| Ok(())).await?;
        record.pid = init.pid();
        record.start_time = state::start_time(init.pid()).unwrap_or_default();
        if let Err(error) = record.write(&spec.bundle).and_then(|()| cgroup.settle(&spec.resources)) {
            end(&init).await;
            return Err(error);
        }
        Ok(init)
    }

    /// The container's init. Start it with [`Process::start`].
    pub fn init(&self) -> &Rc<Process> {
        &self.init
    }

    /// Forks a further process into the container's namespaces and cgroup and leaves it waiting just before execve.
    /// Kind `Precondition` when init has ended.
    pub async fn exec(&self, process: &config::Process, stdio: Stdio) -> Result<Process> {
        let gone = || Error::new(Kind::Precondition, "the container's init has ended");
        self.init.signal(0).map_err(|_| gone())?;
        let mut process = process.clone();
        // Without a value of its own it would have the shim's, which is there to spare the shim.
        process.oom_score_adj = process.oom_score_adj.or(self.oom_score_adj);
        let placement = self.cgroup.placement_beside(self.init.pid())?;
        let root = PathBuf::from(format!("/proc/{}/root", self.init.pid()));
        let home = home::directory(&root, process.user.uid);
        let facts = facts(&[], &placement.directories, self.filter.as_ref(), &home);
        let plan = Plan::exec(&process, &self.namespaces, &facts)?;
        let handover = Handover { stdio: Some(&stdio), placement: &placement, init: Some(self.init.pidfd()) };
        let spawned = spawn::spawn(&plan, &handover, async |_, _| Ok(())).await;
        // Init that ended in between takes its namespaces along: say that, not which step noticed it.
        spawned.map_err(|error| if self.init.signal(0).is_err() { gone() } else { error })
    }

    /// Whether init is pid 1 of a pid namespace of its own, so that the kernel ends the rest when it ends.
    pub fn owns_pid_namespace(&self) -> bool {
        self.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Pid && namespace.path.is_none())
    }

    /// Sends `signal` to every process of the container's cgroup and the cgroups below it.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        self.cgroup.signal(signal)
    }

    /// Every process of the container's cgroup and the cgroups below it; init first, always, while it lives.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let init = self.init.pid();
        let mut pids = self.cgroup.pids()?;
        pids.retain(|pid| *pid != init);
        if self.init.signal(0).is_ok() {
            pids.insert(0, init);
        }
        Ok(pids)
    }

    /// What the container has used. Kind `NotFound` where somebody has removed its cgroup.
    pub fn stats(&self) -> Result<Stats> {
        self.cgroup.stats()
    }

    /// Changes what the container may use, while it runs: all that `resources` names, or on error nothing.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        self.cgroup.update(resources)
    }

    /// Counts who is killed for want of memory, from before init was forked. None where memory is not accounted.
    pub fn oom(&self) -> Option<Rc<OomWatch>> {
        self.oom.clone()
    }

    /// Stops every process of the container where it is; waits for that a bounded time, and takes it back on error.
    pub async fn freeze(&self) -> Result<()> {
        self.cgroup.freeze().await
    }

    /// Lets every process of the container go on.
    pub fn thaw(&self) -> Result<()> {
        self.cgroup.thaw()
    }

    /// Kills what is left and removes the cgroup. Init has ended and was reaped. Goes on past errors and reports the first.
    /// May be called again.
    pub async fn delete(&self) -> Result<()> {
        let removed = remove_cgroup(&self.cgroup).await;
        removed.and(State::remove(&self.bundle))
    }
}

/// A container of which only the cgroup is made. Dropped as such, it goes.
struct Unfinished {
    cgroup: Rc<Cgroup>,
    bundle: Option<PathBuf>,
}

impl Unfinished {
    fn new(cgroup: Cgroup, bundle: &Path) -> Self {
        Self { cgroup: Rc::new(cgroup), bundle: Some(bundle.to_owned()) }
    }

    /// It is finished, one way or the other.
    fn finish(mut self) -> Rc<Cgroup> {
        self.bundle = None;
        Rc::clone(&self.cgroup)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(bundle) = self.bundle.take() {
            tokio::task::spawn_local(undo(Rc::clone(&self.cgroup), bundle));
        }
    }
}

/// Kills a process that nobody will ever start, and reaps it.
pub(crate) async fn end(process: &Process) {
    // It may have ended by itself.
    let _ = process.signal(nix::libc::SIGKILL);
    if let Err(error) = process.wait().await {
        log::warn!("undo a failed create: {error}");
    }
}

/// Takes back what a failed create has made. Its error is the one to tell; what goes wrong here is logged.
async fn undo(cgroup: Rc<Cgroup>, bundle: PathBuf) {
    let removed = remove_cgroup(&cgroup).await;
    if let Err(error) = removed.and(State::remove(&bundle)) {
        log::warn!("undo a failed create: {error}");
    }
}

fn compile(spec: &config::Container) -> Result<Option<Filter>> {
    spec.seccomp.as_ref().map(|profile| seccomp::compile_cached(profile, Path::new(SECCOMP_CACHE))).transpose()
}

fn facts<'a>(
    hierarchies: &'a [Hierarchy],
    joins: &'a [PathBuf],
    filter: Option<&'a Filter>,
    home: &'a str,
) -> Facts<'a> {
    Facts { hierarchies, joins, filter, last_capability: kernel::last_capability(), home }
}

pub(crate) async fn remove_cgroup(cgroup: &Cgroup) -> Result<()> {
    let killed = cgroup.signal(nix::libc::SIGKILL);
    cgroup.remove().await.and(killed)
}

/// What [`destroy`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Init's pid as recorded at Create; 0 where there was no record.
    pub pid: i32,
}

/// Ends a container from what is on disk alone, after its shim has died: kills every process of its cgroup, removes the
/// cgroup and unmounts the bundle's rootfs. Works with a broken or missing config.json and is idempotent. Goes on past
/// errors and reports the first, beside what it found.
pub async fn destroy(bundle: &Path) -> (Destroyed, Result<()>) {
    let read = State::read(bundle);
    let mut outcome = read.as_ref().map(|_| ()).map_err(Clone::clone);
    let state = read.ok().flatten().unwrap_or_default();
    if state.pid > 0 && state::start_time(state.pid) == Some(state.start_time) {
        kill(state.pid);
    }
    if !state.cgroup.is_empty() {
        outcome = outcome.and(remove_cgroup(&Cgroup::open(state.cgroup, state.unit)).await);
    }
    outcome = outcome.and(rootfs::unmount(&bundle.join("rootfs")));
    outcome = outcome.and(State::remove(bundle));
    (Destroyed { pid: state.pid }, outcome)
}

/// Kills init even if somebody has moved it out of its cgroup.
fn kill(pid: i32) {
    let killed = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    if let Err(errno) = killed {
        log::warn!("kill {pid}: {}", crate::error::errno_text(errno));
    }
}

/// The plan of `spec`'s init in words, one step a line, without doing any of it.
pub fn explain(spec: &config::Container) -> Result<Vec<String>> {
    let filter = spec.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let home = home::directory(&spec.root.path, spec.process.user.uid);
    let cgroup = Cgroup::locate(&spec.cgroup)?;
    let (hierarchies, joins) = (cgroup.hierarchies(), cgroup.joined()?);
    Ok(Plan::init(spec, &facts(&hierarchies, &joins, filter.as_ref(), &home))?.lines().collect())
}
