//! What a socket's token is worth while the socket is open. Owns the moments at which its client has to hear of it;
//! knows no channel.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep};

use crate::delivery::access::auth::{Identity, Keys, Unauthenticated};

/// So long before its end a token is said to expire.
const WARNING: Duration = Duration::from_secs(60);
/// Without a token and without a subscription a socket stays open so long.
const NOBODY: Duration = Duration::from_secs(10);
/// As good as never.
const NEVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// The identity at the other end, and until when it is good.
pub(crate) struct TokenLease {
    keys: Arc<Keys>,
    who: Arc<Identity>,
    next: LeaseDue,
    timer: Pin<Box<Sleep>>,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseDue {
    /// the token expires soon
    Expiring,
    /// it has expired
    Expired,
    /// it has no token; whether that matters is the session's to say
    Nobody,
    /// nothing any more
    Nothing,
}

impl TokenLease {
    /// Of somebody whose token these keys have checked, or of nobody in particular.
    pub(crate) fn new(keys: Arc<Keys>, who: Arc<Identity>) -> Self {
        let (next, at) = Self::first(&who);
        Self { keys, who, next, timer: Box::pin(tokio::time::sleep(at)) }
    }

    /// The identity at the other end.
    pub(crate) fn who(&self) -> &Arc<Identity> {
        &self.who
    }

    /// Another token takes the place of the first. The user stays the same: a socket is one person's.
    ///
    /// # Errors
    /// Why it is not believed; then the first one goes on.
    pub(crate) fn renew(&mut self, token: &str) -> Result<(), Unauthenticated> {
        let who = self.keys.verify(token)?;
        if self.who.user.is_some() && self.who.user != who.user {
            return Err(Unauthenticated("the token is of another user: open another socket"));
        }
        self.who = Arc::new(who);
        let (next, at) = Self::first(&self.who);
        self.next = next;
        self.timer.as_mut().reset(Instant::now() + at);
        Ok(())
    }

    /// How long the token is still good.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.who.expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Ready when there is something to say.
    pub(crate) fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<LeaseDue> {
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let due = self.next;
        let (next, at) = match (due, self.remaining()) {
            (LeaseDue::Expiring, Some(remaining)) => (LeaseDue::Expired, remaining),
            _ => (LeaseDue::Nothing, NEVER),
        };
        self.next = next;
        self.timer.as_mut().reset(Instant::now() + at.min(NEVER));
        Poll::Ready(due)
    }

    /// A socket that is nobody's is looked at once more, in a second.
    pub(crate) fn look_again(&mut self) {
        self.next = LeaseDue::Nobody;
        self.timer.as_mut().reset(Instant::now() + Duration::from_secs(1));
    }

    fn first(who: &Identity) -> (LeaseDue, Duration) {
        match who.expires {
            None => (LeaseDue::Nobody, NOBODY),
            Some(at) => {
                let remaining = at.duration_since(SystemTime::now()).unwrap_or_default();
                // half of a short life, lest a new token be asked for again at once
                (LeaseDue::Expiring, (remaining - WARNING.min(remaining / 2)).min(NEVER))
            }
        }
    }
}
