//! Terminals that every process has closed for a while, or that vhangup(2) took from them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, openpty};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::termios::tcgetwinsize;
use tempfile::TempDir;

use super::{Io, client, fifo, owner, private, read_now, read_to_end, read_until, run, streams, without_waiting};
use crate::io::Streams;

/// A terminal as a container has it, its echo on, and a client on its fifos.
struct Terminal {
    io: Io,
    name: PathBuf,
    keyboard: File,
    screen: File,
    _dir: TempDir,
}

impl Terminal {
    /// And its slave.
    async fn new() -> (Self, File) {
        let dir = private();
        let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
        let streams = Streams { terminal: true, ..streams(Some(&stdin), Some(&stdout)) };
        let (mut io, _) = Io::open(&streams, &owner()).await.unwrap();
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let name = nix::unistd::ttyname(&slave).unwrap();
        io.attach(master).unwrap();
        io.started();
        let screen = client(&stdout);
        let keyboard = OpenOptions::new().write(true).open(&stdin).unwrap();
        (Self { io, name, keyboard, screen, _dir: dir }, slave.into())
    }

    /// What a process does that opens the terminal again.
    fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.name).unwrap()
    }
}

/// How the last process lets go of a terminal: by close(2), or by vhangup(2) before it, as agetty(8) does.
fn let_go(mut slave: File, hang_up: bool) {
    if hang_up {
        vhangup(&slave);
        assert_eq!(slave.write(b"x").unwrap_err().raw_os_error(), Some(nix::libc::EIO));
    }
}

/// TIOCVHANGUP: that of any terminal, where vhangup(2) itself is for the caller's own.
#[allow(unsafe_code)] // an ioctl that nobody wraps
fn vhangup(slave: &File) {
    nix::ioctl_none_bad!(tiocvhangup, 0x5437);
    // SAFETY: the ioctl takes no argument.
    unsafe { tiocvhangup(slave.as_raw_fd()) }.unwrap();
}

#[test]
fn a_terminal_that_everybody_has_closed_is_written_to_again() {
    for hang_up in [false, true] {
        run(async {
            let (mut terminal, mut slave) = Terminal::new().await;
            for said in ["one", "two", "three"] {
                slave.write_all(said.as_bytes()).unwrap();
                read_until(&mut terminal.screen, said.as_bytes()).await;
                let_go(slave, hang_up);
                // Time in which a relay that took this for the end would end.
                tokio::time::sleep(Duration::from_millis(10)).await;
                slave = terminal.open();
            }
            slave.write_all(b"last words").unwrap();
            drop(slave);
            terminal.io.ended();
            assert_eq!(read_to_end(&mut terminal.screen).await, b"last words", "hung up: {hang_up}");
        });
    }
}

#[test]
fn what_is_typed_while_nobody_has_the_terminal_open_is_read_later() {
    for hang_up in [false, true] {
        run(async {
            let (mut terminal, slave) = Terminal::new().await;
            let_go(slave, hang_up);
            tokio::time::sleep(Duration::from_millis(10)).await;
            terminal.keyboard.write_all(b"typed\n").unwrap();
            terminal.io.resize(33, 121).unwrap();
            let mut slave = without_waiting(terminal.open());
            // A terminal hands over whole lines, and shows what is typed.
            terminal.keyboard.write_all(b"more\n").unwrap();
            read_until(&mut terminal.screen, b"more\r\n").await;
            assert_eq!(read_now(&mut slave).0, b"typed\nmore\n", "hung up: {hang_up}");
            let size = tcgetwinsize(&slave).unwrap();
            assert_eq!((size.ws_row, size.ws_col), (33, 121));
        });
    }
}

/// EPOLLHUP is reported as long as a master has no slave: a relay that goes on over it never sleeps.
#[test]
fn a_terminal_that_nobody_has_open_costs_nothing() {
    for hang_up in [false, true] {
        let (send, receive) = std::sync::mpsc::channel();
        // A thread that never sleeps does not see the end of its time either.
        std::thread::spawn(move || {
            run(async {
                let (mut terminal, slave) = Terminal::new().await;
                let_go(slave, hang_up);
                // More than the terminal takes in, so that input waits too.
                terminal.keyboard.write_all(&vec![b'\n'; 60_000]).unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                let before = cpu_time();
                tokio::time::sleep(Duration::from_millis(300)).await;
                send.send(cpu_time().checked_sub(before).unwrap()).unwrap();
            });
        });
        let used = receive.recv_timeout(Duration::from_secs(20)).expect("it never sleeps");
        assert!(used < Duration::from_millis(30), "{used:?} of 300 ms, hung up: {hang_up}");
    }
}

/// Of this thread, which is all that a test runs on.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::new(time.tv_sec().unsigned_abs(), 1000 * u32::try_from(time.tv_usec()).unwrap()))
        .sum()
}

#[test]
fn a_terminal_that_is_closed_when_the_process_ends_ends_at_once() {
    run(async {
        let (mut terminal, mut slave) = Terminal::new().await;
        slave.write_all(b"all").unwrap();
        drop(slave);
        read_until(&mut terminal.screen, b"all").await;
        terminal.io.ended();
        let asked = Instant::now();
        assert_eq!(read_to_end(&mut terminal.screen).await, b"");
        assert!(asked.elapsed() < Duration::from_millis(500), "took {:?}", asked.elapsed());
    });
}
