//! Id maps of user namespaces: written, read, and made for an id-mapped mount alone. user_namespaces(7), "User and group ID
//! mappings".
//!
//! The maps are written by the runtime itself, which is root: newuidmap(1) is for a runtime that is not, and such a one is refused
//! by the kernel here (EPERM). /proc/PID/setgroups is left at `allow`: who was given a group by root may drop it. A namespace
//! where it is `deny` can be joined; the groups of the runtime are dropped before that (CVE-2014-8989).

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use config::container::Ids;
use config::ids::{IdMap, IdMaps};

use crate::error::{Error, Kind, Result};
use crate::kept::Kept;

/// Gives the new user namespace that the process `pid` is in its maps.
pub(crate) fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    for (file, map) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        let path = path(pid, file);
        let text = config::ids::text(map);
        let failed = |error| Error::io(format_args!("write {:?} to {}", text.trim_end(), path.display()), &error);
        // In one write(2), as the kernel wants it.
        fs::write(&path, &text).map_err(failed)?;
    }
    expect(pid, maps)
}

/// Makes sure that the user namespace which the process `pid` is in has these maps.
pub(crate) fn expect(pid: i32, maps: &IdMaps) -> Result<()> {
    let IdMaps { uids, gids } = read(pid)?;
    for (pointer, there, wanted) in [("uidMappings", uids, &maps.uids), ("gidMappings", gids, &maps.gids)] {
        if joined(&there) != joined(wanted) {
            let there = config::ids::text(&there);
            let text = format!(
                "/linux/{pointer}: the user namespace has another map: {}",
                there.trim_end().replace('\n', ", ")
            );
            return Err(Error::new(Kind::Invalid, text));
        }
    }
    Ok(())
}

/// The maps of the user namespace that the process `pid` is in.
pub(crate) fn read(pid: i32) -> Result<IdMaps> {
    let map = |file| {
        let path = path(pid, file);
        let text =
            fs::read_to_string(&path).map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
        let lines = text.lines().map(line).collect::<Option<Vec<_>>>();
        lines.ok_or_else(|| Error::new(Kind::System, format!("{}: no id map: {text:?}", path.display())))
    };
    Ok(IdMaps { uids: map("uid_map")?, gids: map("gid_map")? })
}

/// What the user `uid` of the process `pid`'s user namespace is to us.
pub(crate) fn host_user(pid: i32, uid: u32) -> Result<u32> {
    let unmapped = || Error::new(Kind::Invalid, format!("user {uid} is not mapped in the user namespace"));
    config::ids::host_of(&read(pid)?.uids, uid).ok_or_else(unmapped)
}

/// A user namespace with these ids. One that is made for that has no process once this returns, and lives while the file is open.
pub(crate) fn namespace(ids: &Ids) -> Result<OwnedFd> {
    let open = |path: PathBuf| {
        let file = File::open(&path);
        file.map(OwnedFd::from).map_err(|error| Error::io(format_args!("open {}", path.display()), &error))
    };
    match ids {
        Ids::Namespace(path) => open(path.clone()),
        Ids::Maps(maps) => {
            let kept = Kept::fork_into_user_namespace()?;
            write(kept.pid(), maps)?;
            open(path(kept.pid(), "ns/user"))
        }
    }
}

fn path(pid: i32, file: &str) -> PathBuf {
    format!("/proc/{pid}/{file}").into()
}

fn line(line: &str) -> Option<IdMap> {
    let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(IdMap { container: next()?, host: next()?, size: next()? })
}

/// In order, and in as few lines as it can be said: two maps are the same if these are.
fn joined(map: &[IdMap]) -> Vec<IdMap> {
    let mut sorted = map.to_vec();
    sorted.sort_unstable_by_key(|line| line.container);
    let mut joined: Vec<IdMap> = Vec::with_capacity(sorted.len());
    for line in sorted {
        match joined.last_mut() {
            Some(last) if follows(last, &line) => last.size += line.size,
            _ => joined.push(line),
        }
    }
    joined
}

fn follows(last: &IdMap, line: &IdMap) -> bool {
    let ends = |start: u32| start.checked_add(last.size);
    ends(last.container) == Some(line.container) && ends(last.host) == Some(line.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(u32, u32, u32)]) -> Vec<IdMap> {
        lines.iter().map(|&(container, host, size)| IdMap { container, host, size }).collect()
    }

    #[test]
    fn the_same_map_in_other_words() {
        assert_eq!(joined(&map(&[(10, 110, 5), (0, 100, 10), (15, 7, 1)])), map(&[(0, 100, 15), (15, 7, 1)]));
        assert_ne!(joined(&map(&[(0, 100, 10)])), joined(&map(&[(0, 101, 10)])));
    }

    #[test]
    fn a_namespace_is_made_with_its_maps() {
        let maps = IdMaps { uids: map(&[(0, 100_000, 7), (9, 3, 1)]), gids: map(&[(0, 5, 1)]) };
        let kept = Kept::fork_into_user_namespace().unwrap();
        assert_eq!(read(kept.pid()).unwrap(), IdMaps::default());
        write(kept.pid(), &maps).unwrap();
        assert_eq!(read(kept.pid()).unwrap(), maps);
        let other = IdMaps { gids: map(&[(0, 6, 1)]), ..maps.clone() };
        let error = expect(kept.pid(), &other).unwrap_err().to_string();
        assert_eq!(error, "/linux/gidMappings: the user namespace has another map: 0 5 1");
        let again = write(kept.pid(), &maps).unwrap_err().to_string();
        assert!(again.starts_with("write \"0 100000 7\\n9 3 1\" to /proc/") && again.contains("EPERM"), "{again}");
    }

    #[test]
    fn a_namespace_outlives_its_process() {
        let maps = IdMaps { uids: map(&[(0, 1, 1)]), gids: map(&[(0, 1, 1)]) };
        assert!(namespace(&Ids::Maps(maps)).is_ok());
    }
}
