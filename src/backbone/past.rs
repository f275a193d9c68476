//! Answers from the stream for clients that come back. Owns how many are answered at a time; what the stream cannot
//! answer is asked of the outbox, where this node has a database.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::StreamKeys;
use super::append;
use super::entry::Entry;
use super::link::Link;
use super::stream::{AT_A_TIME, Id, locate, range};
use crate::change::{Change, Event, Start};
use crate::cursor::Snapshot;
use crate::error::{self, Result};
use crate::incarnations::{Gap, Lineage};
use crate::request::{PageAnswer, ReplayPart, Request, RowsPart};
use crate::shutdown::Shutdown;
use crate::source::desk;
use crate::source::turns::Turn;

/// Answered at a time; others wait.
const AT_ONCE: usize = 3;
/// A subscriber gets its answer within this time, or resumes where it got to.
const WITHIN: Duration = Duration::from_secs(60);
/// The rest of a client's cut must be put in order in memory: as much as that, or the outbox does it.
const SORTED_BYTES: u64 = 32 << 20;

/// Answers requests until the shutdown.
pub async fn run(
    link: Link,
    keys: StreamKeys,
    outbox: Option<mpsc::Sender<Request>>,
    requests: mpsc::Receiver<Request>,
    shutdown: Shutdown,
) {
    let answering = desk::serve(requests, AT_ONCE, shutdown, |request, turn| {
        let (link, keys, outbox) = (link.clone(), keys.clone(), outbox.clone());
        async move { answer(&link, &keys, outbox, request, turn).await }
    });
    answering.await;
}

async fn answer(link: &Link, keys: &StreamKeys, outbox: Option<mpsc::Sender<Request>>, request: Request, turn: Turn) {
    if request.is_void() {
        return;
    }
    match &request {
        Request::Replay { seen, until, after, lineage, channel, answer, asker: _ } => {
            let channel = channel.as_deref();
            let query = Query { seen, until, after: *after, lineage: *lineage, channel, answer, turn: &turn };
            match timeout(WITHIN, Box::pin(replay(link, keys, &query))).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(event = "replay_failed", error = error::chain(&error));
                    return;
                }
                Err(_) => {
                    tracing::info!(event = "replay_too_slow", seconds = WITHIN.as_secs());
                    return;
                }
            }
        }
        Request::Snapshot { channel, answer, .. } if outbox.is_none() => {
            tell_no_rows(channel);
            let _ = answer.send(RowsPart::Refused).await;
        }
        Request::Page { channel, .. } if outbox.is_none() => tell_no_rows(channel),
        Request::Snapshot { .. } | Request::Page { .. } => {}
    }
    // whose turn it is there, the outbox says
    drop(turn);
    match (outbox, request) {
        (Some(outbox), request) => {
            let _ = outbox.send(request).await;
        }
        (None, Request::Replay { answer, .. }) => {
            let _ = answer.send(ReplayPart::Gap(Gap::Retention)).await;
        }
        (None, Request::Page { answer, .. }) => {
            let _ = answer.send(PageAnswer::Refused);
        }
        (None, Request::Snapshot { .. }) => {}
    }
}

fn tell_no_rows(channel: &str) {
    tracing::warn!(event = "no_snapshot", %channel, "this node has no database to read current rows from: give it --database-url");
}

/// What a replay reads; see [`Request::Replay`].
struct Query<'a> {
    seen: &'a Snapshot,
    until: &'a Snapshot,
    after: i64,
    lineage: Lineage,
    channel: Option<&'a str>,
    answer: &'a mpsc::Sender<ReplayPart>,
    turn: &'a Turn,
}

impl Query<'_> {
    /// Gives a part, unless the subscriber is gone or keeps others waiting.
    async fn give(&self, part: ReplayPart) -> Result<(), ()> {
        if self.turn.give(self.answer, part).await { Ok(()) } else { Err(()) }
    }

    fn wants(&self, change: &Change) -> bool {
        let is_of_channel = |name: &str| change.update.as_ref().is_some_and(|update| *update.channel == *name);
        change.is_after(self.after)
            && !self.seen.sees(change.tx)
            && self.until.sees(change.tx)
            && self.channel.is_none_or(is_of_channel)
    }
}

/// Answers from the stream; false where it does not reach so far back, and nothing was answered.
async fn replay(link: &Link, keys: &StreamKeys, query: &Query<'_>) -> Result<bool> {
    let mut connection = link.connect().await?;
    let Some(state) = append::state(&mut connection, keys).await? else { return Ok(false) };
    if state.to.epoch != query.lineage.epoch {
        return Ok(false);
    }
    let restart = Id::parse(&state.restart).unwrap_or_default();
    let begin = locate(&mut connection, keys, restart, query.seen).await?;
    let Some(begin) = begin.filter(|begin| *begin > restart) else { return Ok(false) };
    // the rest of a cut is told by id, whichever cuts of the stream hold it: it is put in order first
    let mut sorted = (query.after > 0).then(Vec::new);
    let mut bytes = 0;
    let mut position = query.seen.clone();
    let mut told_until: Option<Snapshot> = None;
    let mut from = begin.to_string();
    // the position after the last entry that was read
    let mut reached = None;
    // fewer, where so many do not come in time
    let mut at_a_time = AT_A_TIME;
    while !position.covers(query.until) {
        let read = match range(&mut connection, keys, &from, "+", at_a_time).await {
            Err(_) if at_a_time > 1 => {
                at_a_time /= 2;
                connection = link.connect().await?;
                continue;
            }
            read => read?,
        };
        let Some(last) = read.last() else { return Ok(told_until.is_some()) };
        from = format!("({}", last.id);
        for raw in &read {
            // what it says is missing before the next one, if it says anything
            let Ok(Entry { at, to, event }) = raw.entry() else { continue };
            // trimmed while it was read: what was told was told, and the client comes back with its cursor
            let follows = reached.as_ref().map_or(raw.id == begin, |reached| at.as_ref() == Some(reached));
            if !follows {
                return Ok(told_until.is_some());
            }
            let cut = match event {
                Some(Event::Cut(cut)) => cut,
                // where the stream goes on, nothing lies between; in another incarnation of the server ids may be used again
                Some(Event::From { boundary, start: Start::Continues, .. }) => {
                    if at.is_some_and(|at| at.seen == position) || !position.covers(&boundary.cursor.seen) {
                        position = boundary.cursor.seen;
                    }
                    reached = Some(to);
                    continue;
                }
                Some(Event::From { .. }) => return Ok(told_until.is_some()),
                _ => {
                    reached = Some(to);
                    continue;
                }
            };
            reached = Some(to);
            let (begins, until) = (cut.from, (*cut.until).clone());
            if position.covers(&until) {
                continue;
            }
            if !position.covers(&begins.seen) {
                return Ok(told_until.is_some());
            }
            let changes: Vec<Change> =
                cut.changes.into_iter().filter(|change| query.wants(change) && !position.sees(change.tx)).collect();
            if let Some(sorted) = &mut sorted {
                bytes += changes.iter().map(Change::size).sum::<u64>();
                if bytes > SORTED_BYTES {
                    // nothing was told yet
                    return Ok(false);
                }
                sorted.extend(changes);
            } else if !changes.is_empty() {
                if told_until.as_ref() != Some(&until) {
                    let end = if query.until.covers(&until) { until.clone() } else { query.until.clone() };
                    if query.give(ReplayPart::Until(end)).await.is_err() {
                        return Ok(true);
                    }
                    told_until = Some(until.clone());
                }
                if query.give(ReplayPart::Changes(changes)).await.is_err() {
                    return Ok(true);
                }
            }
            if cut.end.is_some() {
                position = until;
            }
            if position.covers(query.until) {
                break;
            }
        }
        if read.len() < at_a_time && !position.covers(query.until) {
            // the end of the stream: it was cut short while it was read
            return Ok(told_until.is_some());
        }
    }
    if let Some(mut sorted) = sorted {
        sorted.sort_by_key(|change| change.id);
        let _ = query.answer.send(ReplayPart::Until(query.until.clone())).await;
        let _ = query.answer.send(ReplayPart::Changes(sorted)).await;
    }
    let _ = query.answer.send(ReplayPart::Done).await;
    Ok(true)
}
