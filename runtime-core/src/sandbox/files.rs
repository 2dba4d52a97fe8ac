//! What the containers of a pod share of the file system: /etc/hostname, /etc/hosts, /etc/resolv.conf and /dev/shm, made in the
//! sandbox's bundle. The same four that CRI makes for a pod with a pause container.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config::container::NamespaceKind;

use crate::error::{Error, Result};
use crate::rootfs::{self, RootfsMount};

/// In the bundle: the pod's memory, a tmpfs.
const SHARED_MEMORY: &str = "shm";

/// In the bundle: nothing, for a process to stand on.
const ROOT: &str = "rootfs";

/// What a container's own /dev/shm has by default, and CRI's.
const SHARED_MEMORY_SIZE: &str = "size=65536k";

/// What was made.
#[derive(Debug)]
pub(super) struct Files {
    /// (place in the container, host path)
    pub(super) mounts: Vec<(PathBuf, PathBuf)>,
    /// Where the pod has an ipc namespace of its own.
    pub(super) shared_memory: Option<PathBuf>,
}

/// Makes all that `spec` needs. On error nothing is mounted; plain files go with the bundle.
pub(super) fn make(spec: &config::Sandbox) -> Result<Files> {
    let root = root(&spec.bundle);
    fs::create_dir_all(&root).map_err(|error| Error::io(format!("mkdir {}", root.display()), &error))?;
    let name = spec.hostname.clone().unwrap_or_else(own_name);
    let texts = [
        ("hostname", format!("{name}\n")),
        ("hosts", of_host("/etc/hosts")?),
        ("resolv.conf", spec.resolv_conf.clone().map_or_else(|| of_host("/etc/resolv.conf"), Ok)?),
    ];
    let mut mounts = Vec::new();
    for (file, text) in texts {
        let path = spec.bundle.join(file);
        let written = fs::write(&path, text).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
        written.map_err(|error| Error::io(format!("write {}", path.display()), &error))?;
        mounts.push((Path::new("/etc").join(file), path));
    }
    let shared_memory = spec.has(NamespaceKind::Ipc).then(|| shared_memory(&spec.bundle)).transpose()?;
    Ok(Files { mounts, shared_memory })
}

/// Takes back what a failed create has made.
pub(super) fn take_back(spec: &config::Sandbox) {
    if let Err(error) = unmount(&spec.bundle) {
        log::warn!("undo a failed sandbox: {error}");
    }
}

/// Unmounts what [`make`] has mounted. Nothing there is no error.
pub(super) fn unmount(bundle: &Path) -> Result<()> {
    rootfs::unmount(&bundle.join(SHARED_MEMORY))
}

/// An empty directory.
pub(super) fn root(bundle: &Path) -> PathBuf {
    bundle.join(ROOT)
}

fn shared_memory(bundle: &Path) -> Result<PathBuf> {
    let path = bundle.join(SHARED_MEMORY);
    let options = ["nosuid", "nodev", "noexec", "mode=1777", SHARED_MEMORY_SIZE].map(str::to_owned).to_vec();
    let memory = RootfsMount { fs_type: "tmpfs".into(), source: "shm".into(), target: String::new(), options };
    rootfs::mount(&[memory], &path)?;
    Ok(path)
}

/// What a pod is called that was given no name: a new UTS namespace begins with its maker's.
fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A file of the host's; a host without it has nothing to say there.
fn of_host(path: &str) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| Error::io(format!("read {path}"), &error)),
    }
}
