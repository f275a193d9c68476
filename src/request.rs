//! What delivery asks of the source for one subscriber, and the parts of the answer. Plain data, as `change` is on the way there.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::change::{Change, Json, Kind};
use crate::cursor::{Boundary, Snapshot};
use crate::incarnations::Gap;

/// Rows that satisfy this. Logic is that of SQL, with three values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// all of these; every row, where there are none
    All(Vec<Self>),
    /// one of these at least
    Any(Vec<Self>),
    /// the contrary
    Not(Box<Self>),
    /// what one column must be
    Test {
        /// the column
        column: Box<str>,
        /// how its values are compared
        kind: Kind,
        /// what it must be
        test: Test,
    },
}

/// What a value must be. Operands are text in one form for each kind, which Postgres reads as the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// one of these
    In(Vec<Box<str>>),
    /// not null, and not this
    NotEqual(Box<str>),
    /// less
    Below {
        /// than this
        limit: Box<str>,
        /// or this
        or_equal: bool,
    },
    /// more
    Above {
        /// than this
        limit: Box<str>,
        /// or this
        or_equal: bool,
    },
    /// null
    Null,
    /// not null
    NotNull,
    /// as this pattern of SQL's `like`
    Like(Box<str>),
    /// what the database would not decide as it was meant
    Other,
}

/// What delivery asks of the source for one subscriber.
#[derive(Debug)]
pub enum Request {
    /// The changes that `until` sees and `seen` does not, in order, from the outbox.
    Replay {
        /// the subscriber has what this saw
        seen: Snapshot,
        /// where the cut ends
        until: Snapshot,
        /// of the cut, the subscriber has everything up to this id
        after: i64,
        /// the incarnation of the server in which these positions are good
        incarnation: u64,
        /// only this channel's; `None`: all
        channel: Option<Arc<str>>,
        /// in whose turn it is answered: a user, an address, or nobody's where the node itself asks
        asker: Arc<str>,
        /// takes the changes, then [`ReplayPart::Done`]
        answer: mpsc::Sender<ReplayPart>,
    },
    /// The current rows of a channel's table.
    Snapshot {
        /// the channel
        channel: Arc<str>,
        /// no others are wanted; they may come all the same
        predicate: Predicate,
        /// in whose turn it is answered
        asker: Arc<str>,
        /// takes the rows, then [`RowsPart::Boundary`]
        answer: mpsc::Sender<RowsPart>,
        /// one of those that its asker may have; over when the rows were read, which may be before they were taken
        permit: Option<OwnedSemaphorePermit>,
    },
}

impl Request {
    /// In whose turn it is answered.
    pub fn asker(&self) -> &Arc<str> {
        match self {
            Self::Replay { asker, .. } | Self::Snapshot { asker, .. } => asker,
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_void(&self) -> bool {
        match self {
            Self::Replay { answer, .. } => answer.is_closed(),
            Self::Snapshot { answer, .. } => answer.is_closed(),
        }
    }
}

/// A part of what was missed. A channel that closes before the last part means that the source failed and has logged why.
#[derive(Debug)]
pub enum ReplayPart {
    /// changes, in order
    Changes(Vec<Change>),
    /// what follows is a cut of its own, which ends here; a part of the past may come as several
    Until(Snapshot),
    /// nothing more
    Done,
    /// changes are missing
    Gap(Gap),
}

/// A part of the current rows. A channel that closes before the last part means that the source failed and has logged why.
#[derive(Debug)]
pub enum RowsPart {
    /// rows as JSON objects
    Rows(Vec<Json>),
    /// of rows longer than `row_bytes`, the keys
    Keys(Vec<Json>),
    /// the last part: the rows were those at this position
    Boundary(Boundary),
    /// the database refuses it, for good
    Refused,
}
