//! `-info` and `-v`: what this runtime is and can do, told before there is any container.
//!
//! containerd asks from 2.2 on before the first container, and CRI when it starts; kubelet offers user namespaces and
//! recursive read-only mounts only to runtimes that claim them here. The features are those of the runtime spec's
//! features.md: claimed is what works, absent is what nobody has built yet.

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{Message, MessageField};
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use runtime_core::{Error, Kind, Result};
use serde_json::{Value, json};

use crate::bootstrap::read_stdin;
use crate::{PROGRAM, RUNTIME};

/// How containerd's typeurl names the runtime spec's features, which are JSON and no protobuf.
const FEATURES_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Our version and, where the build names it, the commit.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const REVISION: &str = match option_env!("REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// What `-v` prints.
pub(crate) fn version() -> String {
    format!("{PROGRAM}:\n  Version:  {VERSION}\n  Revision: {REVISION}\n")
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
    let features = Any { type_url: FEATURES_URL.into(), value: features().to_string().into(), ..Any::default() };
    let info = RuntimeInfo {
        name: RUNTIME.into(),
        version: MessageField::some(version),
        options: MessageField::from_option(options),
        features: MessageField::some(features),
        ..RuntimeInfo::default()
    };
    info.write_to_bytes().map_err(|e| failed("encode the answer", e))
}

/// The runtime spec's features object.
fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": [],
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": CAPABILITIES,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE",
                ],
                "archs": [
                    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390X",
                    "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
                ],
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": false },
        },
    })
}

/// The options of `mounts[]` that stand for mount attributes and propagation, `mount_setattr(2)`.
const MOUNT_OPTIONS: &[&str] = &[
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "unbindable",
];

/// capabilities(7), up to Linux 5.9.
const CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

#[cfg(test)]
mod tests {
    use containerd_shim::api::Options;
    use containerd_shim::util::convert_to_any;
    use oci_spec::runtime::{Capability, Features};

    use super::*;

    #[test]
    fn the_features_are_what_the_spec_understands() {
        let features: Features = serde_json::from_value(features()).unwrap();
        let linux = features.linux().as_ref().unwrap();
        let capabilities = linux.capabilities().as_ref().unwrap();
        for name in capabilities {
            assert!(serde_json::from_value::<Capability>(json!(name)).is_ok(), "{name}");
        }
        assert_eq!(capabilities.len(), 41);
        assert!(features.mount_options().as_ref().unwrap().iter().any(|option| option == "rro"));
        assert!(linux.seccomp().as_ref().unwrap().enabled().unwrap());
    }

    #[test]
    fn lists_are_sorted_and_hold_each_name_once() {
        for list in [MOUNT_OPTIONS, CAPABILITIES] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }

    #[test]
    fn the_answer_names_the_runtime_and_gives_the_options_back() {
        let options = convert_to_any(Box::new(Options { systemd_cgroup: true, ..Options::default() })).unwrap();
        let info = RuntimeInfo::parse_from_bytes(&runtime_info(&options.write_to_bytes().unwrap()).unwrap()).unwrap();
        assert_eq!((info.name.as_str(), info.version.version.as_str()), ("io.containerd.myshim.v2", VERSION));
        assert_eq!(info.options.unwrap(), options);
        assert_eq!(info.features.type_url, FEATURES_URL);

        let bare = RuntimeInfo::parse_from_bytes(&runtime_info(b"").unwrap()).unwrap();
        assert!(bare.options.is_none());
        assert!(runtime_info(b"\xff").unwrap_err().to_string().starts_with("decode the runtime options"));
    }
}
