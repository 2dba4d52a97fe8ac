//! An installed shim, and what it and all that it starts have cost of CPU.
//!
//! One thread starts every process of a program and nothing else. A perf event on that thread (perf_event_open(2),
//! `inherit`) counts its own time and that of all its descendants, wherever they are moved and whoever adopts them: a cgroup
//! would do as much on v2, but not on v1, and not without being moved to.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use perf_event::events::Software;
use perf_event::{Builder, Counter};
use tokio::sync::oneshot;

use super::{Container, Node, Shim};
use crate::containerd::shim_binary;

/// A shim's binary.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    starts: mpsc::Sender<Start>,
    /// None where the kernel does not count for us.
    counter: Option<Mutex<Counter>>,
}

type Start = (Command, oneshot::Sender<std::io::Result<Child>>);

impl Program {
    /// The shim under test.
    pub fn ours() -> Result<Self> {
        Self::new(shim_binary()?)
    }

    /// The distribution's, which runs runc.
    pub fn distribution() -> Result<Self> {
        Self::new("/usr/bin/containerd-shim-runc-v2".into())
    }

    /// Whatever it is, it must be there.
    pub fn new(path: PathBuf) -> Result<Self> {
        ensure!(path.is_file(), "{} is not there", path.display());
        let (starts, asked) = mpsc::channel::<Start>();
        let (tell, counter) = mpsc::channel();
        std::thread::spawn(move || {
            let count = || {
                let mut counter = Builder::new(Software::TASK_CLOCK)
                    .observe_self()
                    .any_cpu()
                    .include_kernel()
                    .inherit(true)
                    .build()?;
                counter.enable().map(|()| counter)
            };
            // Who asked has gone where nobody takes the answers.
            let _ = tell.send(count());
            for (mut command, answer) in asked {
                let _ = answer.send(command.spawn());
            }
        });
        let counter = counter.recv().context("the thread that starts processes")?.ok().map(Mutex::new);
        Ok(Self { path, starts, counter })
    }

    /// Bytes of the binary.
    pub fn size(&self) -> Result<u64> {
        Ok(self.path.metadata()?.len())
    }

    /// CPU time so far of all that was started, descendants included.
    pub fn cpu(&self) -> Option<Duration> {
        let mut counter = self.counter.as_ref()?.lock().ok()?;
        counter.read().ok().map(Duration::from_nanos)
    }

    /// `start` for a new pod, to the first call that is answered: the shim, and how long that took.
    pub async fn start(&self, node: &Node, container: &Container) -> Result<(Shim, Duration)> {
        let started = Instant::now();
        let output = self.run(node, &container.id, container.path(), &["start"]).await?;
        let shim = Shim::connect(&output.stdout, &node.namespace, &container.id).await?;
        Ok((shim, started.elapsed()))
    }

    /// The `delete` action, which containerd 2.x runs after every container; its time.
    pub async fn delete(&self, node: &Node, container: &Container) -> Result<Duration> {
        let started = Instant::now();
        self.run(node, &container.id, container.path(), &["-bundle", &container.path().to_string_lossy(), "delete"])
            .await?;
        Ok(started.elapsed())
    }

    /// As containerd runs the binary: a shim of before BootstrapParams reads nothing from stdin that it would miss.
    async fn run(&self, node: &Node, id: &str, bundle: &Path, verb: &[&str]) -> Result<Output> {
        let address = node.dir().join("containerd.sock");
        let mut command = Command::new(&self.path);
        command.args(["-namespace", &node.namespace, "-address", &address.to_string_lossy()]);
        command.args(["-publish-binary", "/bin/false", "-id", id]).args(verb).current_dir(bundle);
        command.env("TTRPC_ADDRESS", format!("{}.ttrpc", address.display())).env("MAX_SHIM_VERSION", "2");
        command.env("NAMESPACE", &node.namespace).env("GOMAXPROCS", "2");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (answer, started) = oneshot::channel();
        self.starts.send((command, answer)).ok().context("the thread that starts processes has ended")?;
        let child = started.await?.with_context(|| format!("start {}", self.path.display()))?;
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{} {verb:?}: {}: {}", self.path.display(), output.status, said());
        Ok(output)
    }
}
