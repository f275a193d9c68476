//! `Change` → views. Pure: which views a cut concerns, and the frames each of them gets, encoded once per view
//! however many sockets watch it.

mod encoded;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use encoded::Encoded;

use crate::change::{Change, Cut, Update, ValueKind};
use crate::delivery::scope::grant::Rights;
use crate::delivery::scope::projection::Projection;
use crate::delivery::scope::selection::Selection;
use crate::delivery::scope::value::Value;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::scope::visible::{RowImages, VisibleChange};
use crate::delivery::wire::frame::{payload, push_text_frame};
use crate::delivery::wire::protocol::{self, MessagePlace};

/// What routing asks of a view.
pub trait Watched: Clone {
    /// tells it from every other
    fn number(&self) -> u64;
    /// by whom it is looked through; none where it is not to be charged
    fn payers(&self) -> Vec<Arc<str>>;
    /// whether it is told the newest change of each row, later
    fn is_of_newest(&self) -> bool;
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
    projection: Arc<Projection>,
    view: V,
}

/// The views of one channel.
#[derive(Debug)]
struct ChannelViews<V> {
    everything: Option<V>,
    projections: HashMap<Selection, Arc<Through<V>>>,
    /// those that need a value: by column, by value
    by_value: HashMap<(Box<str>, ValueKind), ByValue<V>>,
    /// those that have to be asked about every change
    others: Vec<Arc<Through<V>>>,
    /// what asking them all costs, and how much more for each byte of a row
    work: (u64, u64),
}

type ByValue<V> = HashMap<Value, Vec<Arc<Through<V>>>>;

/// A view through a projection.
#[derive(Debug)]
struct Through<V> {
    projection: Arc<Projection>,
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
    /// to views that are told later
    pub later: Vec<Later<V>>,
    /// these were not looked at to the end, and have to go
    pub shed: Vec<(V, Shed)>,
}

/// A view that is told later, and through what: the changes that concern it, by their places in the cut.
#[derive(Debug)]
pub struct Later<V> {
    /// the view
    pub view: V,
    /// what it shows
    pub projection: Arc<Projection>,
    /// in order
    pub changes: Vec<usize>,
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
    /// each asker that looks through it asks for more work than it may
    Work,
    /// what differs between the views would take more memory than there is
    Memory,
}

/// What the filters of one user, or of one address without users, may cost for one cut: so much, and so much for each
/// byte of the cut. A byte is a nanosecond, about: a single change is held up by 17 ms at most for each asker that
/// tries.
const WORK: u64 = 16 << 20;
const WORK_A_BYTE: u64 = 16;

impl<V> Default for Views<V> {
    fn default() -> Self {
        Self { channels: HashMap::new(), users: HashMap::new(), routed: AtomicU64::new(0) }
    }
}

impl<V> Default for ChannelViews<V> {
    fn default() -> Self {
        Self {
            everything: None,
            projections: HashMap::new(),
            by_value: HashMap::new(),
            others: Vec::new(),
            work: (0, 0),
        }
    }
}

impl<V: Watched> Views<V> {
    /// Adds a view, in the place of what was there.
    pub fn insert(&mut self, key: &ViewKey, projection: Arc<Projection>, view: V) {
        match key {
            ViewKey::Channel(name, selection) => {
                self.channels.entry(name.clone()).or_default().insert(selection, projection, view)
            }
            ViewKey::User(user, rights) => {
                let of_user = self.users.entry(user.clone()).or_default();
                of_user.retain(|known| known.rights != *rights);
                of_user.push(UserView { rights: rights.clone(), projection, view });
            }
        }
    }

    /// Removes a view that nobody watches any more.
    pub fn remove(&mut self, key: &ViewKey) {
        match key {
            ViewKey::Channel(name, selection) => {
                if let Some(views) = self.channels.get_mut(name) {
                    views.remove(selection);
                    if views.everything.is_none() && views.projections.is_empty() {
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
        self.channels.values().map(|of| of.projections.len() + usize::from(of.everything.is_some())).sum::<usize>()
            + self.users.values().map(Vec::len).sum::<usize>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.users.is_empty()
    }

    /// What routing a change costs, about: in work as [`Projection::work`] counts it, and in bytes, if no two views were told
    /// the same.
    pub fn estimate(&self, change: &Change) -> (u64, u64) {
        let Some(update) = &change.update else { return (0, 0) };
        let Some(of) = self.channels.get(&update.channel).filter(|of| !of.projections.is_empty()) else {
            return (0, 0);
        };
        let images = if update.old.is_some() { 2 } else { 1 };
        let work = of.work.0 + of.work.1 * update.data.len() as u64;
        let reached = (of.others.len() + 2 * of.by_value.len()) as u64;
        (images * work, reached * change.size())
    }

    /// The frames that a cut gives each view; `inside` is the token of its positions, without the id. At most `most` bytes are made of them, as many again for those that end a cut for
    /// some views and not for others, and as many where views share a part of what others get; `hold` takes them into account.
    pub fn route(&self, cut: &Cut, inside: &str, most: u64, hold: impl Fn(Vec<u8>) -> Bytes) -> Routed<V> {
        let number = self.routed.fetch_add(1, Relaxed) + 1;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (arena, slots, given, shed) = (Vec::new(), HashMap::new(), Vec::new(), HashMap::new());
        let later = HashMap::new();
        let mut routing = Routing {
            views: self,
            cut,
            inside,
            number,
            most,
            arena,
            slots,
            given,
            later,
            shed,
            work: 0,
            purses: None,
            bytes: None,
        };
        let mut of_last = 0;
        for (i, change) in cut.changes.iter().enumerate() {
            let is_last = i + 1 == cut.changes.len();
            of_last = routing.arena.len();
            let end = cut.end.as_ref().filter(|_| is_last).map(|boundary| &*boundary.token);
            if let Some(update) = &change.update
                && let Some(of) = self.channels.get(&update.channel)
            {
                routing.update(i, change, update, of, end);
            }
            if let Some(told) = &change.notification {
                for user in &told.users {
                    for UserView { projection, view, .. } in self.users.get(&**user).into_iter().flatten() {
                        let Some(noticed) = projection.notice(change, told) else { continue };
                        let mark = projection.mark();
                        let place = MessagePlace::of(inside, end);
                        let message = protocol::notification(change, &told.kind, &noticed, user, place, mark);
                        let frame = routing.frame(&message);
                        routing.give(view, frame);
                    }
                }
            }
        }
        if cut.end.is_some() {
            routing.end(of_last);
        }
        routing.finish(hold)
    }
}

impl<V: Watched> ChannelViews<V> {
    fn insert(&mut self, selection: &Selection, projection: Arc<Projection>, view: V) {
        if selection.is_everything() {
            self.everything = Some(view);
            return;
        }
        self.remove(selection);
        let through = Arc::new(Through { projection, view, cut: AtomicU64::new(0), spent: AtomicU64::new(0) });
        match through.projection.needs() {
            None => {
                let (one, byte) = work_of(&through.projection);
                self.work = (self.work.0 + one, self.work.1 + byte);
                self.others.push(through.clone());
            }
            Some((column, kind, values)) => {
                let by_value = self.by_value.entry((column.into(), kind)).or_default();
                values.each(|value| {
                    // most values are looked at by few, and an entry by value is a copy
                    match by_value.get_mut(&*value) {
                        Some(others) => others.push(through.clone()),
                        None => _ = by_value.insert(value.into_owned(), vec![through.clone()]),
                    }
                });
            }
        }
        self.projections.insert(selection.clone(), through);
    }

    fn remove(&mut self, selection: &Selection) {
        if selection.is_everything() {
            self.everything = None;
            return;
        }
        let Some(through) = self.projections.remove(selection) else { return };
        match through.projection.needs() {
            None => {
                let (one, byte) = work_of(&through.projection);
                self.work = (self.work.0 - one, self.work.1 - byte);
                self.others.retain(|other| !Arc::ptr_eq(other, &through));
            }
            Some((column, kind, values)) => {
                let key = (Box::from(column), kind);
                let Some(by_value) = self.by_value.get_mut(&key) else { return };
                values.each(|value| {
                    if let Some(others) = by_value.get_mut(&*value) {
                        others.retain(|other| !Arc::ptr_eq(other, &through));
                        if others.is_empty() {
                            by_value.remove(&*value);
                        }
                    }
                });
                if by_value.is_empty() {
                    self.by_value.remove(&key);
                }
            }
        }
    }

    /// Tells `ask` the projections that an update may concern, each once.
    fn asked<'a>(&'a self, images: &RowImages<'_>, mut ask: impl FnMut(&'a Through<V>)) {
        if images.concern_all() {
            // such as a truncate: it is for everybody
            return self.projections.values().for_each(|through| ask(through));
        }
        self.others.iter().for_each(|through| ask(through));
        for ((column, kind), by_value) in &self.by_value {
            let values: Vec<Value> = images.values(column, *kind).collect();
            for (i, value) in values.iter().enumerate() {
                for through in by_value.get(value).into_iter().flatten() {
                    // an update may take a row from one value of an `in` to another
                    let known =
                        |known: &Value| through.projection.needs().is_some_and(|(.., needed)| needed.has(known));
                    if !values[..i].iter().any(known) {
                        ask(through);
                    }
                }
            }
        }
    }
}

/// What asking a projection costs, and how much more for each byte.
fn work_of(projection: &Projection) -> (u64, u64) {
    let one = projection.work(0);
    (one, projection.work(1) - one)
}

/// A cut on its way to the views.
struct Routing<'a, V> {
    views: &'a Views<V>,
    cut: &'a Cut,
    /// the token of its positions, without the id
    inside: &'a str,
    number: u64,
    most: usize,
    /// each frame once, one after the other
    arena: Vec<u8>,
    /// number of a view → its place in `given`
    slots: HashMap<u64, usize>,
    given: Vec<Given<V>>,
    /// number of a view → the changes that it is told later
    later: HashMap<u64, Later<V>>,
    shed: HashMap<u64, (V, Shed)>,
    /// of all filters so far
    work: u64,
    /// what each has spent, once all together have spent what one may
    purses: Option<HashMap<Arc<str>, u64>>,
    /// bytes of frames of each, once half of what may be made is
    bytes: Option<HashMap<Arc<str>, u64>>,
}

/// What a view gets of the arena.
struct Given<V> {
    view: V,
    /// one behind the other where nothing lies between
    parts: Vec<Range<usize>>,
    /// the newest frame
    last: Range<usize>,
    count: u64,
}

impl<'a, V: Watched> Routing<'a, V> {
    fn update(
        &mut self,
        index: usize,
        change: &'a Change,
        update: &'a Update,
        of: &'a ChannelViews<V>,
        end: Option<&str>,
    ) {
        let place = MessagePlace::of(self.inside, end);
        let mut encoded = Encoded::default();
        let is_shared = !of.projections.is_empty();
        if let Some(view) = &of.everything {
            let shown = VisibleChange::of(update);
            let message = protocol::realtime_update(change, &update.channel, &shown, place, "");
            let frame = self.frame(&message);
            self.give(view, frame.clone());
            if is_shared {
                encoded.insert("", shown, frame);
            }
        }
        if !is_shared {
            return;
        }
        let images = RowImages::of(update);
        of.asked(&images, |through| {
            if self.shed.contains_key(&through.view.number()) {
                return;
            }
            let before = images.work();
            let shown = through.projection.show(update, &images);
            // what was made for it was gone through twice: to make it, and to find out whether it was made before
            let made = shown.as_ref().map_or(0, |shown| match &shown.data {
                Cow::Owned(data) => 2 * data.len() as u64,
                Cow::Borrowed(_) => 0,
            });
            if !self.pays(through, images.work() - before + made) {
                return self.shed(&through.view, Shed::Work);
            }
            let Some(shown) = shown else { return };
            if through.view.is_of_newest() {
                let later = || Later {
                    view: through.view.clone(),
                    projection: through.projection.clone(),
                    changes: Vec::new(),
                };
                return self.later.entry(through.view.number()).or_insert_with(later).changes.push(index);
            }
            let mark = through.projection.mark();
            let frame = match encoded.find(mark, &shown) {
                Some(frame) => frame,
                None if !self.has_room(through, shown.data.len()) => return self.shed(&through.view, Shed::Memory),
                None => {
                    let message = protocol::realtime_update(change, &update.channel, &shown, place, mark);
                    let frame = self.frame(&message);
                    encoded.insert(mark, shown, frame.clone());
                    frame
                }
            };
            self.give(&through.view, frame);
        });
    }

    /// Whether a frame of so many bytes may be made for a view. Once half of what may be made is, the rest is for
    /// askers that have not filled the first half.
    fn has_room(&mut self, through: &Through<V>, size: usize) -> bool {
        let after = self.arena.len() + size;
        if self.arena.is_empty() || after <= self.most / 2 {
            return true;
        }
        let given = &self.given;
        let bytes = self.bytes.get_or_insert_with(|| {
            let mut bytes = HashMap::new();
            for given in given {
                charge(&mut bytes, given.view.payers(), given.parts.iter().map(Range::len).sum::<usize>() as u64);
            }
            bytes
        });
        let spent = charge(bytes, through.view.payers(), size as u64);
        after <= self.most && spent.is_none_or(|spent| spent <= self.most as u64 / 8)
    }

    fn frame(&mut self, message: &str) -> Range<usize> {
        let start = self.arena.len();
        push_text_frame(&mut self.arena, message);
        start..self.arena.len()
    }

    fn give(&mut self, view: &V, frame: Range<usize>) {
        let place = *self.slots.entry(view.number()).or_insert_with(|| {
            self.given.push(Given { view: view.clone(), parts: Vec::with_capacity(1), last: 0..0, count: 0 });
            self.given.len() - 1
        });
        let given = &mut self.given[place];
        given.count += 1;
        given.last = frame.clone();
        match given.parts.last_mut() {
            Some(last) if last.end == frame.start => last.end = frame.end,
            _ => given.parts.push(frame),
        }
    }

    /// Views that are told nothing of the cut's last change, whose frames begin at `of_last`, are told so by the last frame
    /// that they get.
    fn end(&mut self, of_last: usize) {
        let mut ends = HashMap::new();
        for given in self.given.iter_mut().filter(|given| given.last.start < of_last) {
            let arena = &mut self.arena;
            let end = ends.entry(given.last.start).or_insert_with(|| {
                let start = arena.len();
                let message = protocol::as_last(payload(&arena[given.last.clone()]));
                push_text_frame(arena, &message);
                start..arena.len()
            });
            if let Some(part) = given.parts.last_mut() {
                part.end = given.last.start;
            }
            given.parts.retain(|part| !part.is_empty());
            given.parts.push(end.clone());
        }
    }

    fn shed(&mut self, view: &V, why: Shed) {
        self.shed.insert(view.number(), (view.clone(), why));
    }

    /// Whether somebody can pay for what a view has just cost. As long as all together have spent no more than one may,
    /// nobody looks which asker it was.
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
            for through in self.views.channels.values().flat_map(|of| of.projections.values()) {
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
        let Self { arena, given, later, mut shed, most, .. } = self;
        let length = |parts: &[Range<usize>]| parts.iter().map(Range::len).sum::<usize>();
        let total = arena.len();
        // a view that gets most of it holds all of it; one that gets less has a copy, for else a small part would hold
        // a large whole
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
        Routed { frames, later: later.into_values().collect(), shed: shed.into_values().collect() }
    }
}

/// Charges the one of them that has spent least, and says what that one has spent then.
fn charge(purses: &mut HashMap<Arc<str>, u64>, payers: Vec<Arc<str>>, cost: u64) -> Option<u64> {
    let payer = payers.into_iter().min_by_key(|payer| purses.get(payer).copied().unwrap_or_default())?;
    let spent = purses.entry(payer).or_default();
    *spent += cost;
    Some(*spent)
}

#[cfg(test)]
mod tests;
