//! What a subscriber watches: a channel seen through what was asked of it, or a user. Knows no subscriber.

use std::sync::Arc;

use super::label::Label;
use super::projection::Ask;
use crate::delivery::access::policy::Rights;

const USER: &str = "user/";

/// What a subscriber watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ViewKey {
    /// `/ws/{channel}`, and what is wanted of it
    Channel(Arc<str>, Ask),
    /// `/ws/user/{user_id}`, and the part that may be seen; `None`: all
    User(Arc<str>, Option<Arc<Rights>>),
}

impl ViewKey {
    /// What a name after `/ws/` stands for, seen through `ask` where it is a channel.
    pub fn named(name: &str, ask: Ask) -> Self {
        match name.strip_prefix(USER) {
            Some(user) => Self::User(user.into(), None),
            None => Self::Channel(name.into(), ask),
        }
    }

    /// Whether it names columns of its channel.
    pub fn names_columns(&self) -> bool {
        matches!(self, Self::Channel(_, ask) if ask.columns_named().next().is_some())
    }

    /// What messages name it by.
    pub fn label(&self) -> Label {
        match self {
            Self::Channel(name, ask) => Label { channel: name.clone(), tag: ask.tag().cloned() },
            Self::User(user, _) => Label { channel: format!("{USER}{user}").into(), tag: None },
        }
    }

    /// What was asked for, as a path would ask: `pets?filter=user_id=eq.5`.
    pub fn wish(&self) -> String {
        match self {
            Self::Channel(name, ask) => format!("{name}{}", ask.parameters()),
            Self::User(..) => self.label().to_string(),
        }
    }

    /// What was asked for, whatever of it may be seen.
    pub fn asked(&self) -> Self {
        match self {
            Self::Channel(name, ask) => Self::Channel(name.clone(), ask.asked()),
            Self::User(user, _) => Self::User(user.clone(), None),
        }
    }

    /// Follows the cursors of the view, see [`Grant::mark`](super::policy::Grant::mark).
    pub fn mark(&self) -> String {
        match self {
            Self::Channel(_, ask) => ask.mark(),
            Self::User(_, rights) => rights.as_ref().map(|rights| rights.mark()).unwrap_or_default(),
        }
    }

    /// Whether it is all of what it names.
    pub fn is_everything(&self) -> bool {
        match self {
            Self::Channel(_, ask) => ask.is_everything(),
            Self::User(_, rights) => rights.is_none(),
        }
    }

    /// Whether less or more is asked for of a channel than everybody gets.
    pub fn is_narrowed(&self) -> bool {
        matches!(self, Self::Channel(_, ask) if ask.is_narrowed())
    }

    /// The channel, if it is one.
    pub fn channel(&self) -> Option<&Arc<str>> {
        match self {
            Self::Channel(name, _) => Some(name),
            Self::User(..) => None,
        }
    }
}
