//! The verbs: each asks the container's keeper and prints what a user wants to know.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;

use config::ContainerId;
use runtime_core::{Error, Exit, Kind, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Exec, Form, Global, NewContainer};
use crate::control::{self, Answer, Answers, Create, Request, State};
use crate::keeper::{self, Keeper};
use crate::terminal::{Foreground, Relay};

/// `create`: leaves a keeper behind with the container in it.
pub(crate) fn create(global: &Global, new: &NewContainer, preserved: &[OwnedFd]) -> Result<()> {
    Foreground::new(true, has_terminal(&new.create.bundle), new.create.console_socket.as_deref())?;
    create_with(global, &new.id, &new.create, preserved)
}

fn create_with(global: &Global, id: &ContainerId, create: &Create, preserved: &[OwnedFd]) -> Result<()> {
    let (directory, listener) = claim(global, id)?;
    let created = leave_keeper(global, (id, create), preserved, (&directory, listener));
    if created.is_err() && directory.exists() {
        // The keeper has not come to remove it.
        keeper::remove(&directory)?;
    }
    created
}

/// `run --detach`: create and start.
pub(crate) fn run_detached(global: &Global, new: &NewContainer, preserved: &[OwnedFd]) -> Result<()> {
    create(global, new, preserved)?;
    begin(global, &new.id, None).map(drop)
}

/// Starts what was created, on the terminal that its caller waits for. One that cannot be started does not stay.
fn begin(global: &Global, id: &ContainerId, foreground: Option<Foreground>) -> Result<Option<Relay>> {
    let relay = foreground.map(Foreground::attach).transpose();
    let started = relay.and_then(|relay| start(global, id).map(|()| relay));
    started.inspect_err(|_| {
        if let Err(error) = delete(global, id, true) {
            eprintln!("oci: {error}");
        }
    })
}

/// `run --keep`: create, start and wait.
pub(crate) fn run_kept(global: &Global, new: &NewContainer, preserved: &[OwnedFd]) -> Result<ExitCode> {
    let (foreground, create) = in_foreground(&new.create)?;
    create_with(global, &new.id, &create, preserved)?;
    keeper::block_on(async {
        tokio::task::spawn_local(forward_signals(signals_to(find(global, &new.id)?.pid))?);
        let relay = begin(global, &new.id, foreground)?;
        let mut answers = ask(global, &new.id, &Request::Wait)?;
        answers.come().await?;
        let exit = answers.one()?;
        if let Some(relay) = relay {
            relay.finish().await;
        }
        exit_code(&exit)
    })
}

/// `run`: a whole life in the foreground; the exit status is the container's.
pub(crate) fn run(global: &Global, new: &NewContainer, preserved: Vec<OwnedFd>) -> Result<ExitCode> {
    let (foreground, create) = in_foreground(&new.create)?;
    let (_, listener) = claim(global, &new.id)?;
    keeper::block_on(async {
        let keeper = Rc::new(Keeper::new(global, &new.id));
        let own = [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()].map(|fd| fd.try_clone_to_owned());
        let own = own.into_iter().chain(preserved.into_iter().map(Ok));
        let fds = own.collect::<io::Result<Vec<OwnedFd>>>().map_err(|error| Error::io("dup", &error))?;
        Box::pin(keeper.create(&create, fds)).await?;
        let ended = live(&keeper, listener, foreground).await;
        match keeper.delete(true).await {
            // Somebody was faster.
            Err(error) if error.kind() == Kind::NotFound => {}
            deleted => deleted?,
        }
        exit_code(&Answer::Exit(ended?.status))
    })
}

/// From start to end.
async fn live(keeper: &Rc<Keeper>, listener: UnixListener, foreground: Option<Foreground>) -> Result<Exit> {
    let init = Rc::clone(keeper);
    tokio::task::spawn_local(forward_signals(move |signal| init.kill(signal, false))?);
    let relay = foreground.map(Foreground::attach).transpose()?;
    tokio::task::spawn_local(Rc::clone(keeper).serve(listener));
    keeper.start().await?;
    let exit = keeper.wait().await;
    if let Some(relay) = relay {
        relay.finish().await;
    }
    exit
}

/// `start`
pub(crate) fn start(global: &Global, id: &ContainerId) -> Result<()> {
    ask(global, id, &Request::Start)?.one().map(drop)
}

/// `state`: the state object.
pub(crate) fn state(global: &Global, id: &ContainerId) -> Result<String> {
    let state = find(global, id)?;
    Ok(serde_json::to_string_pretty(&state).expect("a state has string keys only"))
}

/// `kill`
pub(crate) fn kill(global: &Global, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
    ask(global, id, &Request::Kill { signal, all })?.one().map(drop)
}

/// `delete`: returns when the keeper has gone, too. With one that has died nobody knows whether init lives: only force
/// helps, which destroys what is on disk.
pub(crate) fn delete(global: &Global, id: &ContainerId, force: bool) -> Result<()> {
    let directory = directory(global, id);
    match control::connect(&directory) {
        Ok(stream) => control::send(stream, &Request::Delete { force }, &[])?.until_closed(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && force => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && force => {
            let state = control::read_state(&directory)?;
            keeper::block_on(async { runtime_core::container::destroy(&state.bundle).await.1 })?;
            keeper::remove(&directory)
        }
        Err(error) => Err(unreachable(id, &error)),
    }
}

/// `exec`: its exit status is the process's, unless it is detached.
pub(crate) fn exec(global: &Global, id: &ContainerId, exec: &Exec, preserved: &[OwnedFd]) -> Result<ExitCode> {
    let process = process(global, id, exec)?;
    let foreground = Foreground::new(exec.detach, process["terminal"] == true, exec.console_socket.as_deref())?;
    let console_socket = foreground.as_ref().map(Foreground::socket).or_else(|| exec.console_socket.clone());
    let size = foreground.as_ref().and_then(Foreground::size);
    let (process, ignore_paused) = (process.to_string(), exec.ignore_paused);
    let request = Request::Exec(control::Exec { process, console_socket, foreground: size, ignore_paused });
    let stream = control::connect(&directory(global, id)).map_err(|error| unreachable(id, &error))?;
    let mut answers = send_with_fds(stream, &request, preserved)?;
    let Answer::Pid(pid) = answers.one()? else { return Err(unexpected()) };
    if let Some(path) = &exec.pid_file {
        keeper::write_pid(path, pid)?;
    }
    if exec.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(foreground) = foreground else { return exit_code(&answers.one()?) };
    keeper::block_on(async {
        tokio::task::spawn_local(forward_signals(signals_to(pid))?);
        let relay = foreground.attach()?;
        answers.come().await?;
        let exit = answers.one()?;
        relay.finish().await;
        exit_code(&exit)
    })
}

/// `pause`
pub(crate) fn pause(global: &Global, id: &ContainerId) -> Result<()> {
    ask(global, id, &Request::Pause)?.one().map(drop)
}

/// `resume`
pub(crate) fn resume(global: &Global, id: &ContainerId) -> Result<()> {
    ask(global, id, &Request::Resume)?.one().map(drop)
}

/// `update`
pub(crate) fn update(global: &Global, id: &ContainerId, resources: String) -> Result<()> {
    ask(global, id, &Request::Update(resources))?.one().map(drop)
}

/// `ps`: the pids as a JSON array, or what ps(1) says of them.
pub(crate) fn ps(global: &Global, id: &ContainerId, json: bool, arguments: &[String]) -> Result<String> {
    let Answer::Pids(pids) = ask(global, id, &Request::Pids)?.one()? else { return Err(unexpected()) };
    if json {
        return Ok(format!("{}\n", json!(pids)));
    }
    let usual = ["-ef".to_owned()];
    let output = Command::new("ps").args(if arguments.is_empty() { &usual } else { arguments }).output();
    let output = output.map_err(|error| Error::io("run ps", &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Error::new(Kind::Invalid, "ps prints no column PID"))?;
    let pid = |line: &str| line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
    let ours = lines.filter(|line| pid(line).is_some_and(|pid| pids.contains(&pid)));
    Ok(lines_of(std::iter::once(title).chain(ours)))
}

fn lines_of<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// `list`: what is known of each container.
pub(crate) fn list(global: &Global, form: Form) -> String {
    let names = fs::read_dir(&global.root).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut ids: Vec<_> = names.filter_map(|name| ContainerId::new(name.to_string_lossy()).ok()).collect();
    ids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    if form == Form::Ids {
        return lines_of(ids.iter().map(ContainerId::as_str));
    }
    let known = |id: &ContainerId| find(global, id).inspect_err(|error| eprintln!("oci: {error}")).ok();
    let containers: Vec<State> = ids.iter().filter_map(known).collect();
    if form == Form::Json {
        return format!("{}\n", json!(containers));
    }
    let line = |state: &State| {
        let (status, bundle) = (json!(state.status), state.bundle.display());
        let status = status.as_str().unwrap_or_default();
        format!("{:<12}{:<12}{status:<12}{bundle}   {}   {}\n", state.id, state.pid, state.created, state.owner)
    };
    let title = format!("{:<12}{:<12}{:<12}BUNDLE   CREATED   OWNER\n", "ID", "PID", "STATUS");
    std::iter::once(title).chain(containers.iter().map(line)).collect()
}

/// Takes the id: who makes the state directory has it. The socket in it is ready before anyone can look for it.
fn claim(global: &Global, id: &ContainerId) -> Result<(PathBuf, UnixListener)> {
    let directory = directory(global, id);
    let root = fs::DirBuilder::new().recursive(true).mode(0o700).create(&global.root);
    root.map_err(|error| Error::io(format!("mkdir {}", global.root.display()), &error))?;
    fs::DirBuilder::new().mode(0o700).create(&directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::new(Kind::Exists, format!("container {id} exists already")),
        _ => Error::io(format!("mkdir {}", directory.display()), &error),
    })?;
    match control::bind(&directory) {
        Ok(listener) => Ok((directory, listener)),
        Err(error) => keeper::remove(&directory).and(Err(Error::io("bind the control socket", &error))),
    }
}

/// Asks first and starts the keeper then: it finds the request waiting, or that its client has gone, but never nobody.
fn leave_keeper(
    global: &Global,
    (id, create): (&ContainerId, &Create),
    preserved: &[OwnedFd],
    (directory, listener): (&Path, UnixListener),
) -> Result<()> {
    let stream = control::connect(directory).map_err(|error| Error::io("connect to the control socket", &error))?;
    let mut answers = send_with_fds(stream, &Request::Create(create.clone()), preserved)?;
    let mut keeper = Command::new("/proc/self/exe");
    if let Some(log) = &global.log {
        keeper.arg("--log").arg(&log.path).args(["--log-format", if log.json { "json" } else { "text" }]);
    }
    keeper.arg("--root").arg(&global.root).args(["keep", id.as_str()]);
    keeper.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    keeper.spawn().map_err(|error| Error::io("start the keeper", &error))?;
    // It holds the listener: only while the keeper alone has it does its death show here.
    drop(keeper);
    match answers.one() {
        Ok(_) => Ok(()),
        // The keeper ends with its container: return when it has.
        Err(error) => answers.until_closed().and(Err(error)),
    }
}

fn ask(global: &Global, id: &ContainerId, request: &Request) -> Result<Answers> {
    let stream = control::connect(&directory(global, id)).map_err(|error| unreachable(id, &error))?;
    control::send(stream, request, &[])
}

/// With our own 0, 1 and 2, and what is preserved.
fn send_with_fds(stream: UnixStream, request: &Request, preserved: &[OwnedFd]) -> Result<Answers> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let fds: Vec<_> = own.into_iter().chain(preserved.iter().map(AsFd::as_fd)).collect();
    control::send(stream, request, &fds)
}

/// The state as the keeper knows it.
fn find(global: &Global, id: &ContainerId) -> Result<State> {
    match ask(global, id, &Request::State)?.one()? {
        Answer::State(state) => Ok(state),
        _ => Err(unexpected()),
    }
}

/// The process object: the file's, or the container's own, varied by the flags.
fn process(global: &Global, id: &ContainerId, exec: &Exec) -> Result<Value> {
    if let Some(file) = &exec.process {
        return read_json(file);
    }
    let mut process = read_json(&find(global, id)?.bundle.join("config.json"))?["process"].take();
    process["args"] = json!(exec.command);
    process["terminal"] = json!(exec.terminal);
    if let Some(cwd) = &exec.cwd {
        process["cwd"] = json!(cwd);
    }
    if let Some((uid, gid)) = exec.user {
        process["user"]["uid"] = json!(uid);
        if let Some(gid) = gid {
            process["user"]["gid"] = json!(gid);
        }
    }
    append(&mut process["user"]["additionalGids"], &exec.additional_gids);
    for set in ["bounding", "effective", "permitted"] {
        append(&mut process["capabilities"][set], &exec.capabilities);
    }
    // Ambient capabilities need inheritable ones, which an exec is not given.
    if process["capabilities"]["inheritable"].as_array().is_some_and(|set| !set.is_empty()) {
        append(&mut process["capabilities"]["ambient"], &exec.capabilities);
    }
    if exec.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    for (field, value) in [("apparmorProfile", &exec.apparmor), ("selinuxLabel", &exec.process_label)] {
        if let Some(value) = value {
            process[field] = json!(value);
        }
    }
    append(&mut process["env"], &exec.env);
    Ok(process)
}

/// Adds to a list that may be absent; nothing to add leaves it so.
fn append<T: Serialize>(list: &mut Value, more: &[T]) {
    if !more.is_empty() {
        let there = list.as_array().into_iter().flatten().cloned();
        *list = there.chain(more.iter().map(|entry| json!(entry))).collect();
    }
}

fn read_json(file: &Path) -> Result<Value> {
    let text = fs::read(file).map_err(|error| Error::io(format!("read {}", file.display()), &error))?;
    serde_json::from_slice(&text).map_err(|error| Error::new(Kind::Invalid, format!("{}: {error}", file.display())))
}

/// What `run` creates, and the terminal that its caller waits for.
fn in_foreground(create: &Create) -> Result<(Option<Foreground>, Create)> {
    let foreground = Foreground::new(false, has_terminal(&create.bundle), create.console_socket.as_deref())?;
    let console_socket = foreground.as_ref().map(Foreground::socket);
    let size = foreground.as_ref().and_then(Foreground::size);
    Ok((foreground, Create { console_socket, foreground: size, ..create.clone() }))
}

/// A config.json that says nothing is refused by whoever creates the container.
fn has_terminal(bundle: &Path) -> bool {
    read_json(&bundle.join("config.json")).is_ok_and(|config| config["process"]["terminal"] == true)
}

/// Hands the signals that a user or a supervisor sends to us on to a process, as long as it is polled. From now on they do not
/// end us.
fn forward_signals(hand_on: impl Fn(i32) -> Result<()>) -> Result<impl Future<Output = Result<()>>> {
    let listen = |kind| signal(kind).map_err(|error| Error::io("listen for signals", &error));
    let (mut hangup, mut interrupt) = (listen(SignalKind::hangup())?, listen(SignalKind::interrupt())?);
    let (mut quit, mut terminate) = (listen(SignalKind::quit())?, listen(SignalKind::terminate())?);
    Ok(async move {
        loop {
            let kind = tokio::select! {
                _ = hangup.recv() => SignalKind::hangup(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = quit.recv() => SignalKind::quit(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
            hand_on(kind.as_raw_value())?;
        }
    })
}

/// To a child of the keeper's, which may have ended.
fn signals_to(pid: i32) -> impl Fn(i32) -> Result<()> {
    let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    move |signal| {
        let sent = process.as_ref().zip(Signal::from_named_raw(signal));
        let sent = sent.map_or(Ok(()), |(process, signal)| pidfd_send_signal(process, signal));
        sent.map_err(|error| Error::io("hand on a signal", &error.into()))
    }
}

fn directory(global: &Global, id: &ContainerId) -> PathBuf {
    global.root.join(id.as_str())
}

/// The code that a shell shows: statuses are a byte.
fn exit_code(answer: &Answer) -> Result<ExitCode> {
    match answer {
        Answer::Exit(status) => Ok(ExitCode::from(u8::try_from(*status).unwrap_or(u8::MAX))),
        _ => Err(unexpected()),
    }
}

fn unreachable(id: &ContainerId, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::new(Kind::NotFound, format!("container {id} does not exist")),
        io::ErrorKind::ConnectionRefused => {
            Error::new(Kind::Precondition, format!("container {id}: its keeper has died: delete --force"))
        }
        _ => Error::io(format!("container {id}: connect to its keeper"), error),
    }
}

fn unexpected() -> Error {
    Error::new(Kind::System, "the container's keeper answered something else")
}
