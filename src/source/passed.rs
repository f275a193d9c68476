//! How much a scan from the oldest running transaction would read once more. Pure.

use std::collections::VecDeque;

use crate::cursor::Snapshot;

/// Cuts are counted one by one up to so many rows; beyond them it only matters when the last of them is out of the way.
const MANY: usize = 64;

/// Rows that were read, and that may have a later transaction id than one which is still running.
#[derive(Debug)]
pub struct Passed {
    /// of the cuts that brought rows: the id that none of their transactions reaches, and how many rows
    cuts: VecDeque<(u64, usize)>,
}

impl Passed {
    /// Nothing was read yet; before `seen` there may be any number of rows.
    pub fn before(seen: &Snapshot) -> Self {
        Self { cuts: [(seen.xmax(), MANY)].into() }
    }

    /// A cut that ended at `end` brought so many rows.
    pub fn note(&mut self, end: &Snapshot, rows: usize) {
        while self.cuts.front().is_some_and(|(below, _)| *below <= end.xmin()) {
            self.cuts.pop_front();
        }
        if rows > 0 {
            self.cuts.push_back((end.xmax(), rows));
        }
        if self.are_many()
            && let Some((below, _)) = self.cuts.pop_back()
        {
            self.cuts.clear();
            self.cuts.push_back((below, MANY));
        }
    }

    /// Whether to pass over them costs more than to look up each running transaction.
    pub fn are_many(&self) -> bool {
        self.cuts.iter().map(|(_, rows)| rows).sum::<usize>() >= MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(passed: &mut Passed, end: &str, rows: usize) -> bool {
        passed.note(&Snapshot::parse(end).unwrap(), rows);
        passed.are_many()
    }

    #[test]
    fn rows_count_until_every_transaction_of_their_cut_has_ended() {
        let mut passed = Passed::before(&Snapshot::parse("10:20:10").unwrap());
        assert!(note(&mut passed, "10:20:10", 0), "nobody knows what lies before");
        assert!(!note(&mut passed, "20:24:20", MANY - 1));
        assert!(note(&mut passed, "20:25:20", 1));
        assert!(note(&mut passed, "24:25:24", 1), "of the last cut, a row may be of 24");
        assert!(!note(&mut passed, "25:25:", 0));
        assert!(!note(&mut passed, "25:30:25", MANY - 1));
        assert!(!note(&mut passed, "30:31:30", MANY - 1), "those of the last cut are all below 30");
    }

    #[test]
    fn beside_a_transaction_that_stays_open_no_list_grows() {
        let mut passed = Passed::before(&Snapshot::all_before(10));
        assert!((11..1000).all(|xmax| note(&mut passed, &format!("10:{xmax}:10"), 1) || xmax < 10 + MANY as u64));
        assert_eq!(passed.cuts.len(), 1);
    }
}
