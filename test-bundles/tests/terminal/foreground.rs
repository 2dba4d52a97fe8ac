//! `run` and `exec` by a caller that waits for their end: the terminal is relayed to the caller's own stdio.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use rustix::io::ioctl_fionbio;
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;
use test_bundles::bundle::{Bundle, ours};

use super::may_hang_up;

/// The runtime, called by somebody who has a terminal of 33 lines and 111 columns.
struct Called {
    child: Child,
    /// The caller's terminal, and its settings as they were.
    terminal: File,
    before: Termios,
    keyboard: Box<dyn Write>,
    /// What came to the terminal, and elsewhere.
    elsewhere: PipeReader,
    shown: String,
    written: String,
}

impl Called {
    /// `streams` says of stdin, stdout and stderr whether each is the terminal (`t`) or a pipe.
    fn new(bundle: &Bundle, streams: &str, arguments: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        tcsetwinsize(&master, size(33, 111)).unwrap();
        let (input, typed): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
        let (elsewhere, output) = std::io::pipe().unwrap();

        let is_terminal: Vec<bool> = streams.chars().map(|letter| letter == 't').collect();
        // A session of its own, as timeout(1) would put it into the background of the terminal.
        let mut command = Command::new("setsid");
        command.args(is_terminal[0].then_some("--ctty")).arg("--wait");
        command.args(bundle.command().get_args().skip(2)).args(arguments);
        let terminal = || slave.try_clone().unwrap();
        command.stdin(if is_terminal[0] { terminal() } else { input.into() });
        command.stdout(if is_terminal[1] { terminal() } else { output.try_clone().unwrap().into() });
        command.stderr(if is_terminal[2] { terminal() } else { output.into() });
        let child = command.spawn().unwrap();

        let terminal = File::from(master);
        let keyboard: Box<dyn Write> =
            if is_terminal[0] { Box::new(terminal.try_clone().unwrap()) } else { Box::new(typed) };
        ioctl_fionbio(&terminal, true).unwrap();
        ioctl_fionbio(&elsewhere, true).unwrap();
        let (shown, written) = (String::new(), String::new());
        Self { child, terminal, before, keyboard, elsewhere, shown, written }
    }

    fn run(bundle: &Bundle, streams: &str, flags: &[&str]) -> Self {
        let path = bundle.path().to_str().unwrap();
        Self::new(bundle, streams, &[&["run", "--bundle", path], flags, &[bundle.id()]].concat())
    }

    fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for something to be so, doing `meanwhile` now and then.
    fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !so(self) {
            self.look();
            if start.elapsed() > Duration::from_mins(1) {
                self.child.kill().unwrap();
                panic!("not {what}: {:?} {:?}", self.shown, self.written);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_shown(&mut self, text: &str) {
        self.until(text, |called| called.shown.contains(text) || called.written.contains(text));
    }

    fn until_raw(&mut self) {
        self.until("raw", |called| {
            let modes = tcgetattr(&called.terminal).unwrap().local_modes;
            !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
        });
    }

    /// The exit code, once the runtime has ended and the caller's terminal is as it was.
    fn end(&mut self) -> i32 {
        let mut status = None;
        self.until("ended", |called| {
            status = called.child.try_wait().unwrap();
            status.is_some()
        });
        self.look();
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(modes(&after), modes(&self.before), "the caller's terminal");
        let status = status.unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    fn look(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = self.terminal.read(&mut bytes) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        while let Ok(count @ 1..) = self.elsewhere.read(&mut bytes) {
            self.written.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn modes(settings: &Termios) -> [u32; 4] {
    [
        settings.input_modes.bits(),
        settings.output_modes.bits(),
        settings.control_modes.bits(),
        settings.local_modes.bits(),
    ]
}

/// Types lines until the process has said that its terminal has this size: runc sets it when the process runs already.
fn type_until(called: &mut Called, said: &str) {
    called.until(said, |called| {
        called.type_in("x\n");
        called.shown.contains(said) || called.written.contains(said)
    });
}

#[test]
fn stdin_and_stdout_are_relayed_whatever_they_are() {
    for streams in ["ttt", "tpp", "ptp", "ppt"] {
        let mut bundle = Bundle::new("terminal");
        bundle.probe(&["tty-sizes"]);
        let mut called = Called::run(&bundle, streams, &[]);
        called.until_raw();
        type_until(&mut called, "[33,111]");
        called.type_in("\x04");
        assert_eq!(called.end(), 0, "{streams}");
        // Line ends are the caller's terminal's.
        let to_terminal = &streams[1..2] == "t";
        let (said, nothing, end) =
            if to_terminal { (&called.shown, &called.written, "\r\n") } else { (&called.written, &called.shown, "\n") };
        assert_eq!(nothing, "", "{streams}");
        assert!(said.contains(&format!("x{end}")), "{streams}: {said:?}");
        assert!(!ours() || said.replace(&format!("x{end}"), "").starts_with("[33,111]"), "{streams}: {said:?}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_new_size_of_the_callers_terminal_is_the_containers() {
    let mut bundle = Bundle::new("terminal");
    bundle.probe(&["tty-sizes"]);
    let mut called = Called::run(&bundle, "ttt", &[]);
    type_until(&mut called, "[33,111]");
    tcsetwinsize(&called.terminal, size(44, 99)).unwrap();
    type_until(&mut called, "[44,99]");
    called.type_in("\x04");
    assert_eq!(called.end(), 0);
}

#[test]
fn a_terminal_that_was_closed_or_hung_up_comes_back() {
    let mut bundle = Bundle::new("terminal");
    may_hang_up(&mut bundle);
    bundle.probe(&["tty-comes-back"]);
    let mut called = Called::run(&bundle, "ttt", &[]);
    called.until_shown("three");
    called.type_in("typed\n");
    assert_eq!(called.end(), 0, "{}", called.shown);
    // A hang-up sets a terminal back: it makes line ends again, as the caller's does.
    let shown = called.shown.replace("\r\r", "\r");
    assert_eq!(shown, "one\r\ntwo\r\nthree\r\ntyped\r\nit heard typed\r\n");
}

#[test]
fn an_exec_in_the_foreground_has_the_callers_terminal() {
    let mut bundle = Bundle::new("terminal");
    bundle.config["process"]["terminal"] = json!(false);
    bundle.probe(&["sleep"]);
    bundle.start();
    let mut called = Called::new(&bundle, "ttt", &["exec", "--tty", bundle.id(), "/probe", "tty-sizes"]);
    called.until_raw();
    type_until(&mut called, "[33,111]");
    called.type_in("\x04");
    assert_eq!(called.end(), 0);
    assert!(!ours() || called.shown.replace("x\r\n", "").starts_with("[33,111]"), "{:?}", called.shown);
    let mut called = Called::new(&bundle, "ptp", &["exec", "--tty", bundle.id(), "/probe", "exit", "7"]);
    assert_eq!(called.end(), 7);
    let mut called = Called::new(&bundle, "ttt", &["exec", "--tty", bundle.id(), "/not/there"]);
    assert_eq!(called.end(), 255);
}

#[test]
fn a_signal_to_the_caller_is_the_processs() {
    let mut bundle = Bundle::new("terminal");
    bundle.config["process"]["terminal"] = json!(false);
    bundle.probe(&["sleep"]);
    bundle.start();
    let mut called = Called::new(&bundle, "ttt", &["exec", "--tty", bundle.id(), "/probe", "sleep"]);
    called.until_raw();
    let runtime = nix::unistd::Pid::from_raw(i32::try_from(called.child.id()).unwrap());
    let mut sent = 0;
    called.until("ended by a signal", |called| {
        // What listens for it may be set up last.
        sent += i32::from(kill(runtime, Signal::SIGTERM).is_ok());
        called.child.try_wait().unwrap().is_some()
    });
    assert_eq!((called.end(), sent > 0), (128 + Signal::SIGTERM as i32, true));
}

#[test]
fn a_container_that_is_killed_gives_the_terminal_back() {
    for flags in [&[][..], &["--keep"]] {
        if !ours() && !flags.is_empty() {
            continue;
        }
        let mut bundle = Bundle::new("terminal");
        bundle.probe(&["sleep"]);
        let mut called = Called::run(&bundle, "ttt", flags);
        called.until_raw();
        called.until("running", |_| bundle.call(&["kill", bundle.id(), "KILL"]).status == 0);
        assert_eq!(called.end(), 128 + Signal::SIGKILL as i32, "{flags:?}: {}", called.shown);
    }
}

#[test]
fn the_terminal_of_a_detached_process_needs_a_socket() {
    let mut bundle = Bundle::new("terminal");
    let refused = |bundle: &Bundle, arguments: &[&str]| {
        let ran = bundle.call(arguments);
        assert_ne!(ran.status, 0, "{arguments:?}");
        assert!(ran.stderr.replace('-', " ").contains("console socket"), "{arguments:?}: {}", ran.stderr);
    };
    let path = bundle.path().to_str().unwrap().to_owned();
    let id = bundle.id().to_owned();
    refused(&bundle, &["create", "--bundle", &path, &id]);
    refused(&bundle, &["run", "--detach", "--bundle", &path, &id]);
    // And one in the foreground has no use for one.
    refused(&bundle, &["run", "--console-socket", "/not/reached", "--bundle", &path, &id]);
    bundle.config["process"]["terminal"] = json!(false);
    refused(&bundle, &["run", "--detach", "--console-socket", "/not/reached", "--bundle", &path, &id]);
    bundle.assert_nothing_left();
    bundle.probe(&["sleep"]);
    bundle.start();
    refused(&bundle, &["exec", "--detach", "--tty", &id, "/probe"]);
    refused(&bundle, &["exec", "--tty", "--console-socket", "/not/reached", &id, "/probe"]);
    refused(&bundle, &["exec", "--detach", "--console-socket", "/not/reached", &id, "/probe"]);
}

#[test]
fn a_caller_without_any_terminal_cannot_have_one() {
    let bundle = Bundle::new("terminal");
    let mut called = Called::run(&bundle, "ppp", &[]);
    assert_ne!(called.end(), 0);
    assert!(called.written.contains("/dev/tty"), "{}", called.written);
    bundle.assert_nothing_left();
}
