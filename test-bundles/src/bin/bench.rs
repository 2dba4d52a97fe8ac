//! `make bench`: what a container, an exec and a pod cost in this shim and in the distribution's shim with runc.
//!
//! Both are driven as containerd drives them, over ttrpc, turn by turn, so that whatever else the machine does hits both; then
//! through a whole containerd. Figures are medians with the 10th to the 90th percentile; a ratio is ours by theirs. Nothing is
//! asserted of a time: `tests/budgets.rs` asserts what can be counted.
//!
//! `bench [--write] [ROUNDS]`: 50 rounds unless told; `--write`, or `BENCH=write`, puts table and picture into the README.
//! With `SHIM=/usr/bin/containerd-shim-runc-v2` that shim is measured against itself: every ratio should be 1.
//! Everything runs in a mount namespace of its own, for the sake of the thousand mounts.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use test_bundles::mounts::unshare_mounts;
use test_bundles::readme::Part;
use test_bundles::{cgroups, containerd};
use time::OffsetDateTime;

use crate::subject::Bench;

#[path = "bench/execs.rs"]
mod execs;
#[path = "bench/figures.rs"]
mod figures;
#[path = "bench/kubernetes.rs"]
mod kubernetes;
#[path = "bench/lives.rs"]
mod lives;
#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/picture.rs"]
mod picture;
#[path = "bench/subject.rs"]
mod subject;
#[path = "bench/throughput.rs"]
mod throughput;
#[path = "bench/whole.rs"]
mod whole;

const PART: Part = Part { name: "bench", written_by: "BENCH=write make bench" };
const NAMES: [&str; 2] = ["this shim", "runc's shim"];

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let mut write = std::env::var_os("BENCH").is_some_and(|value| value == "write");
    let mut rounds = 50;
    for argument in std::env::args().skip(1) {
        if argument == "--write" {
            write = true;
        } else {
            rounds = argument.parse().context("usage: bench [--write] [ROUNDS]")?;
        }
    }
    ensure!(rounds > 0, "no rounds, no numbers");
    let head = head(rounds)?;
    println!("{head}");
    // Before there is a second thread.
    unshare_mounts()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bench = runtime.block_on(alone(rounds))?;
    whole::measure(&mut bench, rounds.div_ceil(4))?;
    kubernetes::measure(&mut bench, rounds.div_ceil(4))?;
    let table = figures::table(&bench.figures, NAMES);
    print!("{table}");
    let picture = picture::svg(&bench.figures);
    runtime.block_on(async { bench.node.finish() })?;
    if write {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench.svg");
        std::fs::write(&file, picture).with_context(|| format!("write {}", file.display()))?;
        PART.write(&format!("{head}\n{table}"))?;
    }
    Ok(())
}

/// What is measured without a containerd.
async fn alone(rounds: usize) -> Result<Bench> {
    let mut bench = Bench::new().await?;
    lives::one_by_one(&mut bench, rounds).await?;
    lives::among_mounts(&mut bench, rounds.div_ceil(2)).await?;
    lives::at_once(&mut bench).await?;
    memory::measure(&mut bench).await?;
    execs::measure(&mut bench, rounds).await?;
    memory::binaries(&mut bench)?;
    throughput::measure(&mut bench).await?;
    Ok(bench)
}

/// What was measured, where, and when.
fn head(rounds: usize) -> Result<String> {
    let now = OffsetDateTime::now_utc().date();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.trim().split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let mut head = format!("{now}, {} cores", std::thread::available_parallelism()?);
    if let Some(model) = model {
        let _ = write!(head, " ({model})");
    }
    let cgroups = cgroups::either("v1 or hybrid", "v2");
    let _ = write!(
        head,
        ", Linux {kernel}, cgroup {cgroups}, load {} at the start.",
        load.split(' ').next().unwrap_or_default()
    );
    let runc = Command::new("runc").arg("--version").output().context("run runc")?;
    let runc = String::from_utf8_lossy(&runc.stdout).lines().next().unwrap_or_default().replace(" version", "");
    let containerd = containerd::Release::distribution().version;
    let _ = writeln!(
        head,
        "\nBeside the shim of containerd {containerd} with {runc}, turn by turn; medians of {rounds} (10th–90th percentile); \
         ratios are ours by theirs."
    );
    Ok(head)
}
