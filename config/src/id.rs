//! Container ids: the one string of a request that becomes part of host paths.

use std::fmt;

use crate::refuse::Refusal;

/// A container id that is safe as a path component: 1 to 1024 of `[A-Za-z0-9_+.-]`, not `.` or `..`.
///
/// containerd's own rule (`pkg/identifiers`) is narrower and has been applied before the shim is asked; runc's command
/// line takes this one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks `id`.
    pub fn new(id: impl Into<String>) -> Result<Self, Refusal> {
        let id = id.into();
        let legal = |c: char| c.is_ascii_alphanumeric() || "_+.-".contains(c);
        if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(legal) {
            return Err(Refusal::new("", format!("container id {id:?} is not 1 to 1024 of [A-Za-z0-9_+.-]")));
        }
        Ok(Self(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerId;

    #[test]
    fn path_tricks_are_no_ids() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a\0b"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "nginx-1_2.3+4", "...", "0"] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
    }
}
