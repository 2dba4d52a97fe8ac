//! Bytes that come out of a container which writes as fast as it can: through a fifo, and through a terminal; and what that
//! costs the shim itself.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::stat::Mode;
use test_bundles::measure;
use test_bundles::node::Streams;

use crate::figures::Unit;
use crate::subject::{BOTH, Bench, Side};

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_millis(500);
/// What `yes` repeats: with two bytes at a time it would be `yes` that is measured.
const LINE_BYTES: usize = 1000;

pub(crate) async fn measure(bench: &mut Bench) -> Result<()> {
    for _ in 0..ROUNDS {
        for side in BOTH {
            side.context(fifo(bench, side).await)?;
        }
    }
    for _ in 0..ROUNDS {
        for side in BOTH {
            side.context(terminal(bench, side).await)?;
        }
    }
    Ok(())
}

async fn fifo(bench: &mut Bench, side: Side) -> Result<()> {
    let (rate, cpu) = flow(bench, side, |fifo| Streams::Fifo(fifo)).await?;
    bench.add(side, "`yes` through a fifo", Unit::MegabytesPerSecond, rate);
    bench.add(side, "the shim's CPU for a GB through a fifo", Unit::Milliseconds, cpu);
    Ok(())
}

async fn terminal(bench: &mut Bench, side: Side) -> Result<()> {
    let (rate, cpu) = flow(bench, side, |fifo| Streams::Terminal(fifo)).await?;
    bench.add(side, "`yes` through a terminal", Unit::MegabytesPerSecond, rate);
    bench.add(side, "the shim's CPU for a GB through a terminal", Unit::Milliseconds, cpu);
    Ok(())
}

/// Millions of bytes a second, and milliseconds of the shim's CPU for a thousand million bytes.
async fn flow(bench: &mut Bench, side: Side, streams: impl Fn(&Path) -> Streams<'_>) -> Result<(f64, f64)> {
    let line = "y".repeat(LINE_BYTES - 1);
    let container = bench.node.container_with(&["/bin/yes", &line], |config| {
        config["process"]["terminal"] = matches!(streams(Path::new("")), Streams::Terminal(_)).into();
    })?;
    // Others are kept out, as by containerd: only then is a fifo handed over.
    let io = container.path().join("io");
    DirBuilder::new().mode(0o700).create(&io).context("make a directory")?;
    let fifo = io.join("out");
    let path = fifo.clone();
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).context("make a fifo")?;
    let (shim, _) = bench.program(side).start(&bench.node, &container).await?;
    // The shim opens its end in Create, and waits for ours.
    let reading = tokio::task::spawn_blocking(move || File::open(fifo));
    shim.create(&container, streams(&path)).await?;
    let fifo = reading.await?.context("open the fifo")?;
    shim.start(&container.id, "").await?;
    let pid = shim.pid;
    let measured = tokio::task::spawn_blocking(move || read(fifo, pid)).await?;
    shim.end(&container.id).await?;
    shim.shutdown(&container.id).await?;
    measured
}

#[allow(clippy::cast_precision_loss, reason = "gigabytes are far below 2^52")]
fn read(mut fifo: File, shim: u32) -> Result<(f64, f64)> {
    let mut buffer = vec![0; 1 << 16];
    // The first bytes say that it runs.
    let _ = fifo.read(&mut buffer)?;
    let (began, before, mut bytes) = (Instant::now(), measure::cpu(shim)?, 0);
    while began.elapsed() < TIME {
        bytes += fifo.read(&mut buffer)?;
    }
    let (time, cpu) = (began.elapsed(), measure::cpu(shim)?.saturating_sub(before));
    let megabytes = bytes as f64 / 1e6;
    Ok((megabytes / time.as_secs_f64(), cpu.as_secs_f64() * 1e6 / megabytes))
}
