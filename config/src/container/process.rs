//! `process`: a program with its identity and rights. (config.md#process; scheduling: sched(7), set_mempolicy(2).)

use std::path::PathBuf;

/// `process`: one program with its identity. The same shape serves init and exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// `terminal`: whether it gets a console of its own.
    pub terminal: bool,
    /// `consoleSize`, (rows, columns).
    pub console_size: Option<(u16, u16)>,
    /// `cwd`: absolute in the container.
    pub cwd: PathBuf,
    /// `args`: never empty.
    pub args: Vec<String>,
    /// `env`: `NAME=value`, each name once.
    pub env: Vec<String>,
    /// `user`.
    pub user: User,
    /// `capabilities`; an absent set is an empty one.
    pub capabilities: Capabilities,
    /// `rlimits`: one entry a resource.
    pub rlimits: Vec<Rlimit>,
    /// `noNewPrivileges`.
    pub no_new_privileges: bool,
    /// `oomScoreAdj`: none leaves the one inherited.
    pub oom_score_adj: Option<i32>,
    /// `apparmorProfile`
    pub apparmor_profile: Option<String>,
    /// `selinuxLabel`
    pub selinux_label: Option<String>,
    /// `scheduler`
    pub scheduler: Option<Scheduler>,
    /// `ioPriority`, as ioprio_set(2) takes it.
    pub io_priority: Option<u32>,
    /// `execCPUAffinity`: for an exec only.
    pub exec_cpu_affinity: Option<CpuAffinity>,
    /// `linux.personality`, as personality(2) takes it; an exec request has none of its own.
    pub personality: Option<u32>,
    /// `linux.memoryPolicy`; an exec request has none of its own.
    pub memory_policy: Option<MemoryPolicy>,
}

impl Process {
    /// Gives an exec what it leaves to `init`, the container's own process, as runc does.
    pub fn inherit(&mut self, init: &Self) {
        fn fill<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
            if own.is_none() {
                *own = other.cloned();
            }
        }
        if self.rlimits.is_empty() {
            self.rlimits.clone_from(&init.rlimits);
        }
        // Without a value of its own it would have the shim's, which is there to spare the shim.
        fill(&mut self.oom_score_adj, init.oom_score_adj.as_ref());
        fill(&mut self.apparmor_profile, init.apparmor_profile.as_ref());
        fill(&mut self.selinux_label, init.selinux_label.as_ref());
        fill(&mut self.scheduler, init.scheduler.as_ref());
        fill(&mut self.io_priority, init.io_priority.as_ref());
        fill(&mut self.exec_cpu_affinity, init.exec_cpu_affinity.as_ref());
        fill(&mut self.personality, init.personality.as_ref());
        fill(&mut self.memory_policy, init.memory_policy.as_ref());
    }
}

/// `process.scheduler`: the kernel's `struct sched_attr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduler {
    /// `policy` as `SCHED_*`.
    pub policy: u32,
    /// `nice`
    pub nice: i32,
    /// `priority`
    pub priority: u32,
    /// `flags` as `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// `runtime`, nanoseconds.
    pub runtime: u64,
    /// `deadline`, nanoseconds.
    pub deadline: u64,
    /// `period`, nanoseconds.
    pub period: u64,
}

impl Scheduler {
    /// Whether a child of a process that is scheduled so is not: sched(7), "Resetting scheduling policy for child processes",
    /// and `SCHED_DEADLINE`, with which a process cannot even fork.
    pub fn is_not_inherited(&self) -> bool {
        const SCHED_DEADLINE: u32 = 6;
        const SCHED_FLAG_RESET_ON_FORK: u64 = 1;
        self.policy == SCHED_DEADLINE || self.flags & SCHED_FLAG_RESET_ON_FORK != 0
    }
}

/// `process.execCPUAffinity`: CPUs as bits, CPU n in word n / 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuAffinity {
    /// `initial`: before the process enters the container's cgroup.
    pub initial: Option<Vec<u64>>,
    /// `final`: once it is there.
    pub last: Option<Vec<u64>>,
}

/// `linux.memoryPolicy`, as set_mempolicy(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `mode` and `flags`: `MPOL_*`.
    pub mode: u32,
    /// `nodes` as bits, node n in word n / 64; may be empty.
    pub nodes: Vec<u64>,
}

/// `process.user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// `umask`; the spec's default (0022) is filled in.
    pub umask: u32,
    /// `additionalGids`.
    pub additional_gids: Vec<u32>,
}

/// The five sets as masks: bit N is capability N of capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `bounding`
    pub bounding: u64,
    /// `effective`
    pub effective: u64,
    /// `inheritable`
    pub inheritable: u64,
    /// `permitted`
    pub permitted: u64,
    /// `ambient`
    pub ambient: u64,
}

/// `process.rlimits[]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// The kernel's `RLIMIT_*` number.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is infinity.
    pub hard: u64,
}
