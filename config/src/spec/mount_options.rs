//! `mounts[].options` as mount(8) writes them, told apart into what each one is to the kernel's mount calls.
//!
//! Four sorts: attributes of the one mount (`mount_setattr(2)`), the same for the whole tree below (with an `r` in front),
//! propagation, and all the rest, which is the file system's own (fsconfig(2)). Of two options that contradict each other
//! the later one wins. One string may hold several options, separated by commas, as on mount(8)'s command line.

use nix::libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};

use crate::container::{MountAttributes, Propagation, PropagationKind};
use crate::refuse::{At, Refusal};

/// The options of one mount.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// `bind` or `rbind`.
    pub(super) bind: bool,
    /// `rbind`.
    pub(super) recursive: bool,
    /// `remount`.
    pub(super) remount: bool,
    /// `idmap`, or `ridmap` (true).
    pub(super) idmap: Option<bool>,
    pub(super) attributes: MountAttributes,
    pub(super) recursive_attributes: MountAttributes,
    pub(super) propagation: Vec<Propagation>,
    /// What is left, in order.
    pub(super) data: Vec<Data>,
}

/// An option for the file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data {
    /// Which of the strings it was in.
    pub(super) index: usize,
    pub(super) key: String,
    pub(super) value: Option<String>,
}

impl Data {
    /// Whether it takes back a flag of the superblock. fsconfig(2) knows these for every file system.
    pub(super) fn clears(&self) -> bool {
        matches!(self.key.as_str(), "async" | "nomand" | "nolazytime") && self.value.is_none()
    }
}

/// Reads all of a mount's options.
pub(super) fn parse(options: &[String]) -> Result<MountOptions, Refusal> {
    let mut parsed = MountOptions::default();
    for (index, options) in options.iter().enumerate() {
        for option in split(options) {
            parsed.add(index, option).at_index(index)?;
        }
    }
    Ok(parsed)
}

impl MountOptions {
    fn add(&mut self, index: usize, option: &str) -> Result<(), Refusal> {
        match option {
            // Nothing to do: the defaults are what is there without an option, the next two are about the kernel's log,
            // and the kernel has long counted versions of inodes wherever it can.
            "" | "defaults" | "silent" | "loud" | "noiversion" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => return Err(Refusal::unsupported("", "tmpcopyup is")),
            // A flag of mount(2) that fsconfig(2) has no name for.
            "iversion" => return Err(Refusal::unsupported("", "iversion is")),
            _ => self.add_general(index, option),
        }
        Ok(())
    }

    fn add_general(&mut self, index: usize, option: &str) {
        if let Some(change) = change(option) {
            change.apply(&mut self.attributes);
        } else if let Some(propagation) = propagation(option) {
            self.propagation.push(propagation);
        } else if let Some(change) = option.strip_prefix('r').and_then(change) {
            change.apply(&mut self.recursive_attributes);
        } else {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (option, None),
            };
            self.data.push(Data { index, key: key.to_owned(), value });
        }
    }
}

/// Splits at commas, but for those behind a backslash, which overlayfs takes as part of a path.
fn split(options: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    options.split(move |c| {
        let separates = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        separates
    })
}

/// What an option does to the attributes of a mount.
#[derive(Clone, Copy)]
enum Change {
    Set(u64),
    Clear(u64),
    /// Chooses how access times are kept: one mode of three, that share the bits of `MOUNT_ATTR__ATIME`.
    Keep(u64),
    /// Takes back that choice. What is left is the kernel's default, `relatime`.
    Unkeep(u64),
}

impl Change {
    fn apply(self, attributes: &mut MountAttributes) {
        let MountAttributes { set, clear } = attributes;
        match self {
            Change::Set(bit) => (*set, *clear) = (*set | bit, *clear & !bit),
            Change::Clear(bit) => (*set, *clear) = (*set & !bit, *clear | bit),
            // `mount_setattr(2)` wants the whole mask cleared whenever the mode is to change.
            Change::Keep(mode) => (*set, *clear) = (*set & !MOUNT_ATTR__ATIME | mode, *clear | MOUNT_ATTR__ATIME),
            Change::Unkeep(mode) if *set & MOUNT_ATTR__ATIME != mode => *clear |= MOUNT_ATTR__ATIME,
            Change::Unkeep(_) => (*set, *clear) = (*set & !MOUNT_ATTR__ATIME, *clear | MOUNT_ATTR__ATIME),
        }
    }
}

fn change(option: &str) -> Option<Change> {
    Some(match option {
        "ro" => Change::Set(MOUNT_ATTR_RDONLY),
        "rw" => Change::Clear(MOUNT_ATTR_RDONLY),
        "nosuid" => Change::Set(MOUNT_ATTR_NOSUID),
        "suid" => Change::Clear(MOUNT_ATTR_NOSUID),
        "nodev" => Change::Set(MOUNT_ATTR_NODEV),
        "dev" => Change::Clear(MOUNT_ATTR_NODEV),
        "noexec" => Change::Set(MOUNT_ATTR_NOEXEC),
        "exec" => Change::Clear(MOUNT_ATTR_NOEXEC),
        "nosymfollow" => Change::Set(MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => Change::Clear(MOUNT_ATTR_NOSYMFOLLOW),
        "nodiratime" => Change::Set(MOUNT_ATTR_NODIRATIME),
        "diratime" => Change::Clear(MOUNT_ATTR_NODIRATIME),
        "relatime" => Change::Keep(MOUNT_ATTR_RELATIME),
        "norelatime" => Change::Unkeep(MOUNT_ATTR_RELATIME),
        "noatime" => Change::Keep(MOUNT_ATTR_NOATIME),
        "atime" => Change::Unkeep(MOUNT_ATTR_NOATIME),
        "strictatime" => Change::Keep(MOUNT_ATTR_STRICTATIME),
        "nostrictatime" => Change::Unkeep(MOUNT_ATTR_STRICTATIME),
        _ => return None,
    })
}

/// A propagation by its name: `private`, `rslave`, …
pub(super) fn propagation(name: &str) -> Option<Propagation> {
    let (kind, recursive) = match name {
        "shared" => (PropagationKind::Shared, false),
        "rshared" => (PropagationKind::Shared, true),
        "slave" => (PropagationKind::Slave, false),
        "rslave" => (PropagationKind::Slave, true),
        "private" => (PropagationKind::Private, false),
        "rprivate" => (PropagationKind::Private, true),
        "unbindable" => (PropagationKind::Unbindable, false),
        "runbindable" => (PropagationKind::Unbindable, true),
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

#[cfg(test)]
mod tests;
