//! The current rows of a watched table, all of them, and the position in the stream at which they were current. Owns how they are
//! handed over; knows no subscriber. A table with a primary key is read in pages instead: see `page`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio_postgres::Statement;

use super::client::{Parameter, Pool};
use super::encoding::Bytes;
use super::pool::{Database, DatabaseSession};
use super::predicate::{self, Where};
use super::spool::Spool;
use super::table::{Moment, RENAMED, SpareSessions, is_retyped};
use crate::change::Json;
use crate::error::{Error, Result};
use crate::request::{Predicate, RowsPart};

/// The rows of a table are read within this time, at the pace of the database.
pub(super) const WITHIN: Duration = Duration::from_secs(600);

/// Rows are handed over in parts of so many bytes of JSON.
const PART_BYTES: usize = 64 * 1024;

/// Keys of large rows that are handed over at a time.
const KEYS: usize = 1_000;

/// Reads the rows of a channel's table: [`RowsPart::Rows`], then [`RowsPart::Boundary`]. Of the rows, those that satisfy what
/// is asked, and perhaps others: one user's rows of a large table are found by an index, if there is one. Ends early where the
/// reader is gone.
///
/// # Errors
/// [`Kind::Database`](crate::error::Kind::Database) where the relay may not read the table, with the remedy.
pub(super) async fn read(
    (database, pool): (&Database, &Pool),
    spare: &SpareSessions,
    (channel, epoch): (&Arc<str>, Option<u64>),
    asked: &Predicate,
    mut answer: Spool,
    gone: impl Future<Output = ()>,
) -> Result<()> {
    let explain = |e| unread(channel, e);
    let mut retyped = 0;
    let (moment, asked) = loop {
        let moment = Moment::begin(database, spare, (channel, epoch), &[], WITHIN).await?;
        let Some(table) = &moment.table else { break (moment, None) };
        let wanted = predicate::render(asked, &moment.types(table, asked).await?, "t", 1);
        let (row, from, clause) = (&table.row, &table.from, &wanted.clause);
        let text = format!("select {row} from {from} where {clause}");
        match moment.session().prepare_as_it_is(&text).await {
            Ok(statement) => break (moment, Some((statement, wanted))),
            Err(error) if is_retyped(&error) && retyped < RENAMED => {
                retyped += 1;
                moment.end(spare).await;
            }
            Err(error) => return Err(explain(error)),
        }
    };
    if let Some((statement, wanted)) = asked {
        let rows = hand_over(database, moment.session(), channel, &statement, &wanted, &mut answer);
        let ended = async {
            tokio::select! {
                () = gone => {}
                // a reader that takes its time would keep everybody from the table
                () = Box::pin(moment.waited_for(pool, channel)) => {}
            }
        };
        match moment.read_unless(database, ended, rows).await {
            Some(Ok(true)) => {}
            Some(Ok(false)) | None => return Ok(()),
            Some(Err(error)) => return Err(error),
        }
    }
    let _ = answer.give(RowsPart::Boundary(moment.boundary.clone())).await;
    moment.end(spare).await;
    Ok(())
}

/// Hands the rows over; `false` where the reader takes no more.
async fn hand_over(
    database: &Database,
    session: &DatabaseSession,
    channel: &str,
    statement: &Statement,
    wanted: &Where,
    answer: &mut Spool,
) -> Result<bool> {
    let explain = |e| unread(channel, e);
    let raw = format!("set local client_encoding = '{}'", database.encoding_of_reading_sessions());
    session.batch_execute(&raw).await.map_err(explain)?;
    let encoding = database.encoding();
    let values = wanted.encoded(encoding);
    let values: Vec<Vec<Bytes<'_>>> = values.iter().map(|values| values.iter().map(|v| Bytes(v)).collect()).collect();
    let parameters: Vec<Parameter<'_>> = values.iter().map(|values| values as Parameter<'_>).collect();
    let rows = session.query_raw(statement, parameters).await.map_err(|e| {
        let remedy = "let the relay read the table: call rowcast.watch again, with all its arguments";
        explain(e).hint(session.naming().of(remedy))
    })?;
    let mut rows = Box::pin(rows);
    let (mut part, mut keys, mut bytes, mut is_spoilt) = (Vec::new(), Vec::new(), 0, false);
    while let Some(row) = rows.try_next().await.map_err(explain)? {
        let text = |column| row.get::<_, Option<Bytes<'_>>>(column).map(|text| encoding.decode(text.0));
        let (whole, key) = (text(0), text(1));
        let is_whole = whole.is_some();
        // a large row without a key cannot be told
        let Some(row) = whole.or(key) else { continue };
        is_spoilt |= matches!(&row, Cow::Owned(text) if text.contains(char::REPLACEMENT_CHARACTER));
        let row: Json = row.into();
        if !is_whole {
            keys.push(row);
            if keys.len() >= KEYS && answer.give(RowsPart::Keys(std::mem::take(&mut keys))).await.is_err() {
                return Ok(false);
            }
            continue;
        }
        bytes += row.len();
        part.push(row);
        if bytes >= PART_BYTES {
            bytes = 0;
            if answer.give(RowsPart::Rows(std::mem::take(&mut part))).await.is_err() {
                return Ok(false);
            }
        }
    }
    if is_spoilt {
        tracing::warn!(event = "text_spoilt", %channel, "bytes that are no text of the database's encoding were replaced");
    }
    if !part.is_empty() && answer.give(RowsPart::Rows(part)).await.is_err() {
        return Ok(false);
    }
    Ok(keys.is_empty() || answer.give(RowsPart::Keys(keys)).await.is_ok())
}

fn unread(channel: &str, error: tokio_postgres::Error) -> Error {
    Error::database(format_args!("cannot take a snapshot of channel {channel}"), error)
}
