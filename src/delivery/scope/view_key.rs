//! What a subscriber watches: a channel seen through what was asked of it, or a user. Knows no subscriber.

use std::sync::Arc;

use super::grant::Rights;
use super::label::Label;
use super::selection::Selection;
use super::telling::Every;

const USER: &str = "user/";

/// What a subscriber watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ViewKey {
    /// `/ws/{channel}`, and what is wanted of it
    Channel(Arc<str>, Selection),
    /// `/ws/user/{user_id}`, and the part that may be seen; `None`: all
    User(Arc<str>, Option<Arc<Rights>>),
}

impl ViewKey {
    /// What a name after `/ws/` stands for, seen through `selection` where it is a channel.
    pub fn named(name: &str, selection: Selection) -> Self {
        match name.strip_prefix(USER) {
            Some(user) => Self::User(user.into(), None),
            None => Self::Channel(name.into(), selection),
        }
    }

    /// Whether it names columns of its channel.
    pub fn names_columns(&self) -> bool {
        matches!(self, Self::Channel(_, selection) if selection.columns_named().next().is_some())
    }

    /// What messages name it by.
    pub fn label(&self) -> Label {
        match self {
            Self::Channel(name, selection) => Label { channel: name.clone(), tag: selection.tag().cloned() },
            Self::User(user, _) => Label { channel: format!("{USER}{user}").into(), tag: None },
        }
    }

    /// What was asked for, as a path would ask: `pets?filter=user_id=eq.5`.
    pub fn wish(&self) -> String {
        match self {
            Self::Channel(name, selection) => format!("{name}{}", selection.parameters()),
            Self::User(..) => self.label().to_string(),
        }
    }

    /// What was asked for, whatever of it may be seen.
    pub fn asked(&self) -> Self {
        match self {
            Self::Channel(name, selection) => Self::Channel(name.clone(), selection.asked()),
            Self::User(user, _) => Self::User(user.clone(), None),
        }
    }

    /// What its rows are, whatever its messages are called by and tell of what was before.
    pub fn of_rows(&self) -> Self {
        match self {
            Self::Channel(name, selection) => Self::Channel(name.clone(), selection.of_rows()),
            Self::User(..) => self.clone(),
        }
    }

    /// Whether its holder sees a part of the channel alone.
    pub fn has_grant(&self) -> bool {
        matches!(self, Self::Channel(_, selection) if selection.has_grant())
    }

    /// Whether that part depends on claims whose values stand in tables.
    pub fn has_members(&self) -> bool {
        match self {
            Self::Channel(_, selection) => selection.has_members(),
            Self::User(_, rights) => rights.as_ref().is_some_and(|rights| rights.has_members()),
        }
    }

    /// Whether it is of the same channel and the same as another one, but for what its holder has of claims.
    pub fn is_but_for_members(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Channel(name, selection), Self::Channel(other_name, other)) => {
                name == other_name && selection.is_but_for_members(other)
            }
            _ => false,
        }
    }

    /// Follows the cursors of the view, see [`Grant::mark`](super::grant::Grant::mark).
    pub fn mark(&self) -> String {
        match self {
            Self::Channel(_, selection) => selection.mark(),
            Self::User(_, rights) => rights.as_ref().map(|rights| rights.mark()).unwrap_or_default(),
        }
    }

    /// Whether it is all of what it names.
    pub fn is_everything(&self) -> bool {
        match self {
            Self::Channel(_, selection) => selection.is_everything(),
            Self::User(_, rights) => rights.is_none(),
        }
    }

    /// Whether less or more is asked for of a channel than everybody gets.
    pub fn is_narrowed(&self) -> bool {
        matches!(self, Self::Channel(_, selection) if selection.is_narrowed())
    }

    /// At most how often it is told, where that is the newest change of each row.
    pub fn every(&self) -> Option<Every> {
        match self {
            Self::Channel(_, selection) => selection.telling().every,
            Self::User(..) => None,
        }
    }

    /// The channel, if it is one.
    pub fn channel(&self) -> Option<&Arc<str>> {
        match self {
            Self::Channel(name, _) => Some(name),
            Self::User(..) => None,
        }
    }
}
