//! v2: `memory.events`, whose change poll(2) reports, counts what happened below too; cgroup-v2.rst.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::events::Changing;
use super::super::processes::subdirectories;
use super::super::stats::Keyed;
use super::{Oom, keyed};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Watch {
    root: PathBuf,
    events: Changing,
    /// Of a cgroup that systemd may remove: the files that count its kills too.
    above: Vec<PathBuf>,
    kills: Kills,
    /// `oom` of each cgroup from ours upward: how often its own limit was hit.
    hits: RefCell<BTreeMap<PathBuf, u64>>,
}

impl Watch {
    pub(super) fn new(root: &Path, may_vanish: bool) -> Result<Self> {
        let events = Changing::open(&root.join("memory.events"))?;
        let above = if may_vanish { above(root) } else { Vec::new() };
        let watch = Self { root: root.to_owned(), events, above, kills: Kills::default(), hits: RefCell::default() };
        limit_of(root, &mut watch.hits.borrow_mut());
        watch.new_kills(false);
        Ok(watch)
    }

    pub(super) async fn changed(&self) -> Result<()> {
        self.events.changed().await
    }

    pub(super) fn count(&self, killed: bool) -> Option<Oom> {
        let kills = self.new_kills(killed);
        (kills > 0).then(|| {
            let limit_of = limit_of(&self.root, &mut self.hits.borrow_mut());
            Oom { kills, killed_in: self.root.clone(), limit_of }
        })
    }

    fn new_kills(&self, killed: bool) -> u64 {
        let own =
            || Some(self.events.text()).filter(|text| !text.is_empty()).map(|text| oom_kill(&Keyed::parse(&text)));
        let read = |file: &PathBuf| std::fs::read_to_string(file).ok().map(|text| oom_kill(&Keyed::parse(&text)));
        self.kills.count(own, || self.above.iter().map(read).collect(), killed)
    }
}

/// Who counts the kills below `root` as well, from the next cgroup up to the host itself, which alone is sure to stay: a slice
/// may go with its last scope.
fn above(root: &Path) -> Vec<PathBuf> {
    let cgroups = root.ancestors().skip(1).map(|above| above.join("memory.events"));
    cgroups.take_while(|file| file.exists()).chain(["/proc/vmstat".into()]).collect()
}

fn oom_kill(events: &Keyed) -> u64 {
    events.get("oom_kill")
}

/// What was counted until now.
#[derive(Debug, Default)]
struct Kills {
    /// Ours.
    seen: Cell<u64>,
    /// For each that counts ours too, those that were not ours; none where it is gone.
    others: RefCell<Vec<Option<u64>>>,
}

impl Kills {
    /// Those of ours that are new. `own` is none once our cgroup is gone, and what the lowest of those `above` that is left says
    /// then counts only if one of ours was `killed`.
    fn count(&self, own: impl Fn() -> Option<u64>, above: impl Fn() -> Vec<Option<u64>>, killed: bool) -> u64 {
        let now = match own() {
            Some(mut kills) => {
                let mut totals = above();
                // All are of one moment when ours has not changed meanwhile.
                while let Some(again) = own().filter(|again| *again != kills) {
                    (kills, totals) = (again, above());
                }
                let others = totals.into_iter().map(|total| total.map(|total| total.saturating_sub(kills)));
                self.others.replace(others.collect());
                kills
            }
            None if killed => {
                let others = self.others.borrow();
                let mut both = above().into_iter().zip(others.iter());
                both.find_map(|(total, others)| Some(total?.saturating_sub((*others)?))).unwrap_or(0)
            }
            None => return 0,
        };
        now.saturating_sub(self.seen.replace(now.max(self.seen.get())))
    }
}

/// The file that counts how often a cgroup's own limit was hit. It goes before the directory does.
const LOCAL: &str = "memory.events.local";

/// Of the cgroups from those below `root` up to the hierarchy's, the one whose own limit was hit since the last time that `hits`
/// was brought up to date; the lowest where it was several. A `root` that is gone cannot say that it was its own, and if none
/// above says so, it was.
fn limit_of(root: &Path, hits: &mut BTreeMap<PathBuf, u64>) -> Option<PathBuf> {
    let mut hit = None;
    let below = subdirectories(root).unwrap_or_default();
    let counts = |directory: &&Path| directory.join(LOCAL).exists();
    let above = root.ancestors().skip_while(|directory| !counts(directory)).take_while(counts);
    for directory in below.into_iter().chain(above.map(Path::to_owned)) {
        let now = keyed(&directory, LOCAL).get("oom");
        let before = hits.insert(directory.clone(), now).unwrap_or(0);
        if now > before && hit.is_none() {
            hit = Some(directory);
        }
    }
    hit.or_else(|| (!counts(&root)).then(|| root.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_cgroup_whose_limit_was_hit_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let pod = scratch.path().join("pod");
        let (container, below) = (pod.join("container"), pod.join("container/below"));
        std::fs::create_dir_all(&below).unwrap();
        let say = |directory: &Path, oom: u32| {
            std::fs::write(directory.join(LOCAL), format!("oom {oom}\noom_kill 0\n")).unwrap();
        };
        for directory in [&pod, &container, &below] {
            say(directory, 3);
        }
        let mut hits = BTreeMap::new();
        limit_of(&container, &mut hits);
        assert_eq!(limit_of(&container, &mut hits), None);
        say(&pod, 4);
        assert_eq!(limit_of(&container, &mut hits), Some(pod.clone()));
        say(&pod, 5);
        say(&below, 4);
        assert_eq!(limit_of(&container, &mut hits), Some(below.clone()));
        // The kernel removes a cgroup's files first, and then their directory.
        for directory in [&below, &container] {
            std::fs::remove_file(directory.join(LOCAL)).unwrap();
        }
        assert_eq!(limit_of(&container, &mut hits), Some(container.clone()));
        std::fs::remove_dir_all(&container).unwrap();
        assert_eq!(limit_of(&container, &mut hits), Some(container.clone()));
        say(&pod, 6);
        assert_eq!(limit_of(&container, &mut hits), Some(pod));
    }

    #[test]
    fn a_cgroup_that_is_gone_is_counted_by_the_one_above() {
        let kills = Kills::default();
        let count = |own: Option<u64>, above: u64, killed| kills.count(|| own, || vec![Some(above)], killed);
        assert_eq!(count(Some(2), 7, false), 2);
        assert_eq!(count(Some(2), 9, true), 0, "a neighbour's, seen in time, is not ours");
        assert_eq!(count(None, 9, true), 0, "killed, and not for want of memory");
        assert_eq!(count(None, 10, false), 0, "nobody of ours has ended");
        assert_eq!(count(None, 10, true), 1);
        assert_eq!(count(None, 10, true), 0, "told once");
    }

    #[test]
    fn of_those_above_the_lowest_that_is_left_counts() {
        let kills = Kills::default();
        let count = |own: Option<u64>, above: [Option<u64>; 3]| kills.count(|| own, || above.to_vec(), true);
        assert_eq!(count(Some(0), [Some(0), Some(4), Some(9)]), 0);
        // The slice is gone with its scope; elsewhere on the host two more were killed.
        assert_eq!(count(None, [None, Some(5), Some(12)]), 1);
        assert_eq!(count(None, [None, None, Some(12)]), 2, "there is nobody else to ask");
    }

    #[test]
    fn only_what_systemd_may_remove_asks_those_above() {
        let scratch = tempfile::tempdir().unwrap();
        let scope = scratch.path().join("slice/scope");
        std::fs::create_dir_all(&scope).unwrap();
        std::fs::write(scratch.path().join("slice/memory.events"), "oom_kill 0\n").unwrap();
        assert_eq!(above(&scope), [scratch.path().join("slice/memory.events"), "/proc/vmstat".into()]);
        let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap();
        assert!(vmstat.lines().any(|line| line.starts_with("oom_kill ")), "the host counts them");
    }

    /// A kill that comes between the two looks is ours all the same, and then not the others'.
    #[test]
    fn both_counts_are_of_one_moment() {
        let kills = Kills::default();
        let looks = Cell::new(0);
        let own = || Some(u64::from(looks.replace(looks.get() + 1) > 0));
        assert_eq!(kills.count(own, || vec![Some(5 + u64::from(looks.get() > 0))], false), 1);
        assert_eq!(*kills.others.borrow(), [Some(5)]);
    }
}
