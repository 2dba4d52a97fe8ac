//! The one error of this crate: what failed, in words with the call's arguments, and of which kind.
//!
//! The kind is what callers act on (the shim turns it into a ttrpc code in one exhaustive match); the text is what a user
//! reads: `mount overlay at /run/b/rootfs (lowerdir=…): ENOENT (no such file or directory)`. Parts of the text are an image's, or
//! what a hook has said, and clients print it on terminals as it is: [`visible`] takes away what a terminal would act on.

use std::fmt;

use nix::errno::Errno;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong and will stay wrong.
    Invalid,
    /// The process or container is not there, or has ended.
    NotFound,
    /// The name is taken.
    Exists,
    /// Right request, wrong moment: paused, already started, not running.
    Precondition,
    /// Not built yet, or not to be had on this kernel.
    Unimplemented,
    /// The kernel said no.
    System,
}

/// An error: a kind and a sentence. Context is added in front, once per caller that knows more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    text: String,
}

impl Error {
    /// An error of `kind` that says `text` (lower case, no full stop).
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: visible(text.into()) }
    }

    /// `what` failed with `errno`; `what` is the call with its arguments.
    pub fn sys(what: impl fmt::Display, errno: impl Into<Errno>) -> Self {
        Self::new(Kind::System, format!("{what}: {}", errno_text(errno.into())))
    }

    /// `what` failed with an I/O error from std or tokio.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Self::sys(what, Errno::from_raw(code)),
            None => Self::new(Kind::System, format!("{what}: {error}")),
        }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same error with `context: ` in front.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self::new(self.kind, format!("{context}: {}", self.text))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl From<config::Refusal> for Error {
    fn from(refusal: config::Refusal) -> Self {
        Self::new(Kind::Invalid, refusal.to_string())
    }
}

/// `text` with its control characters written as Rust writes them, `\u{1b}` or `\n`: it becomes one line, which says no more to a
/// terminal than what can be read.
pub fn visible(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// `ENOENT (no such file or directory)`: the name for those who search, the words for those who read (and for Docker,
/// which finds its exit codes 126 and 127 by them).
pub fn errno_text(errno: Errno) -> String {
    let words = errno.desc();
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    format!("{errno:?} ({}{})", first.map(String::from).unwrap_or_default(), chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out_wherever_they_come_from() {
        let error = Error::new(Kind::System, "a\u{1b}[2Jb\r\nc\u{9b}d").context("x\ty é\u{7f}");
        assert_eq!(error.to_string(), r"x\ty é\u{7f}: a\u{1b}[2Jb\r\nc\u{9b}d");
        // What is quoted already stays as it is.
        assert_eq!(Error::new(Kind::System, format!("{:?}", "\r")).to_string(), r#""\r""#);
    }
}
