//! Opens what a plan has the parent open of the host's file systems (`plan::handed` says when and why): detached mounts, which
//! the children attach.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use config::container::{Device, DeviceKind, Idmap, Ids};
use init::step::NODE;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, fstat, major, makedev, minor, mknodat};

use crate::error::{Error, Kind, Result};
use crate::plan::{Change, Owner};
use crate::rootfs::{self, RootfsMount, setattr};
use crate::{ids, locked};

/// The user namespaces that id-mapped mounts of one plan have been given, for mounts with the same ids.
#[derive(Debug, Default)]
pub(crate) struct IdmapNamespaces(Vec<(Ids, OwnedFd)>);

impl IdmapNamespaces {
    fn with(&mut self, ids: &Ids) -> Result<&OwnedFd> {
        let at = self.0.iter().position(|(there, _)| there == ids);
        if at.is_none() {
            self.0.push((ids.clone(), ids::namespace(ids)?));
        }
        Ok(&self.0[at.unwrap_or(self.0.len() - 1)].1)
    }

    pub(crate) fn apply(&mut self, mount: &OwnedFd, what: &str, idmap: &Idmap) -> Result<()> {
        setattr::idmap(mount.as_fd(), self.with(&idmap.ids)?.as_fd(), idmap.recursive)
            .map_err(|error| error.context(format_args!("id-map {what}")))
    }

    /// A new file system.
    pub(crate) fn filesystem(&mut self, mount: &RootfsMount, idmap: &Idmap) -> Result<OwnedFd> {
        let made = rootfs::detached(mount)?;
        self.apply(&made, &format!("a new {}", mount.fs_type), idmap)?;
        Ok(made)
    }
}

/// A copy of what is mounted at `path`, if none of `changes` clears a flag that the host has set.
pub(crate) fn tree(path: &Path, how: (bool, bool), propagation: u64, changes: &[Change]) -> Result<OwnedFd> {
    let tree = copy(path, how, propagation)?;
    locked::refuse(&tree, path, how.1, changes)?;
    Ok(tree)
}

/// A copy of the device's node, if that is what the host has at its path; otherwise a new tmpfs with such a node in it.
pub(crate) fn device(device: &Device, owner: Owner, propagation: u64) -> Result<OwnedFd> {
    if let Ok(node) = copy(&device.path, (false, false), propagation)
        && is(&node, device)?
    {
        return Ok(node);
    }
    let made = owner.map_err(|reason| Error::new(Kind::Invalid, reason)).and_then(|owner| make(device, owner));
    made.map_err(|error| {
        let Device { path, major, minor, .. } = device;
        error.context(format_args!("make device {major}:{minor} for {}, which the host has not", path.display()))
    })
}

fn is(node: &OwnedFd, device: &Device) -> Result<bool> {
    let stat = fstat(node).map_err(|errno| rootfs::sys(format_args!("stat {}", device.path.display()), errno))?;
    let number = (major(stat.st_rdev), minor(stat.st_rdev));
    Ok(FileType::from_raw_mode(stat.st_mode) == file_type(device.kind) && number == (device.major, device.minor))
}

/// Nobody else sees it, so its node can be what config.json says. Made by the parent, it may be opened; on a mount that belongs to
/// a user namespace no device may.
fn make(device: &Device, (uid, gid): (u32, u32)) -> Result<OwnedFd> {
    let options = ["mode=755", "nosuid", "noexec"].map(str::to_owned).into();
    let (fs_type, source, target) = ("tmpfs".to_owned(), "tmpfs".to_owned(), String::new());
    let tmpfs = rootfs::detached(&RootfsMount { fs_type, source, target, options })?;
    let (kind, mode) = (file_type(device.kind), Mode::from_raw_mode(device.mode));
    let number = makedev(device.major, device.minor);
    mknodat(&tmpfs, NODE, kind, mode, number).map_err(|errno| rootfs::sys("mknod", errno))?;
    chownat(&tmpfs, NODE, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::empty())
        .map_err(|errno| rootfs::sys("chown", errno))?;
    // The runtime's umask has had a say.
    chmodat(&tmpfs, NODE, mode, AtFlags::empty()).map_err(|errno| rootfs::sys("chmod", errno))?;
    Ok(tmpfs)
}

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    }
}

fn copy(path: &Path, (recursive, nofollow): (bool, bool), propagation: u64) -> Result<OwnedFd> {
    let tree = rootfs::clone_tree(path, recursive, nofollow)?;
    setattr::propagation(tree.as_fd(), propagation, true)
        .map_err(|error| error.context(format_args!("copy of {}", path.display())))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_made_says_why() {
        let (path, kind, mode) = ("/dev/not-there".into(), DeviceKind::Character, 0o600);
        let wanted = Device { path, kind, major: 1, minor: 5, mode, uid: 7, gid: 8 };
        let error = device(&wanted, Err("for a reason"), 0).unwrap_err().to_string();
        assert_eq!(error, "make device 1:5 for /dev/not-there, which the host has not: for a reason");
    }
}
