//! What a view is told of one change, live, in a resume and in an explanation alike.

use crate::change::{Change, Notification};
use crate::delivery::selection::projection::{Images, Lens, Noticed, Shown};
use crate::delivery::selection::view_key::ViewKey;
use crate::delivery::wire::protocol;
use crate::lives::Gap;

/// What a view is told of one change.
pub enum Told<'a> {
    /// of a channel
    Update(&'a Change, &'a str, Shown<'a>, &'a str),
    /// of a user
    Notification(&'a Change, &'a Notification, Noticed<'a>, &'a str, &'a str),
}

impl<'a> Told<'a> {
    /// What the view of `key` is told, seen through `lens` where it is a channel's; `None` where the change does not
    /// concern it.
    pub fn of(key: &'a ViewKey, lens: &'a Lens, change: &'a Change) -> Option<Self> {
        match key {
            ViewKey::Channel(name, ask) => {
                let update = change.update.as_ref().filter(|update| update.channel == *name)?;
                let shown =
                    if ask.is_everything() { Shown::of(update) } else { lens.show(update, &Images::of(update))? };
                Some(Self::Update(change, name, shown, lens.mark()))
            }
            ViewKey::User(user, _) => {
                let told = change.notification.as_ref()?;
                if !told.users.iter().any(|known| **known == **user) {
                    return None;
                }
                Some(Self::Notification(change, told, lens.notice(change, told)?, user, lens.mark()))
            }
        }
    }

    /// Orders what a cut tells.
    pub fn id(&self) -> i64 {
        match self {
            Self::Update(change, ..) | Self::Notification(change, ..) => change.id,
        }
    }

    /// What is missing in its place.
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Update(_, _, shown, _) => shown.gap,
            Self::Notification(..) => None,
        }
    }

    /// The message. `inside` is the token of the cut without the id, `end` the cursor after the change where it is the
    /// last.
    pub fn message(&self, inside: &str, end: Option<&str>) -> String {
        match self {
            Self::Update(change, channel, shown, mark) => {
                protocol::realtime_update(change, channel, shown, inside, end, mark)
            }
            Self::Notification(change, told, noticed, user, mark) => {
                protocol::notification(change, &told.kind, noticed, user, inside, end, mark)
            }
        }
    }
}
