//! `update`: a resources object from a file or standard input, or from flags with runc's names.

use std::io::Read;
use std::path::Path;

use runtime_core::{Error, Kind, Result};
use serde_json::{Value, json};

/// How a flag's value is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Number,
    /// With a suffix k, m, g or t of 1024; or -1.
    Bytes,
    Text,
}

/// Flags and where their values stand in the object.
const FLAGS: [(&str, &str, &str, Form); 15] = [
    ("memory", "memory", "limit", Form::Bytes),
    ("memory-reservation", "memory", "reservation", Form::Bytes),
    ("memory-swap", "memory", "swap", Form::Bytes),
    ("kernel-memory", "memory", "kernel", Form::Bytes),
    ("kernel-memory-tcp", "memory", "kernelTCP", Form::Bytes),
    ("cpu-share", "cpu", "shares", Form::Number),
    ("cpu-period", "cpu", "period", Form::Number),
    ("cpu-quota", "cpu", "quota", Form::Number),
    ("cpu-burst", "cpu", "burst", Form::Number),
    ("cpu-idle", "cpu", "idle", Form::Number),
    ("cpu-rt-period", "cpu", "realtimePeriod", Form::Number),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", Form::Number),
    ("cpuset-cpus", "cpu", "cpus", Form::Text),
    ("cpuset-mems", "cpu", "mems", Form::Text),
    ("blkio-weight", "blockIO", "weight", Form::Number),
];

/// The object that flags make up.
#[derive(Debug, Default)]
pub(crate) struct Flags(Value);

impl Flags {
    /// Whether `flag` is one of ours.
    pub(crate) fn know(flag: &str) -> bool {
        flag == "pids-limit" || FLAGS.iter().any(|(name, ..)| *name == flag)
    }

    /// Takes a flag that is known.
    pub(crate) fn set(&mut self, flag: &str, text: &str) -> Result<()> {
        let pids = ("pids-limit", "pids", "limit", Form::Number);
        let (_, object, field, form) = FLAGS.into_iter().find(|(name, ..)| *name == flag).unwrap_or(pids);
        let value = match form {
            Form::Text => Some(json!(text)),
            Form::Number => text.parse::<i64>().ok().map(|number| json!(number)),
            Form::Bytes => bytes(text).map(|number| json!(number)),
        };
        let bad = || Error::new(Kind::Invalid, format!("--{flag}: {text:?} is not a number"));
        self.0[object][field] = value.ok_or_else(bad)?;
        Ok(())
    }

    /// The object, as JSON. No flag at all changes nothing.
    pub(crate) fn json(&self) -> String {
        if self.0.is_null() { "{}".to_owned() } else { self.0.to_string() }
    }
}

/// The object in `file`; `-` is standard input.
pub(crate) fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Error::io(format!("read {}", file.display()), &error))
}

fn bytes(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(1024_i64.pow(power))
}

#[cfg(test)]
mod tests {
    use super::{Flags, bytes};

    #[test]
    fn sizes_have_suffixes() {
        for (text, number) in
            [("7", Some(7)), ("-1", Some(-1)), ("2k", Some(2048)), ("1GiB", Some(1 << 30)), ("1q", None)]
        {
            assert_eq!(bytes(text), number, "{text}");
        }
        assert_eq!(bytes("9999999999g"), None);
    }

    #[test]
    fn flags_make_up_an_object() {
        let mut flags = Flags::default();
        assert_eq!(flags.json(), "{}");
        flags.set("memory", "1m").unwrap();
        flags.set("pids-limit", "5").unwrap();
        flags.set("cpuset-cpus", "0-1").unwrap();
        let expected = r#"{"cpu":{"cpus":"0-1"},"memory":{"limit":1048576},"pids":{"limit":5}}"#;
        assert_eq!(flags.json(), expected);
        assert!(flags.set("cpu-quota", "much").unwrap_err().to_string().contains("--cpu-quota"));
        assert!(Flags::know("cpu-idle") && !Flags::know("cpu"));
    }
}
