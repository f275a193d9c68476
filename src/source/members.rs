//! What holders have of the claims whose values stand in tables: one statement for many holders, and one snapshot. Knows no stream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::Pool;
use super::encoding::{Bytes, Encoding};
use crate::cursor::Snapshot;
use crate::error::{self, Error, Kind, Result};
use crate::request::{Held, Members, Membership};
use crate::shutdown::Shutdown;

const MEMBERS: &str = "
select pg_catalog.pg_current_snapshot()::text, pg_catalog.current_setting('server_encoding'),
       m.claim, m.holder, m.canonical, m.members, m.problem
  from (select) one left join rowcast.members($1::text[]) m on true";
/// Values of one holder at most, of one claim.
const MOST: usize = 100_000;

/// One reading may take so long.
const WITHIN: Duration = Duration::from_secs(30);

/// Answers one question after the other until the shutdown.
pub async fn run(pool: Pool, mut asked: mpsc::Receiver<Membership>, mut shutdown: Shutdown) {
    loop {
        let question = tokio::select! {
            question = asked.recv() => question,
            () = shutdown.begun() => return,
        };
        let Some(Membership { holders, answer }) = question else { return shutdown.begun().await };
        match timeout(WITHIN, read(&pool, &holders)).await {
            Ok(Ok(read)) => _ = answer.send(read),
            // of a database that is away `source_down` tells
            Ok(Err(error)) if error.kind() == Kind::Connection => {}
            Ok(Err(error)) => tracing::warn!(event = "claims_unread", error = error::chain(&error)),
            Err(_) => tracing::warn!(event = "claims_unread", error = "the database does not answer in time"),
        }
    }
}

/// Reads what these holders have of every claim.
///
/// # Errors
/// [`Kind::Connection`] or [`Kind::Database`].
async fn read(pool: &Pool, holders: &[Arc<str>]) -> Result<(Snapshot, Vec<Held>)> {
    let client = pool.client_for("no connection to read what claims say").await?;
    let asked: Vec<&str> = holders.iter().map(|holder| &**holder).collect();
    let rows = client.query(MEMBERS, &[&asked]).await.map_err(|e| Error::database("cannot read what claims say", e))?;
    let unread = || Error::new(Kind::Database, "what claims say was read at no snapshot");
    let first = rows.first().ok_or_else(unread)?;
    let seen = Snapshot::parse(first.get(0)).ok_or_else(unread)?;
    let encoding = Encoding::of(first.get(1));
    let (mut told, mut all) = (BTreeSet::new(), Vec::with_capacity(rows.len()));
    for row in &rows {
        let text = |index: usize| row.get::<_, Option<Bytes<'_>>>(index).map(|text| encoding.decode(text.0));
        let (Some(claim), Some(holder)) = (text(2), text(3)) else { continue };
        let values = row.get::<_, Option<Vec<Option<Bytes<'_>>>>>(5);
        let is_too_long = values.as_ref().is_some_and(|values| values.len() > MOST);
        let problem = text(6).or_else(|| is_too_long.then(|| format!("more than {MOST} values of one holder").into()));
        if let Some(problem) = problem
            && told.insert(claim.clone().into_owned())
        {
            tracing::warn!(event = "claim_unread", %claim, problem = &*problem, "whoever needs it sees nothing");
        }
        let members = values.filter(|values| values.len() <= MOST).map(|values| {
            let values: Vec<_> = values.into_iter().flatten().map(|value| encoding.decode(value.0)).collect();
            Members::of(values.iter().map(|value| &**value))
        });
        let form = text(4).map(|form| form.into());
        all.push(Held { claim: claim.into(), holder: holder.into(), form, members });
    }
    Ok((seen, all))
}
