//! A subscription whose holder has other values of claims by now: how its client gets from what it was shown to what it may
//! see, without loading again. Owns what is told on that way; that the values are known is the hub's.
//!
//! | step | what the client gets |
//! |---|---|
//! | it takes what was written before the change of its values | that |
//! | the rows are read that may be in one of both views alone | nothing |
//! | the stream comes to where they were read | nothing |
//! | both views are compared over all that changed meanwhile | one change for each row that it gains, loses, or keeps as another one; then the end of that cut |
//!
//! It is told all of it at once: no other cut is told on its socket in between. What cannot be named so (a table without a
//! primary key, too many rows, a row that is not known whole), or not in time, is `gap`, `policy`: then it loads again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::send::TAKEN_WITHIN;
use super::{CatchUp, JoinFailed};
use crate::change::{Change, Json};
use crate::cursor::{Boundary, Snapshot};
use crate::delivery::fanout::fold::{FoldedChange, fold, unchanged};
use crate::delivery::fanout::history::missed;
use crate::delivery::fanout::hub::{JoinError, JoinOutcome, ShownUpTo, Subscription};
use crate::delivery::fanout::told::Told;
use crate::delivery::scope::projection::Projection;
use crate::delivery::scope::visible::RowImages;
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;
use crate::request::{self, Ordering, PageAnswer, PageSpec, Predicate, Request};
use crate::sync::lock;

/// So many rows may be in one of both views alone, so many changes may have come meanwhile, and what is told of all of them
/// has so many bytes at most: it is written in one piece.
const ROWS: u32 = 1_000;
const BYTES: u32 = 1 << 20;
/// A client that takes what it is owed is told within this time, or loads again: the table may be locked.
const WITHIN: Duration = Duration::from_secs(2);

/// A subscription that is held, until another one takes its place or its client has unsubscribed.
#[derive(Clone)]
pub(in crate::delivery::conversation) struct Former(Arc<Mutex<Option<(Subscription, OwnedSemaphorePermit)>>>);

impl Former {
    /// It is let go of when this is, and then it is another one's turn.
    pub(in crate::delivery::conversation) fn of(subscription: Subscription, turn: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some((subscription, turn)))))
    }

    /// It follows no longer.
    pub(in crate::delivery::conversation) fn let_go(&self) {
        let former = lock(&self.0).take();
        drop(former);
    }

    fn with<T>(&self, look: impl FnOnce(&Subscription) -> Option<T>) -> Option<T> {
        lock(&self.0).as_ref().and_then(|(subscription, _)| look(subscription))
    }
}

/// Rows that may be in one of both views alone, as of one position.
struct Candidates {
    rows: Vec<Json>,
    /// the columns of the primary key
    key: Vec<Box<str>>,
    boundary: Boundary,
}

impl CatchUp {
    /// Takes the place of a subscription. `None` where not all can be named that its client has to be told.
    pub(super) async fn regrant(&mut self, former: &Former) -> Result<Option<Subscription>, JoinFailed> {
        self.from = "members";
        let shown = former.with(|former| self.hub.shown_by(former, self.who.as_deref()));
        let place = former.with(Subscription::place);
        let (Some(shown), Some((number, until))) = (shown, place) else { return Ok(None) };
        let Ok(before) = self.hub.projection(&shown.key) else { return Ok(None) };
        // what is told now overtakes what was owed
        let taken = timeout(TAKEN_WITHIN, self.writer.written_to(number, until)).await;
        taken.map_err(|_| JoinFailed::Unanswered)?.map_err(|_| JoinFailed::Gone)?;
        // meanwhile its other channels may wait for this one
        timeout(WITHIN, self.take_over(&shown, &before)).await.unwrap_or(Ok(None))
    }

    async fn take_over(&mut self, shown: &ShownUpTo, before: &Projection) -> Result<Option<Subscription>, JoinFailed> {
        loop {
            self.look_again().await?;
            if !self.key.is_but_for_members(&shown.key) {
                return Ok(None);
            }
            let Some(predicate) = self.projection.difference(before) else { return Ok(None) };
            let Some(candidates) = self.candidates(predicate).await else { return Ok(None) };
            self.lineage = candidates.boundary.cursor.lineage();
            if self.lineage != shown.boundary.cursor.lineage() {
                return Ok(None);
            }
            if !self.hub.may_be_told(&self.key, self.who.as_deref(), &candidates.boundary.cursor.seen).await {
                continue;
            }
            let (subscription, boundary) = match self.enter_at(&candidates.boundary.cursor.seen).await {
                Ok(Some(entered)) => entered,
                Ok(None) => continue,
                // its client has both views for a moment: it loads again where that is one too many
                Err(JoinFailed::TooMany(_)) => return Ok(None),
                Err(failed) => return Err(failed),
            };
            let turn = self.sieve().await;
            let Some(messages) = self.difference(shown, before, candidates, &boundary) else { return Ok(None) };
            drop(turn);
            let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
            if self.hub.follow_from(shown, &subscription, self.who.as_deref(), &messages, &self.cancel) {
                self.hub.metrics().count_resume(self.from);
                return Ok(Some(subscription));
            }
        }
    }

    /// Becomes a member of the view, at the first boundary from `seen` on. `None` where its holder's values are others by then.
    async fn enter_at(&self, seen: &Snapshot) -> Result<Option<(Subscription, Boundary)>, JoinFailed> {
        while self.hub.reach(seen).await.is_ok() {
            match self.hub.enter(&self.key, self.who.as_deref(), &self.writer, &self.asker, seen, self.lineage) {
                Ok(JoinOutcome::Joined { subscription, boundary, .. }) => return Ok(Some((subscription, boundary))),
                // a cut is arriving, or its holder is in doubt
                Ok(JoinOutcome::Later) => self.hub.wait_until_settled(self.who.as_deref()).await,
                Ok(JoinOutcome::BeyondMemory | JoinOutcome::AnotherIncarnation | JoinOutcome::Hidden) => {
                    return Ok(None);
                }
                Err(JoinError::NotLive) => self.hub.wait_until_live().await,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The rows that may be in one of both views alone.
    async fn candidates(&self, predicate: Predicate) -> Option<Candidates> {
        let channel = self.key.channel()?.clone();
        let (answer, answered) = oneshot::channel();
        let page = PageSpec { ordering: Ordering::Key, bound: None, limit: ROWS, bytes: BYTES, wants_count: false };
        let shown = request::Shown::by(|json, _| Some(json.into()));
        let asker = self.asker.clone();
        let request = Request::Page { channel, epoch: None, predicate, page, shown, asker, answer, permit: None };
        self.hub.ask(request, &self.asker).await;
        let Ok(PageAnswer::Page(page)) = answered.await else { return None };
        if page.more || page.rows.iter().any(|(_, is_whole)| !is_whole) {
            return None;
        }
        let key = page.order.into_iter().map(|by| by.column).collect();
        Some(Candidates { rows: page.rows.into_iter().map(|(row, _)| row).collect(), key, boundary: page.boundary })
    }

    /// What the client is told that was shown `before` up to where it is held, and is shown what it may see from `boundary` on.
    fn difference(
        &self,
        shown: &ShownUpTo,
        before: &Projection,
        candidates: Candidates,
        boundary: &Boundary,
    ) -> Option<Vec<String>> {
        let channel = self.key.channel()?;
        let (seen, until) = (&shown.boundary.cursor.seen, &boundary.cursor.seen);
        let cuts = self.hub.history_since(seen)?;
        let of_channel = |change: &Change| change.update.as_ref().is_some_and(|update| update.channel == *channel);
        let missed = missed(&cuts, seen, until, 0, |change| Some(change).filter(|change| of_channel(change)));
        if missed.len() > ROWS as usize {
            return None;
        }
        let folded = fold(missed, &candidates.key)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let same = |row: Json| unchanged(channel.clone(), row, now);
        // of a row that was changed, the change is told
        let mut rest = Vec::new();
        for row in candidates.rows {
            if !folded.has(&row, &candidates.key)? {
                rest.push(same(row));
            }
        }
        // or the row as it was, where its holder has no right to what became of it
        let is_gone = |folded: &FoldedChange| {
            let is_lost = folded
                .before
                .as_ref()
                .is_some_and(|row| before.row(row).is_some() && self.projection.row(row).is_none());
            is_lost && folded.change.update.as_ref().is_some_and(|update| self.projection.row(&update.data).is_none())
        };
        let changes = folded.changes.into_iter().map(|folded| match is_gone(&folded) {
            true => folded.before.map_or(folded.change, same),
            false => folded.change,
        });
        // a client that is broken off on the way loads again: its cursor is that of other rights
        let inside = self.inside(boundary, seen);
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for change in changes.chain(rest) {
            let update = change.update.as_ref()?;
            let told = self.projection.show_after(before, update, &RowImages::of(update));
            let is_news = |action: &str| action != "updated" || !update.changed.is_empty();
            if let Some(told) = told.filter(|told| is_news(told.action)) {
                let message = Told::Update(&change, channel, told, before.mark()).message(&inside, None);
                bytes += message.len();
                if bytes > BYTES as usize {
                    return None;
                }
                messages.push(message);
            }
        }
        let cursor = ResumeToken::of(&boundary.token, self.projection.mark()).to_string();
        messages.push(protocol::channel_cut(&self.key.label(), &cursor));
        Some(messages)
    }
}
