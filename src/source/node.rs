//! Notes in the database that this node lives, and what of the outbox it needs no more; and hears from it what time it
//! is there. Owns the rhythm; which nodes count as living is said by `rowcast.nodes`, what follows for the outbox by
//! `rowcast.prune`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::client::Pool;
use super::pool::Database;
use crate::error::{self, Error, Kind, Result};
use crate::metrics::{DeliveryMetrics, SourceMetrics};
use crate::node::NodeState;
use crate::shutdown::Shutdown;

const EVERY: Duration = Duration::from_secs(10);

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// reads the outbox for its own sockets
    Relay,
    /// follows the stream, and writes it when no other does
    Candidate,
    /// follows the stream
    Gateway,
}

/// This node.
#[derive(Debug)]
pub struct Node {
    /// where it is noted
    pub database: Database,
    /// where it listens
    pub address: SocketAddr,
    /// what it is for
    pub role: Role,
    /// how far it has come
    pub state: Arc<NodeState>,
    /// whether an outage was told
    pub source: Arc<SourceMetrics>,
    /// its sockets
    pub delivery: Arc<DeliveryMetrics>,
}

impl Node {
    /// Says so every ten seconds until the shutdown.
    pub async fn run(self, pool: Pool, mut shutdown: Shutdown) {
        let started = SystemTime::now();
        loop {
            let turn = async {
                if let Err(error) = self.note(&pool, started).await
                    && self.source.tells(error.kind())
                {
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

    async fn note(&self, pool: &Pool, started: SystemTime) -> Result<()> {
        let client =
            pool.get().await.map_err(|e| Error::new(Kind::Connection, "no connection to note this node").because(e))?;
        let role = match self.role {
            Role::Relay => "relay",
            Role::Candidate if self.state.is_publishing() => "publisher",
            Role::Candidate => "candidate",
            Role::Gateway => "gateway",
        };
        let (version, address, seen) = (env!("CARGO_PKG_VERSION"), self.address.to_string(), self.state.seen());
        let (sockets, lag) = (self.delivery.sockets.get(), self.delivery.lag_ms());
        let (before, asked) = (SystemTime::now(), Instant::now());
        let row = client
            .query_one(
                "select rowcast.note_node($1, $2, $3, $4, $5, $6, $7, $8::text::pg_catalog.pg_snapshot, 7),
                        (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::int8",
                &[&self.database.instance(), &version, &address, &role, &started, &sockets, &lag, &seen],
            )
            .await
            .map_err(|e| Error::database("cannot note this node", e))?;
        self.delivery.note_clock(row.get(1), before, asked.elapsed());
        Ok(())
    }
}
