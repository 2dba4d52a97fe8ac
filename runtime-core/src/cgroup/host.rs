//! The host's cgroup hierarchies, found once, and where the runtime itself stands in them; cgroups(7).
//!
//! A cgroup2 at /sys/fs/cgroup is v2; a tmpfs with hierarchies in it is v1, with or without a cgroup2 that has no controllers
//! (hybrid). Found by /proc/self/cgroup and the names under which every distribution mounts: the mount table, thousands of
//! lines on a busy host, is not read.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::error::{Error, Kind, Result};

const ROOT: &str = "/sys/fs/cgroup";
const OWN: &str = "/proc/self/cgroup";

/// Which files a cgroup has. Hybrid counts as v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// All hierarchies that are mounted.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) version: Version,
    /// One on v2.
    pub(super) hierarchies: Vec<Mounted>,
}

/// One hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// As /proc/self/cgroup has it: `memory`, `cpu,cpuacct`, `name=systemd`, empty for a cgroup2.
    pub(super) controllers: String,
    /// Where it is mounted.
    pub(super) path: PathBuf,
    /// The files of v2: on hybrid hosts the one without controllers has them too.
    pub(super) is_v2: bool,
}

impl Mounted {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }
}

impl Host {
    /// The host as it was first found.
    pub(super) fn get() -> Result<&'static Self> {
        static HOST: OnceLock<Host> = OnceLock::new();
        match HOST.get() {
            Some(host) => Ok(host),
            None => find().map(|host| HOST.get_or_init(|| host)),
        }
    }

    /// The hierarchy that `directory` lies in.
    pub(super) fn hierarchy_of(&self, directory: &Path) -> Option<&Mounted> {
        self.hierarchies.iter().find(|hierarchy| directory.starts_with(&hierarchy.path))
    }
}

/// The runtime's own cgroup in `hierarchy`, on the host. The hierarchy's root where it is not to be seen from here, as in a
/// container without a cgroup namespace.
pub(super) fn own_directory(hierarchy: &Mounted, table: &str) -> PathBuf {
    let own = lines(table).find(|(controllers, _)| *controllers == hierarchy.controllers).map(|(_, path)| path);
    let directory = hierarchy.path.join(own.unwrap_or_default().trim_start_matches('/'));
    if directory.is_dir() { directory } else { hierarchy.path.clone() }
}

/// /proc/self/cgroup, for [`own_directory`]; read anew each time, for the runtime may be moved.
pub(super) fn own_table() -> Result<String> {
    std::fs::read_to_string(OWN).map_err(|error| Error::io(format_args!("read {OWN}"), &error))
}

fn find() -> Result<Host> {
    if is_mounted(Path::new(ROOT), true) {
        let only = Mounted { controllers: String::new(), path: ROOT.into(), is_v2: true };
        return Ok(Host { version: Version::V2, hierarchies: vec![only] });
    }
    let table = own_table()?;
    let hierarchies: Vec<Mounted> = lines(&table).filter_map(|(controllers, _)| mounted(controllers)).collect();
    if !hierarchies.iter().any(|hierarchy| !hierarchy.is_v2) {
        return Err(Error::new(Kind::System, format!("no cgroup hierarchy is mounted at or below {ROOT}")));
    }
    Ok(Host { version: Version::V1, hierarchies })
}

/// (controllers, path) of each `id:controllers:path`.
pub(super) fn lines(table: &str) -> impl Iterator<Item = (&str, &str)> {
    table.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

/// Tries the names a hierarchy goes by: all its controllers, or any one of them where their order is another.
fn mounted(controllers: &str) -> Option<Mounted> {
    let is_v2 = controllers.is_empty();
    let whole = if is_v2 { "unified" } else { controllers.trim_start_matches("name=") };
    let names = std::iter::once(whole).chain(controllers.split(','));
    let mut paths = names.filter(|name| !name.is_empty()).map(|name| Path::new(ROOT).join(name));
    let path = paths.find(|path| is_mounted(path, is_v2))?;
    // A single controller's name may be a link to where all are mounted.
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    Some(Mounted { controllers: controllers.to_owned(), path, is_v2 })
}

fn is_mounted(path: &Path, is_v2: bool) -> bool {
    let magic = if is_v2 { CGROUP2_SUPER_MAGIC } else { CGROUP_SUPER_MAGIC };
    statfs(path).is_ok_and(|status| status.filesystem_type() == magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cgroups_by_hierarchy() {
        let table = "9:name=systemd:/a:b\n3:cpu,cpuacct:/\n0::/u\n";
        let all: Vec<_> = lines(table).collect();
        assert_eq!(all, [("name=systemd", "/a:b"), ("cpu,cpuacct", "/"), ("", "/u")]);
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("a:b")).unwrap();
        let hierarchy = |controllers: &str| Mounted {
            controllers: controllers.into(),
            path: scratch.path().into(),
            is_v2: controllers.is_empty(),
        };
        assert_eq!(own_directory(&hierarchy("name=systemd"), table), scratch.path().join("a:b"));
        assert_eq!(own_directory(&hierarchy(""), table), scratch.path(), "not to be seen");
        assert!(hierarchy("cpu,cpuacct").has("cpuacct") && !hierarchy("cpuset").has("cpu"));
    }

    #[test]
    fn this_host_has_its_mounts_found() {
        let host = Host::get().unwrap();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = table.lines().filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "));
        assert_eq!(host.hierarchies.len(), mounts.count());
    }
}
