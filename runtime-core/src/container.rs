//! A container: one init, its cgroup, and the processes executed into it.
//!
//! Called by the shim's task actor and by the `oci` command line. Nothing here is `Send`: everything runs on the caller's
//! one thread (D4).

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use config::container::{Hook, Namespace, NamespaceKind, SeccompListener};
use config::ids::IdMaps;
use config::resources::Resources;
use init::sync::Point;
use tokio::io::Interest;

use crate::agent::Agent;
use crate::cgroup::oom::OomWatch;
use crate::cgroup::stats::Stats;
use crate::cgroup::{self, Cgroup, Driver, Hierarchy};
use crate::error::{Error, Kind, Result};
use crate::hooks::{self, Inside};
use crate::namespaces::Part;
use crate::plan::seccomp::{self, Filter};
use crate::plan::{Facts, Plan};
use crate::process::{Descriptors, Process};
use crate::spawn::{self, Handover};
use crate::state::{self, State};
use crate::subject::Subject;
use crate::timing::Timing;
use crate::watch::watch;
use crate::{capabilities, ids, kernel, net_device, pidfd, rootfs};

/// Where the node's compiled seccomp profiles are kept, below the runtime's root.
const SECCOMP_CACHE: &str = "seccomp";

/// A created container. Dropping it kills nothing; [`Container::delete`] does.
#[derive(Debug)]
pub struct Container {
    init: Rc<Process>,
    cgroup: Rc<Cgroup>,
    oom: Option<Rc<OomWatch>>,
    subject: Subject,
    namespaces: Vec<Namespace>,
    mappings: IdMaps,
    filter: Option<Filter>,
    listener: Option<SeccompListener>,
    process: config::Process,
    keyring: Option<String>,
    /// Where there is no mount namespace in which to find it.
    root: Option<PathBuf>,
    started: Cell<bool>,
    hooks: config::container::Hooks,
}

impl Container {
    /// Makes the cgroup, forks twice, builds the root and leaves init waiting just before execve. The rootfs has been
    /// mounted by the caller (see [`crate::rootfs`]).
    ///
    /// What each part took is added to `timing`. On error nothing is left: no process, no cgroup, no record. When the future is dropped, they go soon after, by a task
    /// local to the caller's event loop.
    pub async fn create(
        spec: &config::Container,
        options: &config::Options,
        descriptors: Descriptors,
        timing: &mut Timing,
    ) -> Result<Self> {
        let filter = compile(spec, &options.root)?;
        timing.lap("compile the seccomp profile");
        let keyring = keyring(spec, options);
        let driver = Driver::choose(options.systemd_cgroup, &spec.cgroup, &spec.annotations);
        let cgroup = Cgroup::create(&spec.cgroup, &spec.resources, driver).await?;
        timing.lap("make the cgroup");
        let unfinished = Unfinished::new(cgroup, spec);
        let created = match unfinished.cgroup.oom_watch() {
            Ok(oom) => {
                timing.lap("watch for want of memory");
                let chosen = (filter.as_ref(), keyring.as_deref(), options.no_pivot_root);
                let forked = Self::fork(spec, &unfinished.cgroup, chosen, &descriptors, timing);
                forked.await.map(|init| (init, oom))
            }
            Err(error) => Err(error),
        };
        let (cgroup, subject, poststop) = unfinished.finish();
        match created {
            Ok((init, oom)) => Ok(Self {
                init: Rc::new(init),
                cgroup,
                oom: oom.map(Rc::new),
                subject,
                namespaces: spec.namespaces.clone(),
                mappings: spec.mappings.clone(),
                filter,
                listener: listener(spec).cloned(),
                process: spec.process.clone(),
                keyring,
                root: (!spec.has(NamespaceKind::Mount)).then(|| spec.root.path.clone()),
                started: Cell::new(false),
                hooks: spec.hooks.clone(),
            }),
            Err(error) => {
                undo(cgroup, subject, poststop).await;
                Err(error)
            }
        }
    }

    /// Forks init. Its record is written before, so that a shim that dies in between leaves a cgroup that can be found.
    async fn fork(
        spec: &config::Container,
        cgroup: &Cgroup,
        (filter, keyring, no_pivot_root): (Option<&Filter>, Option<&str>, bool),
        Descriptors { stdio, preserved }: &Descriptors,
        timing: &mut Timing,
    ) -> Result<Process> {
        let unit = cgroup.unit().map(str::to_owned);
        let mut record = State {
            cgroup: cgroup.directories().to_vec(),
            unit,
            poststop: spec.hooks.poststop.clone(),
            subject: Subject::of(spec),
            ..State::default()
        };
        record.write(&spec.bundle)?;
        let placement = cgroup.placement()?;
        let hierarchies = cgroup.hierarchies();
        let facts = facts(&hierarchies, &placement.directories, filter, &spec.namespaces);
        let facts = Facts { no_pivot_root, keyring, preserved: count(preserved), ..facts };
        capabilities::warn(&spec.process.capabilities, facts.grantable, "/process");
        let plan = Plan::init(spec, &facts)?;
        let agent = listener(spec).map(|listener| Agent { listener, subject: &record.subject, init: None });
        let handover = Handover { stdio: Some(stdio), preserved, placement: &placement, init: None, agent };
        let part = Part {
            namespaces: &spec.namespaces,
            mappings: &spec.mappings,
            offsets: &spec.time_offsets,
            uid: spec.process.user.uid,
            stdio: Some(stdio),
        };
        let at = async |point, pid| match point {
            Point::Namespaces => part.perform(pid),
            Point::Root => {
                let init = pidfd::open(pid)?;
                // Hooks find the devices there.
                net_device::relocate(&spec.net_devices, pid)?;
                let inside = Inside { pid, init: init.as_fd(), placement: &placement, facts: &facts, agent: None };
                while_it_lives(init.as_fd(), hooks::before_pivot(spec, &inside)).await
            }
            Point::Ready => Ok(()),
        };
        timing.lap("plan");
        let (init, steps) = spawn::spawn(&plan, &handover, at).await?;
        timing.steps(plan, steps);
        record.pid = init.pid();
        record.start_time = state::start_time(init.pid()).unwrap_or_default();
        let settle = || {
            record.write(&spec.bundle)?;
            if cgroup::is_delegated(spec) {
                cgroup.delegate(ids::host_user(init.pid(), spec.process.user.uid)?)?;
            }
            cgroup.settle(&spec.resources)
        };
        if let Err(error) = settle() {
            end(&init).await;
            return Err(error);
        }
        timing.lap("record, and settle the cgroup");
        Ok(init)
    }

    /// The container's init. Start it with [`Container::start`].
    pub fn init(&self) -> &Rc<Process> {
        &self.init
    }

    /// Runs the startContainer hooks, lets init execute its program and waits until execve has succeeded or failed. Where a
    /// hook fails init is killed, and the container waits to be deleted, like one whose program could not be executed: its
    /// caller knows it and will come back for it. Kind `Precondition` when called twice, or when init has ended.
    pub async fn start(&self) -> Result<()> {
        if self.started.replace(true) {
            return Err(Error::new(Kind::Precondition, "the process was started before"));
        }
        if !self.hooks.start_container.is_empty() {
            while_it_lives(self.init.pidfd(), self.before_start()).await.inspect_err(|_| self.kill())?;
        }
        self.init.start().await
    }

    async fn before_start(&self) -> Result<()> {
        let placement = self.cgroup.placement_beside(self.init.pid())?;
        let facts = self.facts(&placement.directories);
        let (pid, init, agent) = (self.init.pid(), self.init.pidfd(), self.agent());
        let inside = Inside { pid, init, placement: &placement, facts: &facts, agent };
        let hooks = &self.hooks.start_container;
        hooks::before_start(hooks, &self.subject, &self.process, &self.namespaces, &inside).await
    }

    /// Whether there is something to do in [`Container::after_start`].
    pub fn has_poststart_hooks(&self) -> bool {
        !self.hooks.poststart.is_empty()
    }

    /// Runs the poststart hooks, after [`Container::start`]. Where one fails the container is killed.
    pub async fn after_start(&self) -> Result<()> {
        let pid = self.init.signal(0).is_ok().then(|| self.init.pid());
        hooks::after_start(&self.hooks.poststart, &self.subject, pid).await.inspect_err(|_| self.kill())
    }

    /// After a hook has failed. What init leaves is killed when the container is deleted.
    fn kill(&self) {
        // It may have ended by itself.
        let _ = self.init.signal(nix::libc::SIGKILL);
    }

    /// Forks a further process into the container's namespaces and cgroup and leaves it waiting just before execve.
    /// Kind `Precondition` when init has ended. In a frozen container it stands still, and this waits: see
    /// [`Container::refuse_frozen`].
    pub async fn exec(&self, process: &config::Process, descriptors: Descriptors) -> Result<Process> {
        let gone = || Error::new(Kind::Precondition, "the container's init has ended");
        self.init.signal(0).map_err(|_| gone())?;
        self.mappings.refuse_unmapped(&process.user)?;
        let mut process = process.clone();
        process.inherit(&self.process);
        let placement = self.cgroup.placement_beside(self.init.pid())?;
        let Descriptors { stdio, preserved } = &descriptors;
        let facts = Facts { preserved: count(preserved), ..self.facts(&placement.directories) };
        capabilities::warn(&process.capabilities, facts.grantable, "");
        let plan = Plan::exec(&process, &self.namespaces, &facts)?;
        let (init, agent) = (Some(self.init.pidfd()), self.agent());
        let handover = Handover { stdio: Some(stdio), preserved, placement: &placement, init, agent };
        // The namespaces are as init left them.
        let part = Part {
            namespaces: &self.namespaces,
            mappings: &IdMaps::default(),
            offsets: &[],
            uid: process.user.uid,
            stdio: Some(stdio),
        };
        let spawned = spawn::spawn(&plan, &handover, async |_, pid| part.perform(pid)).await;
        // Init that ended in between takes its namespaces along: say that, not which step noticed it.
        spawned.map(|(process, _)| process).map_err(|error| if self.init.signal(0).is_err() { gone() } else { error })
    }

    fn facts<'a>(&'a self, joins: &'a [PathBuf]) -> Facts<'a> {
        let (keyring, root) = (self.keyring.as_deref(), self.root.as_deref());
        Facts { root, keyring, ..facts(&[], joins, self.filter.as_ref(), &self.namespaces) }
    }

    /// Who hears of a further process's seccomp filter.
    fn agent(&self) -> Option<Agent<'_>> {
        let init = Some((self.init.pid(), self.init.is_started()));
        self.listener.as_ref().map(|listener| Agent { listener, subject: &self.subject, init })
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

    /// Changes what the container may use, while it runs: all that `resources` names, or on error nothing. One after another,
    /// each waited for to its end.
    pub async fn update(&self, resources: &Resources) -> Result<()> {
        self.cgroup.update(resources).await
    }

    /// Counts who is killed for want of memory, from before init was forked. None where memory is not accounted.
    pub fn oom(&self) -> Option<Rc<OomWatch>> {
        self.oom.clone()
    }

    /// Stops every process of the container where it is; waits for that a bounded time, and takes it back on error.
    pub async fn freeze(&self) -> Result<()> {
        self.cgroup.freeze().await
    }

    /// Kind `Precondition` where somebody has frozen the container, or a cgroup above it: a new process would stand still in it.
    pub fn refuse_frozen(&self) -> Result<()> {
        self.cgroup.refuse_frozen()
    }

    /// Lets every process of the container go on.
    pub fn thaw(&self) -> Result<()> {
        self.cgroup.thaw()
    }

    /// Kills what is left, removes the cgroup and runs the poststop hooks. Init has ended and was reaped. Goes on past errors
    /// and reports the first. May be called again.
    pub async fn delete(&self) -> Result<()> {
        let removed = remove_cgroup(&self.cgroup).await;
        removed.and(conclude(&self.subject.bundle, &self.hooks.poststop, &self.subject).await)
    }
}

/// A container of which only the cgroup is made. Dropped as such, it goes.
struct Unfinished {
    cgroup: Rc<Cgroup>,
    last: Option<(Subject, Vec<Hook>)>,
}

impl Unfinished {
    fn new(cgroup: Cgroup, spec: &config::Container) -> Self {
        Self { cgroup: Rc::new(cgroup), last: Some((Subject::of(spec), spec.hooks.poststop.clone())) }
    }

    /// It is finished, one way or the other: what it is, whom it was for, and the hooks of its end.
    fn finish(mut self) -> (Rc<Cgroup>, Subject, Vec<Hook>) {
        let (subject, poststop) = self.last.take().expect("this takes it once, and drop comes after");
        (Rc::clone(&self.cgroup), subject, poststop)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((subject, poststop)) = self.last.take() {
            tokio::task::spawn_local(undo(Rc::clone(&self.cgroup), subject, poststop));
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
async fn undo(cgroup: Rc<Cgroup>, subject: Subject, poststop: Vec<Hook>) {
    let removed = remove_cgroup(&cgroup).await;
    if let Err(error) = removed.and(conclude(&subject.bundle, &poststop, &subject).await) {
        log::warn!("undo a failed create: {error}");
    }
}

/// Removes the record and runs the poststop hooks. They are run by whoever has removed the record: so never twice, even where
/// the one who began to is killed in the middle of it.
async fn conclude(bundle: &Path, poststop: &[Hook], subject: &Subject) -> Result<()> {
    if State::remove(bundle)? {
        hooks::after_delete(poststop, subject).await;
    }
    Ok(())
}

/// Does `work` unless init ends before it is done: hooks for a container that is no more are ended, too.
async fn while_it_lives(init: BorrowedFd<'_>, work: impl Future<Output = Result<()>>) -> Result<()> {
    let watched = init.try_clone_to_owned().and_then(|init| watch(init, Interest::READABLE));
    let watched = watched.map_err(|error| Error::io("watch init", &error))?;
    tokio::select! {
        biased;
        done = work => done,
        _ = watched.readable() => Err(Error::new(Kind::Precondition, "init has ended while hooks ran")),
    }
}

/// The name of its session keyring, where it gets one and the kernel has such. It is the one that runc gives it, and tools look
/// for.
fn keyring(spec: &config::Container, options: &config::Options) -> Option<String> {
    (!options.no_new_keyring && kernel::has_keyrings()).then(|| format!("_ses.{}", spec.id.as_str()))
}

fn listener(spec: &config::Container) -> Option<&SeccompListener> {
    spec.seccomp.as_ref()?.listener.as_ref()
}

fn compile(spec: &config::Container, root: &Path) -> Result<Option<Filter>> {
    let cache = root.join(SECCOMP_CACHE);
    spec.seccomp.as_ref().map(|profile| seccomp::compile_cached(profile, &cache)).transpose()
}

fn facts<'a>(
    hierarchies: &'a [Hierarchy],
    joins: &'a [PathBuf],
    filter: Option<&'a Filter>,
    namespaces: &[Namespace],
) -> Facts<'a> {
    let (lsm, grantable) = (kernel::lsm(), capabilities::grantable(namespaces));
    let makes_devices = kernel::in_first_user_namespace();
    let joins_pids = namespaces.iter().any(|there| there.kind == NamespaceKind::Pid && there.path.is_some());
    let proc_for_others = joins_pids && kernel::mounts_proc_for_others();
    let (no_pivot_root, root, keyring, preserved) = (false, None, None, 0);
    Facts {
        hierarchies,
        joins,
        filter,
        lsm,
        grantable,
        proc_for_others,
        makes_devices,
        no_pivot_root,
        root,
        keyring,
        preserved,
    }
}

/// How many there are; more than that no process can have open.
fn count(files: &[OwnedFd]) -> u32 {
    u32::try_from(files.len()).unwrap_or(u32::MAX)
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
/// cgroup, unmounts the bundle's rootfs and runs the poststop hooks. Works with a broken or missing config.json and is idempotent. Goes on past
/// errors and reports the first, beside what it found.
pub async fn destroy(bundle: &Path) -> (Destroyed, Result<()>) {
    let read = State::read(bundle);
    let mut outcome = read.as_ref().map(|_| ()).map_err(Clone::clone);
    let state = read.ok().flatten().unwrap_or_default();
    if state.pid > 0 {
        kill(state.pid, state.start_time);
    }
    if !state.cgroup.is_empty() {
        outcome = outcome.and(remove_cgroup(&Cgroup::open(state.cgroup, state.unit)).await);
    }
    outcome = outcome.and(rootfs::unmount(&bundle.join("rootfs")));
    // Last, for whoever waits for us may lose patience with them.
    outcome = outcome.and(conclude(bundle, &state.poststop, &state.subject).await);
    (Destroyed { pid: state.pid }, outcome)
}

/// Kills init even if somebody has moved it out of its cgroup: the process `pid`, if it started at `start_time`. The times are
/// compared behind the descriptor. So it is init's, and stays so if the pid becomes somebody else's.
fn kill(pid: i32, start_time: u64) {
    let opened = pidfd::open(pid);
    if state::start_time(pid) != Some(start_time) {
        return;
    }
    let killed = opened.and_then(|init| {
        let sent = pidfd::send_signal(init.as_fd(), nix::libc::SIGKILL);
        sent.map_err(|errno| Error::sys("pidfd_send_signal", errno))
    });
    if let Err(error) = killed {
        log::warn!("kill {pid}: {error}");
    }
}

/// The plan of `spec`'s init in words, one step a line, as [`Container::create`] would make it with `options`; without doing any
/// of it.
pub fn explain(spec: &config::Container, options: &config::Options) -> Result<Vec<String>> {
    let filter = spec.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let driver = Driver::choose(options.systemd_cgroup, &spec.cgroup, &spec.annotations);
    let cgroup = Cgroup::locate(&spec.cgroup, driver)?;
    let (hierarchies, joins, keyring) = (cgroup.hierarchies(), cgroup.joined()?, keyring(spec, options));
    let facts = facts(&hierarchies, &joins, filter.as_ref(), &spec.namespaces);
    let facts = Facts { no_pivot_root: options.no_pivot_root, keyring: keyring.as_deref(), ..facts };
    Ok(Plan::init(spec, &facts)?.lines().collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::{kill, state};

    #[test]
    fn a_process_that_has_taken_over_the_pid_is_not_killed() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = cat.id().try_into().unwrap();
        let started = state::start_time(pid).unwrap();
        kill(pid, started + 1);
        kill(pid, started - 1);
        // It lives, for it answers.
        cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        kill(pid, started);
        assert_eq!(cat.wait().unwrap().signal(), Some(nix::libc::SIGKILL));
    }
}
