//! Pause and Resume: standing still, being refused and killed.

use std::time::Duration;

use anyhow::{Result, ensure};
use containerd_client::tonic::Code;
use serde_json::Value;
use test_bundles::cgroups::either;
use test_bundles::client::{Case, refusal};
use test_bundles::events::Event;
use test_bundles::stdio::Stdio;
use test_bundles::{spec, wait_until};

use super::metrics;

/// `containerd.v1.types.Status`.
const RUNNING: i32 = 2;
const PAUSED: i32 = 4;

pub(super) async fn a_paused_container_stands_still(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    let script = "echo ready; (while :; do :; done) & while :; do :; done";
    let mut container = case.container(&["sh", "-c", script]).create().await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    container.pause().await?;
    let state = container.process("").state().await?;
    ensure!(state.status == PAUSED && state.pid == container.pid, "{state:?}");
    let usage = either("/cpu/usage/total", "/cpu/usage_usec");
    let used = || anyhow::Ok(metrics(case, &container.id)?.pointer(usage).and_then(Value::as_u64));
    let before = used()?;
    // Two loops would use as much in this time; they are watched, not waited for.
    tokio::time::sleep(Duration::from_millis(200)).await;
    ensure!(before.is_some() && used()? == before, "it used CPU while paused: {before:?}, then {:?}", used()?);
    container.resume().await?;
    ensure!(container.process("").state().await?.status == RUNNING);
    ensure!(wait_until(Duration::from_secs(5), || used().is_ok_and(|used| used != before)), "it does not go on");
    let id = container.id.clone();
    container.end().await?;
    let told: Vec<_> = events.of(&id, "delete").await?.iter().map(Event::short).collect();
    ensure!(told == ["create", "start", "paused", "resumed", "exit", "delete"], "{told:?}");
    Ok(())
}

pub(super) async fn a_paused_container_can_be_killed(case: &Case) -> Result<()> {
    for all in [false, true] {
        let mut container = case.container(&["sh", "-c", "sleep 1000 & echo ready; wait"]).create().await?;
        let mut output = container.output();
        container.start().await?;
        output.until("ready\n").await?;
        container.pause().await?;
        let (code, text) = refusal(container.delete_task().await)?;
        ensure!(code == Code::FailedPrecondition, "{code:?} {text}");
        container.kill(9, all).await?;
        ensure!(container.wait().await? == 137);
        container.delete().await?;
    }
    Ok(())
}

pub(super) async fn pause_and_resume_are_refused_at_the_wrong_moment(case: &Case) -> Result<()> {
    let mut container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    let refused = |result, text: &'static str| {
        let (code, said) = refusal(result)?;
        // The Go shim's errors have no code.
        let code_fits = code == Code::FailedPrecondition || test_bundles::is_runc();
        ensure!(code_fits && said.contains(text), "{code:?}: {said}, not {text}");
        Ok(())
    };
    refused(container.pause().await, "cannot pause task in created state")?;
    refused(container.resume().await, "cannot resume task in created state")?;
    container.start().await?;
    refused(container.resume().await, "cannot resume a running process")?;
    container.pause().await?;
    refused(container.pause().await, "cannot pause a paused container")?;
    container.kill(9, false).await?;
    container.wait().await?;
    refused(container.pause().await, "cannot pause a stopped container")?;
    refused(container.resume().await, "cannot resume a stopped container")?;
    container.delete().await?;
    Ok(())
}

pub(super) async fn execs_are_paused_and_refused_with_the_container(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let running = container.exec("runs", &spec::process(&["sleep", "1000"]), &Stdio::null()).await?;
    running.process.start().await?;
    container.pause().await?;
    ensure!(running.process.state().await?.status == PAUSED);
    let added = container.exec("late", &spec::process(&["true"]), &Stdio::null()).await;
    let (_, text) = refusal(added.map(drop))?;
    ensure!(text.contains("cannot exec in a paused state"), "{text}");
    container.resume().await?;
    ensure!(running.process.state().await?.status == RUNNING);
    let late = container.exec("late", &spec::process(&["true"]), &Stdio::null()).await?;
    ensure!(late.run().await?.0 == 0);
    running.process.kill(9).await?;
    running.process.wait().await?;
    running.process.delete().await?;
    container.end().await
}
