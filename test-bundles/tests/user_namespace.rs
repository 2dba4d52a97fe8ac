//! User namespaces: new ones with `linux.uidMappings` and `linux.gidMappings`, joined ones, and all that is different for a
//! root who is nobody on the host (user_namespaces(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};
use test_bundles::holder::Holder;
use test_bundles::mounts::unshare_mounts;

/// Root of the bundle's maps.
const ROOT: (u32, u32) = (100_000, 200_000);

const UIDS: &str = "0 100000 65536";
const GIDS: &str = "0 200000 65536";

/// The bundle with a rootfs of its root's. The directory around that may be walked by nobody but us; other runtimes are helped.
fn bundle() -> Bundle {
    let bundle = Bundle::new("user_namespace");
    chown(bundle.rootfs(), Some(ROOT.0), Some(ROOT.1)).unwrap();
    if !ours() {
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o711)).unwrap();
    }
    bundle
}

fn owner(path: impl AsRef<std::path::Path>) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

fn own(file: &str) -> String {
    link(&format!("/proc/self/ns/{file}"))
}

fn link(path: &str) -> String {
    fs::read_link(path).unwrap().to_string_lossy().into_owned()
}

fn namespaces(bundle: &mut Bundle) -> &mut Vec<Value> {
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap()
}

/// Leaves out a kind, and the name that needs it.
fn inherit(bundle: &mut Bundle, kind: &str) {
    bundle.config.as_object_mut().unwrap().remove("hostname");
    namespaces(bundle).retain(|namespace| namespace["type"] != kind);
}

fn join(bundle: &mut Bundle, kind: &str, path: &str) {
    let namespace = namespaces(bundle).iter_mut().find(|namespace| namespace["type"] == kind).unwrap();
    namespace["path"] = json!(path);
}

fn drop_mappings(bundle: &mut Bundle) {
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
}

#[test]
fn its_root_has_the_hosts_mapped_ids() {
    let seen = bundle().seen();
    assert_eq!((&seen["uid_map"], &seen["gid_map"]), (&json!([[0, 100_000, 65_536]]), &json!([[0, 200_000, 65_536]])));
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!([0, 0, 0]), &json!([0, 0, 0])));
    assert_eq!((&seen["groups"], &seen["setgroups"]), (&json!([]), &json!(["allow"])));
    for file in ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(seen["namespaces"][file], own(file), "{file}");
    }
    assert_eq!(seen["capabilities"]["effective"].as_array().unwrap().len(), 14);
    assert_eq!(seen["hostname"], "probe");
}

#[test]
fn the_host_sees_a_user_without_rights() {
    let mut bundle = bundle();
    let user = &mut bundle.config["process"]["user"];
    *user = json!({ "uid": 33, "gid": 34, "additionalGids": [5, 65_535] });
    let pid = bundle.probe(&["sleep"]).start();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("Uid:"), ["100033"; 4]);
    assert_eq!(line("Gid:"), ["200034"; 4]);
    assert_eq!(line("Groups:"), ["200005", "265535"]);
}

#[test]
fn what_is_made_in_the_root_is_its_roots() {
    let mut bundle = bundle();
    let tmpfs = json!({ "destination": "/made/here", "type": "tmpfs", "source": "t", "options": ["mode=750", "uid=7", "gid=8"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(tmpfs);
    bundle.config["process"]["cwd"] = json!("/work/here");
    bundle.probe(&["stat", "/made/here", "/dev", "/dev/shm", "/dev/mqueue", "/proc"]);
    let seen = bundle.seen();
    assert_eq!(
        seen["/made/here"],
        json!({ "type": "d", "mode": 0o750, "uid": 7, "gid": 8, "device": null, "target": null })
    );
    for path in ["/dev", "/dev/shm", "/dev/mqueue"].into_iter().filter(|path| ours() || *path != "/dev/mqueue") {
        assert_eq!((&seen[path]["uid"], &seen[path]["gid"]), (&json!(0), &json!(0)), "{path}");
    }
    for path in ["made", "made/here", "work/here", "dev", "proc"] {
        assert_eq!(owner(bundle.rootfs().join(path)), ROOT, "{path}");
    }
}

#[test]
fn devices_are_the_hosts_own() {
    let mut bundle = bundle();
    let seen = bundle.seen();
    for (path, number) in [("null", [1, 3]), ("zero", [1, 5]), ("full", [1, 7]), ("urandom", [1, 9]), ("tty", [5, 0])] {
        assert_eq!(seen["devices"][format!("/dev/{path}")]["device"], json!(number), "{path}");
    }
    bundle.probe(&["write", "/dev/null", "/dev/full"]);
    assert_eq!(bundle.seen(), json!({ "/dev/null": "ok", "/dev/full": "ENOSPC" }));
    bundle.probe(&["syscall", "mknod"]);
    assert_eq!(bundle.seen(), json!({ "mknod": "EPERM" }));
}

#[test]
fn a_device_that_the_host_has_not_is_made() {
    if !ours() {
        // runc refuses these.
        return;
    }
    for (path, place) in [("/dev/none", "/dev/none"), ("/dev/full", "/dev/full"), ("/link", "/srv/below/zero")] {
        let mut bundle = bundle();
        symlink("srv/below/zero", bundle.rootfs().join("link")).unwrap();
        let device = |kind, major, minor| json!({ "path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o640, "uid": 7, "gid": 8 });
        bundle.config["linux"]["devices"] = json!([device("c", 1, 5)]);
        let seen = bundle.probe(&["stat", place]).seen()[place].take();
        assert_eq!(
            seen,
            json!({ "type": "c", "mode": 0o640, "uid": 7, "gid": 8, "device": [1, 5], "target": null }),
            "{path}"
        );
        // Its owner may open it, who is nobody in particular on the host; and its mode holds.
        for (user, result) in [(7, "ok"), (9, "EACCES")] {
            bundle.config["process"]["user"] = json!({ "uid": user, "gid": user });
            bundle.config["process"]["capabilities"] = json!({});
            assert_eq!(bundle.probe(&["write", place]).seen(), json!({ place: result }), "{path}");
        }
        bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
        bundle.config["linux"]["devices"] = json!([device("b", 7, 3)]);
        assert_eq!(bundle.probe(&["stat", place]).seen()[place]["device"], json!([7, 3]));
    }
}

#[test]
fn nothing_is_left_of_the_mount_that_a_device_is_made_in() {
    if !ours() {
        return;
    }
    let mut bundle = bundle();
    let points = |bundle: &mut Bundle| {
        let mounts = bundle.probe(&[]).seen()["mounts"].take();
        mounts.as_array().unwrap().iter().map(|mount| mount["mount_point"].clone()).collect::<Vec<_>>()
    };
    let before = points(&mut bundle);
    bundle.config["linux"]["devices"] = json!([{ "path": "/none", "type": "c", "major": 1, "minor": 5 }]);
    let mut after = points(&mut bundle);
    after.retain(|point| point != "/none");
    assert_eq!(after, before);
}

#[test]
fn a_device_whose_owner_is_not_mapped_is_refused() {
    let mut bundle = bundle();
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/none", "type": "c", "major": 1, "minor": 5, "uid": 70_000 }]);
    let ran = bundle.run();
    let says = "make device 1:5 for /dev/none, which the host has not: its owner is not mapped";
    assert!(!ours() || (ran.status != 0 && ran.stderr.contains(says)), "{}", ran.stderr);
}

#[test]
fn fifos_are_made_as_anywhere() {
    // Not every runtime does.
    if !ours() {
        return;
    }
    let mut bundle = bundle();
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/fifo", "type": "p", "fileMode": 0o600, "uid": 3, "gid": 4 }]);
    let fifo = bundle.seen()["devices"]["/dev/fifo"].take();
    assert_eq!(fifo, json!({ "type": "p", "mode": 0o600, "uid": 3, "gid": 4, "device": null, "target": null }));
}

#[test]
fn a_bind_may_show_what_an_earlier_mount_has_brought() {
    let mut bundle = bundle();
    let volume = bundle.path().join("volume");
    fs::create_dir_all(volume.join("inner")).unwrap();
    fs::write(volume.join("inner/file"), "of the volume").unwrap();
    let rootfs = bundle.rootfs();
    let bind = |from: &std::path::Path, to: &str, option: &str| json!({ "destination": to, "type": "bind", "source": from, "options": [option] });
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(bind(&volume, "/mnt", "bind"));
    mounts.push(bind(&rootfs.join("mnt/inner"), "/directory", "bind"));
    mounts.push(bind(&rootfs.join("mnt/inner/file"), "/file", "rbind"));
    mounts.push(bind(&rootfs.join("directory"), "/again", "rbind"));
    mounts.push(bind(&rootfs, "/whole", "rbind"));
    let paths = ["/directory/file", "/file", "/again/file", "/whole/mnt/inner/file"];
    let seen = bundle.probe(&[&["read"], &paths[..]].concat()).seen();
    assert!(paths.iter().all(|path| seen[path] == "of the volume"), "{seen}");
}

#[test]
fn a_bind_may_come_from_where_its_root_may_not_walk() {
    if !ours() {
        return;
    }
    let mut bundle = bundle();
    let source = bundle.path().join("closed/source");
    fs::create_dir_all(source.join("below")).unwrap();
    fs::write(source.join("file"), "seen").unwrap();
    fs::set_permissions(bundle.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let bind = |to: &str, options: Value| json!({ "destination": to, "source": source, "options": options });
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.extend([bind("/tree", json!(["rbind", "ro"])), bind("/one", json!(["bind", "nosuid"]))]);
    mounts.push(json!({ "destination": "/file", "source": source.join("file"), "options": ["bind"] }));
    bundle.probe(&["read", "/tree/file", "/one/file", "/file"]);
    assert_eq!(bundle.seen(), json!({ "/tree/file": "seen", "/one/file": "seen", "/file": "seen" }));
    let seen = bundle.probe(&[]).seen();
    let options = |point: &str| {
        let mounts = seen["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["mount_point"] == point).unwrap()["options"].clone()
    };
    assert!(options("/tree").as_array().unwrap().contains(&json!("ro")));
    assert!(options("/one").as_array().unwrap().contains(&json!("nosuid")));
}

#[test]
fn a_link_is_bound_as_the_link_that_it_is() {
    if !ours() {
        return;
    }
    let mut bundle = bundle();
    let link = bundle.path().join("link");
    symlink("not-there", &link).unwrap();
    let bind = json!({ "destination": "/made/link", "source": link, "options": ["bind", "src-nofollow"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(bind);
    let seen = bundle.probe(&["stat", "/made/link"]).seen();
    assert_eq!((&seen["/made/link"]["type"], &seen["/made/link"]["target"]), (&json!("l"), &json!("not-there")));
}

/// A device is bound from the host there: what config.json says of its owner and mode is for nodes that are made.
#[test]
fn a_device_of_the_hosts_keeps_its_owner() {
    let mut bundle = bundle();
    let node = bundle.path().join("node");
    mknod(&node, SFlag::S_IFCHR, Mode::from_bits_retain(0o640), makedev(1, 3)).unwrap();
    bundle.config["linux"]["devices"] =
        json!([{ "path": node, "type": "c", "major": 1, "minor": 3, "uid": 7, "gid": 8, "fileMode": 0o666 }]);
    let path = node.to_str().unwrap();
    let seen = bundle.probe(&["stat", path]).seen()[path].clone();
    assert_eq!((&seen["device"], &seen["mode"]), (&json!([1, 3]), &json!(0o640)));
    let metadata = fs::metadata(&node).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (0, 0, 0o640));
}

#[test]
fn flags_that_the_host_has_set_stay_and_its_propagation_does_not() {
    let mut bundle = bundle();
    let (mounted, _) = bind_of_the_hosts(&mut bundle, &["ro"]);
    let ran = run(&bundle);
    drop(mounted);
    bundle.assert_nothing_left();
    let seen = ran.json();
    let mount = seen["mounts"].as_array().unwrap().iter().find(|mount| mount["mount_point"] == "/d").unwrap();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount["options"].as_array().unwrap().contains(&json!(option)), "{mount}");
    }
    // It was shared; what is mounted in the container may not reach the host.
    let tags = mount["propagation"].as_array().unwrap();
    assert!(tags.iter().all(|tag| !tag.as_str().unwrap().starts_with("shared")), "{mount}");
}

/// A mount that the parent has made ready has nothing locked (mount_namespaces(7), "Restrictions on mount namespaces"), and still
/// nobody may clear what the host has set: not by the bind's own options, by a remount, or by a bind that shows it again.
#[test]
fn flags_that_the_host_has_set_are_not_cleared() {
    if !ours() {
        // crun and runc before 1.2 clear them.
        return;
    }
    for (said, flag) in [
        (&["rw"][..], "ro"),
        (&["suid"], "nosuid"),
        (&["dev"], "nodev"),
        (&["exec", "nodev"], "noexec"),
        (&["rexec"], "noexec"),
        (&["relatime"], "noatime"),
        (&["strictatime"], "noatime"),
        (&["diratime"], "nodiratime"),
    ] {
        let option = said[0];
        let options = |first| std::iter::once(first).chain(said.iter().copied()).collect::<Vec<_>>();
        let again = json!({ "destination": "/d", "options": options("remount") });
        let mut below = again.clone();
        below["destination"] = json!("/d/below");
        for (number, own, later) in [
            (0, said, None),
            (1, &[][..], Some(again)),
            (1, &[], Some(below)),
            (1, &[], Some(json!({ "destination": "/e", "source": "rootfs/d", "options": options("bind") }))),
        ] {
            let mut bundle = bundle();
            let (mounted, _) = bind_of_the_hosts(&mut bundle, own);
            let first = bundle.config["mounts"].as_array().unwrap().len() - 1;
            bundle.config["mounts"].as_array_mut().unwrap().extend(later);
            let ran = run(&bundle);
            drop(mounted);
            bundle.assert_nothing_left();
            let option = if number == 0 { option } else { option.trim_start_matches("re") };
            let says = format!("/mounts/{}/options: ", first + number);
            let locked = format!(": the host has set {flag} on ");
            assert!(
                ran.status != 0 && ran.stderr.contains(&says) && ran.stderr.contains(&locked),
                "{option}: {}",
                ran.stderr
            );
        }
    }
}

/// As strict as the host's, or stricter: nothing is taken away. The same where it is said twice, the second time as the host has it.
#[test]
fn flags_may_be_set_beside_those_of_the_host() {
    for (host, said, expected) in [
        ("nosuid,nodev", &["ro", "noexec"][..], json!(["ro", "nosuid", "nodev", "noexec", "relatime"])),
        ("nosuid,relatime", &["suid", "nosuid", "rw"], json!(["rw", "nosuid", "relatime"])),
        ("noatime", &["noatime"], json!(["rw", "noatime"])),
        ("relatime", &["noatime", "nodiratime"], json!(["rw", "noatime", "nodiratime"])),
        ("strictatime", &["relatime"], json!(["rw", "relatime"])),
    ] {
        if !ours() {
            // runc takes no other access times than the host's.
            return;
        }
        let mut bundle = bundle();
        let (mounted, options) = bind_with(&mut bundle, host, said);
        let ran = run(&bundle);
        drop(mounted);
        bundle.assert_nothing_left();
        assert_eq!(options(&ran.json()), expected, "{host} {said:?}");
    }
}

/// That its file system cannot be written is no flag of the mount, and nothing clears it.
#[test]
fn a_file_system_that_is_read_only_may_be_bound_for_writing() {
    let mut bundle = bundle();
    let (mounted, _) = bind_with(&mut bundle, "nosuid", &["rw"]);
    let source = bundle.path().join("source");
    for option in ["remount,ro", "remount,bind,rw"] {
        assert!(Command::new("mount").args(["-o", option]).arg(&source).status().unwrap().success());
    }
    let ran = run(bundle.probe(&["write", "/d"]));
    drop(mounted);
    bundle.assert_nothing_left();
    assert_eq!(ran.json(), json!({ "/d": "EROFS" }));
}

/// Where the runtime lives among the mounts of a user namespace the host's flags are locked: they stay where nothing is said of
/// them, and an option that would clear one is an error, never passed over.
#[test]
fn flags_that_are_locked_for_the_runtime_stay_or_it_is_told() {
    if !ours() {
        // runc before 1.2 keeps none.
        return;
    }
    for (said, kept) in [(&["ro"][..], true), (&["rw"], false), (&["suid"], false), (&["nodev", "dev"], false)] {
        let mut bundle = Bundle::new("namespaces");
        let (mounted, options) = bind_of_the_hosts(&mut bundle, said);
        let holder = Holder::new(&["--user", "--map-root-user", "--mount"]);
        let inner = bundle.command();
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", holder.path("mnt"))).arg(inner.get_program()).args(inner.get_args());
        let ran = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
        drop((holder, mounted));
        bundle.assert_nothing_left();
        let errors = String::from_utf8_lossy(&ran.stderr);
        if kept {
            let seen = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
            assert_eq!(options(&seen), json!(["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"]));
        } else {
            let step = format!("at /d (rbind,{}): EPERM", said.last().unwrap());
            assert!(!ran.status.success() && errors.contains(&step), "{errors}");
        }
    }
}

/// Binds a mount of the host's that has all flags, and says what options it has in the container.
fn bind_of_the_hosts(bundle: &mut Bundle, options: &[&str]) -> (Mounted, impl Fn(&Value) -> Value + use<>) {
    bind_with(bundle, "nosuid,nodev,noexec,ro,noatime,nodiratime", options)
}

/// The same of a mount that has these.
fn bind_with(bundle: &mut Bundle, host: &str, options: &[&str]) -> (Mounted, impl Fn(&Value) -> Value + use<>) {
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    let mounted = Mounted::new(&source, host);
    let options: Vec<_> = std::iter::once(&"rbind").chain(options).collect();
    let bind = json!({ "destination": "/d", "source": source, "options": options });
    bundle.config["mounts"].as_array_mut().unwrap().push(bind);
    let options = |seen: &Value| {
        let mounts = seen["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["mount_point"] == "/d").unwrap()["options"].clone()
    };
    (mounted, options)
}

fn run(bundle: &Bundle) -> test_bundles::bundle::Ran {
    bundle.call(&["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()])
}

/// A tmpfs of the host's, until this is dropped: of this thread's host, lest a mount namespace that another test makes meanwhile
/// keep it.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: &std::path::Path, options: &str) -> Self {
        unshare_mounts().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status().unwrap();
        assert!(mount.success());
        assert!(Command::new("mount").arg("--make-shared").arg(at).status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn exec_is_in_it_too() {
    let mut bundle = bundle();
    let init = bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process["user"] = json!({ "uid": 33, "gid": 34, "additionalGids": [7] });
    let seen = bundle.exec(&process).json();
    for file in ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_eq!(seen["namespaces"][file], link(&format!("/proc/{init}/ns/{file}")), "{file}");
    }
    assert_eq!(
        (&seen["uid"], &seen["gid"], &seen["groups"]),
        (&json!([33, 33, 33]), &json!([34, 34, 34]), &json!([7]))
    );
    assert_eq!(seen["uid_map"], json!([[0, 100_000, 65_536]]));
    process["user"] = json!({ "uid": 0, "gid": 0 });
    let seen = bundle.exec(&process).json();
    assert_eq!(seen["capabilities"]["effective"].as_array().unwrap().len(), 14);

    process["user"] = json!({ "uid": 65_536, "gid": 0 });
    let ran = bundle.exec(&process);
    assert_ne!(ran.status, 0);
    assert!(!ours() || ran.stderr.contains("/user/uid: 65536 is not mapped"), "{}", ran.stderr);
}

#[test]
fn pipes_are_given_to_its_user() {
    for uid in [0, 33] {
        let mut bundle = bundle();
        bundle.config["process"]["user"] = json!({ "uid": uid, "gid": 0 });
        bundle.probe(&["write", "/dev/stderr"]);
        let mut command = bundle.command();
        command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]);
        let ran = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stderr), "written\n", "{}", String::from_utf8_lossy(&ran.stdout));
    }
}

#[test]
fn sysctls_of_its_namespaces_can_be_set() {
    let mut bundle = bundle();
    bundle.config["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "user.max_cgroup_namespaces": "7" });
    let paths = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax", "/proc/sys/user/max_cgroup_namespaces"];
    bundle.probe(&[&["read"], &paths[..]].concat());
    let seen = bundle.seen();
    assert_eq!(paths.map(|path| seen[path].as_str().unwrap().trim().to_owned()), ["1", "4096", "7"]);
}

/// Where its root may mount no procfs: one that shows a pid namespace of others, or where none is mounted.
#[test]
fn sysctls_can_be_set_beside_a_pid_namespace_of_others() {
    let holder = Holder::new(&["--pid"]);
    for pid in ["own", "inherited", "joined"] {
        let mut bundle = bundle();
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        match pid {
            "own" => mounts.retain(|mount| mount["type"] != "proc"),
            "inherited" => inherit(&mut bundle, "pid"),
            _ => {
                mounts.retain(|mount| mount["type"] != "proc");
                join(&mut bundle, "pid", &holder.path("pid"));
            }
        }
        if !ours() && pid != "inherited" {
            continue;
        }
        bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4096" });
        let sysctl = bundle.probe(&["sleep"]).start();
        for (name, value) in [("net/ipv4/ip_forward", "1\n"), ("kernel/msgmax", "4096\n")] {
            let mut command = Command::new("nsenter");
            command.args(["--net", "--ipc", "--target", &sysctl.to_string(), "cat"]).arg(format!("/proc/sys/{name}"));
            let read = command.output().unwrap();
            assert_eq!(String::from_utf8_lossy(&read.stdout), value, "{pid} {name}");
        }
    }
}

#[test]
fn limits_above_the_runtimes_own_are_raised_before_it_loses_the_right() {
    /// CAP_SYS_RESOURCE, which the root of some machines lacks.
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    if u64::from_str_radix(effective, 16).unwrap() & SYS_RESOURCE == 0 {
        return;
    }
    let mut bundle = bundle();
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 2000, "hard": 3000 }]);
    bundle.config["process"]["oomScoreAdj"] = json!(-500);
    let inner = bundle.command();
    let mut command = Command::new("prlimit");
    command.arg("--nofile=1000:1000").arg(inner.get_program()).args(inner.get_args());
    let ran = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(seen["rlimits"]["RLIMIT_NOFILE"], json!([2000, 3000]));
    assert_eq!(seen["oom_score_adj"], -500);
}

#[test]
fn a_namespace_that_is_shared_with_the_host_shows_what_the_host_has() {
    for (kind, file, point, fs_type) in
        [("network", "net", "/sys", "sysfs"), ("ipc", "ipc", "/dev/mqueue", "mqueue"), ("pid", "pid", "/proc", "proc")]
    {
        // Others refuse these.
        if !ours() || !is_mounted(point) {
            continue;
        }
        let mut bundle = bundle();
        inherit(&mut bundle, kind);
        let seen = bundle.seen();
        assert_eq!(seen["namespaces"][file], own(file), "{kind}");
        let mount = seen["mounts"].as_array().unwrap().iter().find(|mount| mount["mount_point"] == point).unwrap();
        assert_eq!(mount["fs_type"], fs_type);
    }
}

fn is_mounted(point: &str) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| line.split(' ').nth(4) == Some(point))
}

#[test]
fn identical_ids_do_not_make_it_the_hosts() {
    let mut bundle = Bundle::new("user_namespace");
    if !ours() {
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o711)).unwrap();
    }
    let all = json!([{ "containerID": 0, "hostID": 0, "size": u32::MAX }]);
    bundle.config["linux"]["uidMappings"] = all.clone();
    bundle.config["linux"]["gidMappings"] = all;
    let seen = bundle.seen();
    assert_ne!(seen["namespaces"]["user"], own("user"));
    assert_eq!(seen["devices"]["/dev/null"]["device"], json!([1, 3]));
    bundle.probe(&["syscall", "mknod"]);
    assert_eq!(bundle.seen(), json!({ "mknod": "EPERM" }));
}

#[test]
fn one_is_joined_with_those_that_belong_to_it() {
    let holder = Holder::with_ids(&["--net", "--ipc", "--uts", "--pid"], UIDS, GIDS);
    for with_mappings in [true, false] {
        let mut bundle = bundle();
        bundle.config.as_object_mut().unwrap().remove("hostname");
        for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
            join(&mut bundle, kind, &holder.path(file));
        }
        if !with_mappings {
            drop_mappings(&mut bundle);
        } else if !ours() {
            continue;
        }
        let init = bundle.probe(&["sleep"]).start();
        let mut process = bundle.config["process"].clone();
        process["args"] = json!(["/probe"]);
        let seen = bundle.exec(&process).json();
        for file in ["user", "net", "ipc", "uts", "pid"] {
            assert_eq!(seen["namespaces"][file], link(&holder.path(file)), "{file}");
            assert_eq!(link(&format!("/proc/{init}/ns/{file}")), link(&holder.path(file)), "{file}");
        }
        assert_eq!((&seen["uid"], &seen["uid_map"]), (&json!([0, 0, 0]), &json!([[0, 100_000, 65_536]])));
    }
}

#[test]
fn one_is_joined_beside_namespaces_of_the_hosts() {
    let (host, holder) = (Holder::new(&["--net", "--uts"]), Holder::with_ids(&["--ipc"], UIDS, GIDS));
    let mut bundle = bundle();
    bundle.config.as_object_mut().unwrap().remove("hostname");
    drop_mappings(&mut bundle);
    let joined = [("user", "user", &holder), ("ipc", "ipc", &holder), ("network", "net", &host), ("uts", "uts", &host)];
    for (kind, file, of) in joined {
        join(&mut bundle, kind, &of.path(file));
    }
    if !ours() {
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    }
    let seen = bundle.seen();
    for (_, file, of) in joined {
        assert_eq!(seen["namespaces"][file], link(&of.path(file)), "{file}");
    }
}

#[test]
fn a_joined_one_with_other_maps_is_refused() {
    let holder = Holder::with_ids(&[], "0 100000 65536", "0 300000 65536");
    let mut bundle = bundle();
    join(&mut bundle, "user", &holder.path("user"));
    let ran = bundle.run();
    let says = "/linux/gidMappings: the user namespace has another map: 0 300000 65536";
    assert!(ran.status != 0 && (!ours() || ran.stderr.contains(says)), "{}", ran.stderr);
}

#[test]
fn the_mounts_of_one_are_joined_with_it_only() {
    let holder = Holder::with_ids(&["--mount"], UIDS, GIDS);
    let mut bundle = bundle();
    drop_mappings(&mut bundle);
    join(&mut bundle, "user", &holder.path("user"));
    join(&mut bundle, "mount", &holder.path("mnt"));
    let mount = link(&holder.path("mnt"));
    let ran = bundle.call(&["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]);
    if ours() {
        assert_eq!(ran.json()["namespaces"]["mnt"], mount);
    }
    let other = Holder::with_ids(&[], UIDS, GIDS);
    join(&mut bundle, "user", &other.path("user"));
    let ran = bundle.call(&["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]);
    // A mount namespace that lives on keeps the root that was made in it.
    drop(holder);
    bundle.assert_nothing_left();
    let says = "/linux/namespaces/4/path: not of the container's user namespace";
    assert!(ran.status != 0 && (!ours() || ran.stderr.contains(says)), "{}", ran.stderr);
}

/// CVE-2014-8989: a file may deny a group what it allows to others; so where groups may not be dropped, nobody may have them.
#[test]
fn where_groups_may_not_be_set_there_are_none() {
    let holder = Holder::new(&["--user", "--map-root-user"]);
    let mut bundle = Bundle::new("user_namespace");
    drop_mappings(&mut bundle);
    join(&mut bundle, "user", &holder.path("user"));
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
    let inner = bundle.command();
    let mut command = Command::new("setpriv");
    command.args(["--groups", "0,7"]).arg(inner.get_program()).args(inner.get_args());
    let ran = command.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(seen["setgroups"], json!(["deny"]));
    assert!(!ours() || seen["groups"] == json!([]), "{}", seen["groups"]);

    bundle.config["process"]["user"]["additionalGids"] = json!([0]);
    let ran = bundle.run();
    let says = "become user 0, group 0, additional groups [0]: EPERM";
    assert!(!ours() || (ran.status != 0 && ran.stderr.contains(says)), "{}", ran.stderr);
}

#[test]
fn a_rootfs_that_its_root_may_not_write_is_told_by_the_step() {
    let bundle = bundle();
    chown(bundle.rootfs(), Some(0), Some(0)).unwrap();
    let ran = bundle.run();
    assert!(ran.status != 0 && (!ours() || ran.stderr.contains("mount proc at /proc")), "{}", ran.stderr);
}
