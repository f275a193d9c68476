//! Whom a cut concerns: which changes of the tables that claims follow may change whose values. Pure; knows the rows of a cut, and
//! not who is connected.

use std::collections::HashMap;

use crate::change::{Claim, Cut, Follow, Update};
use crate::row::{Columns, text_of};

/// The claims, and what they follow.
#[derive(Debug, Default)]
pub struct Stated(pub(super) Vec<Claim>);

/// Whom a cut concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// maybe every holder
    pub all: Option<ChangesOf>,
    /// those that columns name so, by the place of the claim
    pub these: HashMap<(usize, Box<str>), ChangesOf>,
}

/// Whose changes were of a holder, or of all of a table that says whose a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangesOf {
    /// nobody's: what changed may be of anybody, as no column says whose it is
    ByNone,
    /// those of this transaction: between its rows nothing is seen
    ByOne(u64),
    /// those of several transactions: between these the values may have been others
    BySeveral,
}

impl Stated {
    /// Whom a cut concerns. It reads rows, so it is not to be asked under a lock.
    pub fn concerned(&self, cut: &Cut) -> Concerned {
        let mut concerned = Concerned::default();
        if self.0.is_empty() {
            return concerned;
        }
        for (tx, update) in cut.changes.iter().filter_map(|change| Some((change.tx, change.update.as_ref()?))) {
            for (at, follow) in self.follows(&update.channel) {
                match holders_of(update, follow) {
                    Some(forms) => forms.into_iter().for_each(|form| concerned.note((at, form), ChangesOf::ByOne(tx))),
                    None if follow.holder.is_none() => concerned.note_all(ChangesOf::ByNone),
                    None => concerned.note_all(ChangesOf::ByOne(tx)),
                }
                // there is nothing more to learn
                if concerned.all == Some(ChangesOf::BySeveral) {
                    return concerned;
                }
            }
        }
        concerned
    }

    /// Whether changes of this channel may be of some holder.
    pub fn follow(&self, channel: &str) -> bool {
        self.follows(channel).next().is_some()
    }

    fn follows<'a>(&'a self, channel: &'a str) -> impl Iterator<Item = (usize, &'a Follow)> {
        let of =
            move |claim: &'a Claim| claim.follows.iter().flatten().filter(move |follow| *follow.channel == *channel);
        self.0.iter().enumerate().flat_map(move |(at, claim)| of(claim).map(move |follow| (at, follow)))
    }
}

impl Concerned {
    /// Maybe every holder.
    pub fn everybody(named: ChangesOf) -> Self {
        Self { all: Some(named), these: HashMap::new() }
    }

    /// No holder.
    pub fn is_nobody(&self) -> bool {
        self.all.is_none() && self.these.is_empty()
    }

    fn note(&mut self, whom: (usize, Box<str>), by: ChangesOf) {
        self.these.entry(whom).and_modify(|named| *named = named.and(by)).or_insert(by);
    }

    fn note_all(&mut self, by: ChangesOf) {
        self.all = Some(self.all.map_or(by, |named| named.and(by)));
    }
}

impl ChangesOf {
    /// Both, in one cut or in several.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::ByNone, Self::ByNone) => self,
            (Self::ByOne(one), Self::ByOne(other)) if one == other => self,
            // also one of the holder, and one that may have been of anybody
            _ => Self::BySeveral,
        }
    }
}

/// Whose values a change of a followed table may change, as its column names them; `None`: maybe everybody's.
fn holders_of(update: &Update, follow: &Follow) -> Option<Vec<Box<str>>> {
    if !matches!(&*update.action, "created" | "updated" | "deleted") || !update.size.is_whole() {
        return None;
    }
    let is_any_read = || update.changed.iter().any(|name| follow.columns.contains(name));
    if update.action == "updated" && !update.changed.is_empty() && !is_any_read() {
        return Some(Vec::new());
    }
    let holder = follow.holder.as_ref()?;
    // null is nobody
    let mut forms: Vec<Box<str>> = text_of(Columns::parse(&update.data)?.get(holder)?).into_iter().collect();
    if update.changed.contains(holder) {
        forms.extend(text_of(Columns::parse(update.old.as_deref()?)?.get(holder)?));
    }
    Some(forms)
}
