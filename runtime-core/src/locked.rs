//! Flags of mounts that a user namespace may not clear: mount_namespaces(7), "Restrictions on mount namespaces".
//!
//! The kernel locks the flags of mounts that it copies into the mount namespace of another user namespace. Those that the parent
//! hands over (`plan::handed` says why) are not copied so, and nothing is locked in them. What is said here in its place is the
//! kernel's rule, and runc's: flags stay where nothing is said of them, and an option that would clear one is an error. It may be
//! stricter than the host: `noatime` takes nothing away.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use config::container::MountAttributes;
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags, fstatvfs, statx};

use crate::error::{Error, Kind, Result};
use crate::plan::Change;
use crate::plan::display::{ATIME, ATTRIBUTES, NOATIME, STRICTATIME};
use crate::rootfs::{self, mountinfo};

const RDONLY: u64 = 1;

/// `MOUNT_ATTR_*` that are locked: all that have a name but nosymfollow.
const LOCKED: u64 = 0x8f;

/// The values of `MOUNT_ATTR__ATIME`, from the one by which most is written to the one by which nothing is.
const ACCESS_TIMES: [(u64, &str); 3] = [(STRICTATIME, "strictatime"), (0, "relatime"), (NOATIME, "noatime")];

/// Each locked flag with the option that sets it and the one that clears it.
fn flags() -> impl Iterator<Item = (u64, &'static str, &'static str)> {
    ATTRIBUTES.into_iter().filter(|(bit, ..)| LOCKED & bit != 0)
}

/// Refuses the first of `changes` that would clear what is set on the mount `tree`, a copy of the host's at `source`, or below it.
/// (`nofollow`: a link there is what was copied.)
pub(crate) fn refuse(tree: &OwnedFd, source: &Path, nofollow: bool, changes: &[Change]) -> Result<()> {
    for Change { mount, attributes, below } in changes {
        let set = own(tree, (source, nofollow), *attributes)?;
        refuse_one(*mount, *attributes, set, source)?;
        if *below {
            for (point, options) in mounts_below(source)? {
                refuse_one(*mount, *attributes, of_options(&options), &point)?;
            }
        }
    }
    Ok(())
}

fn refuse_one(mount: usize, attributes: MountAttributes, set: u64, point: &Path) -> Result<()> {
    let Some((flag, option)) = lost(attributes, set) else { return Ok(()) };
    let point = point.display();
    let text = format!(
        "/mounts/{mount}/options: {option}: the host has set {flag} on {point}, which a user namespace may not clear"
    );
    Err(Error::new(Kind::Invalid, text))
}

/// The flag among `set` that `attributes` clears, and the option that says so.
fn lost(attributes: MountAttributes, set: u64) -> Option<(&'static str, &'static str)> {
    let cleared = attributes.clear & !attributes.set & set;
    if let Some((_, flag, option)) = flags().find(|(bit, ..)| cleared & bit != 0) {
        return Some((flag, option));
    }
    let place = |value: u64| ACCESS_TIMES.into_iter().position(|(there, _)| there == value & ATIME);
    let (there, wanted) = (place(set)?, place(attributes.set)?);
    (attributes.clear & ATIME != 0 && wanted < there).then_some((ACCESS_TIMES[there].1, ACCESS_TIMES[wanted].1))
}

/// The flags of the mount itself. That nothing can be written may be its file system's alone, and is not locked then: where it
/// matters the table of mounts is asked.
fn own(tree: &OwnedFd, (source, nofollow): (&Path, bool), attributes: MountAttributes) -> Result<u64> {
    let failed = |errno| rootfs::sys(format_args!("look at the mount of {}", source.display()), errno);
    let set = of_statvfs(fstatvfs(tree).map_err(failed)?.f_flag);
    if set & RDONLY & attributes.clear & !attributes.set == 0 {
        return Ok(set);
    }
    let flags = if nofollow { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
    let mount = statx(CWD, source, flags, StatxFlags::MNT_ID).map_err(failed)?.stx_mnt_id;
    // One that is not in the table is of another mount namespace.
    Ok(mountinfo::options_of(&table()?, mount).map_or(set, |options| of_options(&options)))
}

fn of_statvfs(found: StatVfsMountFlags) -> u64 {
    let names = [
        (StatVfsMountFlags::RDONLY, "ro"),
        (StatVfsMountFlags::NOSUID, "nosuid"),
        (StatVfsMountFlags::NODEV, "nodev"),
        (StatVfsMountFlags::NOEXEC, "noexec"),
        (StatVfsMountFlags::NODIRATIME, "nodiratime"),
        (StatVfsMountFlags::NOATIME, "noatime"),
        (StatVfsMountFlags::RELATIME, "relatime"),
    ];
    let names: Vec<_> = names.into_iter().filter(|(flag, _)| found.contains(*flag)).map(|(_, name)| name).collect();
    of_options(&names.join(","))
}

/// `MOUNT_ATTR_*` of a mount's options as /proc/self/mountinfo has them: without a word about access times each one is written.
fn of_options(options: &str) -> u64 {
    let has = |name: &str| options.split(',').any(|option| option == name);
    let flags = flags().filter(|(_, name, _)| has(name)).fold(0, |set, (bit, ..)| set | bit);
    let [(written, _), others @ ..] = ACCESS_TIMES;
    flags | others.into_iter().find(|(_, name)| has(name)).map_or(written, |(value, _)| value)
}

/// The host's mounts below a path, with their options.
fn mounts_below(source: &Path) -> Result<Vec<(PathBuf, String)>> {
    let failed = |error| Error::io(format_args!("find the mounts below {}", source.display()), &error);
    let path = source.canonicalize().map_err(failed)?;
    Ok(mountinfo::options_below(&table()?, &path))
}

fn table() -> Result<Vec<u8>> {
    std::fs::read("/proc/self/mountinfo").map_err(|error| Error::io("read /proc/self/mountinfo", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: u64, clear: u64, there: &str) -> Option<(&'static str, &'static str)> {
        lost(MountAttributes { set, clear }, of_options(there))
    }

    #[test]
    fn what_is_set_is_lost_where_it_is_cleared_and_not_set_again() {
        assert_eq!(check(0, 2, "rw,nosuid,relatime"), Some(("nosuid", "suid")));
        assert_eq!(check(2, 2, "rw,nosuid,relatime"), None);
        assert_eq!(check(0, 0xf, "rw,relatime"), None);
        assert_eq!(check(0, 1, "ro,relatime"), Some(("ro", "rw")));
        assert_eq!(check(8, 0x80, "ro,nodiratime,noatime"), Some(("nodiratime", "diratime")));
        assert_eq!(check(0, 0x0020_0000, "rw,nosymfollow,relatime"), None, "the kernel locks no such flag");
    }

    #[test]
    fn access_times_may_be_written_less_often_only() {
        let all = ["noatime", "relatime", ""];
        for (less, there) in all.into_iter().enumerate() {
            for (more, (set, name)) in
                [0x10, 0, 0x20].into_iter().zip(["noatime", "relatime", "strictatime"]).enumerate()
            {
                let lost = check(set, ATIME, &format!("rw,{there}"));
                assert_eq!(lost.map(|(_, option)| option), (more > less).then_some(name), "{there} {name}");
            }
            assert_eq!(check(0, 0, there), None);
        }
    }
}
