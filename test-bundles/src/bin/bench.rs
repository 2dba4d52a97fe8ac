//! `make bench`: what a container and an exec cost in this shim and in the distribution's runc shim.
//!
//! Both run on the same private containerd, driven by the same client, turn by turn, so that whatever else the machine does
//! hits both. A life is create, start, wait and delete of `/bin/true` with its stdio on `/dev/null`; an exec is exec, start,
//! wait and delete of `/bin/true` in a container that sleeps. Snapshot and record are made outside the clock: they cost the
//! same whatever the runtime. `RUNTIME=io.containerd.runc.v2` measures that shim against itself: every ratio should be 1. Argument: how many of each (default 50).

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use test_bundles::client::Case;
use test_bundles::containerd::{Containerd, Release, shim_binary};
use test_bundles::image::Image;
use test_bundles::stdio::Stdio;
use test_bundles::{leftovers, spec};

const THEIRS: &str = "io.containerd.runc.v2";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    match runtime.block_on(bench()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<()> {
    let rounds: usize =
        std::env::args().nth(1).map_or(Ok(50), |count| count.parse()).context("usage: bench [ROUNDS]")?;
    ensure!(rounds > 0, "no rounds, no numbers");
    let daemon = Arc::new(Containerd::start(&Release::distribution())?);
    let image = Image::make(daemon.dir())?;
    image.import(&daemon)?;
    let case = Case::new(daemon.clone(), image.chain_id, "bench").await?;

    let ours = test_bundles::runtime();
    let runtimes = [ours.as_str(), THEIRS];
    let (mut lives, mut execs) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    let mut homes = Vec::new();
    for runtime in runtimes {
        let home = case.container(&["sleep", "100000"]).runtime(runtime).stdio(Stdio::null()).create().await?;
        home.start().await?;
        homes.push(home);
    }
    for round in 0..=rounds {
        for (nth, runtime) in runtimes.into_iter().enumerate() {
            let life = life(&case, runtime).await.with_context(|| runtime.to_owned())?;
            let started = Instant::now();
            let process = spec::process(&["/bin/true"]);
            let (status, _) = homes[nth].exec(&format!("e{round}"), &process, &Stdio::null()).await?.run().await?;
            let exec = started.elapsed();
            ensure!(status == 0, "{runtime}: exec ended with {status}");
            // The first of each warms the caches.
            if round > 0 {
                lives[nth].push(life);
                execs[nth].push(exec);
            }
        }
    }

    println!(
        "{rounds} rounds, turn by turn, on containerd {}; median (10th to 90th percentile)",
        daemon.release.version
    );
    println!("{:<26} {ours:>26} {THEIRS:>26} {:>9}", "", "ratio");
    row("a full life of /bin/true", &mut lives);
    row("an exec of /bin/true", &mut execs);
    let mut memory = Vec::new();
    for home in &homes {
        let pids = leftovers::shims(&daemon, &home.id);
        memory.push(pids.iter().map(|pid| pss_kb(*pid)).sum::<u64>());
    }
    println!(
        "{:<26} {:>26} {:>26} {:>8.1}x",
        "PSS with one container",
        kb(memory[0]),
        kb(memory[1]),
        ratio(memory[1], memory[0])
    );
    let theirs = size_kb("/usr/bin/containerd-shim-runc-v2") + size_kb("/usr/sbin/runc");
    let own = if test_bundles::is_runc() { theirs } else { shim_binary()?.metadata()?.len() / 1000 };
    let sizes = [own, theirs];
    println!(
        "{:<26} {:>26} {:>26} {:>8.1}x",
        "binaries (shim and runc)",
        kb(sizes[0]),
        kb(sizes[1]),
        ratio(sizes[1], sizes[0])
    );
    for home in homes {
        home.end().await?;
    }
    case.finish()
}

async fn life(case: &Case, runtime: &str) -> Result<Duration> {
    let container = case.container(&["/bin/true"]).runtime(runtime).stdio(Stdio::null()).prepare().await?;
    let started = Instant::now();
    let mut container = container.create().await?;
    container.start().await?;
    let status = container.wait().await?;
    container.delete_task().await?;
    let life = started.elapsed();
    container.forget().await?;
    ensure!(status == 0, "/bin/true ended with {status}");
    Ok(life)
}

fn row(what: &str, times: &mut [Vec<Duration>; 2]) {
    for times in times.iter_mut() {
        times.sort_unstable();
    }
    let [ours, theirs] = [&times[0], &times[1]].map(|times| {
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
        (at(50), format!("{:.1} ms ({:.1} to {:.1})", at(50), at(10), at(90)))
    });
    println!("{what:<26} {:>26} {:>26} {:>8.1}x", ours.1, theirs.1, theirs.0 / ours.0);
}

fn pss_kb(pid: u32) -> u64 {
    let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = memory.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
    pss.unwrap_or_default()
}

fn size_kb(path: &str) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len() / 1000)
}

fn kb(kilobytes: u64) -> String {
    format!("{kilobytes} kB")
}

#[allow(clippy::cast_precision_loss)] // Sizes in kB are far below 2^52.
fn ratio(theirs: u64, ours: u64) -> f64 {
    theirs as f64 / ours as f64
}
