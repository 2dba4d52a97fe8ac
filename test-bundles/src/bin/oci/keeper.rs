//! The keeper: holds a container from create to delete, as the parent of its processes, and does what the verbs ask.
//!
//! `create` leaves one behind as a process of its own (`oci keep`); `run` is its own keeper.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use config::{Bundle, ContainerId, Options};
use nix::sys::signal::Signal;
use runtime_core::{Container, Descriptors, Error, Exit, Kind, Process, Result, Stdio, Timing};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

use crate::arguments::Global;
use crate::control::{self, Answer, Create, Exec, Request, Size, State, Status};
use crate::{descriptors, terminal};

/// The version of the runtime spec whose state object we print.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// One container and those who ask about it.
#[derive(Debug)]
pub(crate) struct Keeper {
    id: ContainerId,
    directory: PathBuf,
    /// None before create and after delete.
    kept: RefCell<Option<Rc<Kept>>>,
    done: Notify,
}

#[derive(Debug)]
struct Kept {
    container: Container,
    state: State,
    started: Cell<bool>,
    paused: Cell<bool>,
    /// Init's end, once it was reaped.
    exit: watch::Sender<Option<Result<Exit>>>,
}

/// `oci keep`: serves the socket that it was given as standard input until the container is deleted.
pub(crate) fn keep(global: &Global, id: &ContainerId) -> Result<()> {
    nix::unistd::setsid().map_err(|errno| Error::sys("setsid", errno))?;
    let listener = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| Error::io("dup", &error))?;
    let listener = std::os::unix::net::UnixListener::from(listener);
    std::env::set_current_dir("/").map_err(|error| Error::io("chdir to /", &error))?;
    block_on(async { Rc::new(Keeper::new(global, id)).serve(listener).await })
}

/// Runs `future` on this one thread (D4).
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::io("make the event loop", &error))?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

impl Keeper {
    pub(crate) fn new(global: &Global, id: &ContainerId) -> Self {
        let directory = global.root.join(id.as_str());
        Self { id: id.clone(), directory, kept: RefCell::new(None), done: Notify::new() }
    }

    /// Answers requests until there is nothing left to keep.
    pub(crate) async fn serve(self: Rc<Self>, listener: std::os::unix::net::UnixListener) -> Result<()> {
        let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        let listener = listener.map_err(|error| Error::io("listen on the control socket", &error))?;
        loop {
            tokio::select! {
                connection = listener.accept() => {
                    let (stream, _) = connection.map_err(|error| Error::io("accept", &error))?;
                    tokio::task::spawn_local(Rc::clone(&self).answer(stream));
                }
                () = self.done.notified() => return Ok(()),
            }
        }
    }

    async fn answer(self: Rc<Self>, mut stream: UnixStream) {
        let (request, fds) = match control::receive(&stream).await {
            Ok(received) => received,
            Err(error) => return say(&mut stream, &Answer::Failed(error.to_string())).await,
        };
        let may_end = matches!(request, Request::Create(_) | Request::Start | Request::Delete { .. });
        let answer = match request {
            Request::Create(create) => Box::pin(self.create(&create, fds)).await.map(Answer::Pid),
            Request::Start => self.start().await.map(|()| Answer::Done),
            Request::State => self.kept().map(|kept| Answer::State(kept.state())),
            Request::Kill { signal, all } => self.kill(signal, all).map(|()| Answer::Done),
            Request::Delete { force } => self.delete(force).await.map(|()| Answer::Done),
            Request::Pids => self.kept().and_then(|kept| kept.container.pids()).map(Answer::Pids),
            Request::Wait => self.wait().await.map(|exit| Answer::Exit(exit.status)),
            Request::Pause => self.pause().await.map(|()| Answer::Done),
            Request::Resume => self.resume().map(|()| Answer::Done),
            Request::Update(resources) => self.update(&resources).await.map(|()| Answer::Done),
            Request::Exec(exec) => self.exec(&exec, fds, &mut stream).await.map(|exit| Answer::Exit(exit.status)),
        };
        say(&mut stream, &answer.unwrap_or_else(|error| Answer::Failed(error.to_string()))).await;
        if may_end && self.kept.borrow().is_none() {
            // Left open for the kernel to close: the client then knows that this process has gone, too.
            std::mem::forget(stream);
            self.done.notify_one();
        }
    }

    /// Creates the container and gives init's pid. On error nothing is left, the state directory included.
    pub(crate) async fn create(&self, create: &Create, fds: Vec<OwnedFd>) -> Result<i32> {
        let created = self.try_create(create, fds).await;
        if created.is_err() {
            match self.kept() {
                Ok(_) => self.delete(true).await?,
                Err(_) => remove(&self.directory)?,
            }
        }
        created
    }

    async fn try_create(&self, create: &Create, fds: Vec<OwnedFd>) -> Result<i32> {
        let mut spec = Bundle::read(&create.bundle, &self.id)?;
        descriptors::announce(&mut spec.process.env, create.listen_fds);
        let options = Options {
            no_pivot_root: create.no_pivot_root,
            no_new_keyring: create.no_new_keyring,
            systemd_cgroup: create.systemd_cgroup,
            ..Options::default()
        };
        let fds = descriptors(spec.process.terminal, create.console_socket.as_deref(), fds)?;
        let container = Container::create(&spec, &options, fds, &mut Timing::default()).await?;
        let pid = container.init().pid();
        let state = State {
            oci_version: OCI_VERSION.to_owned(),
            id: self.id.to_string(),
            status: Status::Created,
            pid,
            bundle: create.bundle.clone(),
            rootfs: spec.root.path.clone(),
            created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            owner: nix::unistd::User::from_uid(nix::unistd::getuid())
                .ok()
                .flatten()
                .map(|user| user.name)
                .unwrap_or_default(),
            annotations: spec.annotations.iter().cloned().collect(),
        };
        let kept = Rc::new(Kept {
            container,
            state,
            started: Cell::new(false),
            paused: Cell::new(false),
            exit: watch::Sender::new(None),
        });
        self.kept.replace(Some(Rc::clone(&kept)));
        tokio::task::spawn_local(Rc::clone(&kept).reap(self.directory.clone()));

        introduce(kept.container.init(), (create.console_socket.as_deref(), create.foreground))?;
        create.pid_file.as_ref().map_or(Ok(()), |path| write_pid(path, pid))?;
        control::write_state(&self.directory, &kept.state())?;
        Ok(pid)
    }

    /// Lets init execute its program. Where a poststart hook fails, nothing of the container is left.
    pub(crate) async fn start(&self) -> Result<()> {
        let kept = self.kept()?;
        if kept.status() == Status::Stopped {
            return Err(Error::new(Kind::Precondition, format!("container {} has stopped", self.id)));
        }
        kept.container.start().await?;
        kept.started.set(true);
        control::write_state(&self.directory, &kept.state())?;
        if let Err(error) = kept.container.after_start().await {
            self.delete(true).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Waits for init's end.
    pub(crate) async fn wait(&self) -> Result<Exit> {
        self.kept()?.ended().await
    }

    /// Signals init, or every process of the container. By the words of its error callers of runc tell that init has ended.
    pub(crate) fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let kept = self.kept()?;
        if all {
            return kept.container.signal_all(signal);
        }
        kept.container.init().signal(signal).map_err(|error| match error.kind() {
            Kind::NotFound => error.context("container not running"),
            _ => error,
        })
    }

    /// Removes the container, which must not be running unless `force` ends it first.
    pub(crate) async fn delete(&self, force: bool) -> Result<()> {
        let kept = self.kept()?;
        if matches!(kept.status(), Status::Running | Status::Paused) && !force {
            return Err(Error::new(
                Kind::Precondition,
                format!("container {} is running: kill it first, or --force", self.id),
            ));
        }
        // On v1 only a thawed process dies.
        if kept.paused.take() {
            kept.container.thaw()?;
        }
        match kept.container.init().signal(Signal::SIGKILL as i32) {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            Ok(()) | Err(_) => kept.ended().await?,
        };
        kept.container.delete().await?;
        self.kept.replace(None);
        remove(&self.directory)
    }

    /// Stops every process where it is.
    async fn pause(&self) -> Result<()> {
        let kept = self.kept()?;
        if kept.status() != Status::Running {
            return Err(Error::new(Kind::Precondition, format!("container {} is not running", self.id)));
        }
        kept.container.freeze().await?;
        kept.paused.set(true);
        control::write_state(&self.directory, &kept.state())
    }

    /// Lets them go on.
    fn resume(&self) -> Result<()> {
        let kept = self.kept()?;
        if kept.status() != Status::Paused {
            return Err(Error::new(Kind::Precondition, format!("container {} is not paused", self.id)));
        }
        kept.container.thaw()?;
        kept.paused.set(false);
        control::write_state(&self.directory, &kept.state())
    }

    /// Changes what it may use.
    async fn update(&self, resources: &str) -> Result<()> {
        let kept = self.kept()?;
        if kept.status() == Status::Stopped {
            return Err(Error::new(Kind::Precondition, format!("container {} has stopped", self.id)));
        }
        kept.container.update(&Bundle::resources(resources.as_bytes())?).await
    }

    /// Executes a further process, says its pid to `stream` once it runs, and waits for its end.
    async fn exec(&self, exec: &Exec, fds: Vec<OwnedFd>, stream: &mut UnixStream) -> Result<Exit> {
        let kept = self.kept()?;
        if kept.status() == Status::Stopped {
            return Err(Error::new(Kind::Precondition, format!("container {} has stopped", self.id)));
        }
        if kept.status() == Status::Paused && !exec.ignore_paused {
            let text = format!("container {} is paused: resume it first, or --ignore-paused", self.id);
            return Err(Error::new(Kind::Precondition, text));
        }
        if !exec.ignore_paused {
            kept.container.refuse_frozen()?;
        }
        let spec = Bundle::process(exec.process.as_bytes())?;
        let fds = descriptors(spec.terminal, exec.console_socket.as_deref(), fds)?;
        let process = kept.container.exec(&spec, fds).await?;
        let introduced = introduce(&process, (exec.console_socket.as_deref(), exec.foreground));
        let started = match introduced {
            Ok(()) => process.start().await,
            Err(error) => process.signal(Signal::SIGKILL as i32).and(Err(error)),
        };
        if started.is_ok() {
            say(stream, &Answer::Pid(process.pid())).await;
        }
        // One that could not be executed has ended, and is reaped like any other.
        let exit = process.wait().await;
        started.and(exit)
    }

    fn kept(&self) -> Result<Rc<Kept>> {
        let kept = self.kept.borrow().clone();
        kept.ok_or_else(|| Error::new(Kind::NotFound, format!("container {} does not exist", self.id)))
    }
}

impl Kept {
    /// Waits for init, then tells everybody who waits, and the state file.
    async fn reap(self: Rc<Self>, directory: PathBuf) {
        let exit = self.container.init().wait().await;
        self.exit.send_replace(Some(exit));
        // The directory may have been deleted meanwhile; then nobody needs the file.
        let _ = control::write_state(&directory, &self.state());
    }

    async fn ended(&self) -> Result<Exit> {
        let mut exit = self.exit.subscribe();
        let exit = exit.wait_for(Option::is_some).await.expect("we hold the sender").clone();
        exit.expect("waited for until some")
    }

    /// Asked of the kernel: an end counts from the moment it happens, not from when we come to reap it.
    fn status(&self) -> Status {
        match self.container.init().signal(0) {
            Err(error) if error.kind() == Kind::NotFound => Status::Stopped,
            Ok(()) | Err(_) if self.paused.get() => Status::Paused,
            Ok(()) | Err(_) if self.started.get() => Status::Running,
            Ok(()) | Err(_) => Status::Created,
        }
    }

    fn state(&self) -> State {
        let status = self.status();
        State { status, pid: if status == Status::Stopped { 0 } else { self.state.pid }, ..self.state.clone() }
    }
}

/// A terminal where the process wants one, else the caller's three descriptors; and what came with them.
fn descriptors(terminal: bool, console_socket: Option<&Path>, mut fds: Vec<OwnedFd>) -> Result<Descriptors> {
    let preserved = fds.split_off(fds.len().min(3));
    let stdio = match (terminal, console_socket) {
        (true, Some(_)) => Ok(Stdio::Terminal),
        (true, None) => Err(Error::new(Kind::Invalid, "/process/terminal: there is no socket to send it to")),
        (false, _) => <[OwnedFd; 3]>::try_from(fds)
            .map(Stdio::Files)
            .map_err(|fds| Error::new(Kind::Invalid, format!("{} descriptors came in place of three", fds.len()))),
    };
    Ok(Descriptors { stdio: stdio?, preserved })
}

/// Sends a new process's terminal to its caller, who may be about to relay it to a terminal of this size.
fn introduce(process: &Process, (console_socket, foreground): (Option<&Path>, Option<Size>)) -> Result<()> {
    let (Some(path), Some(master)) = (console_socket, process.take_console()) else { return Ok(()) };
    if let Some(size) = foreground {
        terminal::prepare(&master, size)?;
    }
    control::send_console(path, &master)
}

/// Writes a pid file.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    fs::write(path, pid.to_string()).map_err(|error| Error::io(format!("write {}", path.display()), &error))
}

/// Removes a state directory.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).map_err(|error| Error::io(format!("remove {}", directory.display()), &error))
}

/// One line to a client, who may have lost interest.
async fn say(stream: &mut UnixStream, answer: &Answer) {
    let mut line = serde_json::to_vec(answer).expect("an answer has string keys only");
    line.push(b'\n');
    let _ = stream.write_all(&line).await;
}
