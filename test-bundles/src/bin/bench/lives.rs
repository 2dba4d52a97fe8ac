//! Lives of `/bin/true`, each with a shim of its own: call by call, on a host with many mounts, and many at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use test_bundles::mounts::Mounts;
use test_bundles::node::{Node, Program, Streams};

use crate::figures::Unit;
use crate::subject::{BOTH, Bench};

const MORE_MOUNTS: u32 = 1000;
const AT_ONCE: u16 = 50;
const AT_ONCE_ROUNDS: usize = 3;

/// How long each part of a life took.
struct Life {
    start: Duration,
    create: Duration,
    release: Duration,
    delete: Duration,
    whole: Duration,
    action: Duration,
}

/// Start of the shim to its last word. The whole ends with Delete's answer: what follows, containerd does while nobody waits,
/// but for the `delete` action.
async fn life(node: &Node, program: &Program) -> Result<Life> {
    let container = node.container(&["/bin/true"])?;
    let began = Instant::now();
    let (shim, start) = program.start(node, &container).await?;
    let create = Instant::now();
    shim.create(&container, Streams::Null).await?;
    let create = create.elapsed();
    let waiting = tokio::spawn({
        let (shim, id) = (shim.clone(), container.id.clone());
        async move { shim.wait(&id, "").await }
    });
    // It is asked before Start is, as containerd does.
    tokio::task::yield_now().await;
    let release = Instant::now();
    shim.start(&container.id, "").await?;
    let release = release.elapsed();
    let status = waiting.await??;
    let delete = Instant::now();
    shim.delete(&container.id, "").await?;
    let (delete, whole) = (delete.elapsed(), began.elapsed());
    shim.shutdown(&container.id).await?;
    let action = program.delete(node, &container).await?;
    ensure!(status == 0, "/bin/true ended with {status}");
    Ok(Life { start, create, release, delete, whole, action })
}

pub(crate) async fn one_by_one(bench: &mut Bench, rounds: usize) -> Result<()> {
    for round in 0..=rounds {
        for side in BOTH {
            let before = bench.program(side).cpu();
            let life = side.context(life(&bench.node, bench.program(side)).await)?;
            // The first of each warms the caches.
            if round == 0 {
                continue;
            }
            bench.add_time(side, "shim's start to its first answer", life.start);
            bench.add_time(side, "Create", life.create);
            bench.add_time(side, "Start", life.release);
            bench.add_time(side, "Delete", life.delete);
            bench.add_time(side, "`delete` action", life.action);
            bench.add_time(side, "a whole life of `/bin/true`, its shim's included", life.whole);
            bench.add_cpu(side, "CPU of a life", before);
        }
    }
    Ok(())
}

pub(crate) async fn among_mounts(bench: &mut Bench, rounds: usize) -> Result<()> {
    let _mounts = Mounts::new(bench.node.dir(), MORE_MOUNTS)?;
    for round in 0..=rounds {
        for side in BOTH {
            let life = side.context(life(&bench.node, bench.program(side)).await)?;
            if round > 0 {
                bench.add_time(side, "Create, 1000 more mounts on the host", life.create);
            }
        }
    }
    Ok(())
}

pub(crate) async fn at_once(bench: &mut Bench) -> Result<()> {
    for _ in 0..AT_ONCE_ROUNDS {
        for side in BOTH {
            let began = Instant::now();
            let lives = (0..AT_ONCE).map(|_| life(&bench.node, bench.program(side)));
            side.context(try_join_all(lives).await)?;
            let rate = f64::from(AT_ONCE) / began.elapsed().as_secs_f64();
            bench.add(side, "50 lives at once", Unit::LivesPerSecond, rate);
        }
    }
    Ok(())
}
