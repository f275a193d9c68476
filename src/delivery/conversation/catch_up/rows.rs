//! The current rows on a subscriber's way to the present: all of them, or one page. Owns how they are read and that the changes
//! since follow; the way itself is `catch_up`'s.
//!
//! To a client that takes them so, all rows of a table with a primary key are pages in its order, each read in a short
//! transaction of its own, so that no transaction lasts as long as a slow client. The changes that follow are those since the
//! first page was read: a row may be newer than the position that the client is told, and then its changes come although they
//! are in it. As each carries the whole row, the client ends with the table. A page that another client has just read is as
//! good, if it was not read before the first one.
//!
//! Any other client gets the rows of one moment: a page where that is all of them, else a transaction.

use tokio::sync::mpsc;

use super::send::CHUNK;
use super::{CatchUp, JoinFailed, Rows};
use crate::cursor::{Boundary, Snapshot};
use crate::delivery::fanout::hub::{Freshness, NoPage, Untaken};
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::{ResumeToken, encode_place};
use crate::incarnations::{Gap, Lineage};
use crate::request::{Bound, Ordering, PageSpec, Place, Request, RowsPart};

/// Rows of a page at most, and about as many bytes: a client that is broken off goes on behind the last whole page.
const PAGE_ROWS: u32 = 10_000;
const PAGE_BYTES: u32 = 1 << 20;

/// Where a client goes on that was given a part of the rows.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// when the first of them was read
    pub(super) seen: Snapshot,
    /// the cursor of then, with the mark of the rights, as the client has it
    pub(super) token: String,
    /// the last of them
    pub(super) place: Place,
}

impl CatchUp {
    pub(super) async fn say_no_rows(&self) -> Result<(), JoinFailed> {
        let text = format!("the rows of channel {} cannot be read: the server's log says why", self.key.label());
        let reference = self.reference.as_ref();
        self.say(&match reference {
            Some(_) => protocol::error("no_snapshot", &text, reference),
            None => protocol::channel_error("no_snapshot", &text, &self.key.label()),
        })
        .await
    }

    /// Sends all current rows, or those behind a part of them, and says from where on the changes follow.
    pub(super) async fn all_rows(
        &mut self,
        part: Option<Part>,
        in_pages: bool,
        freshness: Freshness<'_>,
    ) -> Result<Rows, JoinFailed> {
        self.from = "snapshot";
        let (label, floor) = (self.key.label(), self.hub.floor_of(&self.key));
        let mut goes_on = part.is_some();
        // where a page was read here, a later one that cannot be read is not the fault of the place that the client brought
        let mut has_read = false;
        // to a client that relies on it that these are the rows of now, no others are given
        let begin = if in_pages { freshness } else { Freshness::Present };
        let mut part = part;
        loop {
            // for one part of them: between two, others of this socket have their turn
            let turn = self.hub.turn_on(&self.writer, &self.asker, Untaken::Part).await;
            let bound = part.as_ref().map(|part| Bound::After(part.place.clone()));
            let (limit, bytes) = (PAGE_ROWS, PAGE_BYTES);
            let spec = PageSpec { ordering: Ordering::Key, bound, limit, bytes, wants_count: false };
            let freshness = part.as_ref().map_or(begin, |part| Freshness::ReplayedFrom(&part.seen));
            let page = self.hub.page(&self.key, &self.projection, &spec, freshness, &self.asker).await;
            let page = match (page, &part) {
                // they were read by the rules of before: it begins anew by those of now
                (Ok(page), None) if page.floor != floor => return Ok(Rows::Outdated),
                (Ok(page), Some(_)) if page.floor != floor => return Err(JoinFailed::Unanswered),
                (Ok(page), _) => page,
                (Err(NoPage::Unfit(_)), None) => {
                    drop(turn);
                    return self.whole_table().await;
                }
                (Err(NoPage::Refused), None) => return Ok(Rows::Refused),
                // also behind rows that the client keeps: it asks for the others again, and its other channels go on
                (Err(NoPage::Later), _) => return Err(JoinFailed::Later),
                (Err(NoPage::Outdated), None) => return Ok(Rows::Outdated),
                // the place is none any more: it begins anew
                (Err(NoPage::Unfit(_) | NoPage::Refused), Some(_)) => {
                    self.tell_gap(Gap::BadCursor).await?;
                    if has_read {
                        drop(turn);
                        return self.whole_table().await;
                    }
                    (part, goes_on) = (None, false);
                    continue;
                }
                (Err(_), _) => return Err(JoinFailed::Unanswered),
            };
            has_read = true;
            if page.more && !in_pages {
                drop(turn);
                return self.whole_table().await;
            }
            if !self.may_tell(&page.boundary.cursor.seen).await {
                return if part.is_some() { Err(JoinFailed::Unanswered) } else { Ok(Rows::Outdated) };
            }
            let (seen, token) = match &part {
                Some(part) => (part.seen.clone(), part.token.clone()),
                None => {
                    self.know(page.boundary.cursor.lineage()).await;
                    (page.boundary.cursor.seen.clone(), self.resume_token(&page.boundary))
                }
            };
            let place = page.last.as_ref().filter(|_| page.more);
            let told = page.told.as_ref().filter(|_| page.more);
            let next =
                told.map(|place| ResumeToken { place: &encode_place(place), ..ResumeToken::parse(&token) }.to_string());
            let parts: Vec<_> = page.parts.iter().filter(|part| !part.rows.is_empty()).collect();
            for (at, part) in parts.iter().enumerate() {
                let cursor = next.as_deref().filter(|_| at + 1 == parts.len());
                if self.hub.floor_of(&self.key) != floor {
                    return Err(JoinFailed::Unanswered);
                }
                self.say(&protocol::snapshot(&label, &part.rows, part.omitted, cursor)).await?;
            }
            drop(turn);
            let Some(place) = place.cloned() else {
                // the client is told the changes up to where the stream is: at least to the newest of its rows, or it would have
                // some rows of after that and others of before. Of pages that it got earlier nothing else is known
                if goes_on {
                    self.hub.wait_for_fresh_read().await;
                }
                if self.hub.reach(&page.boundary.cursor.seen).await.is_err() {
                    return Err(JoinFailed::Unanswered);
                }
                self.say(&protocol::last_snapshot(&label, &token)).await?;
                return Ok(Rows::Sent { seen, goes_on });
            };
            part = Some(Part { seen, token, place });
        }
    }

    /// Sends the current rows as they are in one transaction, and says as of when.
    async fn whole_table(&mut self) -> Result<Rows, JoinFailed> {
        let label = self.key.label();
        let epoch = self.hub.epoch_of(self.who.as_deref());
        let (answer, mut answers) = mpsc::channel(1);
        let (predicate, floor) = (self.projection.predicate(), self.hub.floor_of(&self.key));
        let (channel, asker) = (label.channel.clone(), self.asker.clone());
        self.hub
            .ask(Request::Snapshot { channel, epoch: None, predicate, asker, answer, permit: None }, &self.asker)
            .await;
        let (mut part, mut has_said) = (String::new(), false);
        let mut is_known = !self.key.has_members();
        loop {
            let answer = answers.recv().await;
            // the stream comes to where they are read, which is before now: what its holder has by then is known
            if !std::mem::replace(&mut is_known, true) {
                if !self.hub.wait_for_fresh_read().await {
                    return Ok(Rows::Outdated);
                }
                self.hub.wait_until_settled(self.who.as_deref()).await;
            }
            let is_of_this_epoch = !self.key.has_members() || self.hub.epoch_of(self.who.as_deref()) == epoch;
            if !is_of_this_epoch || !self.hub.is_allowed(&self.key, self.who.as_deref()) {
                return if has_said { Err(JoinFailed::Unanswered) } else { Ok(Rows::Outdated) };
            }
            // they were read by the rules of before: it begins anew by those of now
            if self.hub.floor_of(&self.key) != floor {
                return if has_said { Err(JoinFailed::Unanswered) } else { Ok(Rows::Outdated) };
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
                        self.say(&protocol::snapshot(&label, &std::mem::take(&mut part), false, None)).await?;
                    }
                }
                Some(RowsPart::Keys(keys)) => {
                    let keys: Vec<_> = keys.iter().filter_map(|key| self.projection.key(key)).collect();
                    if !keys.is_empty() {
                        has_said = true;
                        self.say(&protocol::snapshot(&label, &keys.join(","), true, None)).await?;
                    }
                }
                Some(RowsPart::Boundary(boundary)) => {
                    if !part.is_empty() {
                        self.say(&protocol::snapshot(&label, &part, false, None)).await?;
                    }
                    self.know(boundary.cursor.lineage()).await;
                    let cursor = self.resume_token(&boundary);
                    self.say(&protocol::last_snapshot(&label, &cursor)).await?;
                    return Ok(Rows::Sent { seen: boundary.cursor.seen, goes_on: false });
                }
                Some(RowsPart::Refused) => return Ok(Rows::Refused),
                Some(RowsPart::Later) => return Err(JoinFailed::Later),
                None => return Err(JoinFailed::Unanswered),
            }
        }
    }

    /// Sends a page of the current rows, and says as of when.
    pub(super) async fn page(&mut self, spec: &PageSpec, freshness: Freshness<'_>) -> Result<Rows, JoinFailed> {
        self.from = "page";
        let _turn = self.hub.turn_on(&self.writer, &self.asker, Untaken::Page).await;
        let page = self.hub.page(&self.key, &self.projection, spec, freshness, &self.asker).await;
        let page = match page {
            Ok(page) => page,
            Err(NoPage::Outdated) => return Ok(Rows::Outdated),
            Err(NoPage::Refused) => return Ok(Rows::Refused),
            Err(NoPage::Later) => return Err(JoinFailed::Later),
            Err(NoPage::Unfit(what)) => return Err(JoinFailed::NoOrder(what)),
            Err(NoPage::Unanswered) => return Err(JoinFailed::Unanswered),
        };
        self.know(page.boundary.cursor.lineage()).await;
        if !self.may_tell(&page.boundary.cursor.seen).await {
            return Ok(Rows::Outdated);
        }
        let label = self.key.label();
        for part in page.parts.iter().rev().skip(1).rev() {
            if self.hub.floor_of(&self.key) != page.floor {
                return Err(JoinFailed::Unanswered);
            }
            self.say(&protocol::rows(&label, part, None)).await?;
        }
        let cursor = self.resume_token(&page.boundary);
        self.say(&protocol::last_rows(&label, &page, &cursor, None)).await?;
        Ok(Rows::Sent { seen: page.boundary.cursor.seen.clone(), goes_on: false })
    }

    /// Whether rows that were read at a position are still of what may be seen.
    async fn may_tell(&self, seen: &Snapshot) -> bool {
        self.hub.may_be_told(&self.key, self.who.as_deref(), seen).await
    }

    /// The rows are of there; the incarnation of the server may be news here.
    async fn know(&mut self, lineage: Lineage) {
        self.lineage = lineage;
        self.hub.learn(lineage.incarnation).await;
    }

    /// A position as this client gets it.
    fn resume_token(&self, boundary: &Boundary) -> String {
        ResumeToken::of(&self.hub.sealed(&boundary.token), self.projection.mark()).to_string()
    }
}
