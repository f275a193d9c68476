//! The current rows of a watched table, and the position in the stream at which they were current. Owns that transaction;
//! knows no subscriber.
//!
//! The rows are read in one REPEATABLE READ transaction. Its snapshot is a cursor like any other: the stream goes on
//! from exactly there. Rows have the form that capture gives them: the same settings, and only the columns that leave.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use tokio_postgres::error::SqlState;

use super::client::Parameter;
use super::encoding::Bytes;
use super::epoch;
use super::pool::{Database, Purpose, Session};
use super::position;
use super::predicate;
use super::spool::Spool;
use crate::change::Json;
use crate::cursor::{Boundary, Cursor};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::request::{Predicate, RowsPart};
use crate::sync::lock;

/// The rows of a table are read within this time, at the pace of the database.
pub(super) const WITHIN: Duration = Duration::from_secs(600);

/// Rows are handed over in parts of so many bytes of JSON.
const PART_BYTES: usize = 64 * 1024;

/// Keys of large rows that are handed over at a time.
const KEYS: usize = 1_000;

/// So often a table or a column may get another name between the look at its names and their use.
const RENAMED: u32 = 3;

/// Sessions that have read rows and may read others: to open one takes as long as to read a small table, and a
/// page may ask for two thousand lists. Those that nobody has used for a while are closed.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<(Session, Instant)>>);

/// For so long.
const SPARED: Duration = Duration::from_secs(5);

impl Spare {
    fn take(&self) -> Option<Session> {
        let mut sessions = self.lock();
        sessions.retain(|(session, _)| !session.is_closed());
        sessions.pop().map(|(session, _)| session)
    }

    fn put(&self, session: Session) {
        self.lock().push((session, Instant::now()));
    }

    /// Closes those that nobody used.
    pub(super) fn sweep(&self) {
        self.lock().retain(|(_, since)| since.elapsed() < SPARED);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Session, Instant)>> {
        lock(&self.0)
    }
}

/// Also where a column has another type by now, which is not compared with what it was to be compared with.
fn names_are_gone(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::CANNOT_COERCE,
    ]
    .contains(code)
}

/// The statement that reads a channel's rows: those columns that may leave, in the table's order, by name, so that no
/// other is even read. Rows of tables that inherit from this one are not captured, so they are not shown either. r.* is the
/// whole row, also where a column is named r. What a row is stored in is looked at first: a large one is measured, and its
/// key stands for it where it is longer than `row_bytes`.
const STATEMENT: &str = "
select format('select case when s.size <= 2000 then pg_catalog.row_to_json(r.*)::text
                           when s.size <= rowcast.row_bytes() then rowcast.json_within(r.*, null, null, ''{}'', ''{}'', null)::text end,
                      case when s.size > 2000 then %s end
                 from %s %s t cross join lateral (select %s) r cross join lateral (select %s) s(size)',
              coalesce('(select pg_catalog.row_to_json(k.*)::text from (select ' ||
                string_agg(format('t.%I', s.name), ', ' order by s.attnum) filter (where i.indkey is not null) || ') k)', 'null'),
              case when t.relkind = 'p' then '' else 'only' end, t.oid::regclass,
              string_agg(format('t.%I', s.name), ', ' order by s.attnum),
              string_agg(format('coalesce(pg_catalog.pg_column_size(t.%I), 0)', s.name), ' + ')),
       exists (select from rowcast.displaced d where d.channel = c.id), t.oid, t.oid::regclass::text,
       not bool_and(pg_catalog.has_column_privilege(t.oid, s.attnum, 'select'))
  from rowcast.channel c
  join pg_catalog.pg_class t on t.oid = c.target
  join rowcast.shown_column s on s.channel = c.id
  left join pg_catalog.pg_index i on i.indrelid = t.oid and i.indisprimary and s.attnum = any (i.indkey)
 where c.name = $1 and c.target = c.target_oid and c.origin = (select rowcast.origin())
 group by c.id, t.oid, t.relkind";

/// Reads the rows of a channel's table: [`RowsPart::Rows`], then [`RowsPart::Boundary`]. Of the rows, those that satisfy what
/// is asked, and perhaps others: one user's rows of a large table are found by an index, if there is one.
///
/// # Errors
/// [`ErrorKind::Database`] where the relay may not read the table, with the remedy.
pub(super) async fn read(
    database: &Database,
    spare: &Spare,
    channel: &Arc<str>,
    asked: &Predicate,
    mut answer: Spool,
) -> Result<()> {
    let explain = |e| Error::database(format_args!("cannot take a snapshot of channel {channel}"), e);
    let session = match spare.take() {
        Some(session) => session,
        None => database.session(Purpose::Replay).await?,
    };
    let incarnations = epoch::note(&session).await?;
    // as capture pins them. row_security = off: a policy that would hide rows is an error, not a smaller snapshot
    let settings = format!(
        "set client_encoding = 'UTF8'; set timezone = 'UTC'; set intervalstyle = 'postgres'; set bytea_output = 'hex'; set extra_float_digits = 1;
         set datestyle = 'ISO'; set row_security = off; set jit = off; set lock_timeout = '1s'; set client_connection_check_interval = '5s'; set statement_timeout = '{}s'",
        WITHIN.as_secs()
    );
    // names of columns go to the server and back, and have to be names for both: UTF-8
    session.batch_execute(&settings).await.map_err(explain)?;
    let (mut renamed, mut has_asked) = (0, false);
    let (boundary, statement) = loop {
        session.batch_execute("begin isolation level repeatable read read only").await.map_err(explain)?;
        let (seen, lsn) = position::now(&session).await?;
        let boundary = Boundary::new(Cursor {
            epoch: incarnations.epoch,
            incarnation: incarnations.present(),
            lsn,
            seen,
            inside: None,
        });
        let statement = session.query_opt(STATEMENT, &[&&**channel]).await.map_err(explain)?;
        // a channel without a table has no rows
        let Some(statement) = statement else { break (boundary, None) };
        if statement.get(1) {
            return Err(Error::new(
                ErrorKind::Database,
                format!("cannot take a snapshot of channel {channel}: its table has given its name to another one"),
            )
            .hint(session.naming().of("select drift, remedy from rowcast.watched where drift is not null")));
        }
        // a column that was added a moment ago, beside an excluded one
        if statement.get(4) && !std::mem::replace(&mut has_asked, true) {
            session.batch_execute("rollback").await.map_err(explain)?;
            let target: u32 = statement.get(2);
            session.query_one("select rowcast.grant_added($1::oid::regclass)", &[&target]).await.map_err(explain)?;
            continue;
        }
        let columns = match asked {
            Predicate::All(all) if all.is_empty() => Vec::new(),
            _ => predicate::column_types(&session, statement.get(2)).await.map_err(explain)?,
        };
        let wanted = predicate::render(asked, &columns, "t", 1);
        let text = format!("{} where {}", statement.get::<_, &str>(0), wanted.clause);
        match session.prepare_as_it_is(&text).await {
            // it has the table's lock from now on: nobody can rename what it names. Before, somebody may have
            Ok(prepared) => {
                let named =
                    session.query_one("select pg_catalog.to_regclass($1)::oid", &[&statement.get::<_, &str>(3)]).await;
                if named.map_err(explain)?.get::<_, Option<u32>>(0) == Some(statement.get(2)) {
                    break (boundary, Some((prepared, wanted)));
                }
                if renamed >= RENAMED {
                    return Err(Error::new(
                        ErrorKind::Database,
                        format!(
                            "cannot take a snapshot of channel {channel}: its table gets other names again and again"
                        ),
                    ));
                }
                renamed += 1;
                session.batch_execute("rollback").await.map_err(explain)?;
            }
            Err(error) if renamed < RENAMED && error.code().is_some_and(names_are_gone) => {
                renamed += 1;
                session.batch_execute("rollback").await.map_err(explain)?;
            }
            Err(error) => return Err(explain(error)),
        }
    };
    if let Some((statement, wanted)) = statement {
        let raw = format!("set local client_encoding = '{}'", database.encoding_of_reading_sessions());
        session.batch_execute(&raw).await.map_err(explain)?;
        let encoding = database.encoding();
        let values = wanted.encoded(encoding);
        let values: Vec<Vec<Bytes<'_>>> =
            values.iter().map(|values| values.iter().map(|v| Bytes(v)).collect()).collect();
        let parameters: Vec<Parameter<'_>> = values.iter().map(|values| values as Parameter<'_>).collect();
        let rows = session.query_raw(&statement, parameters).await.map_err(|e| {
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
                    return Ok(());
                }
                continue;
            }
            bytes += row.len();
            part.push(row);
            if bytes >= PART_BYTES {
                bytes = 0;
                if answer.give(RowsPart::Rows(std::mem::take(&mut part))).await.is_err() {
                    return Ok(());
                }
            }
        }
        if is_spoilt {
            tracing::warn!(event = "text_spoilt", %channel, "bytes that are no text of the database's encoding were replaced");
        }
        if !part.is_empty() && answer.give(RowsPart::Rows(part)).await.is_err() {
            return Ok(());
        }
        if !keys.is_empty() && answer.give(RowsPart::Keys(keys)).await.is_err() {
            return Ok(());
        }
    }
    let _ = answer.give(RowsPart::Boundary(boundary)).await;
    if session.batch_execute("rollback").await.is_ok() {
        spare.put(session);
    }
    Ok(())
}
