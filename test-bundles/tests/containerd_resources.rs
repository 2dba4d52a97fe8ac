//! What a container uses, is refused and is given anew: statistics, as clients of containerd see them, on either version of
//! cgroups.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::services::v1 as api;
use containerd_client::tonic::Code;
use prost_types::Any;
use serde_json::{Value, json};
use test_bundles::cgroups::either;
use test_bundles::client::{Case, Container, refusal};
use test_bundles::events::Event;
use test_bundles::stdio::Stdio;
use test_bundles::{cgroups, image, leftovers, spec, suite, test, wait_until};

const RUNC: &str = "io.containerd.runc.v2";

fn main() -> ExitCode {
    suite::run(&[
        test!(metrics_are_those_of_runc).not_on_runc("it is what they are compared with"),
        test!(without_a_cgroup_there_are_no_metrics),
        test!(a_paused_container_stands_still),
        test!(a_paused_container_can_be_killed),
        test!(pause_and_resume_are_refused_at_the_wrong_moment),
        test!(execs_are_paused_and_refused_with_the_container),
        test!(updates_are_live_whatever_the_state),
        test!(device_rules_are_changed_and_left_alone).not_on_runc("it takes them from no update"),
        test!(a_refused_update_changes_nothing).not_on_runc("it leaves what it had written"),
        test!(a_limit_below_use_is_refused_where_asked).not_on_runc("it checks on cgroup v2 only"),
        test!(each_kill_for_want_of_memory_is_told_before_the_exit),
        test!(an_exec_killed_for_want_of_memory_is_told).not_on_runc("its v1 watch tells of it late or twice"),
        test!(a_kill_in_a_cgroup_below_is_told).not_on_runc("it does not look below"),
        test!(a_neighbours_kill_is_not_told).not_on_runc("its v1 watch does not count"),
    ])
}

/// `containerd.v1.types.Status`.
const RUNNING: i32 = 2;
const PAUSED: i32 = 4;

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

/// The disk that `directory` is on, with a generous limit.
fn throttle(directory: &Path) -> Result<Value> {
    let (major, minor) = cgroups::disk_of(directory)?;
    Ok(json!({"major": major, "minor": minor, "rate": 1_u64 << 30}))
}

/// `ctr task metrics`, as JSON.
fn metrics(case: &Case, id: &str) -> Result<Value> {
    let text = case.daemon.ctr(&["task", "metrics", "--format", "json", id])?.success()?;
    let mut metrics: Value = serde_json::from_str(&text).with_context(|| format!("the metrics are JSON: {text}"))?;
    // runc's shim has them in the order in which the kernel happens to list them.
    if let Some(sizes) = metrics["hugetlb"].as_array_mut() {
        sizes.sort_by_key(|size| size["pagesize"].to_string());
    }
    Ok(metrics)
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
async fn metrics_are_those_of_runc(case: &Case) -> Result<()> {
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

async fn without_a_cgroup_there_are_no_metrics(case: &Case) -> Result<()> {
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

/// Where the cgroup of container `id` is.
fn place(case: &Case, id: &str) -> String {
    format!("/{}/{id}", case.daemon.namespace)
}

/// The log, which takes its own way, names the cgroup whose limit was hit.
fn ensure_logged(case: &Case, directory: &Path) -> Result<()> {
    let said = format!("the limit of {} was hit", directory.display());
    let log = || case.daemon.log_tail("killed for want of memory");
    ensure!(wait_until(Duration::from_secs(5), || log().contains(&said)), "not {said}, but {}", log());
    Ok(())
}

/// Removes an empty cgroup from every hierarchy.
fn remove_cgroup(path: &str) -> Result<()> {
    let mut directories = leftovers::cgroup_dirs(path).into_iter();
    directories.try_for_each(|at| std::fs::remove_dir(&at).with_context(|| format!("rmdir {}", at.display())))
}

async fn a_paused_container_stands_still(case: &Case) -> Result<()> {
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

async fn a_paused_container_can_be_killed(case: &Case) -> Result<()> {
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

async fn pause_and_resume_are_refused_at_the_wrong_moment(case: &Case) -> Result<()> {
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

async fn execs_are_paused_and_refused_with_the_container(case: &Case) -> Result<()> {
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

/// With so little memory that it is used up at once.
fn little_memory(spec: &mut Value) {
    spec["linux"]["resources"]["memory"] = json!({"limit": 8 << 20, "swap": 8 << 20});
}

/// Keeps in memory what has no end of a line.
const HOG: [&str; 2] = ["tail", "/dev/zero"];

/// What each container does, its exit status, and whether memory ends it.
const LIVES: [(&[&str], u32, bool); 5] = [
    (&HOG, 137, true),
    (&["true"], 0, false),
    (&HOG, 137, true),
    (&["sh", "-c", "kill -9 $$; sleep 0.05; exit 137"], 137, false),
    (&["sh", "-c", "tail /dev/zero; exit 5"], 5, true),
];

async fn each_kill_for_want_of_memory_is_told_before_the_exit(case: &Case) -> Result<()> {
    // OOM_KILLS asks for more, or less: 200 of them take minutes on an emulated machine.
    let usual = if case.daemon.release.is_distribution() && test_bundles::slower() == 1 { 200 } else { 12 };
    let asked = std::env::var("OOM_KILLS").ok().and_then(|kills| kills.parse::<usize>().ok());
    let kills = asked.unwrap_or(usual) / 4;
    let lane = || kill_and_listen(case, kills);
    tokio::try_join!(lane(), lane(), lane(), lane()).map(drop)
}

/// Runs one container after another until `kills` of them were killed, and listens to what is told of each.
async fn kill_and_listen(case: &Case, kills: usize) -> Result<()> {
    let mut events = case.events().await?;
    let mut killed = 0;
    for (args, status, by_memory) in LIVES.iter().cycle() {
        let mut container = case.container(args).stdio(Stdio::null()).spec(little_memory).create().await?;
        let id = container.id.clone();
        container.start().await?;
        ensure!(container.wait().await? == *status, "{args:?}");
        container.delete().await?;
        let told: Vec<_> = events.of(&id, "delete").await?.iter().map(Event::short).collect();
        let expected = ["create", "start", "oom", "exit", "delete"];
        let expected: Vec<_> = expected.into_iter().filter(|kind| *by_memory || *kind != "oom").collect();
        // A program may be at its end before its start is told: that order is another test's.
        let place = |kind: &String| expected.iter().position(|one| one == kind);
        let mut sorted = told.clone();
        sorted.sort_by_key(place);
        let at = |kind| told.iter().position(|one| one == kind);
        ensure!(sorted == expected && at("oom") < at("exit"), "{args:?} after {killed} kills: {told:?}");
        killed += usize::from(*by_memory);
        if killed == kills {
            break;
        }
    }
    Ok(())
}

async fn an_exec_killed_for_want_of_memory_is_told(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    let new = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(little_memory);
    let container = new.create().await?;
    let id = container.id.clone();
    container.start().await?;
    let exec = container.exec("hog", &spec::process(&HOG), &Stdio::null()).await?;
    ensure!(exec.run().await?.0 == 137);
    container.end().await?;
    let told: Vec<_> = events.of(&id, "delete").await?.iter().map(Event::short).collect();
    let ooms = told.iter().filter(|kind| *kind == "oom").count();
    let at = |kind| told.iter().position(|one| one == kind);
    ensure!(ooms == 1 && at("oom") < at("exit hog"), "{told:?}");
    ensure_logged(case, &cgroups::directory("memory", &place(case, &id)))
}

async fn a_kill_in_a_cgroup_below_is_told(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    // One process alone until it is told to go on, for on v2 none may stay in a cgroup that has limited ones below it.
    let script = "mkfifo /go; echo ready; read line </go; tail /dev/zero; sleep 1000";
    let mut container = case.container(&["sh", "-c", script]).create().await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    let own = place(case, &container.id);
    if cgroups::is_v2() {
        let aside = cgroups::directory("memory", &own).join("aside");
        std::fs::create_dir(&aside)?;
        cgroups::join(&aside, container.pid)?;
    }
    let below = cgroups::limit_memory(&format!("{own}/below"), 8 << 20)?;
    cgroups::join(&below, container.pid)?;
    // For reading too: then the open waits for nobody.
    let go = std::fs::File::options().read(true).write(true).open(format!("/proc/{}/root/go", container.pid));
    std::io::Write::write_all(&mut go?, b"go\n")?;
    // No process of ours ends: it is the kernel's own word that is heard.
    events.of(&container.id, "oom").await?;
    ensure_logged(case, &below)?;
    container.end().await
}

async fn a_neighbours_kill_is_not_told(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    let pod = case.new_id();
    let directory = cgroups::limit_memory(&place(case, &pod), 16 << 20)?;
    let in_pod = |name: &'static str| {
        let place = format!("/{}/{pod}/{name}", case.daemon.namespace);
        move |spec: &mut Value| spec["linux"]["cgroupsPath"] = place.into()
    };
    let quiet = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(in_pod("quiet")).create().await?;
    quiet.start().await?;
    let mut hog = case.container(&HOG).stdio(Stdio::null()).spec(in_pod("hog")).create().await?;
    let (quiet_id, hog_id) = (quiet.id.clone(), hog.id.clone());
    hog.start().await?;
    ensure!(hog.wait().await? == 137);
    hog.delete().await?;
    let ooms = |told: &[Event]| told.iter().filter(|event| event.kind == "oom").count();
    ensure!(ooms(&events.of(&hog_id, "delete").await?) == 1);
    quiet.end().await?;
    ensure!(ooms(&events.of(&quiet_id, "delete").await?) == 0);
    ensure_logged(case, &directory)?;
    remove_cgroup(&place(case, &pod))
}

async fn update(case: &Case, id: &str, resources: Value) -> Result<()> {
    let type_url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned();
    let resources = Some(Any { type_url, value: resources.to_string().into_bytes() });
    let request = api::UpdateTaskRequest { container_id: id.to_owned(), resources, ..Default::default() };
    case.client().tasks().update(case.ask(request)).await?;
    Ok(())
}

/// A file of the container's cgroup, as the kernel reports it.
fn cgroup_file(case: &Case, id: &str, file: &str) -> Result<String> {
    cgroups::read(&place(case, id), file)
}

async fn updates_are_live_whatever_the_state(case: &Case) -> Result<()> {
    let mut container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(little_memory).create().await?;
    let id = container.id.clone();
    let is = |file: &str, value: &str| {
        let now = cgroup_file(case, &id, file)?;
        ensure!(now == value, "{file} is {now}, not {value}");
        Ok(())
    };
    update(case, &id, json!({"pids": {"limit": 33}})).await?;
    is("pids.max", "33")?;
    container.start().await?;
    // Both above what holds now, and then both below: whichever order would be wrong once.
    for megabytes in [32_u64, 16] {
        let bytes = megabytes << 20;
        let cpu = json!({"shares": 512, "quota": 30_000, "period": 60_000, "burst": 10_000, "cpus": "0"});
        update(case, &id, json!({"memory": {"limit": bytes, "swap": bytes, "reservation": 4096}, "cpu": cpu})).await?;
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
    update(case, &id, json!({"cpu": {"period": 50_000}})).await?;
    is(either("cpu.cfs_quota_us", "cpu.max"), either("30000", "30000 50000"))?;
    container.pause().await?;
    update(case, &id, json!({"pids": {"limit": -1}})).await?;
    is("pids.max", "max")?;
    container.resume().await?;
    // There is no room to be left for now.
    update(case, &id, json!({"pids": {"limit": 1}})).await?;
    is("pids.max", "1")?;
    container.kill(9, false).await?;
    container.wait().await?;
    let (_, text) = refusal(update(case, &id, json!({"pids": {"limit": 1}})).await)?;
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

async fn device_rules_are_changed_and_left_alone(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    let id = container.id.clone();
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
        update(case, &id, resources).await?;
        ensure!(may_use_kmsg(&container, step).await? == allowed, "{step}");
    }
    // Together with what is refused, they are not changed either.
    let refused = update(case, &id, json!({"devices": [deny, kmsg], "cpu": {"cpus": "4000"}})).await;
    ensure!(refusal(refused)?.1.contains("write 4000 to cpuset.cpus: E"));
    ensure!(!may_use_kmsg(&container, "refused").await?, "refused, and allowed all the same");
    container.end().await
}

async fn a_refused_update_changes_nothing(case: &Case) -> Result<()> {
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
        update(
            case,
            &id,
            json!({"memory": memory, "pids": {"limit": 9}, "cpu": {"shares": 99, "quota": 5000, "cpus": "4000"}}),
        )
        .await,
    )?;
    ensure!(code == Code::Unknown && text.contains("write 4000 to cpuset.cpus: E"), "{code:?} {text}");
    ensure!(values()? == before, "{:?}, and before {before:?}", values()?);
    let throttles = json!([device, {"major": 4000, "minor": 1, "rate": 1}]);
    let (_, text) =
        refusal(update(case, &id, json!({"memory": memory, "blockIO": {"throttleWriteBpsDevice": throttles}})).await)?;
    let write = either("write 4000:1 1 to blkio.throttle.write_bps_device", "write 4000:1 wbps=1 to io.max");
    ensure!(text.contains(&format!("{write}: ENODEV")), "{text}");
    ensure!(values()? == before, "{:?}, and before {before:?}", values()?);
    let (code, text) = refusal(update(case, &id, json!({"memory": {"limit": -5}})).await)?;
    ensure!(code == Code::InvalidArgument && text.contains("/memory/limit"), "{code:?} {text}");
    container.end().await
}

async fn a_limit_below_use_is_refused_where_asked(case: &Case) -> Result<()> {
    let script = "dd if=/dev/zero of=/run/file bs=1M count=8 2>/dev/null; echo ready; exec sleep 1000";
    let mut container = case.container(&["sh", "-c", script]).create().await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    let memory = json!({"limit": 4 << 20, "checkBeforeUpdate": true});
    let (code, text) = refusal(update(case, &container.id, json!({"memory": memory})).await)?;
    ensure!(code == Code::FailedPrecondition && text.contains("4194304 is below the"), "{code:?} {text}");
    update(case, &container.id, json!({"memory": {"limit": 64 << 20, "checkBeforeUpdate": true}})).await?;
    container.end().await
}
