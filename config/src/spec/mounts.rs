//! `mounts`, config.md "Mounts".
//!
//! `ro` on a new file system makes the mount read-only. Where there is something behind the file system (a disk image, an
//! upper layer, a server) its superblock is made read-only too, or the kernel would open the thing for writing; a file
//! system that lives in memory must stay writable below, for the runtime to make mount points and nodes in.

use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::statfs::{FsType, statfs};
use oci_spec::runtime as oci;

use crate::container::{Idmap, Ids, Mount, MountKind};
use crate::refuse::{At, Refusal};
use crate::spec::mount_options::{self, Data, MountOptions};
use crate::spec::{paths, user_namespace};

/// File systems with nothing behind them.
const IN_MEMORY: [&str; 17] = [
    "binfmt_misc",
    "bpf",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "proc",
    "pstore",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// File systems that count the versions of inodes whatever is said, so that `iversion` asks for what is there. The flag that
/// mount(2) has for the others has no name in fsconfig(2).
const COUNT_VERSIONS: [&str; 2] = ["btrfs", "xfs"];

/// It has an option of its own for that (from Linux 6.1 on it always counts them, and takes the option as before).
const EXT4: &str = "ext4";

/// What may be mounted over single files of /proc: those that lxcfs shows a container its own version of. Anything else
/// there could fake what the runtime itself reads and writes below /proc (CVE-2019-16884, CVE-2019-19921).
const OVER_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// The magic number of proc (linux/magic.h).
const PROC_MAGIC: FsType = FsType(libc::PROC_SUPER_MAGIC as _);

/// Resolves all mounts; relative sources of binds start at `bundle`. `own` are the ids of the container's user namespace.
pub(super) fn resolve(mounts: &[oci::Mount], bundle: &Path, own: Option<&Ids>) -> Result<Vec<Mount>, Refusal> {
    mounts.iter().enumerate().map(|(index, mount)| one(mount, bundle, own).at_index(index)).collect()
}

fn one(mount: &oci::Mount, bundle: &Path, own: Option<&Ids>) -> Result<Mount, Refusal> {
    let mut options = mount_options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = kind(mount, &mut options, bundle)?;
    let idmap = idmap(mount, &options, &kind, own)?;
    Ok(Mount {
        destination: destination(mount.destination(), &kind).at("/destination")?,
        kind,
        attributes: options.attributes,
        recursive_attributes: options.recursive_attributes,
        propagation: options.propagation,
        idmap,
    })
}

/// The mount's own maps win over the container's, which the options alone ask for.
fn idmap(
    mount: &oci::Mount,
    options: &MountOptions,
    kind: &MountKind,
    own: Option<&Ids>,
) -> Result<Option<Idmap>, Refusal> {
    let maps = user_namespace::maps(mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref())?;
    if maps.is_empty() && options.idmap.is_none() {
        return Ok(None);
    }
    let pointer = if maps.is_empty() { "/options" } else { "/uidMappings" };
    if matches!(kind, MountKind::Cgroup | MountKind::Remount) {
        return Err(Refusal::new(pointer, "only a bind or a new file system can be id-mapped"));
    }
    if matches!(kind, MountKind::Filesystem { copy_up: true, .. }) {
        return Err(Refusal::new(pointer, "an id-mapped file system cannot begin as a copy (tmpcopyup)"));
    }
    let ids = if maps.is_empty() { own.cloned() } else { Some(Ids::Maps(maps)) };
    let missing = "idmap: neither the mount nor the container has mappings";
    let ids = ids.ok_or_else(|| Refusal::new(pointer, missing))?;
    Ok(Some(Idmap { ids, recursive: options.idmap.unwrap_or(false) }))
}

/// What is mounted. Options decide before the type does: for a bind the type is said to mean nothing.
fn kind(mount: &oci::Mount, options: &mut MountOptions, bundle: &Path) -> Result<MountKind, Refusal> {
    let fs_type = mount.typ().as_deref().unwrap_or_default();
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    let data = std::mem::take(&mut options.data);
    let is_bind = !options.remount && (options.bind || fs_type == "bind");
    refuse_misplaced(options, fs_type, is_bind)?;
    if options.remount {
        refuse_data(&data, "a remount changes only the mount, not its file system")?;
        return Ok(MountKind::Remount);
    }
    if is_bind {
        refuse_data(&data, "a bind mount takes over the file system as it is")?;
        if source.as_os_str().is_empty() {
            return Err(Refusal::new("/source", "missing: a bind mount needs one"));
        }
        let (source, recursive) = (bundle.join(source), options.recursive);
        return Ok(MountKind::Bind { source, recursive, links: options.links });
    }
    match fs_type {
        "" | "none" => Err(Refusal::new("/type", "missing: the mount is neither a bind nor a remount")),
        "cgroup" | "cgroup2" => {
            refuse_data(&data, "is of the host's whole hierarchy, of which the container is shown a part")?;
            Ok(MountKind::Cgroup)
        }
        _ => Ok(MountKind::Filesystem {
            fs_type: fs_type.to_owned(),
            source: source.to_string_lossy().into_owned(),
            options: filesystem_options(fs_type, data, options),
            copy_up: options.copy_up.is_some(),
        }),
    }
}

/// Refuses options that mean something to other kinds of mounts only.
fn refuse_misplaced(options: &MountOptions, fs_type: &str, is_bind: bool) -> Result<(), Refusal> {
    let makes_one = !is_bind && !options.remount;
    let refuse = |index: Option<usize>, fits: bool, reason: &str| match index {
        Some(index) if !fits => Err(Refusal::new(format!("/options/{index}"), reason)),
        _ => Ok(()),
    };
    refuse(options.links_index, is_bind, "an option about links: only a bind mount has any to follow")?;
    refuse(options.copy_up, makes_one && fs_type == "tmpfs", "tmpcopyup: only a tmpfs can begin as a copy")?;
    let counts = makes_one && (fs_type == EXT4 || COUNT_VERSIONS.contains(&fs_type));
    refuse(options.count_versions, counts, "iversion: the kernel has no way to turn it on here")
}

/// Refuses options for a file system where none is made (the kernel would pass them over in silence). Taking back what is
/// off by default is no wish at all.
fn refuse_data(data: &[Data], reason: &str) -> Result<(), Refusal> {
    match data.iter().find(|option| !option.clears()) {
        Some(Data { index, key, .. }) => Err(Refusal::new(format!("/options/{index}"), format!("{key}: {reason}"))),
        None => Ok(()),
    }
}

fn filesystem_options(fs_type: &str, data: Vec<Data>, options: &MountOptions) -> Vec<(String, Option<String>)> {
    let mut list: Vec<_> = data.into_iter().map(|Data { key, value, .. }| (key, value)).collect();
    if options.count_versions.is_some() && fs_type == EXT4 {
        list.push(("i_version".to_owned(), None));
    }
    if options.attributes.set & libc::MOUNT_ATTR_RDONLY != 0 && !IN_MEMORY.contains(&fs_type) {
        list.push(("ro".to_owned(), None));
    }
    list
}

/// Where in the container. A relative path is taken to start at `/`, as runtimes have always done.
fn destination(path: &Path, kind: &MountKind) -> Result<PathBuf, Refusal> {
    if path.as_os_str().is_empty() {
        return Err(Refusal::new("", "missing"));
    }
    let path = paths::clean(path);
    if path == Path::new("/") {
        return Err(Refusal::new("", "a mount at / would hide the root file system, which root.path names"));
    }
    if path == Path::new("/proc") {
        return if is_proc(kind) { Ok(path) } else { Err(Refusal::new("", "only a proc may be mounted at /proc")) };
    }
    if path.starts_with("/proc") && !OVER_PROC.iter().any(|allowed| path == Path::new(allowed)) {
        return Err(Refusal::new("", format!("{} is inside /proc", path.display())));
    }
    Ok(path)
}

/// Whether a proc is what such a mount puts at its destination.
fn is_proc(kind: &MountKind) -> bool {
    match kind {
        MountKind::Filesystem { fs_type, .. } => fs_type == "proc",
        MountKind::Bind { source, .. } => statfs(source).is_ok_and(|found| found.filesystem_type() == PROC_MAGIC),
        MountKind::Remount => true,
        MountKind::Cgroup => false,
    }
}
