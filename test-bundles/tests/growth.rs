//! Cost does not grow with use: containers that come and go in one shim, execs by the thousand, pods by the hundred, mounts on
//! the host. Asserted of memory, descriptors, threads and system calls; times are printed, of the first and the last hundred.
//!
//! `GROWTH=full` does as many as a busy node, in some minutes; without it a short form takes seconds.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use test_bundles::measure;
use test_bundles::mounts::{Mounts, unshare_mounts};
use test_bundles::node::{Container, Node, Program, Shim, Streams};
use test_bundles::strace::{self, Calls, Strace};

/// What a thousand operations may leave in a shim's memory.
const KB_PER_THOUSAND: usize = 50;
/// What an allocator may have taken in between that it has not given back.
const SLACK_KB: usize = 40;
/// After so many its heap is as large as the work wants it.
const HUNDRED: usize = 100;
const AT_ONCE: usize = 20;
/// By how much the heap may be larger after the fourth time than in the first: what is free of it is used again.
const MORE_KB: usize = 256;
const MORE_MOUNTS: u32 = 1000;
/// Of which the time is the median.
const CREATES: usize = 40;

/// How often: in full, or in short and less on a slower machine; at least a first and a last hundred.
fn times(full: usize, short: usize) -> usize {
    let slower = usize::try_from(test_bundles::slower()).unwrap();
    let is_full = std::env::var("GROWTH").is_ok_and(|value| value == "full");
    if is_full { full } else { (short / slower).max(2 * HUNDRED) }
}

async fn sleeper(node: &Node, program: &Program) -> (Shim, Container) {
    let container = node.container(&["/bin/sleep", "1000000"]).unwrap();
    let (shim, _) = program.start(node, &container).await.unwrap();
    shim.create_and_start(&container).await.unwrap();
    (shim, container)
}

async fn end(shim: Shim, container: &Container) {
    shim.end(&container.id).await.unwrap();
    shim.shutdown(&container.id).await.unwrap();
}

/// What is compared of a shim.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory_kb: usize,
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn by(shim: &Shim) -> Self {
        Self {
            memory_kb: measure::memory(shim.pid).unwrap().anonymous_kb.try_into().unwrap(),
            descriptors: measure::descriptors(shim.pid).unwrap(),
            threads: measure::threads(shim.pid).unwrap(),
        }
    }

    #[track_caller]
    fn assert_has_not_grown(self, first: Self, operations: usize) {
        // Fewer are fine: on cgroup v1 the host runs out of inotify instances before it runs out of pods.
        assert!(self.descriptors <= first.descriptors, "{} descriptors were {}", self.descriptors, first.descriptors);
        assert!(self.threads <= first.threads, "{} threads were {}", self.threads, first.threads);
        let allowed = SLACK_KB + KB_PER_THOUSAND * operations / 1000;
        let grown = self.memory_kb.saturating_sub(first.memory_kb);
        assert!(grown <= allowed, "{grown} kB more after {operations} more, and {allowed} kB are allowed");
    }
}

fn report(what: &str, times: &[Duration], first: Held, last: Held) {
    let mean = |times: &[Duration]| times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap();
    let (early, late) = (mean(&times[..HUNDRED]), mean(&times[times.len() - HUNDRED..]));
    println!("{} {what}: the first hundred {early:.2?} each, {first:?}", times.len());
    println!("    the last hundred {late:.2?} each, {last:?}");
}

/// Does `operation` again and again in one shim.
async fn again_and_again(what: &str, shim: &Shim, count: usize, operation: impl AsyncFn(usize)) {
    let mut times = Vec::new();
    let mut first = None;
    for nth in 0..count {
        let began = Instant::now();
        operation(nth).await;
        times.push(began.elapsed());
        if times.len() == HUNDRED {
            measure::rest().await;
            first = Some(Held::by(shim));
        }
    }
    measure::rest().await;
    let (first, last) = (first.expect("at least a hundred"), Held::by(shim));
    report(what, &times, first, last);
    last.assert_has_not_grown(first, count - HUNDRED);
}

#[tokio::test]
async fn containers_that_come_and_go() {
    let node = Node::new().await.unwrap();
    let (shim, container) = sleeper(&node, &Program::ours().unwrap()).await;
    again_and_again("containers", &shim, times(500, 200), async |_| {
        let container = node.container(&["/bin/true"]).unwrap();
        shim.create_and_start(&container).await.unwrap();
        shim.wait(&container.id, "").await.unwrap();
        shim.delete(&container.id, "").await.unwrap();
    })
    .await;
    end(shim, &container).await;
    node.finish().unwrap();
}

#[tokio::test]
async fn execs_by_the_thousand() {
    let node = Node::new().await.unwrap();
    let (shim, container) = sleeper(&node, &Program::ours().unwrap()).await;
    let process = node.process(&["/bin/true"]);
    again_and_again("execs", &shim, times(10_000, 1000), async |nth| {
        shim.run_exec(&container.id, &format!("e{nth}"), &process).await.unwrap();
    })
    .await;
    end(shim, &container).await;
    node.finish().unwrap();
}

/// Of what they take only the heap's end goes back to the kernel, for pieces that stay lie among those that go; but they take it once.
#[tokio::test]
async fn execs_at_once_take_no_more_the_next_time() {
    let node = Node::new().await.unwrap();
    let (shim, container) = sleeper(&node, &Program::ours().unwrap()).await;
    let process = node.process(&["/bin/true"]);
    let names: Vec<_> = (0..AT_ONCE).map(|nth| format!("a{nth}")).collect();
    let mut held = Vec::new();
    for _ in 0..4 {
        try_join_all(names.iter().map(|name| shim.run_exec(&container.id, name, &process))).await.unwrap();
        held.push(Held::by(&shim));
    }
    measure::rest().await;
    let last = Held::by(&shim);
    println!("{AT_ONCE} execs at once, four times: {held:?}, and at rest {last:?}");
    let more = last.memory_kb.saturating_sub(held[0].memory_kb);
    assert!(more <= MORE_KB, "{more} kB more than the first time, and {MORE_KB} kB are allowed");
    end(shim, &container).await;
    node.finish().unwrap();
}

/// The last has what the first has, and of all of them nothing is left.
#[tokio::test]
async fn pods_by_the_hundred() {
    let node = Node::new().await.unwrap();
    let program = Program::ours().unwrap();
    let (mut pods, mut times_taken) = (Vec::new(), Vec::new());
    for _ in 0..times(300, 200) {
        let began = Instant::now();
        pods.push(sleeper(&node, &program).await);
        times_taken.push(began.elapsed());
    }
    let largest = |pods: &[(Shim, Container)]| {
        let held = pods.iter().map(|(shim, _)| Held::by(shim)).collect::<Vec<_>>();
        let most = |what: fn(&Held) -> usize| held.iter().map(what).max().unwrap();
        Held { memory_kb: most(|h| h.memory_kb), descriptors: most(|h| h.descriptors), threads: most(|h| h.threads) }
    };
    measure::rest().await;
    let (first, last) = (largest(&pods[..HUNDRED]), largest(&pods[pods.len() - HUNDRED..]));
    report("pods at once, and the most that one of them has", &times_taken, first, last);
    last.assert_has_not_grown(first, 0);
    for (shim, container) in pods {
        end(shim, &container).await;
    }
    node.finish().unwrap();
}

/// The system calls of a Create in a shim that has created before, and the time of one that is not traced.
async fn create(node: &Node) -> (Calls, Duration) {
    let (shim, home) = sleeper(node, &Program::ours().unwrap()).await;
    let mut times = [Duration::ZERO; CREATES];
    for time in &mut times {
        let container = node.container(&["/bin/true"]).unwrap();
        let began = Instant::now();
        shim.create(&container, Streams::Null).await.unwrap();
        *time = began.elapsed();
        shim.end(&container.id).await.unwrap();
    }
    times.sort();
    let container = node.container(&["/bin/true"]).unwrap();
    let trace = Strace::attach(shim.pid).unwrap();
    shim.create(&container, Streams::Null).await.unwrap();
    let mut calls = trace.finish().unwrap();
    // Init's last is its wait for Start, which may not have begun yet.
    calls.children.remove("read");
    shim.end(&container.id).await.unwrap();
    end(shim, &home).await;
    (calls, times[CREATES / 2])
}

#[tokio::test]
async fn a_create_among_many_mounts_makes_no_more_calls() {
    if let Some(reason) = strace::missing() {
        println!("skipped: {reason}");
        return;
    }
    unshare_mounts().unwrap();
    let node = Node::new().await.unwrap();
    let (few, before) = create(&node).await;
    let mounts = Mounts::new(node.dir(), MORE_MOUNTS).unwrap();
    let (many, after) = create(&node).await;
    drop(mounts);
    println!("Create: {before:.2?}, and {after:.2?} with {MORE_MOUNTS} more mounts on the host (medians of {CREATES})");
    assert_eq!(many.children, few.children);
    // To read of as many mounts takes dozens; a wake-up of its own is a write or none, by chance.
    assert!(many.own_sum().abs_diff(few.own_sum()) <= 4, "{few:?}, then {many:?}");
    node.finish().unwrap();
}
