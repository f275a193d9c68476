//! The current rows of a watched table, and the place in the stream at which they were current. Owns that transaction;
//! knows no subscriber.
//!
//! The rows are read in one REPEATABLE READ transaction. Its snapshot is a cursor like any other: the stream goes on
//! from exactly there. Rows have the form that capture gives them: the same settings, and only the columns that leave.

use std::sync::Arc;

use futures_util::TryStreamExt as _;

use super::epoch;
use super::outbox::Parameter;
use super::place;
use super::pool::{Database, Purpose};
use super::replay::{self, Taker};
use crate::change::{Answer, Json, Kind, Narrowing};
use crate::cursor::{Border, Cursor};
use crate::error::{Error, Result};

/// Rows are handed over in parts of so many bytes of JSON.
const PART_BYTES: usize = 64 * 1024;

/// Reads the rows of a channel's table: [`Answer::Rows`], then [`Answer::Border`]. With a `narrowing`, those that it lets
/// through: one user's rows of a large table are found by an index, if there is one.
///
/// # Errors
/// [`Kind::Database`](crate::error::Kind::Database) where the relay may not read the table, with the remedy.
pub(super) async fn read(
    database: &Database,
    channel: &Arc<str>,
    narrowing: Option<&Narrowing>,
    answer: &Taker,
) -> Result<()> {
    let explain = |e| Error::database(format_args!("cannot take a snapshot of channel {channel}"), e);
    let session = database.session(Purpose::Replay).await?;
    let lives = epoch::note(&session).await?;
    // as capture pins them. row_security = off: a policy that would hide rows is an error, not a smaller snapshot
    let settings = format!(
        "set timezone = 'UTC'; set intervalstyle = 'postgres'; set bytea_output = 'hex'; set extra_float_digits = 1;
         set datestyle = 'ISO'; set row_security = off; set jit = off; set lock_timeout = '1s'; set statement_timeout = '{}s';
         begin isolation level repeatable read read only",
        replay::WITHIN.as_secs()
    );
    session.batch_execute(&settings).await.map_err(explain)?;
    let (seen, lsn) = place::now(&session).await?;
    let border = Border::new(Cursor { epoch: lives.epoch, incarnation: lives.present(), lsn, seen, inside: None });
    let column = narrowing.map_or("", |narrowing| &*narrowing.column);
    // an integer of any length: the operators of int2, int4 and int8 are of one family, so an index on any of them fits
    let kind = match narrowing.map(|narrowing| narrowing.kind) {
        Some(Kind::Integer) => "int8",
        Some(Kind::Uuid) => "uuid",
        _ => "text",
    };
    // the columns in the table's order, by name: an excluded one is not even read. Rows of tables that inherit from
    // this one are not captured, so they are not shown either
    let statement = session
        .query_opt(
            "select format('select pg_catalog.row_to_json(r)::text from (select %s from %s %s %s) r',
                           string_agg(quote_ident(a.attname), ', ' order by a.attnum),
                           case when t.relkind = 'p' then '' else 'only' end, t.oid::regclass,
                           case $2::text when '' then '' else format('where %I = any ($1::text[]::%s[])', $2::text, $3::text) end)
               from rowcast.channel c
               join pg_catalog.pg_class t on t.oid = c.target
               join pg_catalog.pg_attribute a
                 on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attnum <> all (c.exclude)
                    and a.attname <> all (c.hidden_names || c.given_exclude)
              where c.name = $1 and c.target = c.target_oid and c.origin = (select rowcast.origin()) group by t.oid, t.relkind",
            &[&&**channel, &column, &kind],
        )
        .await
        .map_err(explain)?;
    // a channel without a table has no rows
    if let Some(statement) = statement {
        let values = narrowing.map(|narrowing| &narrowing.values);
        let parameters: Vec<Parameter<'_>> = values.iter().map(|values| values as Parameter<'_>).collect();
        let rows = session.query_raw(statement.get::<_, &str>(0), parameters).await.map_err(|e| {
            explain(e).hint("let the relay read the table: call rowcast.watch again, with all its arguments")
        })?;
        let mut rows = Box::pin(rows);
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await.map_err(explain)? {
            let row: Json = row.get::<_, &str>(0).into();
            bytes += row.len();
            part.push(row);
            if bytes >= PART_BYTES {
                bytes = 0;
                if answer.give(Answer::Rows(std::mem::take(&mut part))).await.is_err() {
                    return Ok(());
                }
            }
        }
        if !part.is_empty() {
            let _ = answer.give(Answer::Rows(part)).await;
        }
    }
    let _ = answer.give(Answer::Border(border)).await;
    Ok(())
}
