//! What SIGUSR1 has the server write to its log: all that it knows of its containers, and what it holds. For whoever looks
//! into a pod that does not do what it should. Nothing in it waits for a container: it shows what clients may see.

use std::fmt::Write;

use crate::lifecycle::INIT;
use crate::sandbox::Sandbox;
use crate::task::{ProcessView, Task, Tasks};

/// Logs one line of the whole, one of the sandbox if there is one, and one per container.
pub(super) async fn dump(tasks: &Tasks, sandbox: &Sandbox, pending: usize) {
    let all = tasks.all().await;
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    log::info!("state: {} containers, {pending} events to deliver, {descriptors} descriptors open", all.len());
    if let Some(sandbox) = sandbox.described() {
        log::info!("{sandbox}");
    }
    for (id, task) in all {
        log::info!("container {id}: {}", described(&task));
    }
}

/// `bundle /run/b: init running, pid 12; exec e1 stopped with status 3, pid 15`.
fn described(task: &Task) -> String {
    let processes = task.processes();
    let mut text = format!("bundle {}: ", task.bundle());
    if processes.is_empty() {
        text.push_str("being created");
    }
    for (nth, (id, process)) in processes.iter().enumerate() {
        let name = if id == INIT { "init".to_owned() } else { format!("exec {id}") };
        let separator = if nth == 0 { "" } else { "; " };
        // A String takes all that is written to it.
        let _ = write!(text, "{separator}{name} {}", stand(process));
    }
    text
}

fn stand(process: &ProcessView) -> String {
    let status = format!("{:?}", process.status).to_lowercase();
    let exit = process.exit.borrow().map(|exit| format!(" with status {}", exit.status)).unwrap_or_default();
    format!("{status}{exit}, pid {}", process.pid)
}
