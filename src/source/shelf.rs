//! What was read of the past a moment ago, for the next client that asks for the same: when many come back at once from
//! beyond memory, one read serves all that wait. Owns its bytes and how long it is kept; knows no statement.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::change::Change;
use crate::cursor::Snapshot;
use crate::incarnations::Lineage;
use crate::sync::lock;

/// Kept for so long: clients that wait for the same come within moments.
pub(super) const KEPT: Duration = Duration::from_secs(5);
/// Each replay reads a longer past for itself.
const BYTES: u64 = 32 << 20;

/// Where its positions are good, and which channel; `None`: all.
pub(super) type ShelfKey = (Lineage, Option<Arc<str>>);

/// What was read lately, for each channel once.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<HashMap<ShelfKey, Arc<ShelfRead>>>);

/// Changes between two snapshots, by id.
#[derive(Debug)]
pub(super) struct ShelfRead {
    from: Snapshot,
    until: Snapshot,
    changes: Vec<Change>,
    bytes: u64,
    at: Instant,
}

impl ShelfRead {
    /// Nothing yet of what lies between two snapshots.
    pub(super) fn between(from: Snapshot, until: Snapshot) -> Self {
        Self { from, until, changes: Vec::new(), bytes: 0, at: Instant::now() }
    }

    /// Where it ends.
    pub(super) fn until(&self) -> &Snapshot {
        &self.until
    }

    /// Adds the next changes; says whether it is still worth keeping.
    pub(super) fn add(&mut self, changes: &[Change]) -> bool {
        self.bytes += changes.iter().map(Change::size).sum::<u64>();
        let fits = self.bytes <= BYTES;
        if fits {
            self.changes.extend_from_slice(changes);
        } else {
            self.changes = Vec::new();
        }
        fits
    }

    /// What `until` saw of it, `seen` did not, and has an id above `after`.
    pub(super) fn missed<'a>(
        &'a self,
        seen: &'a Snapshot,
        until: &'a Snapshot,
        after: i64,
    ) -> impl Iterator<Item = &'a Change> {
        self.changes.iter().filter(move |c| c.is_after(after) && until.sees(c.tx) && !seen.sees(c.tx))
    }
}

impl Shelf {
    /// What holds all that `until` saw and `seen` did not.
    pub(super) fn find(&self, key: ShelfKey, seen: &Snapshot, until: &Snapshot) -> Option<Arc<ShelfRead>> {
        let read = self.lock().get(&key).cloned()?;
        (read.at.elapsed() < KEPT && seen.covers(&read.from) && read.until.covers(until)).then_some(read)
    }

    /// Keeps what was read, in the place of what reaches less far.
    pub(super) fn put(&self, key: ShelfKey, read: ShelfRead) {
        let mut kept = self.lock();
        let all: u64 = kept.values().map(|read| read.bytes).sum();
        if all + read.bytes <= 2 * BYTES {
            kept.insert(key, Arc::new(read));
        }
    }

    /// Drops what is too old.
    pub(super) fn sweep(&self) {
        self.lock().retain(|_, read| read.at.elapsed() < KEPT);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ShelfKey, Arc<ShelfRead>>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_serves_whom_it_holds_everything_for() {
        let at = Snapshot::all_before;
        let change = |id, tx| Change { id, tx, at: 0, actor: None, update: None, notification: None };
        let of = |epoch, incarnation| Lineage { epoch, incarnation };
        let shelf = Shelf::default();
        let mut read = ShelfRead::between(at(10), at(20));
        assert!(read.add(&[change(1, 12), change(2, 11), change(3, 19)]));
        shelf.put((of(7, 1), None), read);
        let found = shelf.find((of(7, 1), None), &at(12), &at(19)).unwrap();
        let ids: Vec<i64> = found.missed(&at(12), &at(19), 0).map(|change| change.id).collect();
        assert_eq!(ids, [1]);
        for (epoch, incarnation, seen, until) in [(7, 1, 9, 19), (7, 1, 12, 21), (7, 2, 12, 19), (8, 1, 12, 19)] {
            assert!(shelf.find((of(epoch, incarnation), None), &at(seen), &at(until)).is_none());
        }
        assert!(shelf.find((of(7, 1), Some("pets".into())), &at(12), &at(19)).is_none());
    }
}
