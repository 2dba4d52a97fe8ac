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
//! Reading order: [`arguments`] (what a user may say), [`client`] (the verbs), [`control`] (the socket), [`keeper`].

#[path = "oci/arguments.rs"]
mod arguments;
#[path = "oci/client.rs"]
mod client;
#[path = "oci/control.rs"]
mod control;
#[path = "oci/keeper.rs"]
mod keeper;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use arguments::{Log, Verb};

fn main() -> ExitCode {
    let (log, result) = match arguments::parse(lexopt::Parser::from_env()) {
        Ok((global, verb)) => (global.log.clone(), run(&global, verb)),
        Err(error) => (None, Err(error)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("oci: {error}");
        if let Some(log) = log {
            record(&log, &error.to_string());
        }
        ExitCode::FAILURE
    })
}

fn run(global: &arguments::Global, verb: Verb) -> runtime_core::Result<ExitCode> {
    match verb {
        Verb::Help => println!("{}", arguments::USAGE),
        Verb::Create(create) => client::create(global, &create)?,
        Verb::Run(create) => return client::run(global, &create),
        Verb::Start(id) => client::start(global, &id)?,
        Verb::State(id) => println!("{}", client::state(global, &id)?),
        Verb::Kill { id, signal, all } => client::kill(global, &id, signal, all)?,
        Verb::Delete { id, force } => client::delete(global, &id, force)?,
        Verb::Exec { id, exec } => return client::exec(global, &id, &exec),
        Verb::Ps(id) => println!("{}", client::ps(global, &id)?),
        Verb::List => print!("{}", client::list(global)),
        Verb::Features => println!("{}", runtime_core::features::document()),
        Verb::Keep(id) => keeper::keep(global, &id)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Appends an error to the log file of `--log`. There is nobody left to tell when that fails, too.
fn record(log: &Log, message: &str) {
    let line = if log.json {
        serde_json::json!({ "level": "error", "msg": message }).to_string()
    } else {
        format!("level=error msg={message:?}")
    };
    let file = OpenOptions::new().create(true).append(true).open(&log.path);
    let _ = file.and_then(|mut file| writeln!(file, "{line}"));
}
