//! The table of the sleep protocol, tried in every order: two relays and two writers take their steps in all interleavings, and
//! in none of them a relay is asleep that has neither read a committed change nor a bell for it.
//!
//! A step here is what one statement does at once: a try of a lock, a read of a snapshot. What two statements do is two steps.

use std::collections::HashSet;

const WRITERS: usize = 2;
const RELAYS: usize = 2;
/// Each relay tries to fall asleep so often: once to sleep, once more after it woke.
const TRIES: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ModelWriter {
    Idle,
    /// it has drawn its transaction id
    Drew(u8),
    /// it has tried QUIET: whether its commit rings
    Tested(u8, bool),
    Committed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ModelRelay {
    /// step 1 and 2
    Awake,
    /// inside [`take_quiet`](super::take_quiet): it holds SLEEPERS exclusively, and has or has not got QUIET
    Taking(bool),
    /// step 3
    HoldsQuiet,
    /// inside [`announce`](super::announce): it holds SLEEPERS shared, and still QUIET
    Announcing,
    /// step 5
    Announced,
    /// QUIET was seen free
    Rings,
    /// step 6: its barrier
    Drew(u8),
    /// step 8
    Asleep,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    writers: [ModelWriter; WRITERS],
    relays: [ModelRelay; RELAYS],
    /// by relay: which writers' changes it has read
    read: [[bool; WRITERS]; RELAYS],
    /// by relay: a bell has come
    bells: [bool; RELAYS],
    tries: [u8; RELAYS],
    next_xid: u8,
}

/// A step of the protocol that is left out, to see that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// SLEEPERS, which keeps QUIET from being taken while somebody falls asleep
    Sleepers,
    /// step 5: the wait until QUIET is free
    BellRings,
    /// step 6 and 7: the barrier
    Barrier,
    /// the order of a writer's steps: it draws its id after its test
    IdBeforeTest,
}

impl World {
    fn start() -> Self {
        Self {
            writers: [ModelWriter::Idle; WRITERS],
            relays: [ModelRelay::Awake; RELAYS],
            read: [[false; WRITERS]; RELAYS],
            bells: [false; RELAYS],
            tries: [0; RELAYS],
            next_xid: 1,
        }
    }

    fn quiet_is_held(&self) -> bool {
        self.relays
            .iter()
            .any(|relay| matches!(relay, ModelRelay::Taking(true) | ModelRelay::HoldsQuiet | ModelRelay::Announcing))
    }

    fn sleepers_is_exclusive(&self) -> bool {
        self.relays.iter().any(|relay| matches!(relay, ModelRelay::Taking(_)))
    }

    fn sleepers_is_shared(&self) -> bool {
        use ModelRelay::{Announced, Announcing, Asleep, Drew, Rings};
        self.relays.iter().any(|relay| matches!(relay, Announcing | Announced | Rings | Drew(_) | Asleep))
    }

    /// The oldest transaction that still runs, as a snapshot says it.
    fn xmin(&self) -> u8 {
        let running = self.writers.iter().filter_map(|writer| match writer {
            ModelWriter::Drew(xid) | ModelWriter::Tested(xid, _) if *xid > 0 => Some(*xid),
            _ => None,
        });
        running.min().unwrap_or(self.next_xid)
    }

    fn reads(&mut self, relay: usize) {
        for (read, writer) in self.read[relay].iter_mut().zip(&self.writers) {
            *read |= *writer == ModelWriter::Committed;
        }
    }

    /// Whether nobody sleeps through a change: the promise of the protocol.
    fn is_right(&self) -> bool {
        (0..RELAYS).all(|relay| {
            self.relays[relay] != ModelRelay::Asleep
                || self.bells[relay]
                || (0..WRITERS).all(|writer| self.writers[writer] != ModelWriter::Committed || self.read[relay][writer])
        })
    }

    /// All that may happen next.
    fn next(&self, without: Without) -> Vec<Self> {
        let mut next = Vec::new();
        for index in 0..WRITERS {
            let mut world = self.clone();
            world.writers[index] = match self.writers[index] {
                ModelWriter::Idle if without == Without::IdBeforeTest => ModelWriter::Tested(0, !self.quiet_is_held()),
                ModelWriter::Idle => {
                    world.next_xid += 1;
                    ModelWriter::Drew(self.next_xid)
                }
                ModelWriter::Drew(xid) => ModelWriter::Tested(xid, !self.quiet_is_held()),
                ModelWriter::Tested(0, rings) => {
                    world.next_xid += 1;
                    ModelWriter::Tested(self.next_xid, rings)
                }
                ModelWriter::Tested(_, rings) => {
                    world.bells.iter_mut().for_each(|bell| *bell |= rings);
                    ModelWriter::Committed
                }
                ModelWriter::Committed => continue,
            };
            next.push(world);
        }
        for index in 0..RELAYS {
            self.steps_of(index, without, &mut next);
        }
        next
    }

    fn steps_of(&self, index: usize, without: Without, next: &mut Vec<Self>) {
        let with = |relay: ModelRelay| {
            let mut world = self.clone();
            world.relays[index] = relay;
            world
        };
        let keeps_sleepers = without != Without::Sleepers;
        match self.relays[index] {
            ModelRelay::Awake => {
                if !keeps_sleepers || (!self.sleepers_is_exclusive() && !self.sleepers_is_shared()) {
                    next.push(with(ModelRelay::Taking(false)));
                }
                if self.tries[index] < TRIES && !self.sleepers_is_exclusive() {
                    next.push(with(ModelRelay::Announced));
                }
            }
            ModelRelay::Taking(false) => {
                if !self.quiet_is_held() {
                    next.push(with(ModelRelay::Taking(true)));
                }
                next.push(with(ModelRelay::Awake));
            }
            ModelRelay::Taking(true) => next.push(with(ModelRelay::HoldsQuiet)),
            ModelRelay::HoldsQuiet => {
                if self.sleepers_is_shared() && keeps_sleepers {
                    next.push(with(ModelRelay::Awake));
                }
                if self.tries[index] < TRIES && !self.sleepers_is_exclusive() {
                    next.push(with(ModelRelay::Announcing));
                }
            }
            ModelRelay::Announcing => next.push(with(ModelRelay::Announced)),
            ModelRelay::Announced => {
                if !self.quiet_is_held() || without == Without::BellRings {
                    next.push(with(ModelRelay::Rings));
                }
            }
            ModelRelay::Rings if without == Without::Barrier => next.push(with(ModelRelay::Drew(0))),
            ModelRelay::Rings => {
                let mut world = self.clone();
                world.relays[index] = ModelRelay::Drew(self.next_xid);
                world.next_xid += 1;
                world.tries[index] += 1;
                next.push(world);
            }
            ModelRelay::Drew(barrier) => {
                // one snapshot is both: what is read, and whether it is beyond the barrier
                let mut world = self.clone();
                world.bells[index] = false;
                world.reads(index);
                if self.xmin() > barrier {
                    world.relays[index] = ModelRelay::Asleep;
                }
                next.push(world);
                next.push(with(ModelRelay::Awake));
            }
            ModelRelay::Asleep => {
                if self.bells[index] {
                    let mut world = self.clone();
                    world.bells[index] = false;
                    world.reads(index);
                    next.push(world);
                }
                next.push(with(ModelRelay::Awake));
            }
        }
    }
}

/// How many worlds there are, or the first that is wrong.
fn explore(without: Without) -> Result<usize, World> {
    let mut known = HashSet::from([World::start()]);
    let mut open = vec![World::start()];
    while let Some(world) = open.pop() {
        for next in world.next(without) {
            if !next.is_right() {
                return Err(next);
            }
            if known.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok(known.len())
}

#[test]
fn nobody_sleeps_through_a_change() {
    let worlds = explore(Without::Nothing).unwrap();
    assert!(worlds > 50_000, "only {worlds} worlds were seen");
}

#[test]
fn each_step_is_needed() {
    for without in [Without::Sleepers, Without::BellRings, Without::Barrier, Without::IdBeforeTest] {
        assert!(explore(without).is_err(), "{without:?} changes nothing");
    }
}
