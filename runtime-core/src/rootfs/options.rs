//! mount(8) options told apart: attributes of the mount, propagation, and what is the file system's own.
//!
//! Pure. The names are those of mount(8) "FILESYSTEM-INDEPENDENT MOUNT OPTIONS"; bits are `mount_setattr(2)`'s `MOUNT_ATTR_*`.

use config::ids::{self, IdMap, IdMaps};

use crate::error::{Error, Kind, Result};

const RDONLY: u32 = 0x01;
const NOSUID: u32 = 0x02;
const NODEV: u32 = 0x04;
const NOEXEC: u32 = 0x08;
/// The field of access-time modes; relatime is 0 in it.
const ATIME: u32 = 0x70;
const NOATIME: u32 = 0x10;
const STRICTATIME: u32 = 0x20;
const NODIRATIME: u32 = 0x80;
const NOSYMFOLLOW: u32 = 0x20_0000;

const UNBINDABLE: u32 = 1 << 17;
const PRIVATE: u32 = 1 << 18;
const SLAVE: u32 = 1 << 19;
const SHARED: u32 = 1 << 20;

/// Options of one mount. A later option wins over an earlier one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `MOUNT_ATTR_*` to set; all that a new mount needs, for it starts with none.
    pub(super) set: u32,
    /// `MOUNT_ATTR_*` to clear, where a mount exists already (binds).
    pub(super) clear: u32,
    /// `bind` (false) or `rbind` (true).
    pub(super) bind: Option<bool>,
    /// `MS_*` of a propagation type, and whether for the whole tree, in order.
    pub(super) propagation: Vec<(u32, bool)>,
    /// `uidmap=` and `gidmap=`: whose ids the mount shows, for an overlay those of its lower layers.
    pub(super) maps: IdMaps,
    /// The rest, as fsconfig(2) takes it. Flags of the superblock (`ro`, `sync`) are among them.
    pub(super) own: Vec<(String, Option<String>)>,
}

impl Options {
    /// Sorts `options`; those of containerd's own (`X-containerd.*`) have served their purpose.
    pub(super) fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options.iter().flat_map(|option| split(option)) {
            if option.is_empty() || option == "defaults" || option.starts_with("X-containerd.") {
                continue;
            }
            parsed.add(&option)?;
        }
        let IdMaps { uids, gids } = &parsed.maps;
        if uids.is_empty() != gids.is_empty() {
            return Err(Error::new(Kind::Invalid, "the options uidmap and gidmap go together"));
        }
        for (name, map) in [("uidmap", uids), ("gidmap", gids)] {
            ids::check(map)
                .map_err(|refusal| Error::new(Kind::Invalid, format!("the option {name}: {}", refusal.reason)))?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        if let Some((set, clear)) = attributes(option) {
            self.set = self.set & !clear | set;
            self.clear = self.clear & !set | clear;
            // A new superblock is read-only in itself, as mount(2) makes it: a disk must not replay its journal.
            if option == "ro" || option == "rw" {
                self.own.retain(|(key, _)| key != "ro" && key != "rw");
                self.own.push((option.to_owned(), None));
            }
            return Ok(());
        }
        if let Some(propagation) = propagation(option) {
            self.propagation.push(propagation);
            return Ok(());
        }
        match option {
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "remount" => return Err(Error::new(Kind::Invalid, "the option remount has no meaning for a rootfs")),
            _ => match option.split_once('=') {
                Some(("uidmap", lines)) => self.maps.uids = id_map(option, lines)?,
                Some(("gidmap", lines)) => self.maps.gids = id_map(option, lines)?,
                Some((key, value)) => self.own.push((key.to_owned(), Some(value.to_owned()))),
                None => self.own.push((option.to_owned(), None)),
            },
        }
        Ok(())
    }

    /// The same as `MS_*` flags of mount(2).
    pub(super) fn mount_flags(&self) -> u32 {
        let mut flags = self.set & (RDONLY | NOSUID | NODEV | NOEXEC);
        for (attribute, flag) in
            [(NOATIME, 1 << 10), (STRICTATIME, 1 << 24), (NODIRATIME, 1 << 11), (NOSYMFOLLOW, 1 << 8)]
        {
            if self.set & attribute != 0 {
                flags |= flag;
            }
        }
        flags
    }
}

/// `CONTAINER:HOST:SIZE`, several of them with commas between, as containerd writes them.
fn id_map(option: &str, lines: &str) -> Result<Vec<IdMap>> {
    let line = |line: &str| {
        let mut numbers = line.split(':').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let line = IdMap { container: next()?, host: next()?, size: next()? };
        numbers.next().is_none().then_some(line)
    };
    let map = lines.split(',').map(line).collect::<Option<_>>();
    map.ok_or_else(|| Error::new(Kind::Invalid, format!("the option {option} is no id map")))
}

/// Splits at commas outside `\,`: a client may put several options into one string. A comma before a digit goes on with an id map.
fn split(option: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    let mut characters = option.chars().peekable();
    while let Some(character) = characters.next() {
        let part = parts.last().expect("starts with one part");
        let in_map = (part.starts_with("uidmap=") || part.starts_with("gidmap="))
            && characters.peek().is_some_and(char::is_ascii_digit);
        if character == ',' && !escaped && !in_map {
            parts.push(String::new());
        } else {
            parts.last_mut().expect("starts with one part").push(character);
        }
        escaped = character == '\\' && !escaped;
    }
    parts
}

/// (set, clear) of an option that is an attribute of the mount.
fn attributes(option: &str) -> Option<(u32, u32)> {
    Some(match option {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        "noatime" => (NOATIME, ATIME),
        "strictatime" => (STRICTATIME, ATIME),
        // relatime is what a mount has that says nothing.
        "atime" | "relatime" | "norelatime" | "nostrictatime" => (0, ATIME),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<(u32, bool)> {
    Some(match option {
        "private" => (PRIVATE, false),
        "rprivate" => (PRIVATE, true),
        "slave" => (SLAVE, false),
        "rslave" => (SLAVE, true),
        "shared" => (SHARED, false),
        "rshared" => (SHARED, true),
        "unbindable" => (UNBINDABLE, false),
        "runbindable" => (UNBINDABLE, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn overlay_options_are_told_apart() {
        let options = parse(&[
            "index=off",
            "X-containerd.mkdir.path=/a",
            "ro,nosuid",
            "volatile",
            "lowerdir=/a\\:b:/c",
            "rslave",
        ]);
        let own = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let wanted =
            [own("index", Some("off")), own("ro", None), own("volatile", None), own("lowerdir", Some("/a\\:b:/c"))];
        assert_eq!(options.own, wanted);
        assert_eq!((options.set, options.propagation), (RDONLY | NOSUID, vec![(SLAVE, true)]));
    }

    #[test]
    fn a_comma_in_a_path_is_escaped() {
        assert_eq!(split("lowerdir=/a\\,b,ro"), ["lowerdir=/a\\,b", "ro"]);
        assert_eq!(split("a\\\\,b"), ["a\\\\", "b"]);
    }

    #[test]
    fn remount_is_refused() {
        assert_eq!(Options::parse(&["remount".to_owned()]).unwrap_err().kind(), Kind::Invalid);
    }

    proptest! {
        /// The kernel answers EINVAL to a call that sets and clears one bit, atime modes apart, which it wants so.
        #[test]
        fn no_bit_is_set_and_cleared(names in proptest::collection::vec(proptest::sample::select(
            vec!["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "relatime", "strictatime"]), 0..8)) {
            let options = parse(&names);
            prop_assert_eq!(options.set & options.clear & !ATIME, 0);
            let last = names.iter().rev().find(|name| **name == "ro" || **name == "rw");
            prop_assert_eq!(options.set & RDONLY != 0, last == Some(&"ro"));
            if options.set & ATIME != 0 {
                prop_assert_eq!(options.clear & ATIME, ATIME);
            }
        }
    }
}
