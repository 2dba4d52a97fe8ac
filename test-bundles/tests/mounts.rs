//! `mounts`: file systems, binds, options and propagation, and that no path leads out of the rootfs (runtime spec
//! config.md, "Mounts"; mount_namespaces(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_bundles::bundle::{Bundle, Ran, ours};

#[test]
fn the_usual_file_systems_with_their_options() {
    let seen = Bundle::new("mounts").seen();
    for (destination, fs_type, options) in [
        ("/proc", "proc", &["rw", "nosuid", "nodev", "noexec", "relatime"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec", "relatime"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "relatime"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec", "relatime"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec", "relatime"]),
        ("/deep/er/than/that", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "relatime"]),
    ] {
        let mount = mount(&seen, destination);
        assert_eq!(mount["fs_type"], fs_type, "{destination}");
        assert_eq!(mount["options"], json!(options), "{destination}");
    }
    // What is the file system's own, and not the mount's.
    for (destination, option) in [
        ("/dev", "size=65536k"),
        ("/dev/pts", "ptmxmode=666"),
        ("/dev/pts", "gid=5"),
        ("/deep/er/than/that", "mode=711"),
    ] {
        let options = mount(&seen, destination)["super_options"].clone();
        assert!(options.as_array().unwrap().contains(&json!(option)), "{destination}: {options}");
    }
}

#[test]
fn options_become_flags_and_a_later_one_wins() {
    for (options, expected) in [
        (json!(["ro"]), &["ro", "relatime"][..]),
        (json!(["ro", "rw", "nosuid", "nodev"]), &["rw", "nosuid", "nodev", "relatime"]),
        (json!(["noexec", "exec", "noatime"]), &["rw", "noatime"]),
        (json!(["strictatime"]), &["rw"]),
        (json!(["nodiratime"]), &["rw", "nodiratime", "relatime"]),
    ] {
        let mut bundle = with(&json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": options }));
        bundle.probe(&[]);
        let seen = bundle.seen();
        assert_eq!(mount(&seen, "/m")["options"], json!(expected), "{options}");
    }
}

#[test]
fn a_directory_is_bound_for_reading_and_writing() {
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("file"), "of the host").unwrap();
    let mut bundle = with(&bind(host.path(), "/data", &["bind", "rw"]));
    bundle.probe(&["read", "/data/file"]);
    assert_eq!(bundle.seen(), json!({ "/data/file": "of the host" }));
    bundle.probe(&["write", "/data/new"]);
    assert_eq!(bundle.seen(), json!({ "/data/new": "ok" }));
    assert_eq!(fs::read_to_string(host.path().join("new")).unwrap(), "written\n");
}

#[test]
fn a_read_only_bind_refuses_writes_and_leaves_the_hosts_mount_alone() {
    let host = TempDir::new().unwrap();
    let mut bundle = with(&bind(host.path(), "/data", &["bind", "ro"]));
    bundle.probe(&["write", "/data/new"]);
    assert_eq!(bundle.seen(), json!({ "/data/new": "EROFS" }));
    fs::write(host.path().join("new"), "still writable here").unwrap();
}

#[test]
fn links_on_an_earlier_mount_lead_where_they_lead_in_the_container() {
    // Others follow them on the host.
    if !ours() {
        return;
    }
    let (secret, volume) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(secret.path().join("file"), "of the host").unwrap();
    symlink(secret.path().join("file"), volume.path().join("link")).unwrap();
    let mut bundle = with(&bind(volume.path(), "/mnt", &["bind"]));
    let link = bundle.rootfs().join("mnt/link");
    add(&mut bundle, &bind(&link, "/final", &["bind"]));
    let ran = bundle.probe(&["read", "/final"]).run();
    let says = "mount the container's /mnt/link at /final (bind): ENOENT";
    assert!(ran.status != 0 && ran.stderr.contains(says), "{}", ran.stderr);
    let inside = bundle.rootfs().join(secret.path().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("file"), "of the container").unwrap();
    assert_eq!(bundle.seen(), json!({ "/final": "of the container" }));
    // As a link it can be bound and made anew, too.
    for option in ["src-nofollow", "copy-symlink"] {
        bundle.config["mounts"].as_array_mut().unwrap().pop();
        add(&mut bundle, &bind(&link, "/final", &["bind", option]));
        let seen = bundle.probe(&["stat", "/final"]).seen();
        assert_eq!(seen["/final"]["target"], json!(secret.path().join("file")), "{option}");
        let _ = fs::remove_file(bundle.rootfs().join("final"));
    }
}

#[test]
fn a_single_file_is_bound_on_a_destination_that_is_made() {
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("hosts"), "127.0.0.1 localhost").unwrap();
    let mut bundle = with(&bind(&host.path().join("hosts"), "/etc/hosts", &["rbind", "ro"]));
    bundle.probe(&["read", "/etc/hosts"]);
    assert_eq!(bundle.seen(), json!({ "/etc/hosts": "127.0.0.1 localhost" }));
    bundle.probe(&["write", "/etc/hosts"]);
    assert_eq!(bundle.seen(), json!({ "/etc/hosts": "EROFS" }));
}

#[test]
fn rbind_brings_the_mounts_below_and_bind_does_not() {
    let host = HostMount::new();
    for (option, expected) in [("rbind", json!(["inside"])), ("bind", json!([]))] {
        let mut bundle = with(&bind(host.path(), "/data", &[option]));
        bundle.probe(&["list", "/data/below"]);
        assert_eq!(bundle.seen(), json!({ "/data/below": expected }), "{option}");
    }
}

#[test]
fn a_relative_source_is_below_the_bundle() {
    let mut bundle = with(&json!({ "destination": "/data", "type": "bind", "source": "beside", "options": ["rbind"] }));
    fs::create_dir(bundle.path().join("beside")).unwrap();
    fs::write(bundle.path().join("beside/file"), "").unwrap();
    bundle.probe(&["list", "/data"]);
    assert_eq!(bundle.seen(), json!({ "/data": ["file"] }));
}

#[test]
fn mounts_are_made_in_order() {
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("file"), "above").unwrap();
    let mut bundle = with(&json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs" }));
    add(&mut bundle, &bind(host.path(), "/data/inner", &["bind"]));
    bundle.probe(&["list", "/data", "/data/inner"]);
    assert_eq!(bundle.seen(), json!({ "/data": ["inner"], "/data/inner": ["file"] }));
}

#[test]
fn propagation_is_private_unless_it_is_asked_for() {
    let host = TempDir::new().unwrap();
    let host = SharedMount::new(host);
    for (option, expected) in [("rprivate", ""), ("rslave", "master:"), ("rshared", "shared:")] {
        let mut bundle = with(&bind(host.path(), "/data", &["rbind", option]));
        if option == "rshared" {
            bundle.config["linux"]["rootfsPropagation"] = json!("shared");
        }
        bundle.probe(&[]);
        let seen = bundle.seen();
        let propagation = mount(&seen, "/data")["propagation"].clone();
        let kinds: Vec<&str> = propagation.as_array().unwrap().iter().map(|kind| kind.as_str().unwrap()).collect();
        match expected {
            "" => assert_eq!(kinds, [""; 0], "{option}"),
            kind => assert!(kinds.iter().any(|found| found.starts_with(kind)), "{option}: {kinds:?}"),
        }
    }
}

#[test]
fn the_roots_propagation_is_the_one_asked_for() {
    // runc 1.1 prepares the host's side of it only: its root is private always.
    let expectations = [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")];
    for (propagation, expected) in
        expectations.into_iter().filter(|(propagation, _)| ours() || *propagation == "private")
    {
        let mut bundle = Bundle::new("mounts");
        bundle.config["linux"]["rootfsPropagation"] = json!(propagation);
        let found = mount(&bundle.seen(), "/")["propagation"].clone();
        let kind = found.as_array().unwrap().first().map_or("", |kind| kind.as_str().unwrap());
        assert!(
            if expected.is_empty() { kind.is_empty() } else { kind.starts_with(expected) },
            "{propagation}: {found}"
        );
    }
}

#[test]
fn nothing_of_the_host_is_in_sight() {
    let seen = Bundle::new("mounts").seen();
    let listed = ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/deep/er/than/that"];
    for mount in seen["mounts"].as_array().unwrap() {
        let point = mount["mount_point"].as_str().unwrap();
        // The masked and read-only paths are mounts too.
        let covered = point.starts_with("/proc/") || point.starts_with("/sys/");
        assert!(listed.contains(&point) || covered, "{mount}");
    }
    assert_eq!(mount(&seen, "/")["propagation"], json!([]));
}

#[test]
fn symbolic_links_in_a_destination_stay_inside_the_rootfs() {
    let outside = TempDir::new().unwrap();
    let out = outside.path().to_str().unwrap();
    let relative = format!("../../../../../../../..{out}");
    let absolute = format!("/..{out}");
    for target in [&relative, &absolute, out] {
        let host = TempDir::new().unwrap();
        fs::write(host.path().join("file"), "of the host").unwrap();
        let mut bundle = with(&bind(host.path(), "/etc/data", &["bind"]));
        symlink(target, bundle.rootfs().join("etc")).unwrap();
        bundle.probe(&["read", "/etc/data/file", &format!("{out}/data/file")]);
        let seen = bundle.run();
        // To follow the link inside the rootfs and to refuse are both safe; only the host must not notice.
        if seen.status == 0 {
            assert_eq!(seen.json()["/etc/data/file"], "of the host", "{target}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{target}");
    }
}

#[test]
fn a_link_as_the_destination_itself_stays_inside_the_rootfs() {
    let outside = TempDir::new().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("file"), "of the container").unwrap();
    let mut bundle = with(&bind(&host.path().join("file"), "/link", &["bind"]));
    symlink(&victim, bundle.rootfs().join("link")).unwrap();
    bundle.probe(&["write", "/link"]);
    bundle.run();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}

#[test]
fn a_tmpfs_begins_as_a_copy() {
    let mut bundle = with(
        &json!({ "destination": "/var/state", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"] }),
    );
    let state = bundle.rootfs().join("var/state");
    fs::create_dir_all(state.join("deep/er")).unwrap();
    fs::write(state.join("deep/er/file"), "of the image").unwrap();
    fs::set_permissions(state.join("deep/er/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(state.join("deep"), fs::Permissions::from_mode(0o1710)).unwrap();
    std::os::unix::fs::chown(state.join("deep/er"), Some(7), Some(8)).unwrap();
    symlink("/not/there", state.join("link")).unwrap();
    // runc 1.1 cannot copy one.
    if ours() {
        nix::unistd::mkfifo(&state.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    }
    let large = "x".repeat(200_000);
    fs::write(state.join("large"), &large).unwrap();
    bundle.probe(&["read", "/var/state/deep/er/file", "/var/state/large"]);
    assert_eq!(bundle.seen(), json!({ "/var/state/deep/er/file": "of the image", "/var/state/large": large }));
    let paths = ["deep", "deep/er", "deep/er/file", "link", "fifo"].map(|name| format!("/var/state/{name}"));
    bundle.probe(&[&["stat"], &paths.each_ref().map(String::as_str)[..]].concat());
    let seen = bundle.seen();
    let brief = |path: &String| {
        let file = &seen[path];
        json!([file["type"], file["mode"], file["uid"], file["gid"], file["target"]])
    };
    assert_eq!(brief(&paths[0]), json!(["d", 0o1710, 0, 0, null]));
    assert_eq!(brief(&paths[1]), json!(["d", 0o755, 7, 8, null]));
    assert_eq!(brief(&paths[2]), json!(["f", 0o4751, 0, 0, null]));
    assert_eq!(brief(&paths[3]), json!(["l", 0o777, 0, 0, "/not/there"]));
    assert!(!ours() || brief(&paths[4]) == json!(["p", 0o400, 0, 0, null]), "{seen}");
    // A copy: what is written to it is not in the image.
    bundle.probe(&["write", "/var/state/new", "/var/state/large"]);
    assert_eq!(bundle.seen(), json!({ "/var/state/new": "ok", "/var/state/large": "ok" }));
    assert!(!state.join("new").exists() && fs::read_to_string(state.join("large")).unwrap() == large);
}

#[test]
fn a_copy_that_does_not_fit_or_is_too_deep_is_said_to() {
    if !ours() {
        return;
    }
    for (name, errno) in [("large", "ENOSPC"), ("deep", "ELOOP")] {
        let bundle = with(
            &json!({ "destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=64k"] }),
        );
        let directory = bundle.rootfs().join("d");
        if name == "large" {
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("file"), "x".repeat(200_000)).unwrap();
        } else {
            fs::create_dir_all((0..200).fold(directory, |path, _| path.join("a"))).unwrap();
        }
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{name}");
        assert!(!ours() || (ran.stderr.contains("mount tmpfs at /d") && ran.stderr.contains(errno)), "{}", ran.stderr);
    }
}

#[test]
fn a_copy_follows_no_link_of_the_images() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "of the host").unwrap();
    let mut bundle =
        with(&json!({ "destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
    fs::create_dir(bundle.rootfs().join("d")).unwrap();
    symlink(outside.path(), bundle.rootfs().join("d/directory")).unwrap();
    symlink(outside.path().join("secret"), bundle.rootfs().join("d/file")).unwrap();
    bundle.probe(&["read", "/d/file", "/d/directory/secret"]);
    assert_eq!(bundle.seen(), json!({ "/d/file": "ENOENT", "/d/directory/secret": "ENOENT" }));
}

#[test]
fn a_tmpfs_looks_like_the_directory_that_was_there() {
    for (there, options, expected) in [
        (Some(0o710), json!([]), 0o710),
        (Some(0o710), json!(["mode=700"]), 0o700),
        (None, json!([]), 0o1777),
        (None, json!(["mode=711"]), 0o711),
    ] {
        // runc 1.1 knows better than a mode that is asked for.
        if !ours() && there.is_some() && options != json!([]) {
            continue;
        }
        let mut bundle = with(&json!({ "destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": options }));
        if let Some(mode) = there {
            fs::create_dir(bundle.rootfs().join("d")).unwrap();
            fs::set_permissions(bundle.rootfs().join("d"), fs::Permissions::from_mode(mode)).unwrap();
        }
        bundle.probe(&["stat", "/d"]);
        assert_eq!(bundle.seen()["/d"]["mode"], expected, "{there:?} {options}");
    }
}

#[test]
fn links_are_bound_mounted_on_and_copied() {
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("file"), "of the host").unwrap();
    symlink("file", host.path().join("link")).unwrap();
    let (file, link) = (host.path().join("file"), host.path().join("link"));
    let run = |source: &Path, options: &[&str], there: Option<&str>| {
        let mut bundle = with(&bind(source, "/at/place", options));
        if let Some(target) = there {
            fs::create_dir(bundle.rootfs().join("at")).unwrap();
            fs::write(bundle.rootfs().join("target"), "of the image").unwrap();
            symlink(target, bundle.rootfs().join("at/place")).unwrap();
        }
        let stat = bundle.probe(&["stat", "/at/place", "/target"]).run();
        let read = bundle.probe(&["read", "/target"]).run();
        (stat, read)
    };
    if !ours() {
        return;
    }
    let kind = |ran: Ran| ran.json()["/at/place"].clone();
    // Bound as a link, and not what it leads to.
    let (stat, _) = run(&link, &["bind", "src-nofollow"], None);
    let place = kind(stat);
    assert_eq!((&place["type"], &place["target"]), (&json!("l"), &json!("file")));
    // Mounted on the link itself: where it leads to is as it was.
    let (stat, read) = run(&file, &["bind", "dest-nofollow"], Some("/target"));
    assert_eq!(kind(stat)["type"], "f");
    assert_eq!(read.json()["/target"], "of the image");
    let (stat, read) = run(&file, &["bind"], Some("/target"));
    assert_eq!(kind(stat)["type"], "l");
    assert_eq!(read.json()["/target"], "of the host");
    // Made anew; what is no link is bound; what is another link is refused.
    let (stat, _) = run(&link, &["bind", "copy-symlink"], None);
    assert_eq!(kind(stat)["target"], "file");
    let (stat, _) = run(&link, &["bind", "copy-symlink"], Some("file"));
    assert_eq!(kind(stat)["target"], "file");
    let (stat, _) = run(&file, &["bind", "copy-symlink"], None);
    assert_eq!(kind(stat)["type"], "f");
    let (stat, _) = run(&link, &["bind", "copy-symlink"], Some("/target"));
    assert!(
        stat.status != 0 && stat.stderr.contains("copy-symlink") && stat.stderr.contains("EEXIST"),
        "{}",
        stat.stderr
    );
}

#[test]
fn a_sysfs_without_a_network_namespace_of_its_own() {
    let mut bundle = Bundle::new("mounts");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
    bundle.probe(&["list", "/sys"]);
    assert!(bundle.seen()["/sys"].as_array().unwrap().contains(&json!("class")));
}

#[test]
fn flags_for_the_whole_tree_reach_what_is_below() {
    let host = HostMount::new();
    for (options, expected) in [
        (&["rbind", "rro", "rnosuid", "rnoatime"][..], ["ro", "nosuid", "noatime"]),
        (&["rbind", "rro", "rstrictatime", "rnodev"], ["ro", "nodev", ""]),
    ] {
        let mut bundle = with(&bind(host.path(), "/data", options));
        bundle.probe(&[]);
        let seen = bundle.seen();
        for point in ["/data", "/data/below"] {
            let found = mount(&seen, point)["options"].clone();
            let found: Vec<&str> = found.as_array().unwrap().iter().map(|option| option.as_str().unwrap()).collect();
            let wanted: Vec<&str> = expected.into_iter().filter(|option| !option.is_empty()).collect();
            assert_eq!(found, wanted, "{point} {options:?}");
        }
    }
}

#[test]
fn a_moved_root_is_as_good_as_a_pivoted_one() {
    let seen = |flags: &[&str]| {
        let seen = Bundle::new("mounts").seen_with(flags);
        let mounts = seen["mounts"].as_array().unwrap().clone();
        let line = |mount: &Value| format!("{} {} {}", mount["mount_point"], mount["fs_type"], mount["options"]);
        mounts.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(seen(&["--no-pivot"]), seen(&[]));
    let mut bundle = Bundle::new("mounts");
    bundle.config["linux"]["rootfsPropagation"] = json!("shared");
    let ran = bundle.create_with(&["--no-pivot"]);
    assert!(!ours() || ran.stderr.contains("/linux/rootfsPropagation: shared"), "{}", ran.stderr);
}

#[test]
fn whatever_has_a_name_can_be_bound() {
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("file"), "").unwrap();
    symlink("file", host.path().join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(host.path().join("socket")).unwrap();
    nix::unistd::mkfifo(&host.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (source, letter) in [
        (host.path().join("file"), "f"),
        (host.path().join("link"), "f"),
        (host.path().join("socket"), "s"),
        (host.path().join("fifo"), "p"),
        ("/dev/full".into(), "c"),
    ] {
        let mut bundle = with(&bind(&source, "/made/for/it", &["rbind", "ro"]));
        bundle.probe(&["stat", "/made/for/it"]);
        assert_eq!(bundle.seen()["/made/for/it"]["type"], letter, "{}", source.display());
    }
}

#[test]
fn the_hosts_own_trees_can_be_bound() {
    for (source, destination) in
        [("/", "/host"), ("/proc", "/host/proc"), ("/sys", "/host/sys"), ("/proc", "/hostproc")]
    {
        let mut bundle = with(&bind(Path::new(source), destination, &["rbind", "rprivate", "ro"]));
        bundle.probe(&["list", destination]);
        let seen = bundle.seen();
        assert!(seen[destination].as_array().is_some_and(|names| names.len() > 3), "{source}: {seen}");
    }
}

#[test]
fn directories_are_made_for_everybody_whatever_the_runtimes_umask() {
    let mut bundle = with(&json!({ "destination": "/made/for/it", "type": "tmpfs", "source": "tmpfs" }));
    bundle.probe(&["stat", "/made", "/dev/null", "/dev/disk"]);
    let mut command = std::process::Command::new("sh");
    let inner = bundle.command();
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    let ran = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(seen["/made"]["mode"], 0o755);
    assert_eq!(seen["/dev/null"]["mode"], 0o666);
}

#[test]
fn a_thousand_mounts() {
    let host = TempDir::new().unwrap();
    let mut bundle = Bundle::new("mounts");
    for number in 0..1000 {
        add(&mut bundle, &bind(host.path(), &format!("/many/{number}"), &["bind", "rprivate"]));
    }
    bundle.probe(&["list", "/many"]);
    assert_eq!(bundle.seen()["/many"].as_array().unwrap().len(), 1000);
}

#[test]
fn a_read_only_root_gets_its_mount_points_first() {
    let mut bundle = with(&json!({ "destination": "/not/yet/there", "type": "tmpfs", "source": "tmpfs" }));
    bundle.config["root"]["readonly"] = json!(true);
    bundle.probe(&["write", "/new", "/not/yet/there"]);
    assert_eq!(bundle.seen(), json!({ "/new": "EROFS", "/not/yet/there": "ok" }));
}

#[test]
fn a_root_that_cannot_be_written_and_lacks_a_mount_point_is_said_to() {
    let image = SharedMount::new(TempDir::new().unwrap());
    rustix::mount::mount_remount(image.path(), rustix::mount::MountFlags::RDONLY, "").unwrap();
    let mut bundle = Bundle::new("mounts");
    bundle.config["root"]["path"] = json!(image.path());
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(!ours() || (ran.stderr.contains("mount proc at /proc") && ran.stderr.contains("EROFS")), "{}", ran.stderr);
}

/// The bundle with one more mount.
fn with(mount: &Value) -> Bundle {
    let mut bundle = Bundle::new("mounts");
    add(&mut bundle, mount);
    bundle
}

fn add(bundle: &mut Bundle, mount: &Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount.clone());
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

/// The topmost mount at `destination`.
fn mount<'a>(seen: &'a Value, destination: &str) -> &'a Value {
    let mounts = seen["mounts"].as_array().unwrap();
    mounts
        .iter()
        .rfind(|mount| mount["mount_point"] == destination)
        .unwrap_or_else(|| panic!("{destination}: {mounts:#?}"))
}

/// A directory of the host with a tmpfs at `below`, in which there is a directory `inside`.
struct HostMount(TempDir);

impl HostMount {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let below = directory.path().join("below");
        fs::create_dir(&below).unwrap();
        tmpfs(&below);
        fs::create_dir(below.join("inside")).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        rustix::mount::unmount(self.path().join("below"), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// A tmpfs whose mounts the host shares with others.
struct SharedMount(TempDir);

impl SharedMount {
    fn new(directory: TempDir) -> Self {
        tmpfs(directory.path());
        rustix::mount::mount_change(directory.path(), rustix::mount::MountPropagationFlags::SHARED).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SharedMount {
    fn drop(&mut self) {
        rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

fn tmpfs(at: &Path) {
    rustix::mount::mount("tmpfs", at, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
}
