//! The latest changes of all channels in memory, for clients that come back. Owns their bytes and how far back they
//! reach; knows no socket. A storm of reconnects is answered from here and costs the database nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::change::{Change, Cut};
use crate::cursor::Snapshot;

/// The newest chunks of cuts, oldest first.
#[derive(Debug)]
pub struct History {
    /// a client that saw all that this snapshot saw finds the rest here
    base: Option<Snapshot>,
    chunks: VecDeque<Arc<Cut>>,
    bytes: u64,
    budget: u64,
}

impl History {
    /// An empty history that keeps about `budget` bytes.
    pub fn new(budget: u64) -> Self {
        Self { base: None, chunks: VecDeque::new(), bytes: 0, budget }
    }

    /// Begins anew: what follows comes after `base`.
    pub fn restart(&mut self, base: Snapshot) {
        *self = Self { base: Some(base), ..Self::new(self.budget) };
    }

    /// What follows comes after `base`, which may see less than was promised: transactions that a crash has undone.
    pub fn go_back_to(&mut self, base: &Snapshot) {
        if self.base.as_ref().is_some_and(|promised| !base.covers(promised)) {
            self.base = Some(base.clone());
        }
    }

    /// Adds the next chunk. Drops the oldest beyond the budget.
    pub fn push(&mut self, cut: Arc<Cut>) {
        if cut.changes.is_empty() {
            return;
        }
        debug_assert!(
            self.base.as_ref().is_none_or(|base| cut.until.covers(base)),
            "I5: a cut from before the history"
        );
        self.bytes += size(&cut);
        self.chunks.push_back(cut);
        while self.bytes > self.budget
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= size(&oldest);
            // of a cut that has lost a chunk the other chunks are of no use
            self.base = Some((*oldest.until).clone());
        }
    }

    /// Forgets changes that are not to be told to anybody any more.
    pub fn forget(&mut self, gone: impl Fn(&Change) -> bool) {
        for chunk in &mut self.chunks {
            if chunk.changes.iter().any(&gone) {
                self.bytes -= size(chunk);
                let changes = chunk.changes.iter().filter(|change| !gone(change)).cloned().collect();
                let (from, until, end) = (chunk.from.clone(), chunk.until.clone(), chunk.end.clone());
                *chunk = Arc::new(Cut { changes, from, until, end });
                self.bytes += size(chunk);
            }
        }
        self.chunks.retain(|chunk| !chunk.changes.is_empty());
    }

    /// Whether everything that `seen` has missed is here.
    pub fn reaches(&self, seen: &Snapshot) -> bool {
        self.base.as_ref().is_some_and(|base| seen.covers(base))
    }

    /// The chunks that hold what `seen` has missed, and maybe more.
    pub fn since(&self, seen: &Snapshot) -> Vec<Arc<Cut>> {
        self.chunks.iter().filter(|cut| !seen.covers(&cut.until)).cloned().collect()
    }
}

/// What a subscriber is told of the changes of `cuts` that it has missed: not in `seen` but in `until`, after the id
/// `after`. In order: a cut is a cut for every reader, and inside a cut ids tell the order.
pub fn missed<'a, T>(
    cuts: &'a [Arc<Cut>],
    seen: &Snapshot,
    until: &Snapshot,
    after: i64,
    told: impl Fn(&'a Change) -> Option<T>,
) -> Vec<T> {
    let mut missed: Vec<(i64, T)> = cuts
        .iter()
        .flat_map(|cut| &cut.changes)
        .filter(|change| change.is_after(after) && !seen.sees(change.tx) && until.sees(change.tx))
        .filter_map(|change| Some((change.id, told(change)?)))
        .collect();
    // a gap has the id of the change that follows it, and stays before it
    missed.sort_by_key(|(id, _)| *id);
    missed.into_iter().map(|(_, told)| told).collect()
}

fn size(cut: &Cut) -> u64 {
    cut.changes.iter().map(Change::size).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(id: i64, tx: u64) -> Change {
        Change { id, tx, at: 0, actor: None, update: None, notification: None }
    }

    fn cut(changes: &[(i64, u64)], until: u64) -> Arc<Cut> {
        let changes = changes.iter().map(|&(id, tx)| change(id, tx)).collect();
        Arc::new(Cut::chunk(changes, Snapshot::all_before(until)))
    }

    #[test]
    fn what_falls_out_is_no_longer_promised() {
        let mut history = History::new(2 * change(1, 1).size());
        assert!(!history.reaches(&Snapshot::all_before(100)), "nothing was promised yet");
        history.restart(Snapshot::all_before(10));
        history.push(cut(&[(1, 10), (2, 11)], 12));
        assert!(history.reaches(&Snapshot::all_before(10)) && !history.reaches(&Snapshot::all_before(9)));
        history.push(cut(&[(3, 12)], 13));
        assert!(!history.reaches(&Snapshot::all_before(11)) && history.reaches(&Snapshot::all_before(12)));
        assert_eq!(history.since(&Snapshot::all_before(12)).len(), 1);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_is_as_it_was() {
        let mut history = History::new(4 * change(1, 1).size());
        history.restart(Snapshot::all_before(10));
        history.push(cut(&[(1, 10), (2, 11)], 12));
        history.push(cut(&[(3, 12)], 13));
        history.forget(|change| change.id != 2);
        let ids: Vec<i64> = history
            .since(&Snapshot::all_before(10))
            .iter()
            .flat_map(|cut| &cut.changes)
            .map(|change| change.id)
            .collect();
        assert_eq!(ids, [2]);
        assert!(history.reaches(&Snapshot::all_before(10)), "who may go on from there is not this one's to say");
        history.push(cut(&[(4, 13), (5, 13), (6, 13)], 14));
        assert_eq!(history.since(&Snapshot::all_before(10)).len(), 2, "its bytes make room for others");
    }

    proptest! {
        /// Transactions commit in any order and are read in any cuts: a client that comes back with the snapshot of any
        /// moment gets what had not committed by then, once, by id.
        #[test]
        fn who_comes_back_gets_exactly_what_was_missed(
            ends in prop::collection::vec(1_usize..40, 20),
            reads in prop::collection::btree_set(1_usize..40, 1..8),
            left_at in 1_usize..40,
        ) {
            // transaction 10 + i commits at time ends[i]; its one change has the id i + 1
            let at = |time: usize| {
                let xip: Vec<String> =
                    ends.iter().enumerate().filter(|(_, end)| **end > time).map(|(i, _)| (10 + i).to_string()).collect();
                let xmin = xip.first().cloned().unwrap_or_else(|| "30".into());
                Snapshot::parse(&format!("{xmin}:30:{}", xip.join(","))).unwrap()
            };
            let mut history = History::new(1 << 20);
            let mut seen = at(0);
            history.restart(seen.clone());
            for &time in &reads {
                let now = at(time);
                let changes = (0..20).filter(|i| now.sees(10 + i) && !seen.sees(10 + i)).map(|i| change(i as i64 + 1, 10 + i)).collect();
                history.push(Arc::new(Cut::chunk(changes, now.clone())));
                seen = now;
            }
            let left = at(left_at);
            prop_assume!(seen.covers(&left));
            let cuts = history.since(&left);
            let got: Vec<i64> = missed(&cuts, &left, &seen, 0, |change| Some(change.id));
            let wanted: Vec<i64> = (0..20).filter(|i| seen.sees(10 + i) && !left.sees(10 + i)).map(|i| i as i64 + 1).collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
