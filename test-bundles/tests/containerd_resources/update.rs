//! Update: live, all or nothing, refused with file, value and reason.

use anyhow::{Result, ensure};
use containerd_client::tonic::Code;
use serde_json::json;
use test_bundles::cgroups::either;
use test_bundles::client::{Case, Container, refusal};
use test_bundles::stdio::Stdio;
use test_bundles::{cgroups, spec};

use super::{little_memory, place, throttle};

/// A file of the container's cgroup, as the kernel reports it.
fn cgroup_file(case: &Case, id: &str, file: &str) -> Result<String> {
    cgroups::read(&place(case, id), file)
}

pub(super) async fn updates_are_live_whatever_the_state(case: &Case) -> Result<()> {
    let mut container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(little_memory).create().await?;
    let id = container.id.clone();
    let is = |file: &str, value: &str| {
        let now = cgroup_file(case, &id, file)?;
        ensure!(now == value, "{file} is {now}, not {value}");
        Ok(())
    };
    container.update(json!({"pids": {"limit": 33}})).await?;
    is("pids.max", "33")?;
    container.start().await?;
    // A limit that is not there changes none.
    container.update(json!({"pids": {}})).await?;
    is("pids.max", "33")?;
    // Both above what holds now, and then both below: whichever order would be wrong once.
    for megabytes in [32_u64, 16] {
        let bytes = megabytes << 20;
        let cpu = json!({"shares": 512, "quota": 30_000, "period": 60_000, "burst": 10_000, "cpus": "0"});
        container.update(json!({"memory": {"limit": bytes, "swap": bytes, "reservation": 4096}, "cpu": cpu})).await?;
        is(either("memory.limit_in_bytes", "memory.max"), &bytes.to_string())?;
        is(either("memory.memsw.limit_in_bytes", "memory.swap.max"), &either(bytes, 0).to_string())?;
    }
    is(either("memory.soft_limit_in_bytes", "memory.low"), "4096")?;
    is(either("cpu.shares", "cpu.weight"), either("512", "59"))?;
    let v1 = [("cpu.cfs_quota_us", "30000"), ("cpu.cfs_period_us", "60000"), ("cpu.cfs_burst_us", "10000")];
    let v2 = [("cpu.max", "30000 60000"), ("cpu.max.burst", "10000"), ("cpuset.cpus", "0")];
    either(v1, v2).iter().try_for_each(|(file, value)| is(file, value))?;
    is("cpuset.cpus", "0")?;
    // Half of what belongs together leaves the other half alone.
    container.update(json!({"cpu": {"period": 50_000}})).await?;
    is(either("cpu.cfs_quota_us", "cpu.max"), either("30000", "30000 50000"))?;
    container.pause().await?;
    container.update(json!({"pids": {"limit": -1}})).await?;
    is("pids.max", "max")?;
    container.resume().await?;
    // There is no room to be left for now.
    container.update(json!({"pids": {"limit": 1}})).await?;
    is("pids.max", "1")?;
    container.kill(9, false).await?;
    container.wait().await?;
    let (_, text) = refusal(container.update(json!({"pids": {"limit": 1}})).await)?;
    ensure!(text.contains("cannot update a stopped container"), "{text}");
    container.delete().await?;
    Ok(())
}

/// Whether a process of the container may write to /kmsg, which is no default device.
async fn may_use_kmsg(container: &Container<'_>, exec_id: &str) -> Result<bool> {
    let args = ["sh", "-c", "[ -c /kmsg ] || mknod /kmsg c 1 11 || exit 9; : >/kmsg"];
    let exec = container.exec(exec_id, &spec::process(&args), &Stdio::null()).await?;
    let status = exec.run().await?.0;
    ensure!(status != 9, "the node could not be made");
    Ok(status == 0)
}

pub(super) async fn device_rules_are_changed_and_left_alone(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let deny = json!({"allow": false, "access": "rwm"});
    let kmsg = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"});
    let steps = [
        ("at-first", json!({}), false),
        ("with-others", json!({"pids": {"limit": 100}}), false),
        ("allowed", json!({"devices": [deny, kmsg]}), true),
        ("left-alone", json!({"pids": {"limit": 99}}), true),
        ("denied", json!({"devices": [deny]}), false),
    ];
    for (step, resources, allowed) in steps {
        container.update(resources).await?;
        ensure!(may_use_kmsg(&container, step).await? == allowed, "{step}");
    }
    // Together with what is refused, they are not changed either.
    let refused = container.update(json!({"devices": [deny, kmsg], "cpu": {"cpus": "4000"}})).await;
    ensure!(refusal(refused)?.1.contains("write 4000 to cpuset.cpus: E"));
    ensure!(!may_use_kmsg(&container, "refused").await?, "refused, and allowed all the same");
    container.end().await
}

pub(super) async fn a_refused_update_changes_nothing(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(little_memory).create().await?;
    let id = container.id.clone();
    container.start().await?;
    let v1: &[&str] = &[
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.swappiness",
        "cpu.shares",
        "cpu.cfs_quota_us",
        "cpuset.cpus",
        "pids.max",
        "devices.list",
        "blkio.throttle.write_bps_device",
    ];
    let v2 = &["memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "cpuset.cpus", "pids.max", "io.max"];
    let values = || either(v1, v2).iter().map(|file| cgroup_file(case, &id, file)).collect::<Result<Vec<_>>>();
    let before = values()?;
    let mut memory = json!({"limit": 64 << 20, "swap": 64 << 20});
    if !cgroups::is_v2() {
        memory["swappiness"] = json!(3);
    }
    let device = throttle(case.daemon.dir())?;
    // Of all that is asked for, one CPU does not exist; then one disk does not.
    let (code, text) = refusal(
        container
            .update(
                json!({"memory": memory, "pids": {"limit": 9}, "cpu": {"shares": 99, "quota": 5000, "cpus": "4000"}}),
            )
            .await,
    )?;
    ensure!(code == Code::Unknown && text.contains("write 4000 to cpuset.cpus: E"), "{code:?} {text}");
    ensure!(values()? == before, "{:?}, and before {before:?}", values()?);
    let throttles = json!([device, {"major": 4000, "minor": 1, "rate": 1}]);
    let (_, text) =
        refusal(container.update(json!({"memory": memory, "blockIO": {"throttleWriteBpsDevice": throttles}})).await)?;
    let write = either("write 4000:1 1 to blkio.throttle.write_bps_device", "write 4000:1 wbps=1 to io.max");
    ensure!(text.contains(&format!("{write}: ENODEV")), "{text}");
    ensure!(values()? == before, "{:?}, and before {before:?}", values()?);
    let (code, text) = refusal(container.update(json!({"memory": {"limit": -5}})).await)?;
    ensure!(code == Code::InvalidArgument && text.contains("/memory/limit"), "{code:?} {text}");
    container.end().await
}

pub(super) async fn a_limit_below_use_is_refused_where_asked(case: &Case) -> Result<()> {
    let script = "dd if=/dev/zero of=/run/file bs=1M count=8 2>/dev/null; echo ready; exec sleep 1000";
    let mut container = case.container(&["sh", "-c", script]).create().await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    let memory = json!({"limit": 4 << 20, "checkBeforeUpdate": true});
    let (code, text) = refusal(container.update(json!({"memory": memory})).await)?;
    ensure!(code == Code::FailedPrecondition && text.contains("4194304 is below the"), "{code:?} {text}");
    container.update(json!({"memory": {"limit": 64 << 20, "checkBeforeUpdate": true}})).await?;
    container.end().await
}
