//! One of several candidates publishes. Owns the election and the publisher's term: what the source tells goes into the
//! stream; knows no subscriber.
//!
//! Whose session stands in `rowcast.publisher` is the publisher, as long as it lives. That spares work, no more: that nothing
//! is written twice or out of order is what [`append`] sees to, so a publisher whose connection is lost writes on until
//! somebody else has written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::append::{self, Appender, Moved};
use super::entry::{self, Said};
use super::follower::SILENT;
use super::link::{Link, RedisConnection, backoff};
use super::{StreamKeys, asked};
use crate::change::{Event, Start};
use crate::cursor::{Boundary, Cursor};
use crate::error::{self, Error, Kind, Result};
use crate::feedback::Feedback;
use crate::metrics::SourceMetrics;
use crate::node::NodeState;
use crate::shutdown::{self, Shutdown};
use crate::source::epoch;
use crate::source::pool::{Database, DatabaseSession, Purpose};
use crate::source::position::Position;
use crate::source::relay::{self, Begin, First, Ports};

/// Whether this session is the publisher, of which there is one.
const TAKE: &str = "select rowcast.take_publishing($1,
    (select backend_start from pg_catalog.pg_stat_activity where pid = pg_catalog.pg_backend_pid()), $2)";
/// Ends the session of the publisher that was, as far as that is allowed: nothing depends on it.
const END_HOLDER: &str = "select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a
    where a.datname = pg_catalog.current_database() and a.application_name ~ '^rowcast publish ' and a.pid <> pg_catalog.pg_backend_pid()
      and (a.pid = (select p.pid from rowcast.publisher p)
           or exists (select from pg_catalog.pg_locks l where l.pid = a.pid and l.locktype = 'advisory' and l.classid = 1919907683
                         and l.objid = 7 and l.objsubid = 2 and l.granted))";
/// Over a Unix socket they are accepted and mean nothing.
const KEEPALIVES: &str = "set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 3; \
    set tcp_user_timeout = 5000";
/// A candidate looks so often whether it is needed, and a publisher whether it still is. Never by waiting:
/// a statement that waits holds back vacuum.
const LOOK: Duration = Duration::from_secs(1);
/// A database that is frozen accepts connections and says nothing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// A follower takes a publisher that is silent for several of these for gone.
const BEAT: Duration = Duration::from_secs(1);
/// So often it is tried to reach Redis again before it is left to others.
const RETRIES: u32 = 3;
/// Chunks of cuts on their way into the stream.
const EVENTS: usize = 4;

/// What a candidate needs.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// where changes come from
    pub database: Database,
    /// where they go
    pub link: Link,
    /// the stream
    pub keys: StreamKeys,
    /// entries older than this leave the stream
    pub retention: Duration,
    /// the process; what it needs of the outbox is what the stream has not got
    pub node: Arc<NodeState>,
    /// of the process; what the publisher's relay reads is counted there
    pub metrics: Arc<SourceMetrics>,
}

/// What this candidate has written into the stream.
#[derive(Debug, Default)]
struct OwnEntries {
    /// entries but for beats
    entries: u64,
    /// the position after the last one, while nobody else wrote
    until: Option<Cursor>,
}

impl Candidate {
    /// Is the publisher whenever no other candidate is, until the shutdown.
    pub async fn run(self, mut shutdown: Shutdown) {
        let mut attempt = 0;
        let mut written = OwnEntries::default();
        loop {
            let turn = async {
                // a candidate that cannot reach Redis leaves it to others
                let mut connection = self.link.connect().await?;
                append::state(&mut connection, &self.keys).await?;
                let session = self.wait_to_publish(connection, &mut written).await?;
                self.node.set_publishing(true);
                tracing::info!(event = "publisher", stream = self.keys.changes, redis = %self.link);
                self.hold(session, &mut written).await
            };
            let ended = tokio::select! {
                ended = turn => ended,
                () = shutdown.begun() => return,
            };
            let was_publisher = self.node.set_publishing(false);
            match ended {
                Ok(()) => tracing::info!(event = "publisher_ended", "another candidate publishes"),
                Err(error) if error.kind() == Kind::Config => {
                    tracing::error!(event = "cannot_publish", error = error::chain(&error), remedy = error.remedy());
                }
                Err(error) => {
                    tracing::warn!(event = "cannot_publish", error = error::chain(&error), remedy = error.remedy());
                }
            }
            attempt = if was_publisher { 0 } else { attempt + 1 };
            // long enough for another candidate to begin
            let pause = if was_publisher { 2 * LOOK } else { backoff(attempt) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Publishes as long as this candidate is the publisher and reaches Redis. Its end, without an error: another one is.
    async fn hold(&self, mut session: DatabaseSession, written: &mut OwnEntries) -> Result<()> {
        let mut in_vain = 0;
        loop {
            let before = written.entries;
            let lost = match self.publish(&mut session, written).await {
                Ok(Yielded::Moved) => {
                    tracing::info!(event = "stream_moved", "the stream does not end where this publisher wrote last");
                    continue;
                }
                Ok(Yielded::Replaced) => return Ok(()),
                Err(error) if error.kind() == Kind::Config => return Err(error),
                Err(error) => error,
            };
            in_vain = if written.entries > before { 0 } else { in_vain + 1 };
            if in_vain == RETRIES {
                return Err(lost);
            }
            // Postgres or Redis, it may be back in a moment: an election takes longer
            tracing::warn!(event = "publisher_interrupted", error = error::chain(&lost), remedy = lost.remedy());
            let mut left = RETRIES;
            while !matches!(timeout(LOOK, self.link.connect()).await, Ok(Ok(_))) {
                left -= 1;
                if left == 0 {
                    return Err(lost);
                }
                tokio::time::sleep(backoff(RETRIES - left)).await;
            }
            tokio::time::sleep(backoff(in_vain)).await;
            if !self.is_publisher_still(&mut session).await {
                return Ok(());
            }
        }
    }

    /// Waits until nobody else is the publisher, or the one that is has fallen silent; the session is the publisher's.
    async fn wait_to_publish(
        &self,
        mut connection: RedisConnection,
        written: &mut OwnEntries,
    ) -> Result<DatabaseSession> {
        let session = timeout(ANSWERS_WITHIN, self.session()).await.map_err(|_| silent())??;
        let (mut last, mut heard) = (String::new(), Instant::now());
        loop {
            if self.takes(&session, false).await? {
                return Ok(session);
            }
            // another one cares for what is not read yet, and has written since
            written.until = None;
            self.node.note_seen(None);
            tokio::time::sleep(LOOK.mul_f64(0.5 + fastrand::f64())).await;
            let now = append::state(&mut connection, &self.keys).await?.map(|state| state.last).unwrap_or_default();
            if now != last {
                (last, heard) = (now, Instant::now());
            } else if heard.elapsed() > SILENT {
                // stopped, or its machine is gone without a word. Should it wake up, it cannot write any more
                tracing::warn!(event = "publisher_silent", seconds = SILENT.as_secs(), "its place is taken");
                if let Err(error) = session.execute(END_HOLDER, &[]).await {
                    tracing::info!(event = "publisher_session_left", %error, "it is no publisher any more all the same");
                }
                if self.takes(&session, true).await? {
                    return Ok(session);
                }
                heard = Instant::now();
            }
        }
    }

    async fn session(&self) -> Result<DatabaseSession> {
        let session = self.database.session(Purpose::Publish).await?;
        // the server, too, must notice a dead client, whose session would keep others from publishing
        session.batch_execute(KEEPALIVES).await.map_err(|e| Error::database("cannot set up the session", e))?;
        // a session of ours whose connection broke without a word may be the publisher's
        let ours = self.database.application_name(Purpose::Publish);
        session
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where application_name = $1 and pid <> pg_backend_pid() and usename = current_user",
                &[&ours],
            )
            .await
            .map_err(|e| Error::database("cannot end stale connections", e))?;
        Ok(session)
    }

    /// Goes on where the stream ends, until somebody else writes or publishes. Where there is no stream any more, not
    /// later than after what this candidate has written.
    async fn publish(&self, session: &mut DatabaseSession, written: &mut OwnEntries) -> Result<Yielded> {
        let mut connection = self.link.connect().await?;
        let state = append::state(&mut connection, &self.keys).await?;
        let epoch = timeout(ANSWERS_WITHIN, epoch::note(session)).await.map_err(|_| silent())??.epoch;
        if state.as_ref().is_some_and(|state| state.to.epoch != epoch) {
            let text = format!("the stream {} holds the changes of another database", self.keys.changes);
            let hint = format!(
                "choose another --redis-stream, or delete the keys {} and {}",
                self.keys.changes, self.keys.state
            );
            return Err(Error::new(Kind::Config, text).hint(hint));
        }
        let (last, to, catalogue) =
            state.map_or_else(Default::default, |state| (state.last, Some(state.to), state.channels));
        // the end of the first cut may be far, if it is all that waits: until then the outbox keeps what is behind here
        if let Some(to) = to.as_ref().or(written.until.as_ref()) {
            self.node.note_seen(Some(&to.seen));
        }
        let begin = match (&to, &written.until) {
            (Some(to), _) => Begin::After(Position::taken_over(to.clone())),
            (None, Some(wrote)) => Begin::LatestSince(Position::taken_over(wrote.clone())),
            (None, None) => Begin::Latest,
        };
        let appender = Appender::new(connection, self.keys.clone(), self.retention, last);
        let (node, metrics) = (&*self.node, &*self.metrics);
        let mut writer = EntryWriter { appender, to, catalogue, entries: &mut written.entries, node, metrics };

        let (events, told) = mpsc::channel(EVENTS);
        let feedback = Arc::new(Feedback::default());
        // dropped at the end of this function, which ends the relay
        let (_trigger, relay_ends) = shutdown::channel();
        let mut tasks = JoinSet::new();
        // how far the relay has read is not how far the stream has come
        let ports = Ports {
            out: events,
            feedback: feedback.clone(),
            node: Arc::default(),
            metrics: self.metrics.of_publisher(),
        };
        // one that does not come to the database gives the role to another candidate
        let first = First { begin, patience: Duration::ZERO };
        let relay = relay::run(self.database.clone(), first, ports, relay_ends);
        tasks.spawn(relay);
        tasks.spawn(asked::listen(self.link.clone(), self.keys.clone(), feedback));
        let ended = tokio::select! {
            ended = writer.write(told) => ended,
            Some(ended) = tasks.join_next() => match ended {
                Ok(Err(error)) => Err(error),
                _ => Err(Error::new(Kind::Io, "the relay has ended")),
            },
            () = self.wait_until_replaced(session) => Ok(Yielded::Replaced),
        };
        // an attempt that wrote nothing leaves it as it was
        written.until = writer.to.or(written.until.take());
        ended
    }

    /// Returns once another candidate publishes.
    async fn wait_until_replaced(&self, session: &mut DatabaseSession) {
        while self.is_publisher_still(session).await {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether this candidate is still the publisher, or is it again where the connection was lost. Waits for the database.
    async fn is_publisher_still(&self, session: &mut DatabaseSession) -> bool {
        let mut attempt = 0;
        loop {
            if let Ok(is_publisher) = self.takes(session, false).await {
                return is_publisher;
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
            if let Ok(Ok(again)) = timeout(ANSWERS_WITHIN, self.session()).await {
                *session = again;
            }
        }
    }

    /// Whether the session is the publisher's now.
    async fn takes(&self, session: &DatabaseSession, replaces: bool) -> Result<bool> {
        let instance = self.database.instance();
        let asked = async { session.query_one(TAKE, &[&instance, &replaces]).await };
        let row = timeout(ANSWERS_WITHIN, asked).await.map_err(|_| silent())?;
        let row = row.map_err(|e| Error::database("cannot ask who publishes", e))?;
        Ok(row.get(0))
    }
}

/// Why a publisher has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Yielded {
    /// the stream does not end where it wrote last
    Moved,
    /// another candidate publishes
    Replaced,
}

fn silent() -> Error {
    Error::new(Kind::Connection, "the database does not answer")
}

/// What the source tells → the stream.
struct EntryWriter<'a> {
    appender: Appender,
    /// the position after the last entry
    to: Option<Cursor>,
    /// the last one, which is read again and again
    catalogue: String,
    /// those that were written
    entries: &'a mut u64,
    node: &'a NodeState,
    metrics: &'a SourceMetrics,
}

impl EntryWriter<'_> {
    async fn write(&mut self, mut told: mpsc::Receiver<Event>) -> Result<Yielded> {
        // a stream begins with a position: what was told before it comes after it
        let mut early: Vec<Event> = Vec::new();
        loop {
            let moved = match timeout(BEAT, told.recv()).await {
                Ok(None) => return Err(Error::new(Kind::Io, "the relay has ended")),
                Ok(Some(event)) if self.to.is_none() && !matches!(event, Event::From { .. }) => {
                    early.push(event);
                    continue;
                }
                Ok(Some(event)) => {
                    let mut moved = self.append(event).await?;
                    for event in early.drain(..) {
                        moved = moved.and(self.append(event).await?);
                    }
                    moved
                }
                Err(_) => match self.to.as_ref().map(Cursor::token) {
                    Some(to) => self.appender.append(&to, &to, &entry::beat(), None).await?,
                    None => continue,
                },
            };
            if moved.is_err() {
                return Ok(Yielded::Moved);
            }
        }
    }

    async fn append(&mut self, mut event: Event) -> Result<Result<(), Moved>> {
        if let Some(to) = &self.to {
            begin_where_the_last_one_ended(&mut event, to);
        }
        let event = &event;
        // a chunk of a cut in which nothing is told, and which does not end it
        if matches!(event, Event::Cut(cut) if cut.changes.is_empty() && cut.end.is_none()) {
            return Ok(Ok(()));
        }
        let said: Said = entry::write(event)
            .map_err(|bad| Error::new(Kind::Protocol, format!("cannot write an entry: {}", bad.0)))?;
        if said.kind == "channels" && std::mem::replace(&mut self.catalogue, said.body.clone()) == said.body {
            return Ok(Ok(()));
        }
        let at = self.to.as_ref().map(Cursor::token).unwrap_or_default();
        let after = entry::position_after(event);
        let to = after.as_ref().map_or_else(|| at.clone(), Cursor::token);
        let appended = self.appender.append(&at, &to, &said, Some(event)).await?;
        if appended.is_ok() {
            *self.entries += 1;
            self.metrics.count_appended(said.body.len() as u64);
            if let Event::Cut(cut) = event
                && let Some(end) = &cut.end
            {
                self.node.note_seen(Some(&end.cursor.seen));
            }
            self.to = after.or(self.to.take());
        }
        Ok(appended)
    }
}

/// The source does not tell of cuts in which nothing is, so what it tells may begin later than the last one that was told
/// ended. Nothing lies between.
fn begin_where_the_last_one_ended(event: &mut Event, to: &Cursor) {
    match event {
        Event::Cut(cut) if cut.from.incarnation == to.incarnation && cut.from.seen != to.seen => {
            cut.from = Arc::new(Cursor { seen: to.seen.clone(), ..(*cut.from).clone() });
        }
        Event::From { boundary, start: Start::Continues, inside, .. }
            if boundary.cursor.incarnation == to.incarnation =>
        {
            *inside = to.inside.clone();
            *boundary = Boundary::new(Cursor { inside: None, ..to.clone() });
        }
        _ => {}
    }
}
