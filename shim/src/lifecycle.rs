//! The life of a container's processes as a pure state machine: (state, input) → effects. Called by the task actor alone,
//! which feeds it what clients ask for and what the kernel reports, and carries out what it answers.
//!
//! Clients rely on one order of events: create < start < exit < delete, exec-added < exec-started < exit, and init's exit
//! after the exit of every exec. Here that order follows from the shape of the states. Only the transition into a state
//! queues its event; an end that is seen while a Start is under way is carried inside [`State::Starting`] until the start
//! has been told; init's end is carried inside [`State::Ended`] while an exec has not been told to have ended.
//!
//! ```text
//!  init            Created ─▶ Starting ─▶ Running ─▶ Ended ─▶ Stopped ─▶ Deleting ─▶ gone
//!  exec  Reserved ─▶ Created ─▶ Starting ─▶ Running ──────────▶ Stopped ─▶ Deleting ─▶ gone
//!            │          └──────────┴─▶ Doomed ────────────────▲
//!            └─▶ Failed ──────────────────────────────────────┘
//! ```
//!
//! An exec that cannot be prepared (no such program, no such directory) is added all the same, and its Start tells why. With
//! containerd's own shims the program is looked for at Start, so that is where clients expect the error: containerd's client
//! tests have it so. Exec itself fails only where the request is wrong: the name is taken, or the container does not run.
//!
//! An exec whose start was never told ends without an exit event, as in containerd's own shims: the failed Start was the
//! answer. Its waiters are answered all the same. An init that ends before it was started does have an exit event.

use std::collections::BTreeMap;

use runtime_core::{Error, Exit, Kind, Result};

/// The status of an exec that could not be prepared: that of a process which does not get past execve.
pub(crate) const NOT_PREPARED: u32 = 1;

/// The status of an exec that nobody has started: containerd's own shims answer this when it is deleted.
const NEVER_RAN: u32 = 0;

/// The id by which the API names init among a container's processes.
pub(crate) const INIT: &str = "";

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// An exec's name is taken while the process is being forked.
    Reserved,
    /// It waits just before execve.
    Created,
    /// It was released; whether execve succeeds is not known yet. `ended` is an end seen already.
    Starting {
        /// Told right after the start.
        ended: Option<Exit>,
    },
    /// An exec that could not be prepared. Its Start tells why, and then it has ended so.
    Failed(Exit),
    /// It was killed before it was started, or did not get past execve: its end is about to be seen, and told with this status
    /// in place of its own.
    Doomed(Option<u32>),
    /// It runs.
    Running,
    /// Init has ended, an exec has not: not told yet.
    Ended(Exit),
    /// It has ended, and that was told.
    Stopped(Exit),
    /// What it leaves is being cleared away.
    Deleting(Exit),
}

/// Whether the container's processes are stopped where they are, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freeze {
    /// They run.
    Thawed,
    /// They are being stopped.
    Freezing,
    /// They are stopped.
    Frozen,
    /// Init was killed, or has ended: they run, and a freeze that is under way is taken back when it is done.
    Killed,
}

/// What is to be told to containerd. Every event is about the process `id` of this one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// `/tasks/create`
    Create,
    /// `/tasks/exec-added`
    ExecAdded,
    /// `/tasks/start` or `/tasks/exec-started`
    Start,
    /// `/tasks/oom`
    Oom,
    /// `/tasks/paused`
    Paused,
    /// `/tasks/resumed`
    Resumed,
    /// `/tasks/exit`
    Exit(Exit),
    /// `/tasks/delete`, of init only
    Delete(Exit),
}

/// What the caller has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Queue an event.
    Publish(String, Event),
    /// Begin to wait for the process's end and report it with [`Lifecycle::exited`].
    Watch(String),
    /// Release the process and report with [`Lifecycle::started`] or [`Lifecycle::start_failed`].
    Release(String),
    /// Answer its Start with what kept it from being prepared.
    Refuse(String),
    /// Send the process SIGKILL.
    Kill(String),
    /// Send SIGKILL to all that is left in the container's cgroup.
    KillAll,
    /// Begin to freeze the container and report with [`Lifecycle::frozen`].
    Freeze,
    /// Thaw the container.
    Thaw,
    /// Answer those who wait for the process.
    Settle(String, Exit),
    /// Clear away what the process leaves and report with [`Lifecycle::deleted`].
    TearDown(String),
}

/// One process.
#[derive(Debug)]
struct Process {
    state: State,
    /// It was asked to go before it had ended: delete it as soon as it has.
    delete: bool,
}

/// All processes of one container.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    processes: BTreeMap<String, Process>,
    freeze: Freeze,
    /// Init is no pid 1 of its own: its end does not end the others.
    shares_pids: bool,
}

impl Lifecycle {
    /// A container whose init has been created.
    pub(crate) fn created(shares_pids: bool) -> (Self, Vec<Effect>) {
        let init = Process { state: State::Created, delete: false };
        let lifecycle =
            Self { processes: BTreeMap::from([(INIT.to_owned(), init)]), freeze: Freeze::Thawed, shares_pids };
        (lifecycle, vec![publish(INIT, Event::Create), Effect::Watch(INIT.to_owned())])
    }

    /// The state of a process that clients may see.
    pub(crate) fn state(&self, id: &str) -> Option<State> {
        self.processes.get(id).map(|process| process.state).filter(|state| *state != State::Reserved)
    }

    /// Exec was asked for: takes the name.
    pub(crate) fn reserve(&mut self, id: &str) -> Result<()> {
        if self.processes.contains_key(id) {
            return Err(Error::new(Kind::Exists, format!("exec {id} exists already")));
        }
        self.needs_live_init()?;
        self.needs_thawed("cannot exec in a paused state")?;
        self.processes.insert(id.to_owned(), Process { state: State::Reserved, delete: false });
        Ok(())
    }

    /// The exec's process waits before execve.
    pub(crate) fn prepared(&mut self, id: &str) -> Vec<Effect> {
        let orphaned = self.needs_live_init().is_err();
        let Some(process) = self.processes.get_mut(id) else { return Vec::new() };
        let mut effects = Vec::new();
        if !process.delete {
            effects.push(publish(id, Event::ExecAdded));
        }
        effects.push(Effect::Watch(id.to_owned()));
        if process.delete || orphaned {
            process.state = State::Doomed(process.delete.then_some(NEVER_RAN));
            effects.push(Effect::Kill(id.to_owned()));
        } else {
            process.state = State::Created;
        }
        effects
    }

    /// The exec could not be prepared; `exit` is how that counts. Where it was deleted meanwhile the name is free again.
    pub(crate) fn unprepared(&mut self, id: &str, exit: Exit) -> Vec<Effect> {
        let Some(process) = self.processes.get_mut(id) else { return Vec::new() };
        if process.delete {
            self.processes.remove(id);
            return Vec::new();
        }
        process.state = State::Failed(exit);
        let mut effects = vec![publish(id, Event::ExecAdded)];
        if self.needs_live_init().is_err() {
            effects.extend(self.stop(id, exit));
        }
        effects
    }

    /// Start was asked for.
    pub(crate) fn start(&mut self, id: &str) -> Result<Vec<Effect>> {
        match self.visible(id)? {
            State::Created => {}
            State::Failed(exit) => {
                let mut effects = vec![Effect::Refuse(id.to_owned())];
                effects.extend(self.stop(id, exit));
                return Ok(effects);
            }
            State::Reserved | State::Starting { .. } | State::Running => {
                return Err(precondition("cannot start a process that was started already"));
            }
            State::Doomed(_) | State::Ended(_) | State::Stopped(_) | State::Deleting(_) => {
                return Err(precondition("cannot start a stopped process"));
            }
        }
        if id != INIT {
            self.needs_live_init()?;
            self.needs_thawed("cannot exec in a paused state")?;
        }
        self.set(id, State::Starting { ended: None });
        Ok(vec![Effect::Release(id.to_owned())])
    }

    /// The process is past execve, or was killed on the way.
    pub(crate) fn started(&mut self, id: &str) -> Vec<Effect> {
        let Some(State::Starting { ended }) = self.state(id) else { return Vec::new() };
        self.set(id, State::Running);
        let mut effects = vec![publish(id, Event::Start)];
        if let Some(exit) = ended {
            effects.extend(self.exited(id, exit));
        }
        effects
    }

    /// The process did not get past execve.
    pub(crate) fn start_failed(&mut self, id: &str) -> Vec<Effect> {
        let Some(State::Starting { ended }) = self.state(id) else { return Vec::new() };
        self.set(id, State::Doomed(None));
        if let Some(exit) = ended {
            return self.exited(id, exit);
        }
        // It ends by itself, with a status of its own.
        self.tell_init()
    }

    /// The process has ended and was reaped.
    pub(crate) fn exited(&mut self, id: &str, exit: Exit) -> Vec<Effect> {
        let state = self.state(id);
        let status = if let Some(State::Doomed(Some(status))) = state { status } else { exit.status };
        let exit = Exit { status, ..exit };
        match state {
            Some(State::Starting { ended: None }) => {
                self.set(id, State::Starting { ended: Some(exit) });
                Vec::new()
            }
            Some(State::Created | State::Doomed(_) | State::Running) if id == INIT => {
                self.set(INIT, State::Ended(exit));
                let mut effects = self.unfreeze();
                if self.shares_pids {
                    effects.push(Effect::KillAll);
                }
                effects.extend(self.tell_init());
                effects
            }
            Some(State::Created | State::Doomed(_)) => {
                let mut effects = self.stop(id, exit);
                effects.extend(self.tell_init());
                effects
            }
            Some(State::Running) => {
                let mut effects = vec![publish(id, Event::Exit(exit))];
                effects.extend(self.stop(id, exit));
                effects.extend(self.tell_init());
                effects
            }
            // Told once is told.
            _ => Vec::new(),
        }
    }

    /// Whether a signal may be sent to the process.
    pub(crate) fn signal(&self, id: &str) -> Result<()> {
        match self.visible(id)? {
            State::Reserved | State::Created | State::Failed(_) if id != INIT => {
                Err(precondition("process was not started"))
            }
            State::Ended(_) | State::Stopped(_) | State::Deleting(_) => {
                Err(Error::new(Kind::NotFound, "process already finished"))
            }
            _ => Ok(()),
        }
    }

    /// Processes were killed for want of memory. Reported before the end of any of them; after init's was told it is late.
    pub(crate) fn oom(&self) -> Vec<Effect> {
        match self.state(INIT) {
            None | Some(State::Stopped(_) | State::Deleting(_)) => Vec::new(),
            Some(_) => vec![publish(INIT, Event::Oom)],
        }
    }

    /// SIGKILL was sent to init. On v1 only a thawed process dies of it, so from now on nothing is frozen.
    pub(crate) fn killed(&mut self) -> Vec<Effect> {
        self.unfreeze()
    }

    /// Whether the container's resources may be changed.
    pub(crate) fn update(&self) -> Result<()> {
        match self.visible(INIT)? {
            State::Ended(_) | State::Stopped(_) | State::Deleting(_) => {
                Err(precondition("cannot update a stopped container"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the container is paused.
    pub(crate) fn freeze(&self) -> Freeze {
        self.freeze
    }

    /// Pause was asked for.
    pub(crate) fn pause(&mut self) -> Result<Vec<Effect>> {
        match (self.visible(INIT)?, self.freeze) {
            (State::Running, Freeze::Thawed) => {
                self.freeze = Freeze::Freezing;
                Ok(vec![Effect::Freeze])
            }
            (State::Running, Freeze::Freezing) => Err(precondition("cannot pause a container that is being paused")),
            (State::Running, Freeze::Frozen) => Err(precondition("cannot pause a paused container")),
            (State::Running, Freeze::Killed) => Err(precondition("cannot pause a container that is being killed")),
            (State::Reserved | State::Created | State::Starting { .. }, _) => {
                Err(precondition("cannot pause task in created state"))
            }
            _ => Err(precondition("cannot pause a stopped container")),
        }
    }

    /// All processes are stopped, or could not be and run.
    pub(crate) fn frozen(&mut self, stopped: bool) -> Vec<Effect> {
        match (self.freeze, stopped) {
            (Freeze::Freezing, true) => {
                self.freeze = Freeze::Frozen;
                vec![publish(INIT, Event::Paused)]
            }
            (Freeze::Freezing, false) => {
                self.freeze = Freeze::Thawed;
                Vec::new()
            }
            (_, true) => vec![Effect::Thaw],
            (_, false) => Vec::new(),
        }
    }

    /// Whether Resume may be asked for. It is done when [`Lifecycle::resumed`] has been called.
    pub(crate) fn resume(&self) -> Result<()> {
        match (self.visible(INIT)?, self.freeze) {
            (State::Running, Freeze::Frozen) => Ok(()),
            (State::Running, _) => Err(precondition("cannot resume a running process")),
            (State::Reserved | State::Created | State::Starting { .. }, _) => {
                Err(precondition("cannot resume task in created state"))
            }
            _ => Err(precondition("cannot resume a stopped container")),
        }
    }

    /// All processes go on.
    pub(crate) fn resumed(&mut self) -> Vec<Effect> {
        self.freeze = Freeze::Thawed;
        vec![publish(INIT, Event::Resumed)]
    }

    /// Delete was asked for. It is done when [`Lifecycle::deleted`] has been called, or the exec was found [unprepared].
    ///
    /// [unprepared]: Lifecycle::unprepared
    pub(crate) fn delete(&mut self, id: &str) -> Result<Vec<Effect>> {
        let Some(process) = self.processes.get_mut(id) else { return Err(missing(id)) };
        match process.state {
            State::Running if self.freeze == Freeze::Frozen => Err(precondition("cannot delete a paused process")),
            State::Starting { .. } | State::Running | State::Ended(_) => {
                Err(precondition("cannot delete a running process"))
            }
            State::Reserved | State::Doomed(_) => {
                process.delete = true;
                Ok(Vec::new())
            }
            State::Created => {
                process.state = State::Doomed((id != INIT).then_some(NEVER_RAN));
                process.delete = true;
                Ok(vec![Effect::Kill(id.to_owned())])
            }
            State::Failed(exit) => {
                let mut effects = self.stop(id, Exit { status: NEVER_RAN, ..exit });
                effects.extend(self.delete(id)?);
                Ok(effects)
            }
            State::Stopped(exit) => {
                process.state = State::Deleting(exit);
                Ok(vec![Effect::TearDown(id.to_owned())])
            }
            State::Deleting(_) => Ok(Vec::new()),
        }
    }

    /// What the process left is cleared away, or could not be; then Delete may be asked for again.
    pub(crate) fn deleted(&mut self, id: &str, cleared: bool) -> Vec<Effect> {
        let Some(State::Deleting(exit)) = self.state(id) else { return Vec::new() };
        if !cleared {
            self.set(id, State::Stopped(exit));
            return Vec::new();
        }
        self.processes.remove(id);
        if id != INIT {
            return Vec::new();
        }
        // With init's namespaces and cgroup gone, an exec whose end was not seen yet cannot have ended otherwise.
        let killed = Exit { status: 128 + 9, at: exit.at };
        let left = std::mem::take(&mut self.processes);
        let unseen = left.into_iter().filter(|(_, p)| !matches!(p.state, State::Stopped(_) | State::Deleting(_)));
        let mut effects: Vec<_> = unseen.map(|(id, _)| Effect::Settle(id, killed)).collect();
        effects.push(publish(INIT, Event::Delete(exit)));
        effects
    }

    /// Tells init's end, if it has ended and no exec is left whose end has yet to be told.
    fn tell_init(&mut self) -> Vec<Effect> {
        let Some(State::Ended(exit)) = self.state(INIT) else { return Vec::new() };
        let waiting = self.processes.values().any(|p| matches!(p.state, State::Starting { .. } | State::Running));
        if waiting {
            return Vec::new();
        }
        let mut effects = vec![publish(INIT, Event::Exit(exit))];
        effects.extend(self.stop(INIT, exit));
        // Nobody can start these any more.
        let failed = |(id, process): (&String, &Process)| match process.state {
            State::Failed(exit) => Some((id.clone(), exit)),
            _ => None,
        };
        let failed: Vec<_> = self.processes.iter().filter_map(failed).collect();
        effects.extend(failed.into_iter().flat_map(|(id, exit)| self.stop(&id, exit)));
        effects
    }

    fn stop(&mut self, id: &str, exit: Exit) -> Vec<Effect> {
        let Some(process) = self.processes.get_mut(id) else { return Vec::new() };
        process.state = State::Stopped(exit);
        let mut effects = vec![Effect::Settle(id.to_owned(), exit)];
        if process.delete {
            process.delete = false;
            process.state = State::Deleting(exit);
            effects.push(Effect::TearDown(id.to_owned()));
        }
        effects
    }

    fn visible(&self, id: &str) -> Result<State> {
        self.state(id).ok_or_else(|| missing(id))
    }

    fn set(&mut self, id: &str, state: State) {
        if let Some(process) = self.processes.get_mut(id) {
            process.state = state;
        }
    }

    fn unfreeze(&mut self) -> Vec<Effect> {
        match std::mem::replace(&mut self.freeze, Freeze::Killed) {
            Freeze::Thawed => Vec::new(),
            Freeze::Freezing | Freeze::Frozen | Freeze::Killed => vec![Effect::Thaw],
        }
    }

    fn needs_thawed(&self, text: &str) -> Result<()> {
        match self.freeze {
            Freeze::Thawed | Freeze::Killed => Ok(()),
            Freeze::Freezing | Freeze::Frozen => Err(precondition(text)),
        }
    }

    fn needs_live_init(&self) -> Result<()> {
        match self.state(INIT) {
            Some(State::Created | State::Starting { ended: None } | State::Running) => Ok(()),
            _ => Err(precondition("the container's init process is not running")),
        }
    }
}

fn publish(id: &str, event: Event) -> Effect {
    Effect::Publish(id.to_owned(), event)
}

fn missing(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("process {id} does not exist"))
}

fn precondition(text: &str) -> Error {
    Error::new(Kind::Precondition, text)
}

#[cfg(test)]
mod tests;
