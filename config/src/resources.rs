//! `linux.resources`, resolved.

/// What a container may use; see runtime spec config-linux.md, "Control groups".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {}
