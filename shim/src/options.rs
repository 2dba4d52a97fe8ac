//! Runtime options as containerd sends them, with `start` and with Create, made into [`config::Options`].
//!
//! Three messages carry them. A handler of the type `io.containerd.runc.v2` sends `runc.v1.Options`; every other one sends
//! CRI's `runtimeoptions.v1.Options`, in which the options are TOML: the handler's table itself, or the path of a file. The
//! Go client up to 1.7 has an older one for what it wants to say to a runtime of another type: who owns the pipes of a
//! container with id maps. Else `ctr` and nerdctl send nothing. Precedence and meaning are [`config::options`]'s.

use std::path::Path;

use config::Options;
use config::options::{Setting, Source};
use containerd_shim_protos::api::Empty;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, UnknownFields, UnknownValueRef};
use containerd_shim_protos::shim::oci;
use runtime_core::{Error, Kind, Result};

const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
const CRI_OPTIONS: &str = "runtimeoptions.v1.Options";
const CLIENT_OPTIONS: &str = "containerd.linux.runc.CreateOptions";

/// The node's own options, for every container of it.
pub(crate) const NODE_FILE: &str = "/etc/containerd/myshim.toml";

/// Names another file than [`NODE_FILE`], for a second containerd on one machine. That one must be there.
pub(crate) const NODE_FILE_VARIABLE: &str = "MYSHIM_CONFIG";

/// The options of one container, the node's file read anew.
pub(crate) fn resolve(sent: Option<&Any>) -> Result<Options> {
    resolve_with(node()?, sent)
}

/// The options of the node, and over them those of `file`.
pub(crate) fn resolve_file(file: Option<&Path>) -> Result<Options> {
    let file = file.map(Source::file).transpose()?;
    Ok(Options::resolve(&[node()?].into_iter().chain(file).collect::<Vec<_>>())?)
}

fn node() -> Result<Source> {
    let named = std::env::var_os(NODE_FILE_VARIABLE).filter(|path| !path.is_empty());
    Ok(match named {
        Some(path) => Source::file(Path::new(&path))?,
        None => Source::node(Path::new(NODE_FILE))?,
    })
}

/// Whether a message is one of those that carry options.
pub(crate) fn are(any: &Any) -> bool {
    [RUNC_OPTIONS, CRI_OPTIONS, CLIENT_OPTIONS].iter().any(|name| any.type_url.rsplit('/').next() == Some(name))
}

fn resolve_with(node: Source, sent: Option<&Any>) -> Result<Options> {
    let mut sources = vec![node];
    if let Some(any) = sent.filter(|any| !any.type_url.is_empty()) {
        let invalid = |error| Error::new(Kind::Invalid, format!("decode options of type {}: {error}", any.type_url));
        match any.type_url.rsplit('/').next() {
            Some(RUNC_OPTIONS) => {
                sources.push(runc(oci::Options::parse_from_bytes(&any.value).map_err(invalid)?));
            }
            // { type_url = 1, config_path = 2, config_body = 3 }: three fields are no reason for a code generator.
            Some(CRI_OPTIONS) => {
                let fields = Empty::parse_from_bytes(&any.value).map_err(invalid)?;
                cri(fields.special_fields.unknown_fields(), &mut sources)?;
            }
            Some(CLIENT_OPTIONS) => {
                let fields = Empty::parse_from_bytes(&any.value).map_err(invalid)?;
                sources.push(client(fields.special_fields.unknown_fields()));
            }
            _ => {
                let text = format!("options of type {}: neither {RUNC_OPTIONS} nor {CRI_OPTIONS}", any.type_url);
                return Err(Error::new(Kind::Invalid, text));
            }
        }
    }
    Ok(Options::resolve(&sources)?)
}

/// The fields that differ from nothing, by the names that they have in TOML.
fn runc(options: oci::Options) -> Source {
    let switches = [
        ("NoPivotRoot", options.no_pivot_root),
        ("NoNewKeyring", options.no_new_keyring),
        ("SystemdCgroup", options.systemd_cgroup),
    ];
    let numbers = [("IoUid", options.io_uid), ("IoGid", options.io_gid), ("TaskApiVersion", options.task_api_version)];
    let texts = [
        ("ShimCgroup", options.shim_cgroup),
        ("BinaryName", options.binary_name),
        ("Root", options.root),
        ("CriuImagePath", options.criu_image_path),
        ("CriuWorkPath", options.criu_work_path),
        ("TaskApiAddress", options.task_api_address),
    ];
    let mut settings: Vec<(&str, Setting)> = Vec::new();
    settings.extend(switches.into_iter().filter(|(_, on)| *on).map(|(key, on)| (key, Setting::Switch(on))));
    let set = numbers.into_iter().filter(|(_, number)| *number != 0);
    settings.extend(set.map(|(key, number)| (key, Setting::Number(number.into()))));
    settings.extend(texts.into_iter().map(|(key, text)| (key, Setting::Text(text))));
    let mut settings: Vec<_> = settings.into_iter().map(|(key, setting)| (key.to_owned(), setting)).collect();
    settings.extend(options.special_fields.unknown_fields().iter().map(|(number, value)| match value {
        // Until containerd 2.0.
        UnknownValueRef::LengthDelimited(path) if number == 8 => ("CriuPath".to_owned(), text(path)),
        _ => (format!("field {number}"), Setting::Switch(true)),
    }));
    Source::fields(RUNC_OPTIONS, settings)
}

/// The message's own fields, then the file that it names, then its body.
fn cri(fields: &UnknownFields, sources: &mut Vec<Source>) -> Result<()> {
    let (mut settings, mut path, mut body) = (Vec::new(), None, None);
    for (number, value) in fields {
        match (number, value) {
            (1, UnknownValueRef::LengthDelimited(bytes)) => settings.push(("TypeUrl".to_owned(), text(bytes))),
            (2, UnknownValueRef::LengthDelimited(bytes)) => path = Some(String::from_utf8_lossy(bytes).into_owned()),
            (3, UnknownValueRef::LengthDelimited(bytes)) => body = Some(bytes),
            _ => settings.push((format!("field {number}"), Setting::Switch(true))),
        }
    }
    sources.push(Source::fields(CRI_OPTIONS, settings));
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        sources.push(Source::file(Path::new(&path))?);
    }
    if let Some(body) = body {
        let invalid = |error| Error::new(Kind::Invalid, format!("config_body: {error}"));
        sources.push(Source::toml("config_body", std::str::from_utf8(body).map_err(invalid)?)?);
    }
    Ok(())
}

/// { no_pivot_root = 1, no_new_keyring = 8, shim_cgroup = 9, io_uid = 10, io_gid = 11 }; the others are about checkpoints.
fn client(fields: &UnknownFields) -> Source {
    let settings = fields.iter().map(|(number, value)| {
        let (key, setting) = match (number, value) {
            (1, UnknownValueRef::Varint(on)) => ("NoPivotRoot", Setting::Switch(on != 0)),
            (8, UnknownValueRef::Varint(on)) => ("NoNewKeyring", Setting::Switch(on != 0)),
            (9, UnknownValueRef::LengthDelimited(path)) => ("ShimCgroup", text(path)),
            (10, UnknownValueRef::Varint(id)) => ("IoUid", Setting::Number(id.cast_signed())),
            (11, UnknownValueRef::Varint(id)) => ("IoGid", Setting::Number(id.cast_signed())),
            _ => return (format!("field {number}"), Setting::Switch(true)),
        };
        (key.to_owned(), setting)
    });
    Source::fields(CLIENT_OPTIONS, settings.collect())
}

fn text(bytes: &[u8]) -> Setting {
    Setting::Text(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.to_owned(), value, ..Default::default() }
    }

    fn resolve(node: &str, sent: Option<&Any>) -> Result<Options> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("myshim.toml");
        std::fs::write(&path, node).unwrap();
        resolve_with(Source::node(&path)?, sent)
    }

    /// One length-delimited field of a message.
    fn field(number: u8, text: &str) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }

    #[test]
    fn the_client_up_to_1_7_says_who_owns_the_pipes() {
        // { io_uid = 10: 300, io_gid = 11: 7 }
        let options = resolve("", Some(&any(CLIENT_OPTIONS, vec![80, 0xac, 2, 88, 7]))).unwrap();
        assert_eq!((options.io_uid, options.io_gid), (300, 7));
        let error = resolve("", Some(&any(CLIENT_OPTIONS, vec![16, 1]))).unwrap_err();
        assert!(error.to_string().contains("field 2"), "{error}");
    }

    #[test]
    fn nothing_sent_leaves_the_nodes_file() {
        for sent in [None, Some(any("", vec![])), Some(any(RUNC_OPTIONS, vec![])), Some(any(CRI_OPTIONS, vec![]))] {
            let options = resolve("SystemdCgroup = true\nIoUid = 3\n", sent.as_ref()).unwrap();
            assert!(options.systemd_cgroup && options.io_uid == 3, "{options:?}");
        }
    }

    #[test]
    fn fields_of_runc_options_that_are_set_outrank_the_nodes_file() {
        let sent = oci::Options {
            no_pivot_root: true,
            no_new_keyring: true,
            shim_cgroup: "/shims".into(),
            io_uid: 7,
            root: "/run/r".into(),
            task_api_address: "ttrpc+unix:///x".into(),
            task_api_version: 3,
            ..Default::default()
        };
        let sent = any("types.example/containerd.runc.v1.Options", sent.write_to_bytes().unwrap());
        let options = resolve("SystemdCgroup = true\nIoUid = 3\nIoGid = 4\n", Some(&sent)).unwrap();
        assert!(options.no_pivot_root && options.no_new_keyring && options.systemd_cgroup);
        assert_eq!((options.io_uid, options.io_gid), (7, 4));
        assert_eq!((options.shim_cgroup.unwrap(), options.root), ("shims".into(), "/run/r".into()));
    }

    #[test]
    fn the_file_of_cri_outranks_the_nodes_and_its_body_both() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("handler.toml");
        std::fs::write(&file, "IoUid = 2\nIoGid = 2\n").unwrap();
        let mut message = field(1, "containerd.runc.v1.Options");
        message.extend(field(2, file.to_str().unwrap()));
        message.extend(field(3, "IoGid = 3\nBinaryName = ''\n"));
        let options = resolve("IoUid = 1\nIoGid = 1\nLogLevel = 'debug'", Some(&any(CRI_OPTIONS, message))).unwrap();
        assert_eq!((options.io_uid, options.io_gid), (2, 3));
        assert_eq!(options.log_level, Some(log::LevelFilter::Debug));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let runc = |sent: oci::Options| any(RUNC_OPTIONS, sent.write_to_bytes().unwrap());
        for (sent, expected) in [
            (any("io.example.Options", vec![1]), "options of type io.example.Options: neither "),
            (any(RUNC_OPTIONS, vec![0xff]), "decode options of type containerd.runc.v1.Options: "),
            (any(RUNC_OPTIONS, field(14, "x")), "containerd.runc.v1.Options: field 14: there is no such option"),
            (any(RUNC_OPTIONS, field(8, "/c")), "containerd.runc.v1.Options: CriuPath: "),
            (
                runc(oci::Options { binary_name: "/usr/bin/crun".into(), ..Default::default() }),
                "containerd.runc.v1.Options: BinaryName: \"/usr/bin/crun\": ",
            ),
            (any(CRI_OPTIONS, field(1, "io.example.Options")), "runtimeoptions.v1.Options: TypeUrl: "),
            (any(CRI_OPTIONS, field(2, "/nonexistent/x.toml")), "options file /nonexistent/x.toml: "),
            (any(CRI_OPTIONS, field(3, "Speed = 9")), "config_body: Speed: there is no such option"),
            (any(CRI_OPTIONS, field(4, "x")), "runtimeoptions.v1.Options: field 4: there is no such option"),
        ] {
            let error = resolve("", Some(&sent)).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().starts_with(expected), "{error}, not {expected}");
        }
        let error = resolve("Speed = 9", None).unwrap_err();
        assert!(error.to_string().ends_with("/myshim.toml: Speed: there is no such option"), "{error}");
    }
}
