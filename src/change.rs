//! What happened: the one type in which source and delivery meet. Plain data; knows neither Postgres nor sockets.

use std::borrow::Cow;
use std::sync::Arc;

/// JSON text that is passed through as it came from Postgres.
pub type Json = Box<str>;

/// One committed change, notification or publication.
#[derive(Debug, Clone)]
pub struct Change {
    /// orders the changes inside a cut
    pub id: i64,
    /// the transaction that made it
    pub tx: u64,
    /// the writer's clock when it was captured, microseconds since 1970, UTC
    pub at: i64,
    /// who made it, where known
    pub actor: Option<Box<str>>,
    /// what a channel's subscribers are told
    pub update: Option<Update>,
    /// what users are told
    pub notification: Option<Notification>,
}

/// A `realtime_update` on one channel.
#[derive(Debug, Clone)]
pub struct Update {
    /// the channel's name
    pub channel: Arc<str>,
    /// `created`, `updated`, `deleted`, `truncated`, or what `rowcast.publish` was given
    pub action: Cow<'static, str>,
    /// the row; the old row of a delete; `null` for a truncate
    pub data: Json,
    /// of an update: the columns that differ
    pub changed: Vec<Box<str>>,
}

/// A `notification` to some users.
#[derive(Debug, Clone)]
pub struct Notification {
    /// the users
    pub users: Vec<Box<str>>,
    /// such as `pet_created`
    pub kind: Box<str>,
    /// its data
    pub data: Json,
}

/// The changes that became visible between two snapshots, or a part of them: a cut of a million rows arrives in parts.
#[derive(Debug)]
pub struct Cut {
    /// in order
    pub changes: Vec<Change>,
    /// the token of a place inside this cut, without its id
    pub inside: Arc<str>,
    /// the cursor after the cut; `None` while further parts follow
    pub end: Option<Arc<str>>,
}

/// What the source tells delivery, in order.
#[derive(Debug)]
pub enum Event {
    /// Capture is live from this cursor on.
    Live {
        /// everything before it was delivered or is not for now
        cursor: Arc<str>,
    },
    /// The connection to the database is lost; what happens meanwhile is delivered afterwards.
    Down {
        /// why, fit for a client
        reason: Cow<'static, str>,
    },
    /// Changes were lost for good, as after a failover that lost a tail: subscribers need a new snapshot.
    Gap {
        /// `failover`
        reason: &'static str,
    },
    /// The channels there are from now on.
    Channels(Vec<Arc<str>>),
    /// Changes.
    Cut(Cut),
}
