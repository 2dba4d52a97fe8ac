//! `linux.uidMappings` and `linux.gidMappings`, config-linux.md "User namespace mappings".
//!
//! A new user namespace needs both, and root in them: the root file system is built as that. For one that is joined they say
//! what it should be like, as containerd sends them with the path; whether it is so is seen once it was joined.

use oci_spec::runtime as oci;

use crate::container::{Namespace, NamespaceKind};
use crate::ids::{self, IdMap, IdMaps};
use crate::refuse::{At, Refusal};

/// The maps of the container's user namespace. Pointers are relative to `linux`.
pub(super) fn resolve(linux: &oci::Linux, namespaces: &[Namespace]) -> Result<IdMaps, Refusal> {
    let maps = maps(linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref())?;
    let user = namespaces.iter().find(|namespace| namespace.kind == NamespaceKind::User);
    let is_new = user.is_some_and(|user| user.path.is_none());
    if user.is_none() && !maps.is_empty() {
        return Err(Refusal::new("/uidMappings", "needs a user namespace, new or joined"));
    }
    for (map, pointer) in [(&maps.uids, "/uidMappings"), (&maps.gids, "/gidMappings")] {
        if is_new {
            refuse_rootless(map).at(pointer)?;
        }
    }
    Ok(maps)
}

/// Refuses a map that a new user namespace cannot have.
pub(crate) fn refuse_rootless(map: &[IdMap]) -> Result<(), Refusal> {
    if ids::host_of(map, 0).is_some() {
        return Ok(());
    }
    let reason = if map.is_empty() { "missing: a new user namespace needs them" } else { "root, id 0, is not mapped" };
    Err(Refusal::new("", reason))
}

/// Two lists, checked; one alone is refused.
pub(super) fn maps(
    uids: Option<&[oci::LinuxIdMapping]>,
    gids: Option<&[oci::LinuxIdMapping]>,
) -> Result<IdMaps, Refusal> {
    let maps = IdMaps { uids: map(uids).at("/uidMappings")?, gids: map(gids).at("/gidMappings")? };
    match (maps.uids.is_empty(), maps.gids.is_empty()) {
        (true, false) => Err(Refusal::new("/uidMappings", "missing: there are gidMappings")),
        (false, true) => Err(Refusal::new("/gidMappings", "missing: there are uidMappings")),
        _ => Ok(maps),
    }
}

fn map(list: Option<&[oci::LinuxIdMapping]>) -> Result<Vec<IdMap>, Refusal> {
    let line =
        |line: &oci::LinuxIdMapping| IdMap { container: line.container_id(), host: line.host_id(), size: line.size() };
    let map: Vec<_> = list.unwrap_or_default().iter().map(line).collect();
    ids::check(&map).map(|()| map)
}
