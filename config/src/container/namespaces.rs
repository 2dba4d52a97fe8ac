//! `linux.namespaces`, `linux.timeOffsets`: what is the container's own. (config-linux.md#namespaces; namespaces(7))

use std::path::PathBuf;

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
