//! `containerd-shim-myshim-v2`: containerd starts this program, once per pod to make a server (`start`), and again to clear
//! up after one that died (`delete`). Without a verb it is that server.
//!
//! Reading order: [`bootstrap`] (what containerd says and wants to hear), [`start`] (the socket, the sealed server),
//! [`serve`] (the server's life), [`service`] and [`sandbox`] (what it serves), [`publisher`] (events back to containerd), [`delete`].
//!
//! One binary for every containerd from 1.6 on (D11). Whatever `start` writes to stderr is the sentence its user reads, and
//! a single byte there spoils a good answer: only an error is ever written.

mod bootstrap;
mod delete;
#[allow(unsafe_code)]
mod descriptors;
mod error;
mod flags;
mod idle;
mod info;
mod io;
mod lifecycle;
mod logger;
mod metrics;
mod options;
mod plan;
mod publisher;
mod sandbox;
mod seal;
mod serve;
mod service;
mod start;
mod task;
mod transport;

use std::io::Write;
use std::process::ExitCode;

use runtime_core::{Error, Kind, Result};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::flags::Flags;

/// The name of the program, as containerd derives it from the runtime's.
const PROGRAM: &str = "containerd-shim-myshim-v2";

/// The name of the runtime, as users give it to containerd.
const RUNTIME: &str = "io.containerd.myshim.v2";

/// Forked children have none of it. (Tests have threads.)
#[cfg(not(test))]
#[global_allocator]
static HEAP: runtime_core::heap::Heap = runtime_core::heap::Heap;

fn main() -> ExitCode {
    logger::catch_panics();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            // Nobody is left to tell when even stderr fails.
            let _ = writeln!(std::io::stderr(), "{PROGRAM}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let flags = Flags::parse(std::env::args_os().skip(1))?;
    if flags.help {
        return print(info::help().as_bytes());
    }
    if flags.version {
        return print(info::version().as_bytes());
    }
    if flags.info {
        return info::info();
    }
    // None of these is inlined: this frame is the server's stack from first to last, and what is touched of that is copied after
    // each fork. The same holds for the parts of the actor's loop.
    match flags.verb.as_deref() {
        None => serve::serve(&flags.identified()?),
        Some("start") => {
            descriptors::close_inherited();
            start::start(&flags.identified()?)
        }
        Some("delete") => delete::delete(&flags.identified()?),
        Some("plan") => plan::plan(&flags.operands),
        Some("help") => print(info::help().as_bytes()),
        Some(other) => Err(Error::new(Kind::Invalid, format!("unknown command {other:?}; -h tells which there are"))),
    }
}

/// One thread's event loop (D4), for tasks that stay on it. (A `LocalSet` is polled by `block_on`, which is woken through an
/// eventfd: some twenty system calls an exec.)
fn event_loop() -> Result<LocalRuntime> {
    let made = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    made.map_err(|e| Error::io("make the event loop", &e))
}

/// Writes all of `bytes` to stdout.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| Error::io("write to stdout", &e))
}
