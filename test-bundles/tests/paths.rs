//! `root.readonly`, `linux.maskedPaths` and `linux.readonlyPaths`.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

#[test]
fn a_read_only_root_refuses_writes_and_mounts_in_it_do_not() {
    let mut bundle = bundle();
    bundle.probe(&["write", "/new", "/writable/new", "/dev/shm/new"]);
    assert_eq!(bundle.seen(), json!({ "/new": "EROFS", "/writable/new": "ok", "/dev/shm/new": "ok" }));
    assert!(!bundle.rootfs().join("new").exists());
    bundle.config["root"]["readonly"] = json!(false);
    bundle.probe(&["write", "/new"]);
    assert_eq!(bundle.seen(), json!({ "/new": "ok" }));
}

#[test]
fn masked_paths_cannot_be_read() {
    let mut bundle = bundle();
    bundle.probe(&["read", "/secret/file", "/secret/other"]);
    assert_eq!(bundle.seen(), json!({ "/secret/file": "", "/secret/other": "open" }));
    bundle.probe(&["list", "/secret/directory"]);
    assert_eq!(bundle.seen(), json!({ "/secret/directory": [] }));
    // Nor changed, even where the root could be.
    bundle.config["root"]["readonly"] = json!(false);
    bundle.probe(&["write", "/secret/directory/new"]);
    assert_eq!(bundle.seen(), json!({ "/secret/directory/new": "EROFS" }));
    assert_eq!(fs::read_to_string(bundle.rootfs().join("secret/file")).unwrap(), "hidden");
}

/// Who may remount it finds no room in it: it is not memory of the host's to be filled.
#[test]
fn a_masked_directory_has_no_room() {
    let mut bundle = bundle();
    bundle.probe(&["read", "/proc/self/mountinfo"]);
    let seen = bundle.seen();
    let table = seen["/proc/self/mountinfo"].as_str().unwrap();
    let masks: Vec<&str> = table.lines().filter(|line| line.contains(" /secret/directory ")).collect();
    let [mask] = masks[..] else { panic!("{table}") };
    let (_, of_filesystem) = mask.split_once(" - ").unwrap();
    let options: Vec<&str> = of_filesystem.rsplit(' ').next().unwrap().split(',').collect();
    for option in ["ro", "size=4k", "nr_inodes=1"] {
        assert!(!ours() || options.contains(&option), "{option}: {mask}");
    }
}

#[test]
fn a_masked_link_masks_what_it_leads_to_inside_the_rootfs() {
    let outside = tempfile::TempDir::new().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let mut bundle = bundle();
    std::os::unix::fs::symlink(&victim, bundle.rootfs().join("link")).unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/link"]);
    bundle.probe(&["read", "/link"]);
    bundle.run();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}

#[test]
fn read_only_paths_can_be_read_and_not_written() {
    let mut bundle = bundle();
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/secret/other", "/nor/there"]);
    bundle.probe(&["write", "/secret/other", "/proc/sys/kernel/domainname"]);
    assert_eq!(bundle.seen(), json!({ "/secret/other": "EROFS", "/proc/sys/kernel/domainname": "EROFS" }));
    bundle.probe(&["read", "/secret/other"]);
    assert_eq!(bundle.seen(), json!({ "/secret/other": "open" }));
}

#[test]
fn a_read_only_path_keeps_the_flags_of_its_mount() {
    let mut bundle = bundle();
    bundle.probe(&[]);
    let seen = bundle.seen();
    let flags = json!(["ro", "nosuid", "nodev", "noexec", "relatime"]);
    assert_eq!(mount(&seen, "/proc/sys")["options"], flags);
}

fn bundle() -> Bundle {
    let bundle = Bundle::new("paths");
    let secret = bundle.rootfs().join("secret");
    fs::create_dir_all(secret.join("directory/below")).unwrap();
    fs::write(secret.join("file"), "hidden").unwrap();
    fs::write(secret.join("other"), "open").unwrap();
    bundle
}

fn mount<'a>(seen: &'a Value, point: &str) -> &'a Value {
    let mounts = seen["mounts"].as_array().unwrap();
    mounts.iter().rfind(|mount| mount["mount_point"] == point).unwrap_or_else(|| panic!("{point}: {mounts:#?}"))
}
