//! On the kernel, as root: mounts in a directory of their own, unmounted whatever happens.

use super::*;
use std::fs;

/// A directory that takes its mounts along when it goes.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// `count` lower layers, each with one file named after it; the text for `lowerdir`.
    fn layers(&self, count: usize, padding: &str) -> String {
        let mut paths = Vec::new();
        for number in 0..count {
            let path = self.directory(&format!("{padding}{number}"));
            fs::write(path.join(format!("file{number}")), number.to_string()).unwrap();
            paths.push(path.to_str().unwrap().replace(':', "\\:"));
        }
        paths.join(":")
    }

    fn overlay(&self, lower: &str) -> RootfsMount {
        let (upper, work) = (self.directory("upper"), self.directory("work"));
        let options = [
            "index=off".to_owned(),
            format!("workdir={}", work.display()),
            format!("upperdir={}", upper.display()),
            format!("lowerdir={lower}"),
        ];
        RootfsMount {
            fs_type: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: options.into(),
        }
    }

    fn mounts(&self) -> usize {
        let table = fs::read("/proc/self/mountinfo").unwrap();
        mountinfo::points_below(&table, self.0.path()).len()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = unmount(self.0.path());
    }
}

fn tmpfs(target: &str) -> RootfsMount {
    RootfsMount {
        fs_type: "tmpfs".into(),
        source: "tmpfs".into(),
        target: target.into(),
        options: vec!["size=64k".into()],
    }
}

fn bind(source: &Path, options: &[&str]) -> RootfsMount {
    let options = options.iter().map(ToString::to_string).collect();
    RootfsMount { fs_type: "bind".into(), source: source.to_str().unwrap().into(), target: String::new(), options }
}

#[test]
fn an_overlay_of_many_long_layers() {
    let scratch = Scratch::new();
    let lower = scratch.layers(40, &"long:name".repeat(20));
    mount(&[scratch.overlay(&lower)], &scratch.rootfs()).unwrap();
    for number in 0..40 {
        assert_eq!(fs::read_to_string(scratch.rootfs().join(format!("file{number}"))).unwrap(), number.to_string());
    }
    fs::write(scratch.rootfs().join("new"), "").unwrap();
    assert!(scratch.path("upper/new").exists());
    unmount(&scratch.rootfs()).unwrap();
    assert_eq!(scratch.mounts(), 0);
}

/// A container reads its line of mountinfo too, and programs have buffers of 4096 bytes for that.
#[test]
fn the_line_of_an_overlay_of_127_layers_is_short() {
    // The working directory of this thread alone: other tests run beside it.
    #[allow(unsafe_code)]
    // SAFETY: takes a number; the thread ends with the test.
    unsafe {
        rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS).unwrap();
    }
    let before = std::env::current_dir().unwrap();
    for (directory, short) in [("s", false), (&*"snapshots".repeat(9), true)] {
        let scratch = Scratch::new();
        let lower = scratch.layers(if short { 127 } else { 3 }, &format!("{directory}/"));
        mount(&[scratch.overlay(&lower)], &scratch.rootfs()).unwrap();
        assert!(scratch.rootfs().join("file2").exists());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(scratch.rootfs().to_str().unwrap())).unwrap();
        assert!(line.len() < 4096, "{} bytes", line.len());
        assert_eq!(line.contains(&format!("lowerdir+={}", scratch.path(directory).display())), !short, "{line}");
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}

#[test]
fn a_layer_longer_than_one_value() {
    let scratch = Scratch::new();
    let lower = scratch.layers(2, &format!("{}/{}", "a".repeat(200), "b".repeat(200)));
    mount(&[scratch.overlay(&lower)], &scratch.rootfs()).unwrap();
    assert!(scratch.rootfs().join("file1").exists());
}

/// What kernels before 6.8 need works on later ones too.
#[test]
fn an_overlay_by_one_string() {
    for (count, padding) in [(3, "s:t"), (60, &*"long:name".repeat(20))] {
        let scratch = Scratch::new();
        let mut asked = scratch.overlay(&scratch.layers(count, padding));
        asked.options.extend(["ro".to_owned(), "nodev".to_owned()]);
        let options = Options::parse(&asked.options).unwrap();
        make_directory(&scratch.rootfs()).unwrap();
        overlay::mount_by_string(&asked, &options, &open_target(&scratch.rootfs(), "").unwrap()).unwrap();
        assert!(scratch.rootfs().join(format!("file{}", count - 1)).exists());
        let error = fs::write(scratch.rootfs().join("new"), "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EROFS as i32));
    }
}

#[test]
fn a_failure_names_the_call_and_leaves_nothing() {
    let scratch = Scratch::new();
    let error = mount(&[tmpfs(""), scratch.overlay("/no/such/layer")], &scratch.rootfs()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("mount overlay at {} (index=off,", scratch.rootfs().display())), "{text}");
    assert!(text.contains("lowerdir+=/no/such/layer: ENOENT (no such file or directory)"), "{text}");
    assert_eq!(scratch.mounts(), 0);
    assert!(!scratch.rootfs().exists());
}

#[test]
fn the_kernels_own_words_are_passed_on() {
    let scratch = Scratch::new();
    let mut asked = tmpfs("");
    asked.options = vec!["size=nonsense".into()];
    let text = mount(&[asked], &scratch.rootfs()).unwrap_err().to_string();
    assert!(text.contains("EINVAL") && text.contains("tmpfs: Bad value for 'size'"), "{text}");
}

#[test]
fn a_read_only_bind() {
    let scratch = Scratch::new();
    let source = scratch.directory("source");
    fs::write(source.join("file"), "x").unwrap();
    mount(&[bind(&source, &["rbind", "ro"])], &scratch.rootfs()).unwrap();
    assert_eq!(fs::read_to_string(scratch.rootfs().join("file")).unwrap(), "x");
    assert!(fs::write(scratch.rootfs().join("file"), "y").is_err());
    fs::write(source.join("file"), "y").unwrap();
    unmount(&scratch.rootfs()).unwrap();
    assert!(source.join("file").exists());
}

#[test]
fn a_bind_is_as_deep_as_asked() {
    for (option, deep) in [("bind", false), ("rbind", true)] {
        let scratch = Scratch::new();
        let source = scratch.directory("source");
        fs::create_dir(source.join("sub")).unwrap();
        mount(&[tmpfs("")], &source.join("sub")).unwrap();
        fs::write(source.join("sub/file"), "").unwrap();
        mount(&[bind(&source, &[option])], &scratch.rootfs()).unwrap();
        assert_eq!(scratch.rootfs().join("sub/file").exists(), deep);
    }
}

#[test]
fn a_target_stays_inside_the_rootfs() {
    let scratch = Scratch::new();
    let (root, outside) = (scratch.directory("source"), scratch.directory("outside"));
    fs::create_dir(root.join("inner")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    // Private: in a shared mount, as systemd has it, what comes below the bind would come to its source as well.
    mount(&[bind(&root, &["rbind", "rprivate"]), tmpfs("inner")], &scratch.rootfs()).unwrap();
    fs::write(scratch.rootfs().join("inner/file"), "").unwrap();
    assert!(!root.join("inner/file").exists());
    unmount(&scratch.rootfs()).unwrap();

    let error = mount(&[bind(&root, &["rbind"]), tmpfs("link")], &scratch.rootfs()).unwrap_err();
    assert!(error.to_string().contains("ENOENT"), "{error}");
    assert_eq!(scratch.mounts(), 0);
}

#[test]
fn what_needs_a_program_is_refused() {
    let scratch = Scratch::new();
    let mut fuse = tmpfs("");
    fuse.fs_type = "fuse3.sshfs".into();
    let refused = [fuse, bind(Path::new("/"), &["loop"])];
    for mount in refused {
        assert_eq!(super::mount(&[mount], &scratch.rootfs()).unwrap_err().kind(), Kind::Unimplemented);
        assert!(!scratch.rootfs().exists());
    }
}

/// The owner and group of `path`.
fn owner(path: PathBuf) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn a_bind_shows_other_ids() {
    let scratch = Scratch::new();
    let source = scratch.directory("source");
    fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(7), Some(8)).unwrap();
    let options = ["rbind", "uidmap=0:100000:7,7:70:1", "gidmap=0:200000:65536"];
    mount(&[bind(&source, &options)], &scratch.rootfs()).unwrap();
    assert_eq!(owner(scratch.rootfs()), (100_000, 200_000));
    assert_eq!(owner(scratch.rootfs().join("file")), (70, 200_008));
    assert_eq!(owner(source.join("file")), (7, 8));
}

#[test]
fn an_overlay_shows_other_ids_of_its_lower_layers() {
    let scratch = Scratch::new();
    let mut asked = scratch.overlay(&scratch.layers(3, "layer"));
    asked.options.extend(["uidmap=0:100000:65536".to_owned(), "gidmap=0:200000:65536".to_owned()]);
    mount(&[asked], &scratch.rootfs()).unwrap();
    assert_eq!(scratch.mounts(), 1, "the layers are not mounted any more");
    for number in 0..3 {
        assert_eq!(owner(scratch.rootfs().join(format!("file{number}"))), (100_000, 200_000));
    }
    // What is copied up keeps them.
    fs::write(scratch.rootfs().join("file0"), "changed").unwrap();
    assert_eq!(owner(scratch.path("upper").join("file0")), (100_000, 200_000));
    assert_eq!(owner(scratch.path("layer0").join("file0")), (0, 0));
}

#[test]
fn an_id_map_that_is_none() {
    let scratch = Scratch::new();
    let good = "uidmap=0:1:1";
    for (options, said) in [
        (&[good][..], "the options uidmap and gidmap go together"),
        (&[good, "gidmap=0:1"], "the option gidmap=0:1 is no id map"),
        (&[good, "gidmap=0:1:x"], "the option gidmap=0:1:x is no id map"),
        (&[good, "gidmap=0:1:1:1"], "the option gidmap=0:1:1:1 is no id map"),
        (&[good, "gidmap=0:1:0"], "the option gidmap: a map of no ids"),
        (&[good, "gidmap=0:1:5,2:9:1"], "the option gidmap: ids that the entry 0 maps too"),
    ] {
        let error = mount(&[bind(Path::new("/"), &[&["rbind"], options].concat())], &scratch.rootfs()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().ends_with(said), "{error}");
        assert_eq!(scratch.mounts(), 0);
    }
    // proc has no owners to map.
    let mut proc = tmpfs("");
    (proc.fs_type, proc.options) = ("proc".into(), vec![good.into(), "gidmap=0:1:1".into()]);
    let error = mount(&[proc], &scratch.rootfs()).unwrap_err().to_string();
    assert!(error.contains("its file system cannot be id-mapped"), "{error}");
    assert_eq!(scratch.mounts(), 0);
}

#[test]
fn unmount_takes_what_is_stacked_and_what_lies_below() {
    let scratch = Scratch::new();
    let rootfs = scratch.directory("rootfs");
    fs::create_dir(rootfs.join("a b")).unwrap();
    // One that the stack hides, below a directory that is not empty.
    mount(&[tmpfs("")], &rootfs.join("a b")).unwrap();
    mount(&[tmpfs(""), tmpfs("")], &rootfs).unwrap();
    fs::create_dir(rootfs.join("c")).unwrap();
    mount(&[tmpfs("c")], &rootfs).unwrap();
    assert_eq!(scratch.mounts(), 4);
    unmount(&rootfs).unwrap();
    assert_eq!(scratch.mounts(), 0);
    unmount(&rootfs).unwrap();
}

#[test]
fn unmount_follows_no_link() {
    let scratch = Scratch::new();
    let other = scratch.directory("other");
    mount(&[tmpfs("")], &other).unwrap();
    std::os::unix::fs::symlink(&other, scratch.rootfs()).unwrap();
    unmount(&scratch.rootfs()).unwrap();
    assert_eq!(scratch.mounts(), 1);
    assert!(mount(&[tmpfs("")], &scratch.rootfs()).is_err());
    assert_eq!(scratch.mounts(), 1);
}

#[test]
fn unmount_of_nothing_is_no_error() {
    let scratch = Scratch::new();
    unmount(&scratch.rootfs()).unwrap();
    unmount(&scratch.directory("rootfs")).unwrap();
}

/// While others rename what they will, a way through `..` is asked for again.
#[test]
fn a_target_is_found_while_the_host_renames() {
    let scratch = Scratch::new();
    // The longer the way, the likelier is a rename meanwhile.
    let way = "d/".repeat(30);
    scratch.directory(&format!("rootfs/{way}"));
    let (from, to) = (scratch.directory("x"), scratch.path("y"));
    std::thread::scope(|scope| {
        let renames = scope.spawn(|| {
            for _ in 0..20_000 {
                fs::rename(&from, &to).unwrap();
                fs::rename(&to, &from).unwrap();
            }
        });
        let mut found = Ok(());
        while !renames.is_finished() {
            found = found.and_then(|()| open_target(&scratch.rootfs(), &format!("{way}..")).map(drop));
        }
        found.unwrap();
    });
}
