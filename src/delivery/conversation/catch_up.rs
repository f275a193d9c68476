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

mod send;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::change::Change;
use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::delivery::access::auth::Identity;
use crate::delivery::access::party::TooMany;
use crate::delivery::fanout::history::missed;
use crate::delivery::fanout::hub::{Entry, Freshness, Hub, JoinError, NoPage, Subscription};
use crate::delivery::scope::paging::WantedRows;
use crate::delivery::scope::projection::{Projection, Unfit};
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{CancelFlag, SocketWriter};
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;
use crate::incarnations::Gap;
use crate::request::{PageSpec, ReplayPart, Request, RowsPart};

/// What a subscriber asks for besides the stream.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// resume from this cursor
    pub since: Option<String>,
    /// the current rows first; together with `since`: where the cursor cannot be honoured
    pub rows: WantedRows,
    /// said just before it joins
    pub gap: Option<Gap>,
}

impl SubscribeOptions {
    /// Whether only what comes from now on is wanted.
    pub fn is_the_stream(&self) -> bool {
        self.since.is_none() && self.rows == WantedRows::Nothing && self.gap.is_none()
    }
}

/// Why a subscriber could not join.
#[derive(Debug)]
pub enum Failed {
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
    /// Who asks has as many different ones as one may.
    TooMany(TooMany),
    /// Its rows cannot be had in that order, or from that place; for people.
    NoOrder(String),
}

impl From<JoinError> for Failed {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::UnknownChannel => Self::UnknownChannel,
            JoinError::Unfit(unfit) => Self::Unfit(unfit),
            JoinError::Forbidden => Self::Forbidden,
            JoinError::TooMany(what) => Self::TooMany(what),
            // to be waited for, not reported
            JoinError::NotLive => Self::Unanswered,
        }
    }
}

impl Failed {
    /// Why a channel cannot be had, for clients: code and text.
    pub(super) fn explain(&self, key: &ViewKey) -> (&'static str, String) {
        match self {
            Self::Unfit(Unfit(text)) => ("bad_filter", text.clone()),
            Self::NoOrder(text) => ("bad_order", text.clone()),
            Self::TooMany(what) => ("too_many_views", what.reason.to_owned()),
            Self::Forbidden => ("forbidden", format!("your token does not let you see {}", key.label())),
            Self::UnknownChannel | Self::Gone | Self::Unanswered => {
                ("unknown_channel", format!("there is no channel {}", key.label()))
            }
        }
    }
}

/// What ends a step of the way.
enum Stop {
    /// Something is missing from the position on.
    Gap(Gap),
    Failed(Failed),
}

impl From<Gap> for Stop {
    fn from(gap: Gap) -> Self {
        Self::Gap(gap)
    }
}

impl<E: Into<Failed>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What became of the current rows.
enum Rows {
    /// they were sent, as of this snapshot
    Sent(Snapshot),
    /// what may be seen has changed while they were read, and nothing of them was sent
    Outdated,
    /// they cannot be read
    Refused,
}

/// Frames are handed to the socket in so many bytes at a time; the next ones wait until these are written.
const CHUNK: usize = 64 * 1024;
/// So often the rows are read when something is missing behind them each time. The last time a change that cannot be told is
/// said once the client is subscribed; what else is missing makes it begin anew, later.
const SNAPSHOTS: u32 = 3;

/// One subscriber on its way.
pub struct CatchUp {
    hub: Arc<Hub>,
    writer: Arc<SocketWriter>,
    cancel: CancelFlag,
    key: ViewKey,
    who: Option<Arc<Identity>>,
    /// whose turn it is when the source is asked
    party: Arc<str>,
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
    /// the incarnation of the server in which its position was found to be good
    incarnation: u64,
}

impl CatchUp {
    /// A subscriber over `writer` that asks for `key`; `who` is `None` where everybody may see everything.
    pub fn new(
        hub: Arc<Hub>,
        writer: Arc<SocketWriter>,
        key: ViewKey,
        who: Option<Arc<Identity>>,
        party: Arc<str>,
        reference: Option<Value>,
        cancel: CancelFlag,
    ) -> Self {
        let (sent, began) = (AtomicU64::new(0), Instant::now());
        Self {
            hub,
            writer,
            cancel,
            key,
            who,
            party,
            projection: Arc::default(),
            reference,
            replayed: 0,
            wants_rows: false,
            tells_gap_late: false,
            late_gap: OnceLock::new(),
            sent,
            began,
            from: "memory",
            incarnation: 0,
        }
    }

    /// Goes the whole way. Cancel safe: what was sent was sent, and the client's cursor says so.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn run(mut self, wish: SubscribeOptions) -> Result<Subscription, Failed> {
        self.hub.wait_until_live().await;
        (self.key, self.projection) = self.hub.look_patiently(&self.key, self.who.as_deref()).await?;
        self.wants_rows = wish.rows != WantedRows::Nothing;
        if let Some(token) = &wish.since {
            let joined = match self.honour(token).await {
                Ok(seen) => self.join(seen, true).await,
                Err(stop) => Err(stop),
            };
            if let Some(subscription) = self.joined(joined).await? {
                return Ok(subscription);
            }
        }
        if self.wants_rows {
            for attempt in 1..=SNAPSHOTS {
                self.tells_gap_late = attempt == SNAPSHOTS;
                let rows = match &wish.rows {
                    WantedRows::Page(spec) => self.page(spec).await?,
                    WantedRows::All | WantedRows::Nothing => self.snapshot().await?,
                };
                let seen = match rows {
                    Rows::Sent(seen) => seen,
                    Rows::Outdated => {
                        self.look_again()?;
                        continue;
                    }
                    Rows::Refused => {
                        self.say_no_rows().await?;
                        self.wants_rows = false;
                        break;
                    }
                };
                let joined = self.join(seen, false).await;
                if let Some(subscription) = self.joined(joined).await? {
                    return Ok(subscription);
                }
            }
            // a client that asked for the rows relies on it that they follow a gap
            if self.wants_rows {
                return Err(Failed::Unanswered);
            }
        }
        if let Some(gap) = wish.gap {
            self.hub.wait_until_live().await;
            self.tell_gap(gap).await?;
        }
        loop {
            match self.hub.join(&self.key, &self.writer, &self.party, self.reference.as_ref()) {
                Ok(subscription) => return Ok(subscription),
                Err(JoinError::NotLive) => self.hub.wait_until_live().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn say_no_rows(&self) -> Result<(), Failed> {
        let text = format!("the rows of channel {} cannot be read: the server's log says why", self.key.label());
        let reference = self.reference.as_ref();
        self.say(&match reference {
            Some(_) => protocol::error("no_snapshot", &text, reference),
            None => protocol::channel_error("no_snapshot", &text, &self.key.label()),
        })
        .await
    }

    /// The subscription, or nothing where a gap was told instead.
    async fn joined(&self, joined: Result<Subscription, Stop>) -> Result<Option<Subscription>, Failed> {
        match joined {
            Ok(subscription) => Ok(Some(subscription)),
            Err(Stop::Gap(gap)) => self.tell_gap(gap).await.map(|()| None),
            Err(Stop::Failed(failed)) => Err(failed),
        }
    }

    /// The position between cuts that a cursor has come to, after the rest of its cut was sent; or why it cannot be honoured.
    async fn honour(&mut self, token: &str) -> Result<Snapshot, Stop> {
        let token = ResumeToken::parse(token);
        // what was missed is no difference to what was seen with other rights
        if Cursor::parse(token.cursor).is_ok() && !token.is_good_for(self.projection.mark()) {
            return Err(Gap::Policy.into());
        }
        let judged = self.hub.judge(token.cursor).await?;
        self.incarnation = judged.incarnation;
        let end = judged.end().clone();
        let Cursor { seen, inside, .. } = judged.cursor;
        if !self.lets_in(&seen) {
            return Err(Gap::Policy.into());
        }
        let boundary = self.hub.reach(&end).await?;
        // while it waited the server may have crashed: the position was judged in the incarnation before, and what is sent now
        // would carry it into the next one
        if boundary.cursor.incarnation != self.incarnation {
            return Err(Failed::Unanswered.into());
        }
        let Some((_, id)) = inside else { return Ok(seen) };
        if !self.lets_in(&seen) {
            return Err(Gap::Policy.into());
        }
        let boundary = self.at(&boundary, &end);
        let rest = self.inside(&boundary, &seen);
        match self.hub.history_since(&seen) {
            Some(cuts) => {
                let missed = missed(&cuts, &seen, &end, id, Some);
                let count = self.send(missed.into_iter(), &rest, Some(&boundary.token)).await?;
                self.replayed += count;
            }
            None => {
                self.replay(seen, id, &boundary).await?;
            }
        }
        Ok(end)
    }

    /// Sends what was missed since `seen` and joins where that ends.
    async fn join(&mut self, mut seen: Snapshot, recovered: bool) -> Result<Subscription, Stop> {
        loop {
            let boundary = self.hub.reach(&seen).await?;
            if boundary.cursor.incarnation != self.incarnation {
                return Err(Failed::Unanswered.into());
            }
            match self.hub.enter(&self.key, self.who.as_deref(), &self.writer, &self.party, &seen, self.incarnation) {
                Ok(Entry::Joined { subscription, cuts, boundary }) => {
                    let inside = self.inside(&boundary, &seen);
                    let missed = missed(&cuts, &seen, &boundary.cursor.seen, 0, Some);
                    let count = self.send(missed.into_iter(), &inside, Some(&boundary.token)).await?;
                    self.replayed += count;
                    let label = self.key.label();
                    let (reference, replayed) = (self.reference.as_ref(), self.replayed);
                    let cursor = ResumeToken { cursor: &boundary.token, rights: self.projection.mark() }.to_string();
                    let message = protocol::subscribed(&label, &cursor, recovered, replayed, reference);
                    let late_gap = self.late_gap.get().map(|gap| {
                        self.hub.metrics().count_gap(gap.as_str());
                        protocol::gap(&label, *gap)
                    });
                    // in one: no end of a cut may come between
                    let messages: Vec<&str> = [&message].into_iter().chain(&late_gap).map(String::as_str).collect();
                    subscription.follow(&messages, &self.cancel);
                    self.hub.metrics().count_resume(self.from);
                    return Ok(subscription);
                }
                Ok(Entry::BeyondMemory) => {
                    self.replay(seen, 0, &boundary).await?;
                    seen = boundary.cursor.seen;
                }
                Ok(Entry::Later) => {}
                // the position may speak of what was lost: it has to be judged anew
                Ok(Entry::AnotherIncarnation) => return Err(Failed::Unanswered.into()),
                Ok(Entry::Hidden) => return Err(Gap::Policy.into()),
                Err(JoinError::NotLive) => self.hub.wait_until_live().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends what the source has between two positions, after the id `after` of the cut between them.
    async fn replay(&mut self, mut seen: Snapshot, after: i64, boundary: &Boundary) -> Result<(), Stop> {
        self.from = "outbox";
        let (answer, mut answers) = mpsc::channel(1);
        let channel = self.key.channel().cloned();
        let mut until = boundary.cursor.seen.clone();
        let (from, incarnation) = (seen.clone(), self.incarnation);
        let asker = self.party.clone();
        // where it began: what of it is told was decoded by the rules of then
        let began = from.clone();
        let request = Request::Replay { seen: from, until: until.clone(), after, incarnation, channel, asker, answer };
        let _turn = self.hub.ask(request, &self.party).await;
        let mut inside = self.inside(boundary, &seen);
        // the last message carries the cursor of the end, so one part is kept back until it is known to be the last
        let mut held: Vec<Change> = Vec::new();
        loop {
            let answer = answers.recv().await;
            if !self.lets_in(&began) {
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
                    return Err(Failed::Unanswered.into());
                }
            }
        }
    }

    /// Sends the current rows, and says as of when.
    async fn snapshot(&mut self) -> Result<Rows, Failed> {
        let label = self.key.label();
        let (answer, mut answers) = mpsc::channel(1);
        self.from = "snapshot";
        let (predicate, floor) = (self.projection.predicate(), self.hub.floor_of(&self.key));
        let (channel, asker) = (label.channel.clone(), self.party.clone());
        self.hub.ask(Request::Snapshot { channel, predicate, asker, answer, permit: None }, &self.party).await;
        let (mut part, mut has_said) = (String::new(), false);
        loop {
            let answer = answers.recv().await;
            // they were read by the rules of before: it begins anew by those of now
            if self.hub.floor_of(&self.key) != floor {
                return if has_said { Err(Failed::Unanswered) } else { Ok(Rows::Outdated) };
            }
            match answer {
                Some(RowsPart::Rows(rows)) => {
                    let turn = self.sieve().await;
                    for row in rows.iter().filter_map(|row| self.projection.row(row)) {
                        if !part.is_empty() {
                            part.push(',');
                        }
                        part.push_str(&row);
                    }
                    drop(turn);
                    if part.len() >= CHUNK {
                        has_said = true;
                        self.say(&protocol::snapshot(&label, &std::mem::take(&mut part), None)).await?;
                    }
                }
                Some(RowsPart::Keys(keys)) => {
                    let keys: Vec<_> = keys.iter().filter_map(|key| self.projection.key(key)).collect();
                    if !keys.is_empty() {
                        has_said = true;
                        self.say(&protocol::snapshot_keys(&label, &keys.join(","))).await?;
                    }
                }
                Some(RowsPart::Boundary(boundary)) => {
                    if !part.is_empty() {
                        self.say(&protocol::snapshot(&label, &part, None)).await?;
                    }
                    self.know(boundary.cursor.incarnation).await;
                    let cursor = self.resume_token(&boundary);
                    self.say(&protocol::snapshot(&label, "", Some(&cursor))).await?;
                    return Ok(Rows::Sent(boundary.cursor.seen));
                }
                Some(RowsPart::Refused) => return Ok(Rows::Refused),
                None => return Err(Failed::Unanswered),
            }
        }
    }

    /// Sends a page of the current rows, and says as of when.
    async fn page(&mut self, spec: &PageSpec) -> Result<Rows, Failed> {
        self.from = "page";
        let page = self.hub.page(&self.key, &self.projection, spec, Freshness::Replayed, &self.party).await;
        let page = match page {
            Ok(page) => page,
            Err(NoPage::Outdated) => return Ok(Rows::Outdated),
            Err(NoPage::Refused) => return Ok(Rows::Refused),
            Err(NoPage::Unfit(what)) => return Err(Failed::NoOrder(what)),
            Err(NoPage::Unanswered) => return Err(Failed::Unanswered),
        };
        self.know(page.boundary.cursor.incarnation).await;
        let label = self.key.label();
        for part in page.parts.iter().rev().skip(1).rev() {
            self.say(&protocol::rows(&label, part, None)).await?;
        }
        let cursor = self.resume_token(&page.boundary);
        self.say(&protocol::last_rows(&label, &page, &cursor, None)).await?;
        Ok(Rows::Sent(page.boundary.cursor.seen.clone()))
    }

    /// The rows are of this incarnation of the server, which may be news here.
    async fn know(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.hub.learn(incarnation).await;
    }

    /// A position as this client gets it.
    fn resume_token(&self, boundary: &Boundary) -> String {
        let cursor = self.hub.sealed(&boundary.token);
        ResumeToken { cursor: &cursor, rights: self.projection.mark() }.to_string()
    }

    /// What may be seen has changed before anything was said: it is looked at by the rules of now.
    fn look_again(&mut self) -> Result<(), Failed> {
        self.key = self.hub.permit(&self.key, self.who.as_deref())?;
        self.projection = self.hub.projection(&self.key)?;
        Ok(())
    }

    fn lets_in(&self, seen: &Snapshot) -> bool {
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
