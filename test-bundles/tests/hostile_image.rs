//! Images made to lead the runtime astray: links where directories are expected, programs that are none.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_bundles::bundle::{Bundle, ours};

#[test]
fn a_name_that_begins_like_proc_is_no_way_into_it() {
    // CVE-2019-16884: an image chooses the destinations of its volumes, and a link in it where they lead.
    for (link, destination) in [("procedures", "/procedures/sys"), ("volume", "/volume/sys"), ("proc.d", "/proc.d")] {
        let host = TempDir::new().unwrap();
        let mut bundle = Bundle::new("mounts");
        symlink("/proc", bundle.rootfs().join(link)).unwrap();
        add(
            &mut bundle,
            json!({ "destination": destination, "type": "bind", "source": host.path(), "options": ["bind"] }),
        );
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{destination}: {}", ran.stdout);
        assert!(!ours() || ran.stderr.contains(destination), "{destination}: {}", ran.stderr);
    }
}

#[test]
fn a_dev_that_is_a_link_leaves_a_volume_alone() {
    let host = TempDir::new().unwrap();
    fs::write(host.path().join("stdin"), "of the volume").unwrap();
    let mut bundle = Bundle::new("mounts");
    symlink("/volume", bundle.rootfs().join("dev")).unwrap();
    fs::create_dir(bundle.rootfs().join("volume")).unwrap();
    add(&mut bundle, json!({ "destination": "/volume", "type": "bind", "source": host.path(), "options": ["bind"] }));
    bundle.run();
    assert_eq!(fs::read_to_string(host.path().join("stdin")).unwrap(), "of the volume");
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
}

#[test]
fn links_for_proc_sys_and_dev_are_refused() {
    for name in ["proc", "sys", "dev"] {
        for exists in [true, false] {
            let mut bundle = Bundle::new("mounts");
            let elsewhere = bundle.rootfs().join("elsewhere");
            if exists {
                fs::create_dir(&elsewhere).unwrap();
            }
            symlink("/elsewhere", bundle.rootfs().join(name)).unwrap();
            let ran = bundle.probe(&[]).run();
            assert!(!ours() || (ran.status != 0 && ran.stderr.contains("ELOOP")), "{name}: {}", ran.stderr);
            assert!(!ours() || elsewhere.exists() == exists, "{name}");
        }
    }
}

#[test]
fn a_dangling_link_to_the_host_makes_nothing_there() {
    let host = TempDir::new().unwrap();
    let out = host.path().join("made");
    let climbing = Path::new("../../../../../../..").join(out.strip_prefix("/").unwrap());
    let source = TempDir::new().unwrap();
    fs::write(source.path().join("file"), "").unwrap();
    let bind =
        |from: &Path, to: &str| json!({ "destination": to, "type": "bind", "source": from, "options": ["bind"] });
    for target in [&out, &climbing] {
        let mut bundle = Bundle::new("mounts");
        for link in ["file", "directory", "parent", "device", "work"] {
            symlink(target.join(link), bundle.rootfs().join(link)).unwrap();
        }
        add(&mut bundle, bind(&source.path().join("file"), "/file"));
        add(&mut bundle, bind(source.path(), "/directory"));
        add(&mut bundle, json!({ "destination": "/parent/tmp", "type": "tmpfs", "source": "tmpfs" }));
        bundle.config["linux"]["devices"] = json!([{ "path": "/device", "type": "c", "major": 1, "minor": 5 }]);
        // Others do not make what it leads to.
        bundle.config["process"]["cwd"] = json!(if ours() { "/work" } else { "/" });
        let ran = bundle.probe(&[]).run();
        assert!(!ours() || ran.status == 0, "{}", ran.stderr);
        assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0, "{}", target.display());
    }
}

/// A link of procfs says where a descriptor leads on the host, and is a name of nothing in the container.
#[test]
fn a_link_to_a_descriptor_is_not_followed() {
    for number in 0..20 {
        let mut bundle = Bundle::new("devices");
        symlink(format!("/proc/self/fd/{number}"), bundle.rootfs().join("device")).unwrap();
        bundle.config["linux"]["devices"] = json!([{ "path": "/device", "type": "c", "major": 1, "minor": 5 }]);
        let before = names(&bundle);
        let ran = bundle.probe(&[]).run();
        let refused = ["ELOOP", "ENOENT"].iter().any(|errno| ran.stderr.contains(errno));
        assert!(!ours() || (ran.status != 0 && refused), "{number}: {}", ran.stderr);
        let made: Vec<_> = names(&bundle).into_iter().filter(|name| !before.contains(name)).collect();
        let mount_points = ["dev", "proc", "sys"];
        assert!(made.iter().all(|name| mount_points.contains(&name.as_str())), "{number}: {made:?}");
    }
}

fn names(bundle: &Bundle) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    fs::read_dir(bundle.rootfs()).unwrap().flatten().map(name).collect()
}

#[test]
fn a_program_that_cannot_be_executed_is_named_and_the_container_ends() {
    for (file, content, mode, errno) in [
        ("no-interpreter", "#!/not/there\n", 0o755, "ENOENT"),
        ("not-executable", "#!/probe\n", 0o644, "EACCES"),
        ("not-a-program", "neither script nor ELF", 0o755, "ENOEXEC"),
        ("empty", "", 0o755, "ENOEXEC"),
        ("loop", "#!/loop\n", 0o755, "ELOOP"),
    ] {
        let mut bundle = Bundle::new("bad_input");
        let path = bundle.rootfs().join(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        bundle.config["process"]["args"] = json!([format!("/{file}")]);
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{file}");
        assert!(!ours() || (ran.stderr.contains(file) && ran.stderr.contains(errno)), "{file}: {}", ran.stderr);

        // The same by an exec, which harms nobody.
        bundle.probe(&["sleep"]).start();
        let mut process = bundle.config["process"].clone();
        process["args"] = json!([format!("/{file}")]);
        let ran = bundle.exec(&process);
        assert_ne!(ran.status, 0, "{file}");
        assert!(!ours() || (ran.stderr.contains(file) && ran.stderr.contains(errno)), "{file}: {}", ran.stderr);
        assert_eq!(bundle.state()["status"], "running");
    }
}

#[test]
fn path_finds_what_may_be_executed_behind_what_may_not() {
    let mut bundle = Bundle::new("bad_input");
    let rootfs = bundle.rootfs();
    for directory in ["plain", "directory/tool", "right"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    fs::write(rootfs.join("plain/tool"), "not executable").unwrap();
    fs::hard_link(rootfs.join("probe"), rootfs.join("right/tool")).unwrap();
    bundle.config["process"]["env"] = json!(["PATH=/missing:/plain:/directory:/right"]);
    bundle.config["process"]["args"] = json!(["tool", "env", "HOME"]);
    assert_eq!(bundle.seen(), "/");
    bundle.config["process"]["env"] = json!(["PATH=/missing:/plain:/directory"]);
    let ran = bundle.run();
    assert!(ran.status != 0 && (!ours() || ran.stderr.contains("EACCES")), "{}", ran.stderr);
}

#[test]
fn passwd_may_be_anything() {
    for kind in ["link", "fifo", "directory", "device"] {
        let mut bundle = Bundle::new("bad_input");
        let etc = bundle.rootfs().join("etc");
        fs::create_dir(&etc).unwrap();
        let passwd = etc.join("passwd");
        let mode = nix::sys::stat::Mode::S_IRWXU;
        match kind {
            "link" => symlink("/proc/self/fd/0", &passwd).unwrap(),
            "fifo" => nix::unistd::mkfifo(&passwd, mode).unwrap(),
            "directory" => fs::create_dir(&passwd).unwrap(),
            _ => {
                let tty = nix::sys::stat::makedev(5, 0);
                nix::sys::stat::mknod(&passwd, nix::sys::stat::SFlag::S_IFCHR, mode, tty).unwrap();
            }
        }
        assert_eq!(bundle.probe(&["env", "HOME"]).seen(), "/", "{kind}");
    }
}

#[test]
fn home_is_that_of_the_containers_passwd() {
    let mut bundle = Bundle::new("bad_input");
    let etc = bundle.rootfs().join("etc");
    fs::create_dir(&etc).unwrap();
    let user = "web:x:33:33::/var/www:/bin/false\n";
    bundle.config["process"]["user"] = json!({ "uid": 33, "gid": 33 });
    bundle.probe(&["env", "HOME"]);
    // A link is the image's own business, as long as it stays in the image.
    fs::write(etc.join("real"), user).unwrap();
    symlink("../../../../etc/real", etc.join("passwd")).unwrap();
    assert_eq!(bundle.seen(), "/var/www");
    // Nobody but root may read it: it is root who does.
    fs::set_permissions(etc.join("real"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bundle.seen(), "/var/www");
    // As much as anybody needs is looked at, and no more.
    for (lines, home) in [(20_000, "/var/www"), (200_000, "/")] {
        fs::write(etc.join("real"), "x:x:1:1::/:\n".repeat(lines) + user).unwrap();
        assert!(!ours() || bundle.seen() == home, "{lines}");
    }
    bundle.config["process"]["env"] = json!(["PATH=/", "HOME=/given"]);
    assert_eq!(bundle.seen(), "/given");
}

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}
