//! Id-mapped mounts: `mounts[].uidMappings` and `gidMappings`, and the options `idmap` and `ridmap` (mount_setattr(2)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

/// A directory with a file of user 5 and group 6 in it.
fn source(bundle: &Bundle) -> PathBuf {
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    file(&source);
    source
}

fn file(directory: &Path) {
    fs::write(directory.join("file"), "").unwrap();
    chown(directory.join("file"), Some(5), Some(6)).unwrap();
}

fn maps(uids: u32, gids: u32) -> Value {
    let map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1000 }]);
    json!({ "uidMappings": map(uids), "gidMappings": map(gids) })
}

fn add(bundle: &mut Bundle, mount: Value, more: &Value) {
    let mut mount = mount;
    mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

/// The owners of `paths` as the container sees them.
fn owners(bundle: &mut Bundle, paths: &[&str]) -> Vec<[u64; 2]> {
    let seen = bundle.probe(&[&["stat"], paths].concat()).seen();
    paths.iter().map(|path| ["uid", "gid"].map(|id| seen[path][id].as_u64().unwrap())).collect()
}

fn in_user_namespace(bundle: &mut Bundle) {
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    for (mappings, host) in [("uidMappings", 100_000), ("gidMappings", 200_000)] {
        bundle.config["linux"][mappings] = json!([{ "containerID": 0, "hostID": host, "size": 65_536 }]);
    }
    chown(bundle.rootfs(), Some(100_000), Some(200_000)).unwrap();
}

#[test]
fn a_bind_has_maps_of_its_own() {
    let mut bundle = Bundle::new("idmap");
    let source = source(&bundle);
    let bind = |to: &str, options: Value| json!({ "destination": to, "source": source, "options": options });
    add(&mut bundle, bind("/a", json!(["bind", "idmap"])), &maps(1000, 2000));
    add(&mut bundle, bind("/b", json!(["rbind", "ro"])), &maps(3000, 4000));
    add(&mut bundle, bind("/c", json!(["bind"])), &json!({}));
    let seen = owners(&mut bundle, &["/a/file", "/a", "/b/file", "/c/file"]);
    assert_eq!(seen, [[1005, 2006], [1000, 2000], [3005, 4006], [5, 6]]);
    let seen = bundle.probe(&[]).seen();
    let mapped = |mount: &&Value| mount["options"].as_array().unwrap().contains(&json!("idmapped"));
    let points: Vec<_> =
        seen["mounts"].as_array().unwrap().iter().filter(mapped).map(|m| m["mount_point"].clone()).collect();
    assert_eq!(points, ["/a", "/b"]);
}

#[test]
fn what_is_written_has_the_ids_of_the_file_system() {
    let mut bundle = Bundle::new("idmap");
    let source = source(&bundle);
    in_user_namespace(&mut bundle);
    add(&mut bundle, json!({ "destination": "/a", "source": source, "options": ["bind", "idmap"] }), &json!({}));
    assert_eq!(bundle.probe(&["write", "/a"]).seen(), json!({ "/a": "ok" }));
    let written = fs::metadata(source.join("written-by-probe")).unwrap();
    assert_eq!((written.uid(), written.gid()), (0, 0));
}

#[test]
fn the_option_alone_means_the_containers_own_maps() {
    let mut bundle = Bundle::new("idmap");
    let source = source(&bundle);
    in_user_namespace(&mut bundle);
    let bind = |to: &str, options: Value| json!({ "destination": to, "source": source, "options": options });
    add(&mut bundle, bind("/mapped", json!(["bind", "idmap"])), &json!({}));
    add(&mut bundle, bind("/plain", json!(["bind"])), &json!({}));
    assert_eq!(owners(&mut bundle, &["/mapped/file", "/plain/file"]), [[5, 6], [65_534, 65_534]]);
}

#[test]
fn a_tree_is_mapped_as_deep_as_asked() {
    let mut bundle = Bundle::new("idmap");
    let source = source(&bundle);
    fs::create_dir(source.join("below")).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(source.join("below")).status().unwrap();
    assert!(mount.success());
    file(&source.join("below"));
    let bind = |to: &str, option: &str| json!({ "destination": to, "source": source, "options": ["rbind", option] });
    add(&mut bundle, bind("/one", "idmap"), &maps(1000, 2000));
    add(&mut bundle, bind("/all", "ridmap"), &maps(1000, 2000));
    let paths = ["/one/file", "/one/below/file", "/all/file", "/all/below/file"];
    let ran = bundle.probe(&[&["stat"], &paths[..]].concat());
    let ran = ran.call(&["run", "--bundle", ran.path().to_str().unwrap(), ran.id()]);
    assert!(Command::new("umount").arg(source.join("below")).status().unwrap().success());
    bundle.assert_nothing_left();
    let seen = ran.json();
    let uids = paths.map(|path| seen[path]["uid"].as_u64().unwrap());
    assert_eq!(uids, [1005, 5, 1005, 1005]);
}

#[test]
fn what_an_earlier_mount_has_brought_is_mapped() {
    for user in [false, true] {
        let mut bundle = Bundle::new("idmap");
        let source = source(&bundle);
        if user {
            in_user_namespace(&mut bundle);
        }
        let bind =
            |from: &Path, to: &str, options: Value| json!({ "destination": to, "source": from, "options": options });
        let earlier = bundle.rootfs().join("mnt");
        add(&mut bundle, bind(&source, "/mnt", json!(["bind"])), &json!({}));
        add(&mut bundle, bind(&earlier, "/mapped", json!(["bind", "idmap"])), &maps(100_001, 200_002));
        add(&mut bundle, bind(&earlier.join("file"), "/file", json!(["rbind", "ridmap"])), &maps(100_001, 200_002));
        let ids = if user { [6, 8] } else { [100_006, 200_008] };
        assert_eq!(owners(&mut bundle, &["/mapped/file", "/file"]), [ids, ids], "{user}");
        // A mount that shows other ids already cannot show others again.
        let again = bundle.rootfs().join("mapped");
        add(&mut bundle, bind(&again, "/again", json!(["bind", "idmap"])), &maps(1, 1));
        let ran = bundle.run();
        let says = "id-map a mount of the container's own: mount_setattr idmap (it is id-mapped already";
        assert!(!ours() || (ran.status != 0 && ran.stderr.contains(says)), "{}", ran.stderr);
    }
}

#[test]
fn a_new_tmpfs_is_mapped() {
    for user in [false, true] {
        let mut bundle = Bundle::new("idmap");
        if user {
            in_user_namespace(&mut bundle);
        }
        let tmpfs = json!({ "destination": "/t", "type": "tmpfs", "source": "t", "options": ["size=1m", "mode=711", "nosuid", "idmap"] });
        add(&mut bundle, tmpfs, &maps(100_001, 200_002));
        let seen = bundle.probe(&["stat", "/t"]).seen();
        let ids = if user { [1, 2] } else { [100_001, 200_002] };
        assert_eq!([&seen["/t"]["uid"], &seen["/t"]["gid"], &seen["/t"]["mode"]], [ids[0], ids[1], 0o711]);
        let seen = bundle.probe(&[]).seen();
        let mount = seen["mounts"].as_array().unwrap().iter().find(|mount| mount["mount_point"] == "/t").unwrap();
        assert!(mount["options"].as_array().unwrap().contains(&json!("nosuid")), "{mount}");
        assert!(mount["super_options"].as_array().unwrap().contains(&json!("size=1024k")), "{mount}");
    }
}

#[test]
fn a_file_system_that_cannot_be_mapped_is_refused() {
    let mut bundle = Bundle::new("idmap");
    add(&mut bundle, json!({ "destination": "/m", "type": "mqueue", "source": "mqueue" }), &maps(1000, 2000));
    let ran = bundle.run();
    let says = "id-map a new mqueue: mount_setattr idmap (its file system cannot be id-mapped on this kernel): EINVAL";
    assert!(ran.status != 0 && ran.stderr.contains(says), "{}", ran.stderr);
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    add(&mut bundle, json!({ "destination": "/m", "source": "/proc", "options": ["bind"] }), &maps(1000, 2000));
    let ran = bundle.run();
    assert!(ran.status != 0 && ran.stderr.contains("id-map /proc: mount_setattr idmap"), "{}", ran.stderr);
}
