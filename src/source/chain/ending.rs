//! Whether an order of changes ends with what the table holds. Pure.

use std::collections::HashMap;

use super::play::held_at_first;
use super::{ChainLink, ChainSlot, KeyState, NOTHING};

/// What is known of a key.
#[derive(Debug, Default)]
struct KeyEnding {
    /// by image: how many more changes come to it than leave it
    balance: HashMap<u64, i64>,
    /// depth and run of each change that is deeper than all before it
    deeper: Vec<(u8, u32)>,
    /// a change may have been captured before one that happened earlier
    is_unsure: bool,
    /// or was
    is_early: bool,
    /// rows came to the key from another one, or left it for one
    moves: bool,
    /// with what the change before left it, by id, and whether each began with that
    left: Option<u64>,
    is_torn: bool,
    /// as told
    first: Option<u64>,
    last: Option<u64>,
    /// a change was told that does not find what it changes
    is_broken: bool,
}

/// Whether a client that applies the changes as told ends with what the keys hold, as far as the changes tell: a key
/// holds the state that more of them come to than leave. It need not, where rows come to keys that others have yet, as
/// a deferrable constraint allows, and triggers move them on.
///
/// Where a key ends as it began, its order alone tells with what, and that must be sure. A change is captured when its
/// statement ends, so before one that happened earlier only where a trigger made it, inside the statement that made the
/// other one: at a greater depth. Where no command lies between the two, the statement of the second has begun
/// before the first ([`ChainLink::run`]); else it may have begun since. Where rows moved through the key and were captured in
/// another order, or a trigger's change before the one that it followed, one of them may have come to look as another one did:
/// nothing tells.
pub(in super::super) fn ends_right(links: &[ChainLink], told: &[ChainSlot]) -> bool {
    let mut keys: HashMap<u64, KeyEnding> = HashMap::new();
    for link in links {
        for (key, from, to) in by_key(link.from, link.to) {
            let known = keys.entry(key).or_default();
            *known.balance.entry(from).or_default() -= 1;
            *known.balance.entry(to).or_default() += 1;
            known.moves |= link.from.zip(link.to).is_some_and(|(from, to)| from.key != to.key);
            known.is_torn |= known.left.is_some_and(|left| left != from);
            known.left = Some(to);
            let before = known.deeper.iter().find(|(depth, _)| *depth > link.depth && link.depth > 0);
            // a row that comes to a key behind what a trigger did there: a BEFORE trigger has taken another row away for it, or the
            // trigger of another row has deleted it
            known.is_unsure |= before.is_some_and(|(_, run)| *run != link.run || from == NOTHING);
            known.is_early |= before.is_some();
            if known.deeper.last().is_none_or(|(depth, _)| *depth < link.depth) {
                known.deeper.push((link.depth, link.run));
            }
        }
    }
    for told in told {
        let (from, to) = match *told {
            ChainSlot::One(link) => (links[link].from, links[link].to),
            ChainSlot::Exchanged { gone, come } => (links[gone].from, links[come].to),
        };
        for (key, from, to) in by_key(from, to) {
            let known = keys.entry(key).or_default();
            known.is_broken |= known.last.is_some_and(|last| last != from);
            known.first.get_or_insert(from);
            known.last = Some(to);
        }
    }
    let at_first = held_at_first(links);
    keys.into_iter().all(|(key, known)| {
        let mut ends = known.balance.iter().filter(|(_, balance)| **balance > 0).map(|(image, _)| *image);
        match (ends.next(), ends.next()) {
            (Some(end), None) => known.last == Some(end),
            // something between them was not captured, and nothing tells which was last
            (Some(_), Some(_)) => true,
            (None, _) if known.balance.len() == 1 => true,
            (None, _) => {
                let begins = at_first.get(&key);
                let is_alike = known.moves && (known.is_torn || known.is_early);
                !known.is_unsure
                    && !is_alike
                    && !known.is_broken
                    && begins.is_none_or(|begins| known.first == Some(*begins))
            }
        }
    })
}

/// A change as each of its keys sees it: from what, to what.
fn by_key(from: Option<KeyState>, to: Option<KeyState>) -> impl Iterator<Item = (u64, u64, u64)> {
    let (one, other) = (from.map(|state| state.key), to.map(|state| state.key));
    let image =
        |state: Option<KeyState>, key| state.filter(|state| state.key == key).map_or(NOTHING, |state| state.image);
    let keys = one.into_iter().chain(other.filter(|other| one != Some(*other)));
    keys.map(move |key| (key, image(from, key), image(to, key)))
}
