//! Notes in the database that this relay lives. Owns the rhythm; who counts as living is said by `rowcast.nodes`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deadpool_postgres::Pool;

use super::pool::Database;
use crate::error::{self, Error, Kind, Result};
use crate::metrics::DeliveryMetrics;
use crate::shutdown::Shutdown;

const EVERY: Duration = Duration::from_secs(10);

/// Says so every ten seconds until the shutdown.
pub async fn run(
    database: Database,
    pool: Pool,
    address: SocketAddr,
    metrics: Arc<DeliveryMetrics>,
    mut shutdown: Shutdown,
) {
    let started = SystemTime::now();
    loop {
        let turn = async {
            if let Err(error) = note(&database, &pool, address, &metrics, started).await {
                tracing::warn!(event = "node_unnoted", error = error::chain(&error));
            }
            tokio::time::sleep(EVERY).await;
        };
        tokio::select! {
            () = turn => {}
            () = shutdown.begun() => return,
        }
    }
}

async fn note(
    database: &Database,
    pool: &Pool,
    address: SocketAddr,
    metrics: &DeliveryMetrics,
    started: SystemTime,
) -> Result<()> {
    let client =
        pool.get().await.map_err(|e| Error::new(Kind::Connection, "no connection to note this node").because(e))?;
    let (version, address) = (env!("CARGO_PKG_VERSION"), address.to_string());
    client
        .execute(
            "select rowcast.note_node($1, $2, $3, $4, $5, $6)",
            &[&database.instance(), &version, &address, &started, &metrics.sockets.get(), &metrics.lag_ms()],
        )
        .await
        .map_err(|e| Error::database("cannot note this node", e))?;
    Ok(())
}
