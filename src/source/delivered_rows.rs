//! What was delivered and may not have reached the disk yet. Owns that memory and the test against the outbox after a
//! crash; does not decide when to ask.
//!
//! After a crash, a relay's position lies beyond the last position that is known to have survived. It may go on all the
//! same if every row it delivered since is still in the outbox, with the same id, transaction and time: ids and
//! transaction ids can both be given out again. Without this test every crash would cost every subscriber a `gap`,
//! also where nothing was lost.

use std::collections::{HashSet, VecDeque};

use super::client::Client;
use crate::cursor::Snapshot;
use crate::error::{Error, Result};

/// A row that was delivered: id, transaction, microseconds since 2000.
pub type Seen = (i64, u64, i64);

/// 24 bytes each. More than this within the second between two notes of the durable position, and there is no proof.
const MOST: usize = 500_000;

/// Rows of the cuts that are not known to be durable.
#[derive(Debug, Clone)]
pub struct DeliveredRows {
    /// the newest snapshot that is known to have survived
    durable: Snapshot,
    cuts: VecDeque<(Snapshot, u64, Vec<Seen>)>,
    /// of the cut that is being read
    open: Vec<Seen>,
    count: usize,
    /// up to this position not every row is remembered
    incomplete: Option<u64>,
    /// position of the newest cursor that clients were told
    told: u64,
    /// position that was last noted as being on disk
    noted: u64,
    /// position noted before that one. Nothing is remembered of what lies before it; the last note itself may yet be
    /// lost, or not have reached the standby that takes over
    relied_on: u64,
}

impl DeliveredRows {
    /// Nothing was delivered after `position`.
    pub fn new(position: Snapshot) -> Self {
        let (cuts, open) = (VecDeque::new(), Vec::new());
        Self { durable: position, cuts, open, count: 0, incomplete: None, told: 0, noted: 0, relied_on: 0 }
    }

    /// Another relay delivered what lies before `position`, up to this LSN.
    pub fn of_another(position: Snapshot, lsn: u64) -> Self {
        Self { incomplete: Some(lsn), told: lsn, ..Self::new(position) }
    }

    /// Clients were told a cursor with this position.
    pub fn told(&mut self, lsn: u64) {
        self.told = self.told.max(lsn);
    }

    /// A row is on its way to delivery.
    pub fn note(&mut self, row: Seen) {
        if self.count < MOST {
            self.count += 1;
            self.open.push(row);
        } else {
            self.incomplete = Some(u64::MAX); // until the cut has an end
        }
    }

    /// The cut that was being read ended at `until`; it saw nothing that the log held after `lsn`.
    pub fn end_cut(&mut self, until: &Snapshot, lsn: u64) {
        let rows = std::mem::take(&mut self.open);
        self.incomplete = self.incomplete.map(|up_to| up_to.min(lsn));
        match self.cuts.back_mut() {
            Some(last) if rows.is_empty() && last.2.is_empty() => (last.0, last.1) = (until.clone(), lsn),
            _ => self.cuts.push_back((until.clone(), lsn, rows)),
        }
    }

    /// The log is on disk up to `lsn`.
    pub fn durable_up_to(&mut self, noted: u64) {
        let lsn = std::mem::replace(&mut self.noted, noted);
        self.relied_on = lsn;
        while self.cuts.front().is_some_and(|(_, at, _)| *at <= lsn) {
            if let Some((until, _, rows)) = self.cuts.pop_front() {
                self.durable = until;
                self.count -= rows.len();
            }
        }
        self.incomplete = self.incomplete.filter(|up_to| *up_to > lsn);
    }

    /// Whether clients have a cursor that is not known to be on disk.
    pub fn is_waiting(&self) -> bool {
        self.told > self.noted
    }

    /// The transaction id from which on ids may be given out again, if everything that was delivered is still there.
    /// `survived` is the last note that did.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub async fn prove_survived(&self, client: &Client, survived: u64) -> Result<Option<u64>> {
        if self.incomplete.is_some() || survived < self.relied_on {
            return Ok(None);
        }
        let delivered: Vec<Seen> = self.cuts.iter().flat_map(|(_, _, rows)| rows).chain(&self.open).copied().collect();
        let transactions: HashSet<u64> = delivered.iter().map(|(_, xid, _)| *xid).collect();
        let asked: Vec<String> = transactions.iter().map(u64::to_string).collect();
        let rows = client
            .query(
                "select id, xid::text, (extract(epoch from at) * 1000000)::int8 - 946684800000000
                   from rowcast.outbox where xid = any ($1::text[]::xid8[])",
                &[&asked],
            )
            .await
            .map_err(|e| Error::database("cannot compare what was delivered with the outbox", e))?;
        let there: HashSet<Seen> =
            rows.iter().map(|row| (row.get(0), row.get::<_, &str>(1).parse().unwrap_or(0), row.get(2))).collect();
        let newest = transactions.iter().max().map_or(0, |xid| xid + 1);
        Ok(delivered.iter().all(|row| there.contains(row)).then_some(newest.max(self.durable.xmax())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_rows_are_no_proof_until_they_are_durable() {
        let mut delivered = DeliveredRows::new(Snapshot::all_before(10));
        (0..=MOST as i64).for_each(|id| delivered.note((id, 10, 0)));
        delivered.end_cut(&Snapshot::all_before(11), 100);
        delivered.note((0, 11, 0));
        delivered.end_cut(&Snapshot::all_before(12), 200);
        assert_eq!(delivered.incomplete, Some(200), "the next cut was not remembered either");
        delivered.durable_up_to(150);
        delivered.durable_up_to(250);
        assert_eq!(delivered.incomplete, Some(200));
        delivered.durable_up_to(250);
        assert_eq!((delivered.incomplete, delivered.count), (None, 0));
    }

    #[test]
    fn what_is_durable_needs_no_witness() {
        let mut delivered = DeliveredRows::new(Snapshot::all_before(10));
        delivered.note((1, 10, 0));
        delivered.end_cut(&Snapshot::all_before(11), 100);
        delivered.note((2, 11, 0));
        delivered.end_cut(&Snapshot::all_before(12), 200);
        delivered.told(200);
        delivered.durable_up_to(150);
        assert_eq!(delivered.count, 2, "one note may be lost");
        delivered.durable_up_to(150);
        assert!(delivered.is_waiting());
        assert_eq!((delivered.durable.xmax(), delivered.count), (11, 1));
        delivered.durable_up_to(200);
        assert!(!delivered.is_waiting());
        delivered.durable_up_to(200);
        assert_eq!(delivered.count, 0);
    }
}
