//! Terminals that every process closes and opens again, or hangs up: systemd and agetty(8) do both.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use test_bundles::client::Case;
use test_bundles::stdio::{Reader, Stdio};
use test_bundles::{leftovers, spec, wait_until};

use crate::readers::{LIMIT, cpu_ticks};

const COMES_BACK: &[&str] = &["/probe", "tty-comes-back"];
const SAID: &str = "one\r\ntwo\r\nthree\r\ntyped\r\nit heard typed\r\n";

/// vhangup(2) asks for it.
fn may_hang_up(process: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        process["capabilities"][set].as_array_mut().expect("a list").push(json!("CAP_SYS_TTY_CONFIG"));
    }
}

/// Types once the terminal is closed for the third time, and reads to the end.
async fn everything_said(mut output: Reader, input: Result<std::fs::File>) -> Result<String> {
    output.until("three\r\n").await?;
    writeln!(input?, "typed")?;
    Ok(output.text().await)
}

pub(super) async fn a_terminal_that_was_closed_or_hung_up_comes_back(case: &Case) -> Result<()> {
    let new = case.container(COMES_BACK).stdio(Stdio::terminal()).spec(|spec| may_hang_up(&mut spec["process"]));
    let mut container = new.create().await?;
    let output = container.output();
    container.start().await?;
    let said = everything_said(output, container.input()).await?;
    ensure!(container.wait().await? == 0, "{said:?}");
    container.delete().await?;
    ensure!(said == SAID, "{said:?}");
    Ok(())
}

pub(super) async fn the_terminal_of_an_exec_comes_back_too(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let mut process = spec::process(COMES_BACK);
    may_hang_up(&mut process);
    let mut exec = container.exec("visit", &process, &Stdio::terminal()).await?;
    let output = exec.streams.output.take().context("stdout is a fifo")?;
    exec.process.start().await?;
    let said = everything_said(output, exec.streams.input()).await?;
    ensure!(exec.process.wait().await? == 0, "{said:?}");
    exec.process.delete().await?;
    ensure!(said == SAID, "{said:?}");
    container.end().await
}

/// A master without a slave is always ready, for a hang-up that says nothing new.
pub(super) async fn a_terminal_that_nobody_has_open_wakes_nobody(case: &Case) -> Result<()> {
    let script = "echo ready; exec </dev/null >/dev/null 2>&1; sleep 1000";
    let container = case.container(&["sh", "-c", script]).stdio(Stdio::terminal()).create().await?;
    let shim = leftovers::shims(&case.daemon, &container.id)[0];
    container.start().await?;
    // Input waits too, as nobody reads it: more lines than a terminal holds.
    container.input()?.write_all(&vec![b'\n'; 60_000])?;
    let file = |fd| std::fs::read_link(format!("/proc/{}/fd/{fd}", container.pid)).unwrap_or_default();
    let closed = || (0..3).all(|fd| file(fd) == Path::new("/dev/null"));
    ensure!(wait_until(LIMIT, closed), "it does not close its terminal");
    // Until it has no more to do than to wait.
    let mut woken = switches(shim)?;
    let still = wait_until(LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut woken, switches(shim).unwrap_or_default());
        woken == before
    });
    ensure!(still, "it wakes again and again: {} ticks of CPU time", cpu_ticks(shim)?);
    container.end().await
}

/// How often a process has gone to sleep, proc_pid_status(5).
fn switches(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
    Ok(lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum())
}
