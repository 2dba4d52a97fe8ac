//! Descriptors: 0, 1 and 2 are the caller's, and there are no others but those that the caller wants preserved.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::Command;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, Ran, ours};

#[test]
fn only_0_1_and_2_are_open_and_they_are_the_callers() {
    let bundle = Bundle::new("stdio");
    let input = bundle.path().join("input");
    fs::write(&input, "").unwrap();
    let (output, error) = (bundle.path().join("output"), bundle.path().join("error"));
    let mut create = bundle.command();
    create.args(["create", "--bundle", bundle.path().to_str().unwrap(), "--pid-file", &bundle.pid_file(), bundle.id()]);
    create.stdin(File::open(&input).unwrap());
    create.stdout(File::create(&output).unwrap()).stderr(File::create(&error).unwrap());
    assert!(create.status().unwrap().success(), "{}", fs::read_to_string(&error).unwrap());
    bundle.call(&["start", bundle.id()]).success();
    bundle.wait();

    let seen: serde_json::Value = serde_json::from_str(&fs::read_to_string(&output).unwrap()).unwrap();
    assert_eq!(seen["fds"], json!({ "0": input, "1": output, "2": error }));
}

#[test]
fn what_the_caller_left_open_does_not_leak_into_init() {
    let _open = inheritable();
    let seen = Bundle::new("stdio").seen();
    assert_eq!(names(&seen["fds"]), ["0", "1", "2"]);
}

#[test]
fn nor_into_an_exec() {
    let _open = inheritable();
    let mut bundle = Bundle::new("stdio");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    assert_eq!(names(&bundle.exec(&process).json()["fds"]), ["0", "1", "2"]);
}

#[test]
fn output_on_both_arrives_apart() {
    let mut bundle = Bundle::new("stdio");
    let ran = bundle.probe(&["no-such-action"]).run();
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.starts_with("usage: probe"), "{}", ran.stderr);
}

#[test]
fn those_that_are_preserved_keep_their_numbers() {
    let mut bundle = Bundle::new("stdio");
    let files = files(&bundle, 12);
    let expected = |count| (0..count).map(|nth| ((nth + 3).to_string(), files[nth].as_str())).collect::<Vec<_>>();
    let open = opening(&files);
    // In whatever order its own files lie, none may come to lie on one of these or be seen.
    for count in [1, 2, 12] {
        let arguments = ["run", "--preserve-fds", &count.to_string(), "--bundle", bundle.path().to_str().unwrap()];
        let seen = call(&bundle, &open, &[&arguments[..], &[bundle.id()]].concat()).json();
        assert_eq!(behind_stdio(&seen), expected(count), "{count}");
    }
    bundle.probe(&["sleep"]).start();
    let process = bundle.path().join("process.json");
    let mut object = bundle.config["process"].clone();
    object["args"] = json!(["/probe"]);
    fs::write(&process, object.to_string()).unwrap();
    let arguments = ["exec", "--preserve-fds", "3", "--process", process.to_str().unwrap(), bundle.id()];
    assert_eq!(behind_stdio(&call(&bundle, &open, &arguments).json()), expected(3));
}

#[test]
fn they_are_kept_from_create_to_start_and_by_nobody_else() {
    let bundle = Bundle::new("stdio");
    let files = files(&bundle, 3);
    let (path, pid_file) = (bundle.path().to_str().unwrap(), bundle.pid_file());
    let output = bundle.path().join("output");
    let create = ["create", "--preserve-fds", "2", "--bundle", path, "--pid-file", &pid_file, bundle.id()];
    let mut create = command(&bundle, &opening(&files), &create);
    assert!(create.stdout(File::create(&output).unwrap()).status().unwrap().success());
    // While init waits: what is preserved is held by it, and the third file by no process at all.
    assert_eq!(holders(&files[0]), [bundle.pid()]);
    assert!(!ours() || holders(&files[2]).is_empty(), "{:?}", holders(&files[2]));
    bundle.call(&["start", bundle.id()]).success();
    bundle.wait();
    let seen: Value = serde_json::from_str(&fs::read_to_string(&output).unwrap()).unwrap();
    assert_eq!(behind_stdio(&seen), [("3".to_owned(), files[0].as_str()), ("4".to_owned(), files[1].as_str())]);
}

#[test]
fn one_that_is_not_open_is_an_error_and_no_file_of_the_runtimes() {
    if !ours() {
        // runc 1.1 hands out what it has open there itself.
        return;
    }
    let bundle = Bundle::new("stdio");
    let log = bundle.path().join("log");
    // Others among these tests leave theirs open.
    for open in ["3<&- 4<&-", "3<&- 4</dev/null"] {
        let arguments = ["run", "--preserve-fds", "2", "--bundle", bundle.path().to_str().unwrap(), bundle.id()];
        let inner = bundle.command();
        let logged = ["--log", log.to_str().unwrap()];
        let ran = ran(wrapped(&inner, open).args(logged).args(arguments));
        assert_ne!(ran.status, 0, "{}", ran.stdout);
        assert!(ran.stderr.contains("preserve descriptor 3 (of 2 from 3 on): EBADF"), "{}", ran.stderr);
        bundle.assert_nothing_left();
    }
}

#[test]
fn sockets_of_a_service_manager_are_passed_on() {
    let mut bundle = Bundle::new("stdio");
    let files = files(&bundle, 2);
    let env = bundle.config["process"]["env"].as_array_mut().unwrap();
    env.push(json!("LISTEN_FDS=7"));
    let arguments = ["run", "--preserve-fds", "1", "--bundle", bundle.path().to_str().unwrap(), bundle.id()];
    // They count beside what else is preserved; and only where they were meant for the runtime.
    for (pid, count) in [("$$", 2), ("1", 1)] {
        let open = format!("{} LISTEN_FDS=1 LISTEN_PID={pid}", opening(&files));
        let seen = call(&bundle, &open, &arguments).json();
        assert_eq!(behind_stdio(&seen).len(), count, "{seen}");
        let env: Vec<_> = seen["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let said: Vec<_> = env.into_iter().filter(|entry| entry.starts_with("LISTEN_")).collect();
        let expected: &[_] = if count == 2 { &["LISTEN_FDS=1", "LISTEN_PID=1"] } else { &["LISTEN_FDS=7"] };
        assert_eq!(said, expected);
    }
}

/// `count` files of the bundle's.
fn files(bundle: &Bundle, count: usize) -> Vec<String> {
    let files = (0..count).map(|nth| bundle.path().join(format!("file-{nth}")));
    files.map(|file| fs::write(&file, "").map(|()| file.to_str().unwrap().to_owned()).unwrap()).collect()
}

/// Redirections of a shell that make `files` descriptors 3 and on.
fn opening(files: &[String]) -> String {
    let opened: Vec<_> = files.iter().zip(3..).map(|(file, number)| format!("{number}<{file}")).collect();
    opened.join(" ")
}

/// The runtime's command with `open` (redirections, assignments) before it, in the process that becomes the runtime.
fn wrapped(inner: &Command, open: &str) -> Command {
    let mut command = Command::new(inner.get_program());
    let (timeout, runtime) = (inner.get_args().take(2), inner.get_args().skip(2));
    // dash knows only single digits as descriptors.
    let script = format!("{open} exec \"$@\"");
    command.args(timeout).args(["bash", "-c", &script, "bash"]).args(runtime);
    command
}

fn command(bundle: &Bundle, open: &str, arguments: &[&str]) -> Command {
    let mut command = wrapped(&bundle.command(), open);
    command.args(arguments);
    command
}

fn call(bundle: &Bundle, open: &str, arguments: &[&str]) -> Ran {
    ran(&mut command(bundle, open, arguments))
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { status: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The descriptors from 3 on and what they lead to, in their order.
fn behind_stdio(seen: &Value) -> Vec<(String, &str)> {
    let fds = seen["fds"].as_object().unwrap().iter().map(|(number, file)| (number.clone(), file.as_str().unwrap()));
    let mut fds: Vec<_> = fds.filter(|(number, _)| number.parse::<u32>().unwrap() > 2).collect();
    fds.sort_unstable_by_key(|(number, _)| number.parse::<u32>().unwrap());
    fds
}

/// The processes that have `file` open.
fn holders(file: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let holds = |process: &std::path::PathBuf| {
        let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        fds.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == file))
    };
    let pid = |process: std::path::PathBuf| process.file_name()?.to_str()?.parse().ok();
    processes.filter(holds).filter_map(pid).collect()
}

/// A directory of the host, open without close-on-exec: the way out of a container that leaks it.
fn inheritable() -> File {
    let directory = File::open("/").unwrap();
    rustix::io::fcntl_setfd(&directory, rustix::io::FdFlags::empty()).unwrap();
    assert!(directory.as_raw_fd() > 2);
    directory
}

fn names(fds: &serde_json::Value) -> Vec<&str> {
    fds.as_object().unwrap().keys().map(String::as_str).collect()
}
