//! `linux.seccomp`, by the kernel's and libseccomp's names and numbers. (config-linux.md#seccomp; seccomp(2))

use std::path::PathBuf;

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
