//! How a test on a real containerd is run: once per release that is installed, each on a daemon shared by its file, with an
//! end to every wait, and with a look at what it leaves behind.
//!
//! The runner is libtest-mimic, so that `cargo test NAME`, `-- --list` and the closing lines are as everywhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::client::Case;
use crate::containerd::{Containerd, Release};
use crate::image::Image;

/// A test that is not done by then hangs.
const LIMIT: Duration = Duration::from_mins(2);
/// Tests wait for processes more than they compute.
const TESTS_AT_ONCE: usize = 4;

type Body = for<'c> fn(&'c Case) -> Pin<Box<dyn Future<Output = Result<()>> + 'c>>;

/// A test and how it wants to be run.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    name: &'static str,
    body: Body,
    not_on_runc: Option<&'static str>,
    own_daemon: bool,
    lacks: Option<fn() -> Option<&'static str>>,
}

impl Test {
    /// Best made with [`crate::test!`].
    pub const fn new(name: &'static str, body: Body) -> Self {
        Self { name, body, not_on_runc: None, own_daemon: false, lacks: None }
    }

    /// Skipped on the distribution's shim, which is known to do this worse: `reason` says how.
    #[must_use]
    pub const fn not_on_runc(mut self, reason: &'static str) -> Self {
        self.not_on_runc = Some(reason);
        self
    }

    /// Skipped where the machine `lacks` what it needs, for the reason given.
    #[must_use]
    pub const fn unless(mut self, lacks: fn() -> Option<&'static str>) -> Self {
        self.lacks = Some(lacks);
        self
    }

    /// Gets a daemon to itself, which it may kill.
    #[must_use]
    pub const fn own_daemon(mut self) -> Self {
        self.own_daemon = true;
        self
    }
}

/// Turns `async fn name(case: &Case) -> Result<()>` into a [`Test`].
#[macro_export]
macro_rules! test {
    ($body:ident) => {
        $crate::suite::Test::new(stringify!($body), |case| Box::pin($body(case)))
    };
}

/// A release, and its shared daemon once a test has asked for it.
struct Ground {
    release: Release,
    image: Arc<OnceLock<Result<Image, String>>>,
    shared: OnceLock<Result<Arc<Containerd>, String>>,
    scratch: Arc<tempfile::TempDir>,
}

/// The `main` of a test file: runs every test on every release.
pub fn run(tests: &[Test]) -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
    let scratch = Arc::new(tempfile::tempdir().expect("a temporary directory can be made"));
    let image = Arc::new(OnceLock::new());
    let grounds: Vec<_> = Release::known()
        .into_iter()
        .map(|release| {
            let (image, scratch) = (image.clone(), scratch.clone());
            Arc::new(Ground { release, image, shared: OnceLock::new(), scratch })
        })
        .collect();
    let trials = grounds.iter().flat_map(|ground| tests.iter().map(|test| trial(ground.clone(), *test))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut clean = true;
    for ground in grounds {
        if let Some(Ok(daemon)) = Arc::into_inner(ground).and_then(|ground| ground.shared.into_inner()) {
            let stopped = Arc::into_inner(daemon).context("a test still holds its daemon").and_then(Containerd::stop);
            if let Err(problem) = stopped {
                eprintln!("test result: FAILED. 0 passed; 1 failed: {problem:#}");
                clean = false;
            }
        }
    }
    if clean { conclusion.exit_code() } else { std::process::ExitCode::FAILURE }
}

fn trial(ground: Arc<Ground>, test: Test) -> Trial {
    let name = format!("{}::{}", ground.release.version, test.name);
    Trial::ignorable_test(name, move || {
        if let Some(reason) = ground.release.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        if let Some(reason) = test.lacks.and_then(|lacks| lacks()) {
            return Ok(Completion::ignored_with(reason));
        }
        if let Some(reason) = test.not_on_runc.filter(|_| crate::is_runc()) {
            return Ok(Completion::ignored_with(reason));
        }
        one(&ground, test).map(|()| Completion::Completed).map_err(|error| Failed::from(error.to_string()))
    })
}

fn one(ground: &Ground, test: Test) -> Result<()> {
    let image = ground.image.get_or_init(|| Image::make(ground.scratch.path()).map_err(|error| format!("{error:#}")));
    let image = image.as_ref().map_err(|error| anyhow::anyhow!("make the image: {error}"))?;
    let daemon = if test.own_daemon {
        start(&ground.release, image)?
    } else {
        let shared = ground.shared.get_or_init(|| start(&ground.release, image).map_err(|error| format!("{error:#}")));
        shared.clone().map_err(anyhow::Error::msg)?
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let case = Case::new(daemon.clone(), image.chain_id.clone(), test.name).await?;
        let ended = tokio::time::timeout(LIMIT * crate::slower(), (test.body)(&case)).await;
        let result = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("it hangs: not done after {LIMIT:?}")));
        let result = result.and_then(|()| case.finish());
        result.map_err(|error| {
            let log = daemon.log_tail(&test.name.replace('_', "-"));
            anyhow::anyhow!("{error:#}\ncontainerd's log on it ends with\n{log}\n")
        })
    })
}

fn start(release: &Release, image: &Image) -> Result<Arc<Containerd>> {
    let daemon = Containerd::start(release)?;
    image.import(&daemon)?;
    Ok(Arc::new(daemon))
}
