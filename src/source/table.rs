//! A channel's table at one moment: a transaction that sees it, its place in the stream, and how its rows are read. Owns the
//! beginning of that transaction; which rows are read is `snapshot`'s and `page`'s.
//!
//! The transaction is REPEATABLE READ. Its snapshot is a cursor like any other: the stream goes on from exactly there. Rows
//! have the form that capture gives them: the same settings, and only the columns that leave.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::{try_join, try_join3};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::client::{Parameter, Pool};
use super::epoch;
use super::keyset::{Index, IndexColumn, TableColumn};
use super::pool::{Database, DatabaseSession, Purpose};
use super::position;
use super::predicate::{self, ColumnType};
use crate::change::ValueKind;
use crate::cursor::{Boundary, Cursor};
use crate::error::{Error, Kind, Result};
use crate::incarnations::Incarnations;
use crate::request::Predicate;
use crate::sync::lock;

/// So often a table or a column may get another name between the look at its names and their use.
pub(super) const RENAMED: u32 = 3;

/// Sessions that have read rows and may read others: to open one takes as long as to read a small table, and a
/// page may ask for two thousand lists. Those that nobody has used for a while are closed.
#[derive(Debug, Default)]
pub(super) struct SpareSessions(Mutex<Vec<(Ready, Instant)>>);

/// A statement that was cancelled has ended by then, unless it is somebody's function that does not look.
const CANCELLED: Duration = Duration::from_secs(5);

/// For so long.
const SPARED: Duration = Duration::from_secs(5);

/// While all rows of a table are read, so often for sessions that wait for it: many give up soon, and try again.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether a session waits for a lock on a table that the process `$1` has locked to read it.
const WAITED_FOR: &str = "
select exists (
  select from pg_catalog.pg_locks h
    join pg_catalog.pg_locks w
      on w.locktype = 'relation' and w.database = h.database and w.relation = h.relation and not w.granted
   where h.pid = $1 and h.locktype = 'relation' and h.granted and w.mode = 'AccessExclusiveLock')";

impl SpareSessions {
    fn take(&self) -> Option<Ready> {
        let mut sessions = self.lock();
        sessions.retain(|(ready, _)| !ready.session.is_closed());
        sessions.pop().map(|(ready, _)| ready)
    }

    fn put(&self, ready: Ready) {
        self.lock().push((ready, Instant::now()));
    }

    /// Closes those that nobody used.
    pub(super) fn sweep(&self) {
        self.lock().retain(|(_, since)| since.elapsed() < SPARED);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Ready, Instant)>> {
        lock(&self.0)
    }
}

/// A session that reads rows, and what is asked in it each time: a page is read in a few milliseconds, of which what is asked
/// anew would be the half.
#[derive(Debug)]
pub(super) struct Ready {
    session: DatabaseSession,
    /// its process
    pid: i32,
    /// a restart of the server ends the session
    incarnations: Incarnations,
    now: Statement,
    table: Statement,
    named: Statement,
    types: Statement,
    indexes: Statement,
    size: Statement,
}

/// A transaction that sees the database at one moment, and a channel's table in it.
pub(super) struct Moment {
    ready: Ready,
    pub(super) boundary: Boundary,
    /// `None`: the channel has no table
    pub(super) table: Option<Table>,
}

/// A channel's table. It is locked: nobody changes its names, or those of its columns.
#[derive(Debug)]
pub(super) struct Table {
    oid: u32,
    /// as SQL names it
    pub(super) name: String,
    /// what is selected of a row: its JSON, and where that is long, the JSON of its key and of the columns that were asked for
    pub(super) row: String,
    /// behind `from`, without an alias and what a row needs
    pub(super) bare: String,
    /// behind `from`
    pub(super) from: String,
    /// those that may leave
    pub(super) columns: Vec<TableColumn>,
    /// the columns of the primary key, in its order; empty where one of them may not leave
    pub(super) key: Vec<Box<str>>,
}

/// Whether the table of a channel, which is gone, has given its name to another one.
const DISPLACED: &str = "
select exists (select from rowcast.channel c join rowcast.displaced d on d.channel = c.id where c.name = $1)";

/// The statement that tells how a channel's rows are read: those columns that may leave, in the table's order, by name, so that no
/// other is even read. Rows of tables that inherit from this one are not captured, so they are not shown either. r.* is the
/// whole row, also where a column is named r. What a row is stored in is looked at first: a large one is measured, and its
/// key stands for it where it is longer than `row_bytes`.
const TABLE: &str = "
select format('case when s.size <= %1$s then pg_catalog.row_to_json(r.*)::text
                    when s.size <= rowcast.row_bytes() then rowcast.json_within(r.*, null, null, ''{}'', ''{}'', null)::text end,
               case when s.size > %1$s then %2$s end',
              -- where its text may raise, every row counts as large
              case when rowcast.casts_to_json(t.oid) then -1 else 2000 end,
              coalesce('(select pg_catalog.row_to_json(k.*)::text from (select ' ||
                string_agg(format('t.%I', s.name), ', ' order by s.attnum)
                  filter (where s.attnum = any (k.attnums) or s.name = any ($2::text[])) || ') k)', 'null')),
       format('%s %s', case when t.relkind = 'p' then '' else 'only' end, t.oid::regclass),
       format('cross join lateral (select %s) r cross join lateral (select %s) s(size)',
              string_agg(format('t.%I', s.name), ', ' order by s.attnum),
              string_agg(format('coalesce(pg_catalog.pg_column_size(t.%I), 0)', s.name), ' + ')),
       exists (select from rowcast.displaced d where d.channel = c.id), t.oid, t.oid::regclass::text,
       not bool_and(pg_catalog.has_column_privilege(t.oid, s.attnum, 'select')),
       array_agg(s.name order by s.attnum),
       array_agg(case when b.typtype = 'e' then 'enum'
                      when b.typtype = 'c' or b.typcategory = 'A' then 'structured'
                      else pg_catalog.format_type(b.oid, null) end order by s.attnum),
       array_agg(pg_catalog.format_type(b.oid, null) order by s.attnum),
       -- one that was added as NOT VALID says nothing of the rows of before
       array_agg(a.attnotnull and not exists (
         select from pg_catalog.pg_constraint n where n.conrelid = t.oid and n.contype = 'n' and not n.convalidated
            and n.conkey = array[s.attnum]) order by s.attnum),
       case when k.attnums <@ array_agg(s.attnum) then
         (select array_agg(n.attname::text order by pg_catalog.array_position(k.attnums, n.attnum))
            from pg_catalog.pg_attribute n where n.attrelid = t.oid and n.attnum = any (k.attnums)) end
  from rowcast.channel c
  join pg_catalog.pg_class t on t.oid = c.target
  join rowcast.shown_column s on s.channel = c.id
  join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum = s.attnum
  join pg_catalog.pg_type y on y.oid = s.type
  join pg_catalog.pg_type b on b.oid = coalesce(nullif(y.typbasetype, 0), y.oid)
  left join lateral (select (i.indkey::int2[])[0:i.indnkeyatts - 1] as attnums from pg_catalog.pg_index i
                      where i.indrelid = t.oid and i.indisprimary) k on true
 where c.name = $1 and c.target = c.target_oid and c.origin = (select rowcast.origin())
 group by c.id, t.oid, t.relkind, k.attnums";

/// The B-trees of a table, of which partial ones are none; of text, which collation orders it by its bytes. Postgres 14 knows one
/// provider of locales.
const INDEXES: &str = "
select array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k(attnum, n)
               left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where k.n <= i.indnkeyatts order by k.n),
       array(select o.bits::int4 from unnest(i.indoption::int2[]) with ordinality o(bits, n) where o.n <= i.indnkeyatts order by o.n),
       array(select case when l.collname in ('C', 'POSIX', 'ucs_basic', 'pg_c_utf8') and l.collnamespace = 'pg_catalog'::regnamespace
                           or l.oid = 100 and (d.its->>'datlocprovider' is null or d.its->>'datlocprovider' = 'c')
                              and d.its->>'datcollate' in ('C', 'POSIX')
                           or l.oid = 100 and d.its->>'datlocprovider' = 'b'
                         then 'pg_catalog.' || pg_catalog.quote_ident(l.collname) end
               from unnest(i.indcollation::oid[]) with ordinality c(oid, n) left join pg_catalog.pg_collation l on l.oid = c.oid
              where c.n <= i.indnkeyatts order by c.n),
       array(select c.oid = coalesce(a.attcollation, 0) from unnest(i.indcollation::oid[]) with ordinality c(oid, n)
               left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = (i.indkey::int2[])[c.n - 1]
              where c.n <= i.indnkeyatts order by c.n)
  from pg_catalog.pg_index i
  join pg_catalog.pg_class x on x.oid = i.indexrelid
  join pg_catalog.pg_am m on m.oid = x.relam and m.amname = 'btree'
 cross join (select pg_catalog.to_jsonb(d) from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()) d(its)
 where i.indrelid = $1::oid and i.indisvalid and i.indisready and i.indpred is null
   and not exists (select from unnest(i.indclass::oid[]) o(class) join pg_catalog.pg_opclass p on p.oid = o.class where not p.opcdefault)";

/// Whether the name of a table is its name now, and whether its rows lie where the transaction sees them. They lie elsewhere where a
/// TRUNCATE, or DDL that wrote the table anew, was committed before the table was locked: the transaction would see no rows.
const NAMED: &str = "
with recursive part(relid) as (
  select $2::oid union select h.inhrelid from part join pg_catalog.pg_class t on t.oid = part.relid and t.relkind = 'p'
                         join pg_catalog.pg_inherits h on h.inhparent = part.relid)
select pg_catalog.to_regclass($1)::oid is not distinct from $2::oid,
       exists (select from part join pg_catalog.pg_class t on t.oid = part.relid and t.relfilenode <> 0
                where t.relfilenode <> pg_catalog.pg_relation_filenode(t.oid))";

/// How many rows a table has, about, as the planner reckons; and whether the operator lets clients order any table by anything.
const SIZE: &str = "
with recursive part(relid) as (
  select $1::oid union select h.inhrelid from part join pg_catalog.pg_class t on t.oid = part.relid and t.relkind = 'p'
                         join pg_catalog.pg_inherits h on h.inhparent = part.relid)
select coalesce(sum(case when t.relpages > 0 and t.reltuples >= 0 then t.reltuples / t.relpages else 50 end
                    * pg_catalog.pg_relation_size(t.oid) / pg_catalog.current_setting('block_size')::int), 0)::float8,
       exists (select from rowcast.setting where name = 'order' and value = 'any')
  from part join pg_catalog.pg_class t on t.oid = part.relid and t.relkind <> 'p'";

fn names_are_gone(code: &SqlState) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::INVALID_SCHEMA_NAME].contains(code)
}

/// Whether a column has another type than the transaction sees: that was changed before the table was locked, and a value is not
/// compared with what it was to be compared with. The next transaction sees it.
pub(super) fn is_retyped(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::UNDEFINED_FUNCTION, SqlState::CANNOT_COERCE];
    error.code().is_some_and(|code| codes.contains(code))
}

impl Moment {
    /// Begins a transaction, and looks at the table of a channel; each statement in it may take as long as `within`. Of rows that
    /// are too large, `columns` are told besides the key.
    ///
    /// # Errors
    /// [`Kind::Database`] where the relay may not read the table, with the remedy.
    pub(super) async fn begin(
        database: &Database,
        spare: &SpareSessions,
        (channel, epoch): (&str, Option<u64>),
        columns: &[&str],
        within: Duration,
    ) -> Result<Self> {
        let explain = |e| Error::database(format_args!("cannot read the rows of channel {channel}"), e);
        let ready = loop {
            match spare.take() {
                // of a database that was followed before: it ends
                Some(ready) if epoch.is_some_and(|epoch| epoch != ready.incarnations.epoch) => {}
                Some(ready) => break ready,
                None => break Ready::open(database, epoch).await?,
            }
        };
        let session = &ready.session;
        let begin = format!(
            "begin isolation level repeatable read read only; set local statement_timeout = '{}s'",
            within.as_secs()
        );
        let (mut renamed, mut has_asked) = (0, false);
        loop {
            // one after the other on the same line, without a pause between them
            let (_, now, found) = try_join3(
                session.batch_execute(&begin),
                session.query_prepared(&ready.now, &[]),
                session.query_prepared(&ready.table, &[&channel, &columns]),
            )
            .await
            .map_err(explain)?;
            let now = now.first().ok_or_else(|| Error::new(Kind::Database, "the server tells no snapshot"))?;
            let (seen, lsn) = position::now_of(now)?;
            let boundary = Boundary::new(Cursor {
                epoch: ready.incarnations.epoch,
                incarnation: ready.incarnations.present(),
                lsn,
                seen,
                inside: None,
            });
            let is_displaced = match found.first() {
                Some(found) => found.get(3),
                None => session.query_one(DISPLACED, &[&channel]).await.map_err(explain)?.get(0),
            };
            if is_displaced {
                let text =
                    format!("cannot read the rows of channel {channel}: its table has given its name to another one");
                return Err(Error::new(Kind::Database, text)
                    .hint(session.naming().of("select drift, remedy from rowcast.watched where drift is not null")));
            }
            // a channel without a table has no rows
            let Some(found) = found.first() else { return Ok(Self { ready, boundary, table: None }) };
            let oid: u32 = found.get(4);
            // a column that was added a moment ago, beside an excluded one
            if found.get(6) && !std::mem::replace(&mut has_asked, true) {
                session.batch_execute("rollback").await.map_err(explain)?;
                session.query_one("select rowcast.grant_added($1::oid::regclass)", &[&oid]).await.map_err(explain)?;
                continue;
            }
            let (row, bare, name): (String, String, String) = (found.get(0), found.get(1), found.get(5));
            let from = format!("{bare} t {}", found.get::<_, &str>(2));
            // it has the table's lock from now on: nobody can rename what it names. Before, somebody may have
            let text = format!("select {row} from {from}");
            let names: [Parameter<'_>; 2] = [&name, &oid];
            let locked = try_join(session.prepare_as_it_is(&text), session.query_prepared(&ready.named, &names));
            let is_named = match locked.await {
                // a table that is emptied again and again is taken as it is
                Ok((_, named)) => {
                    named.first().is_some_and(|row| row.get(0) && (!row.get::<_, bool>(1) || renamed >= RENAMED))
                }
                Err(error) if error.code().is_some_and(names_are_gone) => false,
                Err(error) => {
                    // row security would hide rows: Postgres names the routine that found it
                    if error.as_db_error().and_then(|error| error.routine()) == Some("check_enable_rls") {
                        let remedy = "select drift, remedy from rowcast.watched where drift is not null";
                        return Err(explain(error).hint(session.naming().of(remedy)));
                    }
                    let remedy = "let the relay read the table: call rowcast.watch again, with all its arguments";
                    return Err(explain(error).hint(session.naming().of(remedy)));
                }
            };
            if is_named {
                let names: Vec<String> = found.get(7);
                let (kinds, types): (Vec<String>, Vec<String>) = (found.get(8), found.get(9));
                let not_null: Vec<bool> = found.get(10);
                let columns = names.into_iter().zip(kinds).zip(types).zip(not_null);
                let columns = columns.map(|(((name, kind), type_name), is_not_null)| TableColumn {
                    name: name.into(),
                    kind: ValueKind::of_type(&kind),
                    type_name: type_name.into(),
                    is_not_null,
                });
                let key = found.get::<_, Option<Vec<String>>>(11).unwrap_or_default();
                let key = key.into_iter().map(Into::into).collect();
                let table = Table { oid, name, row, bare, from, columns: columns.collect(), key };
                return Ok(Self { ready, boundary, table: Some(table) });
            }
            if renamed >= RENAMED {
                let text =
                    format!("cannot read the rows of channel {channel}: its table gets other names again and again");
                return Err(Error::new(Kind::Database, text));
            }
            renamed += 1;
            session.batch_execute("rollback").await.map_err(explain)?;
        }
    }

    /// The session.
    pub(super) fn session(&self) -> &DatabaseSession {
        &self.ready.session
    }

    /// What is read in it, or `None` where nobody waits for that any more. Then the statement has ended: an asker that
    /// asks and hangs up, again and again, keeps one backend busy and not one more each time.
    pub(super) async fn read_unless<T>(
        &self,
        database: &Database,
        gone: impl Future<Output = ()>,
        read: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            () = gone => {}
            read = read => return Some(read),
        }
        database.cancel(self.session()).await;
        // behind the statement, on the same line. The session is not used again: the request to cancel may come late
        let _ = tokio::time::timeout(CANCELLED, self.session().batch_execute("rollback")).await;
        None
    }

    /// Ready once a session waits for the lock that this transaction has on the table. That is DDL or TRUNCATE, and every
    /// other session that wants the table waits behind it.
    pub(super) async fn waited_for(&self, pool: &Pool, channel: &str) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(client) = pool.client_for("no connection to look who waits for a table").await else { continue };
            if client.query_one(WAITED_FOR, &[&self.ready.pid]).await.is_ok_and(|row| row.get(0)) {
                tracing::info!(event = "snapshot_gave_way", %channel, "another session waits for the table");
                return;
            }
        }
    }

    /// Ends it; another one may have the session.
    pub(super) async fn end(self, spare: &SpareSessions) {
        if self.ready.session.batch_execute("rollback").await.is_ok() {
            spare.put(self.ready);
        }
    }

    /// The types of the table's columns, where a predicate asks for any.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn types(&self, table: &Table, asked: &Predicate) -> Result<Vec<ColumnType>> {
        if matches!(asked, Predicate::All(all) if all.is_empty()) {
            return Ok(Vec::new());
        }
        let rows = self.session().query_prepared(&self.ready.types, &[&table.oid]).await;
        let rows = rows.map_err(|e| Error::database("cannot look at the types of columns", e))?;
        Ok(predicate::column_types(&rows))
    }

    /// The table's indexes.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn indexes(&self, table: &Table) -> Result<Vec<Index>> {
        let rows = self.session().query_prepared(&self.ready.indexes, &[&table.oid]).await;
        let rows = rows.map_err(|e| Error::database("cannot look for an index", e))?;
        let indexes = rows.iter().map(|row| {
            let names: Vec<Option<String>> = row.get(0);
            let options: Vec<i32> = row.get(1);
            let collations: Vec<Option<String>> = row.get(2);
            let as_columns: Vec<bool> = row.get(3);
            let columns = names.into_iter().zip(options).zip(collations).zip(as_columns);
            let columns = columns.map(|(((name, bits), byte_collation), is_as_column)| IndexColumn {
                name: name.map(Into::into),
                is_descending: bits & 1 != 0,
                nulls_first: bits & 2 != 0,
                byte_collation: byte_collation.map(Into::into),
                is_as_column,
            });
            Index { columns: columns.collect() }
        });
        Ok(indexes.collect())
    }

    /// How many rows the table has, about, and whether any order is allowed, whatever that costs.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn size(&self, table: &Table) -> Result<(f64, bool)> {
        let explain = |e| Error::database("cannot tell how large a table is", e);
        let rows = self.session().query_prepared(&self.ready.size, &[&table.oid]).await.map_err(explain)?;
        Ok(rows.first().map_or((0.0, false), |row| (row.get(0), row.get(1))))
    }
}

impl Ready {
    async fn open(database: &Database, followed: Option<u64>) -> Result<Self> {
        let explain = |e| Error::database("cannot make a session ready to read rows", e);
        let session = database.session(Purpose::Replay).await?;
        if let Some(followed) = followed {
            epoch::check(&session, followed, "cannot make a session ready to read rows").await?;
        }
        let incarnations = epoch::note(&session).await?;
        // as capture pins them. row_security = off: a policy that would hide rows is an error, not fewer rows. Names of columns go
        // to the server and back, and have to be names for both: UTF-8
        let settings = "set client_encoding = 'UTF8'; set timezone = 'UTC'; set intervalstyle = 'postgres'; set bytea_output = 'hex';
             set extra_float_digits = 1; set datestyle = 'ISO'; set row_security = off; set jit = off; set lock_timeout = '1s';
             set client_connection_check_interval = '5s'";
        session.batch_execute(settings).await.map_err(explain)?;
        let texts = [NAMED, predicate::COLUMNS, position::NOW, TABLE, INDEXES, SIZE];
        let [named, types, now, table, indexes, size] = texts.map(|text| session.prepare(text));
        let (named, types, now) = try_join3(named, types, now).await.map_err(explain)?;
        let (table, indexes, size) = try_join3(table, indexes, size).await.map_err(explain)?;
        let pid = session.query_one("select pg_catalog.pg_backend_pid()", &[]).await.map_err(explain)?.get(0);
        Ok(Self { session, pid, incarnations, now, table, named, types, indexes, size })
    }
}
