//! Clients that are slow, or go, or never come: their container waits for them, and everyone else gets an answer.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use test_bundles::client::{Case, Container};
use test_bundles::stdio::{Stdio, Stream};
use test_bundles::{leftovers, spec, wait_until};

pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// A fifo of the test's own, which nobody reads unless the test does.
fn fifo(case: &Case) -> Result<PathBuf> {
    // In a directory that keeps others out, as containerd's: only then is it handed over.
    let dir = case.daemon.dir().join(case.new_id());
    DirBuilder::new().mode(0o700).create(&dir)?;
    let path = dir.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
    Ok(path)
}

fn stdout_to(path: &Path) -> Stdio {
    Stdio { stdout: Stream::Uri(path.display().to_string()), ..Stdio::null() }
}

/// utime + stime, proc_pid_stat(5).
pub(super) fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(") ").context("no stat")?.1.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

pub(super) async fn a_gigabyte_costs_the_shim_nothing(case: &Case) -> Result<()> {
    let megabytes = 1024 / u64::from(test_bundles::slower());
    let path = fifo(case)?;
    let reader = path.clone();
    let reader = std::thread::spawn(move || std::io::copy(&mut File::open(reader)?, &mut std::io::sink()));
    let count = format!("count={megabytes}");
    let new = case.container(&["dd", "if=/dev/zero", "bs=1M", &count]).stdio(stdout_to(&path));
    let mut container = new.create().await?;
    let shim = leftovers::shims(&case.daemon, &container.id)[0];
    let before = cpu_ticks(shim)?;
    container.start().await?;
    ensure!(container.wait().await? == 0);
    let ticks = cpu_ticks(shim)? - before;
    container.delete().await?;
    let bytes = reader.join().expect("a reader does not panic")?;
    ensure!(bytes == megabytes << 20, "{bytes} bytes of {megabytes} MB");
    // A hundredth of a second each; a copy takes tens of them.
    ensure!(ticks <= 5, "the shim has used {ticks} ticks");
    Ok(())
}

/// Nobody reads: the program waits, and everyone else gets an answer.
pub(super) async fn ensure_waits(container: &Container<'_>) -> Result<()> {
    let state = container.process("").state().await?;
    ensure!(state.status == 2, "{state:?}");
    let exec = container.exec("look", &spec::process(&["true"]), &Stdio::null()).await?;
    ensure!(exec.run().await?.0 == 0);
    Ok(())
}

pub(super) async fn a_reader_that_goes_and_another_that_comes_get_it_all(case: &Case) -> Result<()> {
    const LINES: usize = 100_000;
    let path = fifo(case)?;
    let opener = path.clone();
    let first = std::thread::spawn(move || File::open(opener));
    let last = (1_000_000 + LINES - 1).to_string();
    let mut container = case.container(&["seq", "1000000", &last]).stdio(stdout_to(&path)).create().await?;
    let mut first = first.join().expect("it does not panic")?;
    container.start().await?;
    let mut bytes = vec![0; 8 * 1000];
    first.read_exact(&mut bytes)?;
    drop(first);
    ensure_waits(&container).await?;
    let second = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    ensure!(container.wait().await? == 0);
    container.delete().await?;
    let bytes = second.join().expect("it does not panic")?;
    let lines = String::from_utf8(bytes)?;
    let expected = (1_000_000..1_000_000 + LINES).map(|number| number.to_string());
    ensure!(lines.lines().eq(expected), "{} lines", lines.lines().count());
    Ok(())
}

/// The shim waits a second for one who may be on the way, once.
pub(super) async fn a_fifo_that_nobody_opens_keeps_nobody_else(case: &Case) -> Result<()> {
    let path = fifo(case)?;
    let start = Instant::now();
    let mut container = case.container(&["seq", "200000"]).stdio(stdout_to(&path)).create().await?;
    container.start().await?;
    ensure_waits(&container).await?;
    container.kill(9, false).await?;
    ensure!(container.wait().await? == 137);
    container.delete().await?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5) * test_bundles::slower(), "{took:?}");
    Ok(())
}

/// It has the fifo open and reads no more: the end comes all the same, and what the fifo held can be read after it.
pub(super) async fn a_reader_that_stops_keeps_nobody_else(case: &Case) -> Result<()> {
    for terminal in [false, true] {
        let path = fifo(case)?;
        let opener = path.clone();
        let reader = std::thread::spawn(move || File::open(opener));
        let stdio = Stdio { terminal, ..stdout_to(&path) };
        let mut container = case.container(&["seq", "1000000", "1200000"]).stdio(stdio).create().await?;
        let mut reader = reader.join().expect("it does not panic")?;
        container.start().await?;
        let mut bytes = vec![0; 80];
        reader.read_exact(&mut bytes)?;
        // Of 16 pages, each of which may be half full.
        let full = wait_until(LIMIT, || rustix::io::ioctl_fionread(&reader).is_ok_and(|bytes| bytes > 30_000));
        ensure!(full, "terminal: {terminal}: the fifo does not fill");
        ensure_waits(&container).await?;
        container.kill(9, false).await?;
        ensure!(container.wait().await? == 137, "terminal: {terminal}");
        container.delete().await?;
        reader.read_to_end(&mut bytes)?;
        let text = String::from_utf8(bytes)?;
        let lines: Vec<_> = text.lines().collect();
        let told = (1_000_000..).zip(&lines[..lines.len() - 1]).all(|(number, line)| number.to_string() == *line);
        ensure!(told && lines.len() > 3000, "terminal: {terminal}, {} lines", lines.len());
    }
    Ok(())
}

/// containerd reads the shim's log; while it does not, the shim goes on and counts what it could not say.
pub(super) async fn a_log_that_nobody_reads_keeps_nobody(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let shim = *leftovers::shims(&case.daemon, &container.id).first().context("a shim")?;
    leftovers::signal(case.daemon.pid(), Signal::SIGSTOP);
    // Each makes it say what it holds: in all more than a fifo takes.
    for _ in 0..1000 {
        leftovers::signal(shim, Signal::SIGUSR1);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    leftovers::signal(case.daemon.pid(), Signal::SIGCONT);
    let counted = wait_until(LIMIT, || {
        leftovers::signal(shim, Signal::SIGUSR1);
        case.daemon.log_tail("lines of this log were dropped").contains(&container.id)
    });
    ensure!(counted, "it does not tell what is missing");
    ensure_waits(&container).await?;
    container.end().await
}
