//! The resolved container: what `spec` makes of config.json and what `runtime-core` compiles into a plan.
//!
//! Nothing here is optional because a user may leave it out, only because a container may really lack it. No string or
//! path holds a NUL byte; paths on the host are absolute; numbers are in the kernel's units. Field order and names follow
//! the runtime spec (config.md, config-linux.md, version 1.3).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ContainerId;
use crate::ids::IdMaps;
use crate::resources::Resources;

/// One container, ready to be planned.
#[derive(Debug, Clone)]
pub struct Container {
    /// The id that containerd or the command line gave.
    pub id: ContainerId,
    /// Absolute path of the bundle directory.
    pub bundle: PathBuf,
    /// `root`.
    pub root: Root,
    /// `process`: what init executes.
    pub process: Process,
    /// `hooks`.
    pub hooks: Hooks,
    /// `hostname`; present only with a UTS namespace of its own.
    pub hostname: Option<String>,
    /// `domainname`; present only with a UTS namespace of its own.
    pub domainname: Option<String>,
    /// `mounts`, in order.
    pub mounts: Vec<Mount>,
    /// `linux.namespaces`: one entry a kind at the most, in the order of [`NamespaceKind`]. A user namespace that is the runtime's
    /// own is left out, for the container inherits that one.
    pub namespaces: Vec<Namespace>,
    /// `linux.uidMappings` and `linux.gidMappings`: never empty with a new user namespace; with a joined one what it is to be
    /// like, where that was said.
    pub mappings: IdMaps,
    /// `linux.timeOffsets`; present only with a new time namespace.
    pub time_offsets: Vec<TimeOffset>,
    /// `linux.cgroupsPath`.
    pub cgroup: CgroupPath,
    /// `linux.resources`.
    pub resources: Resources,
    /// `linux.devices`, beside the default ones.
    pub devices: Vec<Device>,
    /// `linux.netDevices`; present only with a network namespace of its own.
    pub net_devices: Vec<NetDevice>,
    /// `linux.sysctl` as (path below /proc/sys, value): `net/ipv4/ip_forward`, `1`.
    pub sysctl: Vec<(String, String)>,
    /// `linux.maskedPaths`, absolute in the container.
    pub masked_paths: Vec<PathBuf>,
    /// `linux.readonlyPaths`, absolute in the container.
    pub readonly_paths: Vec<PathBuf>,
    /// `linux.rootfsPropagation`.
    pub rootfs_propagation: Option<Propagation>,
    /// `linux.seccomp`.
    pub seccomp: Option<Seccomp>,
    /// `linux.mountLabel`.
    pub mount_label: Option<String>,
    /// `annotations`, for those who look for theirs.
    pub annotations: Vec<(String, String)>,
}

/// `root`: the container's file system on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Absolute host path. It need not exist yet: the shim may still mount it.
    pub path: PathBuf,
    /// Whether `/` is made read-only at the end.
    pub readonly: bool,
}

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
    /// `env`: `NAME=value`.
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

/// `hooks`: what runs beside the container, in order, at six points of its life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `prestart`
    pub prestart: Vec<Hook>,
    /// `createRuntime`
    pub create_runtime: Vec<Hook>,
    /// `createContainer`
    pub create_container: Vec<Hook>,
    /// `startContainer`
    pub start_container: Vec<Hook>,
    /// `poststart`
    pub poststart: Vec<Hook>,
    /// `poststop`
    pub poststop: Vec<Hook>,
}

/// One of `hooks`. It can be written down, for who must run it after the runtime has died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// `path`: absolute, on the host or in the container, as its kind has it.
    pub path: PathBuf,
    /// `args`: the program's own name is the first; never empty.
    pub args: Vec<String>,
    /// `env`: all that it gets.
    pub env: Vec<String>,
    /// `timeout`: how long it may take.
    pub timeout: Option<Duration>,
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

/// `linux.namespaces[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Which kind.
    pub kind: NamespaceKind,
    /// The file to join; none makes a new one.
    pub path: Option<PathBuf>,
}

/// Namespace kinds in the order in which they are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceKind {
    /// `ipc`
    Ipc,
    /// `uts`
    Uts,
    /// `network`
    Network,
    /// `pid`
    Pid,
    /// `cgroup`
    Cgroup,
    /// `time`
    Time,
    /// `mount`
    Mount,
    /// `user`
    User,
}

/// `linux.timeOffsets[]`: what is added to a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOffset {
    /// Which clock.
    pub clock: Clock,
    /// `secs`
    pub seconds: i64,
    /// `nanosecs`: less than a second.
    pub nanoseconds: u32,
}

/// The clocks that a time namespace has to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `monotonic`
    Monotonic,
    /// `boottime`
    Boottime,
}

impl NamespaceKind {
    /// The kernel's name, in /proc/PID/ns.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
            Self::Mount => "mnt",
        }
    }
}

/// `linux.cgroupsPath`, told apart by its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupPath {
    /// Absolute (`/a/b`): below the root of each hierarchy. Held without the leading slash; never empty, no `..`.
    Absolute(PathBuf),
    /// Relative (`a/b`), or absent (then the container's id): below the cgroup of the runtime itself.
    Relative(PathBuf),
    /// `slice:prefix:name`, as systemd drivers are given it.
    Systemd {
        /// `system.slice` where left empty.
        slice: String,
        /// Prefix of the scope's name.
        prefix: String,
        /// Name of the scope, or of the unit itself when it ends in `.slice`.
        name: String,
    },
}

/// `mounts[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container: absolute, without `.` and `..`.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Attributes to set and clear on the mount (`ro`, `nosuid`, …).
    pub attributes: MountAttributes,
    /// The same, applied to the whole tree (`rro`, `rnosuid`, …).
    pub recursive_attributes: MountAttributes,
    /// `private`, `rslave`, …, in order.
    pub propagation: Vec<Propagation>,
    /// `uidMappings` and `gidMappings`, or the options `idmap` and `ridmap`.
    pub idmap: Option<Idmap>,
}

/// How the owners of files in a mount are shown: mount_setattr(2), "ID-mapped mounts".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idmap {
    /// By which ids.
    pub ids: Ids,
    /// `ridmap`: also the mounts below.
    pub recursive: bool,
}

/// Whose ids an id-mapped mount has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// Those of these maps; the container's own where the mount has none.
    Maps(IdMaps),
    /// Those of the user namespace at this path, which the container joins.
    Namespace(PathBuf),
}

/// What a mount's source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `bind` or `rbind` of a host path.
    Bind {
        /// Absolute host path (relative ones are resolved against the bundle).
        source: PathBuf,
        /// `rbind`
        recursive: bool,
        /// What is made of symbolic links.
        links: Links,
    },
    /// The container's cgroup tree, whichever version the host has (`type` of cgroup or cgroup2).
    Cgroup,
    /// A file system of the named type, made new.
    Filesystem {
        /// `proc`, `tmpfs`, `overlay`, …
        fs_type: String,
        /// As given; many types ignore it.
        source: String,
        /// Options that are the file system's own, as fsconfig(2) takes them: (`size`, `65536k`), (`newinstance`, none).
        options: Vec<(String, Option<String>)>,
        /// `tmpcopyup`: begins with a copy of what the image has at the destination. Of a tmpfs only.
        copy_up: bool,
    },
    /// `remount`: changes the attributes of what is already mounted at the destination.
    Remount,
}

/// What a bind makes of symbolic links in the last place of its two paths. They are followed where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Links {
    /// `src-nofollow`: a source that is a link is bound as such.
    pub source_nofollow: bool,
    /// `dest-nofollow`: a destination that is a link is mounted on, and not where it leads.
    pub destination_nofollow: bool,
    /// `copy-symlink`: a source that is a link is made anew at the destination, and nothing is mounted.
    pub copy: bool,
}

/// Bits of `mount_setattr(2)`: `MOUNT_ATTR_*`. A later option wins over an earlier one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// `attr_set`
    pub set: u64,
    /// `attr_clr`
    pub clear: u64,
}

/// Mount propagation, `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// The type.
    pub kind: PropagationKind,
    /// The `r` forms: the whole tree below.
    pub recursive: bool,
}

/// The four propagation types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationKind {
    /// `shared`
    Shared,
    /// `slave`
    Slave,
    /// `private`
    Private,
    /// `unbindable`
    Unbindable,
}

/// `linux.devices[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Absolute in the container.
    pub path: PathBuf,
    /// Character, block or fifo.
    pub kind: DeviceKind,
    /// Zero for a fifo.
    pub major: u32,
    /// Zero for a fifo.
    pub minor: u32,
    /// Permission bits (0666 where the spec leaves them out).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `linux.devices[].type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c`, and `u`
    Character,
    /// `b`
    Block,
    /// `p`
    Fifo,
}

/// `linux.netDevices{}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; a `%d` in it stands for the first number that is free.
    pub name: String,
}

/// `linux.seccomp`, by the kernel's and libseccomp's own names and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seccomp {
    /// `defaultAction`, with `defaultErrnoRet` folded in.
    pub default_action: SeccompAction,
    /// `architectures`, as spec strings (`SCMP_ARCH_X86_64`); the native one is always meant besides.
    pub architectures: Vec<String>,
    /// `flags` as `SECCOMP_FILTER_FLAG_*` bits.
    pub flags: u32,
    /// `syscalls`, in order.
    pub rules: Vec<SeccompRule>,
    /// Who answers the calls of [`SeccompAction::Notify`]: there, and only there, where a rule has that action.
    pub listener: Option<SeccompListener>,
}

/// The agent that is sent a filter's descriptor, and decides on the calls that it is notified of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompListener {
    /// `listenerPath`: a unix stream socket, absolute.
    pub path: PathBuf,
    /// `listenerMetadata`: for the agent, as it is.
    pub metadata: Option<String>,
}

/// `SCMP_ACT_*` with its errno where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeccompAction {
    /// `SCMP_ACT_KILL`, `SCMP_ACT_KILL_THREAD`
    KillThread,
    /// `SCMP_ACT_KILL_PROCESS`
    KillProcess,
    /// `SCMP_ACT_TRAP`
    Trap,
    /// `SCMP_ACT_ERRNO` (EPERM where `errnoRet` is absent)
    Errno(u16),
    /// `SCMP_ACT_TRACE`
    Trace(u16),
    /// `SCMP_ACT_LOG`
    Log,
    /// `SCMP_ACT_ALLOW`
    Allow,
    /// `SCMP_ACT_NOTIFY`: never the default action, and never for write(2).
    Notify,
}

/// One of `linux.seccomp.syscalls[]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeccompRule {
    /// System calls by name; ones unknown here are left out by the compiler, as the spec's users expect.
    pub names: Vec<String>,
    /// What happens.
    pub action: SeccompAction,
    /// All must hold.
    pub conditions: Vec<SeccompCondition>,
}

/// One of `args[]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeccompCondition {
    /// Argument number, 0 to 5.
    pub index: u32,
    /// How it is compared.
    pub operator: SeccompOperator,
    /// `value`; the mask for [`SeccompOperator::MaskedEqual`].
    pub value: u64,
    /// `valueTwo`: what the masked value must equal.
    pub value_two: u64,
}

/// `SCMP_CMP_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeccompOperator {
    /// `SCMP_CMP_NE`
    NotEqual,
    /// `SCMP_CMP_LT`
    Less,
    /// `SCMP_CMP_LE`
    LessOrEqual,
    /// `SCMP_CMP_EQ`
    Equal,
    /// `SCMP_CMP_GE`
    GreaterOrEqual,
    /// `SCMP_CMP_GT`
    Greater,
    /// `SCMP_CMP_MASKED_EQ`
    MaskedEqual,
}
