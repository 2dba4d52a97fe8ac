//! On real fifos, terminals and loggers.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, openpty};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use runtime_core::{Kind, Stdio};
use rustix::fs::OFlags;
use rustix::termios::tcgetwinsize;
use tempfile::TempDir;

use super::{Io, Owner, Streams};

mod copied;
mod hangup;

const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Runs one test as the server runs: one thread, local tasks; no test may hang.
fn run(test: impl Future<Output = ()>) {
    let limited = async { tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs") };
    crate::event_loop().unwrap().block_on(limited);
}

fn owner() -> Owner {
    Owner { id: "c1".into(), namespace: "test".into(), uid: 0, gid: 0 }
}

/// A directory that keeps others out, as containerd's for fifos are.
fn private() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn fifo(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.path().join(name);
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

fn streams(stdin: Option<&Path>, stdout: Option<&Path>) -> Streams {
    let text = |path: Option<&Path>| path.map(|p| p.display().to_string()).unwrap_or_default();
    Streams { stdin: text(stdin), stdout: text(stdout), ..Streams::default() }
}

async fn open(streams: &Streams) -> (Io, [File; 3]) {
    let (io, stdio) = Io::open(streams, &owner()).await.unwrap();
    let Stdio::Files(files) = stdio else { panic!("no terminal was asked for") };
    (io, files.map(File::from))
}

fn client(path: &Path) -> File {
    OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path).unwrap()
}

/// Runs what blocks on a thread that a failing test leaves behind.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || done.send(work()));
    result.await.unwrap()
}

/// A client that opens a fifo as containerd does: the open blocks until there is a writer.
async fn returning_client(path: PathBuf) -> File {
    let client = aside(move || File::open(path).unwrap()).await;
    rustix::io::ioctl_fionbio(&client, true).unwrap();
    client
}

/// What a client can read now: up to the end of file, or until it would block (then false).
fn read_now(client: &mut File) -> (Vec<u8>, bool) {
    let (mut all, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return (all, true),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (all, false),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Lets tasks run until `client` has seen the end of file.
async fn read_to_end(client: &mut File) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (bytes, end) = read_now(client);
        all.extend(bytes);
        if end {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn read_until(client: &mut File, wanted: &[u8]) {
    let mut all = Vec::new();
    while !all.ends_with(wanted) {
        all.extend(read_now(client).0);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn flags(file: &File) -> OFlags {
    rustix::fs::fcntl_getfl(file).unwrap()
}

#[test]
fn nothing_named_is_dev_null() {
    run(async {
        let (_io, [mut stdin, mut stdout, mut stderr]) = open(&Streams::default()).await;
        assert_eq!(stdin.read(&mut [0; 1]).unwrap(), 0);
        stdout.write_all(b"x").unwrap();
        stderr.write_all(b"x").unwrap();
    });
}

#[test]
fn a_fifo_without_a_reader_blocks_nobody() {
    run(async {
        let dir = private();
        let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
        let (_io, files) = open(&streams(Some(&stdin), Some(&stdout))).await;
        for file in &files {
            assert!(!flags(file).contains(OFlags::NONBLOCK), "a program expects to wait");
        }
        assert_eq!(flags(&files[0]) & OFlags::RWMODE, OFlags::RDONLY);
        assert_eq!(flags(&files[1]) & OFlags::RWMODE, OFlags::WRONLY);
        (&files[1]).write_all(b"early").unwrap();
        assert_eq!(read_now(&mut client(&stdout)), (b"early".to_vec(), false));
    });
}

#[test]
fn a_reader_that_goes_and_comes_back_loses_nothing() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "out");
        let (mut io, [_, mut stdout, _]) = open(&streams(None, Some(&path))).await;
        let mut first = client(&path);
        stdout.write_all(b"one ").unwrap();
        assert_eq!(read_now(&mut first).0, b"one ");
        drop(first);
        stdout.write_all(b"two ").expect("no EPIPE while nobody reads");
        let mut second = client(&path);
        assert_eq!(read_now(&mut second), (b"two ".to_vec(), false));
        drop(second);
        stdout.write_all(b"three").unwrap();
        drop(stdout);
        io.ended();
        let mut third = returning_client(path).await;
        assert_eq!(read_to_end(&mut third).await, b"three");
    });
}

#[test]
fn a_client_that_is_late_misses_nothing_of_a_short_life() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "out");
        for said in ["", "all"] {
            let late = path.clone();
            let client = tokio::task::spawn_local(aside(move || {
                std::thread::sleep(Duration::from_millis(50));
                fs::read_to_string(late).unwrap()
            }));
            let (mut io, [_, mut stdout, _]) = open(&streams(None, Some(&path))).await;
            stdout.write_all(said.as_bytes()).unwrap();
            drop(stdout);
            io.ended();
            io.close().await;
            assert_eq!(client.await.unwrap(), said);
        }
    });
}

#[test]
fn output_ends_with_its_process() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "out");
        let (mut io, [_, mut stdout, _]) = open(&streams(None, Some(&path))).await;
        let mut reader = client(&path);
        stdout.write_all(b"all").unwrap();
        assert!(!read_now(&mut reader).1);
        drop(stdout);
        io.ended();
        assert_eq!(read_to_end(&mut reader).await, b"");
    });
}

/// A process's end of its stdin, for a test that must not hang.
fn without_waiting(stdin: File) -> File {
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    stdin
}

/// A client that writes `text` and is gone, from the moment on in which somebody reads. containerd opens the fifo so: its
/// open waits.
fn writing_client(path: &Path, text: &'static str) -> tokio::task::JoinHandle<()> {
    let path = path.to_owned();
    tokio::task::spawn_local(aside(move || fs::write(path, text).unwrap()))
}

#[test]
fn close_io_ends_the_input_of_a_process() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "in");
        let (mut io, [stdin, ..]) = open(&streams(Some(&path), None)).await;
        let mut stdin = without_waiting(stdin);
        io.started();
        writing_client(&path, "hello").await.unwrap();
        read_until(&mut stdin, b"hello").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!read_now(&mut stdin).1, "a client may come back");
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        io.close_stdin();
        writer.write_all(b"again").unwrap();
        read_until(&mut stdin, b"again").await;
        assert!(!read_now(&mut stdin).1, "the client still writes");
        drop(writer);
        assert_eq!(read_to_end(&mut stdin).await, b"");
    });
}

#[test]
fn a_client_that_finishes_at_once_can_still_say_close_io() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "in");
        let (mut io, [stdin, ..]) = open(&streams(Some(&path), None)).await;
        let writer = writing_client(&path, "all");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!writer.is_finished(), "nobody opens the fifo before Start");
        io.started();
        writer.await.unwrap();
        io.close_stdin();
        assert_eq!(read_to_end(&mut without_waiting(stdin)).await, b"all");
    });
}

#[test]
fn close_io_before_start_loses_no_input() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "in");
        for text in ["", "all"] {
            let (mut io, [stdin, ..]) = open(&streams(Some(&path), None)).await;
            // Opened for both, so that it need not wait for a reader.
            let client = (!text.is_empty()).then(|| {
                let mut client = OpenOptions::new().read(true).write(true).open(&path).unwrap();
                client.write_all(text.as_bytes()).unwrap();
                client
            });
            io.close_stdin();
            io.started();
            drop(client);
            assert_eq!(read_to_end(&mut without_waiting(stdin)).await, text.as_bytes());
        }
    });
}

#[test]
fn input_that_nobody_reads_waits_outside_and_ends_with_the_process() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "in");
        let (mut io, [stdin, ..]) = open(&streams(Some(&path), None)).await;
        io.started();
        let mut writer = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&path).unwrap();
        let (mut sent, mut idle) = (0, 0);
        while idle < 10 {
            match writer.write(&[7; 4096]) {
                Ok(count) => (sent, idle) = (sent + count, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => idle += 1,
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!((128 * 1024..=160 * 1024).contains(&sent), "fifo, pipe and one buffer, not {sent} bytes");
        io.ended();
        tokio::task::yield_now().await;
        assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        drop(stdin);
    });
}

/// Its client learns so, where it would wait for ever otherwise: whether it waits already or comes to write later.
#[test]
fn a_process_that_closes_its_stdin_takes_no_more_input() {
    for waits in [true, false] {
        run(async {
            let dir = private();
            let path = fifo(&dir, "in");
            let (mut io, [stdin, ..]) = open(&streams(Some(&path), None)).await;
            io.started();
            let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
            // More than fifo, relay and pipe hold together.
            let client = tokio::task::spawn_local(aside(move || writer.write_all(&vec![7; 1 << 20])));
            while waits && rustix::io::ioctl_fionread(&stdin).unwrap() < 1 << 16 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(stdin);
            assert_eq!(client.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe, "waits: {waits}");
        });
    }
}

#[test]
fn a_full_fifo_waits_for_its_reader() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "out");
        let (_io, [_, stdout, _]) = open(&streams(None, Some(&path))).await;
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let copy = sent.clone();
        let program = tokio::task::spawn_local(aside(move || (&stdout).write_all(&copy).unwrap()));
        let mut reader = client(&path);
        let mut received = Vec::new();
        while received.len() < sent.len() {
            received.extend(read_now(&mut reader).0);
            tokio::task::yield_now().await;
        }
        program.await.unwrap();
        assert!(received == sent);
    });
}

#[test]
fn a_log_file_is_made_and_shared() {
    run(async {
        let dir = private();
        let path = dir.path().join("a/b/out log");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "before ").unwrap();
        let uri = format!("file://{}", path.display().to_string().replace(' ', "%20"));
        let streams = Streams { stdout: uri.clone(), stderr: uri, ..Streams::default() };
        let (mut io, [_, mut stdout, mut stderr]) = open(&streams).await;
        stdout.write_all(b"out ").unwrap();
        stderr.write_all(b"err").unwrap();
        io.ended();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before out err", "when the end is told it is all there");
    });
}

#[test]
fn refusals_name_the_stream() {
    run(async {
        let missing = streams(None, Some(Path::new("/nowhere/out")));
        let error = Io::open(&missing, &owner()).await.unwrap_err();
        assert_eq!(error.to_string(), "open stdout /nowhere/out: ENOENT (no such file or directory)");
        let foreign = Streams { stdout: "ttrpc+unix:///x".into(), ..Streams::default() };
        assert_eq!(Io::open(&foreign, &owner()).await.unwrap_err().kind(), Kind::Invalid);
        let file = Streams { stdin: "/dev/zero".into(), terminal: true, ..Streams::default() };
        assert_eq!(Io::open(&file, &owner()).await.unwrap_err().kind(), Kind::Invalid);
        let logger = Streams { stdin: "binary:///x".into(), ..Streams::default() };
        assert_eq!(Io::open(&logger, &owner()).await.unwrap_err().kind(), Kind::Invalid);
    });
}

/// A terminal whose slave a test holds in place of a container.
async fn terminal(keyboard: &Path, screen: &Path) -> (Io, File) {
    let streams = Streams { terminal: true, ..streams(Some(keyboard), Some(screen)) };
    let (mut io, stdio) = Io::open(&streams, &owner()).await.unwrap();
    assert!(matches!(stdio, Stdio::Terminal));
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    raw(&slave);
    io.attach(master).unwrap();
    (io, File::from(slave))
}

fn raw(slave: &OwnedFd) {
    let mut settings = rustix::termios::tcgetattr(slave).unwrap();
    settings.make_raw();
    rustix::termios::tcsetattr(slave, rustix::termios::OptionalActions::Now, &settings).unwrap();
}

#[test]
fn a_terminal_is_relayed_to_its_end() {
    run(async {
        let dir = private();
        let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
        let (mut io, mut slave) = terminal(&stdin, &stdout).await;
        io.resize(33, 121).unwrap();
        let size = tcgetwinsize(&slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 121));

        let early = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&stdin);
        assert_eq!(early.unwrap_err().raw_os_error(), Some(nix::libc::ENXIO), "nobody opens the fifo before Start");
        io.started();
        let mut keyboard = OpenOptions::new().write(true).open(&stdin).unwrap();
        keyboard.write_all(b"typed").unwrap();
        rustix::io::ioctl_fionbio(&slave, true).unwrap();
        read_until(&mut slave, b"typed").await;
        rustix::io::ioctl_fionbio(&slave, false).unwrap();

        drop(keyboard);
        io.close_stdin();
        let mut screen = client(&stdout);
        slave.write_all(b"shown").unwrap();
        read_until(&mut screen, b"shown").await;
        slave.write_all(b"last words").unwrap();
        drop(slave);
        io.ended();
        assert_eq!(read_to_end(&mut screen).await, b"last words");
    });
}

#[test]
fn a_terminal_waits_for_a_reader_that_comes_back() {
    run(async {
        let dir = private();
        let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
        let (mut io, slave) = terminal(&stdin, &stdout).await;
        drop(client(&stdout));
        // More than fifo, relay and line discipline hold together.
        let sent: Vec<u8> = (0..400_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let copy = sent.clone();
        let program = tokio::task::spawn_local(aside(move || (&slave).write_all(&copy).unwrap()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!program.is_finished(), "nobody has read yet");
        let mut screen = client(&stdout);
        let mut received = Vec::new();
        while !program.is_finished() {
            received.extend(read_now(&mut screen).0);
            tokio::task::yield_now().await;
        }
        io.ended();
        received.extend(read_to_end(&mut screen).await);
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    });
}

#[test]
fn the_last_words_on_a_terminal_wait_for_a_client() {
    run(async {
        let dir = private();
        let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
        let (mut io, mut slave) = terminal(&stdin, &stdout).await;
        slave.write_all(b"last words").unwrap();
        drop(slave);
        io.ended();
        // Not before the relay has seen the hang-up, and has no more to do than to keep the fifo.
        _ = io.drained.pop().unwrap().await;
        let mut screen = returning_client(stdout).await;
        assert_eq!(read_to_end(&mut screen).await, b"last words");
    });
}

#[test]
fn output_has_an_end_though_others_hold_the_terminal() {
    run(async {
        let dir = private();
        let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
        let (mut io, mut slave) = terminal(&stdin, &stdout).await;
        let mut screen = client(&stdout);
        slave.write_all(b"said").unwrap();
        io.ended();
        assert_eq!(read_to_end(&mut screen).await, b"said");
    });
}

#[test]
fn delete_does_not_wait_for_a_terminal_that_others_hold() {
    run(async {
        let dir = private();
        let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
        let (mut io, mut slave) = terminal(&stdin, &stdout).await;
        let mut screen = client(&stdout);
        slave.write_all(b"said").unwrap();
        io.ended();
        let asked = Instant::now();
        io.close().await;
        assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
        assert_eq!(read_to_end(&mut screen).await, b"said");
        drop(slave);
    });
}

#[test]
fn unread_output_does_not_hold_up_delete() {
    run(async {
        let dir = private();
        let path = fifo(&dir, "out");
        let (mut io, [_, mut stdout, _]) = open(&streams(None, Some(&path))).await;
        stdout.write_all(b"unread").unwrap();
        drop(stdout);
        io.ended();
        let asked = Instant::now();
        io.close().await;
        assert!(asked.elapsed() < Duration::from_millis(500), "took {:?}", asked.elapsed());
    });
}

/// A logger as a shell script: notes its call, says that it is ready, and copies.
fn script(dir: &TempDir, body: &str) -> String {
    let path = dir.path().join("logger");
    fs::write(&path, format!("#!/bin/sh\nD={}\n{body}\n", dir.path().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_logger_gets_its_contract() {
    run(async {
        let dir = private();
        let body = "echo \"$@\" > $D/args\ntr '\\0' '\\n' < /proc/$$/environ > $D/env\nexec 5>&-\n\
                    cat <&3 > $D/out & cat <&4 > $D/err; wait";
        let uri = format!("binary://{}?k=a%2Fb&l=2", script(&dir, body));
        let streams = Streams { stdout: uri.clone(), stderr: uri, ..Streams::default() };
        let (mut io, [_, mut stdout, mut stderr]) = open(&streams).await;
        let written = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(written("args"), "k a/b l 2\n");
        assert_eq!(written("env"), "CONTAINER_ID=c1\nCONTAINER_NAMESPACE=test\n");
        stdout.write_all(b"to three").unwrap();
        stderr.write_all(b"to four").unwrap();
        drop((stdout, stderr));
        io.ended();
        io.close().await;
        assert_eq!(
            (written("out"), written("err")),
            ("to three".into(), "to four".into()),
            "written before close returns"
        );
    });
}

#[test]
fn a_logger_that_stays_is_terminated() {
    run(async {
        let dir = private();
        let uri = format!("binary://{}", script(&dir, "echo $$ > $D/pid\nexec 5>&-\nexec sleep 1000"));
        let (mut io, files) = open(&Streams { stdout: uri, ..Streams::default() }).await;
        let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
        let proc = PathBuf::from("/proc").join(pid.trim());
        assert!(proc.exists());
        drop(files);
        io.ended();
        let asked = Instant::now();
        io.close().await;
        assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
        while proc.exists() {
            assert!(asked.elapsed() < Duration::from_secs(8), "SIGTERM ends it, before SIGKILL does");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn the_output_of_a_logger_that_dies_goes_nowhere_and_never_waits() {
    run(async {
        let dir = private();
        let uri = format!("binary://{}", script(&dir, "exec 5>&-\nexit 1"));
        let (io, [_, mut stdout, mut stderr]) = open(&Streams { stdout: uri, ..Streams::default() }).await;
        // More than a pipe holds.
        aside(move || {
            stdout.write_all(&vec![b'x'; 1 << 20]).unwrap();
            stderr.write_all(&vec![b'x'; 1 << 20]).unwrap();
        })
        .await;
        io.close().await;
    });
}

#[test]
fn what_a_process_gets_is_its_owners_and_files_stay() {
    run(async {
        let dir = private();
        let (path, log) = (fifo(&dir, "out"), dir.path().join("log"));
        fs::write(&log, "").unwrap();
        let keyboard = fifo(&dir, "in");
        let _client = client(&path);
        let streams = Streams {
            stdin: keyboard.display().to_string(),
            stdout: path.display().to_string(),
            stderr: log.display().to_string(),
            terminal: false,
        };
        let owner = Owner { uid: 7, gid: 8, ..owner() };
        let (_io, stdio) = Io::open(&streams, &owner).await.unwrap();
        let Stdio::Files(files) = stdio else { panic!("no terminal was asked for") };
        let owners = files.map(|file| rustix::fs::fstat(file).map(|stat| (stat.st_uid, stat.st_gid)).unwrap());
        assert_eq!(owners, [(7, 8); 3]);
        let log = rustix::fs::stat(&log).unwrap();
        assert_eq!((log.st_uid, log.st_gid), (0, 0));
    });
}

#[test]
fn a_strict_logger_that_is_not_ready_is_an_error() {
    run(async {
        let dir = private();
        let program = script(&dir, "exit 0");
        let open = |scheme| {
            let streams = Streams { stdout: format!("{scheme}://{program}"), ..Streams::default() };
            async move { Io::open(&streams, &owner()).await.map(drop) }
        };
        open("binary").await.unwrap();
        let error = open("binary-v2").await.unwrap_err().to_string();
        assert!(error.contains("without being ready"), "{error}");
        let none = Streams { stdout: "binary:///no/such/logger".into(), ..Streams::default() };
        let error = Io::open(&none, &owner()).await.unwrap_err().to_string();
        assert_eq!(error, "start logger /no/such/logger: ENOENT (no such file or directory)");
    });
}
