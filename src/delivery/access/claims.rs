//! Claims whose values stand in tables: which holder has which values, from where in the stream on, and which changes
//! leave that in doubt. Pure; knows no socket, and not how values are read.
//!
//! A holder is a user that somebody is connected as. Its values were read at a snapshot that the stream has come to, and no
//! change since concerns them: it is *settled*. A cut with a change of a followed table that may be of the holder *touches*
//! it: it is in doubt until its values were read again, at a snapshot that sees the cut. A view of a holder in doubt is told
//! nothing of that cut and of what follows it, so no row is told under the values of another cut.
//!
//! Values that are the same after a touch leave everything as it was, unless a transaction named the holder and another one may
//! have been of it before the reading: between them the values may have been others. Then, as with other values, a new *epoch*
//! begins, and what was shown in the one before is not gone on with.

mod concerned;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub use self::concerned::{ChangesOf, Concerned, Stated};
use crate::change::Claim;
use crate::cursor::Snapshot;
use crate::request::{Held, Members, MembersRead};

/// Of so many holders it is remembered when a change was theirs: beyond that it counts as everybody's.
const REMEMBERED: usize = 65_536;
/// A holder costs so many bytes besides its values.
const A_HOLDER: usize = 256;

/// All claims, and their holders.
#[derive(Debug)]
pub struct Claims {
    stated: Arc<Stated>,
    holders: HashMap<Arc<str>, Holder>,
    /// for each claim, by the form that columns have
    by_form: Vec<HashMap<Box<str>, Vec<Arc<str>>>>,
    /// holders of whom no form is known: any row may be theirs
    formless: HashSet<Arc<str>>,
    /// to be read, and not being read: first those for whom a client waits that has nothing yet, or whose rows changed
    soon: VecDeque<Arc<str>>,
    later: VecDeque<Arc<str>>,
    /// another one after each statement of a claim, and where the stream began anew: what was asked before is void
    generation: u64,
    past: Touched,
    touches: u64,
    epochs: u64,
    /// what the values of all holders take
    bytes: usize,
    most: usize,
    sweeps: u64,
}

/// A user that somebody is connected as.
#[derive(Debug, Default)]
struct Holder {
    /// by claim; `None` until they were read
    sets: Option<Vec<Set>>,
    /// by claim, the last one that was known
    forms: Vec<Option<Box<str>>>,
    /// what the last reading has not seen, in order
    touches: VecDeque<Touch>,
    is_due: bool,
    is_being_read: bool,
    /// what is shown now is not what was shown in another one
    epoch: u64,
    /// the values are the same from each of these positions on
    since: Vec<Arc<Snapshot>>,
    bytes: usize,
    /// the sweep before which it was last asked for
    used: u64,
}

/// A cut that leaves a holder in doubt.
#[derive(Debug, Clone)]
struct Touch {
    /// tells it from every other, in order
    number: u64,
    until: Arc<Snapshot>,
    named: ChangesOf,
}

/// The values of one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Set {
    Of(Arc<Members>, Option<Box<str>>),
    /// they cannot be had: nothing is shown
    Unreadable,
    /// no row can be of a user of this name
    Unfit,
}

/// Which changes of the past were whose.
#[derive(Debug, Default)]
struct Touched {
    /// what lies before is not known
    since: Option<Arc<Snapshot>>,
    /// the last one that may have been everybody's
    all: Option<Arc<Snapshot>>,
    /// the last one of each holder, by the form that columns have
    of: HashMap<Box<str>, Arc<Snapshot>>,
}

/// What somebody has of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values<'a> {
    /// these
    Members(&'a Arc<Members>),
    /// they are not known yet, or in doubt
    InDoubt,
    /// they cannot be had
    Unreadable,
}

/// What has become of holders that were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// of these more is known now: a later cut may have left them in doubt again
    pub holders: Vec<Arc<str>>,
    /// of so many the values do not fit into memory: they have none
    pub beyond_memory: usize,
}

impl Claims {
    /// None; the values of all holders take so many bytes at most.
    pub fn new(most: usize) -> Self {
        Self {
            stated: Arc::default(),
            holders: HashMap::new(),
            by_form: Vec::new(),
            formless: HashSet::new(),
            soon: VecDeque::new(),
            later: VecDeque::new(),
            generation: 0,
            past: Touched::default(),
            touches: 0,
            epochs: 0,
            bytes: 0,
            most,
            sweeps: 0,
        }
    }

    /// The claims there are from now on. Whether others than before: then nothing is known of any holder.
    pub fn state(&mut self, claims: Vec<Claim>) -> bool {
        if claims == self.stated.0 {
            return false;
        }
        self.by_form = claims.iter().map(|_| HashMap::new()).collect();
        self.stated = Arc::new(Stated(claims));
        self.formless = self.holders.keys().cloned().collect();
        for holder in self.holders.values_mut() {
            // by the place of each claim
            (holder.sets, holder.forms, holder.bytes) = (None, Vec::new(), 0);
        }
        self.bytes = 0;
        self.void();
        true
    }

    /// What was asked before is void.
    fn void(&mut self) {
        self.generation += 1;
        self.soon.clear();
        self.later = self.holders.keys().cloned().collect();
        for holder in self.holders.values_mut() {
            (holder.is_due, holder.is_being_read) = (true, false);
        }
    }

    /// The claims, and what they follow.
    pub fn stated(&self) -> Arc<Stated> {
        self.stated.clone()
    }

    /// Whether there is one of this name: that of a token means nothing then.
    pub fn has(&self, name: &str) -> bool {
        self.stated.0.iter().any(|claim| *claim.name == *name)
    }

    /// What this holder has of a claim. `None` where there is no such claim.
    pub fn values(&self, name: &str, holder: &str) -> Option<Values<'_>> {
        let at = self.stated.0.iter().position(|claim| *claim.name == *name)?;
        if self.stated.0[at].follows.is_none() {
            return Some(Values::Unreadable);
        }
        let settled = self.holders.get(holder).filter(|holder| holder.is_settled());
        let Some(sets) = settled.and_then(|holder| holder.sets.as_ref()) else { return Some(Values::InDoubt) };
        Some(match &sets[at] {
            Set::Of(members, _) => Values::Members(members),
            Set::Unreadable | Set::Unfit => Values::Unreadable,
        })
    }

    /// Somebody needs what this holder has: it is read soon. Whether that is news.
    pub fn want(&mut self, holder: &Arc<str>) -> bool {
        if let Some(known) = self.holders.get_mut(holder) {
            known.used = self.sweeps;
            return false;
        }
        self.holders.insert(holder.clone(), Holder { is_due: true, used: self.sweeps, ..Holder::default() });
        self.formless.insert(holder.clone());
        self.soon.push_back(holder.clone());
        true
    }

    /// Whether nothing leaves in doubt what this holder has. Of one that nobody has asked for, nothing is known.
    pub fn is_settled(&self, holder: &str) -> bool {
        self.stated.0.is_empty() || self.holders.get(holder).is_some_and(Holder::is_settled)
    }

    /// What is shown in one epoch is gone on with in that epoch alone; 0 where nothing is known.
    pub fn epoch(&self, holder: &str) -> u64 {
        self.holders.get(holder).map_or(0, |holder| holder.epoch)
    }

    /// The epoch in which somebody begins to show what this holder may see; it is not let go of before the next sweep.
    pub fn use_by(&mut self, holder: &str) -> u64 {
        let Some(holder) = self.holders.get_mut(holder) else { return 0 };
        holder.used = self.sweeps;
        holder.epoch
    }

    /// The first touch that the last reading has not seen.
    pub fn first_touch(&self, holder: &str) -> Option<u64> {
        self.holders.get(holder)?.touches.front().map(|touch| touch.number)
    }

    /// Whether the values of this holder have been those of now from a position on, as far as is known.
    pub fn let_in(&self, holder: &str, seen: &Snapshot) -> bool {
        let known = self.holders.get(holder).filter(|holder| holder.is_settled());
        known.is_some_and(|holder| holder.since.iter().all(|since| seen.covers(since)))
    }

    /// From here on it is known which changes concern whom.
    pub fn begin(&mut self, seen: &Snapshot) {
        self.past = Touched { since: Some(Arc::new(seen.clone())), ..Touched::default() };
        self.void();
    }

    /// The holders whose values a cut leaves in doubt, or what else ends at a position, and the touch.
    pub fn touch(&mut self, concerned: Concerned, until: &Arc<Snapshot>) -> (u64, Vec<Arc<str>>) {
        let Concerned { all, these } = concerned;
        let mut touched: HashMap<Arc<str>, ChangesOf> = HashMap::new();
        if let Some(named) = all {
            self.past.touch_all(until);
            touched.extend(self.holders.keys().map(|name| (name.clone(), named)));
        }
        // of one whose values cannot be had it is not known: it is read again, after all others
        let is_unread = |name: &&Arc<str>| match self.holders.get(*name).map(|holder| &holder.sets) {
            Some(Some(sets)) => these.keys().any(|(at, _)| sets[*at] == Set::Unreadable),
            Some(None) => !these.is_empty(),
            None => false,
        };
        let unread: Vec<Arc<str>> = self.formless.iter().filter(is_unread).cloned().collect();
        for ((at, form), by) in these {
            for name in self.by_form[at].get(&form).into_iter().flatten() {
                touched.entry(name.clone()).and_modify(|named| *named = named.and(by)).or_insert(by);
            }
            if all.is_none() {
                self.past.touch(form, until);
            }
        }
        unread.into_iter().for_each(|name| _ = touched.entry(name).or_insert(ChangesOf::ByNone));
        // one that has just come is read before all the others
        let number = self.touch_these(&touched, all.is_none(), until);
        (number, touched.into_keys().collect())
    }

    fn touch_these(&mut self, touched: &HashMap<Arc<str>, ChangesOf>, are_few: bool, until: &Arc<Snapshot>) -> u64 {
        self.touches += 1;
        for (name, &named) in touched {
            let Some(holder) = self.holders.get_mut(name) else { continue };
            match holder.touches.back_mut() {
                // one cut in chunks
                Some(last) if *last.until == **until => last.named = last.named.and(named),
                _ => holder.touches.push_back(Touch { number: self.touches, until: until.clone(), named }),
            }
            // what is being read may be from before: then it is read again
            if !holder.is_being_read && !std::mem::replace(&mut holder.is_due, true) {
                if are_few && named != ChangesOf::ByNone { &mut self.soon } else { &mut self.later }
                    .push_back(name.clone());
            }
        }
        self.touches
    }

    /// Those that are to be read, so many at most, and the generation.
    pub fn take_due(&mut self, most: usize) -> (u64, Vec<Arc<str>>) {
        let queue = if self.soon.is_empty() { &mut self.later } else { &mut self.soon };
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(name) = queue.pop_front()
        {
            if let Some(holder) = self.holders.get_mut(&name).filter(|holder| holder.is_due) {
                (holder.is_due, holder.is_being_read) = (false, true);
                taken.push(name);
            }
        }
        (self.generation, taken)
    }

    /// They could not be read: they are due again.
    pub fn give_back(&mut self, generation: u64, asked: Vec<Arc<str>>) {
        if generation != self.generation {
            return;
        }
        for name in asked {
            if let Some(holder) = self.holders.get_mut(&name).filter(|holder| holder.is_being_read) {
                (holder.is_due, holder.is_being_read) = (true, false);
                self.later.push_back(name);
            }
        }
    }

    /// What some holders have, as of a position that the stream has come to.
    pub fn settle(&mut self, generation: u64, read: MembersRead) -> Settled {
        let MembersRead { seen, holders, held, beyond_memory } = read;
        let mut settled = Settled { beyond_memory, ..Settled::default() };
        if generation != self.generation {
            return settled;
        }
        let mut sets_of = self.sets_of(held);
        let seen = Arc::new(seen);
        for name in holders {
            let sets = sets_of.remove(&name).unwrap_or_else(|| vec![Set::Unreadable; self.stated.0.len()]);
            settled.beyond_memory += usize::from(!self.settle_one(&name, sets, &seen));
            settled.holders.push(name);
        }
        settled
    }

    fn sets_of(&self, held: Vec<Held>) -> HashMap<Arc<str>, Vec<Set>> {
        let places: HashMap<&str, usize> =
            self.stated.0.iter().enumerate().map(|(at, claim)| (&*claim.name, at)).collect();
        let mut read: HashMap<Arc<str>, Vec<Set>> = HashMap::new();
        for held in held {
            let Some(at) = places.get(&*held.claim).copied() else { continue };
            let sets = read.entry(held.holder).or_insert_with(|| vec![Set::Unreadable; self.stated.0.len()]);
            sets[at] = match held.members {
                Some(members) => Set::Of(Arc::new(members), held.form),
                None if held.is_unfit => Set::Unfit,
                None => Set::Unreadable,
            };
        }
        read
    }

    /// False where they do not fit into memory.
    fn settle_one(&mut self, name: &Arc<str>, mut sets: Vec<Set>, seen: &Arc<Snapshot>) -> bool {
        let Some(holder) = self.holders.get_mut(name) else { return true };
        holder.is_being_read = false;
        // a cut that the reading has not wholly seen counts as well: it may have seen its first transactions
        let named = holder.touches.iter().map(|touch| touch.named).reduce(ChangesOf::and);
        while holder.touches.front().is_some_and(|touch| seen.covers(&touch.until)) {
            holder.touches.pop_front();
        }
        if !holder.touches.is_empty() && !std::mem::replace(&mut holder.is_due, true) {
            let is_named = holder.touches.iter().any(|touch| touch.named != ChangesOf::ByNone);
            // where rows of nobody in particular change all the time, everybody has its turn
            if is_named { &mut self.soon } else { &mut self.later }.push_back(name.clone());
        }
        self.bytes -= std::mem::take(&mut holder.bytes);
        let bytes = A_HOLDER + sets.iter().map(Set::bytes).sum::<usize>();
        let fits = self.bytes + bytes <= self.most;
        if fits {
            holder.bytes = bytes;
            self.bytes += bytes;
        } else {
            sets.iter_mut().for_each(|set| *set = Set::Unreadable);
        }
        holder.forms.resize(sets.len(), None);
        for (at, set) in sets.iter_mut().enumerate() {
            // the same values are one set: what views have of it is it
            if let Some(before) = holder.sets.as_ref().map(|sets| &sets[at]).filter(|before| *before == set) {
                set.clone_from(before);
            }
            let Some(form) = set.form() else { continue };
            if holder.forms[at].is_none() {
                holder.forms[at] = Some(form.into());
                self.by_form[at].entry(form.into()).or_default().push(name.clone());
            }
        }
        match &holder.sets {
            Some(before) if *before == sets && named != Some(ChangesOf::BySeveral) => {}
            Some(_) => {
                self.epochs += 1;
                (holder.epoch, holder.since) = (self.epochs, vec![seen.clone()]);
            }
            None => {
                self.epochs += 1;
                let of = sets.iter().filter_map(|set| self.past.of.get(set.form()?));
                holder.since = self.past.since.iter().chain(&self.past.all).chain(of).cloned().collect();
                if self.past.since.is_none() {
                    holder.since.push(seen.clone());
                }
                holder.epoch = self.epochs;
            }
        }
        if sets.contains(&Set::Unreadable) {
            self.formless.insert(name.clone());
        } else {
            self.formless.remove(name);
        }
        holder.sets = Some(sets);
        fits
    }

    /// Lets go of holders that nobody is connected as, and that nobody has asked for since the sweep before. What could not be
    /// read is read again: what was at fault may be mended by now.
    pub fn sweep(&mut self, connected: &HashSet<Arc<str>>) {
        self.sweeps += 1;
        let before = self.sweeps - 1;
        let is_gone = |(name, holder): &(&Arc<str>, &Holder)| {
            !connected.contains(*name) && holder.used < before && !holder.is_being_read && !holder.is_due
        };
        let gone: Vec<Arc<str>> = self.holders.iter().filter(is_gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.forget(&name);
        }
        for name in &self.formless {
            let Some(holder) = self.holders.get_mut(name) else { continue };
            if !holder.is_being_read && !std::mem::replace(&mut holder.is_due, true) {
                self.later.push_back(name.clone());
            }
        }
    }

    fn forget(&mut self, name: &Arc<str>) {
        let Some(holder) = self.holders.remove(name) else { return };
        self.bytes -= holder.bytes;
        self.formless.remove(name);
        for (at, form) in holder.forms.iter().enumerate() {
            let Some((form, known)) = form.as_ref().and_then(|form| Some((form, self.by_form[at].get_mut(form)?)))
            else {
                continue;
            };
            known.retain(|other| other != name);
            if known.is_empty() {
                self.by_form[at].remove(form);
            }
        }
    }

    /// What the values of all holders take, in bytes, and how many holders there are.
    pub fn size(&self) -> (usize, usize) {
        (self.bytes, self.holders.len())
    }
}

impl Holder {
    fn is_settled(&self) -> bool {
        self.sets.is_some() && self.touches.is_empty()
    }
}

impl Set {
    fn form(&self) -> Option<&str> {
        match self {
            Self::Of(_, form) => form.as_deref(),
            Self::Unreadable | Self::Unfit => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Of(members, _) => members.bytes(),
            Self::Unreadable | Self::Unfit => 0,
        }
    }
}

impl Touched {
    fn touch_all(&mut self, seen: &Arc<Snapshot>) {
        self.of.clear();
        self.all = Some(seen.clone());
    }

    fn touch(&mut self, form: Box<str>, seen: &Arc<Snapshot>) {
        if self.of.len() >= REMEMBERED && !self.of.contains_key(&form) {
            return self.touch_all(seen);
        }
        self.of.insert(form, seen.clone());
    }
}

#[cfg(test)]
mod tests;
