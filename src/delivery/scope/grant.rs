//! The part of a channel, or of a user's notifications, that somebody may see. Pure: what a policy and a token's claims make of
//! it; it becomes a part of the view, so it is looked at once for each distinct grant, not for each subscriber.

use std::sync::Arc;

use crate::change::Column;
use crate::cursor::push_id;
use crate::request::Members;

/// The part of a channel that somebody may see. All of it where there is neither filter nor columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Grant {
    /// conditions that rows must satisfy
    pub filters: Vec<Box<str>>,
    /// what stands for `{name}` in them, where that is a claim whose values stand in tables
    pub members: Vec<NamedClaim>,
    /// the columns that exist, for its holder; `None`: all
    pub columns: Option<Vec<Box<str>>>,
    /// the numbers of the columns that it names, where another one that has the name is not meant
    pub bound: Vec<(Box<str>, i16)>,
    /// the client is not told who wrote
    pub hides_actor: bool,
}

/// The part of one user's notifications that somebody may see: what `rowcast.notify` says and what the DBA has chosen
/// is told, and of rows what the policies of their channels show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rights {
    /// by the channel's name, of those that notify users; the others' rows are not told
    pub channels: Vec<(Arc<str>, Grant)>,
    /// the client is told who called `rowcast.notify`
    pub shows_sender: bool,
}

impl Grant {
    /// Follows the cursors of a view, so that a client with other rights by now is told `gap` and not a replay of what it
    /// did not see before: `~` and a hash (FNV-1a) that is the same on every server. Empty where all may be seen.
    pub fn mark(&self) -> String {
        if *self == Self::default() { String::new() } else { mark(self.parts()) }
    }

    /// Whether its holder may see a column: it is named, and it is the one that the name meant.
    pub fn shows(&self, column: &Column) -> bool {
        let is_named = self.columns.as_ref().is_none_or(|all| all.iter().any(|name| **name == *column.name));
        is_named && !self.means_another(column)
    }

    /// Whether a name that the policy means is that of another column now: nothing was said of that one.
    pub fn means_another(&self, column: &Column) -> bool {
        self.bound.iter().any(|(name, number)| **name == *column.name && *number != column.number)
    }

    fn parts(&self) -> impl Iterator<Item = (char, &str)> {
        let columns = self.columns.iter().flatten().map(|name| ('c', &**name));
        let filters = self.filters.iter().map(|filter| ('f', &**filter));
        let members = self.members.iter().flat_map(|(name, members)| [('k', &**name), ('m', members.digest())]);
        filters.chain(members).chain(columns).chain(self.hides_actor.then_some(('a', "")))
    }
}

/// A claim's name, and the values of the holder that sees the part.
pub type NamedClaim = (Arc<str>, Arc<Members>);

impl Rights {
    /// Whether a part of it depends on claims whose values stand in tables.
    pub fn has_members(&self) -> bool {
        self.channels.iter().any(|(_, grant)| !grant.members.is_empty())
    }

    /// The same of a user's notifications; empty where rows tell nothing.
    pub fn mark(&self) -> String {
        if self.channels.is_empty() {
            return String::new();
        }
        let parts = self.channels.iter().flat_map(|(name, grant)| [('n', &**name)].into_iter().chain(grant.parts()));
        mark(parts.chain(self.shows_sender.then_some(('s', ""))))
    }
}

fn mark<'a>(parts: impl Iterator<Item = (char, &'a str)>) -> String {
    let mut mark = String::from(MARK);
    push_id(&mut mark, (hash(parts) >> 1).cast_signed());
    mark
}

fn hash<'a>(parts: impl Iterator<Item = (char, &'a str)>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (kind, text) in parts {
        for byte in [kind as u8].into_iter().chain(text.bytes()).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Stands between a cursor and the mark of its view.
pub const MARK: char = '~';
