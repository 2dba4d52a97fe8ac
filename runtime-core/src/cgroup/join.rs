//! The runtime's own process in a cgroup that somebody has made for it: the shim's `ShimCgroup`.

use std::path::Path;

use super::host::Host;
use super::write::put;
use crate::error::{Error, Kind, Result};

/// Moves the calling process, which has one thread, into the cgroup `path` below the root of every hierarchy that has it; what
/// it forks from then on is born there. Kind `NotFound` where none has.
pub fn join(path: &Path) -> Result<()> {
    let mut found = false;
    for hierarchy in &Host::get()?.hierarchies {
        let directory = hierarchy.path.join(path);
        if !directory.is_dir() {
            continue;
        }
        found = true;
        // As in a container's child: `tasks` takes no lock of the whole host.
        let file = directory.join(if hierarchy.is_v2 { "cgroup.procs" } else { "tasks" });
        put(&file, "0").map_err(|errno| Error::sys(format_args!("write 0 to {}", file.display()), errno))?;
    }
    if found {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, format!("no hierarchy has a cgroup /{}", path.display())))
}
