//! What a container uses, is refused and is given anew: statistics, as clients of containerd see them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::services::v1 as api;
use serde_json::{Value, json};
use test_bundles::client::{Case, Container};
use test_bundles::stdio::Stdio;
use test_bundles::{image, suite, test, wait_until};

const RUNC: &str = "io.containerd.runc.v2";

fn main() -> ExitCode {
    suite::run(&[
        test!(metrics_are_those_of_runc).not_on_runc("it is what they are compared with"),
        test!(without_a_cgroup_there_are_no_metrics),
    ])
}

/// Uses a bit of everything, and then nothing any more.
const WORK: &str = "dd if=/dev/zero of=/file bs=64k count=16 oflag=direct 2>/dev/null; \
                    dd if=/dev/zero of=/file bs=1M count=4 2>/dev/null; cat /file >/dev/null; \
                    i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done; echo ready; exec sleep 1000";

fn limits(spec: &mut Value, device: Value) {
    let resources = &mut spec["linux"]["resources"];
    resources["memory"] = json!({"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20});
    resources["cpu"] = json!({"quota": 10_000, "period": 100_000});
    resources["pids"] = json!({"limit": 77});
    // The kernel counts for a disk that is throttled somewhere.
    resources["blockIO"] = json!({"throttleWriteBpsDevice": [device]});
}

/// The disk that `directory` is on, with a generous limit.
fn throttle(directory: &Path) -> Result<Value> {
    let device = std::fs::metadata(directory)?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let partition = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let disk = if partition.join("partition").exists() { partition.join("..") } else { partition };
    let numbers = std::fs::read_to_string(disk.join("dev")).context("which disk")?;
    let (major, minor) = numbers.trim().split_once(':').context("two numbers")?;
    Ok(json!({"major": major.parse::<u64>()?, "minor": minor.parse::<u64>()?, "rate": 1_u64 << 30}))
}

/// `ctr task metrics`, as JSON.
fn metrics(case: &Case, id: &str) -> Result<Value> {
    let text = case.daemon.ctr(&["task", "metrics", "--format", "json", id])?.success()?;
    serde_json::from_str(&text).with_context(|| format!("the metrics are JSON: {text}"))
}

/// A container of runc's in the cgroup of `ours`: the distribution's runc only warns that it is not empty.
fn joined_by_runc(case: &Case, ours: &Container<'_>) -> Result<String> {
    let id = case.new_id();
    let place = format!("/{}/{}", case.daemon.namespace, ours.id);
    let runtime = ["--runtime", RUNC, "--runc-binary", "/usr/bin/runc", "--cgroup", &place];
    let args = [&["run", "--detach"], &runtime[..], &[image::NAME, &id, "sleep", "1000"]].concat();
    case.daemon.ctr(&args)?.success()?;
    Ok(id)
}

/// Two shims look at one cgroup, in which nothing happens any more: they have to say the same of each field.
async fn metrics_are_those_of_runc(case: &Case) -> Result<()> {
    let device = throttle(case.daemon.dir())?;
    let new = case.container(&["sh", "-c", WORK]).spec(|spec| limits(spec, device));
    let mut ours = new.create().await?;
    let mut output = ours.output();
    ours.start().await?;
    output.until("ready\n").await?;
    let theirs = joined_by_runc(case, &ours)?;

    let mut seen = (Value::Null, Value::Null);
    let same = wait_until(Duration::from_secs(10), || {
        seen = (metrics(case, &ours.id).unwrap_or_default(), metrics(case, &theirs).unwrap_or_default());
        seen.0 == seen.1
    });
    ensure!(same, "ours {:#}\nrunc's {:#}", seen.0, seen.1);
    for used in [
        "/pids/current",
        "/cpu/usage/per_cpu/1",
        "/cpu/throttling/throttled_time",
        "/memory/cache",
        "/memory/usage/max",
        "/blkio/io_serviced_recursive/1/value",
    ] {
        ensure!(seen.0.pointer(used).and_then(Value::as_u64).is_some_and(|used| used > 0), "{used}: {:#}", seen.0);
    }
    ours.end().await?;
    case.daemon.ctr(&["task", "delete", "--force", &theirs])?.success()?;
    case.daemon.ctr(&["container", "delete", &theirs])?.success()?;
    Ok(())
}

async fn without_a_cgroup_there_are_no_metrics(case: &Case) -> Result<()> {
    let new = case.container(&["sleep", "1000"]).stdio(Stdio::null());
    let mut container = new.create().await?;
    container.start().await?;
    container.kill(9, false).await?;
    container.wait().await?;
    metrics(case, &container.id).context("the cgroup of one that has ended is still there")?;
    let place = format!("{}/{}", case.daemon.namespace, container.id);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")? {
        let directory = hierarchy?.path().join(&place);
        if directory.exists() {
            std::fs::remove_dir(&directory).with_context(|| format!("rmdir {}", directory.display()))?;
        }
    }
    let request = api::MetricsRequest { filters: vec![format!("id=={}", container.id)] };
    let answer = case.client().tasks().metrics(case.ask(request)).await?.into_inner();
    ensure!(answer.metrics.is_empty(), "{answer:?}");
    container.delete().await?;
    Ok(())
}
