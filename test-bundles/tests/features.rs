//! The features document (runtime spec features.md): what `oci features` prints, and the README's table of it.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::Value;
use test_bundles::bundle::{Bundle, ours};
use test_bundles::readme::Part;

const PART: Part = Part { name: "features", written_by: "make features" };

/// Rewrites the table in the README when `FEATURES=write`, else compares it.
#[test]
fn the_readme_has_a_table_of_them() {
    if !ours() {
        return;
    }
    let expected = table(&Bundle::new("mounts").call(&["features"]).json());
    if std::env::var_os("FEATURES").is_some_and(|value| value == "write") {
        PART.write(&expected).unwrap();
    } else {
        assert_eq!(PART.read().unwrap(), expected, "make features writes the table");
    }
}

#[test]
fn what_kubernetes_looks_for_is_there() {
    let features = Bundle::new("mounts").call(&["features"]).json();
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.contains(&"rro".into()), "{options:?}");
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(features["ociVersionMax"].as_str().unwrap() > "1.0");
}

/// One row a member of the document; members of objects by their path.
fn table(features: &Value) -> String {
    let mut rows = vec![("member".to_owned(), "what is claimed".to_owned()), ("---".to_owned(), "---".to_owned())];
    for (name, value) in features.as_object().unwrap() {
        walk(&mut rows, name, value);
    }
    let rows: Vec<_> = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    rows.concat()
}

fn walk(rows: &mut Vec<(String, String)>, name: &str, value: &Value) {
    let text = match value {
        Value::Object(members) => {
            for (member, value) in members {
                walk(rows, &format!("{name}.{member}"), value);
            }
            return;
        }
        // They differ with the libseccomp that is linked in and with the machine.
        Value::Array(_) if name == "linux.seccomp.archs" => {
            "the machine's own, and those that its libseccomp knows in its byte order".to_owned()
        }
        Value::Array(_) if name == "linux.seccomp.supportedFlags" => "those of them that the kernel has".to_owned(),
        Value::Array(list) if list.len() == 41 && name == "linux.capabilities" => {
            "all 41 of capabilities(7)".to_owned()
        }
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => {
            list.iter().map(|name| format!("`{}`", name.as_str().unwrap())).collect::<Vec<_>>().join(" ")
        }
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.as_str().unwrap().to_owned(),
    };
    rows.push((format!("`{name}`"), text));
}
