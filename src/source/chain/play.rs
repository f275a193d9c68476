//! Changes of several keys, played as a client applies them: what holds each key at first, and then whatever is possible,
//! the lowest id first.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{ChainLink, ChainSlot, KeyState, NOTHING, find};

/// What the keys hold now, and what is not told yet.
pub(super) struct Play<'a> {
    links: &'a [ChainLink],
    now: HashMap<u64, u64>,
    /// by the state that a link begins with
    leaving: HashMap<(u64, u64), BTreeSet<usize>>,
    /// by the key that a link gives a row
    coming: HashMap<u64, BTreeSet<usize>>,
    /// how many that are not told yet concern a key
    concern: HashMap<u64, usize>,
    left: BTreeSet<usize>,
    ready: BTreeSet<usize>,
    told: Vec<ChainSlot>,
}

/// An order in which each change finds what it changes, if there is one.
pub(super) fn play(links: &[ChainLink], is_bare: bool) -> Option<Vec<ChainSlot>> {
    let mut play = Play {
        links,
        now: at_first(links, is_bare)?,
        leaving: HashMap::new(),
        coming: HashMap::new(),
        concern: HashMap::new(),
        left: (0..links.len()).collect(),
        ready: BTreeSet::new(),
        told: Vec::with_capacity(links.len()),
    };
    for (number, link) in links.iter().enumerate() {
        keys_of(link).for_each(|key| *play.concern.entry(key).or_default() += 1);
        if let Some(from) = link.from {
            play.leaving.entry((from.key, from.image)).or_default().insert(number);
        }
        if let Some(to) = link.to.filter(|to| link.from.is_none_or(|from| from.key != to.key)) {
            play.coming.entry(to.key).or_default().insert(number);
        }
    }
    // where many rows come to one key, each is looked at each time: no client has such a table
    if play.coming.values().any(|coming| coming.len() > MANY) {
        return None;
    }
    let keys: HashSet<u64> =
        links.iter().flat_map(|link| [link.from, link.to]).flatten().map(|state| state.key).collect();
    keys.into_iter().for_each(|key| play.look(key));
    while !play.left.is_empty() {
        match play.ready.pop_first() {
            Some(link) if play.is_possible(link) => play.tell(link),
            Some(_) => {}
            None => play.exchange()?,
        }
    }
    Some(play.told)
}

const MANY: usize = 1_000;

/// The keys that a change concerns, each once.
fn keys_of(link: &ChainLink) -> impl Iterator<Item = u64> + use<> {
    let (from, to) = (link.from.map(|state| state.key), link.to.map(|state| state.key));
    from.into_iter().chain(to.filter(|to| from != Some(*to)))
}

/// A state, the links that leave it, and those that come to it.
type Meeting = ((u64, u64), Vec<usize>, Vec<usize>);

/// What each key holds before any of the changes; nothing where something is missing between them.
fn at_first(links: &[ChainLink], is_bare: bool) -> Option<HashMap<u64, u64>> {
    let state = |state: KeyState| (state.key, state.image);
    let mut numbers: HashMap<(u64, u64), usize> = HashMap::new();
    // of each state, what leaves it and what comes to it
    let mut states: Vec<Meeting> = Vec::new();
    let mut number = |of: KeyState, states: &mut Vec<Meeting>| {
        *numbers.entry(state(of)).or_insert_with(|| {
            states.push((state(of), Vec::new(), Vec::new()));
            states.len() - 1
        })
    };
    let mut ends = Vec::with_capacity(links.len());
    for (at, link) in links.iter().enumerate() {
        let from = link.from.map(|from| number(from, &mut states));
        let to = link.to.map(|to| number(to, &mut states));
        from.into_iter().for_each(|from| states[from].1.push(at));
        to.into_iter().for_each(|to| states[to].2.push(at));
        ends.push((from, to));
    }
    let known = held_at_first(links);
    let mut first: HashMap<u64, u64> = HashMap::new();
    let mut parent: Vec<usize> = (0..states.len()).collect();
    let mut is_open = vec![false; states.len()];
    for (from, to) in &ends {
        match (*from, *to) {
            (Some(from), Some(to)) => {
                let (from, to) = (find(&mut parent, from), find(&mut parent, to));
                parent[from.max(to)] = from.min(to);
            }
            (one, other) => one.or(other).into_iter().for_each(|state| is_open[state] = true),
        }
    }
    let moves = |link: &usize| links[*link].from.zip(links[*link].to).is_some_and(|(from, to)| from.key != to.key);
    // a row that came to a key and went on was captured in that order only if two rows did, in one statement
    let mut statements: HashSet<u32> = HashSet::new();
    for (_, out, into) in &states {
        for come in into.iter().filter(|link| moves(link)) {
            let run = links[*come].run;
            if out.iter().any(|go| moves(go) && come < go && links[*go].run == run) {
                statements.insert(run);
            }
        }
    }
    for (at, ((key, image), out, into)) in states.iter().enumerate() {
        is_open[at] |= out.len() != into.len();
        // two rows that look alike: one statement changed both
        let of_two_rows = || {
            let alike = |come: &usize, go: &usize| {
                let is_one_go = links[*come].run == links[*go].run && statements.contains(&links[*go].run);
                is_one_go || (is_bare && go < come)
            };
            let mut arrivals = into.iter().filter(|link| moves(link));
            arrivals.any(|come| out.iter().filter(|go| moves(go)).any(|go| alike(come, go)))
        };
        // or put back by a second statement, just as it was
        let is_put_back = || {
            let (Some(&gone), Some(&back)) = (out.first(), into.first()) else { return false };
            let is_other = links[gone].run != links[back].run;
            gone < back && is_other && links[gone].to.is_none() && into.iter().all(|link| links[*link].from.is_none())
        };
        let holds = match out.len().checked_sub(into.len()) {
            Some(0) => known.get(key) == Some(image) || of_two_rows() || is_put_back(),
            Some(1) => true,
            Some(_) => return None,
            None => false,
        };
        if holds && first.insert(*key, *image).is_some() {
            return None;
        }
    }
    let mut open = vec![false; states.len()];
    for at in 0..states.len() {
        let root = find(&mut parent, at);
        open[root] |= is_open[at] || first.get(&states[at].0.0) == Some(&states[at].0.1);
    }
    // what goes round in circles begins with the lowest id, or with what a statement did whose trigger did that
    for (at, (from, _)) in ends.iter().enumerate() {
        let Some(root) = from.map(|from| find(&mut parent, from)) else { continue };
        if std::mem::replace(&mut open[root], true) {
            continue;
        }
        let is_of_it = |other: &usize| ends[*other].0.is_some_and(|from| find(&mut parent.clone(), from) == root);
        let in_place = |link: &ChainLink| link.from.map(|from| from.key) == link.to.map(|to| to.key);
        let together = (at..links.len()).take_while(|other| links[*other].run == links[at].run);
        let begins = together.filter(|other| in_place(&links[*other])).filter(is_of_it).last().unwrap_or(at);
        let KeyState { key, image } = links[begins].from?;
        if first.insert(key, image).is_some() {
            return None;
        }
    }
    Some(first)
}

/// What the first captured change of a key finds there, where it has happened before all other changes of that key
/// (see [`super::ends_right`]) and none has brought it: what the key held at first.
pub(super) fn held_at_first(links: &[ChainLink]) -> HashMap<u64, u64> {
    #[derive(Default)]
    struct FirstFound {
        /// what was brought, by the depth and the run that brought it
        came: HashSet<(u64, u8, u32)>,
        /// depth of the first one that finds something, and what
        first: Option<(u8, u64)>,
        is_unsure: bool,
    }
    let mut keys: HashMap<u64, FirstFound> = HashMap::new();
    for link in links {
        for key in keys_of(link) {
            let of_key = |state: Option<KeyState>| state.filter(|state| state.key == key).map(|state| state.image);
            let known = keys.entry(key).or_default();
            known.is_unsure |= link.depth == 0;
            match (known.first, of_key(link.from)) {
                (Some((depth, _)), _) => known.is_unsure |= link.depth < depth,
                (None, Some(from)) => {
                    known.first = Some((link.depth, from));
                    // from inside the statement that made this change, it came later
                    let before = |(_, depth, run): &(u64, u8, u32)| *depth <= link.depth || *run != link.run;
                    known.is_unsure |= known.came.iter().any(|came| came.0 == from && before(came));
                }
                (None, None) => {}
            }
            known.came.extend(of_key(link.to).map(|to| (to, link.depth, link.run)));
        }
    }
    let sure = keys.into_iter().filter(|(_, known)| !known.is_unsure);
    sure.filter_map(|(key, known)| Some((key, known.first?.1))).collect()
}

impl Play<'_> {
    fn held(&self, key: u64) -> u64 {
        self.now.get(&key).copied().unwrap_or(NOTHING)
    }

    fn is_possible(&self, link: usize) -> bool {
        let ChainLink { from, to, .. } = self.links[link];
        let is_there = from.is_none_or(|from| self.held(from.key) == from.image);
        let is_free = to.is_none_or(|to| from.is_some_and(|from| from.key == to.key) || self.held(to.key) == NOTHING);
        self.left.contains(&link) && is_there && is_free && !self.is_too_early(link)
    }

    /// Whether it takes a key to where nothing leads away from, while other changes of that key are not told.
    fn is_too_early(&self, link: usize) -> bool {
        let Some(to) = self.links[link].to else { return false };
        let leaving = self.leaving.get(&(to.key, to.image));
        let leads_on = leaving.is_some_and(|leaving| leaving.iter().any(|other| *other != link));
        !leads_on && self.concern.get(&to.key).is_some_and(|left| *left > 1)
    }

    /// Notes what a key makes possible.
    fn look(&mut self, key: u64) {
        let image = self.held(key);
        let links = if image == NOTHING { self.coming.get(&key) } else { self.leaving.get(&(key, image)) };
        let possible: Vec<usize> =
            links.into_iter().flatten().copied().filter(|link| self.is_possible(*link)).collect();
        self.ready.extend(possible);
    }

    fn forget(&mut self, link: usize) {
        self.left.remove(&link);
        for key in keys_of(&self.links[link]) {
            self.concern.entry(key).and_modify(|left| *left -= 1);
        }
        let ChainLink { from, to, .. } = self.links[link];
        if let Some(leaving) = from.and_then(|from| self.leaving.get_mut(&(from.key, from.image))) {
            leaving.remove(&link);
        }
        if let Some(coming) = to.and_then(|to| self.coming.get_mut(&to.key)) {
            coming.remove(&link);
        }
    }

    fn tell(&mut self, link: usize) {
        let ChainLink { from, to, .. } = self.links[link];
        self.forget(link);
        self.told.push(ChainSlot::One(link));
        from.into_iter().for_each(|from| _ = self.now.insert(from.key, NOTHING));
        to.into_iter().for_each(|to| _ = self.now.insert(to.key, to.image));
        for state in [from, to].into_iter().flatten() {
            self.look(state.key);
        }
    }

    /// Rows that exchange their keys, as a deferrable constraint allows: each waits for the next one to go. No order of
    /// them is possible, but for each key it is: the row that was there has become the one that has come.
    fn exchange(&mut self) -> Option<()> {
        let mut passed = HashSet::new();
        for start in self.left.clone() {
            let Some(mut key) = self.links[start].from.map(|from| from.key) else { continue };
            let mut path: Vec<(u64, usize)> = Vec::new();
            while passed.insert(key) {
                let leaving = self.leaving.get(&(key, self.held(key)));
                let goes = leaving.into_iter().flatten().find_map(|link| {
                    let to = self.links[*link].to.filter(|to| to.key != key)?;
                    Some((*link, to.key))
                });
                let Some((link, to)) = goes else { break };
                path.push((key, link));
                key = to;
            }
            let Some(begin) = path.iter().position(|(passed, _)| *passed == key) else { continue };
            let circle = path.split_off(begin);
            for (at, &(key, gone)) in circle.iter().enumerate() {
                let (_, come) = circle[(at + circle.len() - 1) % circle.len()];
                self.told.push(ChainSlot::Exchanged { gone, come });
                self.forget(gone);
                self.now.insert(key, self.links[come].to?.image);
            }
            circle.iter().for_each(|(key, _)| self.look(*key));
            return Some(());
        }
        None
    }
}
