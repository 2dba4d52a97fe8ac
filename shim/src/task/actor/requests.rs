//! What is asked of a container and its processes while they run: signals, other resources, who there is, the size of a window.

use std::collections::BTreeMap;
use std::rc::Rc;

use runtime_core::{Error, Kind, Result};
use rustix::process::Signal;

use super::{Actor, Done};
use crate::lifecycle::{INIT, State};
use crate::task::Pid;

impl Actor {
    pub(super) fn kill(&mut self, id: &str, signal: i32, all: bool) -> Result<()> {
        self.lifecycle.signal(id)?;
        if signal == Signal::KILL.as_raw() {
            // What was counted until now is not taken for what this kills.
            self.count_oom(false);
        }
        let sent = if all && id == INIT { self.container.signal_all(signal) } else { self.forked(id).signal(signal) };
        if sent.is_ok() && id == INIT && signal == Signal::KILL.as_raw() {
            let effects = self.lifecycle.killed();
            self.carry_out(effects);
        }
        sent
    }

    /// Begins with the next Update unless one is being made: each is all or nothing, so none may see half of another.
    pub(super) fn update(&mut self) {
        while self.update.is_none()
            && let Some((resources, reply)) = self.updates.pop_front()
        {
            if let Err(error) = self.lifecycle.update() {
                _ = reply.send(Err(error));
                continue;
            }
            self.update = Some(reply);
            let container = Rc::clone(&self.container);
            self.work.spawn_local(async move { Done::Updated(container.update(&resources).await) });
        }
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        self.lifecycle.resume()?;
        self.container.thaw()?;
        let effects = self.lifecycle.resumed();
        self.carry_out(effects);
        Ok(())
    }

    pub(super) fn pids(&self) -> Result<Vec<Pid>> {
        let execs: BTreeMap<i32, &String> =
            self.processes.keys().filter(|id| *id != INIT).map(|id| (self.pid(id), id)).collect();
        let pids = self.container.pids()?.into_iter();
        Ok(pids.map(|pid| Pid { pid, exec_id: execs.get(&pid).map(|id| (*id).clone()) }).collect())
    }

    /// A client follows its window without asking what has ended meanwhile: of init that is no error, as with runc's shim.
    pub(super) fn resize(&mut self, id: &str, rows: u16, columns: u16) -> Result<()> {
        match self.lifecycle.state(id) {
            Some(State::Stopped(_) | State::Deleting(_)) if id == INIT => Ok(()),
            Some(State::Stopped(_) | State::Deleting(_)) => {
                Err(Error::new(Kind::Precondition, "cannot resize the terminal of a stopped process"))
            }
            _ => self.io(id)?.map_or(Ok(()), |io| io.resize(rows, columns)),
        }
    }
}
