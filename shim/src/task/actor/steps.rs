//! The life of one process: forked, released, waited for, and what it had closed. What takes time is spawned here, comes back as
//! [`Done`], and is gone on with here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use runtime_core::{Error, Exit, Kind, Process, Result, rootfs};
use tokio::sync::oneshot;

use super::{Actor, Done, Entry};
use crate::io::{Io, Owner, Streams};
use crate::lifecycle::{INIT, NOT_PREPARED, State};
use crate::task::create::prepare;
use crate::task::{Deleted, Reply};

impl Actor {
    #[inline(never)]
    pub(super) fn prepare(&mut self, id: String, spec: config::Process, streams: Streams, reply: Reply<()>) {
        let mut entry = Entry::new(streams);
        entry.exec = Some(reply);
        let streams = Arc::clone(&entry.streams);
        self.processes.insert(id.clone(), entry);
        let container = Rc::clone(&self.container);
        let (uid, gid) = (self.options.io_uid, self.options.io_gid);
        let owner = Owner { id: id.clone(), namespace: self.surroundings.namespace.clone(), uid, gid };
        self.work.spawn_local(async move {
            let prepared = prepare(&container, spec, &streams, &owner).await;
            Done::Prepared(id, prepared.map(Box::new))
        });
    }

    pub(super) fn prepared(&mut self, id: &str, prepared: Result<Box<(Process, Io)>>) {
        let entry = self.entry(id);
        let reply = entry.exec.take();
        let effects = match prepared {
            Ok(forked) => {
                let (process, io) = *forked;
                entry.process = Some(Rc::new(process));
                entry.io = Some(io);
                self.lifecycle.prepared(id)
            }
            Err(error) => {
                entry.failed = Some(error);
                self.lifecycle.unprepared(id, Exit { status: NOT_PREPARED, at: SystemTime::now() })
            }
        };
        self.carry_out(effects);
        let answer = if self.lifecycle.state(id).is_some() { Ok(()) } else { self.forget_unprepared(id) };
        if let Some(reply) = reply {
            _ = reply.send(answer);
        }
    }

    /// An exec that could not be prepared, and that was deleted meanwhile.
    fn forget_unprepared(&mut self, id: &str) -> Result<()> {
        let gone = || Error::new(Kind::NotFound, format!("process {id} does not exist"));
        let Some(entry) = self.processes.remove(id) else { return Err(gone()) };
        for delete in entry.delete {
            _ = delete.send(Err(gone()));
        }
        Err(entry.failed.unwrap_or_else(gone))
    }

    pub(super) fn release(&mut self, id: String) {
        let (process, container) = (self.forked(&id), Rc::clone(&self.container));
        self.work.spawn_local(async move {
            let started = if id == INIT { container.start().await } else { process.start().await };
            Done::Started(id, started)
        });
    }

    /// Start is answered when poststart hooks have run. The process is told to have started before: it has, whatever they
    /// do, and its end must not wait for a hook that hangs.
    pub(super) fn started(&mut self, id: &str, started: Result<()>) {
        let effects = match started {
            Ok(()) => self.lifecycle.started(id),
            Err(_) => self.lifecycle.start_failed(id),
        };
        self.carry_out(effects);
        if started.is_ok() {
            self.entry(id).io.iter_mut().for_each(Io::started);
        }
        if started.is_err() || id != INIT || !self.container.has_poststart_hooks() {
            return self.answer_start(id, started);
        }
        self.run_poststart_hooks();
    }

    #[inline(never)]
    fn run_poststart_hooks(&mut self) {
        let (wanted, unwanted) = oneshot::channel::<()>();
        self.poststart = Some(wanted);
        let container = Rc::clone(&self.container);
        self.work.spawn_local(async move {
            let gone = || Error::new(Kind::Precondition, "the container was deleted while its poststart hooks ran");
            Done::PoststartRan(tokio::select! {
                ran = container.after_start() => ran,
                _ = unwanted => Err(gone()),
            })
        });
    }

    pub(super) fn answer_start(&mut self, id: &str, started: Result<()>) {
        let answer = started.map(|()| self.pid(id));
        if let Some(reply) = self.entry(id).start.take() {
            // A client that is gone needs no answer.
            _ = reply.send(answer);
        }
    }

    pub(super) fn wait(&mut self, id: String) {
        let process = self.forked(&id);
        self.work.spawn_local(async move {
            let exit = exit_of(&process).await;
            Done::Exited(id, exit)
        });
    }

    pub(super) fn tear_down(&mut self, id: String) {
        if id == INIT {
            return self.tear_down_all();
        }
        let io = self.entry(&id).io.take();
        self.work.spawn_local(async move {
            close(io).await;
            Done::Cleared(id, Ok(()))
        });
    }

    #[inline(never)]
    fn tear_down_all(&mut self) {
        let io = self.entry(INIT).io.take();
        self.poststart = None;
        let container = Rc::clone(&self.container);
        let rootfs = self.rootfs.clone();
        self.work.spawn_local(async move {
            close(io).await;
            // Go on past an error: the less is left the better. Delete may be asked for again.
            let deleted = container.delete().await;
            let unmounted = rootfs.map_or(Ok(()), |path| rootfs::unmount(&path));
            Done::Cleared(INIT.to_owned(), deleted.and(unmounted))
        });
    }

    /// A poststart hook has failed, and so the container is at its end (runtime.md, "Lifecycle"): it is cleared away as by
    /// Delete, poststop hooks included, and then Start is answered with `error`. A client that deletes it finds nothing left.
    pub(super) fn condemn(&mut self, error: Error) {
        if self.lifecycle.state(INIT) == Some(State::Running) {
            let effects = self.lifecycle.killed();
            self.carry_out(effects);
        }
        self.condemned = Some(error);
    }

    /// Clears a condemned container away once all of it has ended.
    pub(super) fn clear_condemned(&mut self) {
        if self.condemned.is_some()
            && matches!(self.lifecycle.state(INIT), Some(State::Stopped(_)))
            && let Ok(effects) = self.lifecycle.delete(INIT)
        {
            self.carry_out(effects);
        }
    }

    pub(super) fn cleared(&mut self, id: &str, cleared: &Result<()>) {
        let Some(State::Deleting(exit)) = self.lifecycle.state(id) else { return };
        let condemned = if id == INIT { self.condemned.take() } else { None };
        let waiting = std::mem::take(&mut self.entry(id).delete);
        // Nobody has asked for the end of one that is condemned: it stays known, as stopped.
        let goes = cleared.is_ok() && (condemned.is_none() || !waiting.is_empty());
        let answer = cleared.clone().map(|()| Deleted { pid: self.pid(id), exit });
        let effects = self.lifecycle.deleted(id, goes);
        self.carry_out(effects);
        if let Some(error) = condemned {
            if let Err(error) = cleared {
                log::warn!("clear {} away: {error}", self.id);
            }
            self.answer_start(INIT, Err(error));
        }
        if goes {
            self.processes.remove(id);
        }
        if self.lifecycle.state(INIT).is_none() {
            // The id is free before anybody can know that the container is gone.
            self.surroundings.forget(&self.id);
        }
        for reply in waiting {
            _ = reply.send(answer.clone());
        }
    }
}

/// Waits for the end of a process. One that cannot be waited for is as good as dead: nobody may wait for it for ever.
async fn exit_of(process: &Process) -> Exit {
    process.wait().await.unwrap_or_else(|error| {
        log::error!("wait for process {}: {error}", process.pid());
        Exit { status: 255, at: SystemTime::now() }
    })
}

async fn close(io: Option<Io>) {
    if let Some(io) = io {
        io.close().await;
    }
}
