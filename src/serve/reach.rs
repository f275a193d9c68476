//! A database that is away at the start. Owns how long it is waited for, and that nobody uses it before it was reached.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::{self, Error, Kind, Result};
use crate::shutdown::Shutdown;
use crate::source::pool::Database;

/// To be reached takes so long at most.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A database that is away is tried so often.
const AGAIN: Duration = Duration::from_secs(1);

/// Waits until the database can be reached, where trying again may help, at most `patience`. Health is answered meanwhile.
pub(super) async fn reach(database: &Database, patience: Duration, mut shutdown: Shutdown) -> Result<()> {
    let began = Instant::now();
    let mut attempt = 0;
    loop {
        let proven = tokio::select! {
            // one that is frozen accepts connections and says nothing
            proven = timeout(CONNECT_WITHIN, database.prove_own()) =>
                proven.unwrap_or_else(|_| Err(Error::new(Kind::Connection, "the database does not answer"))),
            () = shutdown.begun() => return Ok(()),
        };
        match proven {
            // also one that has no connection left, as when all its clients come back at once
            Err(error) if (error.kind() == Kind::Connection || error.may_pass()) && began.elapsed() < patience => {
                // a line at the first, and then one each ten seconds
                if attempt % 10 == 0 {
                    let seconds = patience.saturating_sub(began.elapsed()).as_secs();
                    let hint = error.remedy();
                    tracing::warn!(event = "database_awaited", error = error::chain(&error), seconds, hint);
                }
                attempt += 1;
                let _ = timeout(AGAIN, shutdown.begun()).await;
            }
            proven => return proven,
        }
    }
}

/// A task that uses the database, once it was reached and proven to be ours: through a transaction pooler each statement of
/// it would reach a stranger's session.
pub(super) async fn once_reached(
    mut reached: watch::Receiver<bool>,
    mut shutdown: Shutdown,
    task: impl Future<Output = ()>,
) {
    let is_reached = tokio::select! {
        reached = reached.wait_for(|reached| *reached) => reached.is_ok(),
        () = shutdown.begun() => false,
    };
    if is_reached {
        task.await;
    } else {
        // it ends with all others
        shutdown.begun().await;
    }
}
