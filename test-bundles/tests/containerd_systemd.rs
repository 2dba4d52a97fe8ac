//! Cgroups that systemd makes, through containerd: `SystemdCgroup` of the runtime options, and a `cgroupsPath` that names a
//! unit. Skipped where systemd is not the init system.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use test_bundles::client::{Case, Container, NewContainer};
use test_bundles::events::Event;
use test_bundles::stdio::Stdio;
use test_bundles::{cgroups, leftovers, suite, test, wait_until};
use tokio::sync::RwLock;

/// Held for writing by the test that stops systemd, for nothing else gets anything from it meanwhile.
static SYSTEMD: RwLock<()> = RwLock::const_new(());

fn main() -> ExitCode {
    suite::run(&[
        test!(the_option_asks_for_a_scope).unless(no_systemd),
        test!(the_form_of_the_path_asks_for_one).unless(no_systemd),
        test!(an_update_outlives_a_reload).unless(no_systemd),
        test!(a_scope_goes_with_its_shim).unless(no_systemd),
        test!(each_kill_in_a_scope_is_told_once).unless(no_systemd).not_on_runc("the scope may go before it looks"),
        test!(without_an_answer_of_systemd_a_container_ends)
            .unless(no_systemd)
            .not_on_runc("it waits for systemd as long as it takes"),
    ])
}

fn no_systemd() -> Option<&'static str> {
    (!cgroups::has_systemd()).then_some("systemd is not the init system here")
}

/// A scope of its own, and where it is.
struct Scope {
    name: String,
    cgroup: String,
}

impl Scope {
    fn of(case: &Case, id: &str) -> Self {
        let name = format!("shim-{id}.scope");
        Self { cgroup: format!("/{}/{name}", case.daemon.slice()), name }
    }

    /// Of a container whose configuration names no cgroup.
    fn unnamed(id: &str) -> Self {
        let name = format!("{}-{id}.scope", if test_bundles::is_runc() { "runc" } else { "myshim" });
        Self { cgroup: format!("/system.slice/{name}"), name }
    }

    fn show(&self, property: &str) -> Result<String> {
        let output = Command::new("systemctl").args(["show", "--value", "-p", property, &self.name]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn directory(&self) -> PathBuf {
        cgroups::directory(cgroups::either("systemd", ""), &self.cgroup)
    }

    fn ensure_up(&self, container: &Container<'_>) -> Result<()> {
        ensure!(self.show("ActiveState")? == "active", "{} is {}", self.name, self.show("ActiveState")?);
        ensure!(leftovers::processes_in_cgroup(&self.cgroup) == [container.pid], "not init alone in {}", self.cgroup);
        Ok(())
    }

    fn ensure_gone(&self) -> Result<()> {
        let state = self.show("LoadState")?;
        ensure!(state == "not-found", "{} is still there: {state}", self.name);
        ensure!(!self.directory().exists(), "{} is still there", self.directory().display());
        Ok(())
    }
}

/// A container with a cgroup path that names a unit.
fn scoped<'c>(case: &'c Case, args: &[&str], edit: impl FnOnce(&mut Value)) -> NewContainer<'c> {
    let container = case.container(args).stdio(Stdio::null());
    let path = format!("{}:shim:{}", case.daemon.slice(), container.id);
    container.spec(|spec| spec["linux"]["cgroupsPath"] = path.into()).spec(edit)
}

fn limits(spec: &mut Value) {
    spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    spec["linux"]["resources"]["pids"] = json!({"limit": 50});
}

/// Nothing else says so: there is no path.
async fn the_option_asks_for_a_scope(case: &Case) -> Result<()> {
    let _systemd = SYSTEMD.read().await;
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).systemd_cgroup().spec(|spec| {
        spec["linux"].as_object_mut().expect("an object").remove("cgroupsPath");
        limits(spec);
    });
    let scope = Scope::unnamed(&container.id);
    a_life(container, &scope).await?;
    // And with a path that names no unit it cannot be met.
    let path = |spec: &mut Value| spec["linux"]["cgroupsPath"] = "/here/there".into();
    let refused = case.container(&["true"]).stdio(Stdio::null()).systemd_cgroup().spec(path).create().await;
    let error = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains("slice:prefix:name"), "{error}");
    Ok(())
}

async fn the_form_of_the_path_asks_for_one(case: &Case) -> Result<()> {
    let _systemd = SYSTEMD.read().await;
    if test_bundles::is_runc() {
        return Ok(());
    }
    let container = scoped(case, &["sleep", "1000"], limits);
    let scope = Scope::of(case, &container.id);
    a_life(container, &scope).await
}

async fn a_life(container: NewContainer<'_>, scope: &Scope) -> Result<()> {
    let container = container.create().await?;
    scope.ensure_up(&container)?;
    container.start().await?;
    scope.ensure_up(&container)?;
    let limits = (scope.show("MemoryMax")?, scope.show("TasksMax")?);
    ensure!(limits == ("67108864".into(), "50".into()), "{limits:?}");
    ensure!(cgroups::read(&scope.cgroup, "pids.max")? == "50");
    ensure!(container.pids().await? == [container.pid]);
    container.end().await?;
    scope.ensure_gone()
}

/// systemd writes all that it knows of when it is reloaded: it has to know what holds.
async fn an_update_outlives_a_reload(case: &Case) -> Result<()> {
    let _systemd = SYSTEMD.read().await;
    let limits = |spec: &mut Value| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        spec["linux"]["resources"]["pids"] = json!({"limit": 50});
        spec["linux"]["resources"]["cpu"] = json!({"quota": 12_345, "period": 50_000, "shares": 1024});
    };
    let container = scoped(case, &["sleep", "1000"], limits).systemd_cgroup().create().await?;
    container.start().await?;
    let scope = Scope::of(case, &container.id);
    let cpu = json!({"quota": 23_456, "shares": 512});
    container.update(json!({"memory": {"limit": 48 << 20}, "pids": {"limit": 30}, "cpu": cpu})).await?;
    let files = || -> Result<Vec<String>> {
        ["memory.max", "pids.max", "cpu.max", "cpu.weight"]
            .map(|file| cgroups::read(&scope.cgroup, file))
            .into_iter()
            .collect()
    };
    ensure!(files()? == ["50331648", "30", "23456 50000", "59"], "{:?}", files()?);
    let properties = ["MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "CPUWeight"].map(|name| scope.show(name));
    let properties = properties.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(properties == ["50331648", "30", "470ms", "59"], "{properties:?}");
    // A limit that systemd takes and the kernel does not is neither's in the end.
    let refused = container.update(json!({"pids": {"limit": 7}, "cpu": {"cpus": "4000"}})).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("write 4000 to cpuset.cpus: E")));
    ensure!(files()?[1] == "30" && scope.show("TasksMax")? == "30");
    ensure!(Command::new("systemctl").arg("daemon-reload").status()?.success());
    ensure!(files()?[..2] == ["50331648", "30"], "{:?} after a reload", files()?);
    container.end().await?;
    scope.ensure_gone()
}

/// containerd then calls `delete`.
async fn a_scope_goes_with_its_shim(case: &Case) -> Result<()> {
    let _systemd = SYSTEMD.read().await;
    let mut events = case.events().await?;
    let mut container = scoped(case, &["sleep", "1000"], |_| ()).systemd_cgroup().create().await?;
    container.start().await?;
    let scope = Scope::of(case, &container.id);
    let shims = leftovers::shims(&case.daemon, &container.id);
    leftovers::signal(*shims.first().context("a shim")?, Signal::SIGKILL);
    events.of(&container.id, "exit").await?;
    // Nobody tells when `delete` has ended.
    wait_until(Duration::from_secs(10), || scope.ensure_gone().is_ok());
    scope.ensure_gone()?;
    container.forget().await
}

/// The log takes its own way.
fn ensure_logged(case: &Case, about: &str, said: &str) -> Result<()> {
    let logged = wait_until(Duration::from_secs(5), || case.daemon.log_tail(about).contains(said));
    ensure!(logged, "not {said}, but {}", case.daemon.log_tail(about));
    Ok(())
}

async fn each_kill_in_a_scope_is_told_once(case: &Case) -> Result<()> {
    let _systemd = SYSTEMD.read().await;
    let mut events = case.events().await?;
    let little = |spec: &mut Value| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 8 << 20, "swap": 8 << 20});
    };
    let lives: [(&[&str], u32, usize); 3] = [
        (&["tail", "/dev/zero"], 137, 1),
        (&["sh", "-c", "kill -9 $$; sleep 0.05; exit 137"], 137, 0),
        (&["true"], 0, 0),
    ];
    for (args, status, kills) in lives.iter().cycle().take(12) {
        let mut container = scoped(case, args, little).systemd_cgroup().create().await?;
        let (id, scope) = (container.id.clone(), Scope::of(case, &container.id));
        container.start().await?;
        ensure!(container.wait().await? == *status, "{args:?}");
        container.delete().await?;
        let told: Vec<_> = events.of(&id, "delete").await?.iter().map(Event::short).collect();
        let at = |kind| told.iter().position(|one| one == kind);
        let ooms = told.iter().filter(|kind| *kind == "oom").count();
        ensure!(ooms == *kills && (ooms == 0 || at("oom") < at("exit")), "{args:?}: {told:?}");
        if ooms > 0 {
            ensure_logged(case, &id, &format!("the limit of {} was hit", scope.directory().display()))?;
        }
        scope.ensure_gone()?;
    }
    Ok(())
}

const FREEZE: &str = "/sys/fs/cgroup/init.scope/cgroup.freeze";

/// Lets systemd go on, whatever becomes of the test.
struct Stopped;

impl Stopped {
    fn stop() -> Result<Self> {
        std::fs::write(FREEZE, "1").with_context(|| format!("write 1 to {FREEZE}"))?;
        Ok(Self)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = std::fs::write(FREEZE, "0");
    }
}

async fn without_an_answer_of_systemd_a_container_ends(case: &Case) -> Result<()> {
    let _systemd = SYSTEMD.write().await;
    let mut container = scoped(case, &["sleep", "1000"], |_| ()).systemd_cgroup().create().await?;
    let scope = Scope::of(case, &container.id);
    container.start().await?;
    let stopped = Stopped::stop()?;
    let start = Instant::now();
    // It holds at once, and systemd may hear of it later.
    container.update(json!({"pids": {"limit": 30}})).await?;
    ensure!(cgroups::read(&scope.cgroup, "pids.max")? == "30");
    ensure_logged(case, &scope.name, "no answer within 5 s: the new values hold until systemd is reloaded")?;
    // New device rules need it.
    let rules = json!([{"allow": true, "access": "rwm"}]);
    let refused = container.update(json!({"pids": {"limit": 20}, "devices": rules})).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("no answer within 5 s")));
    ensure!(cgroups::read(&scope.cgroup, "pids.max")? == "30", "changed by an update that was refused");
    container.kill(9, true).await?;
    ensure!(container.wait().await? == 137);
    container.delete().await?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(25) * test_bundles::slower().min(2), "{took:?}");
    drop(stopped);
    wait_until(Duration::from_secs(10), || scope.ensure_gone().is_ok());
    scope.ensure_gone()
}
