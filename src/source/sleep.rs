//! The sleep protocol: which locks say that nobody has to ring. Owns the statements on the two advisory locks and
//! the reason for each, and the look at what bells cost; the relay decides when to take a step.
//!
//! QUIET, held exclusively by a relay that is awake, makes writers skip the bell: they try it *shared*, after they
//! drew their transaction id, so writers never collide. SLEEPERS keeps QUIET from being taken while another relay
//! sleeps. Relays only ever *try* QUIET: a waiting exclusive request would already make writers skip.
//!
//! | step | state | what it does |
//! |---|---|---|
//! | 1 | start | LISTEN, then read: no hole. Nobody holds QUIET, so writers ring |
//! | 2 | awake, without QUIET | after a read, [`take_quiet`]: SLEEPERS exclusively while taking QUIET, so no relay can be between steps 5 and 6 |
//! | 3 | awake, with QUIET | each read tries SLEEPERS as well: when somebody wants to sleep, [`give_quiet_back`] |
//! | 4 | falling asleep | [`announce`]: SLEEPERS shared, QUIET released. From now on nobody takes QUIET |
//! | 5 | | read until [`bell_rings`]: QUIET was seen free, so every later test rings |
//! | 6 | | [`draw_barrier`]: a writer that skipped tested before step 5 and drew its id before its test, so it is below |
//! | 7 | | read until the snapshot's xmin is above the barrier: all skippers have ended and were read; many bells, or writers that wait for them: [`wake`], go to 2 |
//! | 8 | asleep | a bell: read, stay asleep; many bells, or writers that wait for them: [`wake`], go to 2. Each second a safety read |
//!
//! The locks live on the reading connection and go with it. A hostile or unlucky holder costs latency only.

use super::client::Client;
use crate::error::{self, Error, Kind, Result};

/// Step 2. Whether QUIET is ours now.
///
/// # Errors
/// When the connection is lost; so for every step.
pub async fn take_quiet(client: &Client) -> Result<bool> {
    ask(
        client,
        "select case when pg_try_advisory_lock(1919907683, 2)
                     then case when pg_try_advisory_lock(1919907683, 1) then pg_advisory_unlock(1919907683, 2)
                               else not pg_advisory_unlock(1919907683, 2) end
                     else false end",
    )
    .await
}

/// Step 3, when the read said that another relay wants to sleep.
pub async fn give_quiet_back(client: &Client) -> Result<()> {
    ask(client, "select pg_advisory_unlock(1919907683, 1)").await?;
    Ok(())
}

/// Step 4. Whether it is announced: not while another relay takes QUIET, which is one statement long; then later.
pub async fn announce(client: &Client, holds_quiet: bool) -> Result<bool> {
    if !ask(client, "select pg_try_advisory_lock_shared(1919907683, 2)").await? {
        return Ok(false);
    }
    if holds_quiet {
        ask(client, "select pg_advisory_unlock(1919907683, 1)").await?;
    }
    Ok(true)
}

/// Step 5. Whether nobody holds QUIET, so that every later write rings.
pub async fn bell_rings(client: &Client) -> Result<bool> {
    ask(client, "select pg_try_advisory_lock_shared(1919907683, 1) and pg_advisory_unlock_shared(1919907683, 1)").await
}

/// Step 6. A fresh transaction id.
pub async fn draw_barrier(client: &Client) -> Result<u64> {
    let row = client
        .query_one("select pg_current_xact_id()::text", &[])
        .await
        .map_err(|e| Error::database("cannot draw the sleep barrier", e))?;
    Ok(row.get::<_, &str>(0).parse().unwrap_or(u64::MAX))
}

/// Steps 7 and 8, when it gets busy.
pub async fn wake(client: &Client) -> Result<()> {
    ask(client, "select pg_advisory_unlock_shared(1919907683, 2)").await?;
    Ok(())
}

/// Whether a writer waits for the lock that NOTIFY takes, database 0 of `pg_database`, until another one has committed. Where
/// this role may not look, it is told that none does.
///
/// # Errors
/// When the connection is lost.
pub async fn writers_wait(client: &Client) -> Result<bool> {
    let waiting = "select exists (select from pg_locks where locktype = 'object' and database = 0 and objid = 0
                                     and classid = 'pg_catalog.pg_database'::regclass and not granted)";
    match ask(client, waiting).await {
        Err(error) if error.kind() != Kind::Connection => {
            tracing::debug!(event = "waiting_unread", error = error::chain(&error));
            Ok(false)
        }
        answer => answer,
    }
}

async fn ask(client: &Client, question: &str) -> Result<bool> {
    let row = client.query_one(question, &[]).await.map_err(|e| Error::database("sleep protocol", e))?;
    Ok(row.get(0))
}

#[cfg(test)]
mod model;
