//! What a follower does where the stream has lost something. Owns the order of the positions where it looks: further back in
//! the stream, then the outbox, then a gap.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Follower, malformed};
use crate::backbone::append::StreamState;
use crate::backbone::entry;
use crate::backbone::link::RedisConnection;
use crate::backbone::merge;
use crate::backbone::stream::Id;
use crate::change::{Cut, Event, Start};
use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::error::{Error, Kind, Result};
use crate::incarnations::{Gap, Incarnations};
use crate::request::{ReplayPart, Request};

impl Follower {
    /// Sees to it that nothing is missing before an entry that begins `at` a position and is no cut. Where to read on, if it
    /// is further back in the stream. Else it is not left to the next cut, which may be hours away; the rest of one that
    /// goes on here is told by its next chunk.
    pub(super) async fn fill(&mut self, connection: &mut RedisConnection, id: Id, at: &Cursor) -> Result<Option<Id>> {
        if !self.misses(at) {
            return Ok(None);
        }
        let earlier = self.search(connection, id).await?;
        // the rest of the cut in which this node is, then what follows it
        while earlier.is_none() && at.inside.is_none() && self.misses(at) {
            let Some(position) = self.position.clone() else { break };
            // of two positions that each know something which the other does not, the next cut makes one
            if position.inside.is_none() && !at.seen.covers(&position.seen) {
                break;
            }
            let until = position.inside.as_ref().map_or(&at.seen, |(end, _)| end).clone();
            self.heal(&position, until, at.clone()).await?;
        }
        Ok(earlier)
    }

    fn misses(&self, at: &Cursor) -> bool {
        self.position.as_ref().is_some_and(|position| merge::misses(position, at))
    }

    /// Where to read on, if what is missing before an entry is further back in the stream. Looked for once. Where it is
    /// not, what was revoked or allowed meanwhile is heard of at once: the next entry may come after it.
    pub(super) async fn search(&mut self, connection: &mut RedisConnection, id: Id) -> Result<Option<Id>> {
        let Some(position) = &self.position else { return Ok(None) };
        if self.searched_for.replace(id) == Some(id) {
            return Ok(None);
        }
        let seen = position.seen.clone();
        let state = self.stream_begins(connection).await?;
        let begin = self.locate(connection, &state, &seen).await?;
        let earlier = begin.filter(|begin| *begin < id).map(Id::before);
        if earlier.is_none() {
            self.hear_of_the_catalogue(&state).await?;
            self.hear_of_revocations(&state).await?;
        }
        Ok(earlier)
    }

    /// Which channels and policies there are, also where the entry that said so is gone.
    pub(super) async fn hear_of_the_catalogue(&mut self, state: &StreamState) -> Result<()> {
        if !state.channels.is_empty() {
            self.send(entry::channels(&state.channels).map_err(|bad| malformed(bad.0))?).await?;
        }
        self.catalogue_of = Id::parse(&state.last).unwrap_or_default();
        Ok(())
    }

    /// Whose tokens were revoked since the last entry that was read, also where the entry that said so is gone.
    pub(super) async fn hear_of_revocations(&self, state: &StreamState) -> Result<()> {
        for revoked in &state.revoked {
            if Id::parse(&revoked.id).is_some_and(|id| id > self.read) {
                self.send(Event::Revoked { user: revoked.user.clone(), at: revoked.at }).await?;
            }
        }
        Ok(())
    }

    /// Reads what is missing from the outbox: what `until` saw and the position did not.
    pub(super) async fn heal(&mut self, position: &Cursor, until: Snapshot, from: Cursor) -> Result<()> {
        let lsn = from.lsn.max(position.lsn);
        // one gap for all that is missing, also where it is of two cuts
        let beyond = if from.seen.covers(&until) { from.seen.clone() } else { until.clone() };
        let beyond = Boundary::new(Cursor { seen: beyond, lsn, ..from.clone() });
        let Some(outbox) = self.outbox.clone() else { return self.give_up(Gap::Retention, beyond).await };
        let boundary = Boundary::new(Cursor { seen: until.clone(), lsn, ..from });
        let begin = Arc::new(Cursor { seen: position.seen.clone(), ..boundary.cursor.clone() });
        let after = position.inside.as_ref().map_or(0, |(_, id)| *id);
        tracing::info!(event = "stream_incomplete", "what is missing is read from the outbox");
        let (answer, mut answers) = mpsc::channel(1);
        let (seen, ends) = (position.seen.clone(), until.clone());
        let lineage = boundary.cursor.lineage();
        let asker = Arc::default();
        let request = Request::Replay { seen, until: ends, after, lineage, channel: None, asker, answer };
        outbox.send(request).await.map_err(|_| Error::new(Kind::Io, "the source has ended"))?;
        while let Some(part) = answers.recv().await {
            match part {
                ReplayPart::Changes(changes) => {
                    let Some(last) = changes.last().map(|change| change.id) else { continue };
                    let cut = Cut { changes, from: begin.clone(), until: Arc::new(until.clone()), end: None };
                    self.position = Some(Cursor { lsn, inside: Some((until.clone(), last)), ..position.clone() });
                    self.send(Event::Cut(cut)).await?;
                }
                ReplayPart::Done => {
                    self.position = Some(boundary.cursor.clone());
                    let (changes, until) = (Vec::new(), Arc::new(until));
                    return self.send(Event::Cut(Cut { changes, from: begin, until, end: Some(boundary) })).await;
                }
                ReplayPart::Gap(gap) => return self.give_up(gap, beyond).await,
                // the outbox gives one cut
                ReplayPart::Until(_) => {}
            }
        }
        self.tell_down("what the stream has lost is read from the database; changes are delayed, not lost").await?;
        // to be tried again after the pause of a lost connection: a follower that only waited here would hear of no
        // revocation
        let text = "the stream has lost changes, and the database that has them does not answer";
        Err(Error::new(Kind::Connection, text).hint("see to the way to Postgres; rowcast tries again by itself"))
    }

    /// Goes on from a boundary: what lies between is lost to this node.
    pub(super) async fn give_up(&mut self, gap: Gap, boundary: Boundary) -> Result<()> {
        tracing::error!(
            event = "gap",
            reason = gap.as_str(),
            "changes are missing from the stream, and cannot be had from elsewhere"
        );
        self.position = Some(boundary.cursor.clone());
        let incarnations = self.incarnations.clone().unwrap_or_else(|| {
            Arc::new(Incarnations { epoch: boundary.cursor.epoch, incarnations: Vec::new(), seal: None })
        });
        self.send(Event::From { boundary, incarnations, start: Start::Gap(gap), inside: None }).await
    }
}
