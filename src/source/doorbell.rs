//! The LISTEN connection: hears that something was committed. Owns that connection, its proof and its heartbeat;
//! knows nothing of the outbox. It never opens a transaction and never waits for anybody, since a listener that
//! does either pins the NOTIFY queue of the whole cluster.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::AsyncMessage;

use super::client::Client;
use super::pool::{Database, Driver, Purpose};
use super::session::settings;
use crate::error::{Error, Kind, Result};

/// A notification to oneself returns in milliseconds, or something between here and the server keeps it.
const PROOF_WITHIN: Duration = Duration::from_secs(3);
/// A dead server is noticed within HEARTBEAT_EVERY + HEARTBEAT_WITHIN = 5 s.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(3);

/// The doorbell of one connection. Dropping it ends the connection.
#[derive(Debug)]
pub struct Doorbell {
    shared: Arc<Shared>,
    heard: u64,
    works: bool,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Shared {
    rings: AtomicU64,
    /// Set before the last notification, so that a task that is woken by it sees it.
    lost: AtomicBool,
    /// One permit is kept: a ring between a look at `rings` and the wait is not missed.
    rung: Notify,
    /// told once the connection is lost
    gone: Notify,
}

impl Doorbell {
    /// Connects and listens; returns after LISTEN has taken effect and was proven by a notification to itself.
    ///
    /// # Errors
    /// When the connection cannot be made. A bell that does not come back is no error: see [`works`](Self::works).
    pub async fn listen(database: &Database) -> Result<Self> {
        let (client, driver) = database.connect(Purpose::Listen).await?;
        let shared = Arc::new(Shared::default());
        let driving = tokio::spawn(drive(driver, shared.clone()));
        let explain = |e| Error::database("cannot listen", e);
        client.batch_execute(settings(Purpose::Listen)).await.map_err(explain)?;
        // the server, too, must notice a dead client: a backend that lives on would pin the NOTIFY queue. These
        // settings need a TCP connection; over a Unix socket they are accepted and mean nothing.
        client
            .batch_execute(
                "set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 3; \
                 set tcp_user_timeout = 5000; listen rowcast",
            )
            .await
            .map_err(explain)?;
        client
            .execute("select pg_catalog.pg_notify($1, '{\"proof\":true}')", &[&database.naming().bell()])
            .await
            .map_err(explain)?;
        let works = timeout(PROOF_WITHIN, shared.rung.notified()).await.is_ok();
        let beating = tokio::spawn(heartbeat(client, shared.clone()));
        let heard = shared.rings.load(Ordering::Acquire);
        Ok(Self { shared, heard, works, tasks: [driving, beating] })
    }

    /// Whether the proof came back. Behind some proxies LISTEN seems to succeed and nothing ever arrives.
    pub fn works(&self) -> bool {
        self.works
    }

    /// Bells since the last call.
    pub fn take(&mut self) -> u64 {
        let rings = self.shared.rings.load(Ordering::Acquire);
        std::mem::replace(&mut self.heard, rings).abs_diff(rings)
    }

    /// Whether a bell has rung since the last [`take`](Self::take).
    pub fn has_rung(&self) -> bool {
        self.shared.rings.load(Ordering::Acquire) != self.heard
    }

    /// Ready once the connection is lost. A task that waits for another connection of the same server, on which nobody
    /// beats, gives that up then: a server that is frozen answers nowhere, and closes nothing.
    pub fn wait_until_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = self.shared.clone();
        async move {
            while !shared.lost.load(Ordering::Acquire) {
                shared.gone.notified().await;
            }
        }
    }

    /// Whether the connection still stands.
    ///
    /// # Errors
    /// [`Kind::Connection`] when it is lost.
    pub fn check(&self) -> Result<()> {
        if self.shared.lost.load(Ordering::Acquire) { Err(lost()) } else { Ok(()) }
    }

    /// Waits for a bell, at most for `limit`; says whether there was one. Cancel safe.
    ///
    /// # Errors
    /// [`Kind::Connection`] when the connection is lost.
    pub async fn wait(&self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            self.check()?;
            if self.has_rung() {
                return Ok(true);
            }
            if tokio::time::timeout_at(deadline, self.shared.rung.notified()).await.is_err() {
                return Ok(false);
            }
        }
    }
}

/// What is said of a doorbell that is lost.
pub(super) fn lost() -> Error {
    Error::new(Kind::Connection, "the listening connection is lost")
}

impl Shared {
    fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.rung.notify_one();
        self.gone.notify_one();
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn drive(driver: Driver, shared: Arc<Shared>) {
    let mut driver = pin!(driver);
    // the payload is not looked at: a bell is a hint, and any role may forge one
    while let Some(Ok(message)) = poll_fn(|context| driver.poll_message(context)).await {
        if let AsyncMessage::Notification(_) = message {
            shared.rings.fetch_add(1, Ordering::Release);
            shared.rung.notify_one();
        }
    }
    shared.lose();
}

async fn heartbeat(client: Client, shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(HEARTBEAT_EVERY).await;
        match timeout(HEARTBEAT_WITHIN, client.batch_execute("select 1")).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    shared.lose();
}
