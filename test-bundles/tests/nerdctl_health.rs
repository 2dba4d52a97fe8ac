//! nerdctl's health checks, which it leaves to timers of systemd's. Skipped where systemd is not the init system.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use test_bundles::client::Case;
use test_bundles::{cgroups, containerd, ctr, image, leftovers, suite, test, wait_until};

fn main() -> ExitCode {
    suite::run(&[test!(a_timer_asks_for_it_as_long_as_the_container_lives).unless(missing)])
}

fn missing() -> Option<&'static str> {
    if !cgroups::has_systemd() {
        return Some("systemd is not the init system here");
    }
    (!nerdctl().exists()).then_some("there is no nerdctl here")
}

fn nerdctl() -> PathBuf {
    containerd::lab().join("bin/nerdctl")
}

/// What `nerdctl ARGS` says.
fn ask(case: &Case, args: &[&str]) -> Result<String> {
    let mut command = Command::new(nerdctl());
    command.arg("--address").arg(case.daemon.socket()).arg("--namespace").arg(&case.daemon.namespace);
    command.arg("--data-root").arg(case.daemon.dir().join("nerdctl")).args(args);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let said = ctr::finish(child.context("start nerdctl")?)?.success()?;
    Ok(said.trim().to_owned())
}

fn units(id: &str) -> Result<String> {
    let output = Command::new("systemctl")
        .args(["list-units", "--all", "--plain", "--no-legend", &format!("*{id}*")])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn a_timer_asks_for_it_as_long_as_the_container_lives(case: &Case) -> Result<()> {
    let (name, runtime) = (case.new_id(), test_bundles::runtime());
    let check = ["--health-cmd", "test -e /well", "--health-interval", "1s", "--health-retries", "2"];
    let run = ["run", "-d", "--name", &name, "--network", "none", "--runtime", &runtime];
    let id = ask(case, &[&run[..], &check, &[image::NAME, "sleep", "1000"]].concat())?;
    let health = || ask(case, &["inspect", "-f", "{{.State.Health.Status}}", &name]).unwrap_or_default();
    let becomes = |wanted: &str| wait_until(Duration::from_secs(10) * test_bundles::slower(), || health() == wanted);
    ensure!(becomes("unhealthy"), "{}: {}", health(), units(&id)?);
    ask(case, &["exec", &name, "sh", "-c", ": >/well"])?;
    ensure!(becomes("healthy"), "{}: {}", health(), units(&id)?);
    ensure!(units(&id)?.contains(".timer"), "another asks than a timer: {}", units(&id)?);
    ask(case, &["rm", "-f", &name])?;
    let left = || [leftovers::of_container(&case.daemon, &id).join("\n"), units(&id).unwrap_or_default()].concat();
    ensure!(wait_until(Duration::from_secs(10), || left().is_empty()), "left: {}", left());
    Ok(())
}
