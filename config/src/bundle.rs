//! The way in: a bundle directory's `config.json` becomes a [`Container`], the JSON of an exec request a
//! [`Process`], and that of an update [`Resources`].
//!
//! The shim calls all three, the OCI command line the first two. What a bundle is: runtime spec, bundle.md.

use std::fs;
use std::path::Path;

use oci_spec::runtime as oci;

use crate::container::{Container, Process};
use crate::id::ContainerId;
use crate::pod::Pod;
use crate::refuse::Refusal;
use crate::resources::Resources;
use crate::{json, spec};

/// A bundle directory, as the runtime spec's bundle.md describes it.
#[derive(Debug, Clone)]
pub struct Bundle;

impl Bundle {
    /// Reads `config.json` of the bundle at `path` (absolute) and resolves all of it. Nothing else of the bundle need
    /// exist yet.
    pub fn read(path: &Path, id: &ContainerId) -> Result<Container, Refusal> {
        Self::read_in(path, id, None)
    }

    /// The same for a container of `pod`.
    pub fn read_in(path: &Path, id: &ContainerId, pod: Option<&Pod>) -> Result<Container, Refusal> {
        if !path.is_absolute() {
            return Err(Refusal::new("", format!("bundle path {} is not absolute", path.display())));
        }
        let file = path.join("config.json");
        let text = fs::read(&file).map_err(|error| Refusal::new("", format!("read {}: {error}", file.display())))?;
        spec::container(&json::read::<oci::Spec>(&text).map_err(whole)?, path, id, pod)
    }

    /// Resolves the text of a `config.json`, as [`Bundle::read`] does with that of the bundle at `path`.
    pub fn resolve(text: &[u8], path: &Path, id: &ContainerId) -> Result<Container, Refusal> {
        spec::container(&json::read::<oci::Spec>(text).map_err(whole)?, path, id, None)
    }

    /// Resolves the JSON of a `process` object, as an exec request carries it. Pointers are relative to that object.
    pub fn process(json: &[u8]) -> Result<Process, Refusal> {
        spec::process::resolve(&json::read::<oci::Process>(json)?)
    }

    /// Resolves the JSON of a `resources` object, as an update request carries it. Pointers are relative to that object.
    pub fn resources(json: &[u8]) -> Result<Resources, Refusal> {
        Resources::resolve(&json::read::<oci::LinuxResources>(json)?, "")
    }
}

/// A refusal of the whole document has no pointer: the file's name stands in its place.
fn whole(refusal: Refusal) -> Refusal {
    if refusal.pointer.is_empty() { Refusal::new("", format!("config.json: {}", refusal.reason)) } else { refusal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Limit;

    #[test]
    fn resources_of_an_update() {
        let resources = Bundle::resources(br#"{"memory": {"limit": 5}, "unified": {}}"#).unwrap();
        assert_eq!((resources.memory.limit, resources.devices), (Some(Limit::At(5)), None));
        let refused = |json: &str| Bundle::resources(json.as_bytes()).unwrap_err().pointer;
        assert_eq!(refused(r#"{"memory": {"limit": -7}}"#), "/memory/limit");
        assert_eq!(refused(r#"{"devices": [{"allow": true, "type": "x"}]}"#), "/devices/0/type");
    }
}
