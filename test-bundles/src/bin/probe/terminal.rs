//! What programs do to their terminal: look at its size, close it and open it again, hang it up.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::{errno::Errno, libc, unistd};
use serde_json::{Value, json};

/// Rows and columns where the descriptor is a terminal, else null.
pub(crate) fn size(fd: impl AsFd) -> Value {
    json!(rustix::termios::tcgetwinsize(fd).ok().map(|size| [size.ws_row, size.ws_col]))
}

/// Says the size, and again for every line that is typed.
pub(crate) fn sizes() -> ! {
    println!("{}", size(io::stdin()));
    for _ in io::stdin().lock().lines() {
        println!("{}", size(io::stdin()));
    }
    exit(0)
}

/// As systemd does at boot, which opens its console for each line that it writes, and agetty(8), which hangs it up before.
/// Says `one`, `two`, `three`, each after all descriptors were closed for a while, and what it hears then.
pub(crate) fn comes_back() -> ! {
    exit(match close_and_open() {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(1),
    })
}

fn close_and_open() -> io::Result<()> {
    let terminal = unistd::ttyname(io::stdin())?;
    println!("one");
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&nothing)?;
    unistd::dup2_stdout(&nothing)?;
    unistd::dup2_stderr(&nothing)?;
    wait_a_while();
    open(&terminal)?.write_all(b"two\n")?;
    wait_a_while();

    // A hang-up is told to the session's leader, which we are.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGHUP);
    signals.thread_block()?;
    // SAFETY: takes nothing.
    Errno::result(unsafe { libc::vhangup() })?;
    wait_a_while();
    open(&terminal)?.write_all(b"three\n")?;
    wait_a_while();

    let mut line = String::new();
    BufReader::new(open(&terminal)?).read_line(&mut line)?;
    write!(open(&terminal)?, "it heard {line}")
}

fn open(terminal: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(terminal)
}

/// In which whoever reads the terminal may see that it is closed.
fn wait_a_while() {
    std::thread::sleep(Duration::from_millis(50));
}
