//! The resolved container: what `spec` makes of config.json and what `runtime-core` compiles into a plan.
//!
//! Nothing here is optional because a user may leave it out, only because a container may really lack it. No string or
//! path holds a NUL byte; paths on the host are absolute; numbers are in the kernel's units. Field order and names follow
//! the runtime spec (config.md, config-linux.md, version 1.3).

mod devices;
mod hooks;
mod mounts;
mod namespaces;
mod process;
mod seccomp;

use std::path::PathBuf;

pub use devices::{Device, DeviceKind, NetDevice};
pub use hooks::{Hook, Hooks};
pub use mounts::{Idmap, Ids, Links, Mount, MountAttributes, MountKind, Propagation, PropagationKind};
pub use namespaces::{Clock, Namespace, NamespaceKind, TimeOffset};
pub use process::{Capabilities, CpuAffinity, MemoryPolicy, Process, Rlimit, Scheduler, User};
pub use seccomp::{Seccomp, SeccompAction, SeccompCondition, SeccompListener, SeccompOperator, SeccompRule};

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

impl Container {
    /// Whether it has a namespace of this kind, new or joined. Of the others it is in the runtime's.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.namespaces.iter().any(|namespace| namespace.kind == kind)
    }
}

/// `root`: the container's file system on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Absolute host path. It need not exist yet: the shim may still mount it.
    pub path: PathBuf,
    /// Whether `/` is made read-only at the end.
    pub readonly: bool,
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
