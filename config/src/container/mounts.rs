//! `mounts`: what is mounted where, and with which attributes. (config.md#mounts; mount_setattr(2), mount_namespaces(7))

use std::path::PathBuf;

use crate::ids::IdMaps;

/// `mounts[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container: absolute, without `.` and `..`.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Attributes to set and clear on the mount (`ro`, `nosuid`, …).
    pub attributes: MountAttributes,
    /// The same, applied to the whole tree (`rro`, `rnosuid`, …).
    pub recursive_attributes: MountAttributes,
    /// `private`, `rslave`, …, in order.
    pub propagation: Vec<Propagation>,
    /// `uidMappings` and `gidMappings`, or the options `idmap` and `ridmap`.
    pub idmap: Option<Idmap>,
}

/// How the owners of files in a mount are shown: mount_setattr(2), "ID-mapped mounts".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idmap {
    /// By which ids.
    pub ids: Ids,
    /// `ridmap`: also the mounts below.
    pub recursive: bool,
}

/// Whose ids an id-mapped mount has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// Those of these maps; the container's own where the mount has none.
    Maps(IdMaps),
    /// Those of the user namespace at this path, which the container joins.
    Namespace(PathBuf),
}

/// What a mount's source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `bind` or `rbind` of a host path.
    Bind {
        /// Absolute host path (relative ones are resolved against the bundle).
        source: PathBuf,
        /// `rbind`
        recursive: bool,
        /// What is made of symbolic links.
        links: Links,
    },
    /// The container's cgroup tree, whichever version the host has (`type` of cgroup or cgroup2).
    Cgroup,
    /// A file system of the named type, made new.
    Filesystem {
        /// `proc`, `tmpfs`, `overlay`, …
        fs_type: String,
        /// As given; many types ignore it.
        source: String,
        /// Options that are the file system's own, as fsconfig(2) takes them: (`size`, `65536k`), (`newinstance`, none).
        options: Vec<(String, Option<String>)>,
        /// `tmpcopyup`: begins with a copy of what the image has at the destination. Of a tmpfs only.
        copy_up: bool,
    },
    /// `remount`: changes the attributes of what is already mounted at the destination.
    Remount,
}

/// What a bind makes of symbolic links in the last place of its two paths. They are followed where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Links {
    /// `src-nofollow`: a source that is a link is bound as such.
    pub source_nofollow: bool,
    /// `dest-nofollow`: a destination that is a link is mounted on, and not where it leads.
    pub destination_nofollow: bool,
    /// `copy-symlink`: a source that is a link is made anew at the destination, and nothing is mounted.
    pub copy: bool,
}

/// Bits of `mount_setattr(2)`: `MOUNT_ATTR_*`. A later option wins over an earlier one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// `attr_set`
    pub set: u64,
    /// `attr_clr`
    pub clear: u64,
}

/// Mount propagation, `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// The type.
    pub kind: PropagationKind,
    /// The `r` forms: the whole tree below.
    pub recursive: bool,
}

/// The four propagation types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationKind {
    /// `shared`
    Shared,
    /// `slave`
    Slave,
    /// `private`
    Private,
    /// `unbindable`
    Unbindable,
}
