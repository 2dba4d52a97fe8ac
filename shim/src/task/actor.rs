//! The actor of one container: owns its lifecycle, its processes and their stdio. Commands and what the kernel reports go
//! into the lifecycle; the effects that come out are carried out here.

mod requests;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use config::resources::Resources;
use runtime_core::sandbox::Member;
use runtime_core::{Container, Error, Exit, Kind, Process, Result};
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::create::{Created, create_unless_deleted};
use super::events::Teller;
use super::registry::Message;
use super::{Command, Create, Deleted, ProcessView, Reply, Status, View, not_created};
use crate::io::{Io, Streams};
use crate::lifecycle::{Effect, Freeze, INIT, Lifecycle, State};
use crate::publisher::Publisher;

/// What an actor needs of the world around it.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// containerd's namespace.
    pub(super) namespace: String,
    /// Where events go.
    pub(super) publisher: Publisher,
    /// Who is told when the container is gone.
    pub(super) registry: mpsc::UnboundedSender<Message>,
}

/// A container and all of its state.
struct Actor {
    id: String,
    surroundings: Surroundings,
    teller: Teller,
    container: Rc<Container>,
    options: config::Options,
    /// Where we mounted something for it.
    rootfs: Option<PathBuf>,
    _member: Option<Member>,
    lifecycle: Lifecycle,
    processes: BTreeMap<String, Entry>,
    /// Dropped when the container goes, and poststart hooks that still run with it.
    poststart: Option<oneshot::Sender<()>>,
    /// What such a hook's failure is, until all has been cleared away and Start is answered with it.
    condemned: Option<Error>,
    /// Who waits for a Pause.
    pause: Option<Reply<()>>,
    /// Who waits for the Update that is being made.
    update: Option<Reply<()>>,
    /// Those after it.
    updates: VecDeque<(Box<Resources>, Reply<()>)>,
    view: watch::Sender<View>,
    /// What takes time. Each comes back as an input.
    work: JoinSet<Done>,
    /// The one piece of work that may never come back.
    oom_watch: Option<AbortHandle>,
}

/// A process and who waits for what of it.
struct Entry {
    /// None while an exec is being prepared, and where it could not be.
    process: Option<Rc<Process>>,
    /// Why it could not be, until its Start was told.
    failed: Option<Error>,
    /// None once it is closed.
    io: Option<Io>,
    streams: Arc<Streams>,
    exit: watch::Sender<Option<Exit>>,
    exec: Option<Reply<()>>,
    start: Option<Reply<i32>>,
    delete: Vec<Reply<Deleted>>,
}

/// The exit status of a process that ended by SIGKILL.
const KILLED: u32 = 128 + 9;

/// Work that has been done.
enum Done {
    Prepared(String, Result<Box<(Process, Io)>>),
    Started(String, Result<()>),
    /// Init's poststart hooks have run.
    PoststartRan(Result<()>),
    Exited(String, Exit),
    Cleared(String, Result<()>),
    Frozen(Result<()>),
    Updated(Result<()>),
    /// Somebody may have been killed for want of memory.
    OomWoken(Result<()>),
}

/// Creates the container and serves it until it is deleted.
pub(super) async fn run(
    order: Create,
    reply: Reply<i32>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    view: watch::Sender<View>,
    surroundings: Surroundings,
) {
    match create_unless_deleted(&order, &surroundings.namespace, &mut commands).await {
        Ok(created) => {
            let mut actor = Actor::new(order, created, view, surroundings);
            _ = reply.send(Ok(actor.pid(INIT)));
            actor.serve(&mut commands).await;
        }
        Err((error, delete)) => {
            surroundings.forget(order.id.as_str());
            _ = reply.send(Err(error));
            if let Some(delete) = delete {
                _ = delete.send(Err(not_created()));
            }
        }
    }
}

impl Actor {
    fn new(order: Create, created: Created, view: watch::Sender<View>, surroundings: Surroundings) -> Self {
        let Created { container, io, rootfs } = created;
        let mut init = Entry::new(order.streams);
        init.process = Some(Rc::clone(container.init()));
        init.io = Some(io);
        let id = order.id.as_str().to_owned();
        let publisher = surroundings.publisher.clone();
        let (lifecycle, effects) = Lifecycle::created(!container.owns_pid_namespace());
        let mut actor = Self {
            teller: Teller { publisher, container_id: id.clone(), create: order.event },
            id,
            surroundings,
            container: Rc::new(container),
            options: order.options,
            rootfs,
            _member: order.member,
            lifecycle,
            processes: BTreeMap::from([(INIT.to_owned(), init)]),
            poststart: None,
            condemned: None,
            pause: None,
            update: None,
            updates: VecDeque::new(),
            view,
            work: JoinSet::new(),
            oom_watch: None,
        };
        actor.carry_out(effects);
        actor.watch_oom();
        actor.show();
        actor
    }

    /// Serves until init is deleted.
    async fn serve(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) {
        loop {
            tokio::select! {
                Some(command) = commands.recv() => self.command(command),
                // Nothing aborts work, and a panic aborts the process: what was spawned comes back.
                Some(Ok(done)) = self.work.join_next() => self.done(done),
            }
            self.show();
            if self.lifecycle.state(INIT).is_none() {
                if let Some(watch) = self.oom_watch.take() {
                    watch.abort();
                }
                // Execs that died with init are still to be reaped.
                return self.work.detach_all();
            }
        }
    }

    #[inline(never)]
    fn command(&mut self, command: Command) {
        // A client that is gone needs no answer.
        match command {
            Command::Start { id, reply } => match self.lifecycle.start(&id) {
                Ok(effects) => {
                    self.entry(&id).start = Some(reply);
                    self.carry_out(effects);
                }
                Err(error) => _ = reply.send(Err(error)),
            },
            Command::Exec { id, process, streams, reply } => match self.lifecycle.reserve(&id) {
                Ok(()) => self.prepare(id, *process, streams, reply),
                Err(error) => _ = reply.send(Err(error)),
            },
            Command::Delete { id, reply } => match self.lifecycle.delete(&id) {
                Ok(effects) => {
                    self.entry(&id).delete.push(reply);
                    self.carry_out(effects);
                }
                Err(error) => _ = reply.send(Err(error)),
            },
            Command::Kill { id, signal, all, reply } => _ = reply.send(self.kill(&id, signal, all)),
            Command::Pids { reply } => _ = reply.send(self.pids()),
            Command::Stats { reply } => _ = reply.send(self.container.stats()),
            Command::Update { resources, reply } => {
                self.updates.push_back((resources, reply));
                self.update();
            }
            Command::Pause { reply } => match self.lifecycle.pause() {
                Ok(effects) => {
                    self.pause = Some(reply);
                    self.carry_out(effects);
                }
                Err(error) => _ = reply.send(Err(error)),
            },
            Command::Resume { reply } => _ = reply.send(self.resume()),
            Command::Resize { id, rows, columns, reply } => _ = reply.send(self.resize(&id, rows, columns)),
            Command::CloseStdin { id, reply } => {
                _ = reply.send(self.io(&id).map(|io| io.into_iter().for_each(Io::close_stdin)));
            }
        }
    }

    #[inline(never)]
    fn done(&mut self, done: Done) {
        match done {
            Done::Prepared(id, prepared) => self.prepared(&id, prepared),
            Done::Started(id, started) => self.started(&id, started),
            Done::PoststartRan(Ok(())) => self.answer_start(INIT, Ok(())),
            Done::PoststartRan(Err(error)) => self.condemn(error),
            Done::Updated(updated) => {
                if let Some(reply) = self.update.take() {
                    _ = reply.send(updated);
                }
                self.update();
            }
            Done::OomWoken(Ok(())) => {
                self.count_oom(false);
                self.watch_oom();
            }
            // At each end that it may have caused it is counted all the same.
            Done::OomWoken(Err(error)) => log::warn!("watch {} for want of memory: {error}", self.id),
            Done::Exited(id, exit) => {
                // Told before the end of whoever was killed or missed one that was; probes end well, and often.
                if id == INIT || exit.status != 0 {
                    self.count_oom(exit.status == KILLED);
                }
                self.entry(&id).io.iter_mut().for_each(Io::ended);
                let effects = self.lifecycle.exited(&id, exit);
                self.carry_out(effects);
            }
            Done::Cleared(id, cleared) => self.cleared(&id, &cleared),
            Done::Frozen(frozen) => {
                let effects = self.lifecycle.frozen(frozen.is_ok());
                self.carry_out(effects);
                let paused = self.lifecycle.freeze() == Freeze::Frozen;
                let overtaken = || Error::new(Kind::Precondition, "cannot pause a stopped container");
                if let Some(reply) = self.pause.take() {
                    _ = reply.send(frozen.and_then(|()| if paused { Ok(()) } else { Err(overtaken()) }));
                }
            }
        }
        // Whatever it was may have been the end that this waits for.
        self.clear_condemned();
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish(id, event) => self.teller.tell(&id, self.pid(&id), &event),
                Effect::Watch(id) => self.wait(id),
                Effect::Release(id) => self.release(id),
                Effect::Refuse(id) => {
                    let failed = self.entry(&id).failed.take();
                    self.answer_start(&id, failed.map_or(Ok(()), Err));
                }
                // One that has ended meanwhile needs no kill.
                Effect::Kill(id) => _ = self.forked(&id).signal(Signal::KILL.as_raw()),
                Effect::KillAll => {
                    if let Err(error) = self.container.signal_all(Signal::KILL.as_raw()) {
                        log::warn!("kill what init of {} has left: {error}", self.id);
                    }
                }
                Effect::Freeze => {
                    let container = Rc::clone(&self.container);
                    self.work.spawn_local(async move { Done::Frozen(container.freeze().await) });
                }
                Effect::Thaw => {
                    if let Err(error) = self.container.thaw() {
                        log::warn!("thaw {}: {error}", self.id);
                    }
                }
                Effect::Settle(id, exit) => _ = self.entry(&id).exit.send_replace(Some(exit)),
                Effect::TearDown(id) => self.tear_down(id),
            }
        }
    }

    fn watch_oom(&mut self) {
        if let Some(oom) = self.container.oom() {
            let watch = self.work.spawn_local(async move { Done::OomWoken(oom.changed().await) });
            self.oom_watch = Some(watch);
        }
    }

    fn count_oom(&mut self, killed: bool) {
        if let Some(oom) = self.container.oom().and_then(|oom| oom.count(killed)) {
            log::warn!("{}: {oom}", self.id);
            let effects = self.lifecycle.oom();
            self.carry_out(effects);
        }
    }

    /// Lets clients see where the processes are now.
    fn show(&self) {
        let view = self.processes.iter().filter_map(|(id, entry)| {
            let state = self.lifecycle.state(id)?;
            let started = id == INIT || !matches!(state, State::Created | State::Failed(_));
            let pid = if started { self.pid(id) } else { 0 };
            let streams = Arc::clone(&entry.streams);
            let view = ProcessView {
                status: status(state, self.lifecycle.freeze()),
                pid,
                streams,
                exit: entry.exit.subscribe(),
            };
            Some((id.clone(), view))
        });
        self.view.send_replace(view.collect());
    }

    fn entry(&mut self, id: &str) -> &mut Entry {
        self.processes.get_mut(id).expect("the lifecycle names only processes that the actor has")
    }

    fn forked(&self, id: &str) -> Rc<Process> {
        let process = self.processes.get(id).and_then(|entry| entry.process.clone());
        process.expect("the lifecycle acts only on processes that were forked")
    }

    fn pid(&self, id: &str) -> i32 {
        let process = self.processes.get(id).and_then(|entry| entry.process.as_ref());
        process.map_or(0, |process| process.pid())
    }

    /// Our side of the stdio of a process that clients may see; none where it is closed.
    fn io(&mut self, id: &str) -> Result<Option<&mut Io>> {
        if self.lifecycle.state(id).is_none() {
            return Err(Error::new(Kind::NotFound, format!("process {id} does not exist")));
        }
        Ok(self.entry(id).io.as_mut())
    }
}

impl Surroundings {
    /// The container of this id is no more.
    fn forget(&self, id: &str) {
        // The registry ends with the server only.
        _ = self.registry.send(Message::Gone(id.to_owned()));
    }
}

impl Entry {
    fn new(streams: Streams) -> Self {
        let (exit, _) = watch::channel(None);
        let streams = Arc::new(streams);
        let delete = Vec::new();
        Self { process: None, failed: None, io: None, streams, exit, exec: None, start: None, delete }
    }
}

fn status(state: State, freeze: Freeze) -> Status {
    match state {
        State::Running if freeze == Freeze::Freezing => Status::Pausing,
        State::Running if freeze == Freeze::Frozen => Status::Paused,
        State::Reserved | State::Created | State::Failed(_) | State::Starting { .. } | State::Doomed(_) => {
            Status::Created
        }
        State::Running | State::Ended(_) => Status::Running,
        State::Stopped(_) | State::Deleting(_) => Status::Stopped,
    }
}
