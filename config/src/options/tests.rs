use super::*;

fn resolve(sources: &[(&str, &str)]) -> Result<Options, String> {
    let sources = sources.iter().map(|(name, text)| Source::toml(name, text)).collect::<Result<Vec<_>, _>>();
    sources.and_then(|sources| Options::resolve(&sources)).map_err(|refusal| refusal.to_string())
}

#[test]
fn every_option_arrives() {
    let text = "NoPivotRoot = true\nNoNewKeyring = true\nSystemdCgroup = true\nIoUid = 7\nIoGid = 4294967295\n\
        Root = '/run/r'\nShimCgroup = \"/a/b\"\nLogLevel = \"debug\"\nIdleSeconds = 0\nSlowCreateMilliseconds = 7\nTaskApiAddress = \"unix:///x\"\n\
        TaskApiVersion = 3\nTypeUrl = \"types.example/containerd.runc.v1.Options\"\n";
    let expected = Options {
        no_pivot_root: true,
        no_new_keyring: true,
        systemd_cgroup: true,
        io_uid: 7,
        io_gid: u32::MAX,
        root: "/run/r".into(),
        shim_cgroup: Some("a/b".into()),
        log_level: Some(LevelFilter::Debug),
        idle_seconds: 0,
        slow_create_milliseconds: 7,
    };
    assert_eq!(resolve(&[("a", text)]).unwrap(), expected);
}

#[test]
fn what_containerd_writes_out_for_a_handler_without_options_says_nothing() {
    let text = "BinaryName = ''\nCriuImagePath = ''\nCriuPath = ''\nCriuWorkPath = ''\nIoGid = 0\nIoUid = 0\n\
        NoNewKeyring = false\nNoPivotRoot = false\nRoot = ''\nShimCgroup = ''\nSystemdCgroup = false\n\
        TypeUrl = ''\nConfigPath = ''\nLogLevel = ''\n";
    assert_eq!(resolve(&[("a", text)]).unwrap(), Options::default());
    let node = "Root = '/run/r'\nShimCgroup = '/s'\nLogLevel = 'warn'";
    assert_eq!(resolve(&[("node", node), ("body", text)]), resolve(&[("node", node)]));
}

#[test]
fn the_last_source_that_names_an_option_wins_and_leaves_the_others() {
    let (node, file, body) = ("IoUid = 1\nIoGid = 1\nSystemdCgroup = true", "IoUid = 2", "SystemdCgroup = false");
    let options = resolve(&[("node", node), ("file", file), ("body", body)]).unwrap();
    assert_eq!((options.io_uid, options.io_gid, options.systemd_cgroup), (2, 1, false));
}

#[test]
fn a_refusal_names_source_and_key() {
    let long = format!("{}: Systemdcgroup: there is no such option", "/etc/x.toml");
    for (text, expected) in [
        ("Systemdcgroup = true", long.as_str()),
        ("SystemdCgroup = \"true\"", "/etc/x.toml: SystemdCgroup: \"true\" is neither true nor false"),
        ("IoUid = -1", "/etc/x.toml: IoUid: -1 is no number from 0 to 4294967295"),
        ("IoGid = 4294967296", "/etc/x.toml: IoGid: 4294967296 is no number from 0 to 4294967295"),
        ("Root = 1", "/etc/x.toml: Root: 1 is no text"),
        ("Root = \"run\"", "/etc/x.toml: Root: \"run\" is not an absolute path"),
        ("ShimCgroup = \"/a/../b\"", "/etc/x.toml: ShimCgroup: \"/a/../b\" is not the absolute path of a cgroup"),
        ("ShimCgroup = \"a\"", "/etc/x.toml: ShimCgroup: \"a\" is not the absolute path of a cgroup"),
        ("LogLevel = \"off\"", "/etc/x.toml: LogLevel: \"off\" is none of error, warn, info, debug and trace"),
        (
            "BinaryName = \"crun\"",
            "/etc/x.toml: BinaryName: \"crun\": this shim runs containers itself and no other runtime",
        ),
        ("CriuPath = \"/c\"", "/etc/x.toml: CriuPath: \"/c\": checkpoints are not supported yet"),
        ("ConfigPath = \"/c\"", "/etc/x.toml: ConfigPath: \"/c\": a source of options names no further one"),
        ("[Inner]\nIoUid = 1", "/etc/x.toml: Inner: no option has a value of this kind"),
    ] {
        assert_eq!(resolve(&[("/etc/x.toml", text)]).unwrap_err(), expected);
    }
    let error = resolve(&[("a", "TypeUrl = \"io.example.Options\"")]).unwrap_err();
    assert!(error.starts_with("a: TypeUrl: \"io.example.Options\" is neither "), "{error}");
    let error = resolve(&[("/etc/x.toml", "IoUid = 1\nIoGid =\n")]).unwrap_err();
    assert!(error.starts_with("/etc/x.toml: line 2: "), "{error}");
}

#[test]
fn a_nodes_file_may_be_missing_and_a_named_file_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("myshim.toml");
    assert_eq!(Options::resolve(&[Source::node(&path).unwrap()]).unwrap(), Options::default());
    let error = Source::file(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("options file {}: ", path.display())), "{error}");
    assert!(Source::file(Path::new("relative")).unwrap_err().to_string().ends_with(": not an absolute path"));
    assert!(Source::node(dir.path()).is_err(), "a directory is not a missing file");

    std::fs::write(&path, "IoUid = 3").unwrap();
    for source in [Source::node(&path).unwrap(), Source::file(&path).unwrap()] {
        assert_eq!(Options::resolve(&[source]).unwrap().io_uid, 3);
    }
}
