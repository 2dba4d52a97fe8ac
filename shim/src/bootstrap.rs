//! What containerd tells `start`, and how it wants the answer: three dialects without a version handshake (D11).
//!
//! | containerd | stdin | answer it takes |
//! |---|---|---|
//! | 1.6 | `Any` with the runtime's options, or nothing | a bare address |
//! | 1.7 to 2.2 | the same | a bare address, or JSON (1.7 only with version 2) |
//! | 2.3 on | `BootstrapParams` | `BootstrapResult`, JSON, or a bare address |
//!
//! The two messages on stdin look alike on the wire (an `Any` decodes as `BootstrapParams` with a type url for an id), so
//! only params that name the very container of the command line count. A bare address is taken by all for the task API
//! version 2, which we serve beside version 3; so it is the answer to all who do not speak protobuf.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use containerd_shim::bootstrap::{BootstrapParams, BootstrapResult, LogLevel, nearest_log_level};
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use log::LevelFilter;
use runtime_core::{Error, Kind, Result};

use crate::flags::Flags;
use crate::options;

/// containerd writes no more than this, and reads no more from its own shims.
const MAX_STDIN_BYTES: u64 = 10 << 20;

/// Where shims have their sockets unless containerd names a place.
const SOCKET_DIR: &str = "/run/containerd/s";

/// One `start`, whichever way it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    /// The container.
    pub(crate) id: String,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// containerd's gRPC socket; part of the name of ours.
    pub(crate) grpc_address: String,
    /// Where events go; none where containerd cannot be told of any.
    pub(crate) ttrpc_address: Option<String>,
    /// The directory for our socket.
    pub(crate) socket_dir: PathBuf,
    /// How much the server logs, as far as containerd is concerned.
    pub(crate) log_level: LevelFilter,
    /// The runtime's options.
    pub(crate) options: Option<Any>,
    /// How the answer is written.
    pub(crate) dialect: Dialect,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The bare address: task API version 2 over ttrpc.
    Address,
    /// A `BootstrapResult`, which names a version.
    Protobuf,
}

/// All of stdin, up to containerd's own limit; nothing where a person sits at it.
pub(crate) fn read_stdin() -> Result<Vec<u8>> {
    let stdin = std::io::stdin();
    let mut input = Vec::new();
    if !stdin.is_terminal() {
        stdin.lock().take(MAX_STDIN_BYTES).read_to_end(&mut input).map_err(|e| Error::io("read stdin", &e))?;
    }
    Ok(input)
}

/// Makes one request of the command line, stdin and the environment.
pub(crate) fn request(flags: &Flags, stdin: &[u8], env: impl Fn(&str) -> Option<String>) -> Result<Request> {
    let params = params(stdin, &flags.id, &flags.namespace);
    let dialect = if params.is_some() { Dialect::Protobuf } else { Dialect::Address };
    let options = match &params {
        Some(params) => {
            params.extensions.iter().filter_map(|one| one.value.as_ref()).find(|any| options::are(any)).cloned()
        }
        None => legacy_options(stdin)?,
    };
    let params = params.unwrap_or_default();

    let grpc_address = first([params.containerd_grpc_address, flags.address.clone()])
        .or_else(|| env("GRPC_ADDRESS"))
        .unwrap_or_default();
    let ttrpc_address = first([params.containerd_ttrpc_address])
        .or_else(|| env("TTRPC_ADDRESS").filter(|address| !address.is_empty()))
        .or_else(|| (!grpc_address.is_empty()).then(|| format!("{grpc_address}.ttrpc")));
    let asked = level(nearest_log_level(params.log_level.value()));
    Ok(Request {
        id: flags.id.clone(),
        namespace: flags.namespace.clone(),
        grpc_address,
        ttrpc_address,
        socket_dir: first([params.socket_dir.unwrap_or_default()]).unwrap_or_else(|| SOCKET_DIR.to_owned()).into(),
        log_level: if flags.debug { asked.max(LevelFilter::Debug) } else { asked },
        options,
        dialect,
    })
}

/// What `start` prints: where the server listens, and which version of the task API it speaks, where that can be said.
pub(crate) fn reply(dialect: Dialect, address: &str, version: i32) -> Vec<u8> {
    match dialect {
        Dialect::Address => address.as_bytes().to_vec(),
        Dialect::Protobuf => BootstrapResult {
            version,
            address: address.to_owned(),
            protocol: "ttrpc".to_owned(),
            ..BootstrapResult::default()
        }
        .write_to_bytes()
        .expect("every field of the message is set to a valid value"),
    }
}

/// `stdin` as params, if they are meant for this container.
fn params(stdin: &[u8], id: &str, namespace: &str) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(stdin).ok()?;
    (!stdin.is_empty() && params.instance_id == id && params.namespace == namespace).then_some(params)
}

/// All of stdin, for those who know no params.
fn legacy_options(stdin: &[u8]) -> Result<Option<Any>> {
    let decoded = (!stdin.is_empty()).then(|| Any::parse_from_bytes(stdin)).transpose();
    decoded.map_err(|e| Error::new(Kind::Invalid, format!("decode the runtime options on stdin: {e}")))
}

fn first<const N: usize>(candidates: [String; N]) -> Option<String> {
    candidates.into_iter().find(|candidate| !candidate.is_empty())
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::LOG_LEVEL_TRACE => LevelFilter::Trace,
        LogLevel::LOG_LEVEL_DEBUG => LevelFilter::Debug,
        LogLevel::LOG_LEVEL_INFO => LevelFilter::Info,
        LogLevel::LOG_LEVEL_WARN => LevelFilter::Warn,
        LogLevel::LOG_LEVEL_ERROR | LogLevel::LOG_LEVEL_FATAL | LogLevel::LOG_LEVEL_PANIC => LevelFilter::Error,
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim::api::Options;
    use containerd_shim::bootstrap::Extension;
    use containerd_shim::protos::protobuf::EnumOrUnknown;
    use containerd_shim::util::convert_to_any;
    use proptest::prelude::*;

    use super::*;

    fn flags() -> Flags {
        Flags {
            id: "abc".into(),
            namespace: "k8s.io".into(),
            address: "/run/containerd/containerd.sock".into(),
            ..Flags::default()
        }
    }

    fn params() -> BootstrapParams {
        BootstrapParams {
            instance_id: "abc".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "/new/c.sock.ttrpc".into(),
            containerd_grpc_address: "/new/c.sock".into(),
            socket_dir: Some("/new/s".into()),
            ..BootstrapParams::default()
        }
    }

    fn old_env(name: &str) -> Option<String> {
        (name == "TTRPC_ADDRESS").then(|| "/env/c.sock.ttrpc".to_owned())
    }

    #[test]
    fn params_for_this_container_are_the_new_dialect() {
        let request = request(&flags(), &params().write_to_bytes().unwrap(), old_env).unwrap();
        assert_eq!(
            request,
            Request {
                id: "abc".into(),
                namespace: "k8s.io".into(),
                grpc_address: "/new/c.sock".into(),
                ttrpc_address: Some("/new/c.sock.ttrpc".into()),
                socket_dir: "/new/s".into(),
                log_level: LevelFilter::Info,
                options: None,
                dialect: Dialect::Protobuf,
            }
        );
    }

    #[test]
    fn old_options_are_not_taken_for_params() {
        // With every field at its default the Any is a type url alone, which is a valid BootstrapParams.
        for options in [Options::default(), Options { systemd_cgroup: true, ..Options::default() }] {
            let stdin = convert_to_any(Box::new(options)).unwrap().write_to_bytes().unwrap();
            let request = request(&flags(), &stdin, old_env).unwrap();
            assert_eq!(request.dialect, Dialect::Address);
            assert_eq!(request.options.unwrap().write_to_bytes().unwrap(), stdin);
        }
        let type_url = convert_to_any(Box::new(Options::default())).unwrap().write_to_bytes().unwrap();
        assert!(BootstrapParams::parse_from_bytes(&type_url).is_ok(), "the trap is gone: simplify");
    }

    #[test]
    fn options_are_one_of_the_extensions_of_params() {
        let options = convert_to_any(Box::new(Options { io_uid: 7, ..Options::default() })).unwrap();
        let sandbox = Any { type_url: "containerd.io/sandbox.v1.SandboxConfig".into(), ..Any::default() };
        let extensions =
            [sandbox, options.clone()].map(|any| Extension { value: Some(any).into(), ..Extension::default() });
        let stdin = BootstrapParams { extensions: extensions.into(), ..params() }.write_to_bytes().unwrap();
        assert_eq!(request(&flags(), &stdin, old_env).unwrap().options, Some(options));
    }

    #[test]
    fn params_for_another_container_are_not_ours() {
        let mut other = params();
        other.namespace = "default".into();
        let request = request(&flags(), &other.write_to_bytes().unwrap(), old_env).unwrap();
        assert_eq!(request.dialect, Dialect::Address);
        // They pass for options of a type that nobody knows, and are refused as such.
        assert!(crate::options::resolve(request.options.as_ref()).is_err());
    }

    #[test]
    fn old_containerds_speak_by_flags_and_environment() {
        let request = request(&flags(), b"", old_env).unwrap();
        assert_eq!(request.dialect, Dialect::Address);
        assert_eq!(request.grpc_address, "/run/containerd/containerd.sock");
        assert_eq!(request.ttrpc_address.as_deref(), Some("/env/c.sock.ttrpc"));
        assert_eq!(request.socket_dir, PathBuf::from(SOCKET_DIR));
    }

    #[test]
    fn without_a_ttrpc_address_containerds_own_rule_gives_one() {
        let by_rule = request(&flags(), b"", |_| None).unwrap();
        assert_eq!(by_rule.ttrpc_address.as_deref(), Some("/run/containerd/containerd.sock.ttrpc"));
        assert_eq!(request(&Flags::default(), b"", |_| None).unwrap().ttrpc_address, None);
    }

    #[test]
    fn debug_raises_the_level_and_never_lowers_it() {
        let debug = Flags { debug: true, ..flags() };
        for (wire, plain, raised) in [
            (0, LevelFilter::Info, LevelFilter::Debug),
            (-8, LevelFilter::Trace, LevelFilter::Trace),
            (4, LevelFilter::Warn, LevelFilter::Debug),
            (99, LevelFilter::Error, LevelFilter::Debug),
        ] {
            let stdin =
                BootstrapParams { log_level: EnumOrUnknown::from_i32(wire), ..params() }.write_to_bytes().unwrap();
            assert_eq!(request(&flags(), &stdin, old_env).unwrap().log_level, plain);
            assert_eq!(request(&debug, &stdin, old_env).unwrap().log_level, raised);
        }
    }

    #[test]
    fn the_answer_is_what_each_dialect_reads() {
        assert_eq!(reply(Dialect::Address, "unix:///s/a", 2), b"unix:///s/a");
        let answer = BootstrapResult::parse_from_bytes(&reply(Dialect::Protobuf, "unix:///s/a", 3)).unwrap();
        assert_eq!((answer.version, answer.address.as_str(), answer.protocol.as_str()), (3, "unix:///s/a", "ttrpc"));
        // A new containerd tries the protobuf first: a bare address must not pass for one.
        assert!(BootstrapResult::parse_from_bytes(b"unix:///run/containerd/s/a").is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_an_old_containerd(stdin in proptest::collection::vec(any::<u8>(), 0..64)) {
            let dialect = request(&flags(), &stdin, old_env).map_or(Dialect::Address, |request| request.dialect);
            prop_assert_eq!(dialect, Dialect::Address);
        }
    }
}
