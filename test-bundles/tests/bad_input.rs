//! Configurations that cannot be honoured: each is refused with words that name what is wrong, and leaves nothing.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

/// What is wrong, the pointer of the value at fault, the value, and what our error says of it.
fn table() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    vec![
        ("an executable that is missing", "/process/args", json!(["/not/there"]), "/not/there"),
        ("a name that is not on PATH", "/process/args", json!(["not-on-path"]), "not-on-path"),
        ("a directory to execute", "/process/args", json!(["/proc"]), "/proc"),
        ("nothing to execute", "/process/args", json!([]), "/process/args"),
        ("a cwd that is a file", "/process/cwd", json!("/probe"), "/probe"),
        ("a relative cwd", "/process/cwd", json!("relative"), "/process/cwd"),
        ("an unknown rlimit", "/process/rlimits", json!([{ "type": "RLIMIT_X", "soft": 1, "hard": 1 }]), "RLIMIT_X"),
        ("a rootfs that is missing", "/root/path", json!("no-such-rootfs"), "no-such-rootfs"),
        ("no root", "/root", Value::Null, "/root"),
        (
            "a namespace path that is missing",
            "/linux/namespaces/1",
            json!({ "type": "network", "path": "/not/there" }),
            "/linux/namespaces/1/path",
        ),
        (
            "a namespace path that is none",
            "/linux/namespaces/1",
            json!({ "type": "network", "path": "/etc/passwd" }),
            "/linux/namespaces/1/path",
        ),
        (
            "a namespace path of another kind",
            "/linux/namespaces/1",
            json!({ "type": "network", "path": "/proc/self/ns/uts" }),
            "/linux/namespaces/1/path",
        ),
        ("an unknown namespace", "/linux/namespaces/1", json!({ "type": "space" }), "space"),
        ("a namespace twice", "/linux/namespaces/1", json!({ "type": "pid" }), "pid"),
        (
            "a mount without its source",
            "/mounts/5",
            json!({ "destination": "/m", "type": "bind", "source": "/not/there", "options": ["bind"] }),
            "/not/there",
        ),
        (
            "an unknown file system",
            "/mounts/5",
            json!({ "destination": "/m", "type": "no-such-fs", "source": "none" }),
            "no-such-fs",
        ),
        (
            "an option that the file system does not know",
            "/mounts/5",
            json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["no-such-option=1"] }),
            "no-such-option",
        ),
        ("an unknown seccomp action", "/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_SMILE" }), "SCMP_ACT_SMILE"),
        ("an unknown propagation", "/linux/rootfsPropagation", json!("everywhere"), "everywhere"),
        ("a sysctl that does not exist", "/linux/sysctl", json!({ "net.no.such": "1" }), "no"),
        ("a cgroup path that is no string", "/linux/cgroupsPath", json!(["a"]), ""),
    ]
}

#[test]
fn each_is_refused_and_leaves_nothing() {
    for (wrong, pointer, value, says) in table() {
        let mut bundle = Bundle::new("bad_input");
        set(&mut bundle.config, pointer, value);
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{wrong}: {}", ran.stdout);
        assert!(!ran.stderr.trim().is_empty(), "{wrong}");
        assert!(!ours() || ran.stderr.contains(says), "{wrong}: {}", ran.stderr);
    }
}

#[test]
fn a_failed_create_leaves_nothing_either() {
    for (wrong, pointer, value, _) in table() {
        let mut bundle = Bundle::new("bad_input");
        set(&mut bundle.config, pointer, value);
        let ran = bundle.create();
        if ran.status != 0 {
            bundle.assert_nothing_left();
        }
        // What only execve can find out is told by start.
        assert!(ran.status != 0 || pointer == "/process/args", "{wrong}");
    }
}

#[test]
fn a_config_that_is_missing_or_no_json() {
    let bundle = Bundle::new("bad_input");
    for text in [None, Some(""), Some("{"), Some("[]"), Some("{}")] {
        let mut command = bundle.command();
        let file = bundle.path().join("config.json");
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let output = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
        assert!(!output.status.success(), "{text:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.trim().is_empty() && !error.contains("panicked"), "{text:?}: {error}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn an_id_that_would_be_a_path() {
    let bundle = Bundle::new("bad_input");
    for id in ["../escape", "a/b", "..", ""] {
        let ran = bundle.call(&["run", "--bundle", bundle.path().to_str().unwrap(), id]);
        assert_ne!(ran.status, 0, "{id:?}");
        bundle.assert_nothing_left();
    }
    assert!(!bundle.path().join("escape").exists());
}

/// Puts `value` at `pointer`, whose parent is there; null takes the entry away.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match parent {
        Value::Object(entries) if value.is_null() => drop(entries.remove(key)),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        _ => parent[key] = value,
    }
}
