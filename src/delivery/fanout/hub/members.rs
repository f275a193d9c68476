//! How it is learnt what holders have of claims whose values stand in tables, and who waits meanwhile. Owns that no socket is
//! told anything of a cut that leaves its holder in doubt; which cuts do is `claims`' to say.
//!
//! | step | where |
//! |---|---|
//! | a cut changes a followed table: the sockets of its holders stop before it | under the lock, before the cut goes into the logs |
//! | what they have is read, one statement for all | the source |
//! | the stream comes to where that was read | as for any reader |
//! | unless a later cut concerns them: their sessions look again what they may see, and go on | under the lock, then each session |

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Hub, JoinError};
use crate::change::{Cut, Event, Start};
use crate::cursor::Snapshot;
use crate::delivery::access::auth::Identity;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{Order, SocketWriter};
use crate::request::Membership;
use crate::shutdown::Shutdown;
use crate::sync::lock;

/// Holders that are read by one statement.
const AT_A_TIME: usize = 10_000;
/// After a reading that failed.
const AGAIN: Duration = Duration::from_millis(500);

impl Hub {
    /// Reads what holders have, whenever one is in doubt, until the shutdown.
    pub(super) async fn read_members(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            let (generation, holders) = lock(&self.state).claims.take_due(AT_A_TIME);
            let step = async {
                if holders.is_empty() {
                    return self.in_doubt.notified().await;
                }
                if !self.read_of(generation, holders).await {
                    tokio::time::sleep(AGAIN).await;
                }
            };
            tokio::select! {
                () = step => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Whether these were read.
    async fn read_of(&self, generation: u64, holders: Vec<Arc<str>>) -> bool {
        self.wait_until_live().await;
        let (answer, answered) = oneshot::channel();
        self.metrics.claim_reads.inc();
        let question = Membership { holders: holders.clone(), answer };
        let (seen, held) = match self.source.membership.send(question).await {
            Ok(()) => match answered.await {
                Ok(read) => read,
                Err(_) => return self.are_unread(generation, holders),
            },
            Err(_) => {
                // no database: nobody has anything
                if let Some(unlogged) = self.metrics.refuse("claims") {
                    let problem = "this node has no database to read them from: give it --database-url";
                    tracing::warn!(event = "claim_unread", problem, unlogged);
                }
                let Some(seen) = lock(&self.state).boundary.as_ref().map(|boundary| boundary.cursor.seen.clone()) else {
                    return self.are_unread(generation, holders);
                };
                (seen, Vec::new())
            }
        };
        if self.reach(&seen).await.is_err() {
            // of another incarnation of the server
            return self.are_unread(generation, holders);
        }
        let settled = {
            let mut state = lock(&self.state);
            let settled = state.claims.settle(generation, &holders, held, &seen);
            if settled.beyond_memory > 0
                && let Some(unlogged) = self.metrics.refuse("claims")
            {
                let (bytes, holders) = state.claims.size();
                tracing::warn!(event = "claims_full", bytes, holders, refused = settled.beyond_memory, unlogged);
            }
            let settled: HashSet<Arc<str>> = settled.holders.into_iter().collect();
            self.sockets_of(&settled)
        };
        settled.iter().for_each(|writer| writer.order(Order::Settled));
        self.settled.send_replace(());
        true
    }

    fn are_unread(&self, generation: u64, holders: Vec<Arc<str>>) -> bool {
        lock(&self.state).claims.give_back(generation, holders);
        false
    }

    fn sockets_of(&self, holders: &HashSet<Arc<str>>) -> Vec<Arc<SocketWriter>> {
        if holders.is_empty() {
            return Vec::new();
        }
        let is_theirs = |user: &Option<Arc<str>>| user.as_ref().is_some_and(|user| holders.contains(user));
        self.keepalive.everybody().into_iter().filter(|member| is_theirs(&member.user)).map(|member| member.writer).collect()
    }

    /// Before a cut goes into the logs: the sockets of those whom it leaves in doubt stop here. To be called under the lock.
    pub(super) fn hold_before(&self, state: &mut super::State, cut: &Cut) {
        let touched: HashSet<Arc<str>> = state.claims.touch(cut).into_iter().collect();
        self.hold(&touched);
    }

    /// The same where it is not told what has changed.
    pub(super) fn hold_all(&self, state: &mut super::State) {
        let seen = state.boundary.as_ref().map(|boundary| boundary.cursor.seen.clone());
        let all: HashSet<Arc<str>> = state.claims.doubt_all(seen.as_ref()).into_iter().collect();
        self.hold(&all);
    }

    /// Lets go of what nobody is connected for.
    pub(super) fn sweep_claims(&self) {
        if lock(&self.state).claims.size().1 == 0 {
            return;
        }
        let connected = self.keepalive.everybody().into_iter().filter_map(|member| member.user).collect();
        lock(&self.state).claims.sweep(&connected);
        self.in_doubt.notify_one();
    }

    fn hold(&self, holders: &HashSet<Arc<str>>) {
        self.sockets_of(holders).iter().for_each(|writer| writer.hold());
        if !holders.is_empty() {
            self.in_doubt.notify_one();
        }
    }

    /// Lets a socket go on that was held, unless its holder is in doubt: then it goes on once that is settled.
    pub(crate) fn release(&self, who: Option<&Identity>, writer: &SocketWriter) {
        let state = lock(&self.state);
        let user = who.and_then(|who| who.user.as_deref());
        if user.is_none_or(|user| state.claims.is_settled(user)) {
            writer.release();
        }
    }

    /// Whether somebody is allowed just what `key` shows.
    pub(crate) fn is_allowed(&self, key: &ViewKey, who: Option<&Identity>) -> bool {
        lock(&self.state).is_held(key, who).is_ok()
    }

    /// Waits until what somebody has of claims is known. Cancel safe.
    pub(crate) async fn is_settled(&self, who: Option<&Identity>) {
        let Some(user) = who.and_then(|who| who.user.as_ref()) else { return };
        let mut settled = self.settled.subscribe();
        loop {
            settled.mark_unchanged();
            {
                let mut state = lock(&self.state);
                if state.claims.is_settled(user) {
                    return;
                }
                if state.claims.want(user) {
                    self.in_doubt.notify_one();
                }
            }
            let _ = settled.changed().await;
        }
    }

    /// Whether somebody may be told rows of `key` that were read at a position: the stream has come there, and what depends
    /// on claims is what it was then. Cancel safe.
    pub(crate) async fn may_be_told(&self, key: &ViewKey, who: Option<&Identity>, seen: &Snapshot) -> bool {
        if !key.has_members() {
            return true;
        }
        if self.reach(seen).await.is_err() {
            return false;
        }
        self.is_settled(who).await;
        self.lets_in(key, who, seen)
    }

    /// What an event says of claims, before it is applied.
    pub(super) fn heed(&self, event: &Event) {
        let mut state = lock(&self.state);
        match event {
            Event::From { boundary, start: Start::First, .. } => state.claims.begin(&boundary.cursor.seen),
            Event::From { boundary, start: Start::Gap(_), .. } => {
                state.claims.begin(&boundary.cursor.seen);
                self.hold_all(&mut state);
            }
            Event::Gap { channel, .. } if state.claims.follow(channel) => self.hold_all(&mut state),
            Event::Channels { claims, .. } => {
                let seen = state.boundary.as_ref().map(|boundary| boundary.cursor.seen.clone());
                if state.claims.state(claims.clone(), seen.as_ref()) {
                    self.hold_all(&mut state);
                }
            }
            _ => {}
        }
    }
}

impl super::State {
    /// Whether somebody may follow `key` from the present on.
    pub(super) fn is_held(&self, key: &ViewKey, who: Option<&Identity>) -> Result<(), JoinError> {
        let Some(who) = who.filter(|_| key.has_members()) else { return Ok(()) };
        match self.permit(&key.asked(), who) {
            Ok(now) if now == *key => Ok(()),
            // what it may see is another part by now: it looks again
            Ok(_) => Err(JoinError::InDoubt),
            Err(error) => Err(error),
        }
    }
}
