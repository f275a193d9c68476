//! Puts schema `rowcast` into a database and keeps it current. Owns migrations, function text and their order; knows
//! nothing of what they capture.
//!
//! Tables are versioned migrations, run once, checked by checksum. Functions, views and grants are replaced at each
//! migrate, in one transaction. An advisory lock makes concurrent migrates wait for each other, since refinery takes
//! none.

use std::fmt::Write as _;

use tokio_postgres::{Client, IsolationLevel};

use crate::error::{Error, Kind, Result};

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
    "bell_mode" "append" "ring" "actor" "json_without" "capture_pinned" "capture" "capture_truncate"
    "write_to" "prune" "note_life" "note_durable" "note_node" "origin" "notify" "publish" "create_channel" "drop_channel" "configure" "lock_for_triggers" "singular"
    "refuse_unwatchable" "install_user_query" "remove_triggers" "grant_snapshot" "tell_policy" "check_filter" "floor_now" "raise_floor" "bind_policies" "note_exposure" "drifted_names" "allow" "deny" "revoke" "watch" "unwatch" "watch_schema" "uninstall");
const VIEWS: &[(&str, &str)] = sql_files!("views": "watched" "unwatched" "recent" "exposure" "health" "nodes");
/// The roles and their rights, all in one place.
pub const GRANTS: &str = include_str!("../../sql/grants.sql");

/// The files name segment 0; the segments may have taken their turns since.
const SEGMENT: &str =
    "select rowcast.write_to(number) from rowcast.segment where opened_at is not null order by opened_at desc limit 1";

/// What a migrate did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// versions that were applied now
    pub applied: Vec<i64>,
    /// the schema's version
    pub version: i64,
}

/// Brings the schema to this program's version. Many at once are safe.
///
/// # Errors
/// [`Kind::Schema`] where the schema is newer than this program, [`Kind::Database`] for whatever the server refuses;
/// functions are then as they were.
pub async fn migrate(client: &mut Client) -> Result<Migrated> {
    let explain = |e| Error::database("cannot migrate", e);
    // the session ends with the command, so the lock cannot outlive it
    client.execute("select pg_advisory_lock(1919907683, 3)", &[]).await.map_err(explain)?;
    client
        .batch_execute("set client_min_messages = warning; create schema if not exists rowcast")
        .await
        .map_err(explain)?;
    let report = runner().run_async(client).await.map_err(explain_refinery)?;
    replace_functions(client).await?;
    client.execute("select pg_advisory_unlock(1919907683, 3)", &[]).await.map_err(explain)?;
    let applied = report.applied_migrations().iter().map(|m| i64::from(m.version())).collect();
    Ok(Migrated { applied, version: version() })
}

async fn replace_functions(client: &mut Client) -> Result<()> {
    let explain = |e| Error::database("cannot install the functions", e);
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await.map_err(explain)?;
    for (name, text) in FUNCTIONS {
        transaction
            .batch_execute(text)
            .await
            .map_err(|e| Error::database(format_args!("cannot install sql/functions/{name}.sql"), e))?;
    }
    for (name, _) in VIEWS.iter().rev() {
        transaction.batch_execute(&format!("drop view if exists rowcast.{name}")).await.map_err(explain)?;
    }
    for (name, text) in VIEWS {
        transaction
            .batch_execute(text)
            .await
            .map_err(|e| Error::database(format_args!("cannot install sql/views/{name}.sql"), e))?;
    }
    transaction
        .batch_execute(GRANTS)
        .await
        .map_err(|e| Error::database("cannot grant the rights of sql/grants.sql", e))?;
    transaction.batch_execute(SEGMENT).await.map_err(explain)?;
    transaction.commit().await.map_err(explain)
}

/// What [`migrate`] would run on an empty database, as one script for `psql -1 -f`. It leaves the same history, so a
/// later migrate finds nothing to do.
pub fn script() -> String {
    let mut script = String::from(
        "-- rowcast: everything that `rowcast migrate` runs on an empty database\n\ncreate schema if not exists rowcast;\n",
    );
    let _ = writeln!(
        script,
        "create table if not exists {HISTORY} (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255));"
    );
    let runner = runner();
    for migration in runner.get_migrations() {
        let _ = writeln!(script, "\n-- migrations/{migration}\n{}", migration.sql().unwrap_or_default());
        let _ = writeln!(
            script,
            "insert into {HISTORY} (version, name, applied_on, checksum) values ({}, '{}', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{}');",
            migration.version(),
            migration.name(),
            migration.checksum(),
        );
    }
    for (folder, files) in [("functions", FUNCTIONS), ("views", VIEWS)] {
        for (name, text) in files {
            let _ = writeln!(script, "\n-- sql/{folder}/{name}.sql\n{text}");
        }
    }
    let _ = writeln!(script, "\n-- sql/grants.sql\n{GRANTS}");
    script
}

/// Refuses a schema that is missing, older or newer.
///
/// # Errors
/// [`Kind::Schema`] with the remedy.
pub async fn check(client: &Client) -> Result<()> {
    let explain = |e| Error::database("cannot look for schema rowcast", e);
    let there: bool =
        client.query_one(&format!("select to_regclass('{HISTORY}') is not null"), &[]).await.map_err(explain)?.get(0);
    if !there {
        return Err(Error::new(Kind::Schema, "this database has no schema rowcast").hint("run: rowcast migrate"));
    }
    let row = client
        .query_one(&format!("select coalesce(max(version), 0)::int8 from {HISTORY}"), &[])
        .await
        .map_err(|e| explain(e).hint("grant the relay its rights: make its role a member of rowcast_relay"))?;
    let (found, needed) = (row.get::<_, i64>(0), version());
    match found.cmp(&needed) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => {
            Err(Error::new(Kind::Schema, format!("schema rowcast is at version {found}, this rowcast needs {needed}"))
                .hint("run: rowcast migrate"))
        }
        std::cmp::Ordering::Greater => Err(Error::new(
            Kind::Schema,
            format!("schema rowcast is at version {found}, newer than this rowcast ({needed})"),
        )
        .hint("update rowcast")),
    }
}

fn version() -> i64 {
    runner().get_migrations().iter().map(|m| i64::from(m.version())).max().unwrap_or(0)
}

fn runner() -> refinery::Runner {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    runner.set_grouped(true)
}

fn explain_refinery(error: refinery::Error) -> Error {
    let text = error.to_string();
    if text.contains("missing from the filesystem") {
        return Error::new(Kind::Schema, "schema rowcast is newer than this rowcast")
            .hint("update rowcast")
            .because(error);
    }
    Error::new(Kind::Schema, format!("cannot migrate: {text}")).because(error)
}
