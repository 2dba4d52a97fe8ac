//! What clients are told of a sandbox, in the forms they read. Pure.

use std::collections::HashMap;

use config::Pod;
use config::container::{Namespace, NamespaceKind};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::sandbox_api::SandboxStatusResponse;
use containerd_shim_protos::types::platform::Platform;
use serde_json::{Value, json};

use super::{Stage, View};

/// By which containerd knows an OCI spec in JSON.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// The names of CRI's `PodSandboxState`; containerd reads them back after its restart.
const READY: &str = "SANDBOX_READY";
const NOT_READY: &str = "SANDBOX_NOTREADY";

/// The answer to Status. Where the namespaces are, for those who want to enter them, is told to those who ask for more.
pub(super) fn status(view: &View, verbose: bool) -> SandboxStatusResponse {
    let mut response = SandboxStatusResponse {
        sandbox_id: view.id.clone(),
        pid: view.pid,
        state: if view.stage == Stage::Ready { READY } else { NOT_READY }.to_owned(),
        created_at: MessageField::some(view.created_at.into()),
        ..Default::default()
    };
    if let Stage::Stopped(exit) = view.stage {
        response.exited_at = MessageField::some(exit.at.into());
    }
    if let Some(shared) = view.shared.as_ref().filter(|_| verbose) {
        let paths = shared.pod.namespaces.iter().map(|own| (name(own.kind).to_owned(), json!(own.path)));
        let namespaces = Value::Object(paths.collect());
        response.info = HashMap::from([("namespaces".to_owned(), namespaces.to_string())]);
    }
    response
}

/// Where the namespaces and files of a pod are, as the part of an OCI spec that its containers share.
pub(super) fn spec(pod: &Pod) -> Any {
    let namespace = |own: &Namespace| json!({"type": name(own.kind), "path": own.path});
    let namespaces: Vec<_> = pod.namespaces.iter().map(namespace).collect();
    let files = pod.files.iter().map(|(place, path)| (place.clone(), path));
    let memory = pod.shared_memory.iter().map(|path| ("/dev/shm".into(), path));
    let mount = |(place, path)| json!({"destination": place, "type": "bind", "source": path, "options": ["rbind", "rprivate", "rw"]});
    let mounts: Vec<_> = files.chain(memory).map(mount).collect();
    let spec = json!({"ociVersion": "1.2.0", "mounts": mounts, "linux": {"namespaces": namespaces}});
    Any { type_url: SPEC.to_owned(), value: spec.to_string().into_bytes(), ..Default::default() }
}

/// This machine's, in the words of OCI images.
pub(super) fn platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        other => (other, ""),
    };
    let words = ["linux", architecture, variant].map(str::to_owned);
    let [os, architecture, variant] = words;
    Platform { os, architecture, variant, ..Default::default() }
}

/// The runtime spec's name.
fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "network",
        NamespaceKind::Mount => "mount",
        other => other.file_name(),
    }
}
