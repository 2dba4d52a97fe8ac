//! The program that the test bundles run inside their containers: it says what it sees, or does one small thing.
//!
//! `probe` alone prints one JSON document of everything a process can see of its container (see [`seen`]); with arguments
//! it does what the tests need done from inside (see [`act`]). It is static and needs nothing but itself: it is the only
//! file of an empty rootfs, and where /proc is missing the fields that come from it are null.
//!
//! There is no Rust `main`: the standard library's start-up ignores SIGPIPE and opens /dev/null on closed descriptors,
//! and would thereby report its own doing as the runtime's.

#![no_main]

#[path = "probe/act.rs"]
mod act;
#[path = "probe/attack.rs"]
mod attack;
#[path = "probe/keyring.rs"]
#[allow(unsafe_code)] // two system calls of keyctl(2)
mod keyring;
#[path = "probe/procfs.rs"]
mod procfs;
#[path = "probe/seen.rs"]
mod seen;
#[path = "probe/terminal.rs"]
#[allow(unsafe_code)] // vhangup(2)
mod terminal;

use std::ffi::{c_char, c_int};
use std::io::Write;

const USAGE: &str = "usage: probe [exit N | signal N | sleep | fork-orphan | fork N | allocate MIB | spin | write-through PATH MIB | nest | hook NAME FILE | env NAME | tty-size | tty-sizes | tty-comes-back | \
    read PATH… | write PATH… | list PATH… | stat PATH… | syscall NAME… | escape PATH… | beneath PATH… | spy | watch HOST-PATH ALLOWED TIMES | kill-all]";

/// What libc's start-up calls.
// SAFETY: this is the program's only `main`, and has the signature that libc calls.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let answer = if arguments.is_empty() { Some(seen::document()) } else { act::act(&arguments) };
    match answer.map(|document| writeln!(std::io::stdout(), "{document}")) {
        Some(Ok(())) => 0,
        Some(Err(_)) => 1,
        None => {
            eprintln!("{USAGE}");
            2
        }
    }
}
