//! The read step: what became visible between two snapshots, in order. Owns the statements and moves the position on;
//! knows neither when to read nor who listens.
//!
//! A cut is `visible in now and not in prev`, found as `xid >= xmax(prev)` union `xid = any (xip(prev))`. Never a scan
//! from `xmin(prev)`: one long transaction would make every read slow (158 ms instead of 0.03 ms at a million rows).
//! Unless little was read since then: one scan costs the database 0.06 ms of processor time where two cost 0.08, nearly all
//! of it to set the scans up. The statement's own snapshot is `now`, so MVCC itself is the test "visible in now", and its
//! first row says which snapshot that was.
//!
//! No statement sorts: rows are sorted here, as many as a cut may have to be read at once. A cut that has more is read again
//! by `bulk`, whose memory does not grow with it.

use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_postgres::Statement;

use super::bulk::{self, Bulk};
use super::captured::{Captured, Gathered, Teller, chunks, gather, header, number, text};
use super::catalog::Catalog;
use super::client::{Client, Parameter};
use super::directory::ChannelList;
use super::encoding::Bytes;
use super::kept::{self, KEPT, Kept, kept};
use super::passed::Passed;
use super::position::{Position, snapshot_and_lsn};
use super::shapes::Shapes;
use crate::change::{Change, Cut, Event, Start};
use crate::cursor::{Cursor, Snapshot};
use crate::error::{Error, Kind, Result};
use crate::incarnations::Gap;

/// Settings of a session that reads the outbox. JIT cost 7 ms a read instead of 0.03; a waiting lock request of a relay
/// would make writers skip their bell, so none may wait long. Nobody waits for its one write, the note of the durable
/// position, to be flushed. The plan is made once: both positions are looked up by the index whatever they are, which is
/// why scans are off, and planning six index scans took 0.45 of the 0.62 ms of a read.
pub(super) const SESSION: &str = "set jit = off; set enable_seqscan = off; set plan_cache_mode = force_generic_plan; \
    set max_parallel_workers_per_gather = 0; set lock_timeout = '1s'; set idle_in_transaction_session_timeout = '5s'; \
    set statement_timeout = 0; set timezone = 'UTC'; set synchronous_commit = off; set work_mem = '8MB'";

/// The header row tells: whether no relay wants to sleep (asked only by one that holds QUIET), `now`, the position in
/// the log read after it, and the floors.
macro_rules! header {
    () => {
        concat!(
            "
select 0::int8, null::xid8, null::timestamptz, \
       case when $2 then (pg_try_advisory_lock(1919907683, 2) and pg_advisory_unlock(1919907683, 2))::int4 end, \
       null::\"char\", pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::text, ",
            kept!(),
            ", null::text[], null::cid, false, null::int4
  from rowcast.installation
union all
"
        )
    };
}

/// Whole rows. An image that is stored in more than 128 KiB is not given out here: of such, few fill the memory.
/// A type cuts the actor off, not left(), which fails on bytes that are no characters: a role's name may have such, as
/// databases of several encodings share it.
macro_rules! rows {
    () => {
        "select o.id, o.xid, o.at, o.channel, o.op, case when pg_column_size(o.old) <= 131072 then o.old::text end, \
       case when pg_column_size(o.new) <= 131072 then o.new::text end, o.actor::varchar(200)::text, \
       case when pg_column_size(o.users) <= 131072 then o.users end, o.cmin, \
       greatest(pg_column_size(o.old), pg_column_size(o.new), pg_column_size(o.users)) > 131072, o.depth \
  from rowcast.outbox o "
    };
}

/// Whatever was read before, however much of it is later than the oldest transaction that was running. One row more than a
/// cut may have that is read at once ([`WHOLE_ROWS`](super::captured::WHOLE_ROWS)).
const READ: &str = concat!(
    header!(),
    "((",
    rows!(),
    "where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot))
 union all (",
    rows!(),
    "where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))) limit 2001)"
);

/// The same rows, where few that were read before are in the way. Read once by a sub-select, the snapshot is not parsed
/// anew for every row: beside 200 running transactions a cut of 300,000 rows took 1,000 ms instead of 120.
const READ_ON: &str = concat!(
    header!(),
    "(",
    rows!(),
    "where o.xid >= pg_snapshot_xmin($1::text::pg_snapshot)
    and not pg_visible_in_snapshot(o.xid, (select $1::text::pg_snapshot)) limit 2001)"
);

/// A cut (prev, now] of the past, of one channel or of all. The header row brings the floors, read in the same snapshot: a
/// segment that is emptied meanwhile shows in it.
pub(super) const READ_PAST: &str = concat!(
    "
select 0::int8, null::xid8, null::timestamptz, null::int4, null::\"char\", null::text, null::text, \
       (select ",
    kept!(),
    " from rowcast.installation), null::text[], null::cid, false, null::int4
union all
((",
    rows!(),
    "where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and pg_visible_in_snapshot(o.xid, (select $2::text::pg_snapshot))
    and ($3::int4 is null or o.channel = $3))
 union all (",
    rows!(),
    "where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))) and pg_visible_in_snapshot(o.xid, (select $2::text::pg_snapshot))
    and ($3::int4 is null or o.channel = $3)) limit 2001)"
);

/// A revocation is remembered for a day.
const REVOKED: &str = "select user_id, (extract(epoch from at) * 1000000)::int8 from rowcast.revoked \
    where at > clock_timestamp() - interval '24 hours'";

/// Reads cuts, one after the other.
#[derive(Debug)]
pub struct CutReader {
    client: Client,
    read: Statement,
    read_on: Statement,
    passed: Passed,
    read_past: Statement,
    bulk: bulk::Statements,
    position: Position,
    /// of this reader alone; they outlive its connection
    channels: OwnedMutexGuard<ChannelList>,
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

impl CutReader {
    /// Prepares the session's statements; reading goes on from `position`.
    ///
    /// # Errors
    /// [`Kind::Schema`] where the schema is missing or another version's.
    pub async fn prepare(
        client: Client,
        position: Position,
        channels: OwnedMutexGuard<ChannelList>,
        out: mpsc::Sender<Event>,
    ) -> Result<Self> {
        let explain = |e| Error::database("cannot prepare the read step", e);
        client.batch_execute(SESSION).await.map_err(explain)?;
        let read = client.prepare(READ).await.map_err(explain)?;
        let read_on = client.prepare(READ_ON).await.map_err(explain)?;
        let read_past = client.prepare(READ_PAST).await.map_err(explain)?;
        let bulk = bulk::Statements::prepare(&client).await?;
        let passed = Passed::before(&position.seen);
        let shapes = Shapes::default();
        Ok(Self { client, read, read_on, passed, read_past, bulk, position, channels, shapes, out })
    }

    /// The reading connection: the relay's locks live on it, since its death means that this relay reads no more.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The position reached.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The channels, as last read.
    pub fn catalog(&self) -> &Catalog {
        self.channels.known()
    }

    /// Tells delivery which channels there are.
    ///
    /// # Errors
    /// When they were never read and cannot be, or delivery is gone.
    pub async fn announce_channels(&mut self) -> Result<()> {
        let told = self.channels.again().await?;
        self.send_all(told).await
    }

    /// Takes over what was read of the channels meanwhile, and tells delivery.
    ///
    /// # Errors
    /// When delivery is gone.
    pub async fn renew_channels(&mut self) -> Result<()> {
        let told = self.channels.renewed();
        self.send_all(told).await
    }

    /// Has the channels read again, beside the reading of changes.
    pub fn look_at_channels(&self) {
        self.channels.look();
    }

    /// Waits until the channels were read. Cancel safe.
    pub async fn wait_for_channels(&mut self) {
        self.channels.read().await;
    }

    /// Tells delivery whose tokens were revoked before it began: a relay that starts knows nothing of it, and the outbox
    /// may have forgotten it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn announce_revoked(&mut self) -> Result<()> {
        let explain = |e| Error::database("cannot read whose tokens were revoked", e);
        let revoked = self.client.query(REVOKED, &[]).await.map_err(explain)?;
        let encoding = self.channels.known().encoding;
        for row in &revoked {
            let user = (&*encoding.decode(row.get::<_, Bytes<'_>>(0).0)).into();
            self.send(Event::Revoked { user, at: row.get(1) }).await?;
        }
        Ok(())
    }

    /// Tells delivery from where on changes follow, and how that lies to where the last ones ended.
    ///
    /// # Errors
    /// When delivery is gone; so for the next one.
    pub async fn announce_position(&mut self, start: Start) -> Result<()> {
        let event = self.position.told(start);
        self.send(event).await
    }

    /// Tells delivery that capture is live.
    pub async fn announce_live(&self) -> Result<()> {
        self.send(Event::Live).await
    }

    /// One read step: sends the cut that ends now, in chunks. Waits while delivery is behind. A cut without a row is not
    /// told unless `tell` asks for it: the position before it is as good, and it is known to be on disk the sooner.
    ///
    /// # Errors
    /// When the connection is lost; the position then lies where delivery got to, also inside the cut.
    pub async fn read(&mut self, holds_quiet: bool, tell: bool) -> Result<Found> {
        let explain = |e| Error::database("cannot read the outbox", e);
        let mut found = Found { rows: 0, xmin: 0, is_overtaken: false, may_keep_quiet: true };
        if let Some((end, lsn, id)) = self.position.inside.clone() {
            // all of the cut, so that it is put in the same order; what was delivered is left out
            let (seen, until) = (self.position.seen.to_string(), end.to_string());
            let parameters: [Parameter<'_>; 3] = [&seen, &until, &None::<i32>];
            let mut rows = Box::pin(self.client.query_raw(&self.read_past, parameters).await.map_err(explain)?);
            let header = header(&mut rows).await?;
            let kept = Kept::parse(text(&header, 7).as_deref());
            let gathered = gather(&mut rows).await?;
            drop(rows);
            if self.notice_floor(&kept).await? {
                return Ok(found);
            }
            found.rows += self.deliver(gathered, end, lsn, id, true, &kept).await?;
        }
        let seen = self.position.seen.to_string();
        let parameters: [Parameter<'_>; 2] = [&seen, &holds_quiet];
        let read = if self.passed.are_many() { &self.read } else { &self.read_on };
        let mut rows = Box::pin(self.client.query_raw(read, parameters).await.map_err(explain)?);
        let header = header(&mut rows).await?;
        found.may_keep_quiet = number::<i32>(&header, 3) == Some(1);
        let snapshot = text(&header, 5).unwrap_or_default();
        let (now, lsn) = snapshot_and_lsn(&snapshot, &text(&header, 6).unwrap_or_default())?;
        found.xmin = now.xmin();
        found.is_overtaken = now.xmin() < now.xmax();
        let kept = Kept::parse(text(&header, 7).as_deref());
        let gathered = gather(&mut rows).await?;
        drop(rows);
        if self.notice_floor(&kept).await? {
            return Ok(found);
        }
        found.rows += self.deliver(gathered, now, lsn, 0, tell, &kept).await?;
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
        self.position.delivered.durable_up_to(row.get::<_, i64>(0).cast_unsigned());
        Ok(())
    }

    /// A relay that was stopped for longer than the retention has missed what was pruned: says whether it has.
    async fn notice_floor(&mut self, kept: &Kept) -> Result<bool> {
        let Some(floor) = kept.missed_by(&self.position.seen).cloned() else { return Ok(false) };
        tracing::error!(event = "gap", reason = "retention", "changes were pruned before they were read");
        // what is skipped may have said who may see what, and whose tokens are good no longer
        self.announce_channels().await?;
        self.announce_revoked().await?;
        let told = self.out.reserve().await.map_err(ended)?;
        self.position.skip_to(floor);
        told.send(self.position.told(Start::Gap(Gap::Retention)));
        Ok(true)
    }

    /// The floors, asked by themselves: rows that were there a moment ago are not.
    async fn kept_now(&self) -> Result<Kept> {
        let explain = |e| Error::database("cannot read the outbox", e);
        let row = self.client.query_one(KEPT, &[]).await.map_err(explain)?;
        Ok(Kept::parse(Some(row.get(0))))
    }

    /// Tells the channels that are kept briefly that something was gone before it was read; once for a cut.
    async fn tell_gone(&mut self, cut: &mut CutNow, kept: &Kept) -> Result<()> {
        let by = kept.missed_briefly_by(&self.position.seen).filter(|by| cut.gone != Some(*by));
        let Some(by) = by else { return Ok(()) };
        cut.gone = Some(by);
        tracing::warn!(event = "gone_unread", "changes that are kept briefly were pruned before they were read");
        let after = self.position.inside.as_ref().map_or(cut.after, |(_, _, id)| *id);
        for gone in kept::gone(by, (&self.position.seen, &cut.until), self.channels.known(), after) {
            self.send_chunk(cut, vec![gone]).await?;
        }
        Ok(())
    }

    /// Hands a cut over, the rows up to the id `after` excepted.
    async fn deliver(
        &mut self,
        cut: Gathered,
        end: Snapshot,
        lsn: u64,
        after: i64,
        tell: bool,
        kept: &Kept,
    ) -> Result<usize> {
        let from = Arc::new(self.position.cursor(lsn));
        let mut cut_now = CutNow { from, until: Arc::new(end), lsn, after, teller: Teller::default(), gone: None };
        let (changes, count) = match cut {
            Gathered::Whole(rows) => {
                let rows: Vec<Captured<'_>> =
                    rows.iter().map(|row| Captured::of(row, self.channels.known().encoding)).collect();
                self.understand(&rows).await?;
                self.tell_gone(&mut cut_now, kept).await?;
                (cut_now.teller.whole(&rows, self.channels.known(), after), rows.len())
            }
            Gathered::TooMuch => match self.deliver_large(&mut cut_now, kept).await? {
                Some(rest) => rest,
                // what it was part of is gone, and told as such
                None => return Ok(0),
            },
        };
        let CutNow { from, until, .. } = &cut_now;
        self.passed.note(until, count);
        let untold = count == 0 && !tell && self.position.inside.is_none();
        let mut chunks = chunks(changes);
        let last = chunks.pop().unwrap_or_default();
        for chunk in chunks {
            self.send_chunk(&cut_now, chunk).await?;
        }
        // from here to the end nothing waits: a caller that gives this read up finds the position where delivery got to
        let told = self.out.reserve().await.map_err(ended)?;
        self.position.end_cut(until, lsn);
        if !untold {
            self.position.delivered.told(lsn);
            let (from, until) = (from.clone(), until.clone());
            told.send(Event::Cut(Cut { changes: last, from, until, end: Some(self.position.boundary()) }));
        }
        Ok(count)
    }

    /// Hands over a large cut but for its last chunk, which it returns with the number of rows. Nothing where rows were
    /// pruned meanwhile.
    async fn deliver_large(&mut self, cut: &mut CutNow, kept: &Kept) -> Result<Option<(Vec<Change>, usize)>> {
        let mut bulk = Bulk::new(&self.position.seen, &cut.until, None, bulk::MOST);
        let (mut held, mut count) = (Vec::new(), 0);
        self.tell_gone(cut, kept).await?;
        while let Some(kept) = bulk.read_places(&self.client, &self.bulk).await? {
            if self.notice_floor(&kept).await? {
                return Ok(None);
            }
            self.tell_gone(cut, &kept).await?;
            self.learn(bulk.strange_to(&self.channels)).await?;
            count += bulk.count();
            bulk.settle(&self.client, &self.bulk, self.channels.known()).await?;
            while let Some(fetched) = bulk.fetch(&self.client, &self.bulk, cut.after).await? {
                if fetched.is_incomplete {
                    let kept = self.kept_now().await?;
                    if self.notice_floor(&kept).await? {
                        return Ok(None);
                    }
                    self.tell_gone(cut, &kept).await?;
                }
                let rows = fetched.rows(self.channels.known().encoding);
                self.understand(&rows).await?;
                let changes = bulk.changes(&fetched, &rows, &mut cut.teller, self.channels.known());
                // one chunk is kept back: the last one ends the cut
                for chunk in chunks(std::mem::replace(&mut held, changes)) {
                    self.send_chunk(cut, chunk).await?;
                }
            }
        }
        Ok(Some((held, count)))
    }

    /// A chunk of a cut, while others follow.
    async fn send_chunk(&mut self, cut: &CutNow, changes: Vec<Change>) -> Result<()> {
        let Some(last) = changes.last().map(|change| change.id) else { return Ok(()) };
        let told = self.out.reserve().await.map_err(ended)?;
        let (from, until) = (cut.from.clone(), cut.until.clone());
        told.send(Event::Cut(Cut { changes, from, until, end: None }));
        self.position.hand_over(&cut.until, cut.lsn, last);
        Ok(())
    }

    /// Takes note of rows that are about to be told.
    async fn understand(&mut self, rows: &[Captured<'_>]) -> Result<()> {
        let (channels, shapes) = (&self.channels, &mut self.shapes);
        let is_strange =
            |row: &&Captured<'_>| row.is_strange_to(channels) || row.is_of_new_shape(shapes, channels.known());
        let strange: Vec<i32> = rows.iter().filter(is_strange).map(Captured::channel).collect();
        self.learn(strange).await?;
        for row in rows {
            self.position.delivered.note(row.identity());
            // at once, whatever of the cut was sent before: a relay that begins inside a cut does it again
            for user in row.revoked() {
                self.send(Event::Revoked { user: user.into(), at: row.moment() }).await?;
            }
        }
        Ok(())
    }

    /// Has the channels read again, where rows need it.
    async fn learn(&mut self, strange: Vec<i32>) -> Result<()> {
        if strange.is_empty() {
            return Ok(());
        }
        let told = self.channels.learn(&strange).await;
        self.send_all(told).await
    }

    async fn send_all(&self, events: Vec<Event>) -> Result<()> {
        for event in events {
            self.send(event).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<()> {
        self.out.send(event).await.map_err(ended)
    }
}

/// The cut that is being handed over.
struct CutNow {
    /// the position before it
    from: Arc<Cursor>,
    until: Arc<Snapshot>,
    lsn: u64,
    /// told up to this id
    after: i64,
    teller: Teller,
    /// told that something was gone, by this transaction
    gone: Option<u64>,
}

fn ended<T>(_: mpsc::error::SendError<T>) -> Error {
    Error::new(Kind::Io, "delivery has ended")
}
