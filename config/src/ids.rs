//! Id maps, user_namespaces(7) "User and group ID mappings": those of a container's user namespace, of an id-mapped mount and
//! of the options `uidmap=` and `gidmap=` that a rootfs may come with. All are held to the kernel's own rules here, for its
//! answer to any breach is the same EINVAL.

use std::fmt::Write as _;

use crate::container::User;
use crate::refuse::{At, Refusal};

/// The kernel takes no more lines in a map (4.15).
const MOST: usize = 340;

/// It takes a map in one write(2), which must be shorter than a page; the smallest page there is.
const PAGE_BYTES: usize = 4096;

/// One line of a map: ids from `container` on are the host's from `host` on. For an id-mapped mount `container` is the id in the
/// file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdMap {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// A map of users and one of groups; both empty, or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// `uidMappings`
    pub uids: Vec<IdMap>,
    /// `gidMappings`
    pub gids: Vec<IdMap>,
}

impl IdMap {
    fn host_of(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container).filter(|offset| *offset < self.size)?;
        self.host.checked_add(offset)
    }
}

/// `id`, unless it is the one number that is no id: setresuid(2), setresgid(2) and chown(2) take it for "leave it as it is", so that
/// a process would stay root.
pub(crate) fn real(id: u32) -> Result<u32, Refusal> {
    if id == u32::MAX { Err(Refusal::new("", format!("{id} is no id"))) } else { Ok(id) }
}

/// What `id` of the container is on the host; none where no line of `map` has it.
pub fn host_of(map: &[IdMap], id: u32) -> Option<u32> {
    map.iter().find_map(|line| line.host_of(id))
}

/// A map as the kernel takes it: `0 100000 65536`, a line each.
pub fn text(map: &[IdMap]) -> String {
    map.iter().fold(String::new(), |mut text, IdMap { container, host, size }| {
        let _ = writeln!(text, "{container} {host} {size}");
        text
    })
}

/// Refuses a map that the kernel would not take, by a pointer relative to the list.
pub fn check(map: &[IdMap]) -> Result<(), Refusal> {
    if map.len() > MOST {
        return Err(Refusal::new(format!("/{MOST}"), format!("the kernel takes at most {MOST} lines of a map")));
    }
    for (index, line) in map.iter().enumerate() {
        check_line(line, &map[..index]).at_index(index)?;
    }
    let bytes = text(map).len();
    if bytes >= PAGE_BYTES {
        return Err(Refusal::new("", format!("{bytes} bytes where the kernel takes {}", PAGE_BYTES - 1)));
    }
    Ok(())
}

fn check_line(line: &IdMap, before: &[IdMap]) -> Result<(), Refusal> {
    if line.size == 0 {
        return Err(Refusal::new("/size", "a map of no ids"));
    }
    // The last number, 2^32 - 1, is no id: it stands for "leave it as it is".
    let past = |start: u32| start.checked_add(line.size).is_none();
    if past(line.container) || past(line.host) {
        let from = if past(line.container) { line.container } else { line.host };
        return Err(Refusal::new("/size", format!("{} ids from {from} on are more than there are", line.size)));
    }
    let meet = |a: u32, b: u32, b_size: u32| a - a.min(b) < b_size && b - b.min(a) < line.size;
    for (index, other) in before.iter().enumerate() {
        if meet(line.container, other.container, other.size) {
            return Err(Refusal::new("/containerID", format!("ids that the entry {index} maps too")));
        }
        if meet(line.host, other.host, other.size) {
            return Err(Refusal::new("/hostID", format!("ids that the entry {index} maps to, too")));
        }
    }
    Ok(())
}

impl IdMaps {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// Refuses a user (of a process; pointers are relative to that) who does not exist by these maps. Without maps nothing is known.
    pub fn refuse_unmapped(&self, user: &User) -> Result<(), Refusal> {
        if self.is_empty() {
            return Ok(());
        }
        let mapped = |map: &[IdMap], id: u32, pointer: &str| match host_of(map, id) {
            Some(_) => Ok(()),
            None => Err(Refusal::new(pointer, format!("{id} is not mapped in the user namespace"))),
        };
        mapped(&self.uids, user.uid, "/user/uid")?;
        mapped(&self.gids, user.gid, "/user/gid")?;
        let mut groups = user.additional_gids.iter().enumerate();
        groups.try_for_each(|(index, gid)| mapped(&self.gids, *gid, "").at_index(index)).at("/user/additionalGids")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(u32, u32, u32)]) -> Vec<IdMap> {
        lines.iter().map(|&(container, host, size)| IdMap { container, host, size }).collect()
    }

    #[test]
    fn ids_are_looked_up_in_all_lines() {
        let map = map(&[(0, 100_000, 10), (20, 7, 1)]);
        let found = [0, 9, 10, 19, 20, 21].map(|id| host_of(&map, id));
        assert_eq!(found, [Some(100_000), Some(100_009), None, None, Some(7), None]);
    }

    #[test]
    fn the_greatest_maps() {
        assert_eq!(check(&map(&[(0, 0, u32::MAX)])), Ok(()));
        assert_eq!(check(&map(&[(1, 0, u32::MAX)])).unwrap_err().pointer, "/0/size");
        assert_eq!(check(&map(&[(0, 1, u32::MAX)])).unwrap_err().pointer, "/0/size");
        let lines = |count: u32, step: u32| map(&(0..count).map(|n| (step * n, step * n, 1)).collect::<Vec<_>>());
        assert_eq!(check(&lines(340, 2)), Ok(()));
        assert_eq!(check(&lines(341, 2)).unwrap_err().pointer, "/340");
        let long = check(&lines(340, 1_000_000)).unwrap_err();
        assert_eq!((long.pointer.as_str(), long.reason.ends_with("where the kernel takes 4095")), ("", true), "{long}");
    }

    fn any_line() -> impl Strategy<Value = (u32, u32, u32)> {
        (0..40_u32, 0..40_u32, 0..6_u32)
    }

    proptest! {
        /// A map is taken exactly if it is one: no id twice on either side, no empty line.
        #[test]
        fn what_is_taken_is_one_to_one(lines in proptest::collection::vec(any_line(), 0..6)) {
            let map = map(&lines);
            let once = |ids: fn(&IdMap) -> u32| {
                let mut all: Vec<u32> = map.iter().flat_map(|line| (0..line.size).map(move |n| ids(line) + n)).collect();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                all.len() == count
            };
            let good = once(|line| line.container) && once(|line| line.host) && map.iter().all(|line| line.size > 0);
            prop_assert_eq!(check(&map).is_ok(), good);
        }
    }
}
