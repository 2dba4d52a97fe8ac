//! Loggers, `binary://` and `binary-v2://`: programs of the node's that are started with a container and take its output. The
//! second scheme (containerd 2.2, docs/runtime-v2.md) asks a logger to say that it is ready with a byte, where of the first it is
//! enough to close the descriptor.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use test_bundles::client::{Case, refusal};
use test_bundles::stdio::{Stdio, Stream};
use test_bundles::{leftovers, spec, wait_until};

use super::readers::ensure_waits;

/// A logger that runs `script`.
fn logger(case: &Case, script: &str) -> Result<PathBuf> {
    let path = case.daemon.dir().join(format!("{}.sh", case.new_id()));
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

pub(super) async fn a_logger_gets_both_streams_and_the_name_of_the_container(case: &Case) -> Result<()> {
    let log = case.daemon.dir().join(format!("{}.log", case.new_id()));
    let script = format!(
        "log={}\necho \"$1 $2 $CONTAINER_NAMESPACE $CONTAINER_ID\" >$log\n\
         sed 's/^/1: /' <&3 >>$log 5>&- &\none=$!\nsed 's/^/2: /' <&4 >>$log 5>&- &\ntwo=$!\nexec 5>&-\nwait $one $two\necho end >>$log",
        log.display()
    );
    let logger = logger(case, &script)?;
    let stdio = Stdio::to(format!("binary://{}?key=value", logger.display()));
    let mut container = case.container(&["sh", "-c", "echo out; echo err >&2"]).stdio(stdio).create().await?;
    ensure!(container.run().await? == 0);
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until(Duration::from_secs(10), || written().ends_with("end\n"));
    let said = written();
    let first = format!("key value {} {}", case.daemon.namespace, container.id);
    ensure!(said.lines().next() == Some(first.as_str()), "not {first:?} first: {said}");
    ensure!(said.contains("1: out\n") && said.contains("2: err\n"), "{said}");
    Ok(())
}

/// Each has its own, which is told the exec's name; a terminal is one stream.
pub(super) async fn execs_and_terminals_have_loggers_too(case: &Case) -> Result<()> {
    let log = case.daemon.dir().join(format!("{}.log", case.new_id()));
    let script = format!("printf r >&5\nexec 5>&-\nsed \"s/^/$CONTAINER_ID: /\" <&3 >>{}", log.display());
    let stdio = Stdio::to(format!("binary://{}", logger(case, &script)?.display()));
    let terminal = Stdio { terminal: true, stderr: Stream::Null, ..stdio.clone() };
    let container = case.container(&["sh", "-c", "tty; exec sleep 1000"]).stdio(terminal).create().await?;
    container.start().await?;
    let exec = container.exec("visit", &spec::process(&["sh", "-c", "echo here; exit 4"]), &stdio).await?;
    let (status, _) = exec.run().await?;
    ensure!(status == 4, "{status}");
    let id = container.id.clone();
    container.end().await?;
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    let expected = [format!("{id}: /dev/pts/0\r"), "visit: here".to_owned()];
    let said = |line: &String| written().split('\n').any(|one| one == line);
    let there = wait_until(Duration::from_secs(10), || expected.iter().all(said));
    ensure!(there, "not {expected:?}: {:?}", written());
    Ok(())
}

pub(super) async fn a_logger_that_dies_neither_ends_nor_stops_its_container(case: &Case) -> Result<()> {
    let logger = logger(case, "printf r >&5\nexit 1")?;
    for scheme in ["binary", "binary-v2"] {
        let stdio = Stdio::to(format!("{scheme}://{}", logger.display()));
        // More than any pipe holds.
        let script = "seq 200000 && seq 200000 >&2 && exit 5";
        let mut container = case.container(&["sh", "-c", script]).stdio(stdio).create().await?;
        let status = container.run().await?;
        ensure!(status == 5, "{scheme}: {status}");
    }
    Ok(())
}

/// One that ends, or closes the descriptor, without a byte.
pub(super) async fn a_logger_that_is_not_ready_is_refused_by_the_second_scheme(case: &Case) -> Result<()> {
    for script in ["exit 0", "exec 5>&-\nexec cat <&3 >/dev/null"] {
        let logger = logger(case, script)?.display().to_string();
        let new = |scheme: &str| case.container(&["true"]).stdio(Stdio::to(format!("{scheme}://{logger}")));
        ensure!(new("binary").create().await?.run().await? == 0, "{script}");
        let (_, said) = refusal(new("binary-v2").create().await)?;
        ensure!(said.contains(&format!("logger {logger} has closed descriptor 5 without being ready")), "{said}");
        // An exec is refused alike, and its container goes on.
        let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
        container.start().await?;
        let stdio = Stdio::to(format!("binary-v2://{logger}"));
        let (_, said) = container.refused_exec("visit", &spec::process(&["true"]), &stdio).await?;
        ensure!(said.contains("without being ready"), "{said}");
        ensure_waits(&container).await?;
        container.end().await?;
    }
    Ok(())
}

/// The container waits, and can be ended as any other; so is the logger, which nothing outlives.
pub(super) async fn a_logger_that_reads_no_more_is_ended(case: &Case) -> Result<()> {
    let note = case.daemon.dir().join(case.new_id());
    let script = format!("echo $$ >{}\nprintf r >&5\nexec 5>&-\nexec sleep 1000", note.display());
    let stdio = Stdio::to(format!("binary://{}", logger(case, &script)?.display()));
    let mut container = case.container(&["seq", "200000"]).stdio(stdio).create().await?;
    container.start().await?;
    ensure_waits(&container).await?;
    let logger = std::fs::read_to_string(&note)?.trim().parse().context("the logger's pid")?;
    ensure!(leftovers::is_running(logger));
    container.kill(9, false).await?;
    ensure!(container.wait().await? == 137);
    let start = Instant::now();
    container.delete().await?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5) * test_bundles::slower(), "Delete took {took:?}");
    ensure!(wait_until(Duration::from_secs(10), || !leftovers::is_running(logger)), "the logger is left");
    Ok(())
}
