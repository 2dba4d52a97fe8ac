//! Crashes: of containerd, in the middle of a container that writes; of the shim, under a container that runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use test_bundles::client::{Case, Container};
use test_bundles::stdio::Stdio;
use test_bundles::{leftovers, suite, test, wait_until};

fn main() -> ExitCode {
    suite::run(&[
        test!(a_containerd_crash_loses_no_line_and_kills_nobody).own_daemon(),
        test!(an_exit_while_containerd_is_down_leaves_nothing).own_daemon(),
        test!(a_shim_crash_leaves_nothing),
        test!(a_shim_that_is_told_to_end_leaves_nothing).not_on_runc("its shim ignores SIGTERM"),
    ])
}

async fn a_containerd_crash_loses_no_line_and_kills_nobody(case: &Case) -> Result<()> {
    const LAST: u32 = 400;
    let script = format!("n=0; while [ $n -lt {LAST} ]; do n=$((n+1)); echo line $n; sleep 0.005; done; exit 3");
    let mut container = case.container(&["sh", "-c", &script]).create().await?;
    let mut output = container.output();
    container.start().await?;
    let shims = leftovers::shims(&case.daemon, &container.id);
    output.until("line 50\n").await?;
    case.daemon.kill()?;
    output.until("line 100\n").await?;
    case.daemon.restart()?;
    case.reconnect().await?;
    let mut events = case.events().await?;
    let state = container.process("").state().await?;
    ensure!(state.pid == container.pid && state.status == 2, "{state:?}");
    ensure!(leftovers::shims(&case.daemon, &container.id) == shims, "the shim is another one");

    let said = output.text().await;
    let expected: String = (1..=LAST).fold(String::new(), |lines, n| lines + &format!("line {n}\n"));
    ensure!(said == expected, "{} lines, the last {:?}", said.lines().count(), said.lines().last());
    ensure!(container.wait().await? == 3);
    let seen = events.of(&container.id, "exit").await?;
    ensure!(seen.last().is_some_and(|exit| exit.exit_status == 3 && exit.pid == container.pid), "{seen:?}");
    container.delete().await?;
    Ok(())
}

/// What a client then finds depends on the release: 1.6 keeps the task as stopped, later ones drop it.
async fn an_exit_while_containerd_is_down_leaves_nothing(case: &Case) -> Result<()> {
    let mut container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    case.daemon.kill()?;
    leftovers::signal(container.pid, Signal::SIGKILL);
    let ended = wait_until(Duration::from_secs(5), || !leftovers::is_running(container.pid));
    ensure!(ended, "the container lives on");
    case.daemon.restart()?;
    case.reconnect().await?;
    match container.process("").state().await {
        Ok(state) => {
            ensure!(state.status == 3 && state.exit_status == 137, "{state:?}");
            container.delete().await?;
        }
        Err(_) => container.forget().await?,
    }
    Ok(())
}

async fn a_shim_crash_leaves_nothing(case: &Case) -> Result<()> {
    crash(case, Signal::SIGKILL).await
}

async fn a_shim_that_is_told_to_end_leaves_nothing(case: &Case) -> Result<()> {
    crash(case, Signal::SIGTERM).await
}

/// containerd then calls `delete`, which reports an exit by SIGKILL.
async fn crash(case: &Case, signal: Signal) -> Result<()> {
    let mut events = case.events().await?;
    let mut container: Container<'_> =
        case.container(&["sh", "-c", "sleep 1000 & sleep 1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let shims = leftovers::shims(&case.daemon, &container.id);
    ensure!(shims.len() == 1, "{shims:?}");
    leftovers::signal(shims[0], signal);
    let seen = events.of(&container.id, "exit").await?;
    ensure!(seen.last().is_some_and(|exit| exit.exit_status == 137 && exit.pid == container.pid), "{seen:?}");
    let gone = wait_until(Duration::from_secs(10), || !leftovers::is_running(container.pid));
    ensure!(gone, "the container's init outlives its shim");
    container.forget().await
}
