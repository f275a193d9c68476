//! `rowcast doctor`: what is or will be wrong. Owns the checks of server, rights and connection; those of the schema
//! are the view `rowcast.health`.

use tokio_postgres::Client;

use crate::error::{Error, Kind, Result};
use crate::source::doorbell::Doorbell;
use crate::source::encoding::Encoding;
use crate::source::install;
use crate::source::pool::Database;

/// Prints every finding, each with its remedy.
///
/// # Errors
/// When a finding needs action.
pub(super) async fn examine(database: &Database, client: &Client) -> Result<()> {
    let mut failed = 0;
    let mut report = |state: &str, finding: &str, detail: &str, remedy: Option<&str>| {
        println!("{state:<5} {finding:<22} {detail}");
        if let Some(remedy) = remedy {
            println!("      {:<22} -> {remedy}", "");
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
    if let Err(error) = install::check(client).await {
        report("fail", "schema", &error.to_string(), error.remedy());
        return Err(Error::new(Kind::Schema, "1 finding needs action"));
    }
    report("ok", "schema", "installed, this version", None);
    let may_read: bool = client
        .query_one("select has_table_privilege('rowcast.outbox', 'select') and has_table_privilege('rowcast.channel', 'select')", &[])
        .await
        .map_err(|e| Error::database("cannot ask for rights", e))?
        .get(0);
    let (state, remedy) =
        if may_read { ("ok", None) } else { ("fail", Some("make this role a member of rowcast_relay")) };
    report(state, "rights", "read the outbox and the channels", remedy);
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
            .map_err(|e| Error::database("cannot read rowcast.health", e))?;
        for row in rows {
            report(row.get(1), row.get(0), row.get(2), row.get(3));
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Database, "1 finding needs action")),
        many => Err(Error::new(Kind::Database, format!("{many} findings need action"))),
    }
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
