//! What a person asks of the database through the web: the types in which `web` and `source` meet. Plain data.

use tokio::sync::oneshot;

use crate::change::Change;

/// What there is to know, or why it cannot be told.
pub type Answer<T> = std::result::Result<T, String>;

/// A question, and where its answer goes.
#[derive(Debug)]
pub enum Question {
    /// How is the database? Findings, watched and unwatched tables, nodes: a JSON object as text.
    Database(oneshot::Sender<Answer<String>>),
    /// What became of a change?
    Change {
        /// its id
        id: i64,
        /// takes what the outbox has of it
        answer: oneshot::Sender<Answer<Recorded>>,
    },
}

/// What the outbox has of a change.
#[derive(Debug)]
pub enum Recorded {
    /// a change that channels or users are told
    Change(Box<Change>),
    /// what is no row's change: a channel, a policy, a revocation; or an update that only excluded columns saw
    Nothing,
    /// it is not there
    Absent {
        /// the highest id that was given away
        last: i64,
        /// the lowest id in the outbox
        first: Option<i64>,
    },
}
