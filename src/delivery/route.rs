//! `Change` → views. Pure: which views a cut concerns, and the frames each of them gets, encoded once per view
//! however many sockets watch it.

use std::collections::HashMap;
use std::sync::Arc;

use super::protocol::{self, push_text_frame};
use crate::change::{Change, Cut, Notification, Update};

/// What a subscriber watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ViewKey {
    /// `/ws/{channel}`
    Channel(Arc<str>),
    /// `/ws/user/{user_id}`
    User(Arc<str>),
}

impl ViewKey {
    /// The channel as messages name it.
    pub fn label(&self) -> String {
        match self {
            Self::Channel(name) => name.to_string(),
            Self::User(user) => format!("user/{user}"),
        }
    }
}

/// The message that a view gets of a change, as a function of `inside`, the token of the cut without the id, and `end`,
/// the cursor after the change where it is the last; `None` where the change does not concern the view.
pub fn message_for<'a>(key: &'a ViewKey, change: &'a Change) -> Option<impl Fn(&str, Option<&str>) -> String + 'a> {
    enum Part<'a> {
        Update(&'a Update),
        Told(&'a Notification, &'a str),
    }
    let part = match key {
        ViewKey::Channel(name) => change.update.as_ref().filter(|update| update.channel == *name).map(Part::Update),
        ViewKey::User(user) => {
            let told = change.notification.as_ref().filter(|told| told.users.iter().any(|known| **known == **user));
            told.map(|told| Part::Told(told, user))
        }
    }?;
    Some(move |inside: &str, end: Option<&str>| match part {
        Part::Update(update) => protocol::realtime_update(change, update, inside, end),
        Part::Told(told, user) => protocol::notification(change, told, user, inside, end),
    })
}

/// The views that somebody watches; all others cost a look-up per change and nothing else.
#[derive(Debug)]
pub struct Views<V> {
    channels: HashMap<Arc<str>, V>,
    users: HashMap<Arc<str>, V>,
}

impl<V> Default for Views<V> {
    fn default() -> Self {
        Self { channels: HashMap::new(), users: HashMap::new() }
    }
}

impl<V: Clone> Views<V> {
    /// The view of a key.
    pub fn get(&self, key: &ViewKey) -> Option<&V> {
        match key {
            ViewKey::Channel(name) => self.channels.get(name),
            ViewKey::User(user) => self.users.get(user),
        }
    }

    /// Adds a view.
    pub fn insert(&mut self, key: ViewKey, view: V) {
        match key {
            ViewKey::Channel(name) => self.channels.insert(name, view),
            ViewKey::User(user) => self.users.insert(user, view),
        };
    }

    /// Removes a view that nobody watches any more.
    pub fn remove(&mut self, key: &ViewKey) -> Option<V> {
        match key {
            ViewKey::Channel(name) => self.channels.remove(name),
            ViewKey::User(user) => self.users.remove(user),
        }
    }

    /// All views.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.channels.values().chain(self.users.values())
    }

    /// How many users are watched.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// The frames that a cut gives each view, in the cut's order.
    pub fn route(&self, cut: &Cut) -> Vec<(V, Frames)> {
        let mut routed: Routed<'_, V> = Routed { slots: HashMap::new(), frames: Vec::new() };
        for (i, change) in cut.changes.iter().enumerate() {
            let is_last = i + 1 == cut.changes.len();
            let end = cut.end.as_ref().filter(|_| is_last).map(|border| &*border.token);
            if let Some(update) = &change.update
                && let Some((name, view)) = self.channels.get_key_value(&update.channel)
            {
                routed.push((false, name), view, &protocol::realtime_update(change, update, &cut.inside, end));
            }
            if let Some(told) = &change.notification {
                for user in &told.users {
                    if let Some((name, view)) = self.users.get_key_value(&**user) {
                        routed.push((true, name), view, &protocol::notification(change, told, user, &cut.inside, end));
                    }
                }
            }
        }
        routed.frames
    }
}

/// Frames of one view.
#[derive(Debug, Default)]
pub struct Frames {
    /// one after the other
    pub bytes: Vec<u8>,
    /// how many
    pub count: u64,
}

struct Routed<'a, V> {
    slots: HashMap<(bool, &'a str), usize>,
    frames: Vec<(V, Frames)>,
}

impl<'a, V: Clone> Routed<'a, V> {
    fn push(&mut self, key: (bool, &'a str), view: &V, message: &str) {
        let slot = *self.slots.entry(key).or_insert_with(|| {
            self.frames.push((view.clone(), Frames::default()));
            self.frames.len() - 1
        });
        let frames = &mut self.frames[slot].1;
        push_text_frame(&mut frames.bytes, message);
        frames.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Border, Cursor, Snapshot};

    fn change(id: i64, channel: &str, users: &[&str]) -> Change {
        let users: Vec<Box<str>> = users.iter().map(|&user| user.into()).collect();
        Change {
            id,
            tx: 1,
            at: 0,
            actor: None,
            update: Some(Update {
                channel: channel.into(),
                action: "created".into(),
                data: "{}".into(),
                changed: vec![],
                old_key: None,
            }),
            notification: Some(Notification { users, kind: "pet_created".into(), data: "{}".into() }),
        }
    }

    #[test]
    fn each_view_gets_its_frames_in_order_and_the_last_carries_the_end() {
        let mut views = Views::default();
        views.insert(ViewKey::Channel("pets".into()), "pets");
        views.insert(ViewKey::User("5".into()), "five");
        let changes = vec![change(1, "pets", &["5", "6"]), change(2, "users", &[]), change(3, "pets", &["5"])];
        let seen = Snapshot::all_before(9);
        let cursor = Cursor { epoch: 1, incarnation: 1, lsn: 1, seen: seen.clone(), inside: None };
        let end = Some(Border { cursor, token: "1end".into() });
        let routed = views.route(&Cut { changes, inside: "1in".into(), until: seen.into(), end });
        assert_eq!(routed.len(), 2);
        for (view, frames) in &routed {
            let text = String::from_utf8_lossy(&frames.bytes);
            assert_eq!(frames.count, 2, "{view}");
            let (first, last) = (text.find("\"1in.11\"").unwrap(), text.find("\"1end\"").unwrap());
            assert!(first < last, "{view}: {text}");
            assert!(
                text.matches("1in.").count() == 1,
                "{view}: the cut's last change carries the cursor after the cut"
            );
        }
    }
}
