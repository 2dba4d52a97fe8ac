//! The way in: a bundle directory's `config.json` becomes a [`Container`], and the JSON of an exec request a
//! [`Process`].

use std::path::Path;

use crate::container::{Container, Process};
use crate::id::ContainerId;
use crate::refuse::Refusal;

/// A bundle directory, as the runtime spec's bundle.md describes it.
#[derive(Debug, Clone)]
pub struct Bundle;

impl Bundle {
    /// Reads `config.json` of the bundle at `path` (absolute) and resolves all of it.
    pub fn read(path: &Path, id: &ContainerId) -> Result<Container, Refusal> {
        let _ = (path, id);
        Err(Refusal::new("", "to be written"))
    }

    /// Resolves the JSON of a `process` object, as an exec request carries it.
    pub fn process(json: &[u8]) -> Result<Process, Refusal> {
        let _ = json;
        Err(Refusal::new("", "to be written"))
    }
}
