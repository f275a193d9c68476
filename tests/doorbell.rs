//! The sleep protocol, searched exhaustively: every order in which writers and relays can take their steps.
//!
//! **Modelled**, each lock operation and each snapshot as a step of its own: the table in `src/source/sleep.rs`, the
//! loops of `src/source/relay.rs` around it, and the writer of `rowcast.append`, which draws its transaction id by the
//! insert, then tests QUIET shared and rings or not, then writes more rows, commits or aborts. A relay may crash at any
//! point and start anew. Transactions and sleeps go on for ever: the states are finite, so the search covers them all.
//!
//! **Abstracted.** A transaction id is only compared with a barrier, so a barrier is the set of writers that were
//! running when it was drawn. Of the outbox only this is kept: whether a relay has committed changes to read. A commit
//! becomes visible and rings at one moment. Clocks are choices: how busy it is, when a safety read comes. A connection
//! that died and still holds its locks is the second relay, which need never move again. Polling and the limits of the
//! NOTIFY queue are left out.
//!
//! **Wrong** is a relay that sleeps with nothing to wake it, while there is a committed change that it has not read.

use std::collections::HashSet;
use std::fmt::Write as _;

#[test]
fn no_relay_sleeps_through_a_change() {
    for (writers, relays) in [(2, 1), (3, 1), (2, 2)] {
        if let Some(steps) = search(Protocol::Whole, writers, relays) {
            panic!("{writers} writers, {relays} relays: a change is slept through\n{steps}");
        }
    }
}

#[test]
fn each_part_of_the_sleep_protocol_is_needed() {
    for (without, writers, relays) in [
        (Protocol::WithoutBarrier, 1, 1),
        (Protocol::TestBeforeInsert, 1, 1),
        (Protocol::QuietWithoutSleepers, 1, 2),
        (Protocol::WithoutLookAtQuiet, 1, 2),
    ] {
        assert!(
            search(without, writers, relays).is_some(),
            "{without:?}: the search finds nothing, so it proves nothing"
        );
    }
}

/// The protocol, and what is wrong without one of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Whole,
    /// asleep as soon as QUIET was seen free and the outbox was read
    WithoutBarrier,
    /// the writer tests QUIET before it draws its transaction id
    TestBeforeInsert,
    /// a relay takes QUIET although another one sleeps
    QuietWithoutSleepers,
    /// the barrier is drawn although another relay may hold QUIET
    WithoutLookAtQuiet,
}

const WRITERS: usize = 3;
const RELAYS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    writers: [Writer; WRITERS],
    relays: [Relay; RELAYS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Writer {
    at: WriterAt,
    has_id: bool,
    /// its commit will ring
    rings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WriterAt {
    Idle,
    /// has written a row, or is about to where it tests first
    BeforeTest,
    /// holds QUIET shared, for the length of the expression
    InTest,
    Tested,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Relay {
    at: RelayAt,
    /// holds QUIET exclusively, from `take_quiet` on
    holds_quiet: bool,
    bell: bool,
    /// something is committed that it has not read
    unread: bool,
    /// writers below its barrier that still run, a bit each
    barrier: u8,
}

/// Where a relay stands: the step that it takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum RelayAt {
    Down,
    // awake
    Read,
    ReadAsksSleepers,
    ReadLeavesSleepers,
    Decide,
    DecideToGiveBack,
    TakeSleepers,
    TakeQuiet,
    LeaveSleepers,
    Pause,
    // falling asleep
    ReleaseQuiet,
    LookAtQuiet,
    LeaveQuiet,
    ReadOn,
    PauseOn,
    DrawBarrier,
    ReadToBarrier,
    PauseBelowBarrier,
    // asleep
    Blocked,
    Answer,
    Wake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Not,
    Shared,
    Exclusively,
}

const IDLE: Writer = Writer { at: WriterAt::Idle, has_id: false, rings: false };
const DOWN: Relay = Relay { at: RelayAt::Down, holds_quiet: false, bell: false, unread: false, barrier: 0 };

impl Relay {
    fn quiet(self) -> Held {
        match self.at {
            _ if self.holds_quiet => Held::Exclusively,
            RelayAt::LeaveQuiet => Held::Shared,
            _ => Held::Not,
        }
    }

    fn sleepers(self) -> Held {
        use RelayAt::*;
        match self.at {
            ReadLeavesSleepers | TakeQuiet | LeaveSleepers => Held::Exclusively,
            Down | Read | ReadAsksSleepers | Decide | DecideToGiveBack | TakeSleepers | Pause => Held::Not,
            ReleaseQuiet | LookAtQuiet | LeaveQuiet | ReadOn | PauseOn | DrawBarrier | ReadToBarrier
            | PauseBelowBarrier | Blocked | Answer | Wake => Held::Shared,
        }
    }

    fn sleeps_through_a_change(self) -> bool {
        self.at == RelayAt::Blocked && self.unread && !self.bell
    }
}

impl State {
    fn others(&self, me: usize) -> impl Iterator<Item = Relay> {
        (0..RELAYS).filter(move |other| *other != me).map(|other| self.relays[other])
    }

    fn is_quiet_held_exclusively(&self) -> bool {
        self.relays.iter().any(|relay| relay.quiet() == Held::Exclusively)
    }

    fn is_quiet_free_for(&self, me: usize) -> bool {
        self.writers.iter().all(|writer| writer.at != WriterAt::InTest)
            && self.others(me).all(|relay| relay.quiet() == Held::Not)
    }

    fn is_sleepers_free_for(&self, me: usize) -> bool {
        self.others(me).all(|relay| relay.sleepers() == Held::Not)
    }

    fn can_share_sleepers(&self, me: usize) -> bool {
        self.others(me).all(|relay| relay.sleepers() != Held::Exclusively)
    }

    fn running(&self) -> u8 {
        (0..WRITERS).filter(|at| self.writers[*at].has_id).map(|at| 1 << at).sum()
    }

    /// What writer `me` may do next.
    fn writer_steps(self, protocol: Protocol, me: usize, mut push: impl FnMut(State)) {
        let writer = self.writers[me];
        let mut go = |next: Writer| {
            let mut state = self;
            state.writers[me] = next;
            push(state);
        };
        let tests_first = protocol == Protocol::TestBeforeInsert;
        match writer.at {
            WriterAt::Idle => go(Writer { at: WriterAt::BeforeTest, has_id: !tests_first, rings: false }),
            WriterAt::BeforeTest if self.is_quiet_held_exclusively() => go(Writer { at: WriterAt::Tested, ..writer }),
            WriterAt::BeforeTest => go(Writer { at: WriterAt::InTest, rings: true, ..writer }),
            WriterAt::InTest => go(Writer { at: WriterAt::Tested, ..writer }),
            WriterAt::Tested if !writer.has_id => go(Writer { has_id: true, ..writer }),
            WriterAt::Tested => {
                go(Writer { at: WriterAt::BeforeTest, ..writer });
                let mut committed = self.ended(me);
                for relay in committed.relays.iter_mut().filter(|relay| relay.at != RelayAt::Down) {
                    relay.unread = true;
                    relay.bell |= writer.rings;
                }
                push(committed);
            }
        }
        if writer.at != WriterAt::Idle {
            push(self.ended(me));
        }
    }

    fn ended(mut self, writer: usize) -> State {
        self.writers[writer] = IDLE;
        for relay in &mut self.relays {
            relay.barrier &= !(1 << writer);
        }
        self
    }

    /// What relay `me` may do next.
    fn relay_steps(self, protocol: Protocol, me: usize, mut push: impl FnMut(State)) {
        use RelayAt::*;
        let relay = self.relays[me];
        let mut go = |next: Relay| {
            let mut state = self;
            state.relays[me] = next;
            push(state);
        };
        let at = |at: RelayAt| Relay { at, ..relay };
        let reads = |then: RelayAt| Relay { at: then, unread: false, ..relay };
        let takes_bells = |then: RelayAt| Relay { at: then, bell: false, ..relay };
        match relay.at {
            // LISTEN: what is committed from here on rings, what was before is to be read
            Down => go(Relay { at: Read, unread: true, ..DOWN }),

            Read => go(reads(if relay.holds_quiet { ReadAsksSleepers } else { Decide })),
            ReadAsksSleepers if self.is_sleepers_free_for(me) => go(at(ReadLeavesSleepers)),
            ReadAsksSleepers => go(at(DecideToGiveBack)),
            ReadLeavesSleepers => go(at(Decide)),
            Decide | DecideToGiveBack => {
                if self.can_share_sleepers(me) {
                    go(at(if relay.holds_quiet { ReleaseQuiet } else { LookAtQuiet }));
                }
                go(match (relay.at, relay.holds_quiet) {
                    (DecideToGiveBack, _) => Relay { at: Pause, holds_quiet: false, ..relay },
                    (_, true) => at(Pause),
                    (_, false) if protocol == Protocol::QuietWithoutSleepers => at(TakeQuiet),
                    (_, false) => at(TakeSleepers),
                });
            }
            TakeSleepers => go(at(if self.is_sleepers_free_for(me) { TakeQuiet } else { Pause })),
            TakeQuiet => go(Relay { at: LeaveSleepers, holds_quiet: self.is_quiet_free_for(me), ..relay }),
            LeaveSleepers => go(at(Pause)),
            Pause => go(takes_bells(Read)),

            ReleaseQuiet => go(Relay { at: LookAtQuiet, holds_quiet: false, ..relay }),
            LookAtQuiet if protocol == Protocol::WithoutLookAtQuiet => go(at(DrawBarrier)),
            LookAtQuiet => go(at(if self.is_quiet_held_exclusively() { ReadOn } else { LeaveQuiet })),
            ReadOn => go(reads(PauseOn)),
            PauseOn => go(takes_bells(LookAtQuiet)),
            LeaveQuiet if protocol == Protocol::WithoutBarrier => go(at(ReadToBarrier)),
            LeaveQuiet => go(at(DrawBarrier)),
            DrawBarrier => go(Relay { at: ReadToBarrier, barrier: self.running(), ..relay }),
            ReadToBarrier => go(reads(if relay.barrier == 0 { Blocked } else { PauseBelowBarrier })),
            PauseBelowBarrier => {
                go(takes_bells(ReadToBarrier));
                go(takes_bells(Wake));
            }

            // without a bell: a safety read, or delivery asks
            Blocked => go(takes_bells(Answer)),
            Answer => {
                go(reads(Blocked));
                go(reads(Wake));
            }
            Wake => go(at(Read)),
        }
        if relay.at != Down {
            go(DOWN);
        }
    }
}

/// Breadth first through all states; the shortest way to a wrong one.
fn search(protocol: Protocol, writers: usize, relays: usize) -> Option<String> {
    let start = State { writers: [IDLE; WRITERS], relays: [DOWN; RELAYS] };
    let mut seen = HashSet::from([start]);
    let mut found = vec![(start, 0)];
    let mut next = 0;
    while let Some(&(state, _)) = found.get(next) {
        if state.relays.iter().any(|relay| relay.sleeps_through_a_change()) {
            return Some(way_to(next, &found));
        }
        let mut push = |mut after: State| {
            // relays are alike: one order of two is enough
            after.relays[..relays].sort_unstable();
            if seen.insert(after) {
                found.push((after, next));
            }
        };
        for writer in 0..writers {
            state.writer_steps(protocol, writer, &mut push);
        }
        for relay in 0..relays {
            state.relay_steps(protocol, relay, &mut push);
        }
        next += 1;
    }
    eprintln!("{protocol:?}, {writers} writers, {relays} relays: {} states", found.len());
    None
}

/// The states from the start to one that was found, a line each; a state is kept with the place of the one before it.
fn way_to(mut place: usize, found: &[(State, usize)]) -> String {
    let mut way = vec![place];
    while place != 0 {
        place = found[place].1;
        way.push(place);
    }
    way.iter().rev().fold(String::new(), |mut text, place| {
        let State { writers, relays } = found[*place].0;
        let _ = writeln!(text, "{writers:?} {relays:?}");
        text
    })
}
