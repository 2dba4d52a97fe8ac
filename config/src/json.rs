//! Bytes to `oci_spec`'s types, with every failure told as a [`Refusal`]: where in the text, and at which field.
//!
//! Called by `bundle` alone. The common path is one pass of `serde_json`; only a document that is refused is read again:
//! what `oci_spec` does not know and the specification wants taken is amended. Where it stops tells the field
//! ([`place`]). What the types cannot say is caught here too: a NUL byte in any string (JSON
//! can carry one, no system call can), and values of a closed set by their name (`unknown rlimit RLIMIT_FOO`), where
//! serde would list every name there is.

use oci_spec::runtime as oci;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod place;

use crate::refuse::{Refusal, token};

/// What may be at the root of a document.
pub(crate) trait Document: DeserializeOwned {
    /// Where the document would stand in config.json; empty for config.json itself.
    const PLACE: &'static str;
}

impl Document for oci::Spec {
    const PLACE: &'static str = "";
}

impl Document for oci::Process {
    const PLACE: &'static str = "/process";
}

impl Document for oci::LinuxResources {
    const PLACE: &'static str = "/linux/resources";
}

/// Reads `text` as a `T`. Pointers of refusals are relative to `text`.
pub(crate) fn read<T: Document>(text: &[u8]) -> Result<T, Refusal> {
    let document = match serde_json::from_slice(text) {
        Ok(document) => document,
        Err(error) => match amended::<T>(text) {
            Some(text) => serde_json::from_slice(&text).map_err(|error| explain::<T>(&text, &error))?,
            None => return Err(explain::<T>(text, &error)),
        },
    };
    refuse_nul_bytes(text)?;
    Ok(document)
}

/// The document with its `process` such that `oci_spec` can read it; none where there is nothing to mend.
///
/// A capability that nobody here knows belongs to a newer kernel: the specification wants a warning and a container without
/// it. And two scheduler flags have other names in `oci_spec` than in the specification.
fn amended<T: Document>(text: &[u8]) -> Option<Vec<u8>> {
    let mut document = serde_json::from_slice::<Value>(text).ok()?;
    let process = document.pointer_mut("/process".strip_prefix(T::PLACE)?)?;
    let mut changed = false;
    for (kind, set) in process.get_mut("capabilities").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(set) = set.as_array_mut() {
            let before = set.len();
            set.retain(|name| name.as_str().is_none_or(|name| is_known(name, kind)));
            changed |= set.len() != before;
        }
    }
    for flag in process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        (*flag, changed) = (Value::from(name), true);
    }
    changed.then(|| document.to_string().into_bytes())
}

/// Whether `name` is a capability; warns where it is not.
fn is_known(name: &str, set: &str) -> bool {
    let known = serde_json::from_value::<oci::Capability>(Value::from(name)).is_ok();
    if !known {
        log::warn!("/process/capabilities/{set}: {name} is not known here, left out");
    }
    known
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
