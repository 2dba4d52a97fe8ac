//! `-info`, `-v` and `-h`: what this runtime is and can do, told before there is any container.
//!
//! containerd asks from 2.2 on before the first container, and CRI when it starts; kubelet offers user namespaces and
//! recursive read-only mounts only to runtimes that claim them in the features, which `runtime-core` knows.

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{Message, MessageField};
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use runtime_core::{Error, Kind, Result, features};

use crate::bootstrap::read_stdin;
use crate::options::{NODE_FILE, NODE_FILE_VARIABLE};
use crate::{PROGRAM, RUNTIME};

/// How containerd's typeurl names the runtime spec's features, which are JSON and no protobuf.
const FEATURES_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Our version, and what the build script has found out: the commit and the compiler.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const REVISION: &str = env!("REVISION");
const COMPILER: &str = env!("COMPILER");

/// What `-v` prints, in the words of containerd's own shims.
pub(crate) fn version() -> String {
    format!("{PROGRAM}:\n  Version:  {VERSION}\n  Revision: {REVISION}\n  Rust version: {COMPILER}\n")
}

/// What `-h` prints.
pub(crate) fn help() -> String {
    format!(
        "\
{PROGRAM} {VERSION}: a containerd shim that runs containers by itself, without runc.

containerd starts this program wherever a container's runtime is {RUNTIME}:
    ctr run --rm --runtime {RUNTIME} docker.io/library/busybox:latest hello echo hello

Commands for people:
    plan [--options FILE] BUNDLE  print what would be done for the container of a bundle, and do none of it;
                                  with the node's options, and over them those of FILE, which is like the node's
    help, -h, --help              print this text
    -v, --version                 print the version and the revision

Commands for containerd, with -namespace, -id, -address, -bundle, -debug:
    start                         start the server of a pod, and print its address
    delete                        remove what is left of a container whose server has died
    -info                         print what the runtime can do, as a protobuf message
    (none)                        be the server that `start` has started

Options of the node: {NODE_FILE}, or the file that {NODE_FILE_VARIABLE} names.
Documentation: README.md of the source; `make install` puts it into PREFIX/share/doc/{PROGRAM}.
"
    )
}

/// Answers `-info`: options on stdin, or nothing; a `RuntimeInfo` on stdout.
pub(crate) fn info() -> Result<()> {
    crate::print(&runtime_info(&read_stdin()?)?)
}

fn runtime_info(stdin: &[u8]) -> Result<Vec<u8>> {
    let failed = |what, e| Error::new(Kind::Invalid, format!("{what}: {e}"));
    let options = match stdin {
        [] => None,
        _ => Some(Any::parse_from_bytes(stdin).map_err(|e| failed("decode the runtime options on stdin", e))?),
    };
    let version = RuntimeVersion { version: VERSION.into(), revision: REVISION.into(), ..RuntimeVersion::default() };
    let features =
        Any { type_url: FEATURES_URL.into(), value: features::document().to_string().into(), ..Any::default() };
    let info = RuntimeInfo {
        name: RUNTIME.into(),
        version: MessageField::some(version),
        options: MessageField::from_option(options),
        features: MessageField::some(features),
        ..RuntimeInfo::default()
    };
    info.write_to_bytes().map_err(|e| failed("encode the answer", e))
}

#[cfg(test)]
mod tests {
    use containerd_shim::api::Options;
    use containerd_shim::util::convert_to_any;
    use oci_spec::runtime::Features;

    use super::*;

    #[test]
    fn the_answer_names_the_runtime_and_gives_the_options_back() {
        let options = convert_to_any(Box::new(Options { systemd_cgroup: true, ..Options::default() })).unwrap();
        let info = RuntimeInfo::parse_from_bytes(&runtime_info(&options.write_to_bytes().unwrap()).unwrap()).unwrap();
        assert_eq!((info.name.as_str(), info.version.version.as_str()), ("io.containerd.myshim.v2", VERSION));
        assert_eq!(info.options.unwrap(), options);
        assert_eq!(info.features.type_url, FEATURES_URL);
        let features: Features = serde_json::from_slice(&info.features.value).unwrap();
        assert_eq!(features.oci_version_max(), "1.3.0");

        let bare = RuntimeInfo::parse_from_bytes(&runtime_info(b"").unwrap()).unwrap();
        assert!(bare.options.is_none());
        assert!(runtime_info(b"\xff").unwrap_err().to_string().starts_with("decode the runtime options"));
    }
}
