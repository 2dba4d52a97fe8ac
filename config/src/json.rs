//! Bytes to `oci_spec`'s types, with every failure told as a [`Refusal`]: where in the text, and at which field.
//!
//! Called by `bundle` alone. The common path is one pass of `serde_json`. A document is read again where that refuses it, and
//! where it may have filled in a default for something required: what `oci_spec` reads otherwise than the specification means it
//! is changed ([`amend`]), and what is missing is named ([`required`]). Where reading stops tells the field ([`place`]). What the
//! types cannot say is caught here too: a NUL byte in any string (JSON can carry one, no system call can), and values of a closed
//! set by their name (`unknown rlimit RLIMIT_FOO`), where serde would list every name there is.

use oci_spec::runtime as oci;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod amend;
mod place;
mod required;

use crate::refuse::{Refusal, token};

/// What may be at the root of a document.
pub(crate) trait Document: DeserializeOwned {
    /// Where the document would stand in config.json; empty for config.json itself.
    const PLACE: &'static str;

    /// Whether it has a default where something required may have been absent.
    fn may_lack(&self) -> bool;
}

impl Document for oci::Spec {
    const PLACE: &'static str = "";

    fn may_lack(&self) -> bool {
        required::in_spec(self)
    }
}

impl Document for oci::Process {
    const PLACE: &'static str = "/process";

    fn may_lack(&self) -> bool {
        required::in_process(self)
    }
}

impl Document for oci::LinuxResources {
    const PLACE: &'static str = "/linux/resources";

    fn may_lack(&self) -> bool {
        required::in_resources(self)
    }
}

/// Reads `text` as a `T`. Pointers of refusals are relative to `text`.
pub(crate) fn read<T: Document>(text: &[u8]) -> Result<T, Refusal> {
    let document = match serde_json::from_slice::<T>(text) {
        Ok(document) if !document.may_lack() => document,
        first => again(text, first)?,
    };
    refuse_nul_bytes(text)?;
    Ok(document)
}

/// Reads as the specification means it what at `first` could not be read, or not for certain.
fn again<T: Document>(text: &[u8], first: serde_json::Result<T>) -> Result<T, Refusal> {
    let Ok(mut document) = serde_json::from_slice::<Value>(text) else {
        return first.map_err(|error| explain::<T>(text, &error));
    };
    let changed = amend::amend(&mut document, T::PLACE);
    required::check(&document, T::PLACE)?;
    if !changed {
        return first.map_err(|error| explain::<T>(text, &error));
    }
    let text = document.to_string().into_bytes();
    serde_json::from_slice(&text).map_err(|error| explain::<T>(&text, &error))
}

/// Finds the field at which reading stopped, and says what was wrong with it.
fn explain<T: Document>(text: &[u8], error: &serde_json::Error) -> Refusal {
    if !error.is_data() {
        return Refusal::new("", format!("not JSON: {error}"));
    }
    let (line, column) = (error.line(), error.column());
    let pointer = place::pointer(text, line, column);
    match (closed_set(&format!("{}{pointer}", T::PLACE)), string_at(text, &pointer)) {
        (Some(what), Some(name)) => {
            Refusal::new(pointer, format!("unknown {what} {name} at line {line} column {column}"))
        }
        _ => Refusal::new(pointer, error.to_string()),
    }
}

fn string_at(text: &[u8], pointer: &str) -> Option<String> {
    serde_json::from_slice::<Value>(text).ok()?.pointer(pointer)?.as_str().map(str::to_owned)
}

/// What the members of the closed set at `pointer` of config.json are called, if there is one.
fn closed_set(pointer: &str) -> Option<&'static str> {
    let steps = pointer.split('/').skip(1).collect::<Vec<_>>();
    Some(match steps[..] {
        ["process", "rlimits", _, "type"] => "rlimit",
        ["linux", "namespaces", _, "type"] => "namespace type",
        ["linux", "devices", _, "type"] | ["linux", "resources", "devices", _, "type"] => "device type",
        ["linux", "seccomp", "defaultAction"] | ["linux", "seccomp", "syscalls", _, "action"] => "seccomp action",
        ["linux", "seccomp", "architectures", _] => "seccomp architecture",
        ["linux", "seccomp", "flags", _] => "seccomp flag",
        ["linux", "seccomp", "syscalls", _, "args", _, "op"] => "seccomp operator",
        ["linux", "personality", "domain"] => "personality",
        ["linux", "memoryPolicy", "mode"] => "memory policy",
        ["linux", "memoryPolicy", "flags", _] => "memory policy flag",
        ["process", "scheduler", "policy"] => "scheduling policy",
        ["process", "scheduler", "flags", _] => "scheduler flag",
        ["process", "ioPriority", "class"] => "I/O priority class",
        _ => return None,
    })
}

/// Refuses a NUL byte in any string or key. JSON can only write one as an escape, so a text without that escape, which is
/// every honest one, costs one scan.
fn refuse_nul_bytes(text: &[u8]) -> Result<(), Refusal> {
    if !text.windows(6).any(|window| window == br"\u0000") {
        return Ok(());
    }
    let value = serde_json::from_slice::<Value>(text).map_err(|error| Refusal::new("", error.to_string()))?;
    match nul_byte(&value) {
        Some(pointer) => Err(Refusal::new(pointer, "holds a NUL byte")),
        None => Ok(()),
    }
}

/// Pointer of the first string or key with a NUL byte below `value`.
fn nul_byte(value: &Value) -> Option<String> {
    match value {
        Value::String(string) => string.contains('\0').then(String::new),
        Value::Array(items) => (0..).zip(items).find_map(|(index, item)| Some(format!("/{index}{}", nul_byte(item)?))),
        Value::Object(members) => members.iter().find_map(|(key, member)| match nul_byte(member) {
            Some(rest) => Some(token(key) + &rest),
            None => key.contains('\0').then(|| token(key)),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
