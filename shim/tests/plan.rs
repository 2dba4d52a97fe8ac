//! `plan BUNDLE`, as a person runs it.

use std::path::Path;
use std::process::{Command, Output};

fn plan(bundle: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_containerd-shim-myshim-v2"))
        .arg("plan")
        .arg(bundle)
        .output()
        .expect("run the shim")
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
