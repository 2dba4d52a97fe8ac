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
    seen: Cell<u64>,
    /// `oom` of each cgroup from ours upward: how often its own limit was hit.
    hits: RefCell<BTreeMap<PathBuf, u64>>,
}

impl Watch {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let events = Changing::open(&root.join("memory.events"))?;
        let watch = Self { root: root.to_owned(), events, seen: Cell::new(0), hits: RefCell::default() };
        limit_of(root, &mut watch.hits.borrow_mut());
        watch.seen.set(watch.kills());
        Ok(watch)
    }

    pub(super) async fn changed(&self) -> Result<()> {
        self.events.changed().await
    }

    pub(super) fn count(&self) -> Option<Oom> {
        let now = self.kills();
        let kills = now.saturating_sub(self.seen.replace(now.max(self.seen.get())));
        (kills > 0).then(|| Oom {
            kills,
            killed_in: self.root.clone(),
            limit_of: limit_of(&self.root, &mut self.hits.borrow_mut()),
        })
    }

    fn kills(&self) -> u64 {
        Keyed::parse(&self.events.text()).get("oom_kill")
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
}
