//! `rowcast doctor`: what is or will be wrong, and what capture costs. Owns the checks of server, rights and connection;
//! those of the schema are the view `rowcast.health`, what it costs is `rowcast.cost`.

use super::probe::{self, Way};
use crate::error::{self, Error, Kind, Result};
use crate::source::client::Client;
use crate::source::doorbell::Doorbell;
use crate::source::encoding::Encoding;
use crate::source::install;
use crate::source::pool::Database;

/// The dearest tables that are told of.
const DEAREST: i64 = 5;
const COST: &str = "
select channel, changes, per_second::text, pg_size_pretty(outbox_bytes), pg_size_pretty(wal_bytes), omitted
  from rowcast.cost where changes > 0 limit $1";
const TRIGGER_TIME: &str = "
select max(trigger_us)::text, format('not counted; a superuser switches it on: alter database %I set track_functions = ''pl'';', current_database())
  from rowcast.cost";

/// Row security is Postgres' own, and concerns no client of a relay: what its policies would be here, where no policy is stated yet.
const ROW_SECURITY: &str = "
select format('%s, role %s: %s', s.\"table\", s.role, coalesce(min(s.problem), 'its row security counts for sessions of Postgres; stated here it is')),
       min(s.call)
  from rowcast.row_security() s
  join rowcast.channel c on c.target = s.\"table\" and not c.unlisted
 where not exists (select from rowcast.policy p where p.channel = c.name and p.role = s.role)
 group by s.\"table\", s.role order by 1 limit 20";

/// Prints every finding, each with its remedy; with a way, whether a message goes it.
///
/// # Errors
/// When a finding needs action.
pub(super) async fn examine(database: &Database, client: &mut Client, way: Option<Way<'_>>) -> Result<()> {
    let naming = database.naming();
    let mut failed = 0;
    let mut report = |state: &str, finding: &str, detail: &str, remedy: Option<&str>| {
        say!("{state:<5} {finding:<22} {detail}");
        if let Some(remedy) = remedy {
            say!("      {:<22} -> {remedy}", "");
        }
        failed += u32::from(state == "fail");
    };
    if let Err(error) = database.prove_own().await {
        report("fail", "connection", &error.to_string(), error.remedy());
        return Err(Error::new(Kind::Config, "1 finding needs action"));
    }
    let version: i32 = client
        .query_one("select current_setting('server_version_num')::int", &[])
        .await
        .map_err(|e| Error::database("cannot ask the server's version", e))?
        .get(0);
    let (state, remedy) =
        if version < 140_000 { ("fail", Some("rowcast needs Postgres 14 or later")) } else { ("ok", None) };
    report(state, "server version", &format!("{}.{}", version / 10_000, version % 10_000), remedy);
    let (state, detail, remedy) = encoding(client).await?;
    report(state, "encoding", &detail, remedy);
    match install::check(client).await {
        Ok(None) => report("ok", "schema", "installed, this version", None),
        Ok(Some(newer)) => {
            report("ok", "schema", &format!("version {newer}, of a later rowcast: it serves this one"), None);
        }
        Err(error) => {
            report("fail", "schema", &error.to_string(), error.remedy());
            return Err(Error::new(Kind::Schema, "1 finding needs action"));
        }
    }
    let may_read: bool = client
        .query_one("select has_table_privilege('rowcast.outbox', 'select') and has_table_privilege('rowcast.channel', 'select')", &[])
        .await
        .map_err(|e| Error::database("cannot ask for rights", e))?
        .get(0);
    let (state, remedy) =
        if may_read { ("ok", None) } else { ("fail", Some(naming.of("make this role a member of rowcast_relay"))) };
    report(state, "rights", "read the outbox and the channels", remedy.as_deref());
    if let Some((owner, remedy)) = install::locked_out_owner(client).await? {
        let detail =
            format!("the database belongs to {owner}, whose pg_dump fails: it may not read schema {}", naming.schema());
        report("warn", "backups", &detail, Some(&remedy));
    }
    match Doorbell::listen(database).await {
        Ok(bell) if bell.works() => report("ok", "notifications", "one to ourselves came back", None),
        Ok(_) => report(
            "fail",
            "notifications",
            "one to ourselves did not come back",
            Some("something between here and Postgres keeps it: connect to Postgres itself"),
        ),
        Err(error) => report("fail", "notifications", &error.to_string(), error.remedy()),
    }
    if may_read {
        let rows = client
            .query("select finding, state, detail, remedy from rowcast.health", &[])
            .await
            .map_err(|e| Error::database(naming.of("cannot read rowcast.health"), e))?;
        for row in rows {
            report(row.get(1), row.get(0), row.get(2), row.get(3));
        }
        for row in client
            .query(ROW_SECURITY, &[])
            .await
            .map_err(|e| Error::database(naming.of("cannot read rowcast.row_security"), e))?
        {
            report("warn", "row security", row.get(0), row.get(1));
        }
        for line in costs(client).await? {
            report("ok", "cost", &line, None);
        }
    }
    if let Some(way) = way {
        match probe::run(client, way).await {
            Ok(took) => report("ok", "probe", &took, None),
            Err(broken) => report("fail", "probe", &error::chain(&broken), broken.remedy()),
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Database, "1 finding needs action")),
        many => Err(Error::new(Kind::Database, format!("{many} findings need action"))),
    }
}

/// What capture costs: of the dearest tables, and the time of the trigger.
async fn costs(client: &Client) -> Result<Vec<String>> {
    let explain = |e| Error::database("cannot read rowcast.cost", e);
    let tables = client.query(COST, &[&DEAREST]).await.map_err(explain)?;
    let line = |row: &tokio_postgres::Row| {
        let (channel, changes, per_second): (&str, i64, &str) = (row.get(0), row.get(1), row.get(2));
        let (outbox, log, omitted): (&str, &str, i64) = (row.get(3), row.get(4), row.get(5));
        let omitted = if omitted > 0 { format!(", {omitted} by their key alone") } else { String::new() };
        format!(
            "{channel}: {changes} changes kept{omitted}, {per_second} a second; {outbox} of the outbox, about {log} of the WAL"
        )
    };
    let mut lines: Vec<String> = tables.iter().map(line).collect();
    let time = client.query_one(TRIGGER_TIME, &[]).await.map_err(explain)?;
    let time = match time.get::<_, Option<&str>>(0) {
        Some(us) => format!("{us} microseconds a call, over all tables"),
        None => time.get(1),
    };
    lines.push(format!("time of the trigger: {time}"));
    Ok(lines)
}

/// Whether the database knows what its text says.
async fn encoding(client: &Client) -> Result<(&'static str, String, Option<&'static str>)> {
    let row = client
        .query_one("select current_setting('server_encoding')", &[])
        .await
        .map_err(|e| Error::database("cannot ask for the encoding", e))?;
    let name: &str = row.get(0);
    Ok(if name == "SQL_ASCII" {
        let remedy = "write UTF-8 from every program; new databases: create database .. encoding 'UTF8'";
        (
            "warn",
            format!("{name}: nobody checks what is written; bytes that are no UTF-8 are told as U+FFFD"),
            Some(remedy),
        )
    } else if name != "UTF8" && Encoding::of(name).of_reading_sessions(name) == "UTF8" {
        let remedy = "a new database: create database .. encoding 'UTF8'";
        ("warn", format!("{name}: a text that the server cannot convert to UTF-8 cannot be read"), Some(remedy))
    } else {
        ("ok", name.to_owned(), None)
    })
}
