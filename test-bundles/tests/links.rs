//! Symbolic links of the image that lead nowhere yet, at or above what is mounted or made: they are followed inside the root,
//! and what they lead to is made (runtime spec config.md, "Mounts"; path_resolution(7)). An image with systemd-resolved has
//! such a link for /etc/resolv.conf.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_bundles::bundle::{Bundle, ours};

/// A directory of the host's with one file.
fn host() -> TempDir {
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("file"), "of the host").unwrap();
    host
}

/// Makes links in the bundle's image, with the directories that they are in.
fn link(bundle: &Bundle, links: &[(&str, &str)]) {
    for (path, target) in links {
        let path = bundle.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
}

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

fn bind(source: impl AsRef<Path>, destination: &str) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source.as_ref(), "options": ["rbind"] })
}

#[test]
fn a_file_is_mounted_where_a_dangling_link_leads() {
    let host = host();
    let source = host.path().join("file");
    for (links, destination, made) in [
        (
            &[("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")][..],
            "/etc/resolv.conf",
            "run/systemd/resolve/stub-resolv.conf",
        ),
        (&[("/etc/resolv.conf", "/run/resolv.conf")], "/etc/resolv.conf", "run/resolv.conf"),
        (&[("/etc/resolv.conf", "resolv/made")], "/etc/resolv.conf", "etc/resolv/made"),
        // As many `..` as one likes: the root is its own parent.
        (&[("/etc/resolv.conf", "../../../../../run/made")], "/etc/resolv.conf", "run/made"),
        (&[("/etc/resolv.conf", "/../../run/made")], "/etc/resolv.conf", "run/made"),
        // A chain; a link in the middle of what another says; a link in the place of a parent.
        (&[("/a", "b"), ("/b", "/c"), ("/c", "d/e")], "/a", "d/e"),
        (&[("/etc/a", "b"), ("/etc/b", "/c/d"), ("/c", "e/f")], "/etc/a", "e/f/d"),
        (&[("/etc", "srv/etc")], "/etc/made/below", "srv/etc/made/below"),
        (&[("/etc", "/usr/etc"), ("/usr/etc/a", "../x/y")], "/etc/a", "usr/x/y"),
    ] {
        let mut bundle = Bundle::new("mounts");
        link(&bundle, links);
        add(&mut bundle, bind(&source, destination));
        bundle.probe(&["read", destination]);
        assert_eq!(bundle.seen(), json!({ destination: "of the host" }), "{links:?}");
        let made = bundle.rootfs().join(made);
        assert!(fs::symlink_metadata(&made).is_ok_and(|file| file.is_file()), "{}", made.display());
        for (path, target) in links {
            let path = bundle.rootfs().join(path.trim_start_matches('/'));
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(target), "{links:?}");
        }
    }
}

#[test]
fn a_directory_is_mounted_where_a_dangling_link_leads() {
    let host = host();
    for (destination, below) in [("/data", ""), ("/data/made/below", "made/below"), ("/data/slash/", "slash")] {
        for mount in [
            bind(host.path(), destination),
            json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" }),
            json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
            json!({ "destination": destination, "type": "mqueue", "source": "mqueue" }),
            json!({ "destination": destination, "type": "cgroup", "source": "cgroup" }),
        ] {
            let mut bundle = Bundle::new("mounts");
            link(&bundle, &[("/data", "srv/data/")]);
            add(&mut bundle, mount.clone());
            let seen = bundle.probe(&[]).seen();
            let place = Path::new("/srv/data").join(below);
            let mounts = seen["mounts"].as_array().unwrap();
            let place = place.to_str().unwrap().trim_end_matches('/');
            assert!(mounts.iter().any(|mount| mount["mount_point"] == place), "{mount}: {mounts:#?}");
        }
    }
}

#[test]
fn a_link_may_lead_onto_an_earlier_mount() {
    let host = host();
    for earlier in [
        json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" }),
        bind(TempDir::new_in(host.path()).unwrap().keep(), "/mnt"),
    ] {
        let mut bundle = Bundle::new("mounts");
        link(&bundle, &[("/etc/file", "../mnt/made/file")]);
        add(&mut bundle, earlier);
        add(&mut bundle, bind(host.path().join("file"), "/etc/file"));
        bundle.probe(&["read", "/etc/file", "/mnt/made/file"]);
        assert_eq!(bundle.seen(), json!({ "/etc/file": "of the host", "/mnt/made/file": "of the host" }));
        assert_eq!(fs::read_dir(bundle.rootfs().join("mnt")).unwrap().count(), 0);
    }
}

#[test]
fn links_that_lead_to_each_other_are_an_error() {
    let host = host();
    let chain: Vec<_> = (0..50).map(|n| (format!("/l{n}"), format!("l{}", n + 1))).collect();
    let chain: Vec<_> = chain.iter().map(|(path, target)| (path.as_str(), target.as_str())).collect();
    for links in [&[("/l0", "l1"), ("/l1", "l0")][..], &[("/l0", "l0/below")], &[("/l0", "made/../l0")], &chain] {
        for mount in [
            bind(host.path().join("file"), "/l0"),
            bind(host.path(), "/l0/below"),
            json!({ "destination": "/l0", "type": "tmpfs", "source": "tmpfs" }),
        ] {
            let mut bundle = Bundle::new("mounts");
            link(&bundle, links);
            add(&mut bundle, mount.clone());
            let ran = bundle.run();
            let says = ran.stderr.contains("at /l0") && ran.stderr.contains("ELOOP");
            assert!(ran.status != 0 && (!ours() || says), "{links:?} {mount}: {}", ran.stderr);
        }
    }
}

#[test]
fn what_a_link_says_may_be_too_long_or_lead_through_a_file() {
    let host = host();
    let long = format!("{}x", "d/".repeat(2044));
    for (target, errno) in [(long.as_str(), "ENAMETOOLONG"), ("/probe/below", "ENOTDIR"), ("/run/", "ENOTDIR")] {
        let mut bundle = Bundle::new("mounts");
        link(&bundle, &[("/deep/down/link", target)]);
        add(&mut bundle, bind(host.path().join("file"), "/deep/down/link"));
        let ran = bundle.run();
        // The one with a slash at its end some take for a file.
        assert!(!ours() || (ran.status != 0 && ran.stderr.contains(errno)), "{errno}: {}", ran.stderr);
    }
}

#[test]
fn a_link_onto_what_cannot_be_written_is_said_to() {
    let (host, volume) = (host(), TempDir::new().unwrap());
    let mut bundle = Bundle::new("mounts");
    link(&bundle, &[("/etc/file", "/volume/made/file")]);
    let readonly =
        json!({ "destination": "/volume", "type": "bind", "source": volume.path(), "options": ["bind", "ro"] });
    add(&mut bundle, readonly);
    add(&mut bundle, bind(host.path().join("file"), "/etc/file"));
    let ran = bundle.run();
    let says = "at /etc/file (rbind): EROFS (read-only file system) \
         [there is nothing to mount on, and on a read-only file system it cannot be made]";
    assert!(ran.status != 0 && (!ours() || ran.stderr.contains(says)), "{}", ran.stderr);
    assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0);
}

#[test]
fn a_working_directory_is_made_where_a_dangling_link_leads() {
    // Others refuse these.
    if !ours() {
        return;
    }
    for (cwd, expected) in [("/work", "/srv/work"), ("/work/below", "/srv/work/below")] {
        let mut bundle = Bundle::new("mounts");
        link(&bundle, &[("/work", "srv/work")]);
        bundle.config["process"]["cwd"] = json!(cwd);
        assert_eq!(bundle.probe(&[]).seen()["cwd"], expected);
    }
}

#[test]
fn a_device_is_made_where_a_dangling_link_leads() {
    for (links, path, made) in [
        (&[("/devices/zero", "../srv/zero")][..], "/devices/zero", "srv/zero"),
        (&[("/devices", "/srv/devices")], "/devices/zero", "srv/devices/zero"),
        (&[("/devices", "b"), ("/b", "srv")], "/devices/made/zero", "srv/made/zero"),
    ] {
        let mut bundle = Bundle::new("devices");
        link(&bundle, links);
        bundle.config["linux"]["devices"] =
            json!([{ "path": path, "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4 }]);
        bundle.run().success();
        let node = fs::symlink_metadata(bundle.rootfs().join(made)).unwrap();
        assert!(node.file_type().is_char_device(), "{links:?}");
        assert_eq!((node.rdev(), node.mode() & 0o7777, node.uid(), node.gid()), (0x105, 0o640, 3, 4), "{links:?}");
    }
}

#[test]
fn a_link_to_the_right_device_is_taken_and_to_another_thing_is_not() {
    for (target, right) in [("/dev/zero", true), ("/dev/full", false), ("/probe", false), ("/", false), ("..", false)] {
        let mut bundle = Bundle::new("devices");
        link(&bundle, &[("/devices/zero", target)]);
        bundle.config["linux"]["devices"] = json!([{ "path": "/devices/zero", "type": "c", "major": 1, "minor": 5 }]);
        let ran = bundle.probe(&["stat", target]).run();
        // Others take whatever is there for the device.
        if right {
            assert_eq!(ran.json()[target]["device"], json!([1, 5]));
        } else if ours() {
            let says =
                "make /devices/zero (character device 1:5, 666): EEXIST (file exists) [what is there is another thing]";
            assert!(ran.status != 0 && ran.stderr.contains(says), "{target}: {}", ran.stderr);
        }
    }
}

#[test]
fn the_links_of_dev_are_made_where_a_dangling_parent_leads() {
    let mut bundle = Bundle::new("devices");
    bundle.config["linux"].as_object_mut().unwrap().remove("devices");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
    link(&bundle, &[("/dev", "srv/dev")]);
    bundle.probe(&["stat", "/srv/dev/fd", "/srv/dev/null"]);
    let seen = bundle.seen();
    assert_eq!(seen["/srv/dev/fd"]["target"], "/proc/self/fd");
    assert_eq!(seen["/srv/dev/null"]["device"], json!([1, 3]));
}
