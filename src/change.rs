//! What happened: the types in which source and delivery meet. Plain data; knows neither Postgres nor sockets.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::incarnations::{Gap, Incarnations};

/// JSON text that is passed through as it came from Postgres.
pub type Json = Box<str>;

/// JSON inside JSON, as it is.
mod raw {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, ser};
    use serde_json::value::RawValue;

    use super::Json;

    pub(super) fn serialize<S: Serializer>(json: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(json).map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Into::into)
    }
}

mod raw_option {
    use serde::{Deserializer, Serializer};

    use super::{Json, raw};

    pub(super) fn serialize<S: Serializer>(json: &Option<Json>, serializer: S) -> Result<S::Ok, S::Error> {
        match json {
            Some(json) => raw::serialize(json, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// What is there is some JSON, `null` included.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
        raw::deserialize(deserializer).map(Some)
    }
}

/// One committed change, notification or publication.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// orders the changes inside a cut
    pub id: i64,
    /// the transaction that made it
    pub tx: u64,
    /// the writer's clock when it was captured, microseconds since 1970, UTC
    pub at: i64,
    /// who made it, where known
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Box<str>>,
    /// what a channel's subscribers are told
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// what users are told
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<Notification>,
}

impl Change {
    /// Whether it comes after the id `after` of its cut. A gap has the id of what stands before it, or of what it stands before: it
    /// counts as later, since a gap that is told twice does no harm, and one that is told to nobody loses what it speaks of.
    pub(crate) fn is_after(&self, after: i64) -> bool {
        self.id > after || (self.id == after && self.is_gap())
    }

    /// Whether it says that something is missing.
    fn is_gap(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.gap().is_some())
    }

    /// Bytes that it takes in memory, about.
    pub fn size(&self) -> u64 {
        let length = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.len());
        let data = self.update.as_ref().map_or(0, |update| update.data.len() + length(&update.old));
        let told = self.notification.as_ref().map_or(0, |told| told.data.len() + 64 * told.users.len());
        (std::mem::size_of::<Self>() + data + told + 64) as u64
    }
}

/// A `realtime_update` on one channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Update {
    /// the channel's name
    pub channel: Arc<str>,
    /// `created`, `updated`, `deleted`, `truncated`, or what `rowcast.publish` was given
    pub action: Cow<'static, str>,
    /// the row; the old row of a delete; `null` for a truncate
    #[serde(with = "raw")]
    pub data: Json,
    /// of an update: the columns that differ
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<Box<str>>,
    /// of an update: those columns as they were
    #[serde(default, with = "raw_option", skip_serializing_if = "Option::is_none")]
    pub old: Option<Json>,
    /// of an update that changed the primary key: the key's columns as they were
    #[serde(default, with = "raw_option", skip_serializing_if = "Option::is_none")]
    pub old_key: Option<Json>,
    /// what there is of a row that was longer than `row_bytes`
    #[serde(default, skip_serializing_if = "Size::is_whole")]
    pub size: Size,
    /// `rowcast.publish` was given it: no row has changed, whatever it says
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_published: bool,
}

/// How much of a row is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// all that may leave
    #[default]
    Whole,
    /// of an update: the row before was longer than `row_bytes`, so that only its key is known
    BeforeOmitted,
    /// the row is longer than `row_bytes`: `data` is its key
    Omitted,
}

impl Size {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// The action of what stands for a change that cannot be read. No text of Postgres has this character, so nobody can
/// publish it.
const UNREADABLE: &str = "\0unreadable";
/// The same of what stands for changes that are kept no longer.
const GONE: &str = "\0gone";

impl Update {
    /// In the place of a change of a channel that cannot be read. It is told among the changes, so that it reaches each
    /// client that would have been told them: now, from memory, from the stream, from the outbox.
    pub fn unreadable(channel: Arc<str>) -> Self {
        Self::missing(channel, UNREADABLE)
    }

    /// In the place of changes of a channel that were kept briefly, and went before they were read.
    pub fn gone(channel: Arc<str>) -> Self {
        Self::missing(channel, GONE)
    }

    fn missing(channel: Arc<str>, action: &'static str) -> Self {
        let (action, data) = (Cow::Borrowed(action), "null".into());
        Self {
            channel,
            action,
            data,
            changed: Vec::new(),
            old: None,
            old_key: None,
            size: Size::Whole,
            is_published: false,
        }
    }

    /// What is missing in the place of a change.
    pub fn gap(&self) -> Option<Gap> {
        match &*self.action {
            UNREADABLE => Some(Gap::Unreadable),
            GONE => Some(Gap::Retention),
            _ => None,
        }
    }
}

/// A `notification` to some users.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notification {
    /// the users
    pub users: Vec<Box<str>>,
    /// such as `pet_created`
    pub kind: Box<str>,
    /// its data
    #[serde(with = "raw")]
    pub data: Json,
    /// the row is longer than `row_bytes`: its other columns are missing
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub omitted: bool,
    /// the DBA has chosen what is in it; else it is the row, of which a policy may show a part
    #[serde(default)]
    pub is_chosen: bool,
}

/// The changes that became visible between two snapshots, or a chunk of them: a cut of a million rows arrives in chunks.
#[derive(Debug)]
pub struct Cut {
    /// in order
    pub changes: Vec<Change>,
    /// the position before the cut, for each of its chunks; with the LSN of its end, an upper bound of what it saw
    pub from: Arc<Cursor>,
    /// the snapshot at which the cut ends, for each of its chunks
    pub until: Arc<Snapshot>,
    /// the position after the cut; `None` while further chunks follow
    pub end: Option<Boundary>,
}

impl Cut {
    /// The position inside it behind the change with this id.
    pub(crate) fn position(&self, id: i64) -> Cursor {
        Cursor { inside: Some(((*self.until).clone(), id)), ..(*self.from).clone() }
    }

    /// The token of any position inside it, without the id.
    pub(crate) fn token_inside(&self) -> String {
        self.from.token_inside(&self.until)
    }

    /// Whether ids ascend. A gap that stands before a change has its id.
    pub(crate) fn is_in_order(&self) -> bool {
        self.changes
            .is_sorted_by(|one, next| one.id < next.id || (one.id == next.id && (one.is_gap() || next.is_gap())))
    }
}

#[cfg(test)]
impl Cut {
    /// A chunk of a cut to what `until` sees, from before anything.
    pub(crate) fn chunk(changes: Vec<Change>, until: Snapshot) -> Self {
        let seen = Snapshot::all_before(1);
        let from = Cursor { epoch: 1, incarnation: 1, lsn: 1, seen, inside: None };
        Self { changes, from: Arc::new(from), until: Arc::new(until), end: None }
    }
}

/// A channel as subscribers may ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// its name
    pub name: Arc<str>,
    /// of its table, those that may leave, in order; `None` where it has no table
    pub columns: Option<Arc<[Column]>>,
    /// from when on it may be seen; `None`: ever since
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// whether its changes notify users
    #[serde(default)]
    pub notifies: bool,
    /// it is captured because a claim follows its table, and nobody may ask for it
    #[serde(default)]
    pub is_unlisted: bool,
}

/// From when on something may be seen: what may be seen was changed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// what it sees is told to no client that comes back without having seen all of it
    pub seen: Snapshot,
    /// the transaction that changed it, which `seen` sees as well
    pub by: u64,
}

/// Who may see what of a channel, as `rowcast.allow` was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// the channel's name, or `user/*`
    pub channel: Arc<str>,
    /// claim `role` of a token
    pub role: Box<str>,
    /// conditions that rows must satisfy; `{claim}` stands for a claim of the token
    pub filters: Vec<Box<str>>,
    /// the columns that may be seen; `None`: all
    pub columns: Option<Vec<Box<str>>>,
    /// the numbers of the columns that it names, in either, when it was stated: one that has taken a name since is not
    /// meant
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<(Box<str>, i16)>,
    /// a client that has not seen all that it sees is shown nothing of before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Snapshot>,
    /// whether clients are told who wrote
    #[serde(default)]
    pub actor: bool,
}

/// A claim whose values stand in tables, as `rowcast.claim` was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// stands in braces in a policy's filters
    pub name: Arc<str>,
    /// another one where its query was stated anew
    pub revision: Box<str>,
    /// the tables that its query reads; `None` where changes of one of them are not captured: then it has no values
    pub follows: Option<Vec<Follow>>,
}

/// A table that a claim follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// the channel of its changes
    pub channel: Arc<str>,
    /// the columns that the query reads
    pub columns: Vec<Box<str>>,
    /// the column that says whose values a row is of; `None`: maybe everybody's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Box<str>>,
}

/// A column of a channel's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// its name
    pub name: Box<str>,
    /// how its values are compared
    pub kind: ValueKind,
    /// its number in the table, which stays where its name changes
    #[serde(default)]
    pub number: i16,
    /// it is of the primary key, of which every column may leave
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_key: bool,
}

/// How the values of a type are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// a whole number
    Integer,
    /// any number
    Number,
    /// text
    Text,
    /// text that is filled with blanks, which do not count
    Padded,
    /// an enum: equal or not; its order is the database's
    Enum,
    /// true or false
    Bool,
    /// a uuid
    Uuid,
    /// a moment
    Timestamptz,
    /// a date and a time of day
    Timestamp,
    /// a date
    Date,
    /// a time of day
    Time,
    /// JSON, an array or a composite: null or not
    Structured,
    /// any other type: equal or not, by its text
    Opaque,
    /// of a channel without a table: by what stands in the JSON
    Any,
}

impl ValueKind {
    /// The kind of a type, by the name that `format_type` gives it, or `enum`.
    pub fn of_type(name: &str) -> Self {
        match name {
            "smallint" | "integer" | "bigint" => Self::Integer,
            "numeric" | "real" | "double precision" | "oid" => Self::Number,
            "text" | "character varying" | "name" => Self::Text,
            "character" => Self::Padded,
            "enum" => Self::Enum,
            "boolean" => Self::Bool,
            "uuid" => Self::Uuid,
            "timestamp with time zone" => Self::Timestamptz,
            "timestamp without time zone" => Self::Timestamp,
            "date" => Self::Date,
            "time without time zone" => Self::Time,
            "json" | "jsonb" | "structured" => Self::Structured,
            _ => Self::Opaque,
        }
    }

    /// For messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Text | Self::Padded => "text",
            Self::Enum => "enum",
            Self::Bool => "boolean",
            Self::Uuid => "uuid",
            Self::Timestamptz => "timestamptz",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Time => "time",
            Self::Structured => "json or array",
            Self::Opaque => "without order",
            Self::Any => "any",
        }
    }
}

/// How a position from which changes follow lies to where the last ones ended. One word with the position, so that no
/// client can come in between and be told the position without the gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// nothing came before
    First,
    /// there, as after a lost connection
    Continues,
    /// elsewhere, and what lies between is lost for good: subscribers need a new snapshot
    Gap(Gap),
}

/// What the source tells delivery, in order.
#[derive(Debug)]
pub enum Event {
    /// The changes that follow come after this position. Sent at each connect, before any of them.
    From {
        /// the position
        boundary: Boundary,
        /// which cursors can be honoured
        incarnations: Arc<Incarnations>,
        /// how it lies to where the last changes ended
        start: Start,
        /// of the cut that begins there, what lies before this id has been told: its end, and the id
        inside: Option<(Snapshot, i64)>,
    },
    /// Capture is live.
    Live,
    /// The connection to the database is lost; what happens meanwhile is delivered afterwards.
    Down {
        /// why, fit for a client
        reason: Cow<'static, str>,
    },
    /// Changes of a channel were lost for good: its subscribers need a new snapshot.
    Gap {
        /// why
        gap: Gap,
        /// whose
        channel: Arc<str>,
    },
    /// The channels there are from now on, and who may see them.
    Channels {
        /// the channels
        channels: Vec<Channel>,
        /// the policies
        policies: Vec<Policy>,
        /// the claims whose values stand in tables; `None`: as before
        claims: Option<Vec<Claim>>,
    },
    /// A user's tokens are no longer good, and sockets that have one must be closed.
    Revoked {
        /// the user
        user: Box<str>,
        /// those that were issued until then, microseconds since 1970
        at: i64,
    },
    /// Changes.
    Cut(Cut),
}
