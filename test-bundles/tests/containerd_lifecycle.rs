//! The states of a task and the signals it gets, as containerd's clients see them; and containers that share a shim.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use containerd_client::tonic::Code;
use test_bundles::client::{Case, code};
use test_bundles::stdio::Stdio;
use test_bundles::{is_runc, leftovers, spec, suite, test, wait_until};

/// `containerd.v1.types.Status`.
const CREATED: i32 = 1;
const RUNNING: i32 = 2;
const STOPPED: i32 = 3;

fn main() -> ExitCode {
    suite::run(&[
        test!(state_follows_the_task),
        test!(a_handled_signal_is_handled),
        test!(kill_all_ends_every_process),
        test!(pids_are_those_of_the_cgroup),
        test!(what_is_over_is_not_found),
        test!(a_container_can_be_deleted_before_it_starts),
        test!(a_group_shares_one_shim),
        test!(waiters_all_get_the_exit),
    ])
}

async fn state_follows_the_task(case: &Case) -> Result<()> {
    let mut container = case.container(&["sleep", "1000"]).create().await?;
    let init = container.process("");
    let created = init.state().await?;
    ensure!(created.status == CREATED && created.pid == container.pid, "{created:?}");
    ensure!(created.stdout == container.streams.stdout && created.stderr == container.streams.stderr, "{created:?}");
    container.start().await?;
    let running = init.state().await?;
    ensure!(running.status == RUNNING && running.pid == container.pid && running.exit_status == 0, "{running:?}");
    container.kill(9, false).await?;
    container.wait().await?;
    let stopped = init.state().await?;
    ensure!(stopped.status == STOPPED && stopped.exit_status == 137 && stopped.exited_at.is_some(), "{stopped:?}");
    container.delete().await?;
    Ok(())
}

async fn a_handled_signal_is_handled(case: &Case) -> Result<()> {
    let script = "trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 0.01; done";
    let mut container = case.container(&["sh", "-c", script]).create().await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    container.kill(15, false).await?;
    output.until("caught\n").await?;
    ensure!(container.wait().await? == 4);
    container.delete().await?;
    Ok(())
}

async fn kill_all_ends_every_process(case: &Case) -> Result<()> {
    // Its own children ignore SIGTERM; only a signal to each of them ends them. Init lives in the host's pid namespace,
    // where its end does not take them along.
    let script = "sleep 1000 & sleep 1000 & echo ready; wait";
    let mut container = case
        .container(&["sh", "-c", script])
        .spec(|spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("it is a list");
            namespaces.retain(|namespace| namespace["type"] != "pid");
        })
        .create()
        .await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    let pids = container.pids().await?;
    ensure!(pids.len() == 3, "{pids:?}");
    container.kill(9, true).await?;
    ensure!(container.wait().await? == 137);
    let gone = wait_until(Duration::from_secs(5), || !pids.iter().any(|pid| leftovers::is_running(*pid)));
    ensure!(gone, "still running: {:?}", pids.iter().filter(|pid| leftovers::is_running(**pid)).collect::<Vec<_>>());
    container.delete().await?;
    Ok(())
}

async fn pids_are_those_of_the_cgroup(case: &Case) -> Result<()> {
    let mut container = case.container(&["sh", "-c", "sleep 1000 & echo ready; wait"]).create().await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    let exec = container.exec("more", &spec::process(&["sleep", "1000"]), &Stdio::null()).await?;
    let exec_pid = exec.process.start().await?;
    let pids = container.pids().await?;
    ensure!(pids.len() == 3 && pids.contains(&container.pid) && pids.contains(&exec_pid), "{pids:?}, exec {exec_pid}");
    let mut inside = leftovers::processes_in_cgroup(&format!("/{}/{}", case.daemon.namespace, container.id));
    inside.sort_unstable();
    ensure!(inside == pids, "the cgroup has {inside:?}, and Pids says {pids:?}");
    exec.process.kill(9).await?;
    exec.process.wait().await?;
    exec.process.delete().await?;
    container.kill(9, true).await?;
    container.wait().await?;
    container.delete().await?;
    Ok(())
}

async fn what_is_over_is_not_found(case: &Case) -> Result<()> {
    let mut container = case.container(&["/bin/true"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    container.wait().await?;
    let killed = container.kill(15, false).await;
    ensure!(killed.as_ref().is_err_and(|error| code(error) == Some(Code::NotFound)), "kill after the end: {killed:?}");
    ensure!(container.start().await.is_err(), "a task that had ended was started again");
    container.delete().await?;
    let waited = container.wait().await;
    ensure!(waited.as_ref().is_err_and(|error| code(error) == Some(Code::NotFound)), "wait: {waited:?}");
    Ok(())
}

async fn a_container_can_be_deleted_before_it_starts(case: &Case) -> Result<()> {
    let mut container = case.container(&["sh", "-c", "echo never"]).create().await?;
    let output = container.output();
    container.kill(9, false).await?;
    ensure!(container.wait().await? == 137);
    container.delete().await?;
    let said = output.text().await;
    ensure!(!said.contains("never"), "it ran");
    Ok(())
}

async fn a_group_shares_one_shim(case: &Case) -> Result<()> {
    let group = case.new_id();
    let join = |spec: &mut serde_json::Value| {
        spec["annotations"] = serde_json::json!({"io.containerd.runc.v2.group": group});
    };
    let mut first = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(join).create().await?;
    first.start().await?;
    let mut second = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(join).create().await?;
    second.start().await?;
    let shims = leftovers::shims(&case.daemon, &first.id);
    ensure!(shims.len() == 1, "{shims:?}");
    ensure!(leftovers::shims(&case.daemon, &second.id).is_empty(), "the second has a shim of its own");
    ensure!(leftovers::shim_socket(&case.daemon, &group).exists(), "the socket is not the group's");

    first.kill(9, false).await?;
    first.wait().await?;
    first.delete().await?;
    let state = second.process("").state().await?;
    ensure!(state.status == RUNNING, "{state:?}");
    ensure!(leftovers::is_running(shims[0]), "the shim went with the first");
    second.kill(9, false).await?;
    ensure!(second.wait().await? == 137);
    second.delete().await?;
    // runc's shim may leave the socket of a group.
    let socket = leftovers::shim_socket(&case.daemon, &group);
    let gone = || !leftovers::is_running(shims[0]) && (is_runc() || !socket.exists());
    ensure!(wait_until(Duration::from_secs(10), gone), "the shim or its socket stays");
    Ok(())
}

async fn waiters_all_get_the_exit(case: &Case) -> Result<()> {
    let mut container = case.container(&["sh", "-c", "read line; exit 6"]).stdio(Stdio::piped()).create().await?;
    let (one, two, three) = (container.process(""), container.process(""), container.process(""));
    let end = async {
        container.start().await?;
        std::io::Write::write_all(&mut container.input()?, b"go\n")?;
        anyhow::Ok(())
    };
    let (end, one, two, three) = tokio::join!(end, one.wait(), two.wait(), three.wait());
    end?;
    ensure!([one?, two?, three?] == [6, 6, 6]);
    ensure!(container.wait().await? == 6, "a late waiter gets it too");
    container.delete().await?;
    Ok(())
}
