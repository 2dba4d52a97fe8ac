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
fn an_interpreter_that_is_missing_is_named() {
    let missing = |name: &str| format!("ENOENT (no such file or directory) [its interpreter {name} is missing");
    let long = "/".repeat(130);
    let elf = |interpreter: &str, place| elf(interpreter.as_bytes(), place);
    for (content, expected) in [
        (b"#! /no/such -e\n".to_vec(), missing(r#""/no/such""#) + "]"),
        (b"#!/bin/sh\r\necho\r\n".to_vec(), missing(r#""/bin/sh\r""#) + ": the script's lines end with CR LF]"),
        (b"#!/no/\x1b[2J\n".to_vec(), missing(r#""/no/\u{1b}[2J""#) + "]"),
        (format!("#!{long}x\n").into_bytes(), missing(&format!("{:?}…", &long[..120])) + "]"),
        // Its interpreter is a script that has none.
        (b"#!/script\n".to_vec(), missing(r#""/no/such""#) + "]"),
        (b"#!/probe/x\n".to_vec(), "ENOTDIR (not a directory) [its interpreter \"/probe/x\" is missing]".to_owned()),
        (
            b"#!/plain\n".to_vec(),
            "EACCES (permission denied) [its interpreter \"/plain\" cannot be executed]".to_owned(),
        ),
        (elf("/lib/ld-missing.so.1", 64), missing(r#""/lib/ld-missing.so.1""#) + "]"),
        // As patchelf(1) leaves a program.
        (elf("/nix/store/ld.so", 9000), missing(r#""/nix/store/ld.so""#) + "]"),
        // The program itself is told of without an interpreter.
        (b"neither".to_vec(), "ENOEXEC (exec format error)\n".to_owned()),
    ] {
        let mut bundle = Bundle::new("bad_input");
        for (file, content, mode) in
            [("program", &content[..], 0o755), ("script", b"#!/no/such\n", 0o755), ("plain", b"", 0o644)]
        {
            let path = bundle.rootfs().join(file);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        bundle.config["process"]["args"] = json!(["/program"]);
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{expected}");
        assert!(!ours() || ran.stderr.contains(&expected), "{}, not {expected}", ran.stderr);

        bundle.probe(&["sleep"]).start();
        let mut process = bundle.config["process"].clone();
        process["args"] = json!(["/program"]);
        let ran = bundle.exec(&process);
        assert!(ran.status != 0 && (!ours() || ran.stderr.contains(&expected)), "{}, not {expected}", ran.stderr);
    }
}

/// A filter may end whoever looks into files: then the kernel's error is told, and no more.
#[test]
fn a_program_that_cannot_be_executed_is_told_under_any_filter() {
    let mut bundle = Bundle::new("bad_input");
    let path = bundle.rootfs().join("script");
    fs::write(&path, "#!/no/such\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.config["process"]["args"] = json!(["/script"]);
    let files = json!(["open", "openat", "openat2", "pread64", "stat", "newfstatat"]);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": files, "action": "SCMP_ACT_KILL_PROCESS" }]
    });
    let ran = bundle.run();
    assert!(ran.status != 0 && (!ours() || ran.stderr.contains("\"/script\": ENOENT")), "{}", ran.stderr);
}

#[test]
fn a_path_to_execute_has_the_kernels_own_error() {
    let name = "x".repeat(300);
    for (program, errno) in [
        ("/probe/x", "ENOTDIR (not a directory)"),
        ("/no/such", "ENOENT (no such file or directory)"),
        ("/loop", "ELOOP"),
        (&*format!("/{name}"), "ENAMETOOLONG"),
        ("/", "EACCES"),
        // Where a name is looked for in vain, it is just not there.
        ("x", "ENOENT (no such file or directory)"),
    ] {
        let mut bundle = Bundle::new("bad_input");
        symlink("loop", bundle.rootfs().join("loop")).unwrap();
        bundle.config["process"]["env"] = json!(["PATH=/no:/probe"]);
        bundle.config["process"]["args"] = json!([program]);
        let ran = bundle.run();
        assert!(ran.status != 0 && (!ours() || ran.stderr.contains(errno)), "{program}: {}", ran.stderr);
    }
}

#[test]
fn what_an_image_says_by_its_names_is_no_command_to_a_terminal() {
    let mut bundle = Bundle::new("bad_input");
    let name = "title\u{1b}]0;owned\u{7}\rline\n2";
    fs::write(bundle.rootfs().join(name), "").unwrap();
    bundle.config["process"]["cwd"] = json!(format!("/{name}"));
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(!ours() || ran.stderr.contains(r"/title\u{1b}]0;owned\u{7}\rline\n2: ENOTDIR"), "{:?}", ran.stderr);
    assert!(!ours() || !ran.stderr.trim_end().contains(char::is_control), "{:?}", ran.stderr);
}

/// The least ELF file that has an interpreter: elf(5). Its one program header is at `place`.
fn elf(interpreter: &[u8], place: u64) -> Vec<u8> {
    const PROGRAM_HEADER: u64 = 56;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    if cfg!(target_endian = "big") {
        file[5] = 2;
    }
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    // ET_EXEC; then version, entry, the table of program headers, the table of sections.
    file.extend([2, machine].iter().flat_map(|half| half.to_ne_bytes()));
    file.extend(1_u32.to_ne_bytes());
    file.extend([0, place, 0].iter().flat_map(|word| word.to_ne_bytes()));
    file.extend(0_u32.to_ne_bytes());
    // Sizes: of this header, of a program header, how many; sections.
    file.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|half| half.to_ne_bytes()));
    file.resize(usize::try_from(place).unwrap(), 0);
    // PT_INTERP, readable.
    file.extend([3_u32, 4].iter().flat_map(|half| half.to_ne_bytes()));
    let length = interpreter.len() as u64 + 1;
    let offset = place + PROGRAM_HEADER;
    file.extend([offset, 0, 0, length, length, 1].iter().flat_map(|word| word.to_ne_bytes()));
    file.extend(interpreter);
    file.push(0);
    file
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
