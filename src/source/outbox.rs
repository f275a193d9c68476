//! The read step: what became visible between two snapshots, in order. Owns the statements and the place reached;
//! knows neither when to read nor who listens.
//!
//! A cut is `visible in now and not in prev`, found as `xid >= xmax(prev)` union `xid = any (xip(prev))`. Never a scan
//! from `xmin(prev)`: one long transaction would make every read slow (158 ms instead of 0.03 ms at a million rows).
//! The statement's own snapshot is `now`, so MVCC itself is the test "visible in now", and its first row says which
//! snapshot that was.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use deadpool_postgres::Pool;
use futures_util::{Stream, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_postgres::types::{FromSql, Type, accepts};
use tokio_postgres::{Client, Row, Statement};

use super::catalog::Catalog;
use super::decode::{Decoded, OutboxRow, decode};
use super::order::{self, NEAR, NEIGHBOURS};
use super::witness::Witness;
use crate::change::{Change, Cut, Event};
use crate::cursor::{Border, Cursor, Gap, Lives, Snapshot, inside_prefix};
use crate::error::{Error, Kind, Result};

/// A part of a cut: as many changes, or as many bytes of JSON, as are held at a time.
const PART_CHANGES: usize = 1_000;
const PART_BYTES: usize = 1 << 20;
/// At the start, so many of the latest changes are read, so that whoever was connected before can resume from memory.
const RECENT_CHANGES: i64 = 20_000;
/// The id of the first transaction that a server gives out.
const FIRST_TRANSACTION: u64 = 3;

/// Settings of a session that reads the outbox. Generic plans and JIT cost 7 ms a read instead of 0.03; a waiting lock
/// request of a relay would make writers skip their bell, so none may wait long. Nobody waits for its one write, the
/// note of the durable position, to be flushed.
pub(super) const SESSION: &str = "set jit = off; set enable_seqscan = off; set plan_cache_mode = force_custom_plan; \
    set max_parallel_workers_per_gather = 0; set lock_timeout = '1s'; set idle_in_transaction_session_timeout = '5s'; \
    set statement_timeout = 0; set timezone = 'UTC'; set synchronous_commit = off";

/// The header row tells: whether no relay wants to sleep (asked only by one that holds QUIET), `now`, the position in
/// the log read after it, and the floor.
const READ: &str = "
select 0::int8, null::xid8, null::timestamptz, \
       case when $2 then (pg_try_advisory_lock(1919907683, 2) and pg_advisory_unlock(1919907683, 2))::int4 end, \
       null::\"char\", pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::text, \
       (select floor::text from rowcast.installation), null::text[]
union all
(select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot)
 union all
 select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))))
order by 1";

/// A cut (prev, now] of the past after an id, of one channel or of all. The header row brings the floor, read in the same snapshot: a segment
/// that is emptied meanwhile shows in it.
pub(super) const READ_PAST: &str = "
select 0::int8, null::xid8, null::timestamptz, null::int4, null::\"char\", null::text, null::text, \
       (select floor::text from rowcast.installation), null::text[]
union all
(select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and pg_visible_in_snapshot(o.xid, $2::text::pg_snapshot) and o.id > $3
    and ($4::int4 is null or o.channel = $4)
 union all
 select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))) and pg_visible_in_snapshot(o.xid, $2::text::pg_snapshot) and o.id > $3
    and ($4::int4 is null or o.channel = $4))
order by 1";

/// The place reached: what the relay goes on from, over reconnects.
#[derive(Debug, Clone)]
pub struct Place {
    lives: Arc<Lives>,
    seen: Snapshot,
    lsn: u64,
    /// delivered of the cut that ends at this snapshot (with its LSN): everything up to the id
    inside: Option<(Snapshot, u64, i64)>,
    witness: Witness,
}

impl Place {
    /// The present: nothing before it will be read.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn present(client: &Client, lives: Arc<Lives>) -> Result<Self> {
        let row = client
            .query_one("select pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::text", &[])
            .await
            .map_err(|e| Error::database("cannot read the current snapshot", e))?;
        let (seen, lsn) = snapshot_and_lsn(row.get(0), row.get(1))?;
        Ok(Self { lives, witness: Witness::new(seen.clone()), seen, lsn, inside: None })
    }

    /// The place from which a relay starts: the latest changes are read once more, as one cut.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn recent(client: &Client, lives: Arc<Lives>) -> Result<Self> {
        let row = client
            .query_one(
                "select pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::text,
                        (select floor::text from rowcast.installation), o.count, o.oldest::text
                   from (select count(*) as count, (array_agg(xid order by xid))[1] as oldest
                           from (select xid from rowcast.outbox order by xid desc limit $1) latest) o",
                &[&RECENT_CHANGES],
            )
            .await
            .map_err(|e| Error::database("cannot read the current snapshot", e))?;
        let (now, lsn) = snapshot_and_lsn(row.get(0), row.get(1))?;
        let floor = row.get::<_, Option<&str>>(2).and_then(Snapshot::parse);
        let (count, oldest): (i64, Option<&str>) = (row.get(3), row.get(4));
        let seen = match oldest.and_then(|xid| xid.parse().ok()) {
            // the whole outbox: whatever is not pruned
            _ if count < RECENT_CHANGES => floor.unwrap_or_else(|| Snapshot::all_before(FIRST_TRANSACTION)),
            Some(oldest) if floor.as_ref().is_none_or(|floor| Snapshot::all_before(oldest).covers(floor)) => {
                Snapshot::all_before(oldest)
            }
            _ => now,
        };
        Ok(Self { lives, witness: Witness::new(seen.clone()), seen, lsn, inside: None })
    }

    /// Takes the place over into the server's present life; `None` where changes that were delivered may be lost.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn continued_in(mut self, client: &Client, lives: Arc<Lives>) -> Result<Option<Self>> {
        let lsn = self.inside.as_ref().map_or(self.lsn, |(_, lsn, _)| *lsn);
        if lives.judge(self.lives.epoch, self.lives.present(), lsn).is_err() {
            if lives.epoch != self.lives.epoch {
                return Ok(None);
            }
            let Some(survived) = lives.survived_since(self.lives.present()) else { return Ok(None) };
            let Some(given_out_again) = self.witness.testify(client, survived).await? else { return Ok(None) };
            tracing::info!(event = "delivered_survived", "everything that was delivered survived the crash");
            self.seen = self.seen.before(given_out_again);
            self.inside = self.inside.map(|(end, lsn, id)| (end.before(given_out_again), lsn, id));
        }
        self.lives = lives;
        Ok(Some(self))
    }

    /// Which cursors can be honoured.
    pub fn lives(&self) -> &Arc<Lives> {
        &self.lives
    }

    /// Whether anything was delivered that is not known to be on disk.
    pub fn is_waiting_for_the_disk(&self) -> bool {
        self.witness.is_waiting()
    }

    /// The place as a border between cuts; inside a cut, the one before it.
    pub fn border(&self) -> Border {
        Border::new(self.cursor(self.lsn, None))
    }

    fn cursor(&self, lsn: u64, inside: Option<(Snapshot, i64)>) -> Cursor {
        Cursor { epoch: self.lives.epoch, incarnation: self.lives.present(), lsn, seen: self.seen.clone(), inside }
    }
}

/// Reads cuts, one after the other.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    read: Statement,
    read_past: Statement,
    place: Place,
    pool: Pool,
    catalog: Catalog,
    out: mpsc::Sender<Event>,
}

/// What a read step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// rows of the outbox
    pub rows: usize,
    /// oldest transaction that was still running
    pub xmin: u64,
    /// of a relay that holds QUIET: no other relay wants to sleep
    pub may_keep_quiet: bool,
}

impl Reader {
    /// Prepares the session's statements; reading goes on from `place`.
    ///
    /// # Errors
    /// [`Kind::Schema`] where the schema is missing or another version's.
    pub async fn prepare(client: Client, place: Place, pool: Pool, out: mpsc::Sender<Event>) -> Result<Self> {
        let explain = |e| Error::database("cannot prepare the read step", e);
        client.batch_execute(SESSION).await.map_err(explain)?;
        let read = client.prepare(READ).await.map_err(explain)?;
        let read_past = client.prepare(READ_PAST).await.map_err(explain)?;
        Ok(Self { client, read, read_past, place, pool, catalog: Catalog::default(), out })
    }

    /// The reading connection: the relay's locks live on it, since its death means that this relay reads no more.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The place reached.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The channels, as last read.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Reads the channels again and tells delivery which there are, and whose triggers were switched off.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn reload_catalog(&mut self) -> Result<()> {
        let before = std::mem::replace(&mut self.catalog, Catalog::load(&self.pool).await?);
        self.send(Event::Channels(self.catalog.names())).await?;
        for channel in self.catalog.switched_off_since(&before) {
            tracing::error!(event = "trigger_off", %channel, "changes of this table are not captured: select * from rowcast.watched");
            self.send(Event::Gap { gap: Gap::TriggerOff, channel: Some(channel) }).await?;
        }
        Ok(())
    }

    /// Tells delivery from where on changes follow, and whether that is where the last ones ended.
    ///
    /// # Errors
    /// When delivery is gone; so for the next one.
    pub async fn announce_place(&mut self, continues: bool) -> Result<()> {
        self.place.witness.told(self.place.lsn);
        self.send(Event::From { border: self.place.border(), lives: self.place.lives.clone(), continues }).await
    }

    /// Tells delivery that capture is live.
    pub async fn announce_live(&self) -> Result<()> {
        self.send(Event::Live).await
    }

    /// Tells delivery that changes are lost.
    pub async fn announce_gap(&self, gap: Gap) -> Result<()> {
        self.send(Event::Gap { gap, channel: None }).await
    }

    /// One read step: sends the cut that ends now, in parts. Waits while delivery is behind. A cut without a row is not
    /// told unless `tell` asks for it: the place before it is as good, and it is known to be on disk the sooner.
    ///
    /// # Errors
    /// When the connection is lost; the place then lies where delivery got to, also inside the cut.
    pub async fn read(&mut self, holds_quiet: bool, tell: bool) -> Result<Found> {
        let explain = |e| Error::database("cannot read the outbox", e);
        let mut found = Found { rows: 0, xmin: 0, may_keep_quiet: true };
        if let Some((end, lsn, id)) = self.place.inside.clone() {
            let (seen, until, after) = (self.place.seen.to_string(), end.to_string(), id - NEIGHBOURS);
            let parameters: [Parameter<'_>; 4] = [&seen, &until, &after, &None::<i32>];
            let mut rows = Box::pin(self.client.query_raw(&self.read_past, parameters).await.map_err(explain)?);
            let header = header(&mut rows).await?;
            self.notice_floor(header.get(7)).await?;
            found.rows += self.deliver(rows, end, lsn, id, true).await?;
        }
        let seen = self.place.seen.to_string();
        let parameters: [Parameter<'_>; 2] = [&seen, &holds_quiet];
        let mut rows = Box::pin(self.client.query_raw(&self.read, parameters).await.map_err(explain)?);
        let header = header(&mut rows).await?;
        found.may_keep_quiet = header.get::<_, Option<i32>>(3) == Some(1);
        let (now, lsn) = snapshot_and_lsn(header.get(5), header.get(6))?;
        found.xmin = now.xmin();
        self.notice_floor(header.get(7)).await?;
        found.rows += self.deliver(rows, now, lsn, 0, tell).await?;
        Ok(found)
    }

    /// Notes how far the log is on disk, so that cursors up to there survive a crash.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn note_durable(&mut self) -> Result<()> {
        let row = self
            .client
            .query_one("select (rowcast.note_durable() - '0/0')::int8", &[])
            .await
            .map_err(|e| Error::database("cannot note the durable position", e))?;
        self.place.witness.durable_up_to(row.get::<_, i64>(0).cast_unsigned());
        Ok(())
    }

    /// A relay that was stopped for longer than the retention has missed what was pruned.
    async fn notice_floor(&mut self, floor: Option<&str>) -> Result<()> {
        let Some(floor) = floor.and_then(Snapshot::parse) else { return Ok(()) };
        if self.place.seen.covers(&floor) {
            return Ok(());
        }
        tracing::error!(event = "gap", reason = "retention", "changes were pruned before they were read");
        self.place.seen = floor;
        self.place.inside = None;
        self.announce_gap(Gap::Retention).await?;
        self.announce_place(false).await
    }

    /// Hands the rows of a cut over, those up to the id `after` excepted.
    async fn deliver(
        &mut self,
        rows: impl Stream<Item = Result<Row, tokio_postgres::Error>>,
        end: Snapshot,
        lsn: u64,
        after: i64,
        tell: bool,
    ) -> Result<usize> {
        let mut rows = pin!(rows);
        let inside: Arc<str> = inside_prefix(&self.place.cursor(lsn, Some((end.clone(), 1)))).into();
        let until = Arc::new(end);
        let mut part = Part::default();
        let mut count = 0;
        while let Some(row) = rows.try_next().await.map_err(|e| Error::database("cannot read the outbox", e))? {
            count += 1;
            if part.is_full() {
                let rows = part.take_settled(&self.catalog);
                let (changes, last) = self.understand(&rows, after).await?;
                if let Some(last) = last {
                    self.place.witness.told(lsn);
                    let cut = Cut { changes, inside: inside.clone(), until: until.clone(), end: None };
                    self.send(Event::Cut(cut)).await?;
                    self.place.inside = Some(((*until).clone(), lsn, last));
                }
            }
            part.push(row);
        }
        let untold = count == 0 && !tell && self.place.inside.is_none();
        let (changes, _) = self.understand(&part.rows, after).await?;
        self.place.seen = (*until).clone();
        self.place.lsn = lsn;
        self.place.inside = None;
        self.place.witness.end_cut(&until, lsn);
        if !untold {
            self.place.witness.told(lsn);
            self.send(Event::Cut(Cut { changes, inside, until, end: Some(self.place.border()) })).await?;
        }
        Ok(count)
    }

    /// The changes in rows, and the id of the last one after `after`.
    async fn understand(&mut self, rows: &[Row], after: i64) -> Result<(Vec<Change>, Option<i64>)> {
        if rows.iter().any(|row| concerns_catalog(row, &self.catalog)) {
            self.reload_catalog().await?;
        }
        for row in rows {
            self.place.witness.note(identity(row));
        }
        let last = rows.last().map(|row| row.get(0)).filter(|id| *id > after);
        Ok((changes_of(rows, &self.catalog, after), last))
    }

    async fn send(&self, event: Event) -> Result<()> {
        self.out.send(event).await.map_err(|_| Error::new(Kind::Io, "delivery has ended"))
    }
}

/// Rows that are held at a time.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) rows: Vec<Row>,
    bytes: usize,
    /// rows that were kept back when the last ones were handed over
    held: usize,
}

impl Part {
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.held + PART_CHANGES || self.bytes >= PART_BYTES
    }

    pub(super) fn push(&mut self, row: Row) {
        self.bytes += length(&row, 5) + length(&row, 6);
        self.rows.push(row);
    }

    /// The rows that can be handed over while more follow. The last row of a transaction so far waits for the next
    /// one, which may belong to it as [`order::settle`] knows; so do the rows that belong to it already, and those
    /// behind them.
    pub(super) fn take_settled(&mut self, catalog: &Catalog) -> Vec<Row> {
        let length = self.rows.len();
        // of each transaction, the row that was looked at last, and where it is
        let mut followed: HashMap<i64, (usize, &Row)> = HashMap::new();
        let mut split = length;
        for (at, row) in self.rows.iter().enumerate().skip(length.saturating_sub(NEIGHBOURS as usize)).rev() {
            let Int8(xid) = row.get(1);
            let waits = match followed.get(&xid) {
                None => length - at <= NEAR || (op(row) == b'D' && catalog.moves_rows(row.get(3))),
                Some((next_at, next)) => *next_at >= split && is_linked(row, next),
            };
            if waits {
                split = at;
            }
            followed.insert(xid, (at, row));
        }
        let kept = self.rows.split_off(split);
        let settled = std::mem::take(&mut self.rows);
        (self.held, self.bytes) = (kept.len(), 0);
        self.rows = kept;
        settled
    }
}

/// Whether the second of two rows of a transaction may belong to the first: the halves of a move, or a chain.
fn is_linked(row: &Row, next: &Row) -> bool {
    let (old, new): (Option<&str>, Option<&str>) = (row.get(5), next.get(6));
    let is_chain = op(row) == b'U' && old.is_some() && old == new;
    row.get::<_, i32>(3) == next.get::<_, i32>(3) && (is_chain || (op(row) == b'D' && op(next) == b'I'))
}

fn op(row: &Row) -> u8 {
    row.get::<_, i8>(4).cast_unsigned()
}

fn length(row: &Row, column: usize) -> usize {
    row.get::<_, Option<&str>>(column).map_or(0, str::len)
}

/// The first row of a read.
pub(super) async fn header<S>(rows: &mut S) -> Result<Row>
where
    S: Stream<Item = Result<Row, tokio_postgres::Error>> + Unpin,
{
    let header = rows.try_next().await.map_err(|e| Error::database("cannot read the outbox", e))?;
    header.ok_or_else(|| Error::new(Kind::Database, "the read step returned no header"))
}

/// Whether the channels must be read again before this row can be understood.
fn concerns_catalog(row: &Row, catalog: &Catalog) -> bool {
    match op(row) {
        b'C' => true,
        b'N' => false,
        _ => catalog.get(row.get(3)).is_none(),
    }
}

fn identity(row: &Row) -> (i64, u64, i64) {
    let (Int8(xid), Int8(at)) = (row.get(1), row.get(2));
    (row.get(0), xid.cast_unsigned(), at)
}

/// Outbox rows, given by id, as changes in the order in which they happened; those up to the id `after` left out.
pub(super) fn changes_of(rows: &[Row], catalog: &Catalog, after: i64) -> Vec<Change> {
    let users: Vec<Option<Vec<Option<String>>>> = rows.iter().map(|row| row.get(8)).collect();
    let raw = rows
        .iter()
        .zip(&users)
        .map(|(row, users)| {
            let (id, xid, at) = identity(row);
            OutboxRow {
                id,
                xid,
                at: at + MICROSECONDS_1970_TO_2000,
                channel: row.get(3),
                op: op(row),
                old: row.get(5),
                new: row.get(6),
                actor: row.get(7),
                users: users.as_deref(),
            }
        })
        .collect();
    let settled = order::settle(raw, catalog);
    settled.iter().filter(|row| row.id > after).filter_map(|row| change_of(row, catalog)).collect()
}

fn change_of(row: &OutboxRow<'_>, catalog: &Catalog) -> Option<Change> {
    if row.users.is_some_and(|users| users.iter().any(Option::is_none)) {
        let (channel, id) = (row.channel, row.id);
        tracing::warn!(event = "user_rule_failed", channel, id, "the query that names the users raised");
    }
    match decode(row, catalog) {
        Decoded::Change(change) => return Some(change),
        Decoded::ChannelChanged | Decoded::Invisible => {}
        Decoded::UnknownChannel => {
            tracing::debug!(event = "change_of_no_channel", channel = row.channel, id = row.id);
        }
        Decoded::Malformed(what) => tracing::error!(event = "outbox_row_malformed", id = row.id, what),
    }
    None
}

pub(super) type Parameter<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);

pub(super) fn snapshot_and_lsn(snapshot: &str, lsn: &str) -> Result<(Snapshot, u64)> {
    Snapshot::parse(snapshot)
        .zip(lsn.parse().ok())
        .ok_or_else(|| Error::new(Kind::Database, format!("snapshot {snapshot} or position {lsn} cannot be read")))
}

const MICROSECONDS_1970_TO_2000: i64 = 946_684_800_000_000;

/// Eight bytes as they are: an xid8, or a timestamptz in microseconds since 2000. Null (the header row) is 0.
struct Int8(i64);

impl<'a> FromSql<'a> for Int8 {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID8, TIMESTAMPTZ);
}
