//! `Change` → views. Pure: which views a cut concerns, and the frames each of them gets, encoded once per view
//! however many sockets watch it.

use std::collections::HashMap;
use std::sync::Arc;

use super::frame::push_text_frame;
use super::lens::{Ask, Images, Lens, Noticed, Shown};
use super::policy::Rights;
use super::protocol;
use super::value::Value;
use crate::change::{Change, Cut, Kind, Notification, Update};

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

    /// The name as messages have it.
    pub fn label(&self) -> String {
        match self {
            Self::Channel(name, _) => name.to_string(),
            Self::User(user, _) => format!("{USER}{user}"),
        }
    }

    /// What was asked for, as a path would ask: `pets?filter=user_id=eq.5`.
    pub fn wish(&self) -> String {
        match self {
            Self::Channel(name, ask) => format!("{name}{}", ask.parameters()),
            Self::User(..) => self.label(),
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

    /// The channel, if it is one.
    pub fn channel(&self) -> Option<&Arc<str>> {
        match self {
            Self::Channel(name, _) => Some(name),
            Self::User(..) => None,
        }
    }
}

const USER: &str = "user/";

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

/// The views that somebody watches. A change that nobody watches costs a look-up; one of a channel with views for
/// single values (`user_id=eq.123`) a look-up for each column that they name, not for each view.
#[derive(Debug)]
pub struct Views<V> {
    channels: HashMap<Arc<str>, ChannelViews<V>>,
    /// by what may be seen: mostly one for a user
    users: HashMap<Arc<str>, Vec<UserView<V>>>,
}

/// A view of a user's notifications, or of the part of them that may be seen.
#[derive(Debug)]
struct UserView<V> {
    rights: Option<Arc<Rights>>,
    through: Through<V>,
}

/// The views of one channel.
#[derive(Debug)]
struct ChannelViews<V> {
    everything: Option<V>,
    lenses: HashMap<Ask, Arc<Through<V>>>,
    /// those that need a value: by column, by value
    by_value: HashMap<(Box<str>, Kind), ByValue<V>>,
    /// those that have to be asked about every change
    others: Vec<Arc<Through<V>>>,
}

type ByValue<V> = HashMap<Value, Vec<Arc<Through<V>>>>;

/// A view through a lens.
#[derive(Debug)]
struct Through<V> {
    lens: Arc<Lens>,
    view: V,
}

impl<V> Default for Views<V> {
    fn default() -> Self {
        Self { channels: HashMap::new(), users: HashMap::new() }
    }
}

impl<V> Default for ChannelViews<V> {
    fn default() -> Self {
        Self { everything: None, lenses: HashMap::new(), by_value: HashMap::new(), others: Vec::new() }
    }
}

impl<V: Clone> Views<V> {
    /// The view of a key.
    pub fn get(&self, key: &ViewKey) -> Option<&V> {
        match key {
            ViewKey::Channel(name, ask) if ask.is_everything() => self.channels.get(name)?.everything.as_ref(),
            ViewKey::Channel(name, ask) => Some(&self.channels.get(name)?.lenses.get(ask)?.view),
            ViewKey::User(user, rights) => {
                Some(&self.users.get(user)?.iter().find(|known| known.rights == *rights)?.through.view)
            }
        }
    }

    /// Adds a view.
    pub fn insert(&mut self, key: &ViewKey, lens: Arc<Lens>, view: V) {
        match key {
            ViewKey::Channel(name, ask) => self.channels.entry(name.clone()).or_default().insert(ask, lens, view),
            ViewKey::User(user, rights) => {
                let (rights, through) = (rights.clone(), Through { lens, view });
                self.users.entry(user.clone()).or_default().push(UserView { rights, through });
            }
        }
    }

    /// Removes a view that nobody watches any more.
    pub fn remove(&mut self, key: &ViewKey) {
        match key {
            ViewKey::Channel(name, ask) => {
                if let Some(views) = self.channels.get_mut(name) {
                    views.remove(ask);
                    if views.everything.is_none() && views.lenses.is_empty() {
                        self.channels.remove(name);
                    }
                }
            }
            ViewKey::User(user, rights) => {
                if let Some(views) = self.users.get_mut(user) {
                    views.retain(|known| known.rights != *rights);
                    if views.is_empty() {
                        self.users.remove(user);
                    }
                }
            }
        }
    }

    /// The views of a channel.
    pub fn of_channel(&self, name: &str) -> impl Iterator<Item = &V> {
        self.channels.get(name).into_iter().flat_map(ChannelViews::iter)
    }

    /// The views of a user's notifications.
    pub fn of_user(&self, user: &str) -> impl Iterator<Item = &V> {
        self.users.get(user).into_iter().flatten().map(|known| &known.through.view)
    }

    /// All views.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        let of_users = self.users.values().flatten().map(|known| &known.through.view);
        self.channels.values().flat_map(ChannelViews::iter).chain(of_users)
    }

    /// How many users are watched.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// The frames that a cut gives each view, in the cut's order. `slot` numbers the views.
    pub fn route(&self, cut: &Cut, slot: impl Fn(&V) -> u64) -> Vec<(V, Frames)> {
        let mut routed = Routed { slot, slots: HashMap::new(), frames: Vec::new() };
        for (i, change) in cut.changes.iter().enumerate() {
            let is_last = i + 1 == cut.changes.len();
            let end = cut.end.as_ref().filter(|_| is_last).map(|border| &*border.token);
            if let Some(update) = &change.update
                && let Some(views) = self.channels.get(&update.channel)
            {
                views.shown(update, |view, mark, shown| {
                    let channel = &update.channel;
                    routed.push(view, &protocol::realtime_update(change, channel, &shown, &cut.inside, end, mark));
                });
            }
            if let Some(told) = &change.notification {
                for user in &told.users {
                    for known in self.users.get(&**user).into_iter().flatten() {
                        let Through { lens, view } = &known.through;
                        let Some(noticed) = lens.notice(change, told) else { continue };
                        let (inside, mark) = (&cut.inside, lens.mark());
                        routed
                            .push(view, &protocol::notification(change, &told.kind, &noticed, user, inside, end, mark));
                    }
                }
            }
        }
        routed.frames
    }
}

impl<V: Clone> ChannelViews<V> {
    fn insert(&mut self, ask: &Ask, lens: Arc<Lens>, view: V) {
        if ask.is_everything() {
            self.everything = Some(view);
            return;
        }
        let through = Arc::new(Through { lens, view });
        match through.lens.needs() {
            None => self.others.push(through.clone()),
            Some((column, kind, values)) => {
                let by_value = self.by_value.entry((column.into(), kind)).or_default();
                for value in values {
                    by_value.entry(value.clone()).or_default().push(through.clone());
                }
            }
        }
        self.lenses.insert(ask.clone(), through);
    }

    fn remove(&mut self, ask: &Ask) {
        if ask.is_everything() {
            self.everything = None;
            return;
        }
        let Some(through) = self.lenses.remove(ask) else { return };
        match through.lens.needs() {
            None => self.others.retain(|other| !Arc::ptr_eq(other, &through)),
            Some((column, kind, values)) => {
                let key = (Box::from(column), kind);
                let Some(by_value) = self.by_value.get_mut(&key) else { return };
                for value in values {
                    if let Some(others) = by_value.get_mut(value) {
                        others.retain(|other| !Arc::ptr_eq(other, &through));
                        if others.is_empty() {
                            by_value.remove(value);
                        }
                    }
                }
                if by_value.is_empty() {
                    self.by_value.remove(&key);
                }
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &V> {
        self.everything.iter().chain(self.lenses.values().map(|through| &through.view))
    }

    /// Tells `each` the views that an update concerns, and what they are shown of it.
    fn shown<'a>(&self, update: &'a Update, mut each: impl FnMut(&V, &str, Shown<'a>)) {
        if let Some(view) = &self.everything {
            each(view, "", Shown::of(update));
        }
        if self.lenses.is_empty() {
            return;
        }
        let images = Images::of(update);
        let mut ask = |through: &Through<V>| {
            if let Some(shown) = through.lens.show(update, &images) {
                each(&through.view, through.lens.mark(), shown);
            }
        };
        if !images.has_row() {
            // such as a truncate: it is for everybody
            return self.lenses.values().for_each(|through| ask(through));
        }
        self.others.iter().for_each(|through| ask(through));
        for ((column, kind), by_value) in &self.by_value {
            let mut asked: Vec<&Arc<Through<V>>> = Vec::new();
            for through in images.values(column, *kind).filter_map(|value| by_value.get(&value)).flatten() {
                // an update may take a row from one value of an `in` to another
                if !asked.iter().any(|known| Arc::ptr_eq(known, through)) {
                    asked.push(through);
                    ask(through);
                }
            }
        }
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

struct Routed<V, S> {
    slot: S,
    /// slot of a view → its place in `frames`
    slots: HashMap<u64, usize>,
    frames: Vec<(V, Frames)>,
}

impl<V: Clone, S: Fn(&V) -> u64> Routed<V, S> {
    fn push(&mut self, view: &V, message: &str) {
        let place = *self.slots.entry((self.slot)(view)).or_insert_with(|| {
            self.frames.push((view.clone(), Frames::default()));
            self.frames.len() - 1
        });
        let frames = &mut self.frames[place].1;
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
                old: None,
                old_key: None,
            }),
            notification: Some(Notification { users, kind: "pet_created".into(), data: "{}".into(), is_chosen: false }),
        }
    }

    #[test]
    fn each_view_gets_its_frames_in_order_and_the_last_carries_the_end() {
        let mut views = Views::default();
        views.insert(&ViewKey::named("pets", Ask::default()), Arc::default(), 1);
        views.insert(&ViewKey::named("user/5", Ask::default()), Arc::default(), 5);
        let changes = vec![change(1, "pets", &["5", "6"]), change(2, "users", &[]), change(3, "pets", &["5"])];
        let seen = Snapshot::all_before(9);
        let cursor = Cursor { epoch: 1, incarnation: 1, lsn: 1, seen: seen.clone(), inside: None };
        let end = Some(Border { cursor, token: "1end".into() });
        let routed = views.route(&Cut { changes, inside: "1in".into(), until: seen.into(), end }, |view| *view);
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

    #[test]
    fn each_filter_gets_its_rows_however_many_there_are() {
        let columns = [("owner", Kind::Integer), ("name", Kind::Text)].map(|(name, kind)| crate::change::Column {
            name: name.into(),
            kind,
            number: 0,
        });
        let mut views = Views::default();
        let mut insert = |view: u64, filters: &[&str]| {
            let ask = Ask::new(filters.iter().map(ToString::to_string), None, false);
            let lens = Arc::new(Lens::compile(&ask, Some(&columns)).unwrap());
            let key = ViewKey::named("pets", ask);
            views.insert(&key, lens, view);
            key
        };
        let keys: Vec<_> = (0..1000).map(|n| insert(n, &[&format!("owner=eq.{n}")])).collect();
        insert(2000, &["owner=in.(7,8)", "name=neq.Lu"]);
        insert(2001, &["name=like.L*"]);
        let seen_by = |views: &Views<u64>, data: &str, old: Option<&str>| {
            let mut change = change(1, "pets", &[]);
            let update = change.update.as_mut().unwrap();
            update.data = data.into();
            update.old = old.map(Into::into);
            let cut =
                Cut { changes: vec![change], inside: "".into(), until: Arc::new(Snapshot::all_before(9)), end: None };
            let mut seen: Vec<u64> = views.route(&cut, |view| *view).into_iter().map(|(view, _)| view).collect();
            seen.sort_unstable();
            seen
        };
        assert_eq!(seen_by(&views, r#"{"owner":7,"name":"Max"}"#, None), [7, 2000]);
        assert_eq!(seen_by(&views, r#"{"owner":8.0,"name":"Luna"}"#, Some(r#"{"owner":7}"#)), [7, 8, 2000, 2001]);
        assert_eq!(seen_by(&views, r#"{"owner":null,"name":"Lu"}"#, None), [2001]);
        assert_eq!(seen_by(&views, "null", None).len(), 0, "no row, and no truncate");
        for key in &keys {
            views.remove(key);
        }
        assert_eq!(seen_by(&views, r#"{"owner":7,"name":"Max"}"#, None), [2000]);
        assert_eq!(views.iter().count(), 2);
    }
}
