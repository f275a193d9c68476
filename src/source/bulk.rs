//! A cut of any size, in order, in little memory, without a sort in the database and without a statement that waits for
//! the task that takes the changes.
//!
//! First every row's *place* is read: its id, its transaction, where it lies. These are sorted here, 40 bytes each. Where
//! rows of a transaction may belong to one row of the table, their images pass by once and leave a hash of the key; only
//! of keys that were met twice, once more for hashes of the images. Then the order is known, and the contents are fetched in
//! that order, by physical place, as many at a time as are handed over at a time. A segment that was emptied meanwhile
//! shows: its rows are not there, or have other ids.
//!
//! A reader that goes on inside a cut reads the places of all of it, so that the order is the same.
//!
//! Of a cut of more than [`MOST`] rows that many are put in order at a time, by ranges of ids. Where a transaction has rows
//! of one channel in two ranges that may belong to one row of the table, nobody knows their order, and the channel is told
//! that something is missing.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::TryStreamExt as _;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Row, Statement};

use super::captured::{
    CHUNK_CHANGES, Captured, Teller, concerns_catalog, depth, header, is_strange, length, number, text, text_in,
};
use super::catalog::Catalog;
use super::client::{Client, Parameter};
use super::decode::OutboxRow;
use super::directory::ChannelList;
use super::encoding::Encoding;
use super::image::{Hashes, Images, KeyHashes};
use super::kept::{Kept, kept};
use super::order::{Brief, Deeds, Order, Placed, Plan};
use crate::change::Change;
use crate::cursor::Snapshot;
use crate::error::{Error, Kind, Result};

/// Places that are held at a time: 80 MB, and with the hashes of their keys 130 MB.
pub(super) const MOST: usize = 2_000_000;
/// Stored bytes of the rows that are fetched at a time, and bytes of JSON after which fewer are.
const BATCH_STORED: u64 = 1 << 20;
const BATCH_BYTES: usize = 16 << 20;
/// Transactions whose images are asked for at a time.
const XIDS: usize = 1_000;

/// Where the rows of the cut ($1, $2] lie, of channel $3 or of all, above the id $4. No value of theirs is looked into.
const PLACES: &str = concat!(
    "
select null::int8, null::xid8, null::int4, null::\"char\", null::cid, null::oid, null::tid, null::int4, (select ",
    kept!(),
    " from rowcast.installation), null::int4
union all
select o.id, o.xid, o.channel, o.op, o.cmin, o.tableoid, o.ctid, o.stored, null, o.depth from (
  select o.id, o.xid, o.channel, o.op, o.cmin, o.tableoid, o.ctid, o.depth,
         coalesce(pg_column_size(o.old), 0) + coalesce(pg_column_size(o.new), 0) + coalesce(pg_column_size(o.users), 0) as stored
    from rowcast.outbox o
   where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and pg_visible_in_snapshot(o.xid, (select $2::text::pg_snapshot)) and o.id > $4
     and ($3::int4 is null or o.channel = $3)
  union all
  select o.id, o.xid, o.channel, o.op, o.cmin, o.tableoid, o.ctid, o.depth,
         coalesce(pg_column_size(o.old), 0) + coalesce(pg_column_size(o.new), 0) + coalesce(pg_column_size(o.users), 0)
    from rowcast.outbox o
   where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))) and pg_visible_in_snapshot(o.xid, (select $2::text::pg_snapshot)) and o.id > $4
     and ($3::int4 is null or o.channel = $3)) o"
);

/// Whether a row is larger than what is ever read. The stored, compressed size is looked at first, which costs nothing: no
/// compression is better than 255:1, so that below 128 KiB no image can be beyond 32 MiB.
macro_rules! is_large {
    () => {
        "cross join lateral (select case
    when coalesce(pg_column_size(o.old), 0) + coalesce(pg_column_size(o.new), 0) + coalesce(pg_column_size(o.users), 0) <= 131072 then false
    else coalesce(octet_length(o.old::text), 0) > 33554432 or coalesce(octet_length(o.new::text), 0) > 33554432
      or coalesce(octet_length(o.users::text), 0) > 33554432 end as is_large offset 0) l"
    };
}
/// The images of some transactions on some channels, in any order.
const IMAGES: &str = concat!(
    "select o.id, o.channel, o.op, case when not l.is_large then o.old::text end, case when not l.is_large then o.new::text end
  from rowcast.outbox o ",
    is_large!(),
    " where o.xid = any ($1::text[]::xid8[]) and o.channel = any ($2) and o.id between $3 and $4"
);

/// Statements of a session that reads large cuts.
#[derive(Debug)]
pub(super) struct Statements {
    places: Statement,
    images: Statement,
    /// of each segment
    fetch: Vec<(u32, Statement)>,
}

impl Statements {
    /// Prepares them.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn prepare(client: &Client) -> Result<Self> {
        let explain = |e| Error::database("cannot prepare the reading of a large cut", e);
        let mut fetch = Vec::new();
        for number in 0..6 {
            let table = format!("rowcast.outbox_{number}");
            let row = client.query_one(&format!("select '{table}'::regclass::oid"), &[]).await.map_err(explain)?;
            let sql = format!(
                "select o.id, o.xid, o.at, o.channel, o.op, case when not l.is_large then o.old::text end, \
                        case when not l.is_large then o.new::text end, o.actor::varchar(200)::text, case when not l.is_large then o.users end, \
                        o.cmin, l.is_large, o.depth
                   from {table} o {} where o.ctid = any ($1)",
                is_large!()
            );
            fetch.push((row.get(0), client.prepare(&sql).await.map_err(explain)?));
        }
        let places = client.prepare(PLACES).await.map_err(explain)?;
        let images = client.prepare(IMAGES).await.map_err(explain)?;
        Ok(Self { places, images, fetch })
    }
}

/// Where a row lies, and what of it the order depends on.
#[derive(Debug, Clone, Copy)]
struct BulkPlace {
    id: i64,
    xid: u64,
    channel: i32,
    command: u32,
    stored: u32,
    tid: Tid,
    /// which of the segments
    segment: u8,
    op: u8,
    depth: u8,
}

/// The reading of one cut.
#[derive(Debug)]
pub(super) struct Bulk {
    from: String,
    until: String,
    channel: Option<i32>,
    most: usize,
    /// of the present range, by id
    places: Vec<BulkPlace>,
    order: Order,
    next: usize,
    batch: usize,
    /// the range ends here, and another one follows
    is_range: bool,
    /// up to this id all ranges are told
    passed: i64,
    /// what was passed of each transaction and channel in earlier ranges
    deeds: HashMap<(u64, i32), Deeds>,
    /// transactions and channels of which the order is not known
    torn: HashSet<(u64, i32)>,
}

/// Contents, as many as are handed over at a time.
#[derive(Debug)]
pub(super) struct Fetched {
    rows: Vec<Row>,
    /// (id, transaction, channel, op) of rows that the database cannot give out
    unreadable: Vec<(i64, u64, i32, u8)>,
    /// in order: whose place, whose images, by id
    placed: Vec<(i64, Option<u8>, i64, i64)>,
    /// rows that are not where they were
    pub(super) is_incomplete: bool,
}

impl Bulk {
    /// Begins to read what `until` sees and `from` does not, of one channel or of all.
    pub(super) fn new(from: &Snapshot, until: &Snapshot, channel: Option<i32>, most: usize) -> Self {
        Self {
            from: from.to_string(),
            until: until.to_string(),
            channel,
            most,
            places: Vec::new(),
            order: Order::default(),
            next: 0,
            batch: CHUNK_CHANGES,
            is_range: true,
            passed: i64::MIN,
            deeds: HashMap::new(),
            torn: HashSet::new(),
        }
    }

    /// Reads the places of the next range, mostly of all: says whether there was one, and the floors as of then.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(super) async fn read_places(&mut self, client: &Client, statements: &Statements) -> Result<Option<Kept>> {
        if !self.is_range {
            return Ok(None);
        }
        let explain = |e| Error::database("cannot read the places of a cut", e);
        self.is_range = false;
        self.places = Vec::new();
        self.next = 0;
        let parameters: [Parameter<'_>; 4] = [&self.from, &self.until, &self.channel, &self.passed];
        let mut rows = Box::pin(client.query_raw(&statements.places, parameters).await.map_err(explain)?);
        let kept = Kept::parse(text(&header(&mut rows).await?, 8).as_deref());
        while let Some(row) = rows.try_next().await.map_err(explain)? {
            let oid = number::<u32>(&row, 5).unwrap_or_default();
            let segment = statements.fetch.iter().position(|(known, _)| *known == oid).unwrap_or_default();
            self.places.push(BulkPlace {
                id: number(&row, 0).unwrap_or_default(),
                xid: number::<Bits>(&row, 1).map_or(0, |bits| bits.0),
                channel: number(&row, 2).unwrap_or_default(),
                op: number::<i8>(&row, 3).unwrap_or_default().cast_unsigned(),
                command: number::<Bits>(&row, 4).map_or(0, |bits| bits.0 as u32),
                tid: number(&row, 6).unwrap_or_default(),
                stored: number::<i32>(&row, 7).unwrap_or_default().cast_unsigned(),
                segment: segment as u8,
                depth: depth(&row, 9),
            });
            if self.places.len() > self.most + self.most / 8 {
                self.shorten();
            }
        }
        if self.places.len() > self.most {
            self.shorten();
        }
        self.places.sort_unstable_by_key(|place| place.id);
        if let Some(last) = self.places.last() {
            self.passed = last.id;
        }
        Ok(Some(kept))
    }

    /// Keeps the lowest ids.
    fn shorten(&mut self) {
        self.places.select_nth_unstable_by_key(self.most, |place| place.id);
        self.places.truncate(self.most);
        self.is_range = true;
    }

    /// Whether the channels must be read again before the range can be understood.
    pub(super) fn concerns(&self, catalog: &Catalog) -> bool {
        self.places.iter().any(|place| concerns_catalog(place.op, place.channel, catalog))
    }

    /// The channels of which more must be known before the range can be understood.
    pub(super) fn strange_to(&self, channels: &ChannelList) -> Vec<i32> {
        let strange = self.places.iter().filter(|place| is_strange(place.op, place.channel, channels));
        let strange: BTreeSet<i32> = strange.map(|place| place.channel).collect();
        strange.into_iter().collect()
    }

    /// How many rows the range has.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Finds the order of the range.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn settle(&mut self, client: &Client, statements: &Statements, catalog: &Catalog) -> Result<()> {
        let mut deeds: HashMap<(u64, i32), Deeds> = HashMap::new();
        for place in &self.places {
            deeds.entry((place.xid, place.channel)).or_default().add(place.op);
        }
        self.torn = HashSet::new();
        for (of, now) in &deeds {
            let Some(before) = self.deeds.get(of) else { continue };
            let mut all = *before;
            all.join(*now);
            if all.may_meet() && catalog.has_key(of.1) {
                self.torn.insert(*of);
            }
        }
        let wanted: HashSet<(u64, i32)> =
            deeds.iter().filter(|(of, deeds)| deeds.may_meet() && catalog.has_key(of.1)).map(|(of, _)| *of).collect();
        if self.is_range {
            // of an earlier range, what goes on after this one
            self.deeds.retain(|of, _| deeds.contains_key(of));
            for (of, now) in deeds {
                self.deeds.entry(of).or_default().join(now);
            }
        }
        self.order = Order::default();
        if wanted.is_empty() {
            return Ok(());
        }
        let hashes = Hashes::default();
        let mut keys = vec![KeyHashes::default(); self.places.len()];
        let read = self.pass(client, statements, &wanted, catalog.encoding, |at, row| {
            let found = catalog.get(row.channel).and_then(|channel| hashes.keys(row, channel));
            keys[at] = found.unwrap_or_default();
        });
        if !read.await? {
            self.torn.extend(&wanted);
            return Ok(());
        }
        let places = &self.places;
        let brief = |at: usize| {
            let BulkPlace { xid, channel, op, command, depth, .. } = places[at];
            Brief {
                xid,
                channel,
                op,
                command,
                depth,
                keys: Some(keys[at]).filter(|keys| *keys != KeyHashes::default()),
            }
        };
        let plan = Plan::of(places.len(), brief);
        if plan.is_empty() {
            return Ok(());
        }
        let met: HashSet<usize> = plan.groups.iter().flatten().map(|row| *row as usize).collect();
        let wanted: HashSet<(u64, i32)> = met.iter().map(|at| (places[*at].xid, places[*at].channel)).collect();
        let mut images: HashMap<usize, Images> = HashMap::with_capacity(met.len());
        let read = self.pass(client, statements, &wanted, catalog.encoding, |at, row| {
            if met.contains(&at)
                && let Some(found) = catalog.get(row.channel).and_then(|channel| hashes.images(row, channel))
            {
                images.insert(at, found);
            }
        });
        if !read.await? {
            self.torn.extend(&wanted);
            return Ok(());
        }
        self.order = plan.order(brief, |at| images.get(&at).copied(), |channel| catalog.is_bare(channel));
        Ok(())
    }

    /// Has the images of some transactions and channels pass by, in any order; says whether all of them did.
    async fn pass(
        &self,
        client: &Client,
        statements: &Statements,
        wanted: &HashSet<(u64, i32)>,
        encoding: Encoding,
        mut each: impl FnMut(usize, &OutboxRow<'_>),
    ) -> Result<bool> {
        let explain = |e| Error::database("cannot read the images of a cut", e);
        let (Some(first), Some(last)) = (self.places.first(), self.places.last()) else { return Ok(true) };
        let channels: Vec<i32> = wanted.iter().map(|of| of.1).collect::<HashSet<_>>().into_iter().collect();
        let mut xids: Vec<u64> = wanted.iter().map(|of| of.0).collect::<HashSet<_>>().into_iter().collect();
        xids.sort_unstable();
        for xids in xids.chunks(XIDS) {
            let xids: Vec<String> = xids.iter().map(u64::to_string).collect();
            let parameters: [Parameter<'_>; 4] = [&xids, &channels, &first.id, &last.id];
            let mut rows = Box::pin(client.query_raw(&statements.images, parameters).await.map_err(explain)?);
            loop {
                let row = match rows.try_next().await.map_err(explain) {
                    Ok(Some(row)) => row,
                    Ok(None) => break,
                    Err(error) if error.kind() == Kind::Database => {
                        tracing::error!(event = "outbox_read_again", error = crate::error::chain(&error));
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                };
                let id = number::<i64>(&row, 0).unwrap_or_default();
                let Ok(at) = self.places.binary_search_by_key(&id, |place| place.id) else { continue };
                let place = self.places[at];
                if !wanted.contains(&(place.xid, place.channel)) {
                    continue;
                }
                let (old, new) = (text_in(&row, 3, encoding), text_in(&row, 4, encoding));
                each(
                    at,
                    &OutboxRow {
                        id,
                        xid: place.xid,
                        at: 0,
                        channel: place.channel,
                        op: place.op,
                        old: old.as_deref(),
                        new: new.as_deref(),
                        actor: None,
                        users: None,
                        command: place.command,
                        depth: place.depth,
                    },
                );
            }
        }
        Ok(true)
    }

    /// Fetches the next contents of the range, those up to the id `after` left out; `None` at its end.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn fetch(
        &mut self,
        client: &Client,
        statements: &Statements,
        after: i64,
    ) -> Result<Option<Fetched>> {
        loop {
            let (mut placed, mut needed, mut stored) = (Vec::new(), Vec::new(), 0);
            let mut next = self.next;
            while next < self.places.len() && placed.len() < self.batch && (stored < BATCH_STORED || placed.is_empty())
            {
                let at = next;
                next += 1;
                let Some(now) = self.order.at(at).filter(|_| self.places[at].id > after) else { continue };
                for row in [at, now.old, now.new] {
                    needed.push(row);
                    stored += u64::from(self.places[row].stored);
                }
                placed.push((at, now));
            }
            if placed.is_empty() {
                self.next = next;
                return Ok(None);
            }
            needed.sort_unstable();
            needed.dedup();
            let is_alone = placed.len() == 1;
            let Some(mut fetched) = self.contents(client, statements, &needed, is_alone).await? else {
                self.batch = (placed.len() / 2).max(1);
                continue;
            };
            let id = |at: usize| self.places[at].id;
            fetched.placed = placed.iter().map(|(at, now)| (id(*at), now.op, id(now.old), id(now.new))).collect();
            self.next = next;
            self.batch = (self.batch * 2).min(CHUNK_CHANGES);
            return Ok(Some(fetched));
        }
    }

    /// Rows by where they lie; `None` where that is too much at a time.
    async fn contents(
        &self,
        client: &Client,
        statements: &Statements,
        needed: &[usize],
        is_alone: bool,
    ) -> Result<Option<Fetched>> {
        let explain = |e| Error::database("cannot read rows of the outbox", e);
        let mut rows = Vec::with_capacity(needed.len());
        let (mut unreadable, mut bytes, mut found) = (Vec::new(), 0, 0);
        for (segment, (_, statement)) in statements.fetch.iter().enumerate() {
            let here: Vec<BulkPlace> = needed
                .iter()
                .map(|at| self.places[*at])
                .filter(|place| usize::from(place.segment) == segment)
                .collect();
            if here.is_empty() {
                continue;
            }
            // the places as they are, and one by one where a row among them cannot be given out
            let mut asked: Vec<&[BulkPlace]> = vec![&here];
            while let Some(places) = asked.pop() {
                let tids: Vec<Tid> = places.iter().map(|place| place.tid).collect();
                let parameters: [Parameter<'_>; 1] = [&tids];
                let mut came = Box::pin(client.query_raw(statement, parameters).await.map_err(explain)?);
                let before = rows.len();
                loop {
                    match came.try_next().await.map_err(explain) {
                        Ok(Some(row)) => {
                            let id = number::<i64>(&row, 0).unwrap_or_default();
                            // a segment that was emptied and filled again
                            if places.binary_search_by_key(&id, |place| place.id).is_err() {
                                continue;
                            }
                            bytes += [5, 6].into_iter().map(|at| length(&row, at)).sum::<usize>();
                            rows.push(row);
                            if bytes > BATCH_BYTES && !is_alone {
                                return Ok(None);
                            }
                        }
                        Ok(None) => {
                            found += rows.len() - before;
                            break;
                        }
                        Err(error) if error.kind() == Kind::Database => {
                            rows.truncate(before);
                            if let [place] = places {
                                found += 1;
                                tracing::error!(event = "outbox_read_again", error = crate::error::chain(&error));
                                unreadable.push((place.id, place.xid, place.channel, place.op));
                            } else {
                                asked.extend(places.chunks(1));
                            }
                            break;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        let is_incomplete = found < needed.len();
        Ok(Some(Fetched { rows, unreadable, placed: Vec::new(), is_incomplete }))
    }

    /// The changes in what was fetched, in order.
    pub(super) fn changes(
        &self,
        fetched: &Fetched,
        rows: &[Captured<'_>],
        teller: &mut Teller,
        catalog: &Catalog,
    ) -> Vec<Change> {
        let mut changes = Vec::with_capacity(fetched.placed.len());
        for (at, placed) in fetched.placed(rows) {
            let (_, xid, _) = rows[at].identity();
            let channel = rows[at].channel();
            if self.torn.contains(&(xid, channel)) || self.order.is_torn(xid, channel) {
                changes.extend(teller.torn(&rows[at], catalog));
            }
            changes.extend(teller.change(rows, at, placed, catalog));
        }
        changes
    }
}

impl Fetched {
    /// The rows, each once.
    pub(super) fn rows(&self, encoding: Encoding) -> Vec<Captured<'_>> {
        let unreadable =
            self.unreadable.iter().map(|(id, xid, channel, op)| Captured::unreadable(*id, *xid, *channel, *op));
        let mut rows: Vec<Captured<'_>> =
            self.rows.iter().map(|row| Captured::of(row, encoding)).chain(unreadable).collect();
        rows.sort_unstable_by_key(Captured::id);
        rows.dedup_by_key(|row| row.id());
        rows
    }

    /// What is told of these rows: in whose place, which images. What is not there any more is left out.
    fn placed<'a>(&'a self, rows: &'a [Captured<'_>]) -> impl Iterator<Item = (usize, Placed)> + 'a {
        let find = |id: i64| rows.binary_search_by_key(&id, Captured::id).ok();
        self.placed.iter().filter_map(move |(at, op, old, new)| {
            Some((find(*at)?, Placed { op: *op, old: find(*old)?, new: find(*new)? }))
        })
    }
}

/// Where a row lies in its segment: block and number.
#[derive(Debug, Clone, Copy, Default)]
struct Tid {
    block: u32,
    number: u16,
}

impl<'a> FromSql<'a> for Tid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let (block, number) = raw.split_at_checked(4).ok_or("a tid of another length")?;
        Ok(Self { block: u32::from_be_bytes(block.try_into()?), number: u16::from_be_bytes(number.try_into()?) })
    }

    accepts!(TID);
}

impl ToSql for Tid {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.block.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TID);
    to_sql_checked!();
}

/// Four or eight bytes as a number: a cid, an xid8.
struct Bits(u64);

impl<'a> FromSql<'a> for Bits {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        if raw.len() > 8 {
            return Err("more than eight bytes".into());
        }
        Ok(Self(raw.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))))
    }

    accepts!(CID, XID8);
}
