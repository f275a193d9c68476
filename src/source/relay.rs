//! When to read: the relay's life, from connect to reconnect. Owns the order of its steps and its patience; how to
//! read is `outbox`, how to sleep is `sleep`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::doorbell::{Doorbell, Rhythm};
use super::outbox::{Found, Place, Reader};
use super::pool::{Database, Purpose};
use super::{epoch, sleep};
use crate::change::Event;
use crate::error::{self, Result};
use crate::metrics::SourceMetrics;
use crate::shutdown::Shutdown;

/// Asleep, the outbox is looked at this often although no bell rang: a bell may get lost, a change may not.
const SAFETY: Duration = Duration::from_secs(1);
/// Awake, a relay goes to sleep after this long without a change.
const LINGER: Duration = Duration::from_millis(100);
/// Awake, the pause after a read that found nothing.
const PAUSE: Duration = Duration::from_millis(1);
/// Where no bell can ring (two-phase commit, a transaction pooler), the outbox is looked at this often.
const POLL: Duration = Duration::from_millis(25);
/// How often the channels and the bell's mode are read again: a renamed column, an enabled trigger.
const CATALOG: Duration = Duration::from_secs(10);
/// Reconnecting: full jitter over 50 ms doubled up to this, which is how long a server that is back may stay unnoticed.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Connected for this long, the next failure starts the backoff again.
const HEALTHY: Duration = Duration::from_secs(10);

/// Follows the outbox until the shutdown: tells `out` every change from now on, over any number of lost connections.
///
/// # Errors
/// Only from the first connect: a wrong password, a missing schema, a standby. Afterwards it tries for ever.
pub async fn run(
    database: Database,
    metrics: Arc<SourceMetrics>,
    out: mpsc::Sender<Event>,
    mut shutdown: Shutdown,
) -> Result<()> {
    let mut relay = Relay::connect(&database, None, &metrics, &out).await?;
    let mut attempt = 0_u32;
    loop {
        let connected = Instant::now();
        let ended = tokio::select! {
            ended = relay.follow() => ended,
            () = shutdown.begun() => return Ok(()),
        };
        let Err(lost) = ended;
        let place = relay.into_place();
        if connected.elapsed() > HEALTHY {
            attempt = 0;
        }
        metrics.set_live(false);
        tracing::warn!(event = "source_down", error = error::chain(&lost), connected_s = connected.elapsed().as_secs());
        let reason = "the connection to the database is lost; changes are delayed, not lost".into();
        if out.send(Event::Down { reason }).await.is_err() {
            return Ok(());
        }
        relay = loop {
            let ceiling = BACKOFF_MAX.min(Duration::from_millis(50) * 2_u32.saturating_pow(attempt));
            attempt = (attempt + 1).min(10);
            tokio::select! {
                () = tokio::time::sleep(ceiling.mul_f64(fastrand::f64())) => {}
                () = shutdown.begun() => return Ok(()),
            }
            metrics.count_reconnect();
            match Relay::connect(&database, Some(place.clone()), &metrics, &out).await {
                Ok(relay) => break relay,
                Err(error) => tracing::warn!(event = "reconnect_failed", attempt, error = error::chain(&error)),
            }
        };
    }
}

/// One pair of connections: the doorbell and the reader.
struct Relay {
    doorbell: Doorbell,
    reader: Reader,
    rhythm: Rhythm,
    metrics: Arc<SourceMetrics>,
    catalog_read: Instant,
}

impl Relay {
    async fn connect(
        database: &Database,
        place: Option<Place>,
        metrics: &Arc<SourceMetrics>,
        out: &mpsc::Sender<Event>,
    ) -> Result<Self> {
        let client = database.client(Purpose::Read).await?;
        super::install::check(&client).await?;
        // a backend of ours whose connection broke without a word may still hold QUIET and pin the NOTIFY queue
        let ours = [database.application_name(Purpose::Listen), database.application_name(Purpose::Read)];
        client
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where application_name = any ($1) and pid <> pg_backend_pid() and usename = current_user",
                &[&ours.as_slice()],
            )
            .await
            .map_err(|e| error::Error::database("cannot end stale connections", e))?;
        // LISTEN before the first read: what commits in between rings or is read
        let doorbell = Doorbell::listen(database).await?;
        let epoch = epoch::read(&client).await?;
        let place = match place.map(|place| place.continued_in(epoch.clone())) {
            Some(Some(place)) => place,
            None => Place::now(&client, epoch).await?,
            Some(None) => {
                tracing::error!(
                    event = "gap",
                    reason = "failover",
                    "changes at the end of the server's last life are lost"
                );
                let _ = out.send(Event::Gap { reason: "failover" }).await;
                Place::now(&client, epoch).await?
            }
        };
        let mut reader = Reader::prepare(client, place, database.pool()?, out.clone()).await?;
        reader.reload_catalog().await?;
        if !doorbell.works() {
            tracing::error!(
                event = "doorbell_silent",
                "a notification to ourselves did not come back: is DATABASE_URL a transaction pooler? connect to Postgres itself; polling until then"
            );
        }
        Ok(Self { doorbell, reader, rhythm: Rhythm::default(), metrics: metrics.clone(), catalog_read: Instant::now() })
    }

    fn into_place(self) -> Place {
        self.reader.place().clone()
    }

    /// Catches up, then follows. It is here and not in `connect` that the first cut is read: when the connection
    /// breaks inside it, what was delivered counts.
    async fn follow(&mut self) -> Result<Infallible> {
        self.read().await?;
        self.reader.announce_live().await?;
        self.metrics.set_live(true);
        tracing::info!(event = "source_live", channels = self.reader.catalog().names().len());
        loop {
            if self.must_poll() {
                self.poll().await?;
            } else {
                self.awake().await?;
                self.fall_asleep().await?;
                self.asleep().await?;
            }
        }
    }

    /// No bell rings, none arrives, or the queue fills because some listener does not read it.
    fn must_poll(&self) -> bool {
        !self.doorbell.works() || self.reader.catalog().bell_is_off || self.reader.catalog().queue_usage > 0.25
    }

    async fn poll(&mut self) -> Result<()> {
        self.metrics.set_mode("polling");
        while self.must_poll() {
            if self.read().await?.rows == 0 {
                self.doorbell.wait(POLL).await?;
                self.doorbell.take();
            }
        }
        Ok(())
    }

    /// Steps 2 and 3 of the sleep protocol: read without pause while changes come.
    async fn awake(&mut self) -> Result<()> {
        self.metrics.set_mode("awake");
        let mut holds_quiet = false;
        let mut last_change = Instant::now();
        loop {
            let found = self.read().await?;
            if found.rows > 0 {
                last_change = Instant::now();
            } else if last_change.elapsed() > LINGER && sleep::announce(self.reader.client(), holds_quiet).await? {
                return Ok(());
            } else {
                self.doorbell.wait(PAUSE).await?;
                self.doorbell.take();
            }
            let client = self.reader.client();
            holds_quiet =
                if holds_quiet { sleep::keep_quiet(client).await? } else { sleep::take_quiet(client).await? };
        }
    }

    /// Steps 5 to 7: after this, whatever was written without a ring has been read.
    async fn fall_asleep(&mut self) -> Result<()> {
        let mut pause = PAUSE;
        while !sleep::bell_rings(self.reader.client()).await? {
            // another relay gives QUIET back at its next read; a stopped or hostile holder keeps us polling
            self.read().await?;
            self.doorbell.wait(pause).await?;
            self.doorbell.take();
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        let barrier = sleep::draw_barrier(self.reader.client()).await?;
        let began = Instant::now();
        while self.read().await?.xmin <= barrier {
            // a transaction that is open for minutes is seen at most 5 % of its age late; everything else rings
            let pause = (began.elapsed() / 20).clamp(Duration::from_millis(2), Duration::from_millis(50));
            self.doorbell.wait(pause).await?;
            self.doorbell.take();
        }
        Ok(())
    }

    /// Step 8: a bell is answered by a read, until there are many.
    async fn asleep(&mut self) -> Result<()> {
        self.metrics.set_mode("asleep");
        loop {
            let rung = self.doorbell.wait(SAFETY).await?;
            let bells = self.doorbell.take();
            let found = self.read().await?;
            if !rung && found.rows > 0 {
                self.metrics.count_safety_find();
            }
            if self.rhythm.is_busy(Instant::now(), bells) || self.must_poll() {
                return sleep::wake(self.reader.client()).await;
            }
        }
    }

    async fn read(&mut self) -> Result<Found> {
        if self.catalog_read.elapsed() > CATALOG {
            self.catalog_read = Instant::now();
            self.reader.reload_catalog().await?;
        }
        let found = self.reader.read().await?;
        self.metrics.count_read(found.rows);
        Ok(found)
    }
}
