//! What a follower does with entries of a format that this version does not know. Owns when it goes on behind them.
//!
//! While a later version publishes, nothing can be told: this node says that it has no source, and what to do. Where one of
//! a known format publishes again, as after an upgrade that was taken back, the entries in between are passed over. What
//! they said is then missing before the next cut, and is looked for as anything that the stream has lost.

use super::Follower;
use crate::backbone::entry::FORMAT;
use crate::backbone::link::RedisConnection;
use crate::backbone::stream::{self, Id};
use crate::error::{Error, Kind, Result};

impl Follower {
    /// Refuses a stream whose last entry has a later format. The id of that entry, if it has not.
    pub(super) async fn refuse_newer(&mut self, connection: &mut RedisConnection) -> Result<Id> {
        let Some(newest) = stream::newest(connection, &self.keys).await? else { return Ok(Id::default()) };
        let Some(format) = newest.newer() else { return Ok(newest.id) };
        self.tell_down("a node of a later version writes the stream; changes are delayed, not lost").await?;
        let text =
            format!("the stream has entries of format {format}, and this rowcast reads them up to format {FORMAT}");
        Err(Error::new(Kind::Protocol, text).hint(
            "update this node, or let only candidates of its version publish; its clients may go to another node",
        ))
    }

    /// Passes over an entry of a later format, where somebody of a known one has written behind it.
    pub(super) async fn pass(&mut self, connection: &mut RedisConnection, id: Id) -> Result<()> {
        if id <= self.passed_until {
            return Ok(());
        }
        self.passed_until = self.refuse_newer(connection).await?;
        tracing::warn!(
            event = "entries_newer",
            id = %id,
            until = %self.passed_until,
            "passed over: what they say is looked for elsewhere"
        );
        // they may have said what else is true of channels and of users
        let state = self.stream_begins(connection).await?;
        self.hear_of_the_catalogue(&state).await?;
        self.hear_of_revocations(&state).await
    }
}
