//! Answers what delivery asks for one subscriber: changes of the past, current rows. Owns how many are answered at a
//! time and how long a slow subscriber may take; knows no socket.
//!
//! The answer travels in parts through a channel of one: a subscriber that does not read its past holds the statement, so its
//! time is limited, and while others wait, so is the time for a part. Then the channel closes early, and the subscriber
//! resumes with the cursor it has come to, after those that waited. Whose turn it is says `desk`. Rows, which have no
//! cursor before their end, wait in the `spool`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::bulk::{self, Bulk};
use super::captured::{CHUNK_CHANGES, Captured, Gathered, Teller, chunks, gather, header, text};
use super::catalog::Catalog;
use super::client::{Parameter, Pool};
use super::desk;
use super::epoch;
use super::kept::{self, KEPT, Kept};
use super::outbox;
use super::page;
use super::pool::{Database, Purpose};
use super::position;
use super::shelf::{self, Shelf, ShelfKey, ShelfRead};
use super::snapshot;
use super::spool::{self, Spool};
use super::table::SpareSessions;
use super::turns::Turn;
use crate::change::Change;
use crate::cursor::Snapshot;
use crate::error::{self, Error, Kind, Result};
use crate::incarnations::{Gap, Lineage};
use crate::request::{PageAnswer, ReplayPart, Request, RowsPart};
use crate::room::Room;
use crate::shutdown::Shutdown;

/// Answered at a time; others wait. So many connections are used at most, however many subscribers come back.
const AT_A_TIME: usize = 3;
/// A subscriber gets its answer within this time, or resumes where it got to: an open statement holds back vacuum.
pub(super) const WITHIN: Duration = Duration::from_secs(60);
/// Takes the parts of one answer.
#[derive(Debug)]
pub(super) struct Taker {
    parts: mpsc::Sender<ReplayPart>,
    turn: Turn,
}

/// The subscriber is gone, or keeps others waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotTaken;

impl Taker {
    pub(super) async fn give(&self, part: ReplayPart) -> std::result::Result<(), NotTaken> {
        if self.turn.give(&self.parts, part).await { Ok(()) } else { Err(NotTaken) }
    }
}

/// Answers requests until the shutdown.
pub async fn run(database: Database, pool: Pool, requests: mpsc::Receiver<Request>, shutdown: Shutdown) {
    let (shelf, room, spare) = (Arc::new(Shelf::default()), spool::room(), Arc::new(SpareSessions::default()));
    let sweeping = async {
        let mut sweep = tokio::time::interval(shelf::KEPT);
        loop {
            sweep.tick().await;
            shelf.sweep();
            spare.sweep();
        }
    };
    let answering = desk::serve(requests, AT_A_TIME, shutdown, |request, turn| {
        let (database, pool, shelf) = (database.clone(), pool.clone(), shelf.clone());
        let (room, spare) = (room.clone(), spare.clone());
        async move { answer(database, pool, request, turn, &shelf, room, &spare).await }
    });
    tokio::select! {
        () = answering => {}
        () = sweeping => {}
    }
}

async fn answer(
    database: Database,
    pool: Pool,
    request: Request,
    turn: Turn,
    shelf: &Shelf,
    room: Room,
    spare: &SpareSessions,
) {
    let began = Instant::now();
    let mut deadline = began + WITHIN;
    if request.is_void() {
        return;
    }
    let answered = match request {
        Request::Replay { seen, until, after, lineage, channel, asker: _, answer } => {
            let span = Span { seen, until, after, lineage, channel };
            let taker = Taker { parts: answer, turn };
            match shelf.find(span.shelf_key(), &span.seen, &span.until) {
                Some(read) => timeout_at(deadline, Box::pin(hand_out(&read, &span, &taker))).await,
                None => timeout_at(deadline, Box::pin(replay(&database, &pool, &span, &taker, shelf))).await,
            }
        }
        Request::Snapshot { channel, epoch, predicate, asker, answer, permit: _permit } => {
            let spool = Spool::new(answer.clone(), turn, &room, &asker);
            let has_begun = spool.has_begun();
            let reading =
                snapshot::read((&database, &pool), spare, (&channel, epoch), &predicate, spool, answer.closed());
            deadline = Instant::now() + snapshot::WITHIN;
            let read = timeout_at(deadline, reading).await;
            if let Ok(Err(error)) = &read
                && error.kind() == Kind::Database
                && !has_begun.load(Relaxed)
            {
                let _ = answer.send(if error.may_pass() { RowsPart::Later } else { RowsPart::Refused }).await;
            }
            read
        }
        Request::Page { channel, epoch, predicate, page, shown, asker: _, mut answer, permit: _permit } => {
            let _turn = turn;
            let reading = page::read(&database, spare, (&channel, epoch), &predicate, &page, &shown, answer.closed());
            match timeout_at(deadline, reading).await {
                Ok(Ok(page)) => {
                    if let Some(page) = page {
                        let _ = answer.send(page);
                    }
                    Ok(Ok(()))
                }
                Ok(Err(error)) => {
                    if error.kind() == Kind::Database {
                        let _ = answer.send(if error.may_pass() { PageAnswer::Later } else { PageAnswer::Refused });
                    }
                    Ok(Err(error))
                }
                Err(late) => Err(late),
            }
        }
    };
    match answered {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(event = "replay_failed", error = error::chain(&error)),
        Err(_) => tracing::info!(event = "replay_too_slow", seconds = (deadline - began).as_secs()),
    }
}

/// What a replay reads; see [`Request::Replay`].
struct Span {
    seen: Snapshot,
    until: Snapshot,
    after: i64,
    lineage: Lineage,
    channel: Option<Arc<str>>,
}

impl Span {
    fn shelf_key(&self) -> ShelfKey {
        (self.lineage, self.channel.clone())
    }
}

/// Answers with what was read a moment ago.
async fn hand_out(read: &ShelfRead, span: &Span, answer: &Taker) -> Result<()> {
    let missed: Vec<&Change> = read.missed(&span.seen, &span.until, span.after).collect();
    for chunk in missed.chunks(CHUNK_CHANGES) {
        let chunk = chunk.iter().copied().cloned().collect();
        if answer.give(ReplayPart::Changes(chunk)).await.is_err() {
            return Ok(());
        }
    }
    let _ = answer.give(ReplayPart::Done).await;
    Ok(())
}

async fn replay(database: &Database, pool: &Pool, span: &Span, answer: &Taker, shelf: &Shelf) -> Result<()> {
    let explain = |e| Error::database("cannot read changes of the past", e);
    let session = database.session(Purpose::Replay).await?;
    session.batch_execute(outbox::SESSION).await.map_err(explain)?;
    // a standby is behind, which is an error here; another database has other changes under these numbers
    let noted = epoch::note(&session).await?;
    if noted.epoch != span.lineage.epoch || !noted.know(span.lineage.incarnation) {
        let _ = answer.give(ReplayPart::Gap(Gap::Failover)).await;
        return Ok(());
    }
    let mut catalog = Catalog::load(pool, Some(span.lineage.epoch)).await?;
    // where others wait, which will ask for nearly the same, what all of them ask for is read: up to now
    let mut shared = if span.after == 0 && answer.turn.some_wait() {
        let (now, _) = position::now(&session).await?;
        now.covers(&span.until).then(|| ShelfRead::between(span.seen.clone(), now))
    } else {
        None
    };
    let is_wider = shared.is_some();
    let until = shared.as_ref().map_or(&span.until, ShelfRead::until).clone();
    let channel = span.channel.as_ref().and_then(|name| catalog.id(name));
    let mut giving = Giving { span, answer, is_wider, until, shared: shared.take(), gone: None, last: span.after };
    let (from, to) = (span.seen.to_string(), giving.until.to_string());
    let parameters: [Parameter<'_>; 3] = [&from, &to, &channel];
    let mut rows = Box::pin(session.query_raw(outbox::READ_PAST, parameters).await.map_err(explain)?);
    let header = header(&mut rows).await?;
    // the floors as of the statement's own snapshot: what a prune has taken away is not in the rows
    let is_brief = channel.is_some_and(|id| catalog.get(id).is_some_and(|channel| channel.is_kept_briefly));
    let is_pruned = |kept: &Kept| {
        kept.missed_by(&span.seen).is_some() || (is_brief && kept.missed_briefly_by(&span.seen).is_some())
    };
    let kept = Kept::parse(text(&header, 7).as_deref());
    if is_pruned(&kept) {
        let _ = answer.give(ReplayPart::Gap(Gap::Retention)).await;
        return Ok(());
    }
    let gathered = gather(&mut rows).await?;
    drop(rows);
    let mut teller = Teller::default();
    match gathered {
        Gathered::Whole(rows) => {
            let rows: Vec<Captured<'_>> = rows.iter().map(|row| Captured::of(row, catalog.encoding)).collect();
            if rows.iter().any(|row| row.concerns(&catalog)) {
                catalog = Catalog::load(pool, Some(span.lineage.epoch)).await?;
            }
            if giving.tell_gone(&kept, &catalog).await.is_err()
                || giving.give(teller.whole(&rows, &catalog, span.after)).await.is_err()
            {
                return Ok(());
            }
        }
        Gathered::TooMuch => {
            let statements = bulk::Statements::prepare(&session).await?;
            let mut bulk = Bulk::new(&span.seen, &giving.until, channel, bulk::MOST);
            while let Some(mut kept) = bulk.read_places(&session, &statements).await? {
                if is_pruned(&kept) {
                    let _ = answer.give(ReplayPart::Gap(Gap::Retention)).await;
                    return Ok(());
                }
                if bulk.concerns(&catalog) {
                    catalog = Catalog::load(pool, Some(span.lineage.epoch)).await?;
                }
                bulk.settle(&session, &statements, &catalog).await?;
                while let Some(fetched) = bulk.fetch(&session, &statements, span.after).await? {
                    if fetched.is_incomplete {
                        let row = session.query_one(KEPT, &[]).await.map_err(explain)?;
                        kept = Kept::parse(Some(row.get(0)));
                        if is_pruned(&kept) {
                            let _ = answer.give(ReplayPart::Gap(Gap::Retention)).await;
                            return Ok(());
                        }
                    }
                    let changes = bulk.changes(&fetched, &fetched.rows(catalog.encoding), &mut teller, &catalog);
                    if giving.tell_gone(&kept, &catalog).await.is_err() || giving.give(changes).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
    if let Some(read) = giving.shared.filter(|_| giving.gone.is_none()) {
        shelf.put(span.shelf_key(), read);
    }
    let _ = answer.give(ReplayPart::Done).await;
    Ok(())
}

/// An answer that is being given.
struct Giving<'a> {
    span: &'a Span,
    answer: &'a Taker,
    /// what is read ends here
    until: Snapshot,
    /// more is read than was asked for
    is_wider: bool,
    /// for others
    shared: Option<ShelfRead>,
    /// something was gone, by this transaction: another position need not have missed it
    gone: Option<u64>,
    /// given up to this id
    last: i64,
}

impl Giving<'_> {
    /// Of all channels: those that are kept briefly are told apart that something is gone.
    async fn tell_gone(&mut self, kept: &Kept, catalog: &Catalog) -> std::result::Result<(), NotTaken> {
        let by =
            kept.missed_briefly_by(&self.span.seen).filter(|by| self.span.channel.is_none() && self.gone != Some(*by));
        let Some(by) = by else { return Ok(()) };
        self.gone = Some(by);
        for gone in kept::gone(by, (&self.span.seen, &self.span.until), catalog, self.last) {
            // it may have gone later than what was asked for ends
            self.answer.give(ReplayPart::Changes(vec![gone])).await?;
        }
        Ok(())
    }

    async fn give(&mut self, changes: Vec<Change>) -> std::result::Result<(), NotTaken> {
        for mut chunk in chunks(changes) {
            self.last = chunk.last().map_or(self.last, |change| change.id);
            if let Some(mut read) = self.shared.take() {
                self.shared = read.add(&chunk).then_some(read);
            }
            if self.is_wider {
                chunk.retain(|change| self.span.until.sees(change.tx));
            }
            self.answer.give(ReplayPart::Changes(chunk)).await?;
        }
        Ok(())
    }
}
