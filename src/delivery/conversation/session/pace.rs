//! How many commands a client may send. Owns the two buckets; what a client that is too fast is told is the session's.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::Limits;
use crate::delivery::wire::command;

/// The commands of one client.
pub(super) struct CommandPace {
    bucket: DefaultDirectRateLimiter,
    /// a client that comes with all its subscriptions, or lets go of them, says so at once
    joins: DefaultDirectRateLimiter,
    refused: u32,
}

/// A command is one too many.
pub(super) struct TooFast {
    /// until the next one may come
    pub(super) wait: Duration,
    /// of this client so far
    pub(super) refused: u32,
}

impl CommandPace {
    pub(super) fn new(limits: &Limits) -> Self {
        let quota = Quota::per_second(limits.commands_per_second);
        // to join all, and to leave all
        let all = NonZeroU32::new(limits.subscriptions.saturating_mul(2)).unwrap_or(NonZeroU32::MIN);
        let joins = RateLimiter::direct(quota.allow_burst(all));
        Self { bucket: RateLimiter::direct(quota), joins, refused: 0 }
    }

    /// Counts a command.
    ///
    /// # Errors
    /// [`TooFast`] where it is one too many.
    pub(super) fn allow(&mut self, text: &str) -> Result<(), TooFast> {
        if command::joins_or_leaves(text) && self.joins.check().is_ok() {
            return Ok(());
        }
        self.bucket.check().map_err(|until| {
            self.refused += 1;
            TooFast { wait: until.wait_time_from(DefaultClock::default().now()), refused: self.refused }
        })
    }
}
