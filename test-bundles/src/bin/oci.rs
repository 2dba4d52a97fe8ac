//! An OCI command line over `runtime-core`, with runc's verbs and flags: it proves that the core stands without the shim,
//! and lets any OCI conformance suite drive it.
//!
//! The core's go-ahead for init is a socket that its parent holds (D3), but `oci create` must return while init waits. So
//! `create` leaves a keeper behind: the same program, detached, which is init's parent until the container is deleted.
//! Every other verb asks it through a socket in the state directory:
//!
//! ```text
//! oci create ──fork, exec──▶ oci keep ──runtime-core──▶ init
//!     └───── <root>/<id>/control.sock ──▲
//! oci start, state, kill, exec, … ──────┘
//! ```
//!
//! Reading order: [`arguments`] (what a user may say), [`client`] (the verbs), [`control`] (the socket), [`keeper`],
//! [`terminal`].
//!
//! Init stays the keeper's child: containerd's runc shim, which waits for init as its own adopted child, cannot be given this
//! program in runc's place.

#[path = "oci/arguments.rs"]
mod arguments;
#[path = "oci/client.rs"]
mod client;
#[path = "oci/control.rs"]
mod control;
#[path = "oci/descriptors.rs"]
#[allow(unsafe_code)] // takes descriptors by their numbers, before anybody has one
mod descriptors;
#[path = "oci/keeper.rs"]
mod keeper;
#[path = "oci/log.rs"]
mod log;
#[path = "oci/resources.rs"]
mod resources;
#[path = "oci/terminal.rs"]
mod terminal;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use arguments::Verb;

/// What is answered where the command line or the container's process made no code of its own; `exec` answers as runc does,
/// for a process that failed may have ended with 1.
const FAILED: u8 = 1;
const EXEC_FAILED: u8 = 255;

/// As the shim's: containers' processes have none of it. (Tests have threads.)
#[cfg(not(test))]
#[global_allocator]
static HEAP: runtime_core::heap::Heap = runtime_core::heap::Heap;

fn main() -> ExitCode {
    let (log, failed, result) = match arguments::parse(lexopt::Parser::from_env()) {
        Ok((global, verb)) => {
            let preserved = descriptors::take(verb.preserved());
            if let Some(log) = global.log.clone() {
                log.install();
            }
            let failed = if matches!(verb, Verb::Exec { .. }) { EXEC_FAILED } else { FAILED };
            (global.log.clone(), failed, preserved.and_then(|preserved| run(&global, verb, preserved)))
        }
        Err((log, error)) => (log, FAILED, Err(error)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("oci: {error}");
        if let Some(log) = log {
            log.write("error", &error.to_string());
        }
        ExitCode::from(failed)
    })
}

fn run(global: &arguments::Global, verb: Verb, preserved: Vec<OwnedFd>) -> runtime_core::Result<ExitCode> {
    match verb {
        Verb::Help => println!("{}", arguments::USAGE),
        Verb::Version => println!("oci version {}\nspec: {}", env!("CARGO_PKG_VERSION"), keeper::OCI_VERSION),
        Verb::Create(create) => client::create(global, &create, &preserved)?,
        Verb::Run(create) if create.detach => client::run_detached(global, &create, &preserved)?,
        Verb::Run(create) if create.keep => return client::run_kept(global, &create, &preserved),
        Verb::Run(create) => return client::run(global, &create, preserved),
        Verb::Start(id) => client::start(global, &id)?,
        Verb::State(id) => println!("{}", client::state(global, &id)?),
        Verb::Kill { id, signal, all } => client::kill(global, &id, signal, all)?,
        Verb::Delete { id, force } => client::delete(global, &id, force)?,
        Verb::Exec { id, exec } => return client::exec(global, &id, &exec, &preserved),
        Verb::Ps { id, json, arguments } => print!("{}", client::ps(global, &id, json, &arguments)?),
        Verb::List(form) => print!("{}", client::list(global, form)),
        Verb::Pause(id) => client::pause(global, &id)?,
        Verb::Resume(id) => client::resume(global, &id)?,
        Verb::Update { id, resources } => client::update(global, &id, resources)?,
        Verb::Features => println!("{}", runtime_core::features::document()),
        Verb::Keep(id) => keeper::keep(global, &id)?,
    }
    Ok(ExitCode::SUCCESS)
}
