//! Images made here, from the machine's static busybox and, for one, its systemd: no registry, no network.
//!
//! An OCI image layout (image-spec, image-layout.md) in a tar archive, as `ctr images import` takes it, and `docker load` by a
//! manifest of its own: one uncompressed layer, so that its digest is also its diff id and the chain id that a snapshot is
//! prepared from.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::containerd::{Containerd, built};
use crate::sha256_hex;

mod systemd;

/// The image's name in every daemon.
pub const NAME: &str = "local/busybox:1";

/// Where the distribution puts `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// An archive on disk, and the snapshot that it unpacks to.
#[derive(Debug, Clone)]
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    /// Key of the unpacked layer: the parent of a container's own snapshot.
    pub chain_id: String,
}

impl Image {
    /// Makes the image in `dir`.
    pub fn make(dir: &Path) -> Result<Self> {
        Self::named(dir, NAME, &["sh"])
    }

    /// Makes the image in `dir` under another name, with another command.
    pub fn named(dir: &Path, name: &str, command: &[&str]) -> Result<Self> {
        Self::of_layer(dir, name, command, &base()?.into_inner()?)
    }

    /// `lab.test/dangling:1`, in `dir`: its /etc/resolv.conf is a link to where systemd-resolved would have its own.
    pub fn with_a_dangling_link(dir: &Path) -> Result<Self> {
        let mut layer = base()?;
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut link, "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")?;
        Self::of_layer(dir, "lab.test/dangling:1", &["sh"], &layer.into_inner()?)
    }

    /// `lab.test/systemd:1`, in `dir`: it boots, says something on the console and hears what is typed, and exits with 7. None
    /// where the machine has no systemd.
    pub fn with_systemd(dir: &Path) -> Result<Option<Self>> {
        if !systemd::is_here() {
            return Ok(None);
        }
        let mut layer = base()?;
        systemd::add_to(&mut layer)?;
        Self::of_layer(dir, "lab.test/systemd:1", &systemd::COMMAND, &layer.into_inner()?).map(Some)
    }

    fn of_layer(dir: &Path, name: &str, command: &[&str], layer: &[u8]) -> Result<Self> {
        let diff_id = digest(layer);
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"], "Cmd": command, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = serde_json::to_vec(&config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        });
        let manifest = serde_json::to_vec(&manifest)?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"});
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;
        let of_docker = json!([{"Config": blob_path(&config), "RepoTags": [name], "Layers": [blob_path(layer)]}]);

        let archive = dir.join(format!("{}.tar", name.replace(['/', ':'], "-")));
        let file = fs::File::create(&archive).with_context(|| format!("create {}", archive.display()))?;
        let mut tar = tar::Builder::new(std::io::BufWriter::new(file));
        add(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add(&mut tar, "index.json", 0o644, &index)?;
        add(&mut tar, "manifest.json", 0o644, of_docker.to_string().as_bytes())?;
        for blob in [layer, &config, &manifest] {
            add(&mut tar, &blob_path(blob), 0o644, blob)?;
        }
        tar.into_inner()?.flush()?;
        Ok(Self { archive, chain_id: diff_id })
    }

    /// Imports and unpacks it into a daemon's namespace.
    pub fn import(&self, daemon: &Containerd) -> Result<()> {
        self.import_for(daemon, &daemon.namespace)
    }

    /// Imports and unpacks it into one of the daemon's namespaces.
    pub fn import_for(&self, daemon: &Containerd, namespace: &str) -> Result<()> {
        let archive = self.archive.to_string_lossy();
        let import = ["--namespace", namespace, "images", "import", &archive];
        daemon.ctr(&import)?.success().with_context(|| format!("import {archive}"))?;
        Ok(())
    }
}

/// The same root filesystem as a directory, without an image.
pub fn unpack(dir: &Path) -> Result<()> {
    tar::Archive::new(base()?.into_inner()?.as_slice())
        .unpack(dir)
        .with_context(|| format!("unpack a root into {}", dir.display()))
}

/// The root filesystem: busybox under all its names, the probe when it is built, and users to run as.
fn base() -> Result<tar::Builder<Vec<u8>>> {
    let busybox = fs::read(BUSYBOX).context("read /bin/busybox (package busybox-static)")?;
    let listing = Command::new(BUSYBOX).arg("--list").output().context("run busybox --list")?;
    ensure!(listing.status.success(), "busybox --list: {}", listing.status);

    let mut tar = tar::Builder::new(Vec::new());
    for (dir, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("var", 0o755),
    ] {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        tar.append_data(&mut header, dir, std::io::empty())?;
    }
    add(&mut tar, "bin/busybox", 0o755, &busybox)?;
    for applet in String::from_utf8_lossy(&listing.stdout).lines().filter(|applet| *applet != "busybox") {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), format!("bin/{applet}"), "busybox")?;
    }
    if let Some(probe) = built("probe") {
        add(&mut tar, "probe", 0o755, &fs::read(probe)?)?;
    }
    add(&mut tar, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/home:/bin/sh\n")?;
    add(&mut tar, "etc/group", 0o644, b"root:x:0:\nguest:x:1000:\n")?;
    Ok(tar)
}

fn add<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).with_context(|| format!("add {path}"))
}

/// Time and owner are fixed: the same busybox gives the same image.
fn header(kind: tar::EntryType, mode: u32, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(bytes))
}

/// Where the layout has a blob.
fn blob_path(bytes: &[u8]) -> String {
    format!("blobs/{}", digest(bytes).replace(':', "/"))
}

/// The image-spec's name of this machine, which is Go's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_busybox_gives_the_same_image_and_names_its_only_layer() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = dirs.each_ref().map(|dir| Image::make(dir.path()).unwrap());
        assert_eq!(fs::read(&one.archive).unwrap(), fs::read(&two.archive).unwrap());

        let mut archive = tar::Archive::new(fs::File::open(&one.archive).unwrap());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        let layer = format!("blobs/{}", one.chain_id.replace(':', "/"));
        assert!(paths.contains(&PathBuf::from(&layer)), "{layer} is not in {paths:?}");
        assert_eq!(paths.len(), 6, "layout, index, Docker's manifest, layer, config, manifest: {paths:?}");
    }
}
