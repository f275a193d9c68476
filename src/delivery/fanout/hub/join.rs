//! How a socket becomes a member of a view. Owns the moment: under the lock under which cuts are applied, so that the first frame
//! it gets is the one after the cursor that it was told.

use std::sync::{Arc, MutexGuard};

use super::{Hub, HubState, Subscription};
use crate::change::Cut;
use crate::cursor::{Boundary, Snapshot};
use crate::delivery::access::auth::Identity;
use crate::delivery::access::shares::TooMany;
use crate::delivery::fanout::view::View;
use crate::delivery::scope::projection::Unfit;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{CancelFlag, SocketWriter};
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;
use crate::incarnations::Lineage;
use crate::sync::lock;

/// How a subscriber that comes with a position gets in.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once for a subscriber, and taken apart at once")]
pub enum JoinOutcome {
    /// It is a member now, and hears of nothing before it follows.
    Joined {
        /// its membership
        subscription: Subscription,
        /// hold what it has missed
        cuts: Vec<Arc<Cut>>,
        /// where the view's log goes on
        boundary: Boundary,
    },
    /// Memory does not reach back to its position.
    BeyondMemory,
    /// A cut is arriving, or its holder is in doubt.
    Later,
    /// The server has begun another incarnation since the position was judged, or another database is followed.
    AnotherIncarnation,
    /// What may be seen was changed since.
    Hidden,
}

/// Why a socket cannot join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinError {
    /// Capture is not live; wait for [`Hub::wait_until_live`].
    NotLive,
    /// There is no such channel.
    UnknownChannel,
    /// The channel cannot be seen that way.
    Unfit(Unfit),
    /// It depends on a claim whose values stand in tables, and what this user has is not known, or in doubt: to be
    /// waited for.
    InDoubt,
    /// No policy lets the token see it.
    Forbidden,
    /// The asker has as many different ones as it may have.
    TooMany(TooMany),
}

impl From<Unfit> for JoinError {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl Hub {
    /// Joins a socket to a view: it is told `subscribed`, and then every frame from that cursor on.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(
        self: &Arc<Self>,
        key: &ViewKey,
        who: Option<&Identity>,
        writer: &Arc<SocketWriter>,
        asker: &Arc<str>,
        reference: Option<&serde_json::Value>,
    ) -> Result<Subscription, JoinError> {
        let mut state = self.joinable(key)?;
        state.is_held(key, who)?;
        let subscription = self.member(&mut state, key, who, writer, asker)?;
        let cursor = ResumeToken::of(&state.cursor, subscription.mark()).to_string();
        let message = protocol::subscribed(&key.label(), &cursor, false, 0, reference);
        subscription.follow(&[&message], &CancelFlag::default());
        Ok(subscription)
    }

    /// Makes a socket that has come to `seen`, in that lineage, a member of a view. It is to follow once it
    /// was sent what it missed.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn enter(
        self: &Arc<Self>,
        key: &ViewKey,
        who: Option<&Identity>,
        writer: &Arc<SocketWriter>,
        asker: &Arc<str>,
        seen: &Snapshot,
        lineage: Lineage,
    ) -> Result<JoinOutcome, JoinError> {
        let mut state = self.joinable(key)?;
        let user = who.and_then(|who| who.user.as_deref()).filter(|_| key.has_members());
        if user.is_some_and(|user| !state.claims.is_settled(user)) {
            return Ok(JoinOutcome::Later);
        }
        if !state.lets_in(key, who, seen) {
            return Ok(JoinOutcome::Hidden);
        }
        if state.incarnations.as_ref().is_none_or(|incarnations| incarnations.lineage() != lineage) {
            return Ok(JoinOutcome::AnotherIncarnation);
        }
        let here = state.boundary.clone().filter(|boundary| state.is_at_boundary && boundary.cursor.seen.covers(seen));
        let Some(boundary) = here else { return Ok(JoinOutcome::Later) };
        if !state.history.reaches(seen) {
            return Ok(JoinOutcome::BeyondMemory);
        }
        let cuts = state.history.since(seen);
        let subscription = self.member(&mut state, key, who, writer, asker)?;
        Ok(JoinOutcome::Joined { subscription, cuts, boundary })
    }

    /// The state, if a view may be joined.
    fn joinable(&self, key: &ViewKey) -> Result<MutexGuard<'_, HubState>, JoinError> {
        let state = lock(&self.state);
        match key {
            _ if !self.is_live() => Err(JoinError::NotLive),
            ViewKey::Channel(name, _) if state.channel(name).is_none() => Err(JoinError::UnknownChannel),
            ViewKey::Channel(..) | ViewKey::User(..) => Ok(state),
        }
    }

    fn member(
        self: &Arc<Self>,
        state: &mut HubState,
        key: &ViewKey,
        who: Option<&Identity>,
        writer: &Arc<SocketWriter>,
        asker: &Arc<str>,
    ) -> Result<Subscription, JoinError> {
        let user = who.and_then(|who| who.user.as_deref()).filter(|_| key.has_members());
        let epoch = user.map_or(0, |user| state.claims.use_by(user));
        let (view, is_new) = match state.known.get(key) {
            Some(view) => (view.clone(), None),
            None => {
                let projection = state.projection(key)?;
                let log_bytes = self.settings.log_bytes;
                (Arc::new(View::new(key.clone(), log_bytes, self.meter.clone(), self.shards.len())), Some(projection))
            }
        };
        let look = key.is_narrowed().then(|| self.shares.look(asker, view.number)).transpose();
        let look = look.map_err(JoinError::TooMany)?.map(Box::new);
        if let Some(projection) = is_new {
            state.known.insert(&view, projection);
            self.new_view.notify_one();
        }
        state.latest.divide(view.number);
        let shard = fastrand::usize(..self.shards.len());
        let slot = lock(&view.members[shard]).insert(writer.clone());
        Ok(Subscription::new(self.clone(), view, writer.clone(), look, epoch, shard, slot))
    }
}
