//! Rows of the outbox as they arrive → changes. Owns how much is held at a time, and what becomes of a row that cannot be
//! read; knows no statement.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt as _};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type, accepts};

use super::catalog::Catalog;
use super::decode::{Decoded, OutboxRow, decode};
use super::delivered_rows::Seen;
use super::directory::ChannelList;
use super::encoding::Encoding;
use super::order::{self, Placed};
use super::shapes::Shapes;
use crate::change::{Change, Update};
use crate::error::{Error, Kind, Result};

/// A chunk of a cut: as many changes, or about as many bytes, as are handed over at a time.
pub(super) const CHUNK_CHANGES: usize = 1_000;
const PART_BYTES: u64 = 1 << 20;
/// A cut of more rows than this, or of more bytes, is read by places first: see `bulk`. The read step asks for one more.
pub(super) const WHOLE_ROWS: usize = 2_000;
const WHOLE_BYTES: usize = 8 << 20;

/// What came of a cut whose rows were asked for without knowing how many there are.
#[derive(Debug)]
pub(super) enum Gathered {
    /// all of them, by id
    Whole(Vec<Row>),
    /// more than is held at a time, or a row that the database cannot give out
    TooMuch,
}

/// The first row of a read.
///
/// # Errors
/// When there is none, or the connection is lost.
pub(super) async fn header<S>(rows: &mut S) -> Result<Row>
where
    S: Stream<Item = Result<Row, tokio_postgres::Error>> + Unpin,
{
    let header = rows.try_next().await.map_err(|e| Error::database("cannot read the outbox", e))?;
    header.ok_or_else(|| Error::new(Kind::Database, "the read step returned no header"))
}

/// The rows of a cut, if they are few. No database sorts them: a sort that does not fit into `work_mem` becomes a file,
/// which `temp_file_limit` forbids.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn gather<S>(rows: &mut S) -> Result<Gathered>
where
    S: Stream<Item = Result<Row, tokio_postgres::Error>> + Unpin,
{
    let (mut whole, mut bytes) = (Vec::new(), 0);
    loop {
        match rows.try_next().await {
            Ok(Some(row)) => {
                bytes += [5, 6, 8].into_iter().map(|column| raw(&row, column).map_or(0, <[u8]>::len)).sum::<usize>();
                if is_large(&row) || whole.len() == WHOLE_ROWS || bytes > WHOLE_BYTES {
                    return Ok(Gathered::TooMuch);
                }
                whole.push(row);
            }
            Ok(None) => break,
            Err(error) => {
                let error = Error::database("cannot read the outbox", error);
                if error.kind() != Kind::Database {
                    return Err(error);
                }
                // which row it is shows when they are read one by one
                tracing::warn!(event = "outbox_read_again", error = crate::error::chain(&error));
                return Ok(Gathered::TooMuch);
            }
        }
    }
    whole.sort_by_cached_key(|row| number::<i64>(row, 0));
    Ok(Gathered::Whole(whole))
}

/// A row of the outbox, its texts decoded.
#[derive(Debug)]
pub(super) struct Captured<'a> {
    id: i64,
    xid: u64,
    at: i64,
    channel: i32,
    op: u8,
    old: Option<Cow<'a, str>>,
    new: Option<Cow<'a, str>>,
    actor: Option<Cow<'a, str>>,
    users: Option<Vec<Option<String>>>,
    command: u32,
    depth: u8,
    /// nothing of it is missing
    is_readable: bool,
}

impl<'a> Captured<'a> {
    /// A row as the statements give it: id, xid, at, channel, op, old, new, actor, users; and, where they ask for it, the
    /// command that captured it, whether it was left out because it is too large, and its depth.
    pub(super) fn of(row: &'a Row, encoding: Encoding) -> Self {
        let users = row.try_get::<_, Option<Vec<Option<RawText<'_>>>>>(8).map(|users| {
            let told = |user: Option<RawText<'_>>| user.map(|user| encoding.decode(user.0).into_owned());
            users.map(|users| users.into_iter().map(told).collect())
        });
        let (id, xid, at): (_, Option<Int8>, Option<Int8>) = (number(row, 0), number(row, 1), number(row, 2));
        let (channel, op) = (number(row, 3), number::<i8>(row, 4));
        let is_readable = users.is_ok()
            && !is_large(row)
            && [id.is_none(), xid.is_none(), at.is_none(), channel.is_none(), op.is_none()] == [false; 5];
        Self {
            id: id.unwrap_or_default(),
            xid: xid.map_or(0, |xid| xid.0.cast_unsigned()),
            at: at.map_or(0, |at| at.0),
            channel: channel.unwrap_or_default(),
            op: op.unwrap_or_default().cast_unsigned(),
            old: text_in(row, 5, encoding),
            new: text_in(row, 6, encoding),
            actor: text_in(row, 7, encoding),
            users: users.unwrap_or_default(),
            command: if row.len() > 9 { number(row, 9).map_or(0, |Cid(command)| command) } else { 0 },
            depth: if row.len() > 11 { depth(row, 11) } else { 0 },
            is_readable,
        }
    }

    /// A row that the database cannot give out; now, as far as anybody knows.
    pub(super) fn unreadable(id: i64, xid: u64, channel: i32, op: u8) -> Self {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let at = since_1970.as_micros() as i64 - MICROSECONDS_1970_TO_2000;
        let (old, new, actor, users) = (None, None, None, None);
        Self { id, xid, at, channel, op, old, new, actor, users, command: 0, depth: 0, is_readable: false }
    }

    /// Order inside the cut.
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Its channel.
    pub(super) fn channel(&self) -> i32 {
        self.channel
    }

    /// What tells a row from any other, also from one that was given its ids again after a crash.
    pub(super) fn identity(&self) -> Seen {
        (self.id, self.xid, self.at)
    }

    /// The users whose tokens are revoked by it.
    pub(super) fn revoked(&self) -> impl Iterator<Item = &str> {
        self.users.iter().flatten().flatten().map(String::as_str).filter(|_| self.op == b'R')
    }

    /// Whether its form is met for the first time, where that matters.
    pub(super) fn is_of_new_shape(&self, shapes: &mut Shapes, catalog: &Catalog) -> bool {
        shapes.is_new(self.channel, self.new.as_deref().or(self.old.as_deref()), catalog)
    }

    /// When it was captured, microseconds since 1970.
    pub(super) fn moment(&self) -> i64 {
        self.at + MICROSECONDS_1970_TO_2000
    }

    /// Whether the channels must be read again before it can be understood.
    pub(super) fn concerns(&self, catalog: &Catalog) -> bool {
        concerns_catalog(self.op, self.channel, catalog)
    }

    /// The same, where it is known which channels there are not.
    pub(super) fn is_strange_to(&self, channels: &ChannelList) -> bool {
        is_strange(self.op, self.channel, channels)
    }

    fn row(&self) -> OutboxRow<'_> {
        OutboxRow {
            id: self.id,
            xid: self.xid,
            at: self.at + MICROSECONDS_1970_TO_2000,
            channel: self.channel,
            op: self.op,
            old: self.old.as_deref(),
            new: self.new.as_deref(),
            actor: self.actor.as_deref(),
            users: self.users.as_deref(),
            command: self.command,
            depth: self.depth,
        }
    }
}

/// Whether the channels must be read again before a row of this kind can be understood.
pub(super) fn concerns_catalog(op: u8, channel: i32, catalog: &Catalog) -> bool {
    match op {
        b'C' => true,
        b'N' | b'R' => false,
        _ => catalog.get(channel).is_none(),
    }
}

/// The same, where it is known which channels there are not.
pub(super) fn is_strange(op: u8, channel: i32, channels: &ChannelList) -> bool {
    match op {
        b'N' | b'R' => false,
        op => channels.must_learn(channel, op == b'C'),
    }
}

/// Rows → changes. Remembers which channels were told that something is missing, and of which transaction.
#[derive(Debug, Default)]
pub(super) struct Teller {
    /// transactions and channels
    told: HashSet<(u64, i32)>,
}

impl Teller {
    /// All rows of a cut, given by id, as changes in the order in which they happened; those up to the id `after` left out.
    pub(super) fn whole(&mut self, rows: &[Captured<'_>], catalog: &Catalog, after: i64) -> Vec<Change> {
        let rows_now: Vec<OutboxRow<'_>> = rows.iter().map(Captured::row).collect();
        let order = order::order_of(&rows_now, catalog);
        let placed = (0..rows.len()).filter_map(|at| Some((at, order.at(at)?)));
        let wanted = placed.filter(|(at, _)| rows[*at].id > after);
        let mut changes = Vec::with_capacity(rows.len());
        for (at, placed) in wanted {
            if order.is_torn(rows[at].xid, rows[at].channel) {
                changes.extend(self.torn(&rows[at], catalog));
            }
            changes.extend(self.change(rows, at, placed, catalog));
        }
        changes
    }

    /// What is told in the place of one of these rows.
    pub(super) fn change(
        &mut self,
        rows: &[Captured<'_>],
        at: usize,
        placed: Placed,
        catalog: &Catalog,
    ) -> Option<Change> {
        let (old, new) = (&rows[placed.old], &rows[placed.new]);
        let at = rows[at].row();
        if !(old.is_readable && new.is_readable) {
            return self.unreadable(&at, catalog, "it cannot be given out, or is too large");
        }
        let whole_old = placed.whole_old(&old.row());
        let row = placed.row(&at, &old.row(), &new.row(), whole_old.as_deref());
        let (channel, id) = (row.channel, row.id);
        if row.users.is_some_and(|users| users.iter().any(Option::is_none)) {
            tracing::warn!(event = "user_rule_failed", channel, id, "the query that names the users raised");
        }
        match decode(&row, catalog) {
            Decoded::Change(change) => Some(change),
            Decoded::Internal | Decoded::Invisible => None,
            // a client that is away now has to be told later, too. The log has `channels_unsure`, or nothing to say
            Decoded::UnknownChannel => {
                tracing::debug!(event = "change_of_no_channel", channel, id);
                self.missing(&row, catalog.name_of(channel)?.clone())
            }
            Decoded::Malformed(what) => self.unreadable(&row, catalog, what),
        }
    }

    /// In the place of a row that cannot be told: its channel learns that something is missing.
    pub(super) fn unreadable(&mut self, row: &OutboxRow<'_>, catalog: &Catalog, what: &str) -> Option<Change> {
        let (channel, id) = (row.channel, row.id);
        let name = catalog.name_of(channel).cloned();
        tracing::error!(event = "outbox_row_unreadable", channel = name.as_deref(), id, what);
        self.missing(row, name?)
    }

    /// In front of a row of a channel of which the order is not known: its channel learns that something is missing.
    pub(super) fn torn(&mut self, at: &Captured<'_>, catalog: &Catalog) -> Option<Change> {
        let name = catalog.name_of(at.channel)?.clone();
        let missing = self.missing(&at.row(), name.clone())?;
        tracing::warn!(
            event = "order_unknown",
            channel = &*name,
            tx = at.xid,
            "nothing tells which of its changes was last"
        );
        Some(missing)
    }

    /// Tells a channel that something is missing, once for a transaction: a client that has seen another one of the cut is told
    /// nothing of that.
    fn missing(&mut self, row: &OutboxRow<'_>, name: Arc<str>) -> Option<Change> {
        let update = self.told.insert((row.xid, row.channel)).then(|| Update::unreadable(name))?;
        Some(Change { id: row.id, tx: row.xid, at: row.at, actor: None, update: Some(update), notification: None })
    }
}

/// Rows, given by id, as changes in the order in which they happened; those up to the id `after` left out.
pub(super) fn changes_of(rows: &[Row], catalog: &Catalog, after: i64) -> Vec<Change> {
    let captured: Vec<Captured<'_>> = rows.iter().map(|row| Captured::of(row, catalog.encoding)).collect();
    Teller::default().whole(&captured, catalog, after)
}

/// Changes in chunks of a size that can be handed over.
pub(super) fn chunks(mut changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut chunks = Vec::new();
    loop {
        let mut bytes = 0;
        let mut fits = |change: &Change| {
            bytes += change.size();
            bytes <= PART_BYTES
        };
        let length = changes.iter().take(CHUNK_CHANGES).take_while(|change| fits(change)).count().max(1);
        if length >= changes.len() {
            chunks.push(changes);
            return chunks;
        }
        let rest = changes.split_off(length);
        chunks.push(std::mem::replace(&mut changes, rest));
    }
}

/// A row that is too large to come with the others.
fn is_large(row: &Row) -> bool {
    row.len() > 10 && number::<bool>(row, 10) == Some(true)
}

/// The text of a column; nothing for null. Whatever its bytes are: the session is told to convert nothing, since one byte
/// that the server cannot convert would fail the whole read.
/// What has no meaning in the database's encoding becomes U+FFFD.
pub(super) fn text_in(row: &Row, column: usize, encoding: Encoding) -> Option<Cow<'_, str>> {
    raw(row, column).map(|bytes| encoding.decode(bytes))
}

/// The same of text that Postgres itself wrote, which is ASCII.
pub(super) fn text(row: &Row, column: usize) -> Option<Cow<'_, str>> {
    text_in(row, column, Encoding::UTF8)
}

/// Bytes of a text.
pub(super) fn length(row: &Row, column: usize) -> usize {
    raw(row, column).map_or(0, <[u8]>::len)
}

fn raw(row: &Row, column: usize) -> Option<&[u8]> {
    number::<RawText<'_>>(row, column).map(|raw| raw.0)
}

/// A column's value; nothing for null, nor for what is no such value.
pub(super) fn number<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Option<T> {
    row.try_get::<_, Option<T>>(column).ok().flatten()
}

/// How many triggers were running, one inside the other, the one that captured the row included; 0: from before it was noted.
pub(super) fn depth(row: &Row, column: usize) -> u8 {
    number::<i32>(row, column).map_or(0, |depth| depth.clamp(1, 255) as u8)
}

const MICROSECONDS_1970_TO_2000: i64 = 946_684_800_000_000;

/// Eight bytes as they are: an xid8, or a timestamptz in microseconds since 2000.
struct Int8(i64);

impl<'a> FromSql<'a> for Int8 {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID8, TIMESTAMPTZ);
}

/// The number of a command inside its transaction.
struct Cid(u32);

impl<'a> FromSql<'a> for Cid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(u32::from_be_bytes(raw.try_into()?)))
    }

    accepts!(CID);
}

/// The bytes of a text.
struct RawText<'a>(&'a [u8]);

impl<'a> FromSql<'a> for RawText<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
