//! What the tests of this crate share: samples, bundles made of them, changes to them, and namespaces to join.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use config::{Bundle, Container, ContainerId, Refusal};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use serde_json::Value;
use tempfile::TempDir;

/// `tests/samples/<name>.json`.
pub(crate) fn sample(name: &str) -> Value {
    let path = format!("{}/tests/samples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).expect("a sample")).expect("JSON")
}

/// A bundle with this config.json.
pub(crate) fn bundle(spec: &Value) -> TempDir {
    let directory = tempfile::Builder::new().prefix("bundle-").tempdir().expect("a directory");
    fs::write(directory.path().join("config.json"), spec.to_string()).expect("written");
    directory
}

/// Reads the bundle at `path`.
pub(crate) fn read(path: &Path) -> Result<Container, Refusal> {
    Bundle::read(path, &ContainerId::new("demo").expect("an id"))
}

/// Resolves `spec` as the config.json of a bundle, which then seems to be at `/bundle`.
pub(crate) fn resolve(spec: &Value) -> Result<Container, Refusal> {
    let bundle = bundle(spec);
    let mut container = read(bundle.path())?;
    if let Ok(root) = container.root.path.strip_prefix(bundle.path()) {
        container.root.path = Path::new("/bundle").join(root);
    }
    container.bundle = "/bundle".into();
    Ok(container)
}

/// Puts `value` at `pointer`, making what is missing on the way. In an array, `-` is the place after the last element.
pub(crate) fn set(spec: &mut Value, pointer: &str, value: Value) {
    let mut place = spec;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        if let Value::Array(items) = place {
            let index = token.parse().unwrap_or(items.len());
            if index == items.len() {
                items.push(Value::Null);
            }
            place = &mut items[index];
        } else {
            place = &mut place[token];
        }
    }
    *place = value;
}

/// Takes out what is at `pointer`.
pub(crate) fn remove(spec: &mut Value, pointer: &str) {
    let (parent, token) = pointer.rsplit_once('/').expect("a pointer");
    match spec.pointer_mut(parent).expect("a parent") {
        Value::Object(members) => drop(members.remove(token)),
        Value::Array(items) => drop(items.remove(token.parse().expect("an index"))),
        _ => panic!("{parent} has no members"),
    }
}

/// Network, UTS and IPC namespaces that are not the test's own, held by a thread for as long as this lives.
pub(crate) struct OwnNamespaces {
    directory: String,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl OwnNamespaces {
    pub(crate) fn new() -> Self {
        let (stop, stopped) = channel();
        let (tell, told) = channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC).expect("root");
            tell.send(gettid()).expect("somebody listens");
            let _: Result<(), _> = stopped.recv();
        });
        let directory = format!("/proc/{}/task/{}/ns", process::id(), told.recv().expect("a thread id"));
        Self { directory, thread: Some((stop, thread)) }
    }

    /// Path of the namespace file that the kernel calls `name`.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// `text` with a constant in place of the directory of the namespaces.
    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(&self.directory, "/proc/4242/ns")
    }
}

impl Drop for OwnNamespaces {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            thread.join().expect("the thread does not panic");
        }
    }
}
