//! Binds and the mounts around them: a bind may show what an earlier mount has brought into the container, and a later mount
//! may change what a bind has brought from the host. Told by the names in config.json, link or no link.

use std::path::{Path, PathBuf};

use config::container::{Mount, MountAttributes, MountKind};

/// What config.json says of the flags of a mount that comes from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In whose options: the place in `mounts`.
    pub mount: usize,
    /// What is set and cleared.
    pub attributes: MountAttributes,
    /// Whether that reaches the mounts below it, too.
    pub below: bool,
}

/// The path in the container of what mount `number` binds, where the mounts before it have a part in what is seen there. The
/// parent cannot open that, for nothing is mounted yet when it opens the sources; and links in it lead where they lead in the
/// container, for others may write on what was mounted.
pub(super) fn source_in_container(container: &config::Container, number: usize) -> Option<PathBuf> {
    let mount = container.mounts.get(number)?;
    let MountKind::Bind { source, recursive, .. } = &mount.kind else { return None };
    let path = Path::new("/").join(source.strip_prefix(&container.root.path).ok()?);
    let shows = |point: &Path| path.starts_with(point) || (*recursive && point.starts_with(&path));
    let mut earlier = container.mounts.iter().take(number).filter(|mount| brings_something(mount));
    earlier.any(|mount| shows(&mount.destination)).then_some(path)
}

/// All that is said of the flags of what mount `number` brings: by its own options, by remounts, and by binds that show it again.
pub(super) fn changes(container: &config::Container, number: usize) -> Vec<Change> {
    let own = container.mounts.get(number).into_iter().flat_map(|mount| of_options(number, mount, false));
    let later = container.mounts.iter().enumerate().skip(number + 1);
    let later = later.filter_map(|(at, mount)| {
        let path = match mount.kind {
            MountKind::Remount => mount.destination.clone(),
            _ => source_in_container(container, at)?,
        };
        let (carrier, point) = carrier(container, at, &path)?;
        (carrier == number).then(|| of_options(at, mount, path != point))
    });
    own.chain(later.flatten()).collect()
}

/// The mount before mount `number` that `path` lies on, and where it is.
fn carrier<'a>(container: &'a config::Container, number: usize, path: &Path) -> Option<(usize, &'a Path)> {
    let earlier = container.mounts.iter().take(number).enumerate();
    let carriers = earlier.filter(|(_, mount)| brings_something(mount) && path.starts_with(&mount.destination));
    let deepest = carriers.max_by_key(|(at, mount)| (mount.destination.components().count(), *at));
    deepest.map(|(at, mount)| (at, mount.destination.as_path()))
}

/// `below`: what is changed may be a mount below the one that is meant.
fn of_options(number: usize, mount: &Mount, below: bool) -> impl Iterator<Item = Change> + use<> {
    let own = Change { mount: number, attributes: mount.attributes, below };
    let all = Change { mount: number, attributes: mount.recursive_attributes, below: true };
    [own, all].into_iter().filter(|change| change.attributes.clear != 0)
}

fn brings_something(mount: &Mount) -> bool {
    mount.kind != MountKind::Remount
}
