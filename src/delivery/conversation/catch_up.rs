//! How a subscriber that was here before, or wants the current rows first, gets from its position to the present. Owns the
//! steps of that way; where changes come from is the history's and the source's.
//!
//! | step | what the client gets |
//! |---|---|
//! | judge the cursor | where it cannot be honoured: `gap` |
//! | snapshot or page, where asked for and no cursor was honoured | `snapshot` or `rows` messages; their position is the transaction's snapshot |
//! | reach | nothing: the stream must have come to the client's position, which another node may have given out |
//! | replay | what was missed, as one cut from the client's position to the boundary where it joins: from memory, or from the outbox until memory reaches |
//! | join | `subscribed`, then the stream |
//!
//! The socket joins its view before the last replay is sent, so nothing falls in between: what comes meanwhile waits
//! in the view's log.

mod regrant;
mod rows;
mod send;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::change::Change;
use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::delivery::access::auth::Identity;
use crate::delivery::access::shares::TooMany;
use crate::delivery::fanout::history::missed;
use crate::delivery::fanout::hub::{Freshness, Hub, JoinError, JoinOutcome, Subscription, Untaken};
use crate::delivery::scope::paging::WantedRows;
use crate::delivery::scope::projection::{Projection, Unfit};
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{CancelFlag, SocketWriter};
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::{ResumeToken, decode_place};
use crate::incarnations::{Gap, Lineage};
use crate::request::{ReplayPart, Request};
pub(super) use regrant::Former;
use rows::Part;

/// What a subscriber asks for besides the stream.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// resume from this cursor
    pub since: Option<String>,
    /// the current rows first; together with `since`: where the cursor cannot be honoured
    pub rows: WantedRows,
    /// all rows may come in pages that were read one after the other; the client keeps those that it has when it is broken off
    pub in_pages: bool,
}

impl SubscribeOptions {
    /// Whether only what comes from now on is wanted.
    pub fn is_the_stream(&self) -> bool {
        self.since.is_none() && self.rows == WantedRows::Nothing
    }
}

/// Why a subscriber could not join.
#[derive(Debug)]
pub enum JoinFailed {
    /// Its connection is gone or closing.
    Gone,
    /// The source did not answer to the end; the client resumes with its last cursor.
    Unanswered,
    /// There is no such channel.
    UnknownChannel,
    /// The channel cannot be seen that way.
    Unfit(Unfit),
    /// No policy lets the token see it.
    Forbidden,
    /// The asker has as many different ones as it may have.
    TooMany(TooMany),
    /// Its rows cannot be had in that order, or from that place; for people.
    NoOrder(String),
    /// Its rows cannot be read for the moment.
    Later,
}

impl From<JoinError> for JoinFailed {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::UnknownChannel => Self::UnknownChannel,
            JoinError::Unfit(unfit) => Self::Unfit(unfit),
            JoinError::Forbidden => Self::Forbidden,
            JoinError::TooMany(what) => Self::TooMany(what),
            // to be waited for, not reported
            JoinError::NotLive | JoinError::InDoubt => Self::Unanswered,
        }
    }
}

impl JoinFailed {
    /// Why a channel cannot be had, for clients: code and text.
    pub(super) fn explain(&self, key: &ViewKey) -> (&'static str, String) {
        match self {
            Self::Unfit(Unfit(text)) => ("bad_filter", text.clone()),
            Self::NoOrder(text) => ("bad_order", text.clone()),
            Self::Later => {
                ("unanswered", format!("the rows of {} cannot be read for the moment: ask again", key.label()))
            }
            Self::TooMany(what) => ("too_many_views", what.reason.to_owned()),
            Self::Forbidden => ("forbidden", format!("your token does not let you see {}", key.label())),
            Self::UnknownChannel | Self::Gone | Self::Unanswered => {
                ("unknown_channel", format!("there is no channel {}", key.label()))
            }
        }
    }
}

/// What ends a step of the way.
enum CatchUpStop {
    /// Something is missing from the position on.
    Gap(Gap),
    Failed(JoinFailed),
}

impl From<Gap> for CatchUpStop {
    fn from(gap: Gap) -> Self {
        Self::Gap(gap)
    }
}

impl<E: Into<JoinFailed>> From<E> for CatchUpStop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a cursor speaks of.
enum Honoured {
    /// the client has all rows, as of this snapshot
    Whole(Snapshot),
    /// it has a part of them
    Part(Part),
}

/// What became of the current rows.
enum Rows {
    /// they were sent
    Sent {
        /// the changes since this follow
        seen: Snapshot,
        /// the client has kept those that it had
        goes_on: bool,
    },
    /// what may be seen has changed while they were read, and nothing of them was sent
    Outdated,
    /// they cannot be read
    Refused,
}

/// So often the rows are read when something is missing behind them each time. The last time a change that cannot be told is
/// said once the client is subscribed; what else is missing makes it begin anew, later.
const SNAPSHOTS: u32 = 3;
/// For so long they are read again where what their reader has of claims has changed meanwhile.
const OUTDATED_WITHIN: Duration = Duration::from_secs(10);

/// One subscriber on its way.
pub struct CatchUp {
    hub: Arc<Hub>,
    writer: Arc<SocketWriter>,
    cancel: CancelFlag,
    key: ViewKey,
    /// what it takes the place of
    former: Option<Former>,
    who: Option<Arc<Identity>>,
    /// whose turn it is when the source is asked
    asker: Arc<str>,
    projection: Arc<Projection>,
    reference: Option<Value>,
    replayed: u64,
    /// the rows follow where something is missing
    wants_rows: bool,
    /// what is missing is told behind `subscribed`, as everybody there is told
    tells_gap_late: bool,
    late_gap: OnceLock<Gap>,
    /// bytes of the past that were written
    sent: AtomicU64,
    began: Instant,
    /// where its past came from
    from: &'static str,
    /// where its position was found to be good
    lineage: Lineage,
}

impl CatchUp {
    /// A subscriber over `writer` that asks for `key`; `who` is `None` where everybody may see everything.
    pub fn new(
        hub: Arc<Hub>,
        writer: Arc<SocketWriter>,
        key: ViewKey,
        who: Option<Arc<Identity>>,
        asker: Arc<str>,
        reference: Option<Value>,
        cancel: CancelFlag,
    ) -> Self {
        let (sent, began) = (AtomicU64::new(0), Instant::now());
        Self {
            hub,
            writer,
            cancel,
            key,
            former: None,
            who,
            asker,
            projection: Arc::default(),
            reference,
            replayed: 0,
            wants_rows: false,
            tells_gap_late: false,
            late_gap: OnceLock::new(),
            sent,
            began,
            from: "memory",
            lineage: Lineage { epoch: 0, incarnation: 0 },
        }
    }

    /// In the place of a subscription whose holder has other values of claims by now.
    pub(super) fn instead_of(self, former: Former) -> Self {
        Self { former: Some(former), ..self }
    }

    /// Goes the whole way. Cancel safe: what was sent was sent, and the client's cursor says so.
    ///
    /// # Errors
    /// [`JoinFailed`].
    pub async fn run(mut self, wish: SubscribeOptions) -> Result<Subscription, JoinFailed> {
        if let Some(former) = self.former.take() {
            // seldom, and not a part of what each subscriber on its way takes
            if let Some(subscription) = Box::pin(self.regrant(&former)).await? {
                former.let_go();
                return Ok(subscription);
            }
            // before it is let go of: at a cut that came in between, the client would take what it has for what the table is
            self.tell_gap(Gap::Policy).await?;
            former.let_go();
        }
        self.hub.wait_until_live().await;
        (self.key, self.projection) = self.hub.look_patiently(&self.key, self.who.as_deref()).await?;
        self.wants_rows = wish.rows != WantedRows::Nothing;
        let mut part = None;
        if let Some(token) = &wish.since {
            let joined = match self.honour(token, wish.in_pages).await {
                Ok(Honoured::Whole(seen)) => self.join(seen, true).await.map(Some),
                Ok(Honoured::Part(honoured)) => {
                    part = Some(honoured);
                    Ok(None)
                }
                Err(stop) => Err(stop),
            };
            if let Some(subscription) = self.joined(joined).await? {
                return Ok(subscription);
            }
        }
        if self.wants_rows {
            let (mut attempt, mut freshness) = (0, Freshness::Replayed);
            while attempt < SNAPSHOTS {
                attempt += 1;
                self.tells_gap_late = attempt == SNAPSHOTS;
                if !self.hub.is_allowed(&self.key, self.who.as_deref()) {
                    self.look_again().await?;
                }
                let rows = match &wish.rows {
                    WantedRows::Page(spec) => self.page(spec, freshness).await?,
                    WantedRows::All | WantedRows::Nothing => {
                        self.all_rows(part.take(), wish.in_pages, freshness).await?
                    }
                };
                // behind those of the attempt before something was missing
                freshness = Freshness::Present;
                let (seen, goes_on) = match rows {
                    Rows::Sent { seen, goes_on } => (seen, goes_on),
                    Rows::Outdated => {
                        // whose members come and go all the time waits for a moment without
                        if self.key.has_members() && self.began.elapsed() < OUTDATED_WITHIN {
                            attempt -= 1;
                        }
                        self.look_again().await?;
                        continue;
                    }
                    Rows::Refused => {
                        self.say_no_rows().await?;
                        self.wants_rows = false;
                        break;
                    }
                };
                let joined = self.join(seen, goes_on).await.map(Some);
                if let Some(subscription) = self.joined(joined).await? {
                    return Ok(subscription);
                }
            }
            // a client that asked for the rows relies on it that they follow a gap
            if self.wants_rows {
                return Err(JoinFailed::Unanswered);
            }
        }
        loop {
            let who = self.who.as_deref();
            match self.hub.join(&self.key, who, &self.writer, &self.asker, self.reference.as_ref()) {
                Ok(subscription) => return Ok(subscription),
                Err(JoinError::NotLive) => self.hub.wait_until_live().await,
                Err(JoinError::InDoubt) => self.look_again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The subscription, or nothing where a gap was told instead.
    async fn joined(
        &self,
        joined: Result<Option<Subscription>, CatchUpStop>,
    ) -> Result<Option<Subscription>, JoinFailed> {
        match joined {
            Ok(subscription) => Ok(subscription),
            Err(CatchUpStop::Gap(gap)) => self.tell_gap(gap).await.map(|()| None),
            Err(CatchUpStop::Failed(failed)) => Err(failed),
        }
    }

    /// The position between cuts that a cursor has come to, after the rest of its cut was sent; or why it cannot be honoured.
    async fn honour(&mut self, token: &str, in_pages: bool) -> Result<Honoured, CatchUpStop> {
        let token = ResumeToken::parse(token);
        // what was missed is no difference to what was seen with other rights
        if Cursor::parse(token.cursor).is_ok() && !token.is_good_for(self.projection.mark()) {
            return Err(Gap::Policy.into());
        }
        let judged = self.hub.judge(token.cursor).await?;
        self.lineage = judged.lineage;
        let end = judged.end().clone();
        let Cursor { seen, inside, .. } = judged.cursor;
        if !self.lets_in(&seen).await {
            return Err(Gap::Policy.into());
        }
        if !token.place.is_empty() {
            // a client that does not say that it keeps what it has would take the rest of the rows for all of them
            let place = decode_place(token.place).filter(|_| in_pages).ok_or(Gap::BadCursor)?;
            let token = ResumeToken { place: "", ..token }.to_string();
            return Ok(Honoured::Part(Part { seen, token, place }));
        }
        let boundary = self.hub.reach(&end).await?;
        // while it waited the server may have crashed, or another database come: the position was judged before, and what is
        // sent now would carry it into what is there now
        if boundary.cursor.lineage() != self.lineage {
            return Err(JoinFailed::Unanswered.into());
        }
        let Some((_, id)) = inside else { return Ok(Honoured::Whole(seen)) };
        if !self.lets_in(&seen).await {
            return Err(Gap::Policy.into());
        }
        let boundary = self.at(&boundary, &end);
        let rest = self.inside(&boundary, &seen);
        let turn = self.hub.turn_on(&self.writer, &self.asker, Untaken::Part).await;
        match self.hub.history_since(&seen) {
            Some(cuts) => {
                let missed = missed(&cuts, &seen, &end, id, Some);
                let count = self.send(missed.into_iter(), &rest, Some(&boundary.token)).await?;
                self.replayed += count;
            }
            None => {
                drop(turn);
                self.replay(seen, id, &boundary).await?;
            }
        }
        Ok(Honoured::Whole(end))
    }

    /// Sends what was missed since `seen` and joins where that ends.
    async fn join(&mut self, mut seen: Snapshot, recovered: bool) -> Result<Subscription, CatchUpStop> {
        loop {
            if self.key.has_members() {
                self.hub.wait_until_settled(self.who.as_deref()).await;
            }
            let boundary = self.hub.reach(&seen).await?;
            if boundary.cursor.lineage() != self.lineage {
                return Err(JoinFailed::Unanswered.into());
            }
            // before it enters: what comes while it waits would be kept for it
            let turn = self.hub.turn_on(&self.writer, &self.asker, Untaken::Part).await;
            match self.hub.enter(&self.key, self.who.as_deref(), &self.writer, &self.asker, &seen, self.lineage) {
                Ok(JoinOutcome::Joined { subscription, cuts, boundary }) => {
                    let inside = self.inside(&boundary, &seen);
                    let missed = missed(&cuts, &seen, &boundary.cursor.seen, 0, Some);
                    let count = self.send(missed.into_iter(), &inside, Some(&boundary.token)).await?;
                    self.replayed += count;
                    let label = self.key.label();
                    let (reference, replayed) = (self.reference.as_ref(), self.replayed);
                    let cursor = ResumeToken::of(&boundary.token, self.projection.mark()).to_string();
                    let message = protocol::subscribed(&label, &cursor, recovered, replayed, reference);
                    let late_gap = self.late_gap.get().map(|gap| {
                        self.hub.metrics().count_gap(gap.as_str());
                        protocol::gap(&label, *gap)
                    });
                    // in one: no end of a cut may come between
                    let messages: Vec<&str> = [&message].into_iter().chain(&late_gap).map(String::as_str).collect();
                    if !self.hub.follow(&subscription, self.who.as_deref(), &messages, &self.cancel).await {
                        return Err(Gap::Policy.into());
                    }
                    self.hub.metrics().count_resume(self.from);
                    return Ok(subscription);
                }
                Ok(JoinOutcome::BeyondMemory) => {
                    drop(turn);
                    self.replay(seen, 0, &boundary).await?;
                    seen = boundary.cursor.seen;
                }
                Ok(JoinOutcome::Later) => {}
                // the position may speak of what was lost: it has to be judged anew
                Ok(JoinOutcome::AnotherIncarnation) => return Err(JoinFailed::Unanswered.into()),
                Ok(JoinOutcome::Hidden) => return Err(Gap::Policy.into()),
                Err(JoinError::NotLive) => {
                    drop(turn);
                    self.hub.wait_until_live().await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends what the source has between two positions, after the id `after` of the cut between them.
    async fn replay(&mut self, mut seen: Snapshot, after: i64, boundary: &Boundary) -> Result<(), CatchUpStop> {
        self.from = "outbox";
        let (answer, mut answers) = mpsc::channel(1);
        let channel = self.key.channel().cloned();
        let mut until = boundary.cursor.seen.clone();
        let (from, lineage) = (seen.clone(), self.lineage);
        let asker = self.asker.clone();
        // where it began: what of it is told was decoded by the rules of then
        let began = from.clone();
        let end = until.clone();
        let request = Request::Replay { seen: from, until: end, after, lineage, channel, asker, answer };
        let _turn = self.hub.ask(request, &self.asker).await;
        let mut inside = self.inside(boundary, &seen);
        // the last message carries the cursor of the end, so one chunk is kept back until it is known to be the last
        let mut held: Vec<Change> = Vec::new();
        loop {
            let answer = answers.recv().await;
            if !self.lets_in(&began).await {
                return Err(Gap::Policy.into());
            }
            match answer {
                Some(ReplayPart::Changes(changes)) => {
                    if self.is_told_any(&changes).await {
                        let before = std::mem::replace(&mut held, changes);
                        self.replayed += self.send(before.iter(), &inside, None).await?;
                    }
                }
                Some(ReplayPart::Until(next)) => {
                    self.from = "stream";
                    if next != until {
                        let end = self.at(boundary, &until);
                        let before = std::mem::take(&mut held);
                        self.replayed += self.send(before.iter(), &inside, Some(&end.token)).await?;
                        // the first cut begins where the client is
                        if !seen.covers(&until) && until != boundary.cursor.seen {
                            seen = until;
                        }
                        inside = self.inside(&boundary.at(&next), &seen);
                        until = next;
                    }
                }
                Some(ReplayPart::Done) => {
                    self.replayed += self.send(held.iter(), &inside, Some(&boundary.token)).await?;
                    return Ok(());
                }
                Some(ReplayPart::Gap(gap)) => return Err(gap.into()),
                // what came so far is the client's: it gets further each time
                None => {
                    self.send(held.iter(), &inside, None).await?;
                    return Err(JoinFailed::Unanswered.into());
                }
            }
        }
    }

    /// What may be seen has changed before anything was said: it is looked at by the rules of now.
    async fn look_again(&mut self) -> Result<(), JoinFailed> {
        (self.key, self.projection) = self.hub.look_patiently(&self.key.asked(), self.who.as_deref()).await?;
        Ok(())
    }

    async fn lets_in(&self, seen: &Snapshot) -> bool {
        if self.key.has_members() {
            self.hub.wait_until_settled(self.who.as_deref()).await;
        }
        self.hub.lets_in(&self.key, self.who.as_deref(), seen)
    }

    /// [`Boundary::at`], as clients get it.
    fn at(&self, boundary: &Boundary, seen: &Snapshot) -> Boundary {
        let boundary = boundary.at(seen);
        Boundary { token: self.hub.sealed(&boundary.token), ..boundary }
    }

    /// [`Boundary::inside`], as clients get it.
    fn inside(&self, boundary: &Boundary, seen: &Snapshot) -> Arc<str> {
        self.hub.sealed(&boundary.inside(seen))
    }
}

#[cfg(test)]
mod tests;
