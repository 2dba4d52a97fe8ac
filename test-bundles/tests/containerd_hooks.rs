//! Hooks of a container that containerd runs: what Create, Start and Kill answer while and after they run, and that poststop
//! hooks run once, whoever ends the container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use test_bundles::client::{Case, NewContainer, refusal};
use test_bundles::stdio::Stdio;
use test_bundles::{leftovers, suite, test, wait_until};

const OLD: &str = "runs poststart hooks before the process";

fn main() -> ExitCode {
    suite::run(&[
        test!(each_runs_once_and_is_told_the_bundle).not_on_runc(OLD),
        test!(one_that_fails_at_create_leaves_nothing),
        test!(one_that_fails_at_start_leaves_a_stopped_task).not_on_runc(OLD),
        test!(kill_reaches_a_container_whose_hook_hangs).not_on_runc("its shim waits for the hook"),
        test!(poststop_hooks_run_when_the_shim_was_killed).not_on_runc("its shim loses track of the state"),
    ])
}

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A container whose hooks write their names into a file, and what they are told beside it.
struct Recording<'c> {
    new: NewContainer<'c>,
    record: Record,
}

struct Record(PathBuf);

impl Record {
    fn names(&self) -> Vec<String> {
        fs::read_to_string(self.0.join("names")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn told(&self, kind: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.0.join(kind))?)?)
    }
}

/// As [`wait_until`], while others go on.
async fn wait_until_async(done: impl Fn() -> bool) -> bool {
    let until = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20) * test_bundles::slower(), until).await.is_ok()
}

fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] })
}

/// `edit` varies the hooks.
fn recording<'c>(case: &'c Case, args: &[&str], edit: impl FnOnce(&mut Value, &Path)) -> Result<Recording<'c>> {
    let new = case.container(args).stdio(Stdio::null());
    let directory = case.daemon.dir().join("hooks").join(&new.id);
    fs::create_dir_all(&directory)?;
    let mut hooks = json!({});
    for kind in KINDS {
        let at = if kind == "startContainer" { "/record".to_owned() } else { directory.display().to_string() };
        hooks[kind] = json!([shell(&format!("echo {kind} >> {at}/names; cat > {at}/{kind}"))]);
    }
    edit(&mut hooks, &directory);
    let mount = json!({ "destination": "/record", "type": "bind", "source": directory, "options": ["bind"] });
    let new = new.spec(|spec| {
        spec["hooks"] = hooks;
        spec["mounts"].as_array_mut().expect("it is a list").push(mount);
    });
    Ok(Recording { new, record: Record(directory) })
}

async fn each_runs_once_and_is_told_the_bundle(case: &Case) -> Result<()> {
    let Recording { new, record } = recording(case, &["/bin/true"], |_, _| ())?;
    let mut container = new.create().await?;
    ensure!(record.names() == KINDS[..3], "{:?}", record.names());
    ensure!(record.told("createRuntime")?["pid"] == container.pid);
    container.start().await?;
    ensure!(record.names() == KINDS[..5], "{:?}", record.names());
    container.wait().await?;
    container.delete().await?;
    ensure!(record.names() == KINDS, "{:?}", record.names());
    for kind in KINDS {
        let told = record.told(kind)?;
        ensure!(told["bundle"] == json!(case.daemon.bundle(&container.id)), "{kind}: {told}");
        ensure!(told["id"] == container.id, "{kind}: {told}");
    }
    Ok(())
}

async fn one_that_fails_at_create_leaves_nothing(case: &Case) -> Result<()> {
    for kind in &KINDS[..3] {
        let Recording { new, record } = recording(case, &["/bin/true"], |hooks, _| {
            hooks[kind] = json!([shell("echo it cannot be >&2; exit 1")]);
        })?;
        let (_, message) = refusal(new.create().await).with_context(|| (*kind).to_owned())?;
        ensure!(message.contains("it cannot be"), "{message}");
        let stopped = record.names().iter().filter(|name| *name == "poststop").count();
        ensure!(stopped == 1, "{kind}: {:?}", record.names());
    }
    Ok(())
}

async fn one_that_fails_at_start_leaves_a_stopped_task(case: &Case) -> Result<()> {
    for kind in ["startContainer", "poststart"] {
        let Recording { new, record } = recording(case, &["sleep", "1000"], |hooks, _| {
            hooks[kind] = json!([shell("echo it cannot be >&2; exit 1")]);
        })?;
        let mut container = new.create().await?;
        let (_, message) = refusal(container.start().await)?;
        ensure!(message.contains(kind) && message.contains("it cannot be"), "{message}");
        ensure!(container.wait().await? == 137, "{kind}");
        if kind == "poststart" {
            // The end of its life: before anybody deletes it, all but its name is gone.
            ensure!(record.names().last().is_some_and(|last| last == "poststop"), "{:?}", record.names());
            let left = leftovers::of_container(&case.daemon, &container.id);
            let left: Vec<_> =
                left.iter().filter(|left| left.starts_with("cgroup") || left.starts_with("mount")).collect();
            ensure!(left.is_empty(), "{left:?}");
        }
        container.delete().await?;
        ensure!(record.names().last().is_some_and(|last| last == "poststop"), "{kind}: {:?}", record.names());
    }
    Ok(())
}

async fn kill_reaches_a_container_whose_hook_hangs(case: &Case) -> Result<()> {
    for kind in ["startContainer", "poststart"] {
        let Recording { new, record } = recording(case, &["sleep", "1000"], |hooks, directory| {
            // In the container the hook finds no such directory, and ends with the container's pid namespace.
            let script = format!("echo $$ > {}/pid; exec sleep 1000", directory.display());
            hooks[kind].as_array_mut().expect("it is a list").push(shell(&script));
        })?;
        let mut container = new.create().await?;
        let pid = || fs::read_to_string(record.0.join("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        // The one that hangs comes after the one that is recorded, and only outside the container it can say its pid.
        let hangs = || kind == "startContainer" || pid().is_some();
        let started = || record.names().iter().any(|name| name == kind) && hangs();
        let ends = async {
            ensure!(wait_until_async(started).await, "{kind}: no hook ran");
            container.kill(9, false).await?;
            container.wait().await
        };
        if kind == "startContainer" {
            // The program was never executed: there was no start.
            let (started, ended) = tokio::join!(container.start(), ends);
            refusal(started)?;
            ensure!(ended? == 137);
            container.delete().await?;
        } else {
            let ended = tokio::select! {
                ended = ends => ended?,
                started = container.start() => anyhow::bail!("start is answered while a hook hangs: {started:?}"),
            };
            ensure!(ended == 137);
            container.delete().await?;
            let hook = pid().context("the hook that hung has said its pid")?;
            ensure!(wait_until(Duration::from_secs(10), || !leftovers::is_running(hook)), "the hook goes on");
        }
        ensure!(record.names().last().is_some_and(|last| last == "poststop"), "{kind}: {:?}", record.names());
    }
    Ok(())
}

async fn poststop_hooks_run_when_the_shim_was_killed(case: &Case) -> Result<()> {
    let Recording { new, record } = recording(case, &["sleep", "1000"], |_, _| ())?;
    let mut container = new.create().await?;
    container.start().await?;
    for shim in leftovers::shims(&case.daemon, &container.id) {
        leftovers::signal(shim, Signal::SIGKILL);
    }
    let stopped = || record.names().iter().filter(|name| *name == "poststop").count();
    ensure!(wait_until(Duration::from_secs(20), || stopped() > 0), "{:?}", record.names());
    // containerd has cleared up and knows no task any more.
    container.forget().await?;
    case.finish()?;
    ensure!(stopped() == 1, "{:?}", record.names());
    Ok(())
}
