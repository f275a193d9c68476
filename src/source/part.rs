//! Rows of the outbox as they arrive → changes. Owns how many are held at a time and where they may be divided; knows
//! no statement.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type, accepts};

use super::catalog::Catalog;
use super::decode::{Decoded, OutboxRow, decode};
use super::order::{self, NEAR, NEIGHBOURS};
use super::witness::Seen;
use crate::change::Change;

/// A part of a cut: as many changes, or as many bytes of JSON, as are held at a time.
pub(super) const PART_CHANGES: usize = 1_000;
const PART_BYTES: usize = 1 << 20;

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

/// What happened, as the outbox writes it.
pub(super) fn op(row: &Row) -> u8 {
    row.get::<_, i8>(4).cast_unsigned()
}

fn length(row: &Row, column: usize) -> usize {
    row.get::<_, Option<&str>>(column).map_or(0, str::len)
}

/// Whether the channels must be read again before this row can be understood.
pub(super) fn concerns_catalog(row: &Row, catalog: &Catalog) -> bool {
    match op(row) {
        b'C' => true,
        b'N' | b'R' => false,
        _ => catalog.get(row.get(3)).is_none(),
    }
}

/// What tells a row from any other, also from one that was given its ids again after a crash.
pub(super) fn identity(row: &Row) -> Seen {
    let (Int8(xid), Int8(at)) = (row.get(1), row.get(2));
    (row.get(0), xid.cast_unsigned(), at)
}

/// When it was captured, microseconds since 1970.
pub(super) fn moment(row: &Row) -> i64 {
    let Int8(at) = row.get(2);
    at + MICROSECONDS_1970_TO_2000
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
        Decoded::Internal | Decoded::Invisible => {}
        Decoded::UnknownChannel => {
            tracing::debug!(event = "change_of_no_channel", channel = row.channel, id = row.id);
        }
        Decoded::Malformed(what) => tracing::error!(event = "outbox_row_malformed", id = row.id, what),
    }
    None
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
