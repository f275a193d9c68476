//! Watches the tables that are added to schemas whose future tables are watched: asks `rowcast.newcomer`, calls
//! `rowcast.watch_newcomer`, then `rowcast.note_tables`. Owns the rhythm and the log lines; which tables they are is decided
//! in SQL.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::client::Pool;
use super::encoding::{Bytes, Encoding};
use crate::error::{self, Error, Kind, Result};
use crate::shutdown::Shutdown;

/// With several relays the first one does it.
const EVERY: Duration = Duration::from_secs(10);

/// Looks each ten seconds until the shutdown.
pub async fn run(pool: Pool, mut shutdown: Shutdown) {
    // each is said once
    let mut refused = BTreeSet::new();
    let mut is_failing = false;
    loop {
        let turn = async {
            tokio::time::sleep(EVERY).await;
            match watch(&pool, &mut refused).await {
                Ok(()) => is_failing = false,
                // `source_down` tells of it
                Err(error) if error.kind() == Kind::Connection => {
                    tracing::debug!(event = "newcomers_unknown", error = error::chain(&error));
                }
                Err(error) if !is_failing => {
                    is_failing = true;
                    tracing::warn!(event = "newcomers_unknown", error = error::chain(&error));
                }
                Err(_) => {}
            }
        };
        tokio::select! {
            () = turn => {}
            () = shutdown.begun() => return,
        }
    }
}

async fn watch(pool: &Pool, refused: &mut BTreeSet<u32>) -> Result<()> {
    let client = pool.client_for("no connection to look for new tables").await?;
    let rows = client
        .query(
            "select \"table\"::oid, \"table\"::text, pg_catalog.current_setting('server_encoding') from rowcast.newcomer",
            &[],
        )
        .await
        .map_err(|e| Error::database("cannot look for new tables", e))?;
    refused.retain(|number| rows.iter().any(|row| row.get::<_, u32>(0) == *number));
    for row in &rows {
        let (number, encoding) = (row.get::<_, u32>(0), Encoding::of(row.get(2)));
        let table = &*encoding.decode(row.get::<_, Bytes<'_>>(1).0);
        match client.query_one("select rowcast.watch_newcomer($1::oid::regclass)", &[&number]).await {
            Ok(row) => {
                if let Some(channel) = row.get::<_, Option<Bytes<'_>>>(0) {
                    tracing::info!(event = "newcomer_watched", table, channel = &*encoding.decode(channel.0));
                }
            }
            // it is in use: the next look tries it again
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Err(error) => {
                let error = Error::database("it is not watched", error);
                if refused.insert(number) {
                    let remedy = error.remedy();
                    tracing::error!(event = "newcomer_refused", table, error = error::chain(&error), remedy);
                }
            }
        }
    }
    client.batch_execute("select rowcast.note_tables()").await.map_err(|e| Error::database("cannot note the tables", e))
}
