//! What of a cut is news to a node that has come to a position. Pure: snapshots in, changes out.
//!
//! Mostly a cut begins where the node is. It does not where Redis has lost its newest entries and the publisher wrote them
//! again, cut otherwise; where the node moves over from another stream; where entries were trimmed before it read
//! them. Snapshots say what is known and what is missing, whatever the stream went through.

use std::sync::Arc;

use crate::change::Cut;
use crate::cursor::{Cursor, Snapshot};

/// What to do with a cut.
#[derive(Debug)]
pub enum Step {
    /// Nothing in it is news.
    Skip,
    /// What is news of it, and the position after it.
    Take(Cut, Cursor),
    /// Between the position and this cut something is missing: the changes up to this snapshot, which the cut hands back.
    Missing(Snapshot, Cut),
    /// It is of another incarnation of the server than the position.
    AnotherLife(Cut),
}

/// What a node at `position` does with a cut, or a chunk of one, that begins `at` a position.
pub fn step(position: &Cursor, at: Option<&Cursor>, mut cut: Cut) -> Step {
    let (from, until) = (cut.from.clone(), cut.until.clone());
    if from.lineage() != position.lineage() {
        return Step::AnotherLife(cut);
    }
    // of a chunk, what of its cut came before it
    let before = at.and_then(|at| at.inside.as_ref()).filter(|(end, _)| *end == *until).map_or(0, |(_, id)| *id);
    let after = match &position.inside {
        // the rest of the cut in which the position lies comes first
        Some((end, id)) if *end != *until || !position.seen.covers(&from.seen) || *id < before => {
            return Step::Missing(end.clone(), cut);
        }
        Some((_, id)) => *id,
        None if position.seen != *until && position.seen.covers(&until) => return Step::Skip,
        // where each knows something that the other does not, what follows is not to be told again
        None if !position.seen.covers(&from.seen) => {
            let until = if from.seen.covers(&position.seen) { &from.seen } else { &*until };
            return Step::Missing(until.clone(), cut);
        }
        None if before > 0 && position.seen != *until => return Step::Missing((*until).clone(), cut),
        None => 0,
    };
    let last = cut.changes.last().map(|change| change.id);
    cut.changes.retain(|change| change.is_after(after) && !position.seen.sees(change.tx));
    if position.seen != from.seen {
        cut.from = Arc::new(Cursor { seen: position.seen.clone(), ..(*from).clone() });
    }
    let next = match (&cut.end, last) {
        (Some(end), _) => end.cursor.clone(),
        // also where nothing of it is news: what follows is another chunk of the same cut
        (None, Some(id)) => cut.position(id.max(after)),
        (None, None) => return Step::Skip,
    };
    Step::Take(cut, next)
}

/// Whether a node at `position` is where an entry begins.
pub fn is_in_sequence(position: &Cursor, at: &Cursor) -> bool {
    position.lineage() == at.lineage() && position.seen == at.seen && position.inside == at.inside
}

/// Whether a node that has seen all that `seen` saw can begin with an entry at this position, and misses nothing.
pub fn can_begin(seen: &Snapshot, at: &Cursor) -> bool {
    // in the middle of a cut: a node that has not seen all of it does not know what of it was before
    seen.covers(at.inside.as_ref().map_or(&at.seen, |(end, _)| end))
}

/// Whether something that a node at `position` does not know lies before an entry that begins `at` a position and is no cut.
pub fn misses(position: &Cursor, at: &Cursor) -> bool {
    position.lineage() == at.lineage()
        && match (&position.inside, &at.inside) {
            (Some((end, id)), Some((same, before))) if end == same => id < before,
            _ => !can_begin(&position.seen, at),
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::change::Change;
    use crate::cursor::Boundary;

    fn boundary(seen: Snapshot) -> Boundary {
        Boundary::new(Cursor { epoch: 7, incarnation: 1, lsn: 1, seen, inside: None })
    }

    fn change(id: i64, tx: u64) -> Change {
        Change { id, tx, at: 0, actor: None, update: None, notification: None }
    }

    /// 20 transactions; number i commits at `ends[i]`, and its change has the id i + 1.
    fn at(ends: &[usize], time: usize) -> Snapshot {
        let open = ends.iter().enumerate().filter(|(_, end)| **end > time).map(|(i, _)| (10 + i).to_string());
        let xip: Vec<String> = open.collect();
        let xmin = xip.first().cloned().unwrap_or_else(|| "30".into());
        Snapshot::parse(&format!("{xmin}:30:{}", xip.join(","))).unwrap()
    }

    /// The chunks of the cut between two moments, and where each begins.
    fn cuts(ends: &[usize], from: usize, until: usize, size: usize) -> Vec<(Cursor, Cut)> {
        let (seen, now) = (at(ends, from), boundary(at(ends, until)));
        let changes: Vec<Change> = (0..20_u64)
            .filter(|i| now.cursor.seen.sees(10 + i) && !seen.sees(10 + i))
            .map(|i| change(i as i64 + 1, 10 + i))
            .collect();
        let chunks: Vec<Vec<Change>> = changes.chunks(size).map(<[_]>::to_vec).collect();
        let count = chunks.len().max(1);
        let chunks = chunks.into_iter().chain(changes.is_empty().then(Vec::new));
        let mut at = boundary(seen.clone()).cursor;
        let mut position_after = |changes: &[Change]| {
            let inside = changes.last().map(|last| (now.cursor.seen.clone(), last.id));
            std::mem::replace(&mut at, Cursor { seen: seen.clone(), inside, ..now.cursor.clone() })
        };
        chunks
            .enumerate()
            .map(|(i, changes)| {
                let at = position_after(&changes);
                let from = Arc::new(Cursor { seen: seen.clone(), ..now.cursor.clone() });
                let until = Arc::new(now.cursor.seen.clone());
                (at, Cut { changes, from, until, end: (i + 1 == count).then(|| now.clone()) })
            })
            .collect()
    }

    /// Where a node stands: at the snapshot before `seen`, or inside the cut from there to the one before `end`, behind an id.
    fn place(seen: u64, inside: Option<(u64, i64)>) -> Cursor {
        let inside = inside.map(|(end, id)| (Snapshot::all_before(end), id));
        Cursor { inside, ..boundary(Snapshot::all_before(seen)).cursor }
    }

    #[test]
    fn an_entry_follows_where_it_begins_at_the_same_position_and_nowhere_else() {
        let here = place(20, Some((30, 4)));
        assert!(is_in_sequence(&here, &here.clone()));
        for other in [
            place(20, None),
            place(20, Some((30, 5))),
            place(20, Some((31, 4))),
            place(21, Some((30, 4))),
            Cursor { epoch: 8, ..here.clone() },
            Cursor { incarnation: 2, ..here.clone() },
        ] {
            assert!(!is_in_sequence(&here, &other) && !is_in_sequence(&other, &here), "{other:?}");
        }
    }

    #[test]
    fn a_reading_begins_where_all_that_lies_before_was_seen() {
        let seen = Snapshot::all_before(25);
        assert!(can_begin(&seen, &place(25, None)) && can_begin(&seen, &place(20, None)));
        assert!(!can_begin(&seen, &place(26, None)), "25 lies before it");
        assert!(!can_begin(&seen, &place(20, Some((30, 4)))), "in a cut of which it has not seen all");
        assert!(can_begin(&seen, &place(20, Some((25, 4)))), "in one that it has");
    }

    #[test]
    fn a_node_misses_what_lies_between_it_and_the_next_entry() {
        for (position, at, is_missing) in [
            (place(20, None), place(20, None), false),
            (place(21, None), place(20, None), false),
            (place(20, None), place(21, None), true),
            // inside one cut it goes by the id
            (place(20, Some((30, 4))), place(20, Some((30, 4))), false),
            (place(20, Some((30, 5))), place(20, Some((30, 4))), false),
            (place(20, Some((30, 4))), place(20, Some((30, 5))), true),
            // of another cut that it has not seen it cannot know what was told
            (place(20, Some((30, 9))), place(20, Some((31, 4))), true),
            (place(32, None), place(20, Some((31, 4))), false),
        ] {
            assert_eq!(misses(&position, &at), is_missing, "{position:?} before {at:?}");
        }
        let later = Cursor { incarnation: 2, ..place(40, None) };
        assert!(!misses(&place(20, None), &later), "another incarnation is another matter");
    }

    #[test]
    fn inside_a_cut_a_node_takes_what_follows_its_id() {
        let cut = || Cut {
            changes: (1..=6).map(|id| change(id, 20 + id as u64)).collect(),
            from: Arc::new(place(20, None)),
            until: Arc::new(Snapshot::all_before(30)),
            end: Some(boundary(Snapshot::all_before(30))),
        };
        let ids = |position: Cursor, at: Cursor| match step(&position, Some(&at), cut()) {
            Step::Take(cut, next) => {
                assert_eq!(next, place(30, None));
                Some(cut.changes.iter().map(|change| change.id).collect::<Vec<_>>())
            }
            Step::Missing(until, _) => {
                assert_eq!(until, position.inside.map_or(Snapshot::all_before(30), |(end, _)| end));
                None
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ids(place(20, Some((30, 2))), place(20, Some((30, 2)))), Some(vec![3, 4, 5, 6]));
        assert_eq!(ids(place(20, Some((30, 4))), place(20, Some((30, 2)))), Some(vec![5, 6]), "it was there already");
        assert_eq!(ids(place(20, Some((30, 2))), place(20, Some((30, 3)))), None, "3 is missing");
        assert_eq!(ids(place(20, Some((29, 2))), place(20, None)), None, "the rest of its own cut comes first");
        assert_eq!(ids(place(19, Some((30, 2))), place(20, None)), None, "and what came before it");
        assert_eq!(ids(place(20, None), place(20, Some((30, 2)))), None, "1 and 2 were told elsewhere");
        assert_eq!(ids(place(30, None), place(20, Some((30, 2)))), Some(vec![]), "it has seen all of it");
    }

    /// Else each chunk but the first would be read from the outbox.
    #[test]
    fn the_next_chunk_of_a_cut_is_taken_where_the_last_one_ended() {
        let ends: Vec<usize> = (0..20).map(|i| i % 7).collect();
        let mut position = boundary(at(&ends, 0)).cursor;
        let mut ids = Vec::new();
        for (at, cut) in cuts(&ends, 0, 5, 2) {
            let Step::Take(cut, next) = step(&position, Some(&at), cut) else { panic!("nothing is missing at {at:?}") };
            ids.extend(cut.changes.iter().map(|change| change.id));
            position = next;
        }
        assert!(ids.len() > 4 && ids.is_sorted());
        assert_eq!(position, boundary(self::at(&ends, 5)).cursor);
    }

    /// A stream that was emptied begins with the newest changes; of the older ones, a transaction has ended meanwhile that
    /// ran when this node was there.
    #[test]
    fn of_two_positions_that_each_know_more_the_next_cut_makes_one() {
        let snapshot = |text| Snapshot::parse(text).unwrap();
        let (begin, end) = (snapshot("15:15:"), boundary(snapshot("25:25:")));
        let mut position = boundary(snapshot("10:20:10")).cursor;
        let cut = || {
            let changes = (15..25).map(|tx| change(tx as i64, tx)).collect();
            let until = Arc::new(end.cursor.seen.clone());
            let from = Arc::new(Cursor { seen: begin.clone(), ..end.cursor.clone() });
            Cut { changes, from, until, end: Some(end.clone()) }
        };
        let Step::Missing(until, cut) = step(&position, None, cut()) else { panic!("10 is missing") };
        assert_eq!(until, end.cursor.seen, "15 to 19 are not to be forgotten");
        // it was read: 10, and 20 to 24
        position.seen = until;
        let Step::Take(cut, position) = step(&position, None, cut) else { panic!("it goes on after the cut") };
        assert!(cut.changes.is_empty() && position.seen == end.cursor.seen);
    }

    proptest! {
        /// However often the stream is cut anew, from whichever position, each change is taken once, and none is passed over.
        #[test]
        fn each_change_is_taken_once(
            ends in prop::collection::vec(1_usize..40, 20),
            // where a reading of the stream begins, in steps back from where the last one ended; its cuts; chunks of a cut
            readings in prop::collection::vec((0_usize..15, prop::collection::vec(1_usize..10, 1..5), 1_usize..4), 1..6),
            broken in prop::collection::vec(any::<bool>(), 64),
            // entries that are trimmed before they are read
            lost in prop::collection::vec(prop::bool::weighted(0.2), 64),
        ) {
            let mut position = boundary(at(&ends, 0)).cursor;
            let (mut broken, mut lost) = (broken.into_iter().cycle(), lost.into_iter().cycle());
            let mut taken: Vec<i64> = Vec::new();
            let mut time = 0_usize;
            'readings: for (back, steps, size) in readings {
                let mut from = time.saturating_sub(back);
                for step_now in steps {
                    let until = (from + step_now).min(45);
                    for (at, cut) in cuts(&ends, from, until, size) {
                        let mut read = Some(cut).filter(|_| lost.next() == Some(false));
                        while let Some(cut) = read.take() {
                            match step(&position, Some(&at), cut) {
                                Step::Take(cut, next) => {
                                    taken.extend(cut.changes.iter().map(|change| change.id));
                                    position = next;
                                }
                                Step::Skip => {}
                                // as it comes from the outbox
                                Step::Missing(until, cut) => {
                                    prop_assert!(position.inside.is_some() || !position.seen.covers(&until));
                                    let after = position.inside.take().map_or(0, |(_, id)| id);
                                    let missed = (0..20_u64).filter(|i| !position.seen.sees(10 + i) && until.sees(10 + i));
                                    taken.extend(missed.map(|i| i as i64 + 1).filter(|id| *id > after));
                                    position.seen = until;
                                    read = Some(cut);
                                }
                                Step::AnotherLife(_) => prop_assert!(false),
                            }
                        }
                        if broken.next() == Some(true) && position.inside.is_some() {
                            continue 'readings;
                        }
                    }
                    from = until;
                    time = time.max(until);
                }
            }
            let after = position.inside.as_ref().map_or(0, |(_, id)| *id);
            let end = position.inside.as_ref().map_or(&position.seen, |(end, _)| end);
            let mut wanted: Vec<i64> = (0..20_u64)
                .filter(|i| position.seen.sees(10 + i) || (end.sees(10 + i) && (*i as i64) < after))
                .map(|i| i as i64 + 1)
                .filter(|id| !at(&ends, 0).sees(9 + *id as u64))
                .collect();
            taken.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(taken, wanted);
        }
    }
}
