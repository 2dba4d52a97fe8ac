//! Whose a container's cgroup is: config-linux.md "Cgroup ownership", cgroups(7) "Cgroups delegation: Delegating a hierarchy to
//! a less privileged user". On v2 alone, for on v1 it would not be safe.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::path::Path;

use config::container::{Container, MountKind, NamespaceKind};
use nix::libc::MOUNT_ATTR_RDONLY;

use super::host::{Host, Version};
use super::{Cgroup, Error, Result};

/// The kernel's list of what may be given away.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// What it is where the kernel has none, before 4.15.
const SHORT_LIST: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads";

/// Where the container's programs look for it.
const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// Whether `container` is to have cgroups of its own below its cgroup: it sees no other, and what it sees is writable.
pub(crate) fn is_delegated(container: &Container) -> bool {
    let is_new = container
        .namespaces
        .iter()
        .any(|namespace| namespace.kind == NamespaceKind::Cgroup && namespace.path.is_none());
    let is_writable = container.mounts.iter().any(|mount| {
        let set = mount.attributes.set | mount.recursive_attributes.set;
        mount.kind == MountKind::Cgroup && mount.destination == Path::new(MOUNT_POINT) && set & MOUNT_ATTR_RDONLY == 0
    });
    is_new && is_writable
}

impl Cgroup {
    /// Makes `owner` the owner of its directory, and of those files in it by which processes move and controllers are passed
    /// down; not of those that limit it. Nothing on v1.
    pub(crate) fn delegate(&self, owner: u32) -> Result<()> {
        let host = Host::get()?;
        let (Version::V2, Some(directory)) = (host.version, self.membership()?) else { return Ok(()) };
        give(directory, owner)?;
        let list = fs::read_to_string(LIST).unwrap_or_else(|_| SHORT_LIST.to_owned());
        // A cgroup has the files of those controllers that it was passed.
        list.lines().try_for_each(|file| give(&directory.join(file), owner))
    }
}

fn give(path: &Path, owner: u32) -> Result<()> {
    match chown(path, Some(owner), None) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format_args!("give {} to user {owner}", path.display()), &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
