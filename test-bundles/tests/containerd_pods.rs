//! Several containers under one shim, by containerd's grouping annotation, and the options that clients send.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use containerd_client::tonic::Code;
use containerd_shim::api::Options;
use containerd_shim::protos::protobuf::Message;
use serde_json::{Value, json};
use test_bundles::client::{Case, Container, NewContainer, refusal};
use test_bundles::stdio::Stdio;
use test_bundles::{leftovers, suite, test, wait_until};

const GROUP: &str = "io.containerd.runc.v2.group";

fn main() -> ExitCode {
    suite::run(&[
        test!(a_pod_has_one_shim_and_shares_namespaces),
        test!(containers_go_in_any_order_and_the_shim_with_the_last),
        test!(one_comes_while_the_last_one_goes).not_on_runc("its shim ends under a Create that is on its way"),
        test!(a_shim_crash_takes_the_whole_pod),
        test!(options_own_the_pipes),
        test!(options_that_cannot_be_honoured_are_refused).not_on_runc("it ignores what it does not know"),
        test!(a_slow_create_says_what_was_slow).not_on_runc("it does not say"),
    ])
}

fn member<'c>(case: &'c Case, group: &str, args: &[&str]) -> NewContainer<'c> {
    let annotations = json!({ GROUP: group });
    case.container(args).stdio(Stdio::null()).spec(|spec| spec["annotations"] = annotations)
}

/// A running container whose name is that of its group, as a pod's sandbox is.
async fn sandbox(case: &Case) -> Result<Container<'_>> {
    let new = case.container(&["sleep", "1000"]).stdio(Stdio::null());
    let group = new.id.clone();
    let container = new.spec(|spec| spec["annotations"] = json!({ GROUP: group })).create().await?;
    container.start().await?;
    Ok(container)
}

async fn join<'c>(case: &'c Case, pod: &Container<'_>) -> Result<Container<'c>> {
    let container = member(case, &pod.id, &["sleep", "1000"]).create().await?;
    container.start().await?;
    Ok(container)
}

async fn a_pod_has_one_shim_and_shares_namespaces(case: &Case) -> Result<()> {
    let pod = sandbox(case).await?;
    let kinds = ["pid", "ipc", "network", "uts"];
    let file = |kind: &str| if kind == "network" { "net" } else { kind }.to_owned();
    let shared: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"type": kind, "path": format!("/proc/{}/ns/{}", pod.pid, file(kind))}))
        .chain([json!({"type": "mount"})])
        .collect();
    let container = member(case, &pod.id, &["sleep", "1000"])
        .spec(|spec| spec["linux"]["namespaces"] = Value::Array(shared))
        .create()
        .await?;
    container.start().await?;
    for kind in kinds {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{}", file(kind)));
        ensure!(of(pod.pid)? == of(container.pid)?, "{kind} is not shared");
    }
    ensure!(leftovers::shims(&case.daemon, &container.id).is_empty(), "it has a shim of its own");
    // Its end is its own, though it is not the first process of its pid namespace.
    container.end().await?;
    ensure!(pod.process("").state().await?.status == 2, "the pod has ended with its container");
    pod.end().await
}

async fn containers_go_in_any_order_and_the_shim_with_the_last(case: &Case) -> Result<()> {
    for sandbox_goes in 0..3 {
        let pod = sandbox(case).await?;
        let shims = leftovers::shims(&case.daemon, &pod.id);
        ensure!(shims.len() == 1, "{shims:?}");
        let (id, mut left) = (pod.id.clone(), vec![join(case, &pod).await?, join(case, &pod).await?]);
        left.insert(sandbox_goes, pod);
        while let Some(container) = left.pop() {
            ensure!(leftovers::is_running(shims[0]), "the shim left {} containers", left.len() + 1);
            container.end().await?;
            for other in &left {
                ensure!(other.process("").state().await?.status == 2);
            }
        }
        ensure!(wait_until(Duration::from_secs(5), || !leftovers::is_running(shims[0])), "the shim of {id} stays");
    }
    Ok(())
}

/// containerd has been told of the running shim and calls it next; meanwhile it tells it to shut down.
async fn one_comes_while_the_last_one_goes(case: &Case) -> Result<()> {
    let name = case.new_id();
    let first = member(case, &name, &["sleep", "1000"]).create().await?;
    first.start().await?;
    let mut last = first;
    for nth in 0..20 {
        let next = member(case, &name, &["sleep", "1000"]).prepare().await?;
        last.kill(9, true).await?;
        last.wait().await?;
        let (created, deleted) = tokio::join!(next.create(), last.delete());
        deleted?;
        let next = created.map_err(|error| error.context(format!("{nth} went before")))?;
        next.start().await?;
        last = next;
    }
    last.end().await
}

async fn a_shim_crash_takes_the_whole_pod(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    // No container has the group's name: nobody's deletion is the one that its socket waits for.
    let group = case.new_id();
    let mut containers = Vec::new();
    for _ in 0..2 {
        let container = member(case, &group, &["sleep", "1000"]).create().await?;
        container.start().await?;
        containers.push(container);
    }
    let shims = leftovers::shims(&case.daemon, &containers[0].id);
    ensure!(shims.len() == 1, "{shims:?}");
    leftovers::signal(shims[0], nix::sys::signal::Signal::SIGKILL);
    for mut container in containers {
        let seen = events.of(&container.id, "exit").await?;
        ensure!(seen.last().is_some_and(|exit| exit.exit_status == 137), "{seen:?}");
        let gone = wait_until(Duration::from_secs(10), || !leftovers::is_running(container.pid));
        ensure!(gone, "a container outlives its shim");
        container.forget().await?;
    }
    Ok(())
}

const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
const CRI_OPTIONS: &str = "runtimeoptions.v1.Options";

async fn options_own_the_pipes(case: &Case) -> Result<()> {
    let options = Options { io_uid: 1234, io_gid: 4321, ..Options::default() };
    let mut container = case
        .container(&["sh", "-c", "stat -L -c %g /proc/self/fd/1"])
        .options(RUNC_OPTIONS, options.write_to_bytes()?)
        .create()
        .await?;
    let output = container.output();
    ensure!(container.run().await? == 0);
    // The user of the container becomes the pipe's owner as it is created, as under runc; the group stays.
    let said = output.text().await;
    ensure!(said == "4321\n", "{said}");
    Ok(())
}

/// { config_body = 3 } of [`CRI_OPTIONS`].
fn body(text: &str) -> Vec<u8> {
    [&[26, u8::try_from(text.len()).expect("it is short")], text.as_bytes()].concat()
}

async fn options_that_cannot_be_honoured_are_refused(case: &Case) -> Result<()> {
    let binary = Options { binary_name: "/usr/bin/crun".into(), ..Options::default() }.write_to_bytes()?;
    for (kind, value, expected) in [
        (CRI_OPTIONS, body("Speed = 9\n"), "config_body: Speed: there is no such option"),
        (CRI_OPTIONS, body("IoUid = 'x'\n"), "config_body: IoUid: \"x\" is no number"),
        (RUNC_OPTIONS, binary, "BinaryName: \"/usr/bin/crun\": this shim runs containers itself"),
    ] {
        let created = case.container(&["true"]).stdio(Stdio::null()).options(kind, value).create().await;
        let (code, text) = refusal(created)?;
        ensure!(text.contains(expected), "{code:?}: {text}");
        ensure!(code != Code::Ok);
    }
    Ok(())
}

async fn a_slow_create_says_what_was_slow(case: &Case) -> Result<()> {
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", "sleep 0.2"] });
    let mut container = case
        .container(&["true"])
        .stdio(Stdio::null())
        .spec(|spec| spec["hooks"] = json!({ "createRuntime": [hook] }))
        .options(CRI_OPTIONS, body("SlowCreateMilliseconds = 100\n"))
        .create()
        .await?;
    ensure!(container.run().await? == 0);
    let told = || {
        let log = case.daemon.log_tail(&format!("create {} took", container.id));
        log.contains("slowest: step") && log.contains("wait for hooks and network devices: ")
    };
    ensure!(wait_until(Duration::from_secs(5), told), "{}", case.daemon.log_tail(&container.id));
    Ok(())
}
