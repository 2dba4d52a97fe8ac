//! `linux.cgroupsPath`, config-linux.md "Cgroups Path": told apart by its form alone.
//!
//! No option says whether systemd shall make the cgroup when a client passes none (ctr, nerdctl), so the form
//! `slice:prefix:name`, which names nothing else that clients write, says it.

use std::path::{Component, Path, PathBuf};

use crate::container::CgroupPath;
use crate::id::ContainerId;
use crate::refuse::Refusal;

/// The slice that systemd puts services in, where none is named.
const DEFAULT_SLICE: &str = "system.slice";

pub(crate) fn resolve(path: Option<&Path>, id: &ContainerId) -> Result<CgroupPath, Refusal> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(CgroupPath::Relative(PathBuf::from(id.as_str())));
    };
    if let Some(text) = path.to_str().filter(|text| !text.contains('/'))
        && let [slice, prefix, name] = text.split(':').collect::<Vec<_>>()[..]
    {
        return systemd(slice, prefix, name);
    }
    let names = names(path)?;
    Ok(if path.is_absolute() { CgroupPath::Absolute(names) } else { CgroupPath::Relative(names) })
}

fn systemd(slice: &str, prefix: &str, name: &str) -> Result<CgroupPath, Refusal> {
    let slice = if slice.is_empty() { DEFAULT_SLICE } else { slice };
    if slice.strip_suffix(".slice").is_none() {
        return Err(Refusal::new("", format!("slice {slice} does not end in .slice")));
    }
    if name.is_empty() {
        return Err(Refusal::new("", "the part after the last colon is missing: it names the unit"));
    }
    Ok(CgroupPath::Systemd { slice: slice.to_owned(), prefix: prefix.to_owned(), name: name.to_owned() })
}

/// The path without its leading slash. `..` is refused and not resolved: what it leads to depends on where it starts.
fn names(path: &Path) -> Result<PathBuf, Refusal> {
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(Refusal::new("", format!("path {} has a .. in it", path.display())));
    }
    let normal = |component| if let Component::Normal(name) = component { Some(name) } else { None };
    let names: PathBuf = path.components().filter_map(normal).collect();
    if names.as_os_str().is_empty() {
        return Err(Refusal::new("", format!("path {} names no cgroup of the container's own", path.display())));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::resolve;
    use crate::container::CgroupPath::{self, Absolute, Relative, Systemd};
    use crate::id::ContainerId;

    fn of(path: &str) -> Result<CgroupPath, String> {
        let id = ContainerId::new("web").unwrap();
        resolve(Some(Path::new(path)), &id).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn the_form_decides() {
        let unit = |slice: &str, prefix: &str, name: &str| {
            Ok(Systemd { slice: slice.into(), prefix: prefix.into(), name: name.into() })
        };
        assert_eq!(of(""), Ok(Relative("web".into())));
        assert_eq!(of("/default//web/"), Ok(Absolute("default/web".into())));
        assert_eq!(of("./a/b"), Ok(Relative("a/b".into())));
        assert_eq!(of("a:b:c/d"), Ok(Relative("a:b:c/d".into())));
        assert_eq!(of("/a:b:c"), Ok(Absolute("a:b:c".into())));
        assert_eq!(of("kube-pod1.slice:cri-containerd:web"), unit("kube-pod1.slice", "cri-containerd", "web"));
        assert_eq!(of(":runc:web"), unit("system.slice", "runc", "web"));
        for bad in ["/", "/a/../..", "../a", ".", "x:y:z", "a.slice:y:"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
