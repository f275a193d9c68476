//! What delivery asks of the source for one subscriber, and the parts of the answer. Plain data, as `change` is on the way there.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::change::{Change, Json, ValueKind};
use crate::cursor::{Boundary, Snapshot};
use crate::incarnations::{Gap, Lineage};

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
        kind: ValueKind,
        /// what it must be
        test: PredicateTest,
    },
}

/// What a value must be. Operands are text in one form for each kind, which Postgres reads as the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredicateTest {
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
    /// this boolean, which null is not
    Is(bool),
    /// null
    Null,
    /// not null
    NotNull,
    /// as this pattern of SQL's `like`
    Like(Box<str>),
    /// what the database would not decide as it was meant
    Other,
}

/// A column by which rows are ordered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OrderBy {
    /// the column
    pub column: Box<str>,
    /// how its values are compared
    pub kind: ValueKind,
    /// the highest first
    pub is_descending: bool,
    /// nulls before all values
    pub nulls_first: bool,
}

/// In which order the rows of a page come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ordering {
    /// by these columns, and then by what is missing of the primary key
    By(Vec<OrderBy>),
    /// by the primary key, in the order that its index has: clients cannot tell which of two values comes first
    Key,
}

/// Where a row lies in an order: the value of each of its columns, as text; `None` for null.
pub type Place = Vec<(Box<str>, Option<Box<str>>)>;

/// From where a page goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bound {
    /// the rows behind it
    After(Place),
    /// those just before it
    Before(Place),
}

impl Bound {
    /// The place.
    pub fn place(&self) -> &Place {
        match self {
            Self::After(place) | Self::Before(place) => place,
        }
    }
}

/// Which rows of a table come in a page, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageSpec {
    /// in which order
    pub ordering: Ordering,
    /// `None`: from the beginning
    pub bound: Option<Bound>,
    /// so many rows at most
    pub limit: u32,
    /// it ends where its rows have so many bytes of JSON
    pub bytes: u32,
    /// how many rows there are in all is wanted
    pub wants_count: bool,
}

/// Says what is told of a row, given as JSON: of a whole one, or of a few columns of a large one; nothing where the row is
/// not in the view.
#[derive(Clone)]
pub struct Shown(Arc<Shows>);

type Shows = dyn Fn(&str, bool) -> Option<Json> + Send + Sync;

impl Shown {
    /// What `shown` says.
    pub fn by(shown: impl Fn(&str, bool) -> Option<Json> + Send + Sync + 'static) -> Self {
        Self(Arc::new(shown))
    }

    /// What is told of this row.
    pub fn of(&self, json: &str, is_whole: bool) -> Option<Json> {
        (self.0)(json, is_whole)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
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
        /// where these positions are good
        lineage: Lineage,
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
        /// of this database, as in [`Cursor::epoch`](crate::cursor::Cursor::epoch): another one has other rows under the same
        /// names. `None`: whichever there is
        epoch: Option<u64>,
        /// no others are wanted; they may come all the same
        predicate: Predicate,
        /// in whose turn it is answered
        asker: Arc<str>,
        /// takes the rows, then [`RowsPart::Boundary`]
        answer: mpsc::Sender<RowsPart>,
        /// one of those that its asker may have; over when the rows were read, which may be before they were taken
        permit: Option<OwnedSemaphorePermit>,
    },
    /// Some of the current rows of a channel's table, in an order.
    Page {
        /// the channel
        channel: Arc<str>,
        /// of this database, as in [`Cursor::epoch`](crate::cursor::Cursor::epoch): another one has other rows under the same
        /// names. `None`: whichever there is
        epoch: Option<u64>,
        /// of them, those that satisfy this
        predicate: Predicate,
        /// which of them
        page: PageSpec,
        /// what is told of each
        shown: Shown,
        /// in whose turn it is answered
        asker: Arc<str>,
        /// takes the page; a channel that closes means that the source failed and has logged why
        answer: oneshot::Sender<PageAnswer>,
        /// one of those that its asker may have; over when the page was read
        permit: Option<OwnedSemaphorePermit>,
    },
}

/// What these holders have of each claim whose values stand in tables: a question of its own, as every socket of theirs waits.
#[derive(Debug)]
pub struct Membership {
    /// the users
    pub holders: Vec<Arc<str>>,
    /// values of so many bytes at most are of use
    pub bytes: usize,
    /// of this database, as for [`Request::Page`]
    pub epoch: Option<u64>,
    /// takes what they have; a channel that closes means that the source failed and has logged why
    pub answer: oneshot::Sender<MembersRead>,
}

/// What some holders have.
#[derive(Debug)]
pub struct MembersRead {
    /// as of this snapshot
    pub seen: Snapshot,
    /// of these, and of no others that were asked for: they are asked for again
    pub holders: Vec<Arc<str>>,
    /// of each of them and each claim
    pub held: Vec<Held>,
    /// of so many the values are left out, as there were too many bytes
    pub beyond_memory: usize,
}

impl Request {
    /// In whose turn it is answered.
    pub fn asker(&self) -> &Arc<str> {
        match self {
            Self::Replay { asker, .. } | Self::Snapshot { asker, .. } | Self::Page { asker, .. } => asker,
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_void(&self) -> bool {
        match self {
            Self::Replay { answer, .. } => answer.is_closed(),
            Self::Snapshot { answer, .. } => answer.is_closed(),
            Self::Page { answer, .. } => answer.is_closed(),
        }
    }
}

/// What a holder has of a claim.
#[derive(Debug)]
pub struct Held {
    /// the claim
    pub claim: Arc<str>,
    /// the user
    pub holder: Arc<str>,
    /// the user as the column has it by which a changed row says whose it is; `None` where there is no such column
    pub form: Option<Box<str>>,
    /// the values; `None` where they cannot be had
    pub members: Option<Members>,
    /// they cannot be had because of the user's own name, which does not fit: it will not fit later either
    pub is_unfit: bool,
}

/// The values of a claim, each once: often many, so they stand in one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    text: Box<str>,
    /// where each ends in it
    ends: Box<[u32]>,
    /// of both, in hexadecimal digits: tells them from others on every server
    digest: Box<str>,
}

impl Members {
    /// These.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut values: Vec<&str> = values.into_iter().collect();
        values.sort_unstable();
        values.dedup();
        let mut text = String::with_capacity(values.iter().map(|value| value.len()).sum());
        let mut ends = Vec::with_capacity(values.len());
        for value in values {
            text.push_str(value);
            ends.push(text.len() as u32);
        }
        // FNV-1a
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in text.bytes().chain(ends.iter().flat_map(|end| end.to_le_bytes())) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self { text: text.into(), ends: ends.into(), digest: format!("{hash:016x}").into() }
    }

    /// Tells them from others.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        begins.zip(self.ends.iter()).map(|(begins, end)| &self.text[begins as usize..*end as usize])
    }

    /// Whether this is one of them.
    pub fn has(&self, text: &str) -> bool {
        let at = |place: usize| {
            let begins = place.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[begins as usize..self.ends[place] as usize]
        };
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match at(middle).cmp(text) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + size_of_val(&*self.ends) + self.digest.len()
    }
}

impl Hash for Members {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
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
    /// the database refuses it for the moment
    Later,
}

/// What became of a page.
#[derive(Debug)]
pub enum PageAnswer {
    /// it was read
    Page(Box<Page>),
    /// it cannot be had in this order, or from this place; for people
    Unfit(String),
    /// the database refuses it, for good
    Refused,
    /// the database refuses it for the moment
    Later,
}

/// Rows in an order, as of one position.
#[derive(Debug)]
pub struct Page {
    /// what is told of each, and whether that is all of it
    pub rows: Vec<(Json, bool)>,
    /// the whole order, the rest of the primary key included
    pub order: Vec<OrderBy>,
    /// further rows lie behind them; before them, where those before a place were asked for
    pub more: bool,
    /// the place of the last row that was looked at
    pub last: Option<Place>,
    /// that of the last row that is told: a client learns no other one
    pub told: Option<Place>,
    /// where it was asked for
    pub count: Option<Count>,
    /// the rows were those at this position
    pub boundary: Boundary,
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// the number
    pub rows: u64,
    /// they were counted; else it is the planner's estimate
    pub is_exact: bool,
}
