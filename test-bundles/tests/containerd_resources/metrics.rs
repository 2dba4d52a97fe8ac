//! Statistics, as clients of containerd see them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::services::v1 as api;
use serde_json::{Value, json};
use test_bundles::cgroups::either;
use test_bundles::client::{Case, Container};
use test_bundles::stdio::Stdio;
use test_bundles::{image, wait_until};

use super::{metrics, place, remove_cgroup, throttle};

const RUNC: &str = "io.containerd.runc.v2";

/// Uses a bit of everything, more CPU than it gets at once, and then nothing any more.
fn work() -> String {
    let turns = 60_000 / test_bundles::slower();
    format!(
        "dd if=/dev/zero of=/file bs=64k count=16 oflag=direct 2>/dev/null; \
         dd if=/dev/zero of=/file bs=1M count=4 2>/dev/null; cat /file >/dev/null; \
         i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done; echo ready; exec sleep 1000"
    )
}

fn limits(spec: &mut Value, device: &Value) {
    let resources = &mut spec["linux"]["resources"];
    resources["memory"] = json!({"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20});
    resources["cpu"] = json!({"quota": 5_000 * test_bundles::slower().min(10), "period": 100_000});
    resources["pids"] = json!({"limit": 77});
    // The kernel counts for a disk that is throttled somewhere.
    resources["blockIO"] = json!({"throttleWriteBpsDevice": [device]});
}

/// A container of runc's in the cgroup of `ours`: the distribution's runc only warns that it is not empty.
fn joined_by_runc(case: &Case, ours: &Container<'_>) -> Result<String> {
    let id = case.new_id();
    let place = format!("/{}/{}", case.daemon.namespace, ours.id);
    // Where Debian has it, of either release.
    let runc = ["/usr/bin/runc", "/usr/sbin/runc"].into_iter().find(|path| Path::new(path).exists());
    let runc = runc.context("the distribution's runc is not there")?;
    let runtime = ["--runtime", RUNC, "--runc-binary", runc, "--cgroup", &place];
    let args = [&["run", "--detach"], &runtime[..], &[image::NAME, &id, "sleep", "1000"]].concat();
    case.daemon.ctr(&args)?.success()?;
    Ok(id)
}

/// Two shims look at one cgroup, in which nothing happens any more: they have to say the same of each field.
pub(super) async fn metrics_are_those_of_runc(case: &Case) -> Result<()> {
    let device = throttle(case.daemon.dir())?;
    let new = case.container(&["sh", "-c", &work()]).spec(|spec| limits(spec, &device));
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
    let v1 = [
        "/pids/current",
        "/cpu/usage/per_cpu/1",
        "/cpu/throttling/throttled_time",
        "/memory/cache",
        "/memory/usage/max",
        "/blkio/io_serviced_recursive/1/value",
    ];
    let v2 = [
        "/pids/current",
        "/cpu/usage_usec",
        "/cpu/throttled_usec",
        "/memory/file",
        "/memory/usage_limit",
        "/io/usage/0/wbytes",
    ];
    for used in either(v1, v2) {
        ensure!(seen.0.pointer(used).and_then(Value::as_u64).is_some_and(|used| used > 0), "{used}: {:#}", seen.0);
    }
    ours.end().await?;
    case.daemon.ctr(&["task", "delete", "--force", &theirs])?.success()?;
    case.daemon.ctr(&["container", "delete", &theirs])?.success()?;
    Ok(())
}

pub(super) async fn without_a_cgroup_there_are_no_metrics(case: &Case) -> Result<()> {
    let new = case.container(&["sleep", "1000"]).stdio(Stdio::null());
    let mut container = new.create().await?;
    container.start().await?;
    container.kill(9, false).await?;
    container.wait().await?;
    metrics(case, &container.id).context("the cgroup of one that has ended is still there")?;
    remove_cgroup(&place(case, &container.id))?;
    let request = api::MetricsRequest { filters: vec![format!("id=={}", container.id)] };
    let answer = case.client().tasks().metrics(case.ask(request)).await?.into_inner();
    ensure!(answer.metrics.is_empty(), "{answer:?}");
    container.delete().await?;
    Ok(())
}
