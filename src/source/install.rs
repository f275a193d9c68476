//! Puts an installation into a database, schema `rowcast` mostly, and keeps it current. Owns migrations, function text and their order; knows
//! nothing of what they capture.
//!
//! Tables are versioned migrations, run once, checked by checksum; functions, views and grants are replaced at each
//! migrate. All of it is one transaction, with the lock of the history's table, for which one needs a right: an advisory
//! lock might be held by anybody. refinery knows the migrations and their checksums; it would run them in a transaction of
//! its own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::client::{Client, Transaction};
use super::pool::Purpose;
use super::session::settings;
use crate::error::{Error, Kind, Result};
use crate::naming::Naming;
use tokio_postgres::error::SqlState;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Where refinery keeps what it ran.
const HISTORY: &str = "rowcast.schema_history";

macro_rules! sql_files {
    ($folder:literal: $($name:literal)+) => {
        &[$(($name, include_str!(concat!("../../sql/", $folder, "/", $name, ".sql")))),+]
    };
}

/// In an order in which each finds what it needs.
const FUNCTIONS: &[(&str, &str)] = sql_files!("functions":
    "serves" "supersede" "bell_mode" "row_bytes" "bound_outbox" "append" "ring" "actor" "json_without" "json_within" "json_key" "json_differing" "output_deviates" "types_within" "casts_to_json" "is_plain" "capture_pinned" "capture_large" "capture"
    "capture_truncate" "capture_by" "write_to" "note_left_out" "note_tally" "holders" "prune" "pause" "resume" "present_life" "note_life" "cursor" "note_durable" "note_node" "take_publishing" "origin" "keep_excluded" "notify" "publish"
    "create_channel" "drop_channel" "configure" "lock_for_triggers" "singular" "refuse_unwatchable" "watch_call" "free_channel" "forget_role" "give_rule" "install_user_query" "remove_triggers" "grant_snapshot" "grant_added" "revoke_snapshot"
    "tell_policy" "filter_tests" "claim_holder" "claim_reads" "claim_body" "members" "check_filter" "floor_now" "raise_floor" "bind_policies" "note_exposure" "drifted_names" "note_forms" "adopt" "allow" "deny" "revoke" "note_watch" "install_triggers" "keep_briefly" "watch" "unwatch" "follow" "unfollow" "claim" "drop_claim" "who_sees" "row_security" "unwatch_all" "refuse_beside_relays" "unwatched_of" "state_schema" "watch_with_prefix" "watch_newcomer" "note_tables" "watch_schema" "watch_each" "dump" "uninstall");
const VIEWS: &[(&str, &str)] = sql_files!("views": "neighbour" "shown_column" "displaced" "form" "newcomer" "watched" "unwatched" "recent" "exposure" "claims" "cost" "nodes" "health");
/// The roles and their rights, all in one place.
const GRANTS: &str = include_str!("../../sql/grants.sql");

/// Refuses a schema that is somebody else's.
const GUARD: &str = include_str!("../../sql/guard.sql");
const OWNERS: &str = include_str!("../../sql/owners.sql");
const HISTORY_TABLE: &str = "create table if not exists rowcast.schema_history \
    (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))";
/// A migrate waits so long for another one to end.
const TURN_WITHIN: Duration = Duration::from_secs(60);
/// What of the server says that a role is not there, or not any more. Messages may be in any language.
const OF_A_ROLE: [&str; 4] = ["get_role_oid", "get_rolespec_oid", "get_rolespec_tuple", "shdepLockAndCheckObject"];
/// What is there already, for sql/grants.sql.
const BEFORE: &str = "select set_config('rowcast.before', coalesce(array_agg(o.oid), '{}')::text, true) from (
    select oid from pg_namespace where nspname = 'rowcast'
    union all select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'rowcast'
    union all select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'rowcast') o";
/// Views are made anew; what the DBA has granted on them stays.
const VIEW_GRANTS: &str =
    "select format('grant %s on rowcast.%I to %I', a.privilege_type, c.relname, pg_get_userbyid(a.grantee))
    from pg_class c, aclexplode(c.relacl) a
   where c.relnamespace = 'rowcast'::regnamespace and c.relkind = 'v' and a.grantee not in (0, c.relowner)
     and pg_get_userbyid(a.grantee) not in ('rowcast_capture', 'rowcast_relay')
     and c.relname = any ($1::text[])";
/// pg_dump locks every table and reads it, and every sequence.
const LOCKED_OUT: &str = "
select pg_get_userbyid(d.datdba)::text, format('grant usage on schema rowcast to %1$I; grant select on all tables in schema rowcast to %1$I; grant select on all sequences in schema rowcast to %1$I;', pg_get_userbyid(d.datdba))
  from pg_database d
 where d.datname = current_database()
   and (not has_schema_privilege(d.datdba, 'rowcast', 'usage') or exists (
     select from pg_class c where c.relnamespace = 'rowcast'::regnamespace
        and case c.relkind when 'r' then not has_table_privilege(d.datdba, c.oid, 'select')
                           when 'S' then not has_sequence_privilege(d.datdba, c.oid, 'select') else false end))";
const HOLDERS: &str = "select coalesce(string_agg(format('pid %s (%s, %s)', h.pid, h.usename, coalesce(nullif(h.application_name, ''), 'no application name')), ', '), 'nobody any more')
    from (select distinct a.pid, a.usename, a.application_name
            from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace join pg_stat_activity a on a.pid = l.pid
           where l.locktype = 'relation' and l.granted and n.nspname = 'rowcast' and l.pid <> pg_backend_pid()
             and l.database = (select oid from pg_database where datname = current_database())
           order by a.pid limit 5) h";
/// The event trigger whose function stands in an error's context, and what helps. Our sessions have a search path of their
/// own, and a function without one has ours.
const EVENT_TRIGGER: &str = "
select e.evtname::text,
       case when exists (select from unnest(p.proconfig) c where c like 'search_path=%')
            then format('alter event trigger %1$I disable; -- then migrate, and: alter event trigger %1$I enable%2$s;', e.evtname,
                        case e.evtenabled when 'A' then ' always' when 'R' then ' replica' else '' end)
            else format('alter function %s set search_path = %s; -- then migrate again', p.oid::regprocedure, s.reset_val) end
  from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid, pg_settings s
 where s.name = 'search_path' and e.evtenabled <> 'D' and position(p.proname || '()' in $1) > 0
 order by position(p.proname || '()' in $1) limit 1";
/// Names in the script resolve in Postgres' own schema, and text means what it says; the session that ran it goes on as
/// before.
const SCRIPT_BEGINS: &str = "do $do$ begin
  perform pg_catalog.set_config('rowcast.callers_path', pg_catalog.current_setting('search_path'), false);
  perform pg_catalog.set_config('rowcast.callers_strings', pg_catalog.current_setting('standard_conforming_strings'), false);
  perform pg_catalog.set_config('rowcast.callers_nulls', pg_catalog.current_setting('transform_null_equals'), false);
  perform pg_catalog.set_config('rowcast.callers_quotes', pg_catalog.current_setting('quote_all_identifiers'), false);
end $do$;
set search_path = pg_catalog, pg_temp;
set standard_conforming_strings = on;
set transform_null_equals = off;
set quote_all_identifiers = off;";
const SCRIPT_ENDS: &str = "do $do$ begin
  perform pg_catalog.set_config('transform_null_equals', pg_catalog.current_setting('rowcast.callers_nulls'), false);
  perform pg_catalog.set_config('quote_all_identifiers', pg_catalog.current_setting('rowcast.callers_quotes'), false);
  perform pg_catalog.set_config('standard_conforming_strings', pg_catalog.current_setting('rowcast.callers_strings'), false);
  perform pg_catalog.set_config('search_path', pg_catalog.current_setting('rowcast.callers_path'), false);
end $do$;";

/// What a migrate did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// versions that were applied now
    pub applied: Vec<i64>,
    /// the schema's version
    pub version: i64,
    /// it is one of a later program; nothing was changed
    pub is_newer: bool,
}

/// Brings the schema to this program's version: all of it or nothing. Many at once are safe. A newer schema that serves this
/// program stays as it is. The client's session has the
/// settings of rowcast's own sessions afterwards.
///
/// # Errors
/// [`Kind::Schema`] where the schema is newer than this program, [`Kind::Database`] for whatever the server refuses.
pub async fn migrate(client: &mut Client) -> Result<Migrated> {
    let settings = format!("{}; set client_min_messages = warning", settings(Purpose::Command));
    client.batch_execute(&settings).await.map_err(|e| Error::database("cannot migrate", e))?;
    if let Some(version) = newer_that_serves(client).await? {
        // an older version is started again, as after an upgrade that went wrong
        return Ok(Migrated { applied: Vec::new(), version, is_newer: true });
    }
    let deadline = Instant::now() + TURN_WITHIN;
    loop {
        match attempt(client).await {
            Ok(migrated) => return Ok(migrated),
            // the schema was made by another one meanwhile, or the roles were dropped
            Err(AttemptFailed::Beaten(_)) if Instant::now() < deadline => {}
            Err(AttemptFailed::Locked(doing, error)) => return Err(locked(client, &doing, error).await),
            Err(AttemptFailed::Inside(doing, error)) => return Err(blamed(client, &doing, error).await),
            Err(AttemptFailed::Beaten(error) | AttemptFailed::Refused(error)) => return Err(error),
        }
    }
}

/// Why an attempt has failed.
enum AttemptFailed {
    Beaten(Error),
    Locked(String, tokio_postgres::Error),
    /// in a function that a statement of ours has called, perhaps without knowing
    Inside(String, tokio_postgres::Error),
    Refused(Error),
}

impl AttemptFailed {
    fn of(doing: impl std::fmt::Display, error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            return Self::Locked(doing.to_string(), error);
        }
        // roles are the cluster's: another database has uninstalled its own installation, the last one but for this
        if error.code() == Some(&SqlState::UNDEFINED_OBJECT)
            && error.as_db_error().and_then(|e| e.routine()).is_some_and(|routine| OF_A_ROLE.contains(&routine))
        {
            return Self::Beaten(Error::database(doing, error));
        }
        if error.as_db_error().is_some_and(|e| e.hint().is_none() && e.where_().is_some()) {
            return Self::Inside(doing.to_string(), error);
        }
        Self::Refused(Error::database(doing, error))
    }

    /// Of the making of the schema, which another one may have made meanwhile.
    fn of_making(naming: &Naming, error: tokio_postgres::Error) -> Self {
        let doing = naming.of("cannot make schema rowcast");
        let made = [SqlState::DUPLICATE_SCHEMA, SqlState::DUPLICATE_TABLE, SqlState::UNIQUE_VIOLATION];
        if error.code().is_some_and(|code| made.contains(code)) {
            return Self::Beaten(Error::database(doing, error));
        }
        Self::of(doing, error)
    }
}

async fn attempt(client: &mut Client) -> Result<Migrated, AttemptFailed> {
    let explain = |e| AttemptFailed::of("cannot migrate", e);
    let naming = client.naming().clone();
    let transaction = client.transaction_read_committed().await.map_err(explain)?;
    transaction.batch_execute(GUARD).await.map_err(explain)?;
    transaction.batch_execute(&format!("set local rowcast.before = ''; {BEFORE}")).await.map_err(explain)?;
    // one after the other: a session that waits for the schema to be made finds that it was made, and tries again
    let turn = format!(
        "set local lock_timeout = '{}s'; create schema if not exists rowcast; {HISTORY_TABLE}; \
         lock table {HISTORY} in share row exclusive mode; set local lock_timeout = '5s'",
        TURN_WITHIN.as_secs()
    );
    transaction.batch_execute(&turn).await.map_err(|e| AttemptFailed::of_making(&naming, e))?;
    let applied = history(&transaction, &naming).await?;
    for migration in runner().get_migrations().iter().filter(|m| !applied.contains(&i64::from(m.version()))) {
        let sql = migration.sql().unwrap_or_default();
        let explain = |e| AttemptFailed::of(format_args!("cannot apply migrations/{migration}"), e);
        transaction.batch_execute(&format!("{sql}\n;{}", entry(migration))).await.map_err(explain)?;
    }
    let views: Vec<&str> = VIEWS.iter().map(|(name, _)| *name).collect();
    let grants = transaction.query(VIEW_GRANTS, &[&views]).await.map_err(explain)?;
    for (name, text) in FUNCTIONS {
        let explain = |e| AttemptFailed::of(format_args!("cannot install sql/functions/{name}.sql"), e);
        transaction.batch_execute(text).await.map_err(explain)?;
    }
    install_views(&transaction).await?;
    let explain = |e| AttemptFailed::of("cannot grant the rights of sql/grants.sql", e);
    transaction.batch_execute(GRANTS).await.map_err(explain)?;
    for grant in grants {
        transaction.batch_execute_as_it_is(grant.get(0)).await.map_err(explain)?;
    }
    let explain = |e| AttemptFailed::of("cannot keep what was made", e);
    transaction.batch_execute(OWNERS).await.map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    let new =
        runner().get_migrations().iter().map(|m| i64::from(m.version())).filter(|v| !applied.contains(v)).collect();
    Ok(Migrated { applied: new, version: version(), is_newer: false })
}

/// A view whose columns are the same is replaced where it stands, with what others have built on it. Where one has other
/// columns, all are made anew.
async fn install_views(transaction: &Transaction<'_>) -> Result<(), AttemptFailed> {
    let explain = |e| AttemptFailed::of("cannot make the views anew", e);
    transaction.batch_execute("savepoint views").await.map_err(explain)?;
    let mut are_same = true;
    // those that are built on others first: a reader takes its locks in this order
    for (_, text) in VIEWS.iter().rev() {
        match transaction.batch_execute(&text.replacen("create view", "create or replace view", 1)).await {
            Ok(()) => {}
            // a reader has them
            Err(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Err(explain(e)),
            Err(_) => {
                are_same = false;
                break;
            }
        }
    }
    if are_same {
        return transaction.batch_execute("release views").await.map_err(explain);
    }
    transaction.batch_execute("rollback to views").await.map_err(explain)?;
    for (name, _) in VIEWS.iter().rev() {
        let dropped = transaction.batch_execute(&format!("drop view if exists rowcast.{name}")).await;
        dropped.map_err(|e| match e.code() {
            Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => AttemptFailed::Refused(
                Error::database(format_args!("cannot make view {name} anew"), e)
                    .hint("views of yours are built on it, and it has other columns now: drop them, migrate, and make them again"),
            ),
            _ => explain(e),
        })?;
    }
    for (name, text) in VIEWS {
        let explain = |e| AttemptFailed::of(format_args!("cannot install sql/views/{name}.sql"), e);
        transaction.batch_execute(text).await.map_err(explain)?;
    }
    Ok(())
}

/// The versions that were applied before.
async fn history(transaction: &Transaction<'_>, naming: &Naming) -> Result<Vec<i64>, AttemptFailed> {
    let explain = |e| AttemptFailed::of("cannot read what was migrated before", e);
    let rows = transaction
        .query(&format!("select version::int8, name, checksum from {HISTORY} order by version"), &[])
        .await
        .map_err(explain)?;
    let runner = runner();
    let known = runner.get_migrations();
    for row in &rows {
        let (found, name, checksum): (i64, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let refused = match known.iter().find(|m| i64::from(m.version()) == found) {
            None => {
                Error::new(Kind::Schema, naming.of("schema rowcast is newer than this rowcast")).hint("update rowcast")
            }
            Some(m) if m.name() == name && m.checksum().to_string() == checksum => continue,
            Some(_) => {
                let text = format!(
                    "schema {} was made by another build: its migration {found} ({name}) has other contents",
                    naming.schema()
                );
                Error::new(Kind::Schema, text)
                    .hint(naming.of("use the program that made it, or drop schema rowcast cascade and begin anew"))
            }
        };
        return Err(AttemptFailed::Refused(refused));
    }
    let is_dump: bool = transaction
        .query_one("select to_regclass('rowcast.installation') is not null", &[])
        .await
        .map_err(explain)?
        .get(0);
    if rows.is_empty() && is_dump {
        let text = naming.of("schema rowcast has tables and no history: it comes from a dump without data");
        let remedy = naming.of("drop schema rowcast cascade, and run again: rowcast migrate");
        return Err(AttemptFailed::Refused(Error::new(Kind::Schema, text).hint(remedy)));
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Says which sessions are in the way.
async fn locked(client: &Client, doing: &str, error: tokio_postgres::Error) -> Error {
    let error = Error::database(doing, error);
    let Ok(row) = client.query_one(HOLDERS, &[]).await else { return error };
    let holders: String = row.get(0);
    error.hint(format!(
        "locks in schema {} are held by {holders}; try again when these transactions have ended; if one is forgotten, end it with its pid from above: select pg_terminate_backend(PID);",
        client.naming().schema()
    ))
}

/// Says which event trigger of the database it was, if one.
async fn blamed(client: &Client, doing: &str, error: tokio_postgres::Error) -> Error {
    let context = error.as_db_error().and_then(|e| e.where_()).unwrap_or_default().to_owned();
    let error = Error::database(doing, error);
    let Ok(Some(row)) = client.query_opt(EVENT_TRIGGER, &[&context]).await else { return error };
    let (name, remedy): (String, String) = (row.get(0), row.get(1));
    error.hint(format!("that was event trigger {name} of this database; run: {remedy}"))
}

/// A line of the history, as refinery writes it.
fn entry(migration: &refinery::Migration) -> String {
    format!(
        "insert into {HISTORY} (version, name, applied_on, checksum) values ({}, '{}', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{}');",
        migration.version(),
        migration.name(),
        migration.checksum(),
    )
}

/// What [`migrate`] would run on an empty database, as one script for `psql -1 -f`. It leaves the same history, so a
/// later migrate finds nothing to do; and the settings of the session as they were.
pub fn script(naming: &Naming) -> String {
    let mut script = format!(
        "-- rowcast: everything that `rowcast migrate` runs on an empty database\n\n{SCRIPT_BEGINS}\n\n-- sql/guard.sql\n{GUARD}\n\
         create schema if not exists rowcast;\n{HISTORY_TABLE};\n"
    );
    for migration in runner().get_migrations() {
        let _ = writeln!(
            script,
            "\n-- migrations/{migration}\n{}\n{}",
            migration.sql().unwrap_or_default(),
            entry(migration)
        );
    }
    for (folder, files) in [("functions", FUNCTIONS), ("views", VIEWS)] {
        for (name, text) in files {
            let _ = writeln!(script, "\n-- sql/{folder}/{name}.sql\n{text}");
        }
    }
    let _ = writeln!(script, "\n-- sql/grants.sql\n{GRANTS}\n\n-- sql/owners.sql\n{OWNERS}\n{SCRIPT_ENDS}");
    naming.of(&script).into_owned()
}

/// The roles that [`migrate`] makes, and their rights.
pub fn grants(naming: &Naming) -> Cow<'static, str> {
    naming.of(GRANTS)
}

/// The database's owner, and the rights that a pg_dump of this role needs, where it may not read schema rowcast.
///
/// # Errors
/// [`Kind::Database`] when that cannot be asked.
pub async fn locked_out_owner(client: &Client) -> Result<Option<(String, String)>> {
    let row = client.query_opt(LOCKED_OUT, &[]).await.map_err(|e| Error::database("cannot ask for rights", e))?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Refuses a schema that is missing, older, or newer and does not serve this program. The version of one that is newer and does.
///
/// # Errors
/// [`Kind::Schema`] with the remedy.
pub async fn check(client: &Client) -> Result<Option<i64>> {
    let naming = client.naming();
    let explain = |e| Error::database(naming.of("cannot look for schema rowcast"), e);
    let there: bool = client
        .query_one(&format!("select pg_catalog.to_regclass('{HISTORY}') is not null"), &[])
        .await
        .map_err(explain)?
        .get(0);
    if !there {
        return Err(Error::new(Kind::Schema, naming.of("this database has no schema rowcast"))
            .hint(naming.of("run: rowcast migrate")));
    }
    let row = client.query_one(&format!("select coalesce(max(version), 0)::int8 from {HISTORY}"), &[]).await.map_err(
        |e| explain(e).hint(naming.of("grant the relay its rights: make its role a member of rowcast_relay")),
    )?;
    let (found, needed, schema) = (row.get::<_, i64>(0), version(), naming.schema());
    match found.cmp(&needed) {
        std::cmp::Ordering::Equal => Ok(None),
        std::cmp::Ordering::Less => {
            Err(Error::new(Kind::Schema, format!("schema {schema} is at version {found}, this rowcast needs {needed}"))
                .hint(naming.of("run: rowcast migrate")))
        }
        std::cmp::Ordering::Greater if newer_that_serves(client).await?.is_some() => {
            tracing::info!(event = "schema_newer", found, needed, "it serves this version too");
            Ok(Some(found))
        }
        std::cmp::Ordering::Greater => Err(Error::new(
            Kind::Schema,
            format!("schema {schema} is at version {found}, newer than this rowcast ({needed})"),
        )
        .hint("update rowcast")),
    }
}

/// The version of a schema that is newer than this program, and with which it works all the same.
async fn newer_that_serves(client: &Client) -> Result<Option<i64>> {
    let explain = |e| Error::database(client.naming().of("cannot look for schema rowcast"), e);
    let there = format!(
        "select pg_catalog.to_regclass('{HISTORY}') is not null and pg_catalog.to_regprocedure('rowcast.serves()') is not null"
    );
    if !client.query_one(&there, &[]).await.map_err(explain)?.get::<_, bool>(0) {
        return Ok(None);
    }
    let found = format!("select coalesce(max(version), 0)::int8, rowcast.serves()::int8 from {HISTORY}");
    let row = client.query_one(&found, &[]).await.map_err(explain)?;
    let (found, serves): (i64, i64) = (row.get(0), row.get(1));
    Ok((found > version() && serves <= version()).then_some(found))
}

fn version() -> i64 {
    runner().get_migrations().iter().map(|m| i64::from(m.version())).max().unwrap_or(0)
}

fn runner() -> refinery::Runner {
    embedded::migrations::runner()
}
