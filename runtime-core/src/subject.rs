//! The state object, by which hooks and seccomp agents are told of a container: runtime.md "State".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the specification whose state object this is.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Stopped,
}

/// Whom the object is about: the part of it that never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) annotations: Vec<(String, String)>,
}

/// The object itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StateObject<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
}

impl Subject {
    pub(crate) fn of(container: &config::Container) -> Self {
        let annotations = container.annotations.clone();
        Self { id: container.id.as_str().to_owned(), bundle: container.bundle.clone(), annotations }
    }

    pub(crate) fn state(&self, status: Status, pid: Option<i32>) -> StateObject<'_> {
        let annotations = self.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        StateObject { oci_version: OCI_VERSION, id: &self.id, status, pid, bundle: &self.bundle, annotations }
    }
}

impl StateObject<'_> {
    /// As JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state has string keys only")
    }
}
