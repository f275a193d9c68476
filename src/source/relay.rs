//! When to read: the relay's life, from connect to reconnect. Owns the order of its steps and its patience; how to
//! read is `outbox`, how to sleep is `sleep`.

mod pace;
mod rhythm;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pace::{Pace, Woken, pause_after};
use rhythm::{Bells, Rhythm};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

use super::directory::{ChannelList, Directory};
use super::doorbell::{self, Doorbell};
use super::outbox::{CutReader, Found};
use super::pool::{Database, Purpose};
use super::position::Position;
use super::{epoch, sleep, thread};
use crate::change::{Event, Start};
use crate::error::{self, Error, Kind, Result};
use crate::feedback::Feedback;
use crate::incarnations::Gap;
use crate::metrics::SourceMetrics;
use crate::node::NodeState;
use crate::shutdown::Shutdown;

/// Asleep, the outbox is looked at this often although no bell rang: a bell may get lost, a change may not.
const SAFETY: Duration = Duration::from_secs(1);
/// After a change, so often is noted how far the log is on disk: cursors up to there survive a crash.
const DURABLE: Duration = Duration::from_secs(1);
/// Where no bell can ring (two-phase commit, a proxy that keeps them), the outbox is looked at this often.
const POLL: Duration = Duration::from_millis(25);
/// While nothing happens, delivery is told so often where the stream has come to, so that cursors do not grow old.
const TELL: Duration = Duration::from_secs(60);
/// Reconnecting: full jitter over 50 ms doubled up to this, which is how long a server that is back may stay unnoticed.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// One attempt may take so long, the search for the latest changes included.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Connected for this long, the next failure starts the backoff again.
const HEALTHY: Duration = Duration::from_secs(10);

/// Where a relay begins.
#[derive(Debug, Clone)]
pub enum Begin {
    /// with the latest changes, so that a client that was connected before can resume from memory
    Latest,
    /// the same, and not later than after this position
    LatestSince(Position),
    /// after this position: it goes on
    After(Position),
}

/// The first connect.
#[derive(Debug, Clone)]
pub struct First {
    /// where the relay begins
    pub begin: Begin,
    /// how long it is tried where the connection fails, which may pass
    pub patience: Duration,
}

/// What a relay is connected to, besides the database.
#[derive(Debug, Clone)]
pub struct Ports {
    /// where the changes are told
    pub out: mpsc::Sender<Event>,
    /// delivery's hints
    pub feedback: Arc<Feedback>,
    /// where it says what it needs no more
    pub node: Arc<NodeState>,
    /// where it counts
    pub metrics: Arc<SourceMetrics>,
}

/// Follows the outbox until the shutdown: tells its port `out` every change from where it begins, over any number of lost
/// connections.
///
/// # Errors
/// Only from the first connect: a wrong password, a missing schema, a standby; and, after its patience, a connection that is lost
/// before capture is live. Afterwards it tries for ever.
pub async fn run(database: Database, first: First, ports: Ports, shutdown: Shutdown) -> Result<()> {
    // beside the loop, and not on its thread, which pauses by sleeping
    let directory = Directory::open(&database, &Handle::current())?;
    // where sockets are written, a read would wait for a whole pass over them to be sent, and once more for its answer
    thread::run("relay", move || follow(database, directory, first, ports, shutdown)).await
}

async fn follow(
    database: Database,
    directory: Directory,
    first: First,
    ports: Ports,
    mut shutdown: Shutdown,
) -> Result<()> {
    let channels = Arc::new(Mutex::new(ChannelList::of(directory)));
    let First { begin, patience } = first;
    let (mut attempt, began) = (0_u32, Instant::now());
    let mut relay = loop {
        let connecting = Relay::connect(&database, &channels, begin.clone(), &ports);
        let connected = tokio::select! {
            connected = in_time((attempt > 0).then_some(&database), connecting) => connected,
            () = shutdown.begun() => return Ok(()),
        };
        match connected {
            // it could be reached, and was restarted meanwhile, or has no connection left
            Err(error) if (error.kind() == Kind::Connection || error.may_pass()) && began.elapsed() < patience => {
                attempt += 1;
                tell_failed(&error, attempt, &ports.metrics);
                tokio::select! {
                    () = pause_before(attempt) => {}
                    () = shutdown.begun() => return Ok(()),
                }
            }
            connected => break connected?,
        }
    };
    loop {
        let connected = Instant::now();
        let ended = relay.doorbell.wait_until_lost();
        let lost = tokio::select! {
            Err(lost) = relay.follow() => lost,
            () = ended => doorbell::lost(),
            () = shutdown.begun() => return Ok(()),
        };
        let position = relay.into_position();
        if connected.elapsed() > HEALTHY {
            attempt = 0;
        }
        ports.metrics.note_told(lost.kind());
        tracing::warn!(event = "source_down", error = error::chain(&lost), connected_s = connected.elapsed().as_secs());
        let reason = "the connection to the database is lost; changes are delayed, not lost".into();
        if ports.out.send(Event::Down { reason }).await.is_err() {
            return Ok(());
        }
        relay = loop {
            tokio::select! {
                () = pause_before(attempt) => {}
                () = shutdown.begun() => return Ok(()),
            }
            attempt += 1;
            ports.metrics.count_reconnect();
            let begin = Begin::After(position.clone());
            let connecting = Relay::connect(&database, &channels, begin, &ports);
            let connected = tokio::select! {
                connected = in_time((attempt > 0).then_some(&database), connecting) => connected,
                () = shutdown.begun() => return Ok(()),
            };
            match connected {
                Ok(relay) => break relay,
                Err(error) => tell_failed(&error, attempt, &ports.metrics),
            }
        };
    }
}

/// One attempt; `again` where it is not the first: what was proven of the connection before may be another way now. A server that
/// is frozen accepts connections and says nothing.
async fn in_time(again: Option<&Database>, connecting: impl Future<Output = Result<Relay>>) -> Result<Relay> {
    let attempt = timeout(CONNECT_WITHIN, async {
        if let Some(database) = again {
            database.prove_own().await?;
        }
        connecting.await
    });
    attempt.await.unwrap_or_else(|_| Err(Error::new(Kind::Connection, "the server does not answer")))
}

/// Waits before the database is tried again, after so many attempts.
async fn pause_before(attempt: u32) {
    let ceiling = BACKOFF_MAX.min(Duration::from_millis(50).saturating_mul(2_u32.saturating_pow(attempt)));
    tokio::time::sleep(ceiling.mul_f64(fastrand::f64())).await;
}

fn tell_failed(error: &Error, attempt: u32, metrics: &SourceMetrics) {
    let (error, remedy, kind) = (error::chain(error), error.remedy(), error.kind());
    // the first one has the remedy, whatever else has told of the outage before
    if metrics.tells(kind) || attempt == 1 {
        tracing::warn!(event = "reconnect_failed", attempt, error, remedy);
    } else {
        tracing::debug!(event = "reconnect_failed", attempt, error);
    }
}

/// One pair of connections: the doorbell and the reader.
struct Relay {
    doorbell: Doorbell,
    reader: CutReader,
    rhythm: Rhythm,
    woken: Woken,
    ports: Ports,
    /// delivery waits for the present: a subscriber is ahead of what was read
    is_asked: bool,
    /// when delivery was last told a position
    told: Instant,
    durable_noted: Instant,
}

impl Relay {
    async fn connect(
        database: &Database,
        channels: &Arc<Mutex<ChannelList>>,
        begin: Begin,
        ports: &Ports,
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
        let incarnations = Arc::new(epoch::note(&client).await?);
        let epoch = incarnations.epoch;
        let (start, position) = match begin {
            Begin::Latest => (Start::First, Position::recent(&client, incarnations).await?),
            Begin::LatestSince(position) => {
                (Start::First, Position::recent_since(&client, incarnations, position).await?)
            }
            Begin::After(position) => match position.continued_in(&client, incarnations.clone()).await? {
                Some(position) => (Start::Continues, position),
                // what is read once more would reach the sockets that are open a second time
                None => (Start::Gap(Gap::Failover), Position::present(&client, incarnations).await?),
            },
        };
        // free: the reader of the connection before this one is gone
        let mut channels = channels.clone().lock_owned().await;
        channels.follow(epoch);
        let mut reader = CutReader::prepare(client, position, channels, ports.out.clone()).await?;
        reader.announce_channels().await?;
        // a relay that goes on reads what was revoked meanwhile; one that begins, or has left out something, does not
        if start != Start::Continues {
            reader.announce_revoked().await?;
        }
        reader.announce_position(start).await?;
        if start == Start::Gap(Gap::Failover) {
            tracing::error!(
                event = "gap",
                reason = "failover",
                "changes at the end of the server's last life are lost"
            );
        }
        if !doorbell.works() {
            tracing::error!(
                event = "doorbell_silent",
                "a notification to ourselves did not come back: something between here and Postgres keeps it; connect to Postgres itself; polling until then"
            );
        }
        Ok(Self {
            doorbell,
            reader,
            rhythm: Rhythm::default(),
            woken: Woken::ByRate,
            ports: ports.clone(),
            is_asked: true,
            told: Instant::now(),
            durable_noted: Instant::now(),
        })
    }

    fn into_position(self) -> Position {
        self.reader.position().clone()
    }

    /// Catches up, then follows. It is here and not in `connect` that the first cut is read: when the connection
    /// breaks inside it, what was delivered counts.
    async fn follow(&mut self) -> Result<Infallible> {
        self.read(false).await?;
        self.reader.announce_live().await?;
        tracing::info!(event = "source_live", channels = self.reader.catalog().channels().len());
        loop {
            if self.must_poll() {
                self.poll().await?;
            } else {
                self.awake().await?;
                if self.fall_asleep().await? {
                    self.asleep().await?;
                }
                sleep::wake(self.reader.client()).await?;
            }
        }
    }

    /// No bell rings, none arrives, or the queue fills because some listener does not read it.
    fn must_poll(&self) -> bool {
        !self.doorbell.works() || self.reader.catalog().bell_is_off || self.reader.catalog().queue_usage > 0.25
    }

    async fn poll(&mut self) -> Result<()> {
        self.ports.metrics.set_mode("polling");
        while self.must_poll() {
            if self.read(false).await?.rows == 0 {
                self.doorbell.wait(POLL).await?;
                self.doorbell.take();
            }
        }
        Ok(())
    }

    /// Steps 2 and 3 of the sleep protocol: read again and again while many changes come.
    async fn awake(&mut self) -> Result<()> {
        self.ports.metrics.set_mode("awake");
        let mut holds_quiet = false;
        let mut pace = Pace::new(Instant::now(), self.woken);
        let mut in_vain = 0;
        loop {
            let began = Instant::now();
            let found = self.read(holds_quiet).await?;
            let took = began.elapsed();
            in_vain = if found.rows > 0 { 0 } else { in_vain + 1 };
            if pace.is_slow(Instant::now(), found.rows > 0)
                && sleep::announce(self.reader.client(), holds_quiet).await?
            {
                return Ok(());
            }
            if holds_quiet && !found.may_keep_quiet {
                sleep::give_quiet_back(self.reader.client()).await?;
                holds_quiet = false;
            } else if !holds_quiet {
                holds_quiet = sleep::take_quiet(self.reader.client()).await?;
            }
            // not by the timer of the runtime, which has steps of a millisecond and rounds up. What else lives on this
            // thread, the drivers of its two connections, has nothing to do meanwhile. Bells do not shorten it: some relay may still be asleep
            std::thread::sleep(pause_after(took, self.ports.feedback.take_longest_pass(), found, in_vain));
            self.doorbell.check()?;
            self.doorbell.take();
        }
    }

    /// Steps 5 to 7: after this, whatever was written without a ring has been read. Not when it gets busy again, as
    /// beside a transaction that stays open: there every writer would ring until it ends.
    async fn fall_asleep(&mut self) -> Result<bool> {
        self.rhythm.note_asleep(Instant::now());
        let mut pause = Duration::from_millis(1);
        while !sleep::bell_rings(self.reader.client()).await? {
            // another relay gives QUIET back at its next read; a stopped or hostile holder keeps us polling
            self.read(false).await?;
            self.doorbell.wait(pause).await?;
            self.doorbell.take();
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        let barrier = sleep::draw_barrier(self.reader.client()).await?;
        let (began, mut rang) = (Instant::now(), false);
        while self.read(false).await?.xmin <= barrier {
            // behind the read: bells that rang during it say that one read follows the other
            if self.is_to_wake(rang).await? {
                return Ok(false);
            }
            // a transaction that is open for minutes is seen at most 5 % of its age late; everything else rings
            let pause = (began.elapsed() / 20).clamp(Duration::from_millis(2), Duration::from_millis(50));
            self.doorbell.wait(pause).await?;
            let bells = self.doorbell.take();
            self.ports.metrics.count_bells(bells);
            rang = bells > 0;
        }
        Ok(true)
    }

    /// Step 8: a bell is answered by a read, until there are many.
    async fn asleep(&mut self) -> Result<()> {
        self.ports.metrics.set_mode("asleep");
        // whether the clock, not a bell, has led to changes: their bell may be on its way
        let mut has_found_unrung = false;
        loop {
            let feedback = self.ports.feedback.clone();
            let (rung, nudged) = tokio::select! {
                rung = self.doorbell.wait(SAFETY) => (rung?, false),
                () = feedback.nudged() => (false, true),
                // what was read is taken over by the next read
                () = self.reader.wait_for_channels() => (false, true),
            };
            let bells = self.doorbell.take();
            self.ports.metrics.count_bells(bells);
            self.is_asked |= nudged;
            if !rung && !nudged && has_found_unrung {
                self.ports.metrics.count_safety_find();
            }
            has_found_unrung &= nudged;
            let found = self.read(false).await?;
            has_found_unrung |= !rung && !nudged && found.rows > 0;
            if self.is_to_wake(bells > 0).await? || self.must_poll() {
                return Ok(());
            }
        }
    }

    /// After bells were answered: whether writers are better off with a relay that is awake.
    async fn is_to_wake(&mut self, rang: bool) -> Result<bool> {
        let woken = match self.rhythm.note(Instant::now(), rang, self.doorbell.has_rung()) {
            Bells::Few => return Ok(false),
            Bells::Many => Woken::ByRate,
            Bells::Some(within) => {
                if self.doorbell.wait(within.mul_f64(fastrand::f64())).await? {
                    return Ok(false);
                }
                let began = Instant::now();
                let are_waiting = sleep::writers_wait(self.reader.client()).await?;
                let Some(until) = self.rhythm.note_waiting(Instant::now(), began.elapsed(), are_waiting) else {
                    return Ok(false);
                };
                Woken::ByWaiting(until)
            }
        };
        self.woken = woken;
        Ok(true)
    }

    async fn read(&mut self, holds_quiet: bool) -> Result<Found> {
        if self.ports.feedback.take_doubt() {
            self.reader.look_at_channels();
        }
        self.reader.renew_channels().await?;
        let asked_now = tokio::select! {
            biased;
            () = self.ports.feedback.nudged() => true,
            () = std::future::ready(()) => false,
        };
        let tell = std::mem::take(&mut self.is_asked) | asked_now || self.told.elapsed() > TELL;
        let found = self.reader.read(holds_quiet, tell).await?;
        if tell || found.rows > 0 {
            self.told = Instant::now();
            self.ports.node.note_seen(Some(self.reader.position().seen()));
        }
        self.ports.metrics.count_read(found.rows);
        if self.durable_noted.elapsed() > DURABLE && self.reader.position().is_waiting_for_the_disk() {
            self.durable_noted = Instant::now();
            self.reader.note_durable().await?;
        }
        Ok(found)
    }
}
