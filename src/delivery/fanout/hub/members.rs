//! How it is learnt what holders have of claims whose values stand in tables, and which sockets wait meanwhile. Owns
//! that no socket is told anything of a cut that leaves its holder in doubt; which cuts do is `claims`' to say.
//!
//! | step | where |
//! |---|---|
//! | a cut changes a followed table: the sockets of its holders stop before it | under the lock, before the cut goes into the logs |
//! | what they have is read, one statement for all | the source |
//! | the stream comes to where that was read | as for any reader |
//! | their sessions look again what they may see, and go on: up to the next cut that concerns them, if one came meanwhile | each session |

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::{Hub, HubState, JoinError, Subscription};
use crate::change::{Cut, Start};
use crate::cursor::{Boundary, Snapshot};
use crate::delivery::access::auth::Identity;
use crate::delivery::access::claims::{ChangesOf, Concerned};
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{CancelFlag, Instruction, SocketWriter};
use crate::request::{MembersRead, Membership};
use crate::shutdown::Shutdown;
use crate::sync::lock;

/// Holders that are read by one statement: it takes a tenth of a second, for which one that has just come waits.
const AT_A_TIME: usize = 1_000;
/// So many of the latest touches are remembered.
const HOLDS: usize = 1_024;
/// So many subscriptions are regranted at a time; the clients of others load again. To read for each of 1,000 what it gains and
/// loses took more than two seconds, in which most of them were told nothing.
pub(super) const REGRANTS: usize = 100;
/// After a reading that failed.
const AGAIN: Duration = Duration::from_millis(500);

/// Where a touch came.
#[derive(Debug)]
pub(super) struct Hold {
    touch: u64,
    /// the cut that it came with begins there
    boundary: Boundary,
    /// the numbers of the views that were told a chunk of that cut before
    amid: Box<[u64]>,
    came: Instant,
}

/// What a subscription has shown that is held.
#[derive(Debug)]
pub(crate) struct ShownUpTo {
    /// what it was shown
    pub(crate) key: ViewKey,
    /// up to here
    pub(crate) boundary: Boundary,
    since: Instant,
}

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
        let bytes = usize::try_from(self.settings.claim_bytes).unwrap_or(usize::MAX);
        let question = Membership { holders: holders.clone(), bytes, epoch: self.database(), answer };
        let read = match self.source.membership.send(question).await {
            Ok(()) => answered.await.ok(),
            Err(_) => self.has_nothing(&holders),
        };
        let Some(read) = read else {
            lock(&self.state).claims.give_back(generation, holders);
            return false;
        };
        if self.reach(&read.seen).await.is_err() {
            // of another incarnation of the server
            lock(&self.state).claims.give_back(generation, holders);
            return false;
        }
        // it has answered for the first ones
        let rest = holders[read.holders.len()..].to_vec();
        let mut state = lock(&self.state);
        let settled = state.claims.settle(generation, read);
        state.claims.give_back(generation, rest);
        if settled.beyond_memory > 0
            && let Some(unlogged) = self.metrics.refuse("claims")
        {
            let (bytes, holders) = state.claims.size();
            tracing::warn!(event = "claims_full", bytes, holders, refused = settled.beyond_memory, unlogged);
        }
        self.sockets_of(&settled.holders).iter().for_each(|writer| writer.order(Instruction::Settled));
        drop(state);
        self.settled.send_replace(());
        true
    }

    /// Without a database nobody has anything.
    fn has_nothing(&self, holders: &[Arc<str>]) -> Option<MembersRead> {
        if let Some(unlogged) = self.metrics.refuse("claims") {
            let problem = "this node has no database to read them from: give it --database-url";
            tracing::warn!(event = "claim_unread", problem, unlogged);
        }
        let seen = lock(&self.state).boundary.as_ref()?.cursor.seen.clone();
        Some(MembersRead { seen, holders: holders.to_vec(), held: Vec::new(), beyond_memory: 0 })
    }

    fn sockets_of(&self, holders: &[Arc<str>]) -> Vec<Arc<SocketWriter>> {
        match holders {
            [] => Vec::new(),
            [one] => self.keepalive.of_user(one),
            many => {
                let many: HashSet<&str> = many.iter().map(|holder| &**holder).collect();
                self.keepalive.of_users(|user| many.contains(user))
            }
        }
    }

    /// Before a cut goes into the logs: the sockets of those whom it leaves in doubt stop here.
    pub(super) fn hold_before(&self, cut: &Cut) {
        let stated = lock(&self.state).claims.stated();
        let concerned = stated.concerned(cut);
        if !concerned.is_nobody() {
            let mut state = lock(&self.state);
            self.tell_held(&mut state);
            let (touch, holders) = state.claims.touch(concerned, &cut.until);
            state.note_hold(touch, &holders);
            self.hold(boundary_of(&state), touch, &holders);
        }
    }

    /// The same where it is not told what has changed, by how many transactions `by` says. To be called under the lock.
    pub(super) fn hold_all(&self, state: &mut HubState, by: ChangesOf) {
        let Some(seen) = state.boundary.as_ref().map(|boundary| Arc::new(boundary.cursor.seen.clone())) else { return };
        self.tell_held(state);
        let (touch, holders) = state.claims.touch(Concerned::everybody(by), &seen);
        state.note_hold(touch, &holders);
        self.hold(boundary_of(state), touch, &holders);
    }

    fn hold(&self, boundary: Option<&Arc<str>>, touch: u64, holders: &[Arc<str>]) {
        self.sockets_of(holders).iter().for_each(|writer| writer.hold(touch, boundary));
        if !holders.is_empty() {
            self.in_doubt.notify_one();
        }
    }

    /// Lets go of what nobody is connected for.
    pub(super) fn sweep_claims(&self) {
        if lock(&self.state).claims.size().1 == 0 {
            return;
        }
        // under the lock under which sockets join: one that comes now is not overlooked
        let mut state = lock(&self.state);
        let connected = self.keepalive.users();
        state.claims.sweep(&connected);
        self.in_doubt.notify_one();
    }

    /// A subscription that became a member follows, after `messages`, if its holder's values are still those. Not while they are in
    /// doubt. Cancel safe.
    pub(crate) async fn follow(
        &self,
        subscription: &Subscription,
        who: Option<&Identity>,
        messages: &[&str],
        cancel: &CancelFlag,
    ) -> bool {
        loop {
            if subscription.key().has_members() {
                self.wait_until_settled(who).await;
            }
            let state = lock(&self.state);
            match state.stands(subscription, who) {
                Standing::InDoubt => {}
                Standing::Gone => return false,
                Standing::Good => {
                    subscription.follow(messages, cancel);
                    return true;
                }
            }
        }
    }

    /// What a subscription has shown of claims' rows and where it is held; `None` where that is not known any more, or it was told a
    /// part of the cut. A change that cannot be told, and a rule that was stated since, are no matter of members.
    pub(crate) fn shown_by(&self, subscription: &Subscription, who: Option<&Identity>) -> Option<ShownUpTo> {
        let (touch, _) = subscription.held()?;
        let key = subscription.key().clone();
        key.channel()?;
        let state = lock(&self.state);
        let hold = state.holds.iter().find(|hold| hold.touch == touch)?;
        if hold.amid.contains(&subscription.view_number()) {
            return None;
        }
        let shown = ShownUpTo { key, boundary: hold.boundary.clone(), since: hold.came };
        (self.has_no_gap(&shown) && state.rules_let_in(&shown.key, who, &shown.boundary.cursor.seen)).then_some(shown)
    }

    /// The turn of a subscription to be regranted, to be kept until it is; `None` where too many are.
    pub(crate) fn regrant_turn(&self) -> Option<OwnedSemaphorePermit> {
        self.regrants.clone().try_acquire_owned().ok()
    }

    /// A subscription that became a member follows, after `messages`, which take a client that was shown `shown` to where it goes on:
    /// if all that may be seen is what it was when they were written.
    pub(crate) fn follow_from(
        &self,
        shown: &ShownUpTo,
        subscription: &Subscription,
        who: Option<&Identity>,
        messages: &[&str],
        cancel: &CancelFlag,
    ) -> bool {
        let state = lock(&self.state);
        let is_good = state.stands(subscription, who) == Standing::Good
            && state.is_held(subscription.key(), who).is_ok()
            && state.rules_let_in(&shown.key, who, &shown.boundary.cursor.seen)
            && self.has_no_gap(shown);
        if is_good {
            subscription.follow(messages, cancel);
        }
        is_good
    }

    fn has_no_gap(&self, shown: &ShownUpTo) -> bool {
        self.pages.has_no_gap(shown.key.channel(), shown.since)
    }

    /// Whether what a subscription shows is what its holder may see in this epoch, as far as is known.
    pub(crate) fn is_of_this_epoch(&self, subscription: &Subscription, who: Option<&Identity>) -> bool {
        lock(&self.state).stands(subscription, who) != Standing::Gone
    }

    /// Lets those of a socket's subscriptions go on that were held and are still good: as far as it is known that they are.
    pub(crate) fn release(&self, who: Option<&Identity>, writer: &SocketWriter, subscriptions: &[Subscription]) {
        let state = lock(&self.state);
        let good = |subscription: &&Subscription| state.stands(subscription, who) != Standing::Gone;
        let numbers: Vec<u64> = subscriptions.iter().filter(good).map(Subscription::number).collect();
        let touch = who.and_then(|who| state.claims.first_touch(who.user.as_deref()?));
        writer.release(&numbers, touch);
    }

    /// Whether somebody is allowed just what `key` shows.
    pub(crate) fn is_allowed(&self, key: &ViewKey, who: Option<&Identity>) -> bool {
        lock(&self.state).is_held(key, who).is_ok()
    }

    /// Of what somebody has of claims now: another number, another epoch.
    pub(crate) fn epoch_of(&self, who: Option<&Identity>) -> u64 {
        who.and_then(|who| who.user.as_deref()).map_or(0, |user| lock(&self.state).claims.epoch(user))
    }

    /// Waits until what somebody has of claims is known. Cancel safe.
    pub(crate) async fn wait_until_settled(&self, who: Option<&Identity>) {
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
        self.wait_until_settled(who).await;
        self.lets_in(key, who, seen)
    }

    /// What the beginning of the stream says of claims.
    pub(super) fn begin_claims(&self, state: &mut HubState, start: Start) {
        let Some(seen) = state.boundary.as_ref().map(|boundary| boundary.cursor.seen.clone()) else { return };
        match start {
            Start::Continues => {}
            Start::First => state.claims.begin(&seen),
            Start::Gap(_) => {
                state.claims.begin(&seen);
                let (touch, holders) = state.claims.touch(Concerned::everybody(ChangesOf::ByNone), &Arc::new(seen));
                // what is in the logs does not end at the boundary: the gap is not in them yet
                self.hold(None, touch, &holders);
            }
        }
    }
}

/// The cursor of the boundary at which all logs end now, if they do.
fn boundary_of(state: &HubState) -> Option<&Arc<str>> {
    state.boundary.as_ref().filter(|_| state.is_at_boundary).map(|boundary| &boundary.token)
}

/// How a subscription stands to what its holder has of claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// it does not depend on it, or it is what the holder has
    Good,
    /// it was what the holder had, and is in doubt
    InDoubt,
    /// the holder's values are others, or were meanwhile
    Gone,
}

impl HubState {
    fn note_hold(&mut self, touch: u64, holders: &[Arc<str>]) {
        let Some(boundary) = self.boundary.as_ref().filter(|_| !holders.is_empty()).cloned() else { return };
        let amid = self.amid.iter().map(|view| view.number).chain(self.told_amid.iter().copied()).collect();
        self.holds.push_back(Hold { touch, boundary, amid, came: Instant::now() });
        if self.holds.len() > HOLDS {
            self.holds.pop_front();
        }
    }

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

    fn stands(&self, subscription: &Subscription, who: Option<&Identity>) -> Standing {
        if !subscription.key().has_members() {
            return Standing::Good;
        }
        match who.and_then(|who| who.user.as_deref()) {
            Some(user) if self.claims.epoch(user) != subscription.epoch() => Standing::Gone,
            Some(user) if !self.claims.is_settled(user) => Standing::InDoubt,
            Some(_) => Standing::Good,
            None => Standing::Gone,
        }
    }
}
