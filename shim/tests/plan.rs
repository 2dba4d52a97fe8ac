//! `plan BUNDLE`, as a person runs it.

use std::path::Path;
use std::process::{Command, Output};

fn plan(bundle: &Path) -> Output {
    plan_with("", &[], bundle)
}

/// With the text of a node's file, and further arguments.
fn plan_with(node: &str, arguments: &[&str], bundle: &Path) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), node).expect("write it");
    let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-myshim-v2"));
    command.env("MYSHIM_CONFIG", file.path()).arg("plan").args(arguments).arg(bundle).output().expect("run the shim")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn bundle(config: &str) -> tempfile::TempDir {
    let bundle = tempfile::Builder::new().prefix("bundle").tempdir().expect("a temporary directory");
    std::fs::write(bundle.path().join("config.json"), config).expect("write config.json");
    bundle
}

#[test]
fn the_steps_are_printed_and_none_is_done() {
    let bundle = bundle(
        r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "hostname": "box",
            "process": {"cwd": "/work", "args": ["sh"], "user": {"uid": 0, "gid": 0}, "env": []},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}], "cgroupsPath": "/never/made"}}"#,
    );
    let output = plan(bundle.path());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for step in
        ["make new uts, mount namespaces", "mount proc at /proc (nosuid)", "set hostname box", r#"execute "sh""#]
    {
        assert!(text.contains(step), "{step} is not in:\n{text}");
    }
    assert_eq!(std::fs::read_dir(bundle.path()).expect("the bundle").count(), 1, "something was made in the bundle");
    assert!(!text.contains("cgroup") || !Path::new("/sys/fs/cgroup/pids/never").exists());
}

#[test]
fn a_field_that_cannot_be_honoured_is_named() {
    let bundle = bundle(
        r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"},
            "process": {"cwd": "work", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
            "linux": {"namespaces": [{"type": "mount"}]}}"#,
    );
    let output = plan(bundle.path());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/process/cwd: "), "{text}");
}

/// The bundle of a container that the options make a difference for.
fn plain() -> tempfile::TempDir {
    bundle(
        r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"], "user": {}},
            "linux": {"namespaces": [{"type": "mount"}], "cgroupsPath": "/never/made"}}"#,
    )
}

#[test]
fn the_nodes_options_are_those_of_the_plan() {
    let bundle = plain();
    let without = said(&plan(bundle.path()));
    assert!(without.contains("pivot to the root") && without.contains("join session keyring"), "{without}");
    let with = said(&plan_with("NoPivotRoot = true\nNoNewKeyring = true\n", &[], bundle.path()));
    assert!(with.contains("move the root over /") && !with.contains("pivot") && !with.contains("keyring"), "{with}");
    // A unit's place, or why there would be none.
    let unit = said(&plan_with("SystemdCgroup = true\n", &[], bundle.path()));
    if Path::new("/run/systemd/system").exists() {
        assert!(!unit.contains("/never/made"), "{unit}");
    } else {
        assert!(unit.contains("the systemd cgroup driver is asked for, and systemd is not running here"), "{unit}");
    }
    let refused = plan_with("Speed = 9\n", &[], bundle.path());
    assert!(!refused.status.success() && said(&refused).ends_with("Speed: there is no such option\n"));
}

#[test]
fn a_file_of_options_outranks_the_nodes() {
    let (bundle, file) = (plain(), tempfile::NamedTempFile::new().expect("a temporary file"));
    std::fs::write(file.path(), "NoPivotRoot = false\n").expect("write it");
    let path = file.path().to_str().expect("a plain name");
    let node = "NoPivotRoot = true\nNoNewKeyring = true\n";
    let text = said(&plan_with(node, &["--options", path], bundle.path()));
    assert!(text.contains("pivot to the root") && !text.contains("keyring"), "{text}");
    let missing = plan_with(node, &["--options", "/no/such.toml"], bundle.path());
    assert!(!missing.status.success());
    assert!(said(&missing).ends_with("options file /no/such.toml: No such file or directory (os error 2)\n"));
}

#[test]
fn what_a_bundle_says_is_no_command_to_a_terminal() {
    let bundle = bundle(
        r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"cwd": "/\u001b[2J\nx", "args": ["sh"], "user": {}},
            "linux": {"namespaces": [{"type": "mount"}]}}"#,
    );
    let text = said(&plan(bundle.path()));
    assert!(text.contains(r"enter working directory /\u{1b}[2J\nx") && !text.contains('\u{1b}'), "{text}");
}
