//! What a container finds in its pod, where the pod has no pause container: its config.json names the pod's namespaces by
//! the pid of a process, and takes the pod's files to be mounted by whoever knows where they are.
//!
//! CRI writes `/proc/PID/ns/KIND` with the pid that the sandbox was reported with. Nothing of ours need live under that pid:
//! the path is a name here, read before any file is opened, and means what the sandbox holds.

use std::path::{Path, PathBuf};

use nix::libc;

use crate::container::{Container, Links, Mount, MountAttributes, MountKind, Namespace, NamespaceKind};

/// Where a pod's shared memory is in its containers.
const SHARED_MEMORY: &str = "/dev/shm";

/// What the containers of one pod share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// The pid that the sandbox is reported with; 0 where it has no process.
    pub pid: u32,
    /// The namespaces that the pod has to itself, each with a path.
    pub namespaces: Vec<Namespace>,
    /// Whether the pod is in the host's pid namespace.
    pub host_pid: bool,
    /// (place in the container, host path): mounted where config.json mounts nothing itself.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Host path of the memory that goes with the pod's ipc namespace.
    pub shared_memory: Option<PathBuf>,
}

/// What a path that names a namespace of the pod's means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shared<'a> {
    /// The pod's own, at this path.
    Own(&'a Path),
    /// The host's.
    Hosts,
    /// There is none: the pod's pid mode is CONTAINER, and a pid namespace of the pod's would need a process that lives for it,
    /// which this mode spares the pod. A pause container has one, in which such a container would find itself with the pause
    /// process. Kubernetes never asks for that: it gives a pod and its containers the same mode.
    Nothing,
}

impl Pod {
    /// What `path` means for a namespace of `kind`; none if it does not name the pod's.
    pub(crate) fn meant_by(&self, path: &Path, kind: NamespaceKind) -> Option<Shared<'_>> {
        if path != Path::new(&format!("/proc/{}/ns/{}", self.pid, kind.file_name())) {
            return None;
        }
        let own = self.namespaces.iter().find(|namespace| namespace.kind == kind);
        Some(match own.and_then(|namespace| namespace.path.as_deref()) {
            Some(path) => Shared::Own(path),
            None if kind == NamespaceKind::Pid && !self.host_pid => Shared::Nothing,
            None => Shared::Hosts,
        })
    }

    /// Gives `container` the pod's files. What it mounts itself in their place stays, but for a memory of its own where it
    /// shares the pod's ipc namespace: what shm_open(3) makes is a file there.
    pub(crate) fn furnish(&self, container: &mut Container) {
        // Read-only where the root is, as CRI mounts them.
        let set = if container.root.readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let attributes = MountAttributes { set, clear: 0 };
        for (destination, source) in &self.files {
            if !container.mounts.iter().any(|mount| mount.destination == *destination) {
                let kind = MountKind::Bind { source: source.clone(), recursive: false, links: Links::default() };
                container.mounts.push(mount(destination, kind, attributes));
            }
        }
        if let Some(source) = self.shared_memory.as_ref().filter(|_| self.shares_ipc(container)) {
            let kind = MountKind::Bind { source: source.clone(), recursive: false, links: Links::default() };
            match container.mounts.iter_mut().find(|mount| mount.destination == Path::new(SHARED_MEMORY)) {
                Some(own) if matches!(own.kind, MountKind::Filesystem { .. }) => own.kind = kind,
                Some(_) => {}
                None => container.mounts.push(mount(Path::new(SHARED_MEMORY), kind, MountAttributes::default())),
            }
        }
    }

    fn shares_ipc(&self, container: &Container) -> bool {
        let mine = self.namespaces.iter().find(|namespace| namespace.kind == NamespaceKind::Ipc);
        mine.is_some_and(|ipc| container.namespaces.contains(ipc))
    }
}

fn mount(destination: &Path, kind: MountKind, attributes: MountAttributes) -> Mount {
    let destination = destination.to_owned();
    Mount {
        destination,
        kind,
        attributes,
        recursive_attributes: MountAttributes::default(),
        propagation: Vec::new(),
        idmap: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_name_only_with_the_pods_own_pid() {
        let held = PathBuf::from("/proc/7/fd/3");
        let ipc = Namespace { kind: NamespaceKind::Ipc, path: Some(held.clone()) };
        let mut pod = Pod { pid: 0, namespaces: vec![ipc], ..Pod::default() };
        let meant = |pod: &Pod, path: &str, kind| match pod.meant_by(Path::new(path), kind) {
            None => "a file".to_owned(),
            Some(Shared::Own(path)) => path.display().to_string(),
            Some(Shared::Hosts) => "the host's".to_owned(),
            Some(Shared::Nothing) => "nothing".to_owned(),
        };
        assert_eq!(meant(&pod, "/proc/0/ns/ipc", NamespaceKind::Ipc), "/proc/7/fd/3");
        assert_eq!(meant(&pod, "/proc/0/ns/net", NamespaceKind::Ipc), "a file");
        assert_eq!(meant(&pod, "/proc/1/ns/ipc", NamespaceKind::Ipc), "a file");
        assert_eq!(meant(&pod, "/proc/0/ns/net", NamespaceKind::Network), "the host's");
        assert_eq!(meant(&pod, "/proc/0/ns/pid", NamespaceKind::Pid), "nothing");
        pod.host_pid = true;
        assert_eq!(meant(&pod, "/proc/0/ns/pid", NamespaceKind::Pid), "the host's");
        pod.pid = 12;
        assert_eq!(meant(&pod, "/proc/0/ns/ipc", NamespaceKind::Ipc), "a file");
        assert_eq!(meant(&pod, "/proc/12/ns/ipc", NamespaceKind::Ipc), "/proc/7/fd/3");
    }
}
