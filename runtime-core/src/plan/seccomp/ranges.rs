//! The same program with the numbers of calls in ranges, which the kernel loads in a fraction of the time.
//!
//! libseccomp asks for each number by itself: a thousand instructions for the profile that clients send. The kernel translates
//! all of them each time a process loads it, and runs it once for every number that there is (kernel/seccomp.c,
//! `seccomp_cache_prepare`). Yet that profile knows some hundred ranges of numbers that fare alike.
//!
//! Nothing is taken from the profile: the program itself is asked. It can tell numbers apart only where it compares one, so
//! what it does with one number of the stretch between two such places it does with all of them. It is run for one number
//! of each stretch, on each architecture that it asks for and on another one, up to what it returns or to where it first
//! looks at an argument. Stretches of the same outcome are put together, a binary tree of comparisons finds the range, and
//! what looks at arguments is kept as it is.
//!
//! The new program is written from its end: jumps go forward only, and a place must be known before it is jumped to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use init::Instruction;

use super::bpf::{
    AND, ARCHITECTURE, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, JUMP_SET, LOAD, NUMBER, RETURN, instruction,
};

/// As far as a place is jumped to before it is written again; a conditional jump reaches a little further.
const NEAR: usize = 250;

/// `program` by ranges; none where it does what libseccomp's do not.
pub(super) fn by_ranges(program: &[Instruction]) -> Option<Vec<Instruction>> {
    let Questions { architectures, edges } = Questions::of(program)?;
    let other = (0..=u32::MAX).find(|arch| !architectures.contains(arch))?;
    let ranges = |arch| ranges(program, arch, &edges);
    let known = architectures.into_iter().map(|arch| Some((arch, ranges(arch)?))).collect::<Option<Vec<_>>>()?;
    let others = ranges(other)?;

    let mut writer = Writer::default();
    let all = known.iter().map(|(_, ranges)| ranges).chain([&others]).flatten();
    writer.keep_arguments(program, &all.filter_map(|(_, outcome)| outcome.arguments()).collect())?;
    let mut first = writer.block(&others);
    let blocks: Vec<(u32, Place)> = known.iter().map(|(arch, ranges)| (*arch, writer.block(ranges))).collect();
    for (arch, block) in blocks {
        first = writer.branch(JUMP_EQUAL, arch, block, first);
    }
    writer.before(first, instruction(LOAD, 0, 0, ARCHITECTURE));
    Some(writer.finish())
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    /// This is returned, whatever its arguments.
    Return(u32),
    /// From this place of the old program on, its arguments decide.
    Arguments(usize),
}

impl Outcome {
    fn arguments(&self) -> Option<usize> {
        match self {
            Self::Return(_) => None,
            Self::Arguments(at) => Some(*at),
        }
    }
}

/// The first number of a range, which ends at the next one's, and what becomes of its calls.
type Range = (u32, Outcome);

/// What a program compares.
struct Questions {
    architectures: BTreeSet<u32>,
    /// Numbers from which on something else may become of a call; 0 is one.
    edges: BTreeSet<u32>,
}

impl Questions {
    /// Follows what may have been loaded when an instruction is reached.
    fn of(program: &[Instruction]) -> Option<Self> {
        const NOTHING: u8 = 1;
        const ARCH: u8 = 2;
        const NR: u8 = 4;
        const ARGUMENT: u8 = 8;
        let mut questions = Self { architectures: BTreeSet::new(), edges: BTreeSet::from([0]) };
        let mut loaded = vec![0; program.len()];
        *loaded.first_mut()? = NOTHING;
        for (at, step) in program.iter().enumerate() {
            let mut held = loaded[at];
            if held == 0 {
                continue;
            }
            let Instruction { code, k, .. } = *step;
            match code {
                LOAD if k == ARCHITECTURE => held = ARCH,
                LOAD if k == NUMBER => held = NR,
                LOAD => held = ARGUMENT,
                JUMP_EQUAL => {
                    if held & ARCH != 0 {
                        questions.architectures.insert(k);
                    }
                    if held & NR != 0 {
                        questions.edges.extend([Some(k), k.checked_add(1)].into_iter().flatten());
                    }
                }
                JUMP_GREATER if held & ARCH == 0 => questions.edges.extend(k.checked_add(1)),
                JUMP_GREATER_EQUAL if held & ARCH == 0 => _ = questions.edges.insert(k),
                JUMP_SET | AND if held & (ARCH | NR) == 0 => {}
                JUMP | RETURN => {}
                _ => return None,
            }
            for next in step.next(at) {
                *loaded.get_mut(next)? |= held;
            }
        }
        Some(questions)
    }
}

/// Where an instruction may lead.
trait Next {
    /// From the place `at`.
    fn next(&self, at: usize) -> Vec<usize>;
}

impl Next for Instruction {
    fn next(&self, at: usize) -> Vec<usize> {
        match self.code {
            RETURN => Vec::new(),
            JUMP => vec![at + 1 + self.k as usize],
            LOAD | AND => vec![at + 1],
            _ => vec![at + 1 + usize::from(self.jt), at + 1 + usize::from(self.jf)],
        }
    }
}

/// All numbers, on architecture `arch`.
fn ranges(program: &[Instruction], arch: u32, edges: &BTreeSet<u32>) -> Option<Vec<Range>> {
    let mut ranges: Vec<Range> = Vec::new();
    for number in edges {
        let outcome = outcome(program, arch, *number)?;
        if ranges.last().is_none_or(|(_, last)| *last != outcome) {
            ranges.push((*number, outcome));
        }
    }
    Some(ranges)
}

fn outcome(program: &[Instruction], arch: u32, number: u32) -> Option<Outcome> {
    let (mut at, mut loaded) = (0, 0);
    loop {
        let step = program.get(at)?;
        let k = step.k;
        let holds = match step.code {
            RETURN => return Some(Outcome::Return(k)),
            LOAD if k == ARCHITECTURE => {
                loaded = arch;
                true
            }
            LOAD if k == NUMBER => {
                loaded = number;
                true
            }
            LOAD => return Some(Outcome::Arguments(at)),
            JUMP => true,
            JUMP_EQUAL => loaded == k,
            JUMP_GREATER => loaded > k,
            JUMP_GREATER_EQUAL => loaded >= k,
            _ => return None,
        };
        let next = step.next(at);
        at = *if holds { next.first() } else { next.last() }?;
    }
}

/// A place in the new program, counted from its end.
type Place = usize;

/// The new program, its last instruction first.
#[derive(Default)]
struct Writer {
    code: Vec<Instruction>,
    /// Where each outcome was last written.
    outcomes: HashMap<Outcome, Place>,
}

impl Writer {
    /// Takes over what can be reached from `starts` in the old program.
    fn keep_arguments(&mut self, program: &[Instruction], starts: &BTreeSet<usize>) -> Option<()> {
        let (mut reached, mut rest) = (BTreeSet::new(), starts.iter().copied().collect::<Vec<_>>());
        while let Some(at) = rest.pop() {
            if reached.insert(at) {
                rest.extend(program.get(at)?.next(at));
            }
        }
        let mut places: BTreeMap<usize, Place> = BTreeMap::new();
        for at in reached.into_iter().rev() {
            let step = program[at];
            let goals = step.next(at).iter().map(|goal| places.get(goal).copied()).collect::<Option<Vec<_>>>()?;
            let place = match goals[..] {
                [] => self.outcome(Outcome::Return(step.k)),
                [goal] if step.code == JUMP => goal,
                [goal] => self.before(goal, step),
                [yes, no] => self.branch(step.code, step.k, yes, no),
                _ => return None,
            };
            places.insert(at, place);
        }
        self.outcomes.extend(starts.iter().filter_map(|at| Some((Outcome::Arguments(*at), *places.get(at)?))));
        Some(())
    }

    /// What is done with the calls of one architecture.
    fn block(&mut self, ranges: &[Range]) -> Place {
        let first = self.tree(ranges);
        if ranges.len() == 1 { first } else { self.before(first, instruction(LOAD, 0, 0, NUMBER)) }
    }

    fn tree(&mut self, ranges: &[Range]) -> Place {
        if let [(_, outcome)] = ranges {
            return self.outcome(*outcome);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let (high_place, low_place) = (self.tree(high), self.tree(low));
        self.branch(JUMP_GREATER_EQUAL, high[0].0, high_place, low_place)
    }

    /// Where `outcome` is written: anew, if the last time is too far away.
    fn outcome(&mut self, outcome: Outcome) -> Place {
        let place = match (self.outcomes.get(&outcome), outcome) {
            (Some(place), _) if self.distance(*place) <= NEAR => return *place,
            (_, Outcome::Return(value)) => self.push(instruction(RETURN, 0, 0, value)),
            (place, Outcome::Arguments(_)) => {
                let place = *place.expect("what looks at arguments was written before all else");
                self.jump(place)
            }
        };
        self.outcomes.insert(outcome, place);
        place
    }

    fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        // The second may put one more instruction before the first.
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let distance = |place| u8::try_from(self.distance(place)).expect("it is near");
        self.push(instruction(code, distance(yes), distance(no), k))
    }

    /// A place that leads to `place` and is near still when `more` instructions were written.
    fn near(&mut self, place: Place, more: usize) -> Place {
        if u8::try_from(self.distance(place) + more).is_ok() { place } else { self.jump(place) }
    }

    /// An instruction that is followed by what is at `place`.
    fn before(&mut self, place: Place, step: Instruction) -> Place {
        if self.distance(place) > 0 {
            self.jump(place);
        }
        self.push(step)
    }

    fn jump(&mut self, place: Place) -> Place {
        let distance = self.distance(place).try_into().expect("the kernel takes 4096 instructions");
        self.push(instruction(JUMP, 0, 0, distance))
    }

    /// How many instructions would be skipped on the way to `place`.
    fn distance(&self, place: Place) -> usize {
        self.code.len() - 1 - place
    }

    fn push(&mut self, step: Instruction) -> Place {
        self.code.push(step);
        self.code.len() - 1
    }

    fn finish(mut self) -> Vec<Instruction> {
        self.code.reverse();
        self.code
    }
}
