//! The read step: what became visible between two snapshots, in order. Owns the statements and the place reached;
//! knows neither when to read nor who listens.
//!
//! A cut is `visible in now and not in prev`, found as `xid >= xmax(prev)` union `xid = any (xip(prev))`. Never a scan
//! from `xmin(prev)`: one long transaction would make every read slow (158 ms instead of 0.03 ms at a million rows).
//! The statement's own snapshot is `now`, so MVCC itself is the test "visible in now", and its first row says which
//! snapshot that was.

use std::pin::pin;
use std::sync::Arc;

use deadpool_postgres::Pool;
use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::types::{FromSql, Type, accepts};
use tokio_postgres::{Client, Row, Statement};

use super::catalog::Catalog;
use super::decode::{Decoded, OutboxRow, decode};
use super::epoch::Epoch;
use crate::change::{Change, Cut, Event};
use crate::cursor::{Cursor, Snapshot, inside_prefix};
use crate::error::{Error, Kind, Result};

/// A part of a cut: as many changes, or as many bytes of JSON, as are held at a time.
const PART_CHANGES: usize = 1_000;
const PART_BYTES: usize = 1 << 20;

/// The session's settings. Generic plans and JIT cost 7 ms a read instead of 0.03; a waiting lock request of a relay
/// would make writers skip their bell, so none may wait long.
const SESSION: &str = "set jit = off; set enable_seqscan = off; set plan_cache_mode = force_custom_plan; \
    set max_parallel_workers_per_gather = 0; set lock_timeout = '1s'; set idle_in_transaction_session_timeout = '5s'; \
    set statement_timeout = 0; set timezone = 'UTC'";

const READ: &str = "
select 0::int8, null::xid8, null::timestamptz, null::int4, null::\"char\", pg_current_snapshot()::text, \
       (pg_current_wal_insert_lsn() - '0/0')::text, null::text, null::text[]
union all
(select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot)
 union all
 select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))))
order by 1";

/// The rest of a cut (prev, now] after an id, when the connection broke inside it.
const READ_REST: &str = "
(select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and pg_visible_in_snapshot(o.xid, $2::text::pg_snapshot) and o.id > $3
 union all
 select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o
  where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))) and pg_visible_in_snapshot(o.xid, $2::text::pg_snapshot) and o.id > $3)
order by 1";

/// The place reached: what the relay goes on from, over reconnects.
#[derive(Debug, Clone)]
pub struct Place {
    epoch: Epoch,
    seen: Snapshot,
    lsn: u64,
    /// delivered of the cut that ends at this snapshot (with its LSN): everything up to the id
    inside: Option<(Snapshot, u64, i64)>,
}

impl Place {
    /// The present: nothing before it will be read.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn now(client: &Client, epoch: Epoch) -> Result<Self> {
        let row = client
            .query_one("select pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::text", &[])
            .await
            .map_err(|e| Error::database("cannot read the current snapshot", e))?;
        let (seen, lsn) = snapshot_and_lsn(row.get(0), row.get(1))?;
        Ok(Self { epoch, seen, lsn, inside: None })
    }

    /// Takes the place over into the server's present life, when that still knows it.
    pub fn continued_in(mut self, epoch: Epoch) -> Option<Self> {
        if !epoch.continues(&self.epoch, self.inside.as_ref().map_or(self.lsn, |(_, lsn, _)| *lsn)) {
            return None;
        }
        self.epoch = epoch;
        Some(self)
    }

    /// The token of this place.
    pub fn token(&self) -> Arc<str> {
        let inside = self.inside.as_ref().map(|(end, _, id)| (end.clone(), *id));
        let lsn = self.inside.as_ref().map_or(self.lsn, |(_, lsn, _)| *lsn);
        self.cursor(lsn, inside).token().into()
    }

    fn cursor(&self, lsn: u64, inside: Option<(Snapshot, i64)>) -> Cursor {
        Cursor { epoch: self.epoch.id, incarnation: 0, lsn, seen: self.seen.clone(), inside }
    }
}

/// Reads cuts, one after the other.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    read: Statement,
    read_rest: Statement,
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
        let read_rest = client.prepare(READ_REST).await.map_err(explain)?;
        Ok(Self { client, read, read_rest, place, pool, catalog: Catalog::default(), out })
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

    /// Reads the channels again and tells delivery which there are.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn reload_catalog(&mut self) -> Result<()> {
        self.catalog = Catalog::load(&self.pool).await?;
        self.send(Event::Channels(self.catalog.names())).await
    }

    /// Tells delivery that capture is live from here on.
    ///
    /// # Errors
    /// When delivery is gone.
    pub async fn announce_live(&self) -> Result<()> {
        self.send(Event::Live { cursor: self.place.token() }).await
    }

    /// One read step: sends the cut that ends now, in parts. Waits while delivery is behind.
    ///
    /// # Errors
    /// When the connection is lost; the place then lies where delivery got to, also inside the cut.
    pub async fn read(&mut self) -> Result<Found> {
        let mut found = Found { rows: 0, xmin: 0 };
        if let Some((end, lsn, id)) = self.place.inside.clone() {
            let (seen, until) = (self.place.seen.to_string(), end.to_string());
            let parameters: [Parameter<'_>; 3] = [&seen, &until, &id];
            let rows = self
                .client
                .query_raw(&self.read_rest, parameters)
                .await
                .map_err(|e| Error::database("cannot read the rest of a cut", e))?;
            found.rows += self.deliver(rows, end, lsn).await?;
        }
        let seen = self.place.seen.to_string();
        let parameters: [Parameter<'_>; 1] = [&seen];
        let explain = |e| Error::database("cannot read the outbox", e);
        let rows = self.client.query_raw(&self.read, parameters).await.map_err(explain)?;
        let mut rows = Box::pin(rows);
        let Some(header) = rows.try_next().await.map_err(explain)? else {
            return Err(Error::new(Kind::Database, "the read step returned no header"));
        };
        let (now, lsn) = snapshot_and_lsn(header.get(5), header.get(6))?;
        found.xmin = now.xmin();
        found.rows += self.deliver(rows, now, lsn).await?;
        Ok(found)
    }

    async fn deliver(
        &mut self,
        rows: impl futures_util::Stream<Item = Result<Row, tokio_postgres::Error>>,
        end: Snapshot,
        lsn: u64,
    ) -> Result<usize> {
        let mut rows = pin!(rows);
        let inside: Arc<str> = inside_prefix(&self.place.cursor(lsn, Some((end.clone(), 1)))).into();
        let mut part = Vec::new();
        let mut bytes = 0;
        let mut count = 0;
        while let Some(row) = rows.try_next().await.map_err(|e| Error::database("cannot read the outbox", e))? {
            count += 1;
            if part.len() >= PART_CHANGES || bytes >= PART_BYTES {
                self.send_part(&mut part, &inside, &end, lsn).await?;
                bytes = 0;
            }
            if let Some(change) = self.decode(&row, &mut bytes).await? {
                part.push(change);
            }
        }
        let unchanged = count == 0 && self.place.seen == end && self.place.inside.is_none();
        self.place.seen = end;
        self.place.lsn = lsn;
        self.place.inside = None;
        if !unchanged {
            self.send(Event::Cut(Cut { changes: part, inside, end: Some(self.place.token()) })).await?;
        }
        Ok(count)
    }

    async fn send_part(&mut self, part: &mut Vec<Change>, inside: &Arc<str>, end: &Snapshot, lsn: u64) -> Result<()> {
        let Some(last) = part.last().map(|change| change.id) else { return Ok(()) };
        let changes = std::mem::take(part);
        self.send(Event::Cut(Cut { changes, inside: inside.clone(), end: None })).await?;
        self.place.inside = Some((end.clone(), lsn, last));
        Ok(())
    }

    async fn decode(&mut self, row: &Row, bytes: &mut usize) -> Result<Option<Change>> {
        let Int8(xid) = row.get(1);
        let Int8(at) = row.get(2);
        let op: i8 = row.get(4);
        let users: Option<Vec<Option<String>>> = row.get(8);
        let row = OutboxRow {
            id: row.get(0),
            xid: xid.cast_unsigned(),
            at: at + MICROSECONDS_1970_TO_2000,
            channel: row.get(3),
            op: op.cast_unsigned(),
            old: row.get(5),
            new: row.get(6),
            actor: row.get(7),
            users: users.as_deref(),
        };
        *bytes += row.old.map_or(0, str::len) + row.new.map_or(0, str::len);
        if users.as_ref().is_some_and(|users| users.iter().any(Option::is_none)) {
            tracing::warn!(
                event = "user_rule_failed",
                channel = row.channel,
                id = row.id,
                "the query that names the users raised"
            );
        }
        let mut decoded = decode(&row, &self.catalog);
        if matches!(decoded, Decoded::UnknownChannel | Decoded::ChannelChanged) {
            self.reload_catalog().await?;
            decoded = decode(&row, &self.catalog);
        }
        match decoded {
            Decoded::Change(change) => return Ok(Some(change)),
            Decoded::ChannelChanged | Decoded::Invisible => {}
            Decoded::UnknownChannel => {
                tracing::debug!(event = "change_of_no_channel", channel = row.channel, id = row.id);
            }
            Decoded::Malformed(what) => tracing::error!(event = "outbox_row_malformed", id = row.id, what),
        }
        Ok(None)
    }

    async fn send(&self, event: Event) -> Result<()> {
        self.out.send(event).await.map_err(|_| Error::new(Kind::Io, "delivery has ended"))
    }
}

type Parameter<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);

fn snapshot_and_lsn(snapshot: &str, lsn: &str) -> Result<(Snapshot, u64)> {
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
