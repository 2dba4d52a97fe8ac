//! config.json field by field: `oci_spec` types to ours (config.md, config-linux.md of the runtime spec, version 1.3).
//!
//! Called by `bundle`. Each field is resolved or refused, never passed over. What is passed over on purpose, as the spec
//! wants it: properties that it does not know, and what it marks as another platform's (`windows`, `solaris`, `zos`,
//! `freebsd`, `process.commandLine`, `process.user.username`). An empty string means an absent field, as Go clients write
//! it.

mod annotations;
mod capabilities;
pub(crate) mod cgroup;
mod devices;
mod hooks;
mod lists;
pub(crate) mod mount_options;
mod mounts;
pub(crate) mod names;
pub(crate) mod namespaces;
mod net_devices;
// SAFETY: holds ioctl(2) requests that take no argument, on descriptors that outlive the calls.
#[allow(unsafe_code)]
pub(crate) mod nsfs;
mod paths;
pub(crate) mod process;
mod scheduling;
mod seccomp;
pub(crate) mod sysctl;
mod time_offsets;
mod unsupported;
pub(crate) mod user_namespace;
mod without_mounts;

use std::path::Path;

use oci_spec::runtime as oci;

use crate::container::{Container, Process, Propagation, Root};
use crate::id::ContainerId;
use crate::pod::Pod;
use crate::refuse::{At, Refusal};
use crate::resources::Resources;

/// Resolves all of `spec`, config.json of the bundle at the absolute path `bundle`, for a container of `pod`.
pub(crate) fn container(
    spec: &oci::Spec,
    bundle: &Path,
    id: &ContainerId,
    pod: Option<&Pod>,
) -> Result<Container, Refusal> {
    version(spec.version())?;
    unsupported::in_spec(spec)?;
    let process = spec.process().as_ref().ok_or_else(|| Refusal::new("/process", "missing: a container runs one"))?;
    let nothing = serde_json::from_str("{}").expect("every field of linux may be absent");
    let linux = spec.linux().as_ref().unwrap_or(&nothing);
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let namespaces = namespaces::resolve(namespaces, pod).at("/linux/namespaces")?;
    let mappings = user_namespace::resolve(linux, &namespaces).at("/linux")?;
    let own_ids = namespaces::ids(&namespaces, &mappings);
    let no_resources = oci::LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&no_resources);
    let process = Process {
        personality: linux.personality().as_ref().map(scheduling::personality).transpose().at("/linux/personality")?,
        memory_policy: linux
            .memory_policy()
            .as_ref()
            .map(scheduling::memory_policy)
            .transpose()
            .at("/linux/memoryPolicy")?,
        ..process::resolve(process).at("/process")?
    };
    mappings.refuse_unmapped(&process.user).at("/process")?;
    let mut container = Container {
        id: id.clone(),
        bundle: bundle.to_owned(),
        root: root(spec.root().as_ref(), bundle).at("/root")?,
        hooks: hooks::resolve(spec.hooks().as_ref()).at("/hooks")?,
        process,
        hostname: names::resolve(spec.hostname().as_deref(), &namespaces).at("/hostname")?,
        domainname: names::resolve(spec.domainname().as_deref(), &namespaces).at("/domainname")?,
        mounts: mounts::resolve(spec.mounts().as_deref().unwrap_or_default(), bundle, own_ids.as_ref())
            .at("/mounts")?,
        cgroup: cgroup::resolve(linux.cgroups_path().as_deref(), id).at("/linux/cgroupsPath")?,
        resources: Resources::resolve(resources, "/linux/resources")?,
        devices: devices::resolve(linux.devices().as_deref().unwrap_or_default()).at("/linux/devices")?,
        net_devices: net_devices::resolve(linux.net_devices().as_ref(), &namespaces).at("/linux/netDevices")?,
        sysctl: sysctl::resolve(linux.sysctl().as_ref(), &namespaces).at("/linux/sysctl")?,
        masked_paths: paths::list(linux.masked_paths().as_deref()).at("/linux/maskedPaths")?,
        readonly_paths: paths::list(linux.readonly_paths().as_deref()).at("/linux/readonlyPaths")?,
        rootfs_propagation: propagation(linux.rootfs_propagation().as_deref()).at("/linux/rootfsPropagation")?,
        seccomp: linux.seccomp().as_ref().map(seccomp::resolve).transpose().at("/linux/seccomp")?,
        mount_label: process::filled(linux.mount_label().as_ref()),
        annotations: annotations::resolve(spec.annotations().as_ref()).at("/annotations")?,
        time_offsets: time_offsets::resolve(linux.time_offsets().as_ref(), &namespaces).at("/linux/timeOffsets")?,
        mappings,
        namespaces,
    };
    if let Some(pod) = pod {
        pod.furnish(&mut container);
    }
    without_mounts::check(&container, linux.namespaces().as_deref().unwrap_or_default())?;
    Ok(container)
}

/// `ociVersion`: versions 1.x are compatible with each other, by the rules of `SemVer` that the spec follows.
fn version(version: &str) -> Result<(), Refusal> {
    if version.starts_with("1.") {
        return Ok(());
    }
    let reason = match version {
        "" => "missing".to_owned(),
        _ => format!("version {version} of the runtime specification is not 1.x"),
    };
    Err(Refusal::new("/ociVersion", reason))
}

/// `root`, config.md "Root".
fn root(root: Option<&oci::Root>, bundle: &Path) -> Result<Root, Refusal> {
    let root = root.ok_or_else(|| Refusal::new("", "missing: a container needs a root file system"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Refusal::new("/path", "missing"));
    }
    Ok(Root { path: bundle.join(root.path()), readonly: root.readonly().unwrap_or(false) })
}

/// `linux.rootfsPropagation`, config-linux.md "Rootfs Mount Propagation".
fn propagation(name: Option<&str>) -> Result<Option<Propagation>, Refusal> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    match mount_options::propagation(name) {
        Some(propagation) => Ok(Some(propagation)),
        None => Err(Refusal::new("", format!("unknown propagation {name}"))),
    }
}
