//! Claims whose values stand in tables: who has which values, from where in the stream on, and which changes leave that in doubt.
//! Pure; knows no socket, and not how values are read.
//!
//! A holder is a user that somebody is connected as. Its values were read at a snapshot that the stream has come to, and no
//! change since concerns them: it is *settled*. A change of a followed table that may be of the holder leaves it in doubt
//! until its values were read again, at a snapshot that sees the change. A view of a holder in doubt is told nothing of that
//! cut and of what follows it, so no row is told under the values of another cut.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::change::{Claim, Cut, Follow, Update};
use crate::cursor::Snapshot;
use crate::delivery::scope::grant::HeldValues;
use crate::request::Held;
use crate::row::{Columns, text_of};

/// Of so many holders it is remembered when a change was theirs: beyond that it counts as everybody's.
const REMEMBERED: usize = 65_536;
/// A holder costs so many bytes besides its values.
const A_HOLDER: usize = 256;

/// All claims, and their holders.
#[derive(Debug)]
pub struct Claims {
    stated: Vec<Claim>,
    holders: HashMap<Arc<str>, Holder>,
    /// for each claim, by the form that columns have
    by_form: Vec<HashMap<Box<str>, Vec<Arc<str>>>>,
    /// in doubt, and not being read
    due: VecDeque<Arc<str>>,
    /// another one after each statement of a claim: what was asked before is void
    generation: u64,
    past: Past,
    /// what the values of all holders take
    bytes: usize,
    most: usize,
    sweeps: u64,
}

/// A user that somebody is connected as.
#[derive(Debug)]
struct Holder {
    /// by claim; `None` until they were read
    sets: Option<Vec<Set>>,
    is_settled: bool,
    /// in doubt: the last cut that made it so, if one did
    touched: Option<Arc<Snapshot>>,
    is_due: bool,
    is_being_read: bool,
    /// the values are the same from each of these positions on
    since: Vec<Arc<Snapshot>>,
    bytes: usize,
    /// the sweep before which it was last asked for
    used: u64,
}

/// The values of one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Set {
    Of(Arc<HeldValues>, Option<Box<str>>),
    /// they cannot be had: nothing is shown
    Unreadable,
}

/// Which changes of the past were whose.
#[derive(Debug, Default)]
struct Past {
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
    Members(&'a Arc<HeldValues>),
    /// they are not known yet, or in doubt
    InDoubt,
    /// they cannot be had
    Unreadable,
}

/// What has become of holders that were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// these are settled now: a later cut may have left others in doubt again
    pub holders: Vec<Arc<str>>,
    /// of so many the values do not fit into memory: they have none
    pub beyond_memory: usize,
}

/// Whom a change concerns.
#[derive(Debug, PartialEq, Eq)]
enum Concerned {
    Nobody,
    These(Vec<Box<str>>),
    Everybody,
}

impl Claims {
    /// None; the values of all holders take so many bytes at most.
    pub fn new(most: usize) -> Self {
        let (stated, holders, by_form) = (Vec::new(), HashMap::new(), Vec::new());
        let (due, past) = (VecDeque::new(), Past::default());
        Self { stated, holders, by_form, due, generation: 0, past, bytes: 0, most, sweeps: 0 }
    }

    /// The claims there are from now on, where the stream has come to `seen`. Whether others than before: then each holder is in
    /// doubt.
    pub fn state(&mut self, claims: Vec<Claim>, seen: Option<&Snapshot>) -> bool {
        if claims == self.stated {
            return false;
        }
        self.by_form = claims.iter().map(|_| HashMap::new()).collect();
        self.stated = claims;
        self.generation += 1;
        for holder in self.holders.values_mut() {
            // by the place of each claim
            (holder.sets, holder.bytes) = (None, 0);
            (holder.is_due, holder.is_being_read) = (false, false);
        }
        self.bytes = 0;
        self.due.clear();
        self.doubt_all(seen);
        true
    }

    /// Whether there is one of this name: that of a token means nothing then.
    pub fn has(&self, name: &str) -> bool {
        self.stated.iter().any(|claim| *claim.name == *name)
    }

    /// What this holder has of a claim. `None` where there is no such claim.
    pub fn values(&self, name: &str, holder: &str) -> Option<Values<'_>> {
        let at = self.stated.iter().position(|claim| *claim.name == *name)?;
        if self.stated[at].follows.is_none() {
            return Some(Values::Unreadable);
        }
        let settled = self.holders.get(holder).filter(|holder| holder.is_settled);
        let Some(sets) = settled.and_then(|holder| holder.sets.as_ref()) else { return Some(Values::InDoubt) };
        Some(match &sets[at] {
            Set::Of(members, _) => Values::Members(members),
            Set::Unreadable => Values::Unreadable,
        })
    }

    /// Somebody needs what this holder has: it is read soon. Whether that is news.
    pub fn want(&mut self, holder: &Arc<str>) -> bool {
        if let Some(known) = self.holders.get_mut(holder) {
            known.used = self.sweeps;
            return false;
        }
        self.holders.insert(
            holder.clone(),
            Holder {
                sets: None,
                is_settled: false,
                touched: None,
                is_due: true,
                is_being_read: false,
                since: Vec::new(),
                bytes: 0,
                used: self.sweeps,
            },
        );
        self.due.push_back(holder.clone());
        true
    }

    /// Whether nothing leaves in doubt what this holder has. Of one that nobody has asked for, nothing is known.
    pub fn is_settled(&self, holder: &str) -> bool {
        self.stated.is_empty() || self.holders.get(holder).is_some_and(|holder| holder.is_settled)
    }

    /// Whether the values of this holder have been those of now from a position on, as far as is known.
    pub fn let_in(&self, holder: &str, seen: &Snapshot) -> bool {
        let known = self.holders.get(holder).filter(|holder| holder.is_settled);
        known.is_some_and(|holder| holder.since.iter().all(|since| seen.covers(since)))
    }

    /// From here on it is known which changes concern whom.
    pub fn begin(&mut self, seen: &Snapshot) {
        self.past = Past { since: Some(Arc::new(seen.clone())), ..Past::default() };
    }

    /// What any holder has may be something else from this position on.
    pub fn doubt_all(&mut self, seen: Option<&Snapshot>) -> Vec<Arc<str>> {
        let seen = seen.map(|seen| Arc::new(seen.clone()));
        if let Some(seen) = &seen {
            self.past.touch_all(seen);
        }
        let all: Vec<_> = self.holders.keys().cloned().collect();
        all.iter().for_each(|holder| self.doubt(holder, seen.as_ref()));
        all
    }

    fn doubt(&mut self, name: &Arc<str>, seen: Option<&Arc<Snapshot>>) {
        let Some(holder) = self.holders.get_mut(name) else { return };
        if let Some(seen) = seen {
            holder.touched = Some(seen.clone());
        }
        holder.is_settled = false;
        // what is being read may be from before: then it is read again
        if !holder.is_being_read && !std::mem::replace(&mut holder.is_due, true) {
            self.due.push_back(name.clone());
        }
    }

    /// Whether changes of this channel may be of some holder.
    pub fn follow(&self, channel: &str) -> bool {
        self.follows(channel).next().is_some()
    }

    fn follows<'a>(&'a self, channel: &'a str) -> impl Iterator<Item = (usize, &'a Follow)> {
        let of = move |claim: &'a Claim| {
            claim.follows.iter().flatten().filter(move |follow| *follow.channel == *channel)
        };
        self.stated.iter().enumerate().flat_map(move |(at, claim)| of(claim).map(move |follow| (at, follow)))
    }

    /// The holders whose values a cut leaves in doubt.
    pub fn touch(&mut self, cut: &Cut) -> Vec<Arc<str>> {
        if self.stated.is_empty() {
            return Vec::new();
        }
        let mut names: HashSet<(usize, Box<str>)> = HashSet::new();
        for update in cut.changes.iter().filter_map(|change| change.update.as_ref()) {
            let follows: Vec<(usize, &Follow)> = self.follows(&update.channel).collect();
            for (at, follow) in follows {
                match concerned(update, follow) {
                    Concerned::Nobody => {}
                    Concerned::These(forms) => names.extend(forms.into_iter().map(|form| (at, form))),
                    Concerned::Everybody => return self.doubt_all(Some(&cut.until)),
                }
            }
        }
        if names.is_empty() {
            return Vec::new();
        }
        let mut touched: HashSet<Arc<str>> = HashSet::new();
        for (at, form) in names {
            touched.extend(self.by_form[at].get(&form).into_iter().flatten().cloned());
            self.past.touch(form, &cut.until);
        }
        // of one that was not read yet nobody knows the form
        touched.extend(self.holders.iter().filter(|(_, holder)| holder.sets.is_none()).map(|(name, _)| name.clone()));
        touched.iter().for_each(|holder| self.doubt(holder, Some(&cut.until)));
        touched.into_iter().collect()
    }

    /// Those that are to be read, so many at most, and the generation of the claims.
    pub fn take_due(&mut self, most: usize) -> (u64, Vec<Arc<str>>) {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(name) = self.due.pop_front()
        {
            if let Some(holder) = self.holders.get_mut(&name) {
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
            if let Some(holder) = self.holders.get_mut(&name) {
                (holder.is_due, holder.is_being_read) = (true, false);
                self.due.push_back(name);
            }
        }
    }

    /// What these holders have, as of a position that the stream has come to.
    pub fn settle(&mut self, generation: u64, asked: &[Arc<str>], held: Vec<Held>, seen: &Snapshot) -> Settled {
        let mut settled = Settled::default();
        if generation != self.generation {
            return settled;
        }
        let places: HashMap<&str, usize> =
            self.stated.iter().enumerate().map(|(at, claim)| (&*claim.name, at)).collect();
        let mut read: HashMap<Arc<str>, Vec<Set>> = HashMap::new();
        for held in held {
            let Some(at) = places.get(&*held.claim).copied() else { continue };
            let sets = read
                .entry(held.holder)
                .or_insert_with(|| self.stated.iter().map(|_| Set::Unreadable).collect());
            sets[at] = held.members.map_or(Set::Unreadable, |members| Set::Of(Arc::new(HeldValues::of(members)), held.form));
        }
        let read_at = Arc::new(seen.clone());
        for name in asked {
            let Some(holder) = self.holders.get_mut(name) else { continue };
            holder.is_being_read = false;
            if holder.touched.as_ref().is_some_and(|touched| !seen.covers(touched)) {
                holder.is_due = true;
                self.due.push_back(name.clone());
                continue;
            }
            let mut sets = read
                .remove(name)
                .unwrap_or_else(|| self.stated.iter().map(|_| Set::Unreadable).collect());
            self.bytes -= std::mem::take(&mut holder.bytes);
            let bytes = A_HOLDER + sets.iter().map(Set::bytes).sum::<usize>();
            if self.bytes + bytes > self.most {
                sets.iter_mut().for_each(|set| *set = Set::Unreadable);
                settled.beyond_memory += 1;
            } else {
                holder.bytes = bytes;
                self.bytes += bytes;
            }
            // the same values are one set: views of before are views of now
            for (set, before) in sets.iter_mut().zip(holder.sets.iter().flatten()) {
                if set == before {
                    set.clone_from(before);
                }
            }
            let forms: Vec<(usize, Box<str>)> = sets.iter().enumerate().filter_map(|(at, set)| Some((at, set.form()?.into()))).collect();
            match &holder.sets {
                Some(before) if *before == sets => {}
                Some(_) => holder.since = vec![read_at.clone()],
                None => {
                    let of = forms.iter().filter_map(|(_, form)| self.past.of.get(form));
                    holder.since = self.past.since.iter().chain(&self.past.all).chain(of).cloned().collect();
                    if self.past.since.is_none() {
                        holder.since.push(read_at.clone());
                    }
                }
            }
            for (at, form) in forms {
                let known = self.by_form[at].entry(form).or_default();
                if !known.contains(name) {
                    known.push(name.clone());
                }
            }
            (holder.sets, holder.is_settled, holder.touched) = (Some(sets), true, None);
            settled.holders.push(name.clone());
        }
        settled
    }

    /// Lets go of holders that nobody is connected as, and that nobody has asked for since the sweep before.
    pub fn sweep(&mut self, connected: &HashSet<Arc<str>>) {
        self.sweeps += 1;
        let before = self.sweeps - 1;
        let gone: Vec<Arc<str>> = self
            .holders
            .iter()
            .filter(|(name, holder)| !connected.contains(*name) && holder.used < before && !holder.is_being_read)
            .map(|(name, _)| name.clone())
            .collect();
        // what was at fault may be mended by now
        let unreadable = |holder: &Holder| holder.sets.iter().flatten().any(|set| *set == Set::Unreadable);
        let again: Vec<Arc<str>> =
            self.holders.iter().filter(|(_, holder)| unreadable(holder)).map(|(name, _)| name.clone()).collect();
        again.iter().for_each(|name| self.doubt(name, None));
        for name in gone {
            let Some(holder) = self.holders.remove(&name) else { continue };
            self.bytes -= holder.bytes;
            for (at, set) in holder.sets.iter().flatten().enumerate() {
                let Some(form) = set.form() else { continue };
                if let Some(known) = self.by_form[at].get_mut(form) {
                    known.retain(|other| *other != name);
                    if known.is_empty() {
                        self.by_form[at].remove(form);
                    }
                }
            }
        }
    }

    /// Whether any holder is to be read.
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// What the values of all holders take, in bytes, and how many holders there are.
    pub fn size(&self) -> (usize, usize) {
        (self.bytes, self.holders.len())
    }
}

impl Set {
    fn form(&self) -> Option<&str> {
        match self {
            Self::Of(_, form) => form.as_deref(),
            Self::Unreadable => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Of(held, _) => held.members().bytes(),
            Self::Unreadable => 0,
        }
    }
}

impl Past {
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

/// Whose values a change of a followed table may change.
fn concerned(update: &Update, follow: &Follow) -> Concerned {
    if !matches!(&*update.action, "created" | "updated" | "deleted") || !update.size.is_whole() {
        return Concerned::Everybody;
    }
    if update.action == "updated" && !update.changed.is_empty() && !update.changed.iter().any(|name| follow.columns.contains(name)) {
        return Concerned::Nobody;
    }
    let Some(holder) = &follow.holder else { return Concerned::Everybody };
    let Some(row) = Columns::parse(&update.data) else { return Concerned::Everybody };
    let Some(now) = row.get(holder) else { return Concerned::Everybody };
    // null is nobody
    let mut forms: Vec<Box<str>> = text_of(now).into_iter().collect();
    if update.changed.contains(holder) {
        let old = update.old.as_deref().and_then(Columns::parse);
        let Some(before) = old.as_ref().and_then(|old| old.get(holder)) else { return Concerned::Everybody };
        forms.extend(text_of(before));
    }
    Concerned::These(forms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Change, Size};
    use crate::request::Members;

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
        }
    }

    fn cut(until: u64, updates: Vec<Update>) -> Cut {
        let change = |update| Change { id: 1, tx: 1, at: 0, actor: None, update: Some(update), notification: None };
        let changes = updates.into_iter().map(change).collect();
        Cut { changes, inside: "".into(), until: Arc::new(at(until)), end: None }
    }

    fn held(holder: &str, values: &[&str]) -> Held {
        let members = Some(Members::of(values.iter().copied()));
        Held { claim: "clinics".into(), holder: holder.into(), form: Some(holder.trim().into()), members }
    }

    /// One claim, and these holders of clinic 1, settled at 10.
    fn settled(holders: &[&str]) -> Claims {
        let mut claims = Claims::new(1 << 20);
        claims.state(vec![staff(Some("user_id"))], None);
        claims.begin(&at(5));
        for holder in holders {
            assert!(claims.want(&(*holder).into()));
        }
        let (generation, asked) = claims.take_due(100);
        let read = holders.iter().map(|holder| held(holder, &["1"])).collect();
        assert_eq!(claims.settle(generation, &asked, read, &at(10)).holders, asked);
        claims
    }

    fn values(claims: &Claims, holder: &str) -> Option<Vec<String>> {
        match claims.values("clinics", holder).unwrap() {
            Values::Members(held) => Some(held.members().iter().map(Into::into).collect()),
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
            assert_eq!(names(claims.touch(&cut(20, vec![update]))), concerned, "{action}");
        }
    }

    #[test]
    fn what_was_read_before_the_change_settles_nothing() {
        let mut claims = settled(&["7"]);
        claims.touch(&cut(20, vec![update("deleted", r#"{"user_id":7,"clinic":1}"#, &[], None)]));
        assert_eq!(values(&claims, "7"), None);
        let (generation, asked) = claims.take_due(100);
        assert_eq!(names(asked.clone()), ["7"]);
        assert!(claims.take_due(100).1.is_empty(), "it is being read");
        // another cut comes before the answer, which had seen the first one only
        claims.touch(&cut(30, vec![update("created", r#"{"user_id":7,"clinic":2}"#, &[], None)]));
        assert_eq!(claims.settle(generation, &asked, vec![held("7", &[])], &at(25)), Settled::default());
        assert_eq!(values(&claims, "7"), None);
        let (generation, asked) = claims.take_due(100);
        assert_eq!(claims.settle(generation, &asked, vec![held("7", &["2"])], &at(31)).holders.len(), 1);
        assert_eq!(values(&claims, "7"), Some(vec!["2".into()]));
        assert!(!claims.let_in("7", &at(25)) && claims.let_in("7", &at(31)), "nothing from before is shown by it");
        // what says the same leaves the positions of before good
        claims.touch(&cut(40, vec![update("created", r#"{"user_id":7,"clinic":2}"#, &[], None)]));
        let (generation, asked) = claims.take_due(100);
        claims.settle(generation, &asked, vec![held("7", &["2"])], &at(41));
        assert!(claims.let_in("7", &at(35)));
    }

    #[test]
    fn who_comes_back_is_let_in_where_no_change_was_that_ones() {
        let mut claims = settled(&["7"]);
        claims.touch(&cut(20, vec![update("created", r#"{"user_id":9,"clinic":2}"#, &[], None)]));
        for (holder, before, after) in [("8", 5, 5), ("9", 19, 20)] {
            claims.want(&holder.into());
            let (generation, asked) = claims.take_due(100);
            claims.settle(generation, &asked, vec![held(holder, &["2"])], &at(22));
            assert!(claims.let_in(holder, &at(after)), "{holder}");
            assert_eq!(claims.let_in(holder, &at(before)), before == after, "{holder}");
        }
        assert!(!claims.let_in("7", &at(4)), "of before the beginning nothing is known");
    }

    #[test]
    fn a_claim_that_is_stated_anew_voids_what_was_asked_by_the_one_before() {
        let mut claims = settled(&["7"]);
        claims.touch(&cut(20, vec![update("truncated", "null", &[], None)]));
        let (generation, asked) = claims.take_due(100);
        assert!(claims.state(vec![Claim { revision: "2".into(), ..staff(Some("user_id")) }], Some(&at(21))));
        assert_eq!(claims.settle(generation, &asked, vec![held("7", &["1"])], &at(22)), Settled::default());
        claims.give_back(generation, asked);
        assert_eq!(values(&claims, "7"), None);
        let (generation, asked) = claims.take_due(100);
        assert_eq!(names(asked.clone()), ["7"], "once");
        claims.settle(generation, &asked, vec![held("7", &["3"])], &at(23));
        assert_eq!(values(&claims, "7"), Some(vec!["3".into()]));
        // its table is not captured any more
        assert!(claims.state(vec![Claim { follows: None, ..staff(None) }], Some(&at(24))));
        assert_eq!(values(&claims, "7"), Some(vec!["-".into()]));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut claims = Claims::new(1_000);
        claims.state(vec![staff(Some("user_id"))], None);
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(|value| &**value).collect();
        for (holder, has_room) in [("7", true), ("8", false)] {
            claims.want(&holder.into());
            let (generation, asked) = claims.take_due(100);
            let settled = claims.settle(generation, &asked, vec![held(holder, &many)], &at(10));
            assert_eq!(settled.beyond_memory, usize::from(!has_room), "{holder}");
            assert_eq!(values(&claims, holder).unwrap().len(), if has_room { 100 } else { 1 });
        }
        // the first one has gone: then there is room
        for _ in 0..3 {
            claims.sweep(&HashSet::from(["8".into()]));
        }
        assert_eq!(claims.size().1, 1);
        let (generation, asked) = claims.take_due(100);
        assert_eq!(names(asked.clone()), ["8"]);
        assert_eq!(claims.settle(generation, &asked, vec![held("8", &many)], &at(11)).beyond_memory, 0);
        claims.sweep(&HashSet::new());
        claims.sweep(&HashSet::new());
        assert_eq!(claims.size(), (0, 0));
        assert!(claims.by_form[0].is_empty());
    }
}
