//! `Change` → views. Pure: which views a cut concerns, and the frames each of them gets, encoded once per view
//! however many sockets watch it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

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

    /// Orders what a cut tells.
    pub fn id(&self) -> i64 {
        match self {
            Self::Update(change, ..) | Self::Notification(change, ..) => change.id,
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

/// What routing asks of a view.
pub trait Watched: Clone {
    /// tells it from every other
    fn number(&self) -> u64;
    /// by whom it is looked through; none where it is not to be charged
    fn payers(&self) -> Vec<Arc<str>>;
}

/// The views that somebody watches, as they are looked up. A change that nobody watches costs a look-up; one of a channel
/// with views for single values (`user_id=eq.123`) a look-up for each column that they name, not for each view.
#[derive(Debug)]
pub struct Views<V> {
    channels: HashMap<Arc<str>, ChannelViews<V>>,
    /// by what may be seen: mostly one for a user
    users: HashMap<Arc<str>, Vec<UserView<V>>>,
    /// cuts that were routed
    routed: AtomicU64,
}

/// A view of a user's notifications, or of the part of them that may be seen.
#[derive(Debug)]
struct UserView<V> {
    rights: Option<Arc<Rights>>,
    lens: Arc<Lens>,
    view: V,
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
    /// what asking them all costs, and how much more for each byte of a row
    work: (u64, u64),
}

type ByValue<V> = HashMap<Value, Vec<Arc<Through<V>>>>;

/// A view through a lens.
#[derive(Debug)]
struct Through<V> {
    lens: Arc<Lens>,
    view: V,
    /// the cut that it was asked about last, and what that has cost so far
    cut: AtomicU64,
    spent: AtomicU64,
}

/// What a cut gives.
#[derive(Debug)]
pub struct Routed<V> {
    /// to each view, in the cut's order
    pub frames: Vec<(V, Frames)>,
    /// these were not looked at to the end, and have to go
    pub shed: Vec<(V, Shed)>,
}

/// Frames of one view.
#[derive(Debug)]
pub struct Frames {
    /// one after the other; views that are told the same share them
    pub bytes: Bytes,
    /// how many
    pub count: u64,
}

/// Why a view is not served any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// who looks through it asks for more work than one may
    Work,
    /// what differs between the views would take more memory than there is
    Memory,
}

/// What the filters of one user, or of one address without users, may cost for one cut: so much, and so much for each
/// byte of the cut. A byte is a nanosecond, about: a single change is held up by 17 ms at most for each who tries.
const WORK: u64 = 16 << 20;
const WORK_A_BYTE: u64 = 16;

impl<V> Default for Views<V> {
    fn default() -> Self {
        Self { channels: HashMap::new(), users: HashMap::new(), routed: AtomicU64::new(0) }
    }
}

impl<V> Default for ChannelViews<V> {
    fn default() -> Self {
        Self { everything: None, lenses: HashMap::new(), by_value: HashMap::new(), others: Vec::new(), work: (0, 0) }
    }
}

impl<V: Watched> Views<V> {
    /// Adds a view, in the place of what was there.
    pub fn insert(&mut self, key: &ViewKey, lens: Arc<Lens>, view: V) {
        match key {
            ViewKey::Channel(name, ask) => self.channels.entry(name.clone()).or_default().insert(ask, lens, view),
            ViewKey::User(user, rights) => {
                let of_user = self.users.entry(user.clone()).or_default();
                of_user.retain(|known| known.rights != *rights);
                of_user.push(UserView { rights: rights.clone(), lens, view });
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.channels.values().map(|of| of.lenses.len() + usize::from(of.everything.is_some())).sum::<usize>()
            + self.users.values().map(Vec::len).sum::<usize>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.users.is_empty()
    }

    /// What routing a change costs, about: in work as [`Lens::work`] counts it, and in bytes, if no two views were told
    /// the same.
    pub fn estimate(&self, change: &Change) -> (u64, u64) {
        let Some(update) = &change.update else { return (0, 0) };
        let Some(of) = self.channels.get(&update.channel).filter(|of| !of.lenses.is_empty()) else { return (0, 0) };
        let images = if update.old.is_some() { 2 } else { 1 };
        let work = of.work.0 + of.work.1 * update.data.len() as u64;
        let reached = (of.others.len() + 2 * of.by_value.len()) as u64;
        (images * work, reached * change.size())
    }

    /// The frames that a cut gives each view. At most `most` bytes are made of them, and as many again where views share
    /// a part of what others get; `hold` takes them into account.
    pub fn route(&self, cut: &Cut, most: u64, hold: impl Fn(Vec<u8>) -> Bytes) -> Routed<V> {
        let number = self.routed.fetch_add(1, Relaxed) + 1;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (arena, slots, given, shed) = (Vec::new(), HashMap::new(), Vec::new(), HashMap::new());
        let mut routing = Routing { views: self, cut, number, most, arena, slots, given, shed, work: 0, purses: None };
        for (i, change) in cut.changes.iter().enumerate() {
            let is_last = i + 1 == cut.changes.len();
            let end = cut.end.as_ref().filter(|_| is_last).map(|border| &*border.token);
            if let Some(update) = &change.update
                && let Some(of) = self.channels.get(&update.channel)
            {
                routing.update(change, update, of, end);
            }
            if let Some(told) = &change.notification {
                for user in &told.users {
                    for UserView { lens, view, .. } in self.users.get(&**user).into_iter().flatten() {
                        let Some(noticed) = lens.notice(change, told) else { continue };
                        let (inside, mark) = (&cut.inside, lens.mark());
                        let message = protocol::notification(change, &told.kind, &noticed, user, inside, end, mark);
                        let frame = routing.frame(&message);
                        routing.give(view, frame);
                    }
                }
            }
        }
        routing.finish(hold)
    }
}

impl<V: Watched> ChannelViews<V> {
    fn insert(&mut self, ask: &Ask, lens: Arc<Lens>, view: V) {
        if ask.is_everything() {
            self.everything = Some(view);
            return;
        }
        self.remove(ask);
        let through = Arc::new(Through { lens, view, cut: AtomicU64::new(0), spent: AtomicU64::new(0) });
        match through.lens.needs() {
            None => {
                let (one, byte) = work_of(&through.lens);
                self.work = (self.work.0 + one, self.work.1 + byte);
                self.others.push(through.clone());
            }
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
            None => {
                let (one, byte) = work_of(&through.lens);
                self.work = (self.work.0 - one, self.work.1 - byte);
                self.others.retain(|other| !Arc::ptr_eq(other, &through));
            }
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

    /// Tells `ask` the lenses that an update may concern, each once.
    fn asked<'a>(&'a self, images: &Images<'_>, mut ask: impl FnMut(&'a Through<V>)) {
        if images.concern_all() {
            // such as a truncate: it is for everybody
            return self.lenses.values().for_each(|through| ask(through));
        }
        self.others.iter().for_each(|through| ask(through));
        for ((column, kind), by_value) in &self.by_value {
            let values: Vec<Value> = images.values(column, *kind).collect();
            for (i, value) in values.iter().enumerate() {
                for through in by_value.get(value).into_iter().flatten() {
                    // an update may take a row from one value of an `in` to another
                    let known = |known: &Value| through.lens.needs().is_some_and(|(.., needs)| needs.contains(known));
                    if !values[..i].iter().any(known) {
                        ask(through);
                    }
                }
            }
        }
    }
}

/// What asking a lens costs, and how much more for each byte.
fn work_of(lens: &Lens) -> (u64, u64) {
    let one = lens.work(0);
    (one, lens.work(1) - one)
}

/// A cut on its way to the views.
struct Routing<'a, V> {
    views: &'a Views<V>,
    cut: &'a Cut,
    number: u64,
    most: usize,
    /// each frame once, one after the other
    arena: Vec<u8>,
    /// number of a view → its place in `given`
    slots: HashMap<u64, usize>,
    given: Vec<Given<V>>,
    shed: HashMap<u64, (V, Shed)>,
    /// of all filters so far
    work: u64,
    /// what each has spent, once all together have spent what one may
    purses: Option<HashMap<Arc<str>, u64>>,
}

/// What a view gets of the arena.
struct Given<V> {
    view: V,
    /// one behind the other where nothing lies between
    parts: Vec<Range<usize>>,
    count: u64,
}

impl<'a, V: Watched> Routing<'a, V> {
    fn update(&mut self, change: &'a Change, update: &'a Update, of: &'a ChannelViews<V>, end: Option<&str>) {
        let mut encoded = Encoded::default();
        let is_shared = !of.lenses.is_empty();
        if let Some(view) = &of.everything {
            let shown = Shown::of(update);
            let message = protocol::realtime_update(change, &update.channel, &shown, &self.cut.inside, end, "");
            let frame = self.frame(&message);
            self.give(view, frame.clone());
            if is_shared {
                encoded.insert("", shown, frame);
            }
        }
        if !is_shared {
            return;
        }
        let images = Images::of(update);
        of.asked(&images, |through| {
            if self.shed.contains_key(&through.view.number()) {
                return;
            }
            let before = images.work();
            let shown = through.lens.show(update, &images);
            // what was made for it was gone through twice: to make it, and to find out whether it was made before
            let made = shown.as_ref().map_or(0, |shown| match &shown.data {
                Cow::Owned(data) => 2 * data.len() as u64,
                Cow::Borrowed(_) => 0,
            });
            if !self.pays(through, images.work() - before + made) {
                return self.shed(&through.view, Shed::Work);
            }
            let Some(shown) = shown else { return };
            let mark = through.lens.mark();
            let frame = match encoded.find(mark, &shown) {
                Some(frame) => frame,
                None if !self.arena.is_empty() && self.arena.len() + shown.data.len() > self.most => {
                    return self.shed(&through.view, Shed::Memory);
                }
                None => {
                    let inside = &self.cut.inside;
                    let message = protocol::realtime_update(change, &update.channel, &shown, inside, end, mark);
                    let frame = self.frame(&message);
                    encoded.insert(mark, shown, frame.clone());
                    frame
                }
            };
            self.give(&through.view, frame);
        });
    }

    fn frame(&mut self, message: &str) -> Range<usize> {
        let start = self.arena.len();
        push_text_frame(&mut self.arena, message);
        start..self.arena.len()
    }

    fn give(&mut self, view: &V, frame: Range<usize>) {
        let place = *self.slots.entry(view.number()).or_insert_with(|| {
            self.given.push(Given { view: view.clone(), parts: Vec::with_capacity(1), count: 0 });
            self.given.len() - 1
        });
        let given = &mut self.given[place];
        given.count += 1;
        match given.parts.last_mut() {
            Some(last) if last.end == frame.start => last.end = frame.end,
            _ => given.parts.push(frame),
        }
    }

    fn shed(&mut self, view: &V, why: Shed) {
        self.shed.insert(view.number(), (view.clone(), why));
    }

    /// Whether somebody can pay for what a view has just cost. As long as all together have spent no more than one may,
    /// nobody looks who it was.
    fn pays(&mut self, through: &Through<V>, cost: u64) -> bool {
        self.work += cost;
        let spent = if through.cut.swap(self.number, Relaxed) == self.number { through.spent.load(Relaxed) } else { 0 };
        through.spent.store(spent + cost, Relaxed);
        if self.work <= WORK {
            return true;
        }
        let allowed = WORK + WORK_A_BYTE * self.cut.changes.iter().map(Change::size).sum::<u64>();
        let Some(purses) = &mut self.purses else {
            let mut purses = HashMap::new();
            for through in self.views.channels.values().flat_map(|of| of.lenses.values()) {
                if through.cut.load(Relaxed) == self.number {
                    charge(&mut purses, through.view.payers(), through.spent.load(Relaxed));
                }
            }
            self.purses = Some(purses);
            return true;
        };
        charge(purses, through.view.payers(), cost).is_none_or(|spent| spent <= allowed)
    }

    fn finish(self, hold: impl Fn(Vec<u8>) -> Bytes) -> Routed<V> {
        let Self { arena, given, mut shed, most, .. } = self;
        let length = |parts: &[Range<usize>]| parts.iter().map(Range::len).sum::<usize>();
        let total = arena.len();
        // who gets most of it holds all of it; whoever gets less has a copy, for else a small part would hold a large whole
        let mut copies: HashMap<&[Range<usize>], Option<Bytes>> = HashMap::new();
        let mut copied = 0;
        for given in &given {
            if let [part] = &given.parts[..]
                && 2 * part.len() > total
            {
                continue;
            }
            copies.entry(&given.parts).or_insert_with(|| {
                let length = length(&given.parts);
                (copied == 0 || copied + length <= most).then(|| {
                    copied += length;
                    let mut copy = Vec::with_capacity(length);
                    given.parts.iter().for_each(|part| copy.extend_from_slice(&arena[part.clone()]));
                    hold(copy)
                })
            });
        }
        let is_held_whole = given.iter().any(|given| !copies.contains_key(&given.parts[..]));
        let whole = if is_held_whole { hold(arena) } else { Bytes::new() };
        let mut frames = Vec::with_capacity(given.len());
        for given in &given {
            if shed.contains_key(&given.view.number()) {
                continue;
            }
            let bytes = match copies.get(&given.parts[..]) {
                Some(copy) => copy.clone(),
                None => given.parts.first().map(|part| whole.slice(part.clone())),
            };
            match bytes {
                Some(bytes) => frames.push((given.view.clone(), Frames { bytes, count: given.count })),
                None => {
                    shed.insert(given.view.number(), (given.view.clone(), Shed::Memory));
                }
            }
        }
        Routed { frames, shed: shed.into_values().collect() }
    }
}

/// Charges whoever of them has spent least, and says what that one has spent then.
fn charge(purses: &mut HashMap<Arc<str>, u64>, payers: Vec<Arc<str>>, cost: u64) -> Option<u64> {
    let payer = payers.into_iter().min_by_key(|payer| purses.get(payer).copied().unwrap_or_default())?;
    let spent = purses.entry(payer).or_default();
    *spent += cost;
    Some(*spent)
}

/// The frames of one change that were made: what is shown to several is made once.
#[derive(Default)]
struct Encoded<'a>(HashMap<u64, Vec<Made<'a>>>);

/// The mark of its views, what is shown, and where the frame is.
type Made<'a> = (&'a str, Shown<'a>, Range<usize>);

impl<'a> Encoded<'a> {
    fn insert(&mut self, mark: &'a str, shown: Shown<'a>, frame: Range<usize>) {
        self.0.entry(digest(mark, &shown)).or_default().push((mark, shown, frame));
    }

    fn find(&self, mark: &str, shown: &Shown<'_>) -> Option<Range<usize>> {
        let same = |(known, other, _): &&Made<'_>| *known == mark && is_same(other, shown);
        self.0.get(&digest(mark, shown))?.iter().find(same).map(|(.., frame)| frame.clone())
    }
}

/// Text of the change itself is told by where it is; only what was made for a view is gone through.
fn digest(mark: &str, shown: &Shown<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (mark, shown.action, &shown.changed, shown.gap.is_some()).hash(&mut hasher);
    for text in [Some(&shown.data), shown.old.as_ref()] {
        match text {
            Some(Cow::Borrowed(text)) => (text.as_ptr() as usize, text.len()).hash(&mut hasher),
            Some(Cow::Owned(text)) => text.hash(&mut hasher),
            None => {}
        }
    }
    hasher.finish()
}

fn is_same(one: &Shown<'_>, other: &Shown<'_>) -> bool {
    let is_same = |one: &str, other: &str| std::ptr::eq(one, other) || one == other;
    one.action == other.action
        && one.gap == other.gap
        && one.omitted == other.omitted
        && one.changed == other.changed
        && is_same(&one.data, &other.data)
        && match (&one.old, &other.old) {
            (None, None) => true,
            (Some(one), Some(other)) => is_same(one, other),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Border, Cursor, Snapshot};

    impl Watched for u64 {
        fn number(&self) -> u64 {
            *self
        }

        /// The first digit of four is whose it is.
        fn payers(&self) -> Vec<Arc<str>> {
            vec![(self / 1000).to_string().into()]
        }
    }

    fn route(views: &Views<u64>, cut: &Cut) -> Routed<u64> {
        views.route(cut, 1 << 30, Bytes::from)
    }

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
                size: crate::change::Size::Whole,
            }),
            notification: Some(Notification {
                users,
                kind: "pet_created".into(),
                data: "{}".into(),
                omitted: false,
                is_chosen: false,
            }),
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
        let routed = route(&views, &Cut { changes, inside: "1in".into(), until: seen.into(), end });
        assert_eq!(routed.frames.len(), 2);
        for (view, frames) in &routed.frames {
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
            let mut seen: Vec<u64> = route(views, &cut).frames.into_iter().map(|(view, _)| view).collect();
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
        assert_eq!(views.len(), 2);
    }
    fn name_columns() -> [crate::change::Column; 2] {
        [("id", Kind::Integer), ("name", Kind::Text)].map(|(name, kind)| crate::change::Column {
            name: name.into(),
            kind,
            number: 0,
        })
    }

    fn look(views: &mut Views<u64>, view: u64, filters: &[&str], columns: Option<&[&str]>) {
        let columns = columns.map(|columns| columns.iter().map(ToString::to_string).collect());
        let ask = Ask::new(filters.iter().map(ToString::to_string), columns, false);
        let lens = Arc::new(Lens::compile(&ask, Some(&name_columns())).unwrap());
        views.insert(&ViewKey::named("pets", ask), lens, view);
    }

    fn rows(texts: &[String]) -> Cut {
        let changes = texts.iter().enumerate().map(|(id, text)| {
            let mut change = change(id as i64, "pets", &[]);
            let update = change.update.as_mut().unwrap();
            update.data = format!(r#"{{"id":{id},"name":"{text}"}}"#).into();
            change
        });
        Cut { changes: changes.collect(), inside: "1in".into(), until: Arc::new(Snapshot::all_before(9)), end: None }
    }

    #[test]
    fn views_that_are_told_the_same_share_its_bytes() {
        let mut views = Views::default();
        views.insert(&ViewKey::named("pets", Ask::default()), Arc::default(), 1);
        for n in 2..100 {
            look(&mut views, n, &[&format!("id=gte.-{n}")], None);
        }
        look(&mut views, 100, &["id=neq.0"], None);
        look(&mut views, 101, &["id=neq.0", "id=neq.7"], None);
        look(&mut views, 102, &[], Some(&["id"]));
        let made = std::cell::RefCell::new(Vec::new());
        let hold = |bytes: Vec<u8>| {
            made.borrow_mut().push(bytes.len());
            Bytes::from(bytes)
        };
        let routed = views.route(&rows(&["x".repeat(1000), "y".repeat(1000)]), 1 << 30, hold);
        let of = |view: u64| routed.frames.iter().find(|(known, _)| *known == view).unwrap().1.bytes.clone();
        assert_eq!(routed.frames.len(), 102);
        let of_all = of(1);
        assert!(
            (2..100).all(|view| of(view).as_ptr() == of_all.as_ptr() && of(view) == of_all),
            "one copy for all of them"
        );
        assert_eq!(of(100).as_ptr(), of(101).as_ptr(), "a part of it is one copy for all who get that part");
        assert!(of_all.ends_with(&of(100)) && of(100).len() * 2 == of_all.len());
        assert!(of(102).len() < 400);
        assert_eq!(made.borrow().len(), 3);
    }

    #[test]
    fn who_asks_for_too_much_work_goes_and_nobody_else() {
        let mut views = Views::default();
        let text = "a".repeat(100_000) + "b";
        views.insert(&ViewKey::named("pets", Ask::default()), Arc::default(), 1);
        look(&mut views, 2000, &["name=like.%aab"], None);
        // another pattern each: 300 of them are 30 MB of text for one user
        for n in 1000..1300 {
            look(&mut views, n, &[&format!("name=like.%a{n}b"), &format!("id=gte.-{n}")], None);
        }
        let routed = route(&views, &rows(&[text]));
        let told: Vec<u64> = routed.frames.iter().map(|(view, _)| *view).collect();
        assert_eq!(told, [1, 2000]);
        let shed: Vec<u64> = routed.shed.iter().map(|(view, _)| *view).collect();
        assert!((50..250).contains(&shed.len()) && shed.iter().all(|view| view / 1000 == 1), "{}", shed.len());
        assert!(routed.shed.iter().all(|(_, why)| *why == Shed::Work));
        // the same pattern again and again is read once
        let mut views = Views::default();
        for n in 1000..1300 {
            look(&mut views, n, &["name=like.%ab", &format!("id=gte.-{n}")], None);
        }
        let routed = route(&views, &rows(&["a".repeat(100_000) + "b"]));
        assert_eq!((routed.frames.len(), routed.shed.len()), (300, 0));
    }

    #[test]
    fn what_differs_between_views_is_made_up_to_a_bound() {
        let mut views = Views::default();
        views.insert(&ViewKey::named("pets", Ask::default()), Arc::default(), 1);
        // neither the first nor the last row, each without another one
        for n in 1..=40 {
            look(&mut views, 1000 + n, &["id=neq.0", &format!("id=neq.{n}")], None);
        }
        let texts: Vec<String> = (0..42).map(|_| "x".repeat(1000)).collect();
        let most = 10 * 50_000;
        let routed = views.route(&rows(&texts), most, Bytes::from);
        let bytes: usize = routed.frames.iter().map(|(_, frames)| frames.bytes.len()).sum();
        assert!(routed.frames.iter().any(|(view, _)| *view == 1), "who gets all of it shares what was made");
        assert!((5..20).contains(&routed.frames.len()) && bytes < 2 * most as usize, "{} {bytes}", routed.frames.len());
        assert_eq!(routed.frames.len() + routed.shed.len(), 41);
        assert!(routed.shed.iter().all(|(_, why)| *why == Shed::Memory));
    }
}
