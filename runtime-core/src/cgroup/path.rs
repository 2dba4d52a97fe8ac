//! `linux.cgroupsPath` to directories; runtime spec config-linux.md, "Cgroups Path". Pure but for the runtime's own place.

use std::path::{Path, PathBuf};

use config::container::CgroupPath;

use super::host::{self, Host, Mounted, Version};
use crate::error::{Error, Kind, Result};

/// The container's directory in each hierarchy of `host`, in its order.
pub(super) fn directories(host: &Host, path: &CgroupPath) -> Result<Vec<PathBuf>> {
    let below_root = |inner: &Path| host.hierarchies.iter().map(|hierarchy| hierarchy.path.join(inner)).collect();
    match path {
        CgroupPath::Absolute(inner) => Ok(below_root(&inside(inner)?)),
        CgroupPath::Systemd { slice, prefix, name } => Ok(below_root(&scope(slice, prefix, name)?)),
        CgroupPath::Relative(inner) => {
            let (inner, table) = (inside(inner)?, host::own_table()?);
            let below_own = |hierarchy: &Mounted| {
                let own = host::own_directory(hierarchy, &table);
                if host.version == Version::V2 { beside(hierarchy, &own).join(&inner) } else { own.join(&inner) }
            };
            Ok(host.hierarchies.iter().map(below_own).collect())
        }
    }
}

/// On v2 the runtime's own cgroup can pass no controllers down, for it has a process, the runtime; the one above can. runc
/// goes there too.
fn beside<'a>(hierarchy: &'a Mounted, own: &'a Path) -> &'a Path {
    own.parent().filter(|above| above.starts_with(&hierarchy.path)).unwrap_or(&hierarchy.path)
}

/// Holds for what `config` has resolved; checked once more, for what is made here is removed later with all below it.
fn inside(inner: &Path) -> Result<PathBuf> {
    let normal = |component| matches!(component, std::path::Component::Normal(_));
    if inner.as_os_str().is_empty() || !inner.components().all(normal) {
        return Err(Error::new(Kind::Invalid, format!("cgroup path {}: must name a cgroup inside", inner.display())));
    }
    Ok(inner.to_owned())
}

/// Where systemd would put the unit: `a-b.slice:cri:id` is `a.slice/a-b.slice/cri-id.scope`; systemd.slice(5).
fn scope(slice: &str, prefix: &str, name: &str) -> Result<PathBuf> {
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    inside(&expand(slice)?.join(unit(prefix, name)))
}

/// The unit's own name: `cri-id.scope`, or `name` itself where that is a slice's.
pub(super) fn unit(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        (_, name) if name.strip_suffix(".slice").is_some() => name.to_owned(),
        ("", name) => format!("{name}.scope"),
        (prefix, name) => format!("{prefix}-{name}.scope"),
    }
}

/// A dash in a slice's name is a step down: `a-b.slice` is `a.slice/a-b.slice`, `-.slice` the root.
fn expand(slice: &str) -> Result<PathBuf> {
    let stem = slice.strip_suffix(".slice").unwrap_or_default();
    let mut path = PathBuf::new();
    if stem == "-" {
        return Ok(path);
    }
    if stem.contains('/') || stem.split('-').any(str::is_empty) {
        return Err(Error::new(Kind::Invalid, format!("cgroup path: {slice:?} is not the name of a slice")));
    }
    let mut name = String::new();
    for part in stem.split('-') {
        name = if name.is_empty() { part.to_owned() } else { format!("{name}-{part}") };
        path.push(format!("{name}.slice"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_systemds_places() {
        let place = |slice, prefix, name| scope(slice, prefix, name).unwrap().display().to_string();
        assert_eq!(place("", "cri", "id"), "system.slice/cri-id.scope");
        assert_eq!(
            place("kubepods-besteffort-pod1_2.slice", "cri-containerd", "id"),
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-id.scope"
        );
        assert_eq!(place("-.slice", "", "id"), "id.scope");
        assert_eq!(place("a.slice", "p", "a-b.slice"), "a.slice/a-b.slice");
        for bad in ["a", "a--b.slice", "-a.slice", "a-.slice", ".slice", "a/b.slice"] {
            assert_eq!(scope(bad, "p", "n").unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
        assert!(scope("a.slice", "..", "/../../b").is_err());
    }

    #[test]
    fn beside_the_runtime_is_inside_the_hierarchy() {
        let hierarchy = Mounted { controllers: String::new(), path: "/h".into(), is_v2: true };
        for (own, place) in [("/h/a/b", "/h/a"), ("/h/a", "/h"), ("/h", "/h")] {
            assert_eq!(beside(&hierarchy, Path::new(own)), Path::new(place), "{own}");
        }
    }

    #[test]
    fn nothing_leads_outside() {
        for bad in ["", "/", "/a", "..", "a/../b", "./a"] {
            assert!(inside(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
