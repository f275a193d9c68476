//! The read step: what became visible between two snapshots, in order. Owns the statements and moves the place on;
//! knows neither when to read nor who listens.
//!
//! A cut is `visible in now and not in prev`, found as `xid >= xmax(prev)` union `xid = any (xip(prev))`. Never a scan
//! from `xmin(prev)`: one long transaction would make every read slow (158 ms instead of 0.03 ms at a million rows).
//! Unless little was read since then: one scan costs the database 0.06 ms of processor time where two cost 0.08, nearly all
//! of it to set the scans up. The statement's own snapshot is `now`, so MVCC itself is the test "visible in now", and its
//! first row says which snapshot that was.

use std::pin::pin;
use std::sync::Arc;

use deadpool_postgres::Pool;
use futures_util::{Stream, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_postgres::{Client, Row, Statement};

use super::catalog::Catalog;
use super::order::NEIGHBOURS;
use super::part::{Part, changes_of, concerns_catalog, identity, moment, op};
use super::passed::Passed;
use super::place::{Place, snapshot_and_lsn};
use super::shapes::Shapes;
use crate::change::{Change, Cut, Event, Start};
use crate::cursor::{Snapshot, inside_prefix};
use crate::error::{Error, Kind, Result};
use crate::lives::Gap;

/// Settings of a session that reads the outbox. JIT cost 7 ms a read instead of 0.03; a waiting lock request of a relay
/// would make writers skip their bell, so none may wait long. Nobody waits for its one write, the note of the durable
/// position, to be flushed. The plan is made once: both places are looked up by the index whatever they are, which is
/// why scans are off, and planning six index scans took 0.45 of the 0.62 ms of a read.
pub(super) const SESSION: &str = "set jit = off; set enable_seqscan = off; set plan_cache_mode = force_generic_plan; \
    set max_parallel_workers_per_gather = 0; set lock_timeout = '1s'; set idle_in_transaction_session_timeout = '5s'; \
    set statement_timeout = 0; set timezone = 'UTC'; set synchronous_commit = off";

/// The header row tells: whether no relay wants to sleep (asked only by one that holds QUIET), `now`, the position in
/// the log read after it, and the floor.
macro_rules! header {
    () => {
        "
select 0::int8, null::xid8, null::timestamptz, \
       case when $2 then (pg_try_advisory_lock(1919907683, 2) and pg_advisory_unlock(1919907683, 2))::int4 end, \
       null::\"char\", pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::text, floor::text, null::text[]
  from rowcast.installation
union all
"
    };
}

/// Whatever was read before, however much of it is later than the oldest transaction that was running.
const READ: &str = concat!(
    header!(),
    "(select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot)
 union all
 select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))))
order by 1"
);

/// The same rows, where few that were read before are in the way. Read once by a sub-select, the snapshot is not parsed
/// anew for every row: beside 200 running transactions a cut of 300,000 rows took 1,000 ms instead of 120.
const READ_ON: &str = concat!(
    header!(),
    "select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid >= pg_snapshot_xmin($1::text::pg_snapshot)
    and not pg_visible_in_snapshot(o.xid, (select $1::text::pg_snapshot))
order by 1"
);

/// A cut (prev, now] of the past after an id, of one channel or of all. The header row brings the floor, read in the
/// same snapshot: a segment that is emptied meanwhile shows in it.
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

/// A revocation is remembered for a day.
const REVOKED: &str = "select user_id, (extract(epoch from at) * 1000000)::int8 from rowcast.revoked \
    where at > clock_timestamp() - interval '24 hours'";

/// Reads cuts, one after the other.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    read: Statement,
    read_on: Statement,
    passed: Passed,
    read_past: Statement,
    place: Place,
    pool: Pool,
    catalog: Catalog,
    shapes: Shapes,
    out: mpsc::Sender<Event>,
}

/// What a read step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// rows of the outbox
    pub rows: usize,
    /// oldest transaction that was still running
    pub xmin: u64,
    /// a transaction was running that had begun before the last one that ended
    pub is_overtaken: bool,
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
        let read_on = client.prepare(READ_ON).await.map_err(explain)?;
        let read_past = client.prepare(READ_PAST).await.map_err(explain)?;
        let passed = Passed::before(&place.seen);
        let (catalog, shapes) = (Catalog::default(), Shapes::default());
        Ok(Self { client, read, read_on, passed, read_past, place, pool, catalog, shapes, out })
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
        let (channels, policies) = (self.catalog.channels(), self.catalog.policies());
        self.send(Event::Channels { channels, policies }).await?;
        for channel in self.catalog.switched_off_since(&before) {
            tracing::error!(event = "trigger_off", %channel, "changes of this table are not captured: select * from rowcast.watched");
            self.send(Event::Gap { gap: Gap::TriggerOff, channel }).await?;
        }
        Ok(())
    }

    /// Tells delivery whose tokens were revoked before it began: a relay that starts knows nothing of it, and the outbox
    /// may have forgotten it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn announce_revoked(&mut self) -> Result<()> {
        let explain = |e| Error::database("cannot read whose tokens were revoked", e);
        let revoked = self.client.query(REVOKED, &[]).await.map_err(explain)?;
        for row in revoked {
            self.send(Event::Revoked { user: row.get::<_, &str>(0).into(), at: row.get(1) }).await?;
        }
        Ok(())
    }

    /// Tells delivery from where on changes follow, and how that lies to where the last ones ended.
    ///
    /// # Errors
    /// When delivery is gone; so for the next one.
    pub async fn announce_place(&mut self, start: Start) -> Result<()> {
        let event = self.place.told(start);
        self.send(event).await
    }

    /// Tells delivery that capture is live.
    pub async fn announce_live(&self) -> Result<()> {
        self.send(Event::Live).await
    }

    /// One read step: sends the cut that ends now, in parts. Waits while delivery is behind. A cut without a row is not
    /// told unless `tell` asks for it: the place before it is as good, and it is known to be on disk the sooner.
    ///
    /// # Errors
    /// When the connection is lost; the place then lies where delivery got to, also inside the cut.
    pub async fn read(&mut self, holds_quiet: bool, tell: bool) -> Result<Found> {
        let explain = |e| Error::database("cannot read the outbox", e);
        let mut found = Found { rows: 0, xmin: 0, is_overtaken: false, may_keep_quiet: true };
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
        let read = if self.passed.are_many() { &self.read } else { &self.read_on };
        let mut rows = Box::pin(self.client.query_raw(read, parameters).await.map_err(explain)?);
        let header = header(&mut rows).await?;
        found.may_keep_quiet = header.get::<_, Option<i32>>(3) == Some(1);
        let (now, lsn) = snapshot_and_lsn(header.get(5), header.get(6))?;
        found.xmin = now.xmin();
        found.is_overtaken = now.xmin() < now.xmax();
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
        let told = self.out.reserve().await.map_err(ended)?;
        self.place.seen = floor;
        self.place.inside = None;
        told.send(self.place.told(Start::Gap(Gap::Retention)));
        Ok(())
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
                    let cut = Cut { changes, inside: inside.clone(), until: until.clone(), end: None };
                    let told = self.out.reserve().await.map_err(ended)?;
                    told.send(Event::Cut(cut));
                    self.place.witness.told(lsn);
                    self.place.inside = Some(((*until).clone(), lsn, last));
                }
            }
            part.push(row);
        }
        self.passed.note(&until, count);
        let untold = count == 0 && !tell && self.place.inside.is_none();
        let (changes, _) = self.understand(&part.rows, after).await?;
        // from here to the end nothing waits: whoever gives this read up finds the place where delivery got to
        let told = self.out.reserve().await.map_err(ended)?;
        self.place.seen = (*until).clone();
        self.place.lsn = lsn;
        self.place.inside = None;
        self.place.witness.end_cut(&until, lsn);
        if !untold {
            self.place.witness.told(lsn);
            told.send(Event::Cut(Cut { changes, inside, until, end: Some(self.place.border()) }));
        }
        Ok(count)
    }

    /// The changes in rows, and the id of the last one after `after`.
    async fn understand(&mut self, rows: &[Row], after: i64) -> Result<(Vec<Change>, Option<i64>)> {
        let (catalog, shapes) = (&self.catalog, &mut self.shapes);
        let mut is_altered = |row: &Row| shapes.is_new(row.get(3), row.get::<_, Option<_>>(6).or(row.get(5)), catalog);
        if rows.iter().any(|row| concerns_catalog(row, catalog) || is_altered(row)) {
            self.reload_catalog().await?;
        }
        for row in rows {
            self.place.witness.note(identity(row));
            // at once, whatever of the cut was sent before: a relay that begins inside a cut does it again
            if op(row) == b'R' {
                let at = moment(row);
                for user in row.get::<_, Option<Vec<String>>>(8).unwrap_or_default() {
                    self.send(Event::Revoked { user: user.into(), at }).await?;
                }
            }
        }
        let last = rows.last().map(|row| row.get(0)).filter(|id| *id > after);
        Ok((changes_of(rows, &self.catalog, after), last))
    }

    async fn send(&self, event: Event) -> Result<()> {
        self.out.send(event).await.map_err(ended)
    }
}

fn ended<T>(_: mpsc::error::SendError<T>) -> Error {
    Error::new(Kind::Io, "delivery has ended")
}

/// The first row of a read.
pub(super) async fn header<S>(rows: &mut S) -> Result<Row>
where
    S: Stream<Item = Result<Row, tokio_postgres::Error>> + Unpin,
{
    let header = rows.try_next().await.map_err(|e| Error::database("cannot read the outbox", e))?;
    header.ok_or_else(|| Error::new(Kind::Database, "the read step returned no header"))
}

pub(super) type Parameter<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);
