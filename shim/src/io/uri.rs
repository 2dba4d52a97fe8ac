//! What the `stdin`, `stdout` and `stderr` of a request mean: nothing, a path, or a URI that names a log destination.
//!
//! As containerd's pkg/cio makes them: no scheme (or `fifo`) is a path, `file:///p` a log file,
//! `binary:///exe?k=v` a program that takes the output.
//!
//! Every path must be absolute. We stand in the bundle, where `rootfs` is the image's: with two slashes less a client would
//! have a program of the image run as the host's root.

use std::path::PathBuf;

use runtime_core::{Error, Kind, Result};

/// The end of one stream, outside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Uri {
    /// Empty: /dev/null.
    Null,
    /// Mostly a fifo; any file that exists.
    Path(PathBuf),
    /// `file`: a file to append to, made where missing.
    File(PathBuf),
    /// `binary`, `binary-v2`: a logger.
    Binary(Binary),
}

/// A logger and how it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binary {
    /// Path of the program.
    pub(super) program: PathBuf,
    /// The query as it becomes arguments: `k`, `v`, …
    pub(super) arguments: Vec<String>,
    /// `binary-v2`: it must write a byte when it is ready; closing the descriptor alone says that it is not.
    pub(super) strict: bool,
}

const RELATIVE: &str = "the path is not absolute";

impl Uri {
    /// Reads the `name` (`stdout`, …) of a request.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Null);
        }
        let refused = |why: &str| Error::new(Kind::Invalid, format!("{name} {text}: {why}"));
        let absolute = |path: PathBuf| Some(path).filter(|path| path.is_absolute()).ok_or_else(|| refused(RELATIVE));
        let Some((scheme, rest)) = text.split_once("://") else { return absolute(text.into()).map(Self::Path) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = PathBuf::from(decoded(path));
        match scheme {
            "fifo" => absolute(path).map(Self::Path),
            "file" => absolute(path).map(Self::File),
            "binary" | "binary-v2" => {
                let (program, strict) = (absolute(path)?, scheme == "binary-v2");
                Ok(Self::Binary(Binary { program, arguments: arguments(query), strict }))
            }
            _ => Err(refused(&format!("scheme {scheme} is none of fifo, file, binary and binary-v2"))),
        }
    }
}

/// `k=v&l` as `k`, `v`, `l` and an empty one; of a key that comes twice, the first.
fn arguments(query: &str) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decoded(&key.replace('+', " "));
        if !arguments.iter().step_by(2).any(|known| *known == key) {
            arguments.extend([key, decoded(&value.replace('+', " "))]);
        }
    }
    arguments
}

/// Percent-decoding (RFC 3986, 2.1). A `%` that begins no code stands for itself.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Binary, Uri};

    #[test]
    fn schemes_are_told_apart() {
        let parse = |text| Uri::parse("stdout", text);
        assert_eq!(parse("").unwrap(), Uri::Null);
        assert_eq!(parse("/run/a%20b").unwrap(), Uri::Path("/run/a%20b".into()), "a plain path is no URI");
        assert_eq!(parse("file:///var/a%20b").unwrap(), Uri::File("/var/a b".into()));
        let logger = Binary {
            program: "/usr/bin/log".into(),
            arguments: ["k", "/v 1", "flag", "", "100%", "x"].map(String::from).to_vec(),
            strict: true,
        };
        let text = "binary-v2:///usr/bin/log?k=%2Fv+1&flag&k=again&100%=x";
        assert_eq!(parse(text).unwrap(), Uri::Binary(logger));
        let error = parse("streaming+ttrpc://x/y").unwrap_err();
        assert_eq!(error.kind(), runtime_core::Kind::Invalid);
        assert!(error.to_string().contains("scheme streaming+ttrpc"), "{error}");
    }

    #[test]
    fn a_relative_path_is_refused() {
        let paths =
            ["log", "file://log", "file://", "fifo://a/b", "binary://rootfs/bin/log?k=v", "binary-v2://%2e/log"];
        for text in paths {
            let error = Uri::parse("stdout", text).unwrap_err();
            assert_eq!(error.kind(), runtime_core::Kind::Invalid, "{text}");
            assert_eq!(error.to_string(), format!("stdout {text}: the path is not absolute"));
        }
    }
}
