//! Claims whose values stand in tables: who has which values, from where in the stream on, and which changes leave that in doubt.
//! Pure; knows no socket, and not how values are read.
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
    /// to be read, and not being read: first those for whom somebody waits that has nothing yet, or whose rows changed
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
mod tests {
    use super::*;
    use crate::change::{Change, Cut, Follow, Size, Update};

    fn at(xmax: u64) -> Snapshot {
        Snapshot::all_before(xmax)
    }

    fn staff(holder: Option<&str>) -> Claim {
        let columns = ["user_id", "clinic"].map(Into::into).into();
        let follow = Follow { channel: ".staff".into(), columns, holder: holder.map(Into::into) };
        Claim { name: "clinics".into(), revision: "1".into(), follows: Some(vec![follow]) }
    }

    fn update(action: &'static str, data: &str, changed: &[&str], old: Option<&str>) -> Update {
        Update {
            channel: ".staff".into(),
            action: action.into(),
            data: data.into(),
            changed: changed.iter().map(|&name| name.into()).collect(),
            old: old.map(Into::into),
            old_key: None,
            size: Size::Whole,
            is_published: false,
        }
    }

    fn cut(until: u64, tx: u64, updates: Vec<Update>) -> Cut {
        let change = |update| Change { id: 1, tx, at: 0, actor: None, update: Some(update), notification: None };
        let changes = updates.into_iter().map(change).collect();
        Cut::chunk(changes, at(until))
    }

    fn held(holder: &str, values: &[&str]) -> Held {
        let members = Some(Members::of(values.iter().copied()));
        Held {
            claim: "clinics".into(),
            holder: holder.into(),
            form: Some(holder.trim().into()),
            members,
            is_unfit: false,
        }
    }

    /// Reads all that are due at once.
    fn read_all(claims: &mut Claims, held: Vec<Held>, seen: u64) -> Settled {
        let (generation, holders) = claims.take_due(100);
        settle(claims, generation, holders, held, seen)
    }

    fn settle(claims: &mut Claims, generation: u64, holders: Vec<Arc<str>>, held: Vec<Held>, seen: u64) -> Settled {
        claims.settle(generation, MembersRead { seen: at(seen), holders, held, beyond_memory: 0 })
    }

    fn touch(claims: &mut Claims, until: u64, update: Update) -> Vec<String> {
        touch_by(claims, until, until, update)
    }

    fn touch_by(claims: &mut Claims, until: u64, tx: u64, update: Update) -> Vec<String> {
        let cut = cut(until, tx, vec![update]);
        let concerned = claims.stated().concerned(&cut);
        names(claims.touch(concerned, &cut.until).1)
    }

    /// One claim, and these holders of clinic 1, settled at 10.
    fn settled(holders: &[&str]) -> Claims {
        let mut claims = Claims::new(1 << 20);
        claims.state(vec![staff(Some("user_id"))]);
        claims.begin(&at(5));
        for holder in holders {
            assert!(claims.want(&(*holder).into()));
        }
        let read = holders.iter().map(|holder| held(holder, &["1"])).collect();
        assert_eq!(read_all(&mut claims, read, 10).holders.len(), holders.len());
        claims
    }

    fn values(claims: &Claims, holder: &str) -> Option<Vec<String>> {
        match claims.values("clinics", holder).unwrap() {
            Values::Members(members) => Some(members.iter().map(Into::into).collect()),
            Values::InDoubt => None,
            Values::Unreadable => Some(vec!["-".into()]),
        }
    }

    fn names(mut touched: Vec<Arc<str>>) -> Vec<String> {
        touched.sort();
        touched.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_changed_row_leaves_its_holders_in_doubt_and_nobody_else() {
        let mut claims = settled(&["7", " 7", "8"]);
        for (update, concerned) in [
            (update("created", r#"{"user_id":7,"clinic":2}"#, &[], None), vec![" 7", "7"]),
            (update("deleted", r#"{"user_id":8,"clinic":2}"#, &[], None), vec!["8"]),
            (update("created", r#"{"user_id":9,"clinic":2}"#, &[], None), vec![]),
            (update("created", r#"{"user_id":null,"clinic":2}"#, &[], None), vec![]),
            (update("updated", r#"{"user_id":8,"clinic":2}"#, &["clinic"], Some(r#"{"clinic":1}"#)), vec!["8"]),
            (update("updated", r#"{"user_id":8,"clinic":2}"#, &["phone"], Some(r#"{"phone":1}"#)), vec![]),
            (update("updated", r#"{"user_id":8}"#, &["user_id"], Some(r#"{"user_id":7}"#)), vec![" 7", "7", "8"]),
            (update("updated", r#"{"user_id":9}"#, &["user_id"], Some("{}")), vec![" 7", "7", "8"]),
            (update("truncated", "null", &[], None), vec![" 7", "7", "8"]),
            (update("anything", "{}", &[], None), vec![" 7", "7", "8"]),
            (Update { size: Size::Omitted, ..update("updated", r#"{"user_id":9}"#, &[], None) }, vec![" 7", "7", "8"]),
            (Update::unreadable(".staff".into()), vec![" 7", "7", "8"]),
            (Update { channel: "pets".into(), ..update("truncated", "null", &[], None) }, vec![]),
        ] {
            let action = format!("{update:?}");
            assert_eq!(touch(&mut claims, 20, update), concerned, "{action}");
        }
    }

    fn deleted() -> Update {
        update("deleted", r#"{"user_id":7,"clinic":1}"#, &[], None)
    }

    fn truncated() -> Update {
        update("truncated", "null", &[], None)
    }

    fn created() -> Update {
        update("created", r#"{"user_id":7,"clinic":2}"#, &[], None)
    }

    #[test]
    fn what_was_read_before_the_change_settles_nothing() {
        let mut claims = settled(&["7"]);
        touch(&mut claims, 20, deleted());
        assert_eq!(values(&claims, "7"), None);
        let (generation, asked) = claims.take_due(100);
        assert_eq!(names(asked.clone()), ["7"]);
        assert!(claims.take_due(100).1.is_empty(), "it is being read");
        // another cut comes before the answer, which has seen the first one only
        let epoch = claims.epoch("7");
        touch(&mut claims, 30, created());
        assert_eq!(claims.first_touch("7"), Some(1));
        settle(&mut claims, generation, asked, vec![held("7", &[])], 25);
        assert_eq!(
            (values(&claims, "7"), claims.first_touch("7")),
            (None, Some(2)),
            "up to the second one it is known"
        );
        assert_ne!(claims.epoch("7"), epoch);
        read_all(&mut claims, vec![held("7", &["2"])], 31);
        assert_eq!((values(&claims, "7"), claims.first_touch("7")), (Some(vec!["2".into()]), None));
        assert!(!claims.let_in("7", &at(25)) && claims.let_in("7", &at(31)), "nothing from before is shown by it");
        // what says the same leaves the positions of before good
        let epoch = claims.epoch("7");
        touch(&mut claims, 40, created());
        read_all(&mut claims, vec![held("7", &["2"])], 41);
        assert!(claims.let_in("7", &at(35)) && claims.epoch("7") == epoch);
    }

    #[test]
    fn values_that_are_the_same_again_are_another_epoch_where_they_may_have_been_others() {
        let mut claims = settled(&["7"]);
        let epoch = claims.epoch("7");
        // the same transaction in parts is one; two of one cut in chunks are two
        for (until, other, is_same) in [(20, 20, true), (25, 24, false)] {
            touch_by(&mut claims, until, until, deleted());
            touch_by(&mut claims, until, other, created());
            read_all(&mut claims, vec![held("7", &["1"])], until);
            assert_eq!(claims.epoch("7") == epoch, is_same);
        }
        let epoch = claims.epoch("7");
        // taken and given back before anybody has read
        touch(&mut claims, 30, deleted());
        touch(&mut claims, 31, created());
        read_all(&mut claims, vec![held("7", &["1"])], 32);
        assert_ne!(claims.epoch("7"), epoch);
        assert!(!claims.let_in("7", &at(30)) && claims.let_in("7", &at(32)));
        // given back by the first transactions of a cut that the reading has not wholly seen
        let epoch = claims.epoch("7");
        touch(&mut claims, 34, deleted());
        touch(&mut claims, 38, created());
        read_all(&mut claims, vec![held("7", &["1"])], 36);
        assert!(claims.first_touch("7").is_some() && claims.epoch("7") != epoch);
        let epoch = claims.epoch("7");
        read_all(&mut claims, vec![held("7", &["1"])], 38);
        assert_eq!(claims.epoch("7"), epoch, "once is enough");
        // taken by a row that named it, given back by one that may be of anybody
        let epoch = claims.epoch("7");
        touch(&mut claims, 39, deleted());
        touch(&mut claims, 40, truncated());
        read_all(&mut claims, vec![held("7", &["1"])], 40);
        assert_ne!(claims.epoch("7"), epoch);
        // taken by one that truncated the table, given back by another one
        let epoch = claims.epoch("7");
        touch(&mut claims, 41, truncated());
        read_all(&mut claims, vec![held("7", &["1"])], 41);
        assert_eq!(claims.epoch("7"), epoch, "one alone is seen by nobody");
        touch(&mut claims, 42, truncated());
        touch(&mut claims, 43, truncated());
        read_all(&mut claims, vec![held("7", &["1"])], 43);
        assert_ne!(claims.epoch("7"), epoch);
        // by rows that one transaction wrote after it has truncated the table: in one cut, and in chunks
        for (until, other, is_same) in [(45, 45, true), (47, 46, false)] {
            let epoch = claims.epoch("7");
            let one = cut(until, until, vec![truncated(), created()]);
            let concerned = claims.stated().concerned(&one);
            claims.touch(concerned, &one.until);
            touch_by(&mut claims, until, other, created());
            read_all(&mut claims, vec![held("7", &["1"])], until);
            assert_eq!(claims.epoch("7") == epoch, is_same);
        }
    }

    /// Thousands would load again for each.
    #[test]
    fn rows_of_which_nobody_knows_whose_they_are_begin_no_epoch() {
        let mut claims = Claims::new(1 << 20);
        claims.state(vec![staff(None)]);
        claims.begin(&at(5));
        claims.want(&"7".into());
        read_all(&mut claims, vec![held("7", &["1"])], 10);
        let epoch = claims.epoch("7");
        touch(&mut claims, 20, deleted());
        touch(&mut claims, 21, truncated());
        read_all(&mut claims, vec![held("7", &["1"])], 22);
        assert_eq!(claims.epoch("7"), epoch);
    }

    #[test]
    fn a_returning_holder_is_let_in_where_no_change_was_its_own() {
        let mut claims = settled(&["7"]);
        touch(&mut claims, 20, update("created", r#"{"user_id":9,"clinic":2}"#, &[], None));
        for (holder, before, after) in [("8", 5, 5), ("9", 19, 20)] {
            claims.want(&holder.into());
            read_all(&mut claims, vec![held(holder, &["2"])], 22);
            assert!(claims.let_in(holder, &at(after)), "{holder}");
            assert_eq!(claims.let_in(holder, &at(before)), before == after, "{holder}");
        }
        assert!(!claims.let_in("7", &at(4)), "of before the beginning nothing is known");
    }

    #[test]
    fn a_holder_whose_values_cannot_be_had_misses_no_change() {
        let mut claims = settled(&["7"]);
        touch(&mut claims, 20, deleted());
        let unreadable = Held { members: None, form: None, ..held("7", &[]) };
        read_all(&mut claims, vec![unreadable], 21);
        assert_eq!(values(&claims, "7"), Some(vec!["-".into()]));
        assert_eq!(
            touch(&mut claims, 30, update("created", r#"{"user_id":9}"#, &[], None)),
            ["7"],
            "it may be its own"
        );
        claims.sweep(&HashSet::from(["7".into()]));
        read_all(&mut claims, vec![held("7", &["1"])], 31);
        assert_eq!(values(&claims, "7"), Some(vec!["1".into()]));
        // a name that no row can have is nobody's at any change
        let unfit = Held { members: None, form: None, is_unfit: true, ..held("abc", &[]) };
        claims.want(&"abc".into());
        read_all(&mut claims, vec![unfit], 32);
        assert_eq!(values(&claims, "abc"), Some(vec!["-".into()]));
        assert!(touch(&mut claims, 40, update("created", r#"{"user_id":9}"#, &[], None)).is_empty());
    }

    /// Else it would be gone while its socket joins.
    #[test]
    fn a_holder_that_is_just_used_is_not_let_go_of() {
        let mut claims = settled(&["7"]);
        claims.sweep(&HashSet::new());
        assert_ne!(claims.use_by("7"), 0);
        claims.sweep(&HashSet::new());
        assert_eq!(claims.size().1, 1);
        claims.sweep(&HashSet::new());
        claims.sweep(&HashSet::new());
        assert_eq!(claims.size().1, 0);
    }

    #[test]
    fn what_was_asked_before_a_claim_was_stated_anew_or_the_stream_began_anew_is_void() {
        let mut claims = settled(&["7"]);
        touch(&mut claims, 20, deleted());
        let (generation, asked) = claims.take_due(100);
        assert!(claims.state(vec![Claim { revision: "2".into(), ..staff(Some("user_id")) }]));
        assert_eq!(settle(&mut claims, generation, asked.clone(), vec![held("7", &["1"])], 22), Settled::default());
        claims.give_back(generation, asked);
        assert_eq!(values(&claims, "7"), None);
        let (generation, asked) = claims.take_due(100);
        assert_eq!(names(asked.clone()), ["7"], "once");
        claims.begin(&at(23));
        assert_eq!(settle(&mut claims, generation, asked, vec![held("7", &["1"])], 22), Settled::default());
        read_all(&mut claims, vec![held("7", &["3"])], 24);
        assert_eq!(values(&claims, "7"), Some(vec!["3".into()]));
        // its table is not captured any more
        assert!(claims.state(vec![Claim { follows: None, ..staff(None) }]));
        assert_eq!(values(&claims, "7"), Some(vec!["-".into()]));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut claims = Claims::new(1_000);
        claims.state(vec![staff(Some("user_id"))]);
        let many: Vec<String> = (0..70).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(|value| &**value).collect();
        for (holder, has_room) in [("7", true), ("8", false)] {
            claims.want(&holder.into());
            let settled = read_all(&mut claims, vec![held(holder, &many)], 10);
            assert_eq!(settled.beyond_memory, usize::from(!has_room), "{holder}");
            assert_eq!(values(&claims, holder).unwrap().len(), if has_room { 70 } else { 1 });
        }
        // the first one has gone: then there is room
        for _ in 0..3 {
            claims.sweep(&HashSet::from(["8".into()]));
        }
        assert_eq!(claims.size().1, 1);
        assert_eq!(read_all(&mut claims, vec![held("8", &many)], 11).beyond_memory, 0);
        claims.sweep(&HashSet::new());
        claims.sweep(&HashSet::new());
        assert_eq!(claims.size(), (0, 0));
        assert!(claims.by_form[0].is_empty() && claims.formless.is_empty());
    }

    /// A holder that has nothing yet waits for few, not for all.
    #[test]
    fn a_new_holder_is_read_first() {
        let mut claims = settled(&["7", "8"]);
        touch(&mut claims, 20, truncated());
        claims.want(&"9".into());
        assert_eq!(names(claims.take_due(100).1), ["9"]);
        assert_eq!(names(claims.take_due(100).1), ["7", "8"]);
    }
}
