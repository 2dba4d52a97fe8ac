//! Opens what a plan has the parent open of the host's file systems (`plan::handed` says when and why): detached mounts, which
//! the children attach.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use config::container::{Device, DeviceKind, Idmap, Ids};
use rustix::fs::{FileType, fstat, major, minor};

use crate::error::{Error, Kind, Result};
use crate::rootfs::{self, RootfsMount};
use crate::{ids, rootfs::setattr};

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

    fn apply(&mut self, mount: &OwnedFd, what: &str, idmap: &Idmap) -> Result<()> {
        setattr::idmap(mount.as_fd(), self.with(&idmap.ids)?.as_fd(), idmap.recursive)
            .map_err(|error| error.context(format_args!("id-map {what}")))
    }

    /// A copy of what is mounted at `path`.
    pub(crate) fn tree(
        &mut self,
        path: &Path,
        (recursive, nofollow): (bool, bool),
        propagation: u64,
        idmap: Option<&Idmap>,
    ) -> Result<OwnedFd> {
        let tree = copy(path, (recursive, nofollow), propagation)?;
        if let Some(idmap) = idmap {
            self.apply(&tree, &path.display().to_string(), idmap)?;
        }
        Ok(tree)
    }

    /// A new file system.
    pub(crate) fn filesystem(&mut self, mount: &RootfsMount, idmap: &Idmap) -> Result<OwnedFd> {
        let made = rootfs::detached(mount)?;
        self.apply(&made, &format!("a new {}", mount.fs_type), idmap)?;
        Ok(made)
    }
}

/// A copy of the device's node, if that is what the host has at its path.
pub(crate) fn device(device: &Device, propagation: u64) -> Result<OwnedFd> {
    let node = copy(&device.path, (false, false), propagation)?;
    let stat = fstat(&node).map_err(|errno| rootfs::sys(format_args!("stat {}", device.path.display()), errno))?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = (major(stat.st_rdev), minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) == kind && number == (device.major, device.minor) {
        return Ok(node);
    }
    let Device { path, major, minor, .. } = device;
    let text =
        format!("{} of the host is not the device {major}:{minor}, and a user namespace can make none", path.display());
    Err(Error::new(Kind::Invalid, text))
}

fn copy(path: &Path, (recursive, nofollow): (bool, bool), propagation: u64) -> Result<OwnedFd> {
    let tree = rootfs::clone_tree(path, recursive, nofollow)?;
    setattr::propagation(tree.as_fd(), propagation, true)
        .map_err(|error| error.context(format_args!("copy of {}", path.display())))?;
    Ok(tree)
}
