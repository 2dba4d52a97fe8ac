//! Random lives: clients ask for anything at any time, a small model of the kernel answers in any order, and what is
//! told must keep the order that clients rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use proptest::prelude::*;
use runtime_core::{Exit, Kind};

use super::{Effect, Event, Freeze, INIT, Lifecycle, State};

const IDS: [&str; 4] = [INIT, "a", "b", "c"];

/// What happens next; it is left out where the kernel could not do it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Reserve(usize),
    Prepared(usize, bool),
    Start(usize),
    Released(usize, bool),
    Dies(usize),
    ExitSeen(usize),
    Delete(usize),
    Cleared(usize, bool),
    Pause,
    Frozen(bool),
    Resume,
    Kill,
    Oom,
}

/// What the kernel and the actor hold, beside the machine under test.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Default)]
struct World {
    reserved: BTreeSet<String>,
    alive: BTreeSet<String>,
    watched: BTreeSet<String>,
    released: BTreeSet<String>,
    refused: BTreeSet<String>,
    clearing: BTreeSet<String>,
    /// Per life of a name: what was told and settled.
    told: BTreeMap<String, Vec<Event>>,
    settled: BTreeMap<String, Exit>,
    init_exit_told: bool,
    deleted: bool,
    /// A freeze is under way.
    freezing: bool,
    /// What the kernel has done.
    frozen: bool,
    paused_told: bool,
}

impl World {
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish(id, event) => self.told(&id, event),
                Effect::Watch(id) => assert!(self.watched.insert(id.clone()), "{id:?} is watched twice"),
                Effect::Release(id) => assert!(self.released.insert(id.clone()), "{id:?} is released twice"),
                Effect::Refuse(id) => assert!(self.refused.insert(id.clone()), "{id:?} is refused twice"),
                Effect::Kill(id) => _ = self.alive.remove(&id),
                Effect::KillAll => self.alive.clear(),
                Effect::Freeze => assert!(!std::mem::replace(&mut self.freezing, true), "frozen twice at once"),
                Effect::Thaw => self.frozen = false,
                Effect::Settle(id, exit) => {
                    assert!(self.settled.insert(id.clone(), exit).is_none(), "{id:?} is settled twice");
                }
                Effect::TearDown(id) => {
                    assert!(self.settled.contains_key(&id), "{id:?} is cleared away before its end was told");
                    assert!(self.clearing.insert(id.clone()), "{id:?} is cleared away twice");
                }
            }
        }
    }

    fn told(&mut self, id: &str, event: Event) {
        assert!(!self.deleted, "{event:?} of {id:?} after the container's delete");
        assert!(
            !(self.init_exit_told && id != INIT && event != Event::ExecAdded),
            "{event:?} of {id:?} after init's exit"
        );
        if event == Event::Oom {
            assert!(!self.init_exit_told, "an oom after init's exit");
            return;
        }
        if matches!(event, Event::Paused | Event::Resumed) {
            assert_eq!(id, INIT);
            assert!(self.told[id].contains(&Event::Start), "{event:?} before the start");
            let paused = event == Event::Paused;
            assert_ne!(std::mem::replace(&mut self.paused_told, paused), paused, "{event:?} is told twice");
            assert_eq!(self.frozen, paused);
            return;
        }
        let before = self.told.entry(id.to_owned()).or_default();
        let kinds: Vec<_> = before.iter().map(std::mem::discriminant).collect();
        let kind = std::mem::discriminant(&event);
        assert!(!kinds.contains(&kind), "{event:?} of {id:?} is told twice");
        let first = std::mem::discriminant(if id == INIT { &Event::Create } else { &Event::ExecAdded });
        let started = kinds.contains(&std::mem::discriminant(&Event::Start));
        match &event {
            Event::Create | Event::ExecAdded => assert!(kinds.is_empty()),
            Event::Start => assert_eq!(kinds, [first], "{id:?} starts after {before:?}"),
            Event::Exit(_) => assert!(kinds.first() == Some(&first) && (started || id == INIT)),
            Event::Delete(exit) => {
                assert_eq!(id, INIT);
                assert_eq!(before.last(), Some(&Event::Exit(*exit)));
                self.deleted = true;
            }
            Event::Oom | Event::Paused | Event::Resumed => unreachable!("looked at above"),
        }
        self.init_exit_told |= id == INIT && matches!(event, Event::Exit(_));
        before.push(event);
    }

    fn forget(&mut self, id: &str) {
        for set in [
            &mut self.reserved,
            &mut self.alive,
            &mut self.watched,
            &mut self.released,
            &mut self.refused,
            &mut self.clearing,
        ] {
            set.remove(id);
        }
        self.told.remove(id);
        self.settled.remove(id);
    }
}

fn exit(status: usize) -> Exit {
    Exit { status: u32::try_from(status).unwrap(), at: SystemTime::UNIX_EPOCH }
}

fn take(machine: &mut Lifecycle, world: &mut World, step: Step, owns_pids: bool) {
    match step {
        Step::Reserve(n) => {
            let known = machine.processes.contains_key(IDS[n]);
            match machine.reserve(IDS[n]) {
                Ok(()) => assert!(!known && world.reserved.insert(IDS[n].to_owned())),
                Err(error) => assert_eq!(error.kind(), if known { Kind::Exists } else { Kind::Precondition }),
            }
        }
        Step::Prepared(n, forked) if world.reserved.remove(IDS[n]) => {
            if forked {
                world.alive.insert(IDS[n].to_owned());
                let effects = machine.prepared(IDS[n]);
                world.carry_out(effects);
            } else {
                let effects = machine.unprepared(IDS[n], exit(n));
                world.carry_out(effects);
            }
        }
        Step::Start(n) => {
            if let Ok(effects) = machine.start(IDS[n]) {
                world.carry_out(effects);
            }
        }
        Step::Released(n, ok) if world.released.remove(IDS[n]) => {
            let effects = if ok { machine.started(IDS[n]) } else { machine.start_failed(IDS[n]) };
            world.carry_out(effects);
        }
        Step::Dies(n) => {
            world.alive.remove(IDS[n]);
            if IDS[n] == INIT && owns_pids {
                world.alive.clear();
            }
        }
        Step::ExitSeen(n) if !world.alive.contains(IDS[n]) && world.watched.remove(IDS[n]) => {
            let effects = machine.exited(IDS[n], exit(n));
            world.carry_out(effects);
        }
        Step::Delete(n) => {
            if let Ok(effects) = machine.delete(IDS[n]) {
                world.carry_out(effects);
            }
        }
        Step::Cleared(n, cleared) if world.clearing.remove(IDS[n]) => {
            let effects = machine.deleted(IDS[n], cleared);
            world.carry_out(effects);
            if cleared && IDS[n] != INIT {
                world.forget(IDS[n]);
            }
        }
        Step::Pause => {
            if let Ok(effects) = machine.pause() {
                world.carry_out(effects);
            }
        }
        Step::Frozen(ok) if world.freezing => {
            world.freezing = false;
            world.frozen = ok;
            let effects = machine.frozen(ok);
            world.carry_out(effects);
        }
        Step::Resume if machine.resume().is_ok() => {
            world.frozen = false;
            let effects = machine.resumed();
            world.carry_out(effects);
        }
        Step::Oom => world.carry_out(machine.oom()),
        Step::Kill if machine.signal(INIT).is_ok() => {
            world.alive.remove(INIT);
            let effects = machine.killed();
            world.carry_out(effects);
        }
        _ => {}
    }
}

/// Everything under way comes to its end, everything dies, everything is deleted.
fn finish(machine: &mut Lifecycle, world: &mut World, owns_pids: bool, starts: bool) {
    take(machine, world, Step::Frozen(true), owns_pids);
    // Ends are seen before the starts that are under way, and init's end first, which is the hardest.
    let rounds: [fn(usize, bool) -> Step; 5] = [
        |n, _| Step::Prepared(n, true),
        |n, _| Step::Dies(n),
        |n, _| Step::ExitSeen(n),
        Step::Released,
        |n, _| Step::ExitSeen(n),
    ];
    for round in rounds {
        for n in 0..IDS.len() {
            take(machine, world, round(n, starts), owns_pids);
        }
    }
    for n in (0..IDS.len()).rev() {
        let id = IDS[n];
        if machine.state(id).is_none() {
            continue;
        }
        assert!(world.settled.contains_key(id), "those who wait for {id:?} ({:?}) have no answer", machine.state(id));
        let told = world.told.get(id).cloned().unwrap_or_default();
        let exits = told.iter().filter(|event| matches!(event, Event::Exit(_))).count();
        let due = usize::from(id == INIT || told.contains(&Event::Start));
        assert_eq!(exits, due, "exits of {id:?}, told {told:?}");
        take(machine, world, Step::Delete(n), owns_pids);
        take(machine, world, Step::Cleared(n, true), owns_pids);
        assert_eq!(machine.state(id), None);
    }
    assert!(!world.frozen && matches!(machine.freeze(), Freeze::Thawed | Freeze::Killed), "it is left frozen");
    assert!(machine.processes.is_empty(), "left: {:?}", machine.processes);
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..IDS.len();
    prop_oneof![
        (1..IDS.len()).prop_map(Step::Reserve),
        (1..IDS.len(), prop::bool::weighted(0.8)).prop_map(|(n, ok)| Step::Prepared(n, ok)),
        id.clone().prop_map(Step::Start),
        (id.clone(), prop::bool::weighted(0.8)).prop_map(|(n, ok)| Step::Released(n, ok)),
        id.clone().prop_map(Step::Dies),
        id.clone().prop_map(Step::ExitSeen),
        id.clone().prop_map(Step::Delete),
        (id, prop::bool::weighted(0.8)).prop_map(|(n, ok)| Step::Cleared(n, ok)),
        Just(Step::Pause),
        prop::bool::weighted(0.8).prop_map(Step::Frozen),
        Just(Step::Resume),
        Just(Step::Kill),
        Just(Step::Oom),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_keep_their_order(steps in prop::collection::vec(step(), 0..60), owns_pids: bool, starts: bool) {
        let (mut machine, effects) = Lifecycle::created(!owns_pids);
        let mut world = World::default();
        world.alive.insert(INIT.to_owned());
        world.carry_out(effects);
        for step in steps {
            take(&mut machine, &mut world, step, owns_pids);
            if world.deleted {
                return Ok(());
            }
        }
        finish(&mut machine, &mut world, owns_pids, starts);
    }
}

#[test]
fn an_end_seen_before_the_start_was_told_comes_after_it() {
    let (mut machine, _) = Lifecycle::created(false);
    machine.start(INIT).unwrap();
    assert_eq!(machine.exited(INIT, exit(7)), []);
    assert_eq!(machine.state(INIT), Some(State::Starting { ended: Some(exit(7)) }));
    let told = machine.started(INIT);
    let settled = Effect::Settle(INIT.to_owned(), exit(7));
    assert_eq!(told, [super::publish(INIT, Event::Start), super::publish(INIT, Event::Exit(exit(7))), settled]);
}

#[test]
fn inits_end_waits_for_its_execs() {
    let (mut machine, _) = Lifecycle::created(true);
    for id in ["a", "b"] {
        machine.reserve(id).unwrap();
        machine.prepared(id);
        machine.start(id).unwrap();
        machine.started(id);
    }
    assert_eq!(machine.exited(INIT, exit(0)), [Effect::KillAll]);
    assert_eq!(machine.signal(INIT).unwrap_err().kind(), Kind::NotFound);
    machine.exited("a", exit(1));
    let effects = machine.exited("b", exit(2));
    assert_eq!(effects[2], super::publish(INIT, Event::Exit(exit(0))));
}

#[test]
fn refusals_have_the_kinds_that_clients_match() {
    let (mut machine, _) = Lifecycle::created(false);
    assert_eq!(machine.start("x").unwrap_err().kind(), Kind::NotFound);
    machine.reserve("x").unwrap();
    assert_eq!(machine.reserve("x").unwrap_err().kind(), Kind::Exists);
    assert_eq!(machine.start("x").unwrap_err().kind(), Kind::NotFound, "an exec is there once it was added");
    machine.prepared("x");
    assert_eq!(machine.signal("x").unwrap_err().kind(), Kind::Precondition);
    machine.start(INIT).unwrap();
    assert_eq!(machine.start(INIT).unwrap_err().kind(), Kind::Precondition);
    machine.started(INIT);
    assert_eq!(machine.delete(INIT).unwrap_err().kind(), Kind::Precondition);
    machine.exited(INIT, exit(0));
    assert_eq!(machine.signal(INIT).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(machine.start("x").unwrap_err().kind(), Kind::Precondition);
}

#[test]
fn a_pause_that_a_kill_has_overtaken_is_taken_back() {
    let (mut machine, _) = Lifecycle::created(false);
    assert_eq!(machine.pause().unwrap_err().to_string(), "cannot pause task in created state");
    machine.start(INIT).unwrap();
    machine.started(INIT);
    assert_eq!(machine.resume().unwrap_err().to_string(), "cannot resume a running process");
    assert_eq!(machine.pause().unwrap(), [Effect::Freeze]);
    assert_eq!(machine.freeze(), Freeze::Freezing);
    assert_eq!(machine.reserve("x").unwrap_err().to_string(), "cannot exec in a paused state");
    assert_eq!(machine.killed(), [Effect::Thaw]);
    assert_eq!(machine.frozen(true), [Effect::Thaw]);
    assert_eq!(machine.freeze(), Freeze::Killed);
}

#[test]
fn an_exec_that_cannot_be_prepared_is_told_so_at_its_start() {
    let (mut machine, _) = Lifecycle::created(false);
    machine.start(INIT).unwrap();
    machine.started(INIT);
    let name = |id: &str| id.to_owned();
    for id in ["started", "deleted", "left"] {
        machine.reserve(id).unwrap();
        assert_eq!(machine.unprepared(id, exit(1)), [super::publish(id, Event::ExecAdded)]);
        assert_eq!(machine.signal(id).unwrap_err().kind(), Kind::Precondition);
    }
    let told = [Effect::Refuse(name("started")), Effect::Settle(name("started"), exit(1))];
    assert_eq!(machine.start("started").unwrap(), told);
    assert_eq!(machine.start("started").unwrap_err().kind(), Kind::Precondition);
    let gone = [Effect::Settle(name("deleted"), exit(0)), Effect::TearDown(name("deleted"))];
    assert_eq!(machine.delete("deleted").unwrap(), gone);
    let effects = machine.exited(INIT, exit(0));
    assert_eq!(effects.last(), Some(&Effect::Settle(name("left"), exit(1))));
}

#[test]
fn an_exec_that_nobody_started_ends_with_status_0() {
    for deleted_early in [true, false] {
        let (mut machine, _) = Lifecycle::created(false);
        machine.reserve("x").unwrap();
        if deleted_early {
            machine.delete("x").unwrap();
            machine.prepared("x");
        } else {
            machine.prepared("x");
            assert_eq!(machine.delete("x").unwrap(), [Effect::Kill("x".to_owned())]);
        }
        assert_eq!(machine.exited("x", exit(137))[0], Effect::Settle("x".to_owned(), exit(0)));
    }
}
