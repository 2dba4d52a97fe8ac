//! Crashes: of containerd, in the middle of a container that writes; of the shim, under a container that runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use test_bundles::client::{Case, Container};
use test_bundles::containerd::Release;
use test_bundles::stdio::Stdio;
use test_bundles::{leftovers, suite, test, wait_until};

fn main() -> ExitCode {
    suite::run(&[
        test!(a_containerd_crash_loses_no_line_and_kills_nobody).own_daemon(),
        test!(an_exit_while_containerd_is_down_leaves_nothing).own_daemon(),
        test!(every_state_comes_back).own_daemon(),
        test!(an_exec_and_a_terminal_go_on).own_daemon(),
        test!(later_releases_take_over_what_runs).own_daemon(),
        test!(a_shim_crash_leaves_nothing),
        test!(a_shim_that_is_told_to_end_leaves_nothing).not_on_runc("its shim ignores SIGTERM"),
    ])
}

async fn a_containerd_crash_loses_no_line_and_kills_nobody(case: &Case) -> Result<()> {
    const LAST: u32 = 400;
    // It ends when the new containerd has seen it run, however long that takes to come up.
    let lines = format!("n=0; while [ $n -lt {LAST} ]; do n=$((n+1)); echo line $n; sleep 0.005; done");
    let script = format!("{lines}; until [ -e /go ]; do sleep 0.01; done; exit 3");
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

    std::fs::write(format!("/proc/{}/root/go", container.pid), "")?;
    let said = output.text().await;
    let expected: String = (1..=LAST).fold(String::new(), |lines, n| lines + &format!("line {n}\n"));
    ensure!(said == expected, "{} lines, the last {:?}", said.lines().count(), said.lines().last());
    ensure!(container.wait().await? == 3);
    let seen = events.of(&container.id, "exit").await?;
    ensure!(seen.last().is_some_and(|exit| exit.exit_status == 3 && exit.pid == container.pid), "{seen:?}");
    container.delete().await?;
    Ok(())
}

const CREATED: i32 = 1;
const RUNNING: i32 = 2;
const PAUSED: i32 = 4;

/// Kills containerd and starts it again: with the same shims, whatever they serve.
async fn crash_and_return(case: &Case, containers: &[&Container<'_>]) -> Result<()> {
    let shims = || containers.iter().map(|one| leftovers::shims(&case.daemon, &one.id)).collect::<Vec<_>>();
    let before = shims();
    case.daemon.kill()?;
    case.daemon.restart()?;
    case.reconnect().await?;
    // An init that waits to be started still goes by the shim's command line.
    ensure!(shims() == before && before.iter().all(|one| !one.is_empty()), "{before:?}, then {:?}", shims());
    Ok(())
}

async fn every_state_comes_back(case: &Case) -> Result<()> {
    let new = || case.container(&["sleep", "1000"]).stdio(Stdio::null());
    let (created, running, paused) = (new().create().await?, new().create().await?, new().create().await?);
    running.start().await?;
    paused.start().await?;
    paused.pause().await?;
    crash_and_return(case, &[&created, &running, &paused]).await?;
    for (container, status) in [(&created, CREATED), (&running, RUNNING), (&paused, PAUSED)] {
        let state = container.process("").state().await?;
        ensure!(state.status == status && state.pid == container.pid, "not {status}: {state:?}");
    }
    created.start().await?;
    paused.resume().await?;
    for container in [created, running, paused] {
        ensure!(container.process("").state().await?.status == RUNNING);
        container.end().await?;
    }
    Ok(())
}

/// The test is the client: it keeps its ends of the terminal, as an attached client of another process does.
async fn an_exec_and_a_terminal_go_on(case: &Case) -> Result<()> {
    use std::io::Write;

    let script = "while read line; do echo \"said $line\"; [ \"$line\" = end ] && exit 3; done";
    let mut container = case.container(&["sh", "-c", script]).stdio(Stdio::terminal()).create().await?;
    let mut screen = container.output();
    container.start().await?;
    let mut keyboard = container.input()?;
    let process =
        test_bundles::spec::process(&["sh", "-c", "until [ -e /go ]; do sleep 0.01; done; echo went; exit 4"]);
    let mut exec = container.exec("visit", &process, &Stdio::outputs()).await?;
    exec.process.start().await?;
    let pid = exec.process.state().await?.pid;
    writeln!(keyboard, "before")?;
    screen.until("said before").await?;
    crash_and_return(case, &[&container]).await?;

    let state = exec.process.state().await?;
    ensure!(state.pid == pid && state.status == RUNNING, "{state:?}");
    std::fs::write(format!("/proc/{}/root/go", container.pid), "")?;
    ensure!(exec.process.wait().await? == 4);
    ensure!(exec.streams.output.take().expect("it has one").text().await == "went\n");
    exec.process.delete().await?;
    writeln!(keyboard, "end")?;
    screen.until("said end").await?;
    let status = container.wait().await?;
    ensure!(status == 3, "{status}");
    container.delete().await?;
    Ok(())
}

/// From this release through every later one that is installed, with the same container running all the time.
async fn later_releases_take_over_what_runs(case: &Case) -> Result<()> {
    let known = Release::known();
    let later = known.iter().skip_while(|one| one.version != case.daemon.release.version).skip(1);
    let later: Vec<_> = later.filter(|one| one.is_installed()).collect();
    let mut container = case.container(&["sh", "-c", "until [ -e /go ]; do sleep 0.01; done; exit 3"]).create().await?;
    container.start().await?;
    let shims = leftovers::shims(&case.daemon, &container.id);
    for release in &later {
        case.daemon.kill()?;
        case.daemon.restart_as(release)?;
        case.reconnect().await?;
        let state = container.process("").state().await?;
        ensure!(state.status == RUNNING && state.pid == container.pid, "{}: {state:?}", release.version);
        ensure!(leftovers::shims(&case.daemon, &container.id) == shims, "{}: another shim", release.version);
        let process = test_bundles::spec::process(&["sh", "-c", "echo here; exit 5"]);
        let exec = container.exec(&format!("at-{}", release.version), &process, &Stdio::outputs()).await?;
        let ran = exec.run().await?;
        ensure!(ran == (5, "here\n".to_owned()), "{}: {ran:?}", release.version);
    }
    let mut events = case.events().await?;
    std::fs::write(format!("/proc/{}/root/go", container.pid), "")?;
    ensure!(container.wait().await? == 3);
    let seen = events.of(&container.id, "exit").await?;
    ensure!(seen.last().is_some_and(|exit| exit.exit_status == 3), "{seen:?}");
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
