//! What the release shim may cost, counted and not timed: a change that costs more fails here, and says so by raising a number.
//!
//! Memory, size and system calls are asserted of a release binary only: a debug one is larger, and its standard library
//! checks every descriptor that it closes. `make test` tests the release binary.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use test_bundles::cgroups::either;
use test_bundles::measure;
use test_bundles::node::{Container, Node, Program, Shim, Streams};
use test_bundles::strace::{self, Calls, Strace};

const THREADS: usize = 1;
/// Without a container, and with one.
const DESCRIPTORS: [usize; 2] = [13, 17];
const BINARY_BYTES: u64 = 3_950_000;

/// Of a pod with one container that is left in peace, the mean of [`PODS`].
const PRIVATE_KB: u32 = 240;
/// Where the release is linked with glibc, for want of musl.
const PRIVATE_KB_WITH_GLIBC: u32 = 260;
const PSS_KB: u32 = 620;
const PODS: u32 = 10;

/// System calls of the shim itself, and of its children until they execute the program; cgroup v1 has a directory for each
/// controller, where v2 has one.
struct SystemCalls {
    what: &'static str,
    own: u32,
    children: u32,
}

const SYSTEM_CALLS: [SystemCalls; 3] = [
    SystemCalls { what: "Create", own: 225, children: 600 },
    SystemCalls { what: "exec, all four calls", own: 90, children: 165 },
    SystemCalls { what: "Delete", own: 46, children: 0 },
];

/// Cargo puts its debug binaries into a directory of that name.
fn is_release(program: &Program) -> bool {
    let release = program.path.parent().is_some_and(|dir| !dir.ends_with("debug"));
    if !release {
        println!("skipped: {} is a debug binary", program.path.display());
    }
    release
}

/// glibc marks its programs with the note NT_GNU_ABI_TAG of elf.h: the lengths of name and text, 1, and the name.
fn is_of_glibc(program: &Program) -> bool {
    let tag = b"\x04\0\0\0\x10\0\0\0\x01\0\0\0GNU\0";
    std::fs::read(&program.path).unwrap().windows(tag.len()).any(|bytes| bytes == tag)
}

async fn pod(node: &Node, program: &Program) -> (Shim, Container) {
    let container = node.container(&["/bin/sleep", "1000000"]).unwrap();
    let (shim, _) = program.start(node, &container).await.unwrap();
    shim.create_and_start(&container).await.unwrap();
    (shim, container)
}

async fn end((shim, container): (Shim, Container)) {
    shim.end(&container.id).await.unwrap();
    shim.shutdown(&container.id).await.unwrap();
}

#[tokio::test]
async fn threads_and_descriptors() {
    let (node, program) = (Node::new().await.unwrap(), Program::ours().unwrap());
    let container = node.container(&["/bin/sleep", "1000000"]).unwrap();
    let (shim, _) = program.start(&node, &container).await.unwrap();
    let held = || (measure::threads(shim.pid).unwrap(), measure::descriptors(shim.pid).unwrap());
    let idle = held();
    shim.create_and_start(&container).await.unwrap();
    let with_one = held();
    println!("threads and descriptors: {idle:?} without a container, {with_one:?} with one");
    end((shim, container)).await;
    node.finish().unwrap();
    for ((threads, descriptors), budget) in [idle, with_one].into_iter().zip(DESCRIPTORS) {
        assert!(threads <= THREADS && descriptors <= budget, "{threads}, {descriptors} of {budget}");
    }
}

#[tokio::test]
async fn memory_of_a_pod() {
    let (node, program) = (Node::new().await.unwrap(), Program::ours().unwrap());
    let mut pods = Vec::new();
    for _ in 0..PODS {
        pods.push(pod(&node, &program).await);
    }
    measure::rest().await;
    let each: Vec<_> = pods.iter().map(|(shim, _)| measure::memory(shim.pid).unwrap()).collect();
    for pod in pods {
        end(pod).await;
    }
    node.finish().unwrap();
    let private_kb = each.iter().map(|memory| memory.private_kb).sum::<u32>() / PODS;
    let pss_kb = each.iter().map(|memory| memory.pss_kb).sum::<u32>() / PODS;
    println!("memory of a pod, mean of {PODS}: {private_kb} kB private, PSS {pss_kb} kB");
    if is_release(&program) {
        let budget = if is_of_glibc(&program) { PRIVATE_KB_WITH_GLIBC } else { PRIVATE_KB };
        assert!(private_kb <= budget, "{private_kb} kB private, of {budget}");
        assert!(pss_kb <= PSS_KB, "PSS {pss_kb} kB, of {PSS_KB}");
    }
}

#[test]
fn binary() {
    let program = Program::ours().unwrap();
    let bytes = program.size().unwrap();
    println!("binary: {bytes} bytes");
    if is_release(&program) {
        assert!(bytes <= BINARY_BYTES, "{bytes} bytes, of {BINARY_BYTES}");
    }
}

#[tokio::test]
async fn system_calls() {
    if let Some(reason) = strace::missing() {
        println!("skipped: {reason}");
        return;
    }
    let (node, program) = (Node::new().await.unwrap(), Program::ours().unwrap());
    let (shim, home) = pod(&node, &program).await;
    let process = node.process(&["/bin/true"]);
    // What happens once in a shim's life has happened with the first of each.
    shim.run_exec(&home.id, "first", &process).await.unwrap();
    let container = node.container(&["/bin/true"]).unwrap();

    let trace = Strace::attach(shim.pid).unwrap();
    shim.create(&container, Streams::Null).await.unwrap();
    let create = trace.finish().unwrap();
    shim.start(&container.id, "").await.unwrap();
    shim.wait(&container.id, "").await.unwrap();
    let trace = Strace::attach(shim.pid).unwrap();
    shim.delete(&container.id, "").await.unwrap();
    let delete = trace.finish().unwrap();
    let trace = Strace::attach(shim.pid).unwrap();
    shim.run_exec(&home.id, "second", &process).await.unwrap();
    let exec = trace.finish().unwrap();
    end((shim, home)).await;
    node.finish().unwrap();

    let version = either("v1", "v2");
    for (calls, budget) in [create, exec, delete].iter().zip(SYSTEM_CALLS) {
        let (own, children) = (calls.own_sum(), calls.children_sum());
        println!("system calls of {} on cgroup {version}: {own}, and {children} of its children", budget.what);
        if is_release(&program) {
            within(calls, &budget);
        }
    }
}

fn within(calls: &Calls, budget: &SystemCalls) {
    let (own, children, what) = (calls.own_sum(), calls.children_sum(), budget.what);
    assert!(own <= budget.own, "{what}: {own} of {}: {:?}", budget.own, calls.own);
    assert!(children <= budget.children, "{what}: {children} of {} by children: {:?}", budget.children, calls.children);
}
