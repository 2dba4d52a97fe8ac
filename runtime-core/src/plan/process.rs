//! `process`: config.md "Process", the same for init and exec.

use std::path::Path;

use config::container::{Capabilities, Process};
use init::setting::{Scheduler, Setting};
use init::sync::Point;
use init::{FORK_FLAGS, Step};
use nix::sys::resource::Resource;
use syscalls::Sysno;

use crate::plan::seccomp::Filter;
use crate::plan::{Facts, HOME, Plan, Source};

/// Where a program is looked for when the environment has no PATH: confstr(3) `_CS_PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// CAP_SYS_ADMIN, without which seccomp(2) wants no_new_privs.
const SYS_ADMIN: u64 = 1 << 21;

/// The limit that a fork counts against.
const NPROC: u32 = Resource::RLIMIT_NPROC as u32;

/// asm-generic/ioctls.h; ioctl_tty(2).
const TIOCSCTTY: u64 = 0x540e;

/// What a session keyring's owner and its possessor may do: `KEY_POS_ALL`, and `KEY_USR_VIEW`, `READ`, `SEARCH` and `LINK`. The
/// kernel leaves out SEARCH, without which an exec, which comes as init's root, would not find it by its name. linux/key.h.
const KEYRING: u32 = 0x3f1b_0000;

/// A session keyring of the container's own, so that the runtime's keys are out of reach: keyrings(7). Made by init, where
/// `init` says so, and joined by others.
pub(super) fn keyring(plan: &mut Plan, facts: &Facts<'_>, init: bool) {
    let Some(name) = facts.keyring else { return };
    let name = plan.text(name);
    plan.push(Step::SessionKeyring { name, permissions: init.then_some(KEYRING) });
}

/// Where a program may be.
pub(super) type Candidates = Vec<String>;

/// What is executed: a process's own program, or a hook's.
pub(super) struct Executed<'a> {
    pub(super) args: &'a [String],
    pub(super) env: &'a [String],
    pub(super) candidates: Candidates,
    /// Whether they are the places where a name without a slash may be.
    pub(super) searched: bool,
    /// Whether the children look for a `HOME` of its user.
    pub(super) finds_home: bool,
}

impl<'a> Executed<'a> {
    /// A process's own program, in the environment of the process.
    pub(super) fn of(process: &'a Process) -> Self {
        let (candidates, searched) = candidates(process);
        Self { args: &process.args, env: &process.env, candidates, searched, finds_home: finds_home(&process.env) }
    }
}

/// Whether a process with the environment `env` gets a `HOME`: where it has none, or an empty one, as images leave it.
pub(super) fn finds_home(env: &[String]) -> bool {
    !env.iter().any(|entry| entry.strip_prefix(HOME).is_some_and(|home| !home.is_empty()))
}

/// Descriptors 0, 1 and 2. Init's terminal is /dev/console besides. The controlling terminal it becomes later: see [`execute`].
pub(super) fn attach(plan: &mut Plan, process: &Process, init: bool) {
    let uid = process.user.uid;
    if process.terminal {
        let mount = init.then(|| plan.text("/dev/console"));
        plan.push(Step::OpenConsole { size: process.console_size, uid, mount });
    } else {
        set_stdio(plan, uid);
    }
}

/// Three handed-over files.
pub(super) fn set_stdio(plan: &mut Plan, uid: u32) {
    let files = [0, 1, 2].map(|number| plan.source(Source::Stdio(number)));
    plan.push(Step::SetStdio { files, uid });
}

/// Where it stands. It may have to be made, so before the root is read-only.
pub(super) fn settle(plan: &mut Plan, directory: &Path, init: bool) {
    let path = plan.path(directory);
    plan.push(Step::WorkingDirectory { path, make: init });
}

/// Who it is, and on to execve.
///
/// All that takes rights or opens files comes before the fork, where the plan has not forked yet: what others see of this
/// process has no more than its own rights. Two things are exceptions. RLIMIT_NPROC is set after the fork, because stage one would
/// count. A process whose scheduler a child does not inherit is forked before it is scheduled.
///
/// With no_new_privileges the filter is loaded by the process as it will be. Without, loading wants CAP_SYS_ADMIN: it is kept
/// beside the process's own rights until the filter is in. Where the filter lets through what comes after, it is loaded before
/// the fork, so that no other process sees it with that right. Else it comes as late as it can, so that a profile need allow no more than capset,
/// prctl, write, read and execve. That is so with a listener, too: its agent is to know the process by its own pid.
pub(super) fn execute(plan: &mut Plan, process: &Process, executed: &Executed<'_>, facts: &Facts<'_>) {
    if process.scheduler.is_some_and(|scheduler| scheduler.is_not_inherited()) {
        plan.fork();
    }
    settings(plan, process);
    // With the rights of root in the container, who can read it whatever its mode.
    if executed.finds_home {
        plan.finds_home = true;
        plan.push(Step::Home { uid: process.user.uid });
    }
    limits(plan, process);
    let own = become_user(plan, process, facts);
    find(plan, executed);
    plan.close_others();
    let rights_first = facts.filter.filter(|_| !process.no_new_privileges);
    let early = rights_first.filter(|filter| !plan.forked && lets_start(filter, process));
    if let Some(filter) = early {
        load(plan, filter, Some(own));
    }
    plan.fork();
    plan.push(Step::NewSession { terminal: process.terminal });
    for limit in process.rlimits.iter().filter(|limit| limit.resource == NPROC) {
        plan.push(Step::Rlimit { resource: limit.resource, soft: Some(limit.soft), hard: limit.hard });
    }
    if let Some(filter) = facts.filter.filter(|_| early.is_none()) {
        load(plan, filter, rights_first.map(|_| own));
    }
    plan.push(Step::Sync { point: Point::Ready });
    plan.push(Step::Execute);
}

/// While it has the right to raise them, and once no file is opened any more: it may be allowed fewer than we hold. One is only
/// raised here, and set later.
fn limits(plan: &mut Plan, process: &Process) {
    for limit in &process.rlimits {
        let soft = (limit.resource != NPROC).then_some(limit.soft);
        plan.push(Step::Rlimit { resource: limit.resource, soft, hard: limit.hard });
    }
}

/// Gives up what is not the user's, all but the right to load a filter. Gives the step that gives that up, too.
fn become_user(plan: &mut Plan, process: &Process, facts: &Facts<'_>) -> Step {
    let Capabilities { bounding, effective, inheritable, permitted, ambient } = process.capabilities;
    let [bounding, effective, inheritable, permitted, ambient] =
        [bounding, effective, inheritable, permitted, ambient].map(|mask| mask & facts.grantable);
    let own = Step::Capabilities { effective, permitted, inheritable, ambient };
    plan.push(Step::BoundingSet { keep: bounding });
    identity(plan, process);
    match facts.filter {
        Some(_) if !process.no_new_privileges => plan.push(Step::Capabilities {
            effective: effective | SYS_ADMIN,
            permitted: permitted | SYS_ADMIN,
            inheritable,
            ambient: 0,
        }),
        _ => plan.push(own),
    }
    if process.no_new_privileges {
        plan.push(Step::NoNewPrivileges);
    }
    own
}

/// Loads the filter, and gives up what loading it has taken, if it has taken anything.
fn load(plan: &mut Plan, filter: &Filter, own: Option<Step>) {
    plan.filter.clone_from(&filter.program);
    plan.push(Step::Seccomp { flags: filter.flags });
    if let Some(own) = own {
        plan.push(own);
    }
}

/// Whether `filter` allows what stage two calls on the way to its program, beside what follows a filter always.
fn lets_start(filter: &Filter, process: &Process) -> bool {
    let has_listener = filter.flags & Filter::NEW_LISTENER != 0;
    let limited = process.rlimits.iter().any(|limit| limit.resource == NPROC);
    !has_listener
        && filter.allows(Sysno::clone, &[FORK_FLAGS])
        && filter.allows(Sysno::setsid, &[])
        && (!process.terminal || filter.allows(Sysno::ioctl, &[0, TIOCSCTTY]))
        && (!limited || filter.allows(Sysno::prlimit64, &[0, NPROC.into()]))
}

/// How it is scheduled and what it takes the kernel for; while it has the right to say so, and before the filter is in.
fn settings(plan: &mut Plan, process: &Process) {
    if let Some(scheduler) = process.scheduler {
        let config::container::Scheduler { policy, nice, priority, flags, runtime, deadline, period } = scheduler;
        let size = Scheduler::SIZE;
        let clamps = [0; 2];
        let attributes = Scheduler { size, policy, flags, nice, priority, runtime, deadline, period, clamps };
        plan.push(Step::Set(Setting::Scheduler(attributes)));
    }
    if let Some(priority) = process.io_priority {
        plan.push(Step::Set(Setting::IoPriority(priority)));
    }
    if let Some(policy) = &process.memory_policy {
        let nodes = plan.set(&policy.nodes);
        plan.push(Step::Set(Setting::MemoryPolicy { mode: policy.mode, nodes }));
    }
    if let Some(persona) = process.personality {
        plan.push(Step::Set(Setting::Personality(persona)));
    }
}

fn identity(plan: &mut Plan, process: &Process) {
    let user = &process.user;
    let start = plan.gids.len();
    plan.gids.extend(&user.additional_gids);
    let groups = Plan::span(start, plan.gids.len());
    plan.push(Step::Identity { uid: user.uid, gid: user.gid, groups });
    plan.push(Step::Umask { mask: user.umask });
}

/// The arguments, the environment and where the program may be.
pub(super) fn find(plan: &mut Plan, executed: &Executed<'_>) {
    for arg in executed.args {
        let text = plan.text(arg);
        plan.args.push(text);
    }
    // What is found takes the place of an empty one, at the end.
    for entry in executed.env.iter().filter(|entry| !(executed.finds_home && *entry == HOME)) {
        let text = plan.text(entry);
        plan.env.push(text);
    }
    let start = plan.candidates.len();
    for candidate in &executed.candidates {
        let text = plan.text(candidate);
        plan.candidates.push(text);
    }
    let candidates = Plan::span(start, plan.candidates.len());
    plan.push(Step::FindExecutable { candidates, searched: executed.searched });
}

/// A name with a slash is a path; any other is looked for in PATH, like execvp(3). And whether it is.
fn candidates(process: &Process) -> (Candidates, bool) {
    let Some(name) = process.args.first() else { return (Vec::new(), false) };
    if name.contains('/') {
        return (vec![name.clone()], false);
    }
    let path = process.env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let in_directory = |dir: &str| if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") };
    (path.split(':').map(in_directory).collect(), true)
}
