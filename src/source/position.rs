//! The position that a relay has come to, and where it begins: kept over lost connections, taken over into a new incarnation of the
//! server if nothing that was delivered is lost. Reads no change.

use std::sync::Arc;

use tokio_postgres::Row;

use super::client::Client;
use super::delivered_rows::DeliveredRows;
use super::kept::{Kept, kept};
use crate::change::{Event, Start};
use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::error::{Error, Kind, Result};
use crate::incarnations::{Incarnation, Incarnations};

/// At the start, so many of the latest changes are read, so that a client that was connected before can resume from
/// memory.
const RECENT_CHANGES: i64 = 20_000;
/// For whatever the relay's session may sort.
const WORK_MEM: &str = "set work_mem = '8MB'";
/// The id of the first transaction that a server gives out.
const FIRST_TRANSACTION: u64 = 3;

/// The position reached: what the relay goes on from, over reconnects.
#[derive(Debug, Clone)]
pub struct Position {
    pub(super) incarnations: Arc<Incarnations>,
    pub(super) seen: Snapshot,
    pub(super) lsn: u64,
    /// delivered of the cut that ends at this snapshot (with its LSN): everything up to the id
    pub(super) inside: Option<(Snapshot, u64, i64)>,
    pub(super) delivered: DeliveredRows,
}

impl Position {
    /// The present: nothing before it will be read.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn present(client: &Client, incarnations: Arc<Incarnations>) -> Result<Self> {
        let (seen, lsn) = now(client).await?;
        Ok(Self { incarnations, delivered: DeliveredRows::new(seen.clone()), seen, lsn, inside: None })
    }

    /// The position from which a relay starts: the latest changes are read once more, as one cut.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn recent(client: &Client, incarnations: Arc<Incarnations>) -> Result<Self> {
        let present = Self::present(client, incarnations).await?;
        // what is sorted here takes 2 MB; where the server's default is less, it would become a file, which may be forbidden
        let explain = |e| Error::database("cannot find the latest changes", e);
        client.batch_execute(WORK_MEM).await.map_err(explain)?;
        let row = client
            .query_one(
                concat!(
                    "select (select ",
                    kept!(),
                    " from rowcast.installation), o.count, o.oldest::text
                   from (select count(*) as count, (array_agg(xid order by xid))[1] as oldest
                           from (select xid from rowcast.outbox order by xid desc limit $1) latest) o"
                ),
                &[&RECENT_CHANGES],
            )
            .await
            .map_err(explain)?;
        let Kept { all: floor, brief } = Kept::parse(row.get(0));
        let (count, oldest): (i64, Option<&str>) = (row.get(1), row.get(2));
        // what was still running among the older ones has not been seen
        let recent = oldest.and_then(|xid| xid.parse().ok()).map(|oldest| present.seen.before(oldest));
        let seen = match recent {
            // the whole outbox: whatever is not pruned
            _ if count < RECENT_CHANGES => floor.unwrap_or_else(|| Snapshot::all_before(FIRST_TRANSACTION)),
            Some(recent) if floor.as_ref().is_none_or(|floor| recent.covers(floor)) => recent,
            _ => return Ok(present),
        };
        // all of every table lies behind the position
        let seen = match brief {
            Some((brief, _)) if !seen.covers(&brief) => {
                if !brief.covers(&seen) {
                    return Ok(present);
                }
                brief
            }
            _ => seen,
        };
        Ok(Self { delivered: DeliveredRows::new(seen.clone()), seen, ..present })
    }

    /// The position from which a relay starts that goes on for another one whose changes nobody else has: the latest ones,
    /// and whatever came after `known`.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn recent_since(client: &Client, incarnations: Arc<Incarnations>, known: Self) -> Result<Self> {
        let recent = Self::recent(client, incarnations.clone()).await?;
        let known = known.continued_in(client, incarnations).await?.filter(|known| !known.seen.covers(&recent.seen));
        // a chunk of a cut is told again: a start has no past
        Ok(known.map_or(recent, |known| Self { inside: None, ..known }))
    }

    /// A position that another relay came to. What that one delivered is not known here, so it outlives a crash of the
    /// server only as far as that had reached the disk.
    pub fn taken_over(cursor: Cursor) -> Self {
        let Cursor { epoch, incarnation, lsn, seen, inside } = cursor;
        let incarnations = Arc::new(Incarnations {
            epoch,
            incarnations: vec![Incarnation { id: incarnation, bound: None }],
            seal: None,
        });
        let inside = inside.map(|(end, id)| (end, lsn, id));
        Self { incarnations, delivered: DeliveredRows::of_another(seen.clone(), lsn), seen, lsn, inside }
    }

    /// What was delivered of the stream, its last cut perhaps not wholly.
    pub fn seen(&self) -> &Snapshot {
        &self.seen
    }

    /// Takes the position over into the server's present incarnation; `None` where changes that were delivered may be lost.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn continued_in(mut self, client: &Client, incarnations: Arc<Incarnations>) -> Result<Option<Self>> {
        let lsn = self.inside.as_ref().map_or(self.lsn, |(_, lsn, _)| *lsn);
        if incarnations.judge(self.incarnations.epoch, self.incarnations.present(), lsn).is_err() {
            if incarnations.epoch != self.incarnations.epoch {
                return Ok(None);
            }
            let Some(survived) = incarnations.survived_since(self.incarnations.present()) else { return Ok(None) };
            let Some(given_out_again) = self.delivered.prove_survived(client, survived).await? else { return Ok(None) };
            tracing::info!(event = "delivered_survived", "everything that was delivered survived the crash");
            self.seen = self.seen.before(given_out_again);
            self.inside = self.inside.map(|(end, lsn, id)| (end.before(given_out_again), lsn, id));
        }
        self.incarnations = incarnations;
        Ok(Some(self))
    }

    /// Whether anything was delivered that is not known to be on disk.
    pub fn is_waiting_for_the_disk(&self) -> bool {
        self.delivered.is_waiting()
    }

    /// The changes up to `last` of the cut that ends at `until` were handed over.
    pub(super) fn hand_over(&mut self, until: &Snapshot, lsn: u64, last: i64) {
        let before = self.inside.as_ref().filter(|(end, ..)| end == until).map_or(0, |(.., id)| *id);
        debug_assert!(last >= before, "I3: id {last} is handed over after {before}");
        self.delivered.told(lsn);
        self.inside = Some((until.clone(), lsn, last));
    }

    /// The cut that ends at `until` was handed over to its end.
    pub(super) fn end_cut(&mut self, until: &Snapshot, lsn: u64) {
        debug_assert!(until.covers(&self.seen), "I2: from {} back to {until}", self.seen);
        self.seen = until.clone();
        self.lsn = lsn;
        self.inside = None;
        self.delivered.end_cut(until, lsn);
    }

    /// What lies before `floor` is gone, and will not be handed over.
    pub(super) fn skip_to(&mut self, floor: Snapshot) {
        self.seen = floor;
        self.inside = None;
    }

    /// What delivery is told of the position: that what follows comes after it.
    pub(super) fn told(&mut self, start: Start) -> Event {
        self.delivered.told(self.lsn);
        let inside = self.inside.as_ref().map(|(end, _, id)| (end.clone(), *id));
        Event::From { boundary: self.boundary(), incarnations: self.incarnations.clone(), start, inside }
    }

    /// The position as a boundary between cuts; inside a cut, the one before it.
    pub fn boundary(&self) -> Boundary {
        Boundary::new(self.cursor(self.lsn))
    }

    /// The same with another LSN.
    pub(super) fn cursor(&self, lsn: u64) -> Cursor {
        Cursor {
            epoch: self.incarnations.epoch,
            incarnation: self.incarnations.present(),
            lsn,
            seen: self.seen.clone(),
            inside: None,
        }
    }
}

/// What a transaction sees, and where the log is: see [`now_of`].
pub(super) const NOW: &str = "select pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::text";

/// The present snapshot, and the position in the log read after it: an upper bound of what it saw.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn now(client: &Client) -> Result<(Snapshot, u64)> {
    now_of(&client.query_one(NOW, &[]).await.map_err(|e| Error::database("cannot read the current snapshot", e))?)
}

/// The row of [`NOW`].
///
/// # Errors
/// Where it is none.
pub(super) fn now_of(row: &Row) -> Result<(Snapshot, u64)> {
    snapshot_and_lsn(row.get(0), row.get(1))
}

pub(super) fn snapshot_and_lsn(snapshot: &str, lsn: &str) -> Result<(Snapshot, u64)> {
    Snapshot::parse(snapshot)
        .zip(lsn.parse().ok())
        .ok_or_else(|| Error::new(Kind::Database, format!("snapshot {snapshot} or position {lsn} cannot be read")))
}
