//! Through a whole containerd, as a user has it: `ctr run` and `ctr tasks exec`, their own share and containerd's included.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use test_bundles::containerd::{Containerd, Release};
use test_bundles::image::{self, Image};

use crate::subject::{BOTH, Bench};

const RUNTIMES: [&str; 2] = ["io.containerd.myshim.v2", "io.containerd.runc.v2"];

pub(crate) fn measure(bench: &mut Bench, rounds: usize) -> Result<()> {
    let daemon = Arc::new(Containerd::start(&Release::distribution())?);
    Image::make(daemon.dir())?.import(&daemon)?;
    let home = |nth: usize| format!("home-{nth}");
    for (nth, runtime) in RUNTIMES.iter().enumerate() {
        timed(&daemon, &["run", "--detach", "--runtime", runtime, image::NAME, &home(nth), "sleep", "1000000"])?;
    }
    for round in 0..=rounds {
        for side in BOTH {
            let (nth, name) = (side as usize, format!("r{round}"));
            let run = ["run", "--rm", "--runtime", RUNTIMES[nth], image::NAME, &format!("{name}-{nth}"), "true"];
            let life = side.context(timed(&daemon, &run))?;
            let exec = side.context(timed(&daemon, &["tasks", "exec", "--exec-id", &name, &home(nth), "true"]))?;
            if round > 0 {
                bench.add_time(side, "`ctr run --rm` of `true`", life);
                bench.add_time(side, "`ctr tasks exec` of `true`", exec);
            }
        }
    }
    for nth in 0..RUNTIMES.len() {
        timed(&daemon, &["tasks", "delete", "--force", &home(nth)])?;
    }
    Arc::into_inner(daemon).context("nobody else has it")?.stop()
}

fn timed(daemon: &Containerd, arguments: &[&str]) -> Result<Duration> {
    let began = Instant::now();
    let mut command = daemon.ctr_command(arguments);
    let output = command.stdin(Stdio::null()).output().context("run ctr")?;
    let time = began.elapsed();
    ensure!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(time)
}
