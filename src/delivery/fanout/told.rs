//! What a view is told of one change, live, in a resume and in an explanation alike.

use crate::change::{Change, Notification};
use crate::delivery::scope::projection::Projection;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::scope::visible::{RowImages, VisibleChange, VisibleNotification};
use crate::delivery::wire::protocol::{self, MessagePlace};
use crate::incarnations::Gap;

/// What a view is told of one change.
pub enum Told<'a> {
    /// of a channel
    Update(&'a Change, &'a str, VisibleChange<'a>, &'a str),
    /// of a user
    Notification(&'a Change, &'a Notification, VisibleNotification<'a>, &'a str, &'a str),
}

impl<'a> Told<'a> {
    /// What the view of `key` is told, seen through `projection` where it is a channel's; `None` where the change does not
    /// concern it.
    pub fn of(key: &'a ViewKey, projection: &'a Projection, change: &'a Change) -> Option<Self> {
        match key {
            ViewKey::Channel(name, selection) => {
                let update = change.update.as_ref().filter(|update| update.channel == *name)?;
                let shown = if selection.is_everything() {
                    VisibleChange::of(update)
                } else {
                    projection.show(update, &RowImages::of(update))?
                };
                Some(Self::Update(change, name, shown, projection.mark()))
            }
            ViewKey::User(user, _) => {
                let told = change.notification.as_ref()?;
                if !told.users.iter().any(|known| **known == **user) {
                    return None;
                }
                Some(Self::Notification(change, told, projection.notice(change, told)?, user, projection.mark()))
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
        let place = MessagePlace::of(inside, end);
        match self {
            Self::Update(change, channel, shown, mark) => {
                protocol::realtime_update(change, channel, shown, place, mark)
            }
            Self::Notification(change, told, noticed, user, mark) => {
                protocol::notification(change, &told.kind, noticed, user, place, mark)
            }
        }
    }
}
