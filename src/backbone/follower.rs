//! The stream → what the source would tell. Owns how far this node has read, and when it says that nothing comes; what of a
//! cut is news is `merge`'s, where to have what is missing is `missing`'s.

mod health;
mod missing;
mod newer;

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use health::Health;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::append::{self, StreamState};
use super::entry::{self, Entry};
use super::link::{self, Link, RedisConnection, backoff};
use super::merge::{self, Step};
use super::stream::{self, AT_A_TIME, Clock, Id, locate};
use super::{StreamKeys, asked};
use crate::change::{Cut, Event, Start};
use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::error::{self, Error, Kind, Result};
use crate::feedback::Feedback;
use crate::incarnations::Incarnations;
use crate::metrics::SourceMetrics;
use crate::request::Request;
use crate::shutdown::Shutdown;

pub use health::SILENT;

/// Which entry is read next.
enum Next {
    /// the next one
    On,
    /// the one after this, which was read before: something is missing
    Back(Id),
}

/// What a follower needs.
pub struct Follower {
    link: Link,
    keys: StreamKeys,
    out: mpsc::Sender<Event>,
    /// reads what the stream has lost from the outbox, where this node has a database
    outbox: Option<mpsc::Sender<Request>>,
    metrics: Arc<SourceMetrics>,
    history_bytes: u64,
    position: Option<Cursor>,
    incarnations: Option<Arc<Incarnations>>,
    /// the last entry that was read
    read: Id,
    /// catalogues up to this entry are older than the one that this node has
    catalogue_of: Id,
    /// entries read at a time: fewer where the way to Redis is slow
    at_a_time: usize,
    /// the entry for which the stream was searched already
    searched_for: Option<Id>,
    /// entries of a later format up to this one are passed over: an older version has written again behind them
    passed_until: Id,
    /// the publisher is connected to Postgres
    publishes: bool,
    /// when the publisher was last heard
    heard: Instant,
    /// delivery was told that changes arrive
    is_live: bool,
}

impl Follower {
    /// A follower that has read nothing yet.
    pub fn new(
        link: Link,
        keys: StreamKeys,
        out: mpsc::Sender<Event>,
        outbox: Option<mpsc::Sender<Request>>,
        metrics: Arc<SourceMetrics>,
        history_bytes: u64,
    ) -> Self {
        Self {
            link,
            keys,
            out,
            outbox,
            metrics,
            history_bytes,
            position: None,
            incarnations: None,
            read: Id::default(),
            catalogue_of: Id::default(),
            at_a_time: AT_A_TIME,
            searched_for: None,
            passed_until: Id::default(),
            publishes: false,
            heard: Instant::now(),
            is_live: false,
        }
    }

    /// The first connection. Redis may start after this node, or be failing over.
    async fn first_connection(&self, patience: Duration) -> Result<RedisConnection> {
        let (mut attempt, began) = (0, Instant::now());
        loop {
            let connecting = async {
                let mut connection = self.link.connect().await?;
                append::state(&mut connection, &self.keys).await?;
                Ok::<_, Error>(connection)
            };
            match connecting.await {
                Err(error)
                    if error.kind() == Kind::Connection && !link::is_refused(&error) && began.elapsed() < patience =>
                {
                    attempt += 1;
                    // a line at the first, and then at each tenth
                    if attempt % 10 == 1 {
                        let (error, remedy) = (error::chain(&error), error.remedy());
                        tracing::warn!(event = "reconnect_failed", attempt, error, remedy);
                    }
                    tokio::time::sleep(backoff(attempt)).await;
                }
                connected => return connected,
            }
        }
    }

    /// Follows the stream until the shutdown, over any number of lost connections.
    ///
    /// # Errors
    /// Only from the first connection: a wrong password at once, a Redis that is away after `patience`. Afterwards it tries for
    /// ever.
    pub async fn run(mut self, feedback: Arc<Feedback>, patience: Duration, mut shutdown: Shutdown) -> Result<()> {
        self.metrics.set_mode("stream");
        let mut connection = tokio::select! {
            connected = self.first_connection(patience) => connected?,
            () = shutdown.begun() => return Ok(()),
        };
        // ended when this function ends
        let mut asking = JoinSet::new();
        asking.spawn(asked::ask(self.link.clone(), self.keys.clone(), feedback));
        let mut attempt = 0;
        loop {
            let lost = tokio::select! {
                Err(lost) = self.follow(connection) => lost,
                Some(_) = asking.join_next() => return Err(Error::new(Kind::Io, "the task that asks the publisher has ended")),
                () = shutdown.begun() => return Ok(()),
            };
            if self.out.is_closed() {
                return Ok(());
            }
            let was_live = self.is_live;
            tracing::warn!(event = "source_down", error = error::chain(&lost), remedy = lost.remedy());
            self.tell_down("the connection to the stream is lost; changes are delayed, not lost").await?;
            attempt = if was_live { 0 } else { attempt };
            connection = loop {
                self.metrics.count_reconnect();
                tokio::select! {
                    () = tokio::time::sleep(backoff(attempt)) => {}
                    () = shutdown.begun() => return Ok(()),
                }
                attempt += 1;
                let connected = tokio::select! {
                    connected = self.link.connect() => connected,
                    () = shutdown.begun() => return Ok(()),
                };
                match connected {
                    Ok(connection) => break connection,
                    Err(error) => tracing::warn!(event = "reconnect_failed", attempt, error = error::chain(&error)),
                }
            };
        }
    }

    /// Reads on from where this node is.
    async fn follow(&mut self, mut connection: RedisConnection) -> Result<Infallible> {
        let connected = Instant::now();
        let mut clock = Clock::of(&mut connection).await?;
        self.refuse_newer(&mut connection).await?;
        let state = self.stream_begins(&mut connection).await?;
        self.find_position(&mut connection, &state).await?;
        loop {
            let asked = self.at_a_time;
            let read = stream::read_after(&mut connection, &self.keys, self.read, asked).await;
            self.at_a_time = if read.is_ok() { AT_A_TIME.min(asked * 2) } else { 1.max(asked / 2) };
            let read = read?;
            for raw in &read {
                let id = raw.id;
                self.metrics.count_entry();
                self.heard = clock.when(id);
                let next = match raw.entry() {
                    Ok(entry) => self.understand(&mut connection, id, entry).await?,
                    Err(_) if raw.newer().is_some() => {
                        self.pass(&mut connection, id).await?;
                        Next::On
                    }
                    Err(bad) => {
                        tracing::error!(event = "entry_malformed", id = %id, what = bad.0, "skipped");
                        Next::On
                    }
                };
                // not before: a follower that loses the connection in between reads the entry once more
                match next {
                    Next::On => self.read = id,
                    Next::Back(earlier) => {
                        self.read = earlier;
                        break;
                    }
                }
            }
            if read.is_empty() {
                // nothing new, or Redis has lost what was read already and begins again below it
                let state = self.stream_begins(&mut connection).await?;
                if Id::parse(&state.last).is_none_or(|last| last < self.read) {
                    self.find_position(&mut connection, &state).await?;
                }
                clock = Clock::of(&mut connection).await?;
            }
            if read.len() < asked {
                self.say_how_it_is(connected).await?;
            }
        }
    }

    async fn say_how_it_is(&mut self, connected: Instant) -> Result<()> {
        match Health::of(self.heard.elapsed(), connected.elapsed(), self.publishes, self.position.is_some()) {
            Health::Live if !self.is_live => {
                self.is_live = true;
                self.send(Event::Live).await?;
                tracing::info!(event = "source_live", stream = self.keys.changes);
                Ok(())
            }
            Health::Live | Health::Waiting => Ok(()),
            Health::Silent => self.tell_down("no publisher writes the stream; changes are delayed, not lost").await,
            // it may be written elsewhere: a node that connects again asks Sentinels and names again
            Health::Lost => {
                let text = "no publisher writes the stream: is a node with --publish running?";
                Err(Error::new(Kind::Connection, text))
            }
        }
    }

    async fn tell_down(&mut self, reason: impl Into<Cow<'static, str>>) -> Result<()> {
        if std::mem::take(&mut self.is_live) {
            self.send(Event::Down { reason: reason.into() }).await?;
        }
        Ok(())
    }

    /// Waits until there is a stream.
    async fn stream_begins(&mut self, connection: &mut RedisConnection) -> Result<StreamState> {
        let (mut was_told, began) = (false, Instant::now());
        loop {
            if let Some(state) = append::state(connection, &self.keys).await? {
                return Ok(state);
            }
            if !std::mem::replace(&mut was_told, true) {
                tracing::warn!(
                    event = "no_stream",
                    stream = self.keys.changes,
                    "waiting for a publisher: rowcast serve --publish"
                );
            }
            if began.elapsed() > SILENT {
                return Err(Error::new(Kind::Connection, "there is no stream: is a node with --publish running?"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Where to read from: the entry at which this node's position lies, or, for one that has none, some of the latest.
    async fn find_position(&mut self, connection: &mut RedisConnection, state: &StreamState) -> Result<()> {
        self.publishes = state.is_live;
        self.hear_of_the_catalogue(state).await?;
        let last = Id::parse(&state.last).unwrap_or_default();
        // the ids of a stream that has lost entries say nothing of what was read
        if self.position.is_some() && last < self.read {
            self.read = Id::default();
        }
        // of one that has read nothing yet, all of them
        self.hear_of_revocations(state).await?;
        if let Some(position) = &self.position {
            if self.read == Id::default() {
                let begin = self.locate(connection, state, &position.seen).await?;
                self.read = begin.map_or(Id::default(), Id::before);
                tracing::info!(event = "stream_rewound", position = %self.read, "Redis has lost entries that were read");
            }
            return Ok(());
        }
        let begin = stream::recent(connection, &self.keys, state, self.history_bytes, self.at_a_time).await;
        if begin.is_err() {
            // as the reading of new ones does
            self.at_a_time = 1.max(self.at_a_time / 2);
        }
        let begin = begin?;
        self.read = begin.map_or(last, Id::before);
        Ok(())
    }

    /// The entry at which a position lies: behind the last restart of the stream, or before it, where the node has yet to
    /// read of the restart. Positions of the two parts have no order, as they may be of two databases.
    async fn locate(
        &self,
        connection: &mut RedisConnection,
        state: &StreamState,
        seen: &Snapshot,
    ) -> Result<Option<Id>> {
        let restart = Id::parse(&state.restart).unwrap_or_default();
        match locate(connection, &self.keys, restart, seen).await? {
            None if restart > Id::default() => locate(connection, &self.keys, Id::default(), seen).await,
            found => Ok(found),
        }
    }

    async fn understand(&mut self, connection: &mut RedisConnection, id: Id, entry: Entry) -> Result<Next> {
        let Entry { at, to: _, event } = entry;
        // a cut says by itself what is missing before it
        if let Some(at) = at.as_ref().filter(|_| !matches!(event, Some(Event::Cut(_) | Event::From { .. })))
            && let Some(earlier) = self.fill(connection, id, at).await?
        {
            return Ok(Next::Back(earlier));
        }
        match event {
            None => {}
            Some(Event::Live) => self.publishes = true,
            Some(Event::Down { reason }) => {
                self.publishes = false;
                self.tell_down(reason).await?;
            }
            Some(Event::From { boundary, incarnations, start, inside }) => {
                self.goes_on_from(at.as_ref(), boundary, incarnations, start, inside).await?;
            }
            Some(Event::Cut(cut)) => {
                if self.position.is_none() {
                    let Some(at) = at.as_ref().filter(|at| at.inside.is_none()) else { return Ok(Next::On) };
                    self.begin(connection, at.clone()).await?;
                }
                return self.take(connection, id, at.as_ref(), cut).await;
            }
            // older than the one that this node has
            Some(Event::Channels { .. }) if id <= self.catalogue_of => {}
            Some(event @ (Event::Channels { .. } | Event::Gap { .. } | Event::Revoked { .. })) => {
                self.send(event).await?
            }
        }
        Ok(Next::On)
    }

    /// Begins at a position, with no past.
    async fn begin(&mut self, connection: &mut RedisConnection, at: Cursor) -> Result<()> {
        let incarnations = Arc::new(self.present_incarnations(connection).await?);
        self.incarnations = Some(incarnations.clone());
        self.position = Some(at.clone());
        self.send(Event::From { boundary: Boundary::new(at), incarnations, start: Start::First, inside: None }).await
    }

    async fn present_incarnations(&mut self, connection: &mut RedisConnection) -> Result<Incarnations> {
        let state = self.stream_begins(connection).await?;
        entry::incarnations(&state.from).map_err(|bad| malformed(bad.0))
    }

    /// The stream begins at a boundary, or goes on there in another incarnation of the server.
    async fn goes_on_from(
        &mut self,
        at: Option<&Cursor>,
        boundary: Boundary,
        incarnations: Arc<Incarnations>,
        start: Start,
        inside: Option<(Snapshot, i64)>,
    ) -> Result<()> {
        let Some(position) = self.position.clone() else {
            // what of its cut came before is not known here
            if inside.is_some() {
                return Ok(());
            }
            self.incarnations = Some(incarnations.clone());
            self.position = Some(boundary.cursor.clone());
            return self.send(Event::From { boundary, incarnations, start: Start::First, inside: None }).await;
        };
        if at.is_some_and(|at| merge::is_in_sequence(&position, at)) {
            self.incarnations = Some(incarnations.clone());
            self.position = Some(Cursor { inside, ..boundary.cursor.clone() });
            return self.send(Event::From { boundary, incarnations, start, inside: None }).await;
        }
        self.move_into(incarnations, boundary).await
    }

    /// Takes this node's position over into an incarnation of the server, or gives it up for `boundary`.
    async fn move_into(&mut self, incarnations: Arc<Incarnations>, boundary: Boundary) -> Result<()> {
        let Some(position) = self.position.clone() else { return Ok(()) };
        self.incarnations = Some(incarnations.clone());
        match incarnations.judge(position.epoch, position.incarnation, position.lsn) {
            Ok(()) => {
                let position = Cursor { incarnation: boundary.cursor.incarnation, ..position };
                let boundary = Boundary::new(Cursor { inside: None, ..position.clone() });
                self.position = Some(position);
                self.send(Event::From { boundary, incarnations, start: Start::Continues, inside: None }).await
            }
            Err(gap) => self.give_up(gap, boundary).await,
        }
    }

    /// Tells what is news of a cut that begins `at` a position.
    async fn take(
        &mut self,
        connection: &mut RedisConnection,
        id: Id,
        at: Option<&Cursor>,
        mut cut: Cut,
    ) -> Result<Next> {
        loop {
            let Some(position) = self.position.clone() else { return Ok(Next::On) };
            cut = match merge::step(&position, at, cut) {
                Step::Skip => return Ok(Next::On),
                Step::Take(cut, next) => {
                    self.position = Some(next);
                    self.send(Event::Cut(cut)).await?;
                    return Ok(Next::On);
                }
                Step::AnotherLife(cut) => {
                    let from = cut.from.clone();
                    let is_earlier =
                        |known: &Arc<Incarnations>| known.is_earlier(from.incarnation, position.incarnation);
                    if from.epoch == position.epoch && self.incarnations.as_ref().is_some_and(is_earlier) {
                        // of an incarnation that this node has left behind already
                        return Ok(Next::On);
                    }
                    let incarnations = Arc::new(self.present_incarnations(connection).await?);
                    self.move_into(incarnations, Boundary::new((*from).clone())).await?;
                    cut
                }
                Step::Missing(until, cut) => {
                    if let Some(earlier) = self.search(connection, id).await? {
                        return Ok(Next::Back(earlier));
                    }
                    self.heal(&position, until, (*cut.from).clone()).await?;
                    cut
                }
            };
        }
    }

    async fn send(&self, event: Event) -> Result<()> {
        self.out.send(event).await.map_err(|_| Error::new(Kind::Io, "delivery has ended"))
    }
}

fn malformed(what: &str) -> Error {
    Error::new(Kind::Protocol, format!("the stream's state cannot be read: {what}"))
}
