//! Keeps the outbox bounded: calls `rowcast.prune()`, and looks whether what is written is captured:
//! `rowcast.note_tally()`. Owns their rhythm and their log lines; what is pruned and what is said is decided in SQL.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Pool};
use super::encoding::{Bytes, Encoding};
use crate::error::{self, Error, Kind, Result};
use crate::metrics::{FINDINGS, SourceMetrics};
use crate::shutdown::Shutdown;

/// The segments take turns after hours, so a minute is often enough; with several relays the first one does it.
const EVERY: Duration = Duration::from_secs(60);

/// What is not captured is a metric within this time. With 1,000 watched tables it is asked in 87 ms.
const ASKED_EVERY: Duration = Duration::from_secs(15);

/// Prunes each minute until the shutdown.
pub async fn run(pool: Pool, metrics: Arc<SourceMetrics>, mut shutdown: Shutdown) {
    loop {
        let turn = async {
            if let Err(error) = look(&pool, &metrics).await
                && metrics.tells(error.kind())
            {
                tracing::warn!(event = "outbox_unread", error = error::chain(&error));
            }
            tokio::time::sleep(EVERY).await;
            match prune(&pool).await {
                Ok(done) if done == "nothing to do" => {}
                Ok(done) => tracing::info!(event = "pruned", done),
                Err(error) if metrics.tells(error.kind()) => {
                    tracing::warn!(event = "prune_failed", error = error::chain(&error));
                }
                Err(_) => {}
            }
            if let Err(error) = tally(&pool).await
                && metrics.tells(error.kind())
            {
                tracing::warn!(event = "tally_failed", error = error::chain(&error));
            }
        };
        tokio::select! {
            () = turn => {}
            () = asking(&pool, &metrics) => {}
            () = shutdown.begun() => return,
        }
    }
}

/// Asks again and again whether what is written is captured.
async fn asking(pool: &Pool, metrics: &SourceMetrics) {
    loop {
        if let Err(error) = ask(pool, metrics).await {
            // another server may know better; that the database is away has an alert of its own
            metrics.note_findings(&[]);
            if metrics.tells(error.kind()) {
                tracing::warn!(event = "health_unread", error = error::chain(&error));
            }
        }
        tokio::time::sleep(ASKED_EVERY).await;
    }
}

/// Empties segments that are older than the retention, and says what was done.
///
/// # Errors
/// When the database cannot be asked.
pub async fn prune(pool: &Pool) -> Result<String> {
    let client =
        pool.get().await.map_err(|e| Error::new(Kind::Connection, "no connection to prune the outbox").because(e))?;
    let once = async || {
        let row = client.query_one("select rowcast.prune()", &[]).await;
        row.map(|row| row.get::<_, String>(0)).map_err(|e| Error::database("cannot prune the outbox", e))
    };
    let mut done = once().await?;
    // what was emptied may take new changes once that is committed
    if done.contains(" is emptied") {
        done = format!("{done}; {}", once().await?);
    }
    warn_of_size(&client).await?;
    Ok(done)
}

/// Says of which tables nothing was captured, although something was written.
async fn tally(pool: &Pool) -> Result<()> {
    let client = pool
        .get()
        .await
        .map_err(|e| Error::new(Kind::Connection, "no connection to count what is written").because(e))?;
    let silent = client
        .query("select channel, rows, pg_catalog.current_setting('server_encoding') from rowcast.note_tally()", &[])
        .await
        .map_err(|e| Error::database("cannot compare what was written with what was captured", e))?;
    for row in &silent {
        let (encoding, rows) = (Encoding::of(row.get(2)), row.get::<_, i64>(1));
        let channel = &*encoding.decode(row.get::<_, Bytes<'_>>(0).0);
        let hint = pool.naming().of("select * from rowcast.health says what to do");
        tracing::warn!(event = "writes_uncaptured", channel, rows, hint = &*hint);
    }
    Ok(())
}

/// Takes note of the outbox' size.
async fn look(pool: &Pool, metrics: &SourceMetrics) -> Result<()> {
    let client =
        pool.get().await.map_err(|e| Error::new(Kind::Connection, "no connection to look at the outbox").because(e))?;
    let size = client
        .query_one(
            "select sum(pg_catalog.pg_total_relation_size(format('rowcast.outbox_%s', number)::regclass))::int8,
                    coalesce(extract(epoch from now() - min(opened_at) filter (where number < 3)), 0)::int8,
                    (select extract(epoch from s.value::interval)::int8 from rowcast.setting s where s.name = 'retention')
               from rowcast.segment",
            &[],
        )
        .await
        .map_err(|e| Error::database("cannot read the size of the outbox", e))?;
    // a setting that is not there has its default
    let retention: Option<i64> = size.get(2);
    metrics.note_outbox(size.get(0), size.get(1), retention.unwrap_or(24 * 3600));
    Ok(())
}

/// Takes note of whether what is written is captured.
async fn ask(pool: &Pool, metrics: &SourceMetrics) -> Result<()> {
    let lost = |e| Error::new(Kind::Connection, "no connection to ask whether changes are captured").because(e);
    let client = pool.get().await.map_err(lost)?;
    let findings = client
        .query("select finding, state from rowcast.health where finding = any ($1)", &[&&FINDINGS[..]])
        .await
        .map_err(|e| Error::database("cannot ask whether changes are captured", e))?;
    let said: Vec<(&str, &str)> = findings.iter().map(|row| (row.get(0), row.get(1))).collect();
    metrics.note_findings(&said);
    Ok(())
}

/// An outbox that cannot be pruned is said so before it fills the disk.
async fn warn_of_size(client: &Client) -> Result<()> {
    let sizes =
        "select detail, remedy from rowcast.health where finding in ('outbox', 'brief outbox') and state <> 'ok'";
    let rows = client.query(sizes, &[]).await.map_err(|e| Error::database("cannot read the size of the outbox", e))?;
    for row in rows {
        let (detail, remedy): (&str, Option<&str>) = (row.get(0), row.get(1));
        tracing::warn!(event = "outbox_grows", detail, remedy);
    }
    Ok(())
}
