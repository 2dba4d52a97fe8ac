//! A container's whole life on a real containerd: its output, its exit status, its events, and nothing left behind.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use test_bundles::client::{Case, Container, refusal};
use test_bundles::events::{Event, Events};
use test_bundles::stdio::Stdio;
use test_bundles::{image, is_runc, spec, suite, test};

fn main() -> ExitCode {
    suite::run(&[
        test!(ctr_run_prints_output_and_returns_the_exit_code),
        test!(output_and_errors_arrive_apart),
        test!(exit_status_is_the_code_or_128_and_the_signal),
        test!(events_of_a_run_with_an_exec_are_in_order),
        test!(a_program_that_exits_at_once_is_never_lost),
        test!(a_program_that_does_not_exist_is_refused_every_time),
    ])
}

async fn ctr_run_prints_output_and_returns_the_exit_code(case: &Case) -> Result<()> {
    for code in [0, 7] {
        let id = case.new_id();
        let script = format!("echo out; echo err >&2; exit {code}");
        let ran = case.daemon.ctr_run(&[image::NAME, &id, "sh", "-c", &script])?;
        ensure!(ran.code == code, "exit code {}: {ran:?}", ran.code);
        ensure!(ran.stdout == "out\n", "stdout: {ran:?}");
        ensure!(own_lines(&ran.stderr) == ["err"], "stderr: {ran:?}");
    }
    Ok(())
}

async fn output_and_errors_arrive_apart(case: &Case) -> Result<()> {
    let mut container = case.container(&["sh", "-c", "echo out; echo err >&2"]).create().await?;
    let (output, errors) = (container.output(), container.errors());
    ensure!(container.run().await? == 0);
    let (output, errors) = (output.text().await, errors.text().await);
    ensure!(output == "out\n" && own_lines(&errors) == ["err"], "{output:?} {errors:?}");
    Ok(())
}

async fn exit_status_is_the_code_or_128_and_the_signal(case: &Case) -> Result<()> {
    for (script, expected) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("sh -c 'kill -TERM $$'; exit $?", 128 + 15)]
    {
        let mut container = case.container(&["sh", "-c", script]).stdio(Stdio::null()).create().await?;
        let status = container.run().await?;
        ensure!(status == expected, "{script}: {status}, not {expected}");
    }
    // Init itself ended by a signal, before and after its start.
    for started in [false, true] {
        let mut container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
        if started {
            container.start().await?;
        }
        container.kill(9, false).await?;
        let status = container.wait().await?;
        ensure!(status == 128 + 9, "started {started}: {status}");
        container.delete().await?;
    }
    Ok(())
}

async fn events_of_a_run_with_an_exec_are_in_order(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    let mut container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    let pid = container.pid;
    container.start().await?;
    let exec = container.exec("visit", &spec::process(&["sh", "-c", "exit 3"]), &Stdio::null()).await?;
    let (status, _) = exec.run().await?;
    ensure!(status == 3);
    container.kill(9, false).await?;
    ensure!(container.wait().await? == 137);
    let seen = delete_and_hear(&mut container, &mut events).await?;
    // Of an exec's deletion the field is of two minds: an event is allowed, and must come after its exit.
    let order: Vec<_> = seen.iter().map(Event::short).filter(|event| event != "delete visit").collect();
    let expected = ["create", "start", "exec-added visit", "exec-started visit", "exit visit", "exit", "delete"];
    ensure!(order == expected[..expected.len() - usize::from(is_runc())], "{order:?}");
    let of_init = seen.iter().filter(|event| event.id == container.id);
    ensure!(of_init.clone().all(|event| event.pid == pid), "pid {pid}: {seen:?}");
    let statuses: Vec<_> = seen.iter().filter(|event| event.kind == "exit").map(|event| event.exit_status).collect();
    ensure!(statuses == [3, 137], "{statuses:?}");
    Ok(())
}

/// Each batch is started before its first exit is waited for, so that exits meet starts; and each is deleted in the moment
/// in which its exit is known.
async fn a_program_that_exits_at_once_is_never_lost(case: &Case) -> Result<()> {
    const BATCH: usize = 10;
    let mut events = case.events().await?;
    for _ in 0..runs() / BATCH {
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            let container = case.container(&["/bin/true"]).stdio(Stdio::null()).create().await?;
            container.start().await?;
            batch.push(container);
        }
        for container in &mut batch {
            ensure!(container.wait().await? == 0);
            let seen = delete_and_hear(container, &mut events).await?;
            let kinds: Vec<_> = seen.iter().map(Event::short).collect();
            let expected = ["create", "start", "exit", "delete"];
            ensure!(kinds == expected[..expected.len() - usize::from(is_runc())], "{}: {kinds:?}", container.id);
            ensure!(seen.iter().all(|event| event.pid == container.pid && event.exit_status == 0), "{seen:?}");
        }
    }
    Ok(())
}

async fn a_program_that_does_not_exist_is_refused_every_time(case: &Case) -> Result<()> {
    for _ in 0..runs() {
        let created = case.container(&["/no/such/program"]).stdio(Stdio::null()).create().await;
        // Found out when the container is made, or when it is started: either is refused with the name of what is missing.
        let (_, message) = match created {
            Err(error) => refusal::<()>(Err(error))?,
            Ok(mut container) => {
                let refused = refusal(container.start().await)?;
                container.wait().await?;
                container.delete().await?;
                refused
            }
        };
        ensure!(message.contains("/no/such/program"), "{message}");
        ensure!(message.to_lowercase().contains("no such file") || message.contains("ENOENT"), "{message}");
    }
    Ok(())
}

/// Deletes a container that has ended, and returns all its events. The distribution's shim may end with events still in
/// its queue, most often the last: there the exit is heard first, and the deletion is not waited for.
async fn delete_and_hear(container: &mut Container<'_>, events: &mut Events) -> Result<Vec<Event>> {
    if is_runc() {
        let seen = events.of(&container.id, "exit").await?;
        container.delete().await?;
        return Ok(seen);
    }
    container.delete().await?;
    events.of(&container.id, "delete").await
}

/// What the container wrote: late releases of ctr and runc write a warning of their own into the same stream.
fn own_lines(errors: &str) -> Vec<&str> {
    errors.lines().filter(|line| !line.contains("DEPRECATION")).collect()
}

/// How many lives; the distribution's shim takes ten times as long over each.
fn runs() -> usize {
    let runs = if is_runc() { 50 } else { 300 };
    // Whole batches.
    (runs / test_bundles::slower() as usize).next_multiple_of(10)
}
