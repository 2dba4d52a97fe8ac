//! What ten pods that do nothing have of the machine, and what the programs have of its disk.

use std::path::PathBuf;

use anyhow::{Context, Result};
use test_bundles::measure;

use crate::figures::Unit;
use crate::subject::{BOTH, Bench, Side};

const PODS: usize = 10;
const MEBIBYTE_KB: f64 = 1024.0;

pub(crate) async fn measure(bench: &mut Bench) -> Result<()> {
    for side in BOTH {
        let mut pods = Vec::new();
        for _ in 0..PODS {
            let container = bench.node.container(&["/bin/sleep", "1000000"])?;
            let (shim, _) = side.context(bench.program(side).start(&bench.node, &container).await)?;
            side.context(shim.create_and_start(&container).await)?;
            pods.push((shim, container));
        }
        measure::rest().await;
        for (shim, _) in &pods {
            let memory = measure::memory(shim.pid)?;
            bench.add(side, "memory of a pod of ten (PSS)", Unit::Megabytes, f64::from(memory.pss_kb) / MEBIBYTE_KB);
            bench.add(side, "private memory of a pod", Unit::Megabytes, f64::from(memory.private_kb) / MEBIBYTE_KB);
            let threads = u32::try_from(measure::threads(shim.pid)?)?;
            bench.add(side, "threads, idle", Unit::Threads, threads.into());
        }
        for (shim, container) in pods {
            side.context(shim.end(&container.id).await)?;
            side.context(shim.shutdown(&container.id).await)?;
        }
    }
    Ok(())
}

/// In millions of bytes.
#[allow(clippy::cast_precision_loss, reason = "sizes of programs are far below 2^52")]
pub(crate) fn binaries(bench: &mut Bench) -> Result<()> {
    for side in BOTH {
        let runc = if side == Side::Theirs { runc()?.metadata()?.len() } else { 0 };
        let bytes = bench.program(side).size()? + runc;
        bench.add(side, "binaries (theirs: shim and runc)", Unit::Megabytes, bytes as f64 / 1e6);
    }
    Ok(())
}

/// What the distribution's shim runs for every step.
fn runc() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join("runc")).find(|runc| runc.is_file()).context("no runc on PATH")
}
