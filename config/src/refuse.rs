//! A refusal: which field cannot be honoured, and why.
//!
//! A function that resolves one object of the input refuses with a pointer relative to that object; whoever called it puts
//! its own part in front (`At::at`). So a pointer is only ever built once something has been refused.

use std::fmt;

/// A field of the input that cannot be honoured. Prints as `/linux/namespaces/2/path: not a namespace file: /run/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer (RFC 6901) into config.json, or into the JSON of a request; empty for the document itself. Of a runtime
    /// option: its source and its key.
    pub pointer: String,
    /// One clause, lower case, no full stop.
    pub reason: String,
}

impl Refusal {
    /// Refuses the field at `pointer`.
    pub fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), reason: reason.into() }
    }

    /// Refuses `what`, which the specification knows and this runtime cannot do.
    pub(crate) fn unsupported(pointer: impl Into<String>, what: &str) -> Self {
        Self::new(pointer, format!("{what} not supported yet"))
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

/// Says where the refused object stands.
pub(crate) trait At: Sized {
    /// Puts `parent`, a JSON pointer such as `/linux/devices`, in front of the pointer of a refusal.
    fn at(self, parent: &str) -> Self;

    /// Puts `/index` in front: the object is an element of an array.
    fn at_index(self, index: usize) -> Self;
}

impl<T> At for Result<T, Refusal> {
    fn at(self, parent: &str) -> Self {
        self.map_err(|refusal| Refusal { pointer: format!("{parent}{}", refusal.pointer), ..refusal })
    }

    fn at_index(self, index: usize) -> Self {
        self.map_err(|refusal| Refusal { pointer: format!("/{index}{}", refusal.pointer), ..refusal })
    }
}

/// One reference token of a JSON pointer: `~` and `/` escaped as RFC 6901 wants it.
pub(crate) fn token(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::{At, Refusal, token};

    #[test]
    fn pointers_grow_from_the_inside_out() {
        let inner: Result<(), _> = Err(Refusal::new(token("net/ipv4~x"), "bad"));
        let refusal = inner.at_index(3).at("/linux/things").unwrap_err();
        assert_eq!(refusal.to_string(), "/linux/things/3/net~1ipv4~0x: bad");
    }
}
