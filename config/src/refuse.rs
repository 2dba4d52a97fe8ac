//! A refusal: which field cannot be honoured, and why.

use std::fmt;

/// A field of the input that cannot be honoured. Prints as `/linux/namespaces/2/path: not a namespace file: /run/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer (RFC 6901) into config.json, or into the JSON of a request; empty for the document itself.
    pub pointer: String,
    /// One clause, lower case, no full stop.
    pub reason: String,
}

impl Refusal {
    /// Refuses the field at `pointer`.
    pub fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            write!(f, "{}", self.reason)
        } else {
            write!(f, "{}: {}", self.pointer, self.reason)
        }
    }
}

impl std::error::Error for Refusal {}
