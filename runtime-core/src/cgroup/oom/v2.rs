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
    kills: Kills,
    /// `oom` of each cgroup from ours upward: how often its own limit was hit.
    hits: RefCell<BTreeMap<PathBuf, u64>>,
}

impl Watch {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let events = Changing::open(&root.join("memory.events"))?;
        let watch = Self { root: root.to_owned(), events, kills: Kills::default(), hits: RefCell::default() };
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
            // A cgroup that is gone cannot say that it was its own limit, and if none above says so, it was.
            let gone = || (!self.root.exists()).then(|| self.root.clone());
            let limit_of = limit_of(&self.root, &mut self.hits.borrow_mut()).or_else(gone);
            Oom { kills, killed_in: self.root.clone(), limit_of }
        })
    }

    fn new_kills(&self, killed: bool) -> u64 {
        let own =
            || Some(self.events.text()).filter(|text| !text.is_empty()).map(|text| oom_kill(&Keyed::parse(&text)));
        let above = || self.root.parent().map_or(0, |above| oom_kill(&keyed(above, "memory.events")));
        self.kills.count(own, above, killed)
    }
}

fn oom_kill(events: &Keyed) -> u64 {
    events.get("oom_kill")
}

/// What was counted until now.
#[derive(Debug, Default)]
struct Kills {
    /// Ours.
    seen: Cell<u64>,
    /// Those that the cgroup above counts and that were not ours.
    others: Cell<u64>,
}

impl Kills {
    /// Those of ours that are new. `own` is none once our cgroup is gone, and what the one `above` says then counts only if one
    /// of ours was `killed`.
    fn count(&self, own: impl Fn() -> Option<u64>, above: impl Fn() -> u64, killed: bool) -> u64 {
        let now = match own() {
            Some(mut kills) => {
                let mut total = above();
                // The two are of one moment when ours has not changed meanwhile.
                while let Some(again) = own().filter(|again| *again != kills) {
                    (kills, total) = (again, above());
                }
                self.others.set(total.saturating_sub(kills));
                kills
            }
            None if killed => above().saturating_sub(self.others.get()),
            None => return 0,
        };
        now.saturating_sub(self.seen.replace(now.max(self.seen.get())))
    }
}

/// The cgroups from those below `root` up to the hierarchy's: whose own limit was hit since the last time that `hits` was
/// brought up to date; the lowest where it was several.
fn limit_of(root: &Path, hits: &mut BTreeMap<PathBuf, u64>) -> Option<PathBuf> {
    let mut hit = None;
    let below = subdirectories(root).unwrap_or_default();
    let above = root.ancestors().take_while(|above| above.join("memory.events.local").exists());
    for directory in below.into_iter().chain(above.map(Path::to_owned)) {
        let now = keyed(&directory, "memory.events.local").get("oom");
        let before = hits.insert(directory.clone(), now).unwrap_or(0);
        if now > before && hit.is_none() {
            hit = Some(directory);
        }
    }
    hit
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
            std::fs::write(directory.join("memory.events.local"), format!("oom {oom}\noom_kill 0\n")).unwrap();
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
        assert_eq!(limit_of(&container, &mut hits), Some(below));
    }
    #[test]
    fn a_cgroup_that_is_gone_is_counted_by_the_one_above() {
        let kills = Kills::default();
        let count = |own: Option<u64>, above: u64, killed| kills.count(|| own, || above, killed);
        assert_eq!(count(Some(2), 7, false), 2);
        assert_eq!(count(Some(2), 9, true), 0, "a neighbour's, seen in time, is not ours");
        assert_eq!(count(None, 9, true), 0, "killed, and not for want of memory");
        assert_eq!(count(None, 10, false), 0, "nobody of ours has ended");
        assert_eq!(count(None, 10, true), 1);
        assert_eq!(count(None, 10, true), 0, "told once");
    }

    /// A kill that comes between the two looks is ours all the same, and then not the others'.
    #[test]
    fn both_counts_are_of_one_moment() {
        let kills = Kills::default();
        let looks = Cell::new(0);
        let own = || Some(u64::from(looks.replace(looks.get() + 1) > 0));
        assert_eq!(kills.count(own, || 5 + u64::from(looks.get() > 0), false), 1);
        assert_eq!(kills.others.get(), 5);
    }
}
