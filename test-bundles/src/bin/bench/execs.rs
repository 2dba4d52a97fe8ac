//! Execs of `/bin/true` in a container that sleeps: one by one, twenty at once, and what a thousand leave in memory.

use std::time::Instant;

use anyhow::Result;
use futures_util::future::try_join_all;
use test_bundles::measure;
use test_bundles::node::{Container, Shim};

use crate::figures::Unit;
use crate::subject::{BOTH, Bench, Side};

const AT_ONCE: usize = 20;
const AT_ONCE_ROUNDS: usize = 5;
const MANY: usize = 1000;

/// A shim of each with one container.
pub(crate) async fn measure(bench: &mut Bench, rounds: usize) -> Result<()> {
    let mut homes = Vec::new();
    for side in BOTH {
        let container = bench.node.container(&["/bin/sleep", "1000000"])?;
        let (shim, _) = side.context(bench.program(side).start(&bench.node, &container).await)?;
        side.context(shim.create_and_start(&container).await)?;
        homes.push((side, shim, container));
    }
    one_by_one(bench, &homes, rounds).await?;
    growth(bench, &homes).await?;
    at_once(bench, &homes).await?;
    for (side, shim, container) in homes {
        side.context(shim.end(&container.id).await)?;
        side.context(shim.shutdown(&container.id).await)?;
    }
    Ok(())
}

type Home = (Side, Shim, Container);

async fn one_by_one(bench: &mut Bench, homes: &[Home], rounds: usize) -> Result<()> {
    let process = bench.node.process(&["/bin/true"]);
    for round in 0..=rounds {
        for (side, shim, container) in homes {
            let before = bench.program(*side).cpu();
            let time = side.context(shim.run_exec(&container.id, &format!("e{round}"), &process).await)?;
            if round > 0 {
                bench.add_time(*side, "an exec of `/bin/true`, all four calls", time);
                bench.add_cpu(*side, "CPU of an exec", before);
            }
        }
    }
    Ok(())
}

async fn at_once(bench: &mut Bench, homes: &[Home]) -> Result<()> {
    let process = bench.node.process(&["/bin/true"]);
    let names: Vec<_> = (0..AT_ONCE).map(|nth| format!("a{nth}")).collect();
    for _ in 0..AT_ONCE_ROUNDS {
        for (side, shim, container) in homes {
            let began = Instant::now();
            let execs = names.iter().map(|name| shim.run_exec(&container.id, name, &process));
            side.context(try_join_all(execs).await)?;
            bench.add_time(*side, "20 execs at once", began.elapsed());
        }
    }
    Ok(())
}

async fn growth(bench: &mut Bench, homes: &[Home]) -> Result<()> {
    let process = bench.node.process(&["/bin/true"]);
    for (side, shim, container) in homes {
        measure::rest().await;
        let before = measure::memory(shim.pid)?.private_kb;
        for nth in 0..MANY {
            side.context(shim.run_exec(&container.id, &format!("m{nth}"), &process).await)?;
        }
        measure::rest().await;
        let after = measure::memory(shim.pid)?.private_kb;
        let growth = f64::from(after) - f64::from(before);
        bench.add(*side, "growth of private memory over 1000 execs", Unit::Kilobytes, growth);
    }
    Ok(())
}
