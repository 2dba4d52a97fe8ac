//! `mounts[].options` as mount(8) writes them, told apart into what each one is to the kernel's mount calls.
//!
//! Four sorts: attributes of the one mount (`mount_setattr(2)`), the same for the whole tree below (with an `r` in front),
//! propagation, and all the rest, which is the file system's own (fsconfig(2)). Of two options that contradict each other
//! the later one wins. One string may hold several options, separated by commas, as on mount(8)'s command line.

use nix::libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};

use crate::container::{Links, MountAttributes, Propagation, PropagationKind};

/// The options of one mount.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// `bind` or `rbind`.
    pub(super) bind: bool,
    /// `rbind`.
    pub(super) recursive: bool,
    /// `remount`.
    pub(super) remount: bool,
    /// `tmpcopyup`, and which of the strings it was in.
    pub(super) copy_up: Option<usize>,
    /// `iversion`, likewise.
    pub(super) count_versions: Option<usize>,
    pub(super) links: Links,
    /// Where the first of the options about links was.
    pub(super) links_index: Option<usize>,
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
pub(super) fn parse(options: &[String]) -> MountOptions {
    let mut parsed = MountOptions::default();
    for (index, options) in options.iter().enumerate() {
        for option in split(options) {
            parsed.add(index, option);
        }
    }
    parsed
}

impl MountOptions {
    fn add(&mut self, index: usize, option: &str) {
        match meaning(option) {
            Some(Meaning::Nothing) => {}
            Some(Meaning::Bind { recursive }) => (self.bind, self.recursive) = (true, self.recursive || recursive),
            Some(Meaning::Remount) => self.remount = true,
            Some(Meaning::Attribute(change)) => change.apply(&mut self.attributes),
            Some(Meaning::Propagation(propagation)) => self.propagation.push(propagation),
            Some(Meaning::Links(set)) => {
                set(&mut self.links);
                self.links_index.get_or_insert(index);
            }
            Some(Meaning::Idmap { recursive }) => self.idmap = Some(recursive),
            Some(Meaning::CopyUp) => self.copy_up = Some(index),
            Some(Meaning::CountVersions) => self.count_versions = Some(index),
            Some(Meaning::NoVersions) => self.count_versions = None,
            Some(Meaning::Superblock) => self.data.push(Data { index, key: option.to_owned(), value: None }),
            None => self.add_other(index, option),
        }
    }

    /// The recursive form of an attribute, or what only the file system understands.
    fn add_other(&mut self, index: usize, option: &str) {
        if let Some(Meaning::Attribute(change)) = option.strip_prefix('r').and_then(meaning) {
            return change.apply(&mut self.recursive_attributes);
        }
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (option, None),
        };
        self.data.push(Data { index, key: key.to_owned(), value });
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

/// What an option is to the kernel.
#[derive(Clone, Copy)]
enum Meaning {
    /// Nothing to do.
    Nothing,
    Bind {
        recursive: bool,
    },
    Remount,
    /// Of the one mount; with an `r` in front of its name, of the whole tree below.
    Attribute(Change),
    Propagation(Propagation),
    /// Changes what a bind makes of symbolic links.
    Links(fn(&mut Links)),
    Idmap {
        recursive: bool,
    },
    CopyUp,
    CountVersions,
    NoVersions,
    /// A flag that fsconfig(2) knows by this name for every file system.
    Superblock,
}

/// Every option that is not the file system's own. The table is what is accepted and what the features document claims.
const OPTIONS: [(&str, Meaning); 48] = [
    // The defaults are what is there without an option, the next two are about the kernel's log.
    ("defaults", Meaning::Nothing),
    ("silent", Meaning::Nothing),
    ("loud", Meaning::Nothing),
    ("iversion", Meaning::CountVersions),
    ("noiversion", Meaning::NoVersions),
    ("bind", Meaning::Bind { recursive: false }),
    ("rbind", Meaning::Bind { recursive: true }),
    ("remount", Meaning::Remount),
    ("ro", Meaning::Attribute(Change::Set(MOUNT_ATTR_RDONLY))),
    ("rw", Meaning::Attribute(Change::Clear(MOUNT_ATTR_RDONLY))),
    ("nosuid", Meaning::Attribute(Change::Set(MOUNT_ATTR_NOSUID))),
    ("suid", Meaning::Attribute(Change::Clear(MOUNT_ATTR_NOSUID))),
    ("nodev", Meaning::Attribute(Change::Set(MOUNT_ATTR_NODEV))),
    ("dev", Meaning::Attribute(Change::Clear(MOUNT_ATTR_NODEV))),
    ("noexec", Meaning::Attribute(Change::Set(MOUNT_ATTR_NOEXEC))),
    ("exec", Meaning::Attribute(Change::Clear(MOUNT_ATTR_NOEXEC))),
    ("nosymfollow", Meaning::Attribute(Change::Set(MOUNT_ATTR_NOSYMFOLLOW))),
    ("symfollow", Meaning::Attribute(Change::Clear(MOUNT_ATTR_NOSYMFOLLOW))),
    ("nodiratime", Meaning::Attribute(Change::Set(MOUNT_ATTR_NODIRATIME))),
    ("diratime", Meaning::Attribute(Change::Clear(MOUNT_ATTR_NODIRATIME))),
    ("relatime", Meaning::Attribute(Change::Keep(MOUNT_ATTR_RELATIME))),
    ("norelatime", Meaning::Attribute(Change::Unkeep(MOUNT_ATTR_RELATIME))),
    ("noatime", Meaning::Attribute(Change::Keep(MOUNT_ATTR_NOATIME))),
    ("atime", Meaning::Attribute(Change::Unkeep(MOUNT_ATTR_NOATIME))),
    ("strictatime", Meaning::Attribute(Change::Keep(MOUNT_ATTR_STRICTATIME))),
    ("nostrictatime", Meaning::Attribute(Change::Unkeep(MOUNT_ATTR_STRICTATIME))),
    ("shared", propagates(PropagationKind::Shared, false)),
    ("rshared", propagates(PropagationKind::Shared, true)),
    ("slave", propagates(PropagationKind::Slave, false)),
    ("rslave", propagates(PropagationKind::Slave, true)),
    ("private", propagates(PropagationKind::Private, false)),
    ("rprivate", propagates(PropagationKind::Private, true)),
    ("unbindable", propagates(PropagationKind::Unbindable, false)),
    ("runbindable", propagates(PropagationKind::Unbindable, true)),
    ("src-nofollow", Meaning::Links(|links| links.source_nofollow = true)),
    ("dest-nofollow", Meaning::Links(|links| links.destination_nofollow = true)),
    ("copy-symlink", Meaning::Links(|links| links.copy = true)),
    ("idmap", Meaning::Idmap { recursive: false }),
    ("ridmap", Meaning::Idmap { recursive: true }),
    ("tmpcopyup", Meaning::CopyUp),
    ("sync", Meaning::Superblock),
    ("async", Meaning::Superblock),
    ("dirsync", Meaning::Superblock),
    ("mand", Meaning::Superblock),
    ("nomand", Meaning::Superblock),
    ("lazytime", Meaning::Superblock),
    ("nolazytime", Meaning::Superblock),
    // Between two commas, or for the whole list.
    ("", Meaning::Nothing),
];

const fn propagates(kind: PropagationKind, recursive: bool) -> Meaning {
    Meaning::Propagation(Propagation { kind, recursive })
}

fn meaning(option: &str) -> Option<Meaning> {
    OPTIONS.iter().find(|(name, _)| *name == option).map(|(_, meaning)| *meaning)
}

/// The name of every option that is taken whatever the file system, the recursive forms included.
pub(crate) fn names() -> Vec<String> {
    let attribute =
        |(name, meaning): &(&str, Meaning)| matches!(meaning, Meaning::Attribute(_)).then(|| format!("r{name}"));
    let plain = OPTIONS.iter().map(|(name, _)| (*name).to_owned()).filter(|name| !name.is_empty());
    plain.chain(OPTIONS.iter().filter_map(attribute)).collect()
}

/// A propagation by its name: `private`, `rslave`, …
pub(super) fn propagation(name: &str) -> Option<Propagation> {
    match meaning(name) {
        Some(Meaning::Propagation(propagation)) => Some(propagation),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
