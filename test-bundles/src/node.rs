//! What containerd is to a shim, without a containerd: bundles with an overlay each, an address that takes events, and the
//! command line, environment and calls as containerd makes them. For what measures or counts the shim alone.
//!
//! A [`Program`] is an installed shim, ours or the distribution's; a [`Shim`] is one that runs; a [`Container`] is a bundle, made
//! of `bundles/bench` as CRI would send it (seccomp, limits, a network namespace that is joined).

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use containerd_shim_protos::api::{ForwardRequest, Mount};
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::shim_async::{Events, create_events};
use containerd_shim_protos::ttrpc;
use serde_json::{Value, json};
use ttrpc::r#async::{Server, TtrpcContext};

use crate::holder::Holder;
use crate::{image, leftovers, wait_until};

mod program;
mod shim;

pub use program::Program;
pub use shim::{Exec, Shim, Streams};

/// What a shim leaves to be done after its last answer has this long.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// A directory and an address of its own, and a containerd namespace that nobody else on the machine has.
pub struct Node {
    dir: tempfile::TempDir,
    namespace: String,
    config: Value,
    nth: Cell<u32>,
    /// Held for its drop, as is the next.
    _events: Server,
    network: Holder,
}

/// Takes every event and does nothing with it.
struct Sink;

#[async_trait]
impl Events for Sink {
    async fn forward(&self, _: &TtrpcContext, _: ForwardRequest) -> ttrpc::Result<Empty> {
        Ok(Empty::new())
    }
}

/// A container to be: its bundle, gone when this is dropped.
#[derive(Debug)]
pub struct Container {
    /// The container's name.
    pub id: String,
    dir: PathBuf,
    rootfs: Mount,
}

impl Node {
    /// Listens for events, and unpacks the root that containers share.
    pub async fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("node-").tempdir().context("make a directory")?;
        let namespace = format!("node-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/bench/config.json");
        let config = fs::read(&config).with_context(|| format!("read {}", config.display()))?;
        image::unpack(&dir.path().join("root"))?;
        let events = format!("unix://{}.ttrpc", dir.path().join("containerd.sock").display());
        let mut events = Server::new().bind(&events)?.register_service(create_events(Arc::new(Sink)));
        events.start().await.context("listen for events")?;
        Ok(Self {
            namespace,
            config: serde_json::from_slice(&config)?,
            nth: Cell::new(0),
            _events: events,
            network: Holder::new(&["--net"]),
            dir,
        })
    }

    /// Everything of this node is below this directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new container that would run `args`.
    pub fn container(&self, args: &[&str]) -> Result<Container> {
        self.container_with(args, |_| {})
    }

    /// A new container whose configuration is changed.
    pub fn container_with(&self, args: &[&str], change: impl FnOnce(&mut Value)) -> Result<Container> {
        self.nth.set(self.nth.get() + 1);
        let id = format!("c{:05}", self.nth.get());
        // The distribution's shim finds a bundle by the container's name.
        let dir = self.dir().join("b").join(&id);
        for below in ["rootfs", "upper", "work"] {
            fs::create_dir_all(dir.join(below))?;
        }
        // Where containerd would read the shim's log from a fifo.
        std::os::unix::fs::symlink("/dev/null", dir.join("log"))?;
        let mut config = self.config.clone();
        config["process"]["args"] = json!(args);
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.namespace));
        let namespaces = config["linux"]["namespaces"].as_array_mut().context("namespaces are a list")?;
        let network = namespaces.iter_mut().find(|one| one["type"] == "network").context("no network namespace")?;
        network["path"] = json!(self.network.path("net"));
        change(&mut config);
        fs::write(dir.join("config.json"), config.to_string())?;
        let layer = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        let options = vec![
            layer("lowerdir", self.dir().join("root")),
            layer("upperdir", dir.join("upper")),
            layer("workdir", dir.join("work")),
        ];
        let rootfs = Mount { type_: "overlay".into(), source: "overlay".into(), options, ..Default::default() };
        Ok(Container { id, dir, rootfs })
    }

    /// The process object of an exec of `args`.
    pub fn process(&self, args: &[&str]) -> Value {
        let mut process = self.config["process"].clone();
        process["args"] = json!(args);
        process
    }

    /// The end: whatever was made here must be gone, or go in the time that a shim has to end.
    pub fn finish(self) -> Result<()> {
        let look = || leftovers::of_namespace(self.dir(), &self.namespace);
        let gone = wait_until(GONE_LIMIT, || look().is_empty());
        ensure!(gone, "left behind:\n  {}", look().join("\n  "));
        Ok(())
    }
}

impl Drop for Node {
    /// After a failure all is cleared away, so that one does not become ten.
    fn drop(&mut self) {
        leftovers::sweep(self.dir(), &self.namespace);
    }
}

impl Container {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Container {
    /// What cannot be removed is seen by [`Node::finish`], or still mounted, and then it is the node's to sweep.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
