//! A container without a mount namespace, config-linux.md "Namespaces": it is in the runtime's then.
//!
//! Whatever is mounted in that namespace is mounted on the host, for all to see, and stays there when the container has gone. So
//! what would mount something is refused by name. What is left is chroot(2) into the root, with devices as nodes on its file
//! system.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::runtime as oci;

use crate::container::{Container, NamespaceKind};
use crate::refuse::Refusal;

/// Refuses what such a container cannot have. `given` are its namespaces as config.json has them.
pub(super) fn check(container: &Container, given: &[oci::LinuxNamespace]) -> Result<(), Refusal> {
    if container.has(NamespaceKind::Mount) {
        return Ok(());
    }
    let Container { mounts, masked_paths, readonly_paths, root, process, rootfs_propagation, .. } = container;
    let mount = mounts.first().map(|mount| ("/mounts/0", format!("{} would be mounted", mount.destination.display())));
    let mask = masked_paths.first().map(|path| {
        let pointer = "/linux/maskedPaths/0";
        (pointer, format!("what hides {} would be mounted", path.display()))
    });
    let cover = readonly_paths.first().map(|path| {
        let pointer = "/linux/readonlyPaths/0";
        (pointer, format!("what makes {} read-only would be mounted", path.display()))
    });
    let readonly = root.readonly.then(|| ("/root/readonly", "it would be changed".to_owned()));
    let propagation = rootfs_propagation.map(|_| ("/linux/rootfsPropagation", "it would be changed".to_owned()));
    let terminal = process.terminal.then(|| ("/process/terminal", "it would be mounted at /dev/console".to_owned()));
    if let Some((pointer, what)) = [mount, mask, cover, readonly, propagation, terminal].into_iter().flatten().next() {
        return Err(Refusal::new(pointer, format!("{what} on the host: the container has no mount namespace")));
    }
    if container.has(NamespaceKind::User) {
        let user = given.iter().position(|namespace| namespace.typ() == oci::LinuxNamespaceType::User);
        let pointer = format!("/linux/namespaces/{}", user.unwrap_or_default());
        let reason = "needs a mount namespace: a user namespace can make no devices, and on the host it can mount none";
        return Err(Refusal::new(pointer, reason));
    }
    if is_slash(&root.path) {
        let reason = "the host's own root, in which devices would be made: the container has no mount namespace";
        return Err(Refusal::new("/root/path", reason));
    }
    Ok(())
}

/// Whether `path` leads to the runtime's own root.
fn is_slash(path: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    identity(path).is_some_and(|found| identity(Path::new("/")) == Some(found))
}
