//! The order of the changes of a few rows of a table, by what they hold. Pure; knows no row, only hashes.
//!
//! A client that applies changes keeps a row for each key: a change is possible where that row is as its old image
//! says, and where nothing else has its new key. So the changes of one key are a walk through what the key holds,
//! nothing at all included: each begins where the one before it ended. Each change is walked once, which makes it an
//! Eulerian trail (found as Hierholzer does, the lowest id first). Where rows change their keys, the changes of all
//! keys that they had are played one after the other ([`play`]); where that leads nowhere, a change is a step in the
//! walks of two keys, which must come to it together.
//!
//! Where a walk is broken, because something in between was not captured, its pieces come in the order of their ids.
//! Nothing is ever left out, and nothing told twice.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

mod ending;
mod play;

pub(super) use ending::ends_right;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyState {
    pub(super) key: u64,
    /// hash of the image
    pub(super) image: u64,
}

/// A change: from what to what.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChainLink {
    pub(super) from: Option<KeyState>,
    pub(super) to: Option<KeyState>,
    /// changes with the same number were captured without any other command in between
    pub(super) run: u32,
    /// how many triggers were running, one inside the other; 0: nobody knows
    pub(super) depth: u8,
}

/// What stands at one place of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChainSlot {
    /// this change
    One(usize),
    /// of rows that exchange their keys: the row that has gone, and the one that has come to its key
    Exchanged { gone: usize, come: usize },
}

/// No row.
const NOTHING: u64 = 0;

/// A change as one key sees it.
#[derive(Debug, Clone, Copy)]
struct ChainStep {
    from: u64,
    to: u64,
    link: usize,
    /// the row goes to another key, or comes from one
    moves: bool,
}

/// Changes, given by id, in an order in which they can have happened: as many as there are. `is_bare`: an image is nothing
/// but its key, so that different rows look alike.
pub(super) fn in_order(links: &[ChainLink], is_bare: bool) -> Vec<ChainSlot> {
    let mut keys: BTreeMap<u64, Vec<ChainStep>> = BTreeMap::new();
    for (link, change) in links.iter().enumerate() {
        match (change.from, change.to) {
            (Some(from), Some(to)) if from.key == to.key => {
                let step = ChainStep { from: from.image, to: to.image, link, moves: false };
                keys.entry(from.key).or_default().push(step);
            }
            (from, to) => {
                if let Some(from) = from {
                    let step = ChainStep { from: from.image, to: NOTHING, link, moves: to.is_some() };
                    keys.entry(from.key).or_default().push(step);
                }
                if let Some(to) = to {
                    let step = ChainStep { from: NOTHING, to: to.image, link, moves: from.is_some() };
                    keys.entry(to.key).or_default().push(step);
                }
            }
        }
    }
    if keys.len() > 1
        && let Some(told) = play::play(links, is_bare)
    {
        return told;
    }
    Merge::new(links, &keys).run()
}

/// The order of the steps of one key.
fn walk(steps: &[ChainStep], links: &[ChainLink]) -> Vec<usize> {
    let is_whole = steps.windows(2).all(|pair| pair[0].to == pair[1].from);
    let is_circle = steps.first().map(|first| first.from) == steps.last().map(|last| last.to);
    if is_whole && !is_circle {
        return steps.iter().map(|step| step.link).collect();
    }
    let mut numbers: HashMap<u64, usize> = HashMap::new();
    let mut number = |state: u64| {
        let next = numbers.len();
        *numbers.entry(state).or_insert(next)
    };
    let edges: Vec<(usize, usize)> = steps.iter().map(|step| (number(step.from), number(step.to))).collect();
    let states = numbers.len();
    // which states hang together
    let mut parent: Vec<usize> = (0..states).collect();
    for &(from, to) in &edges {
        let (from, to) = (find(&mut parent, from), find(&mut parent, to));
        parent[from.max(to)] = from.min(to);
    }
    let mut islands: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (edge, &(from, _)) in edges.iter().enumerate() {
        islands.entry(find(&mut parent, from)).or_default().push(edge);
    }
    let mut pieces: Vec<Vec<usize>> = Vec::new();
    for island in islands.values() {
        pieces.extend(pieces_of(island, &edges, states, steps, links));
    }
    pieces.sort_unstable_by_key(|piece| piece.iter().min().copied());
    pieces.into_iter().flatten().map(|edge| steps[edge].link).collect()
}

/// The fewest trails that walk each edge of what hangs together once: one, unless something was not captured.
fn pieces_of(
    island: &[usize],
    edges: &[(usize, usize)],
    states: usize,
    steps: &[ChainStep],
    links: &[ChainLink],
) -> Vec<Vec<usize>> {
    const JUMP: usize = usize::MAX;
    let mut out: Vec<Vec<(usize, usize)>> = vec![Vec::new(); states];
    let mut into: Vec<usize> = vec![0; states];
    let mut last_into: Vec<usize> = vec![0; states];
    for &edge in island {
        let (from, to) = edges[edge];
        out[from].push((edge, to));
        into[to] += 1;
        last_into[to] = edge;
    }
    // where trails must begin, and where they must end
    let mut begins: Vec<(usize, usize)> = Vec::new();
    let mut ends: Vec<(usize, usize)> = Vec::new();
    for state in 0..states {
        let (leaves, comes) = (out[state].len(), into[state]);
        if let Some((first, _)) = out[state].first() {
            begins.extend(std::iter::repeat_n((*first, state), leaves.saturating_sub(comes)));
        }
        ends.extend(std::iter::repeat_n((last_into[state], state), comes.saturating_sub(leaves)));
    }
    begins.sort_unstable();
    ends.sort_unstable();
    let start = match begins.first() {
        Some((_, state)) => *state,
        None => {
            let first = first_of_circle(island, steps, links);
            let state = edges[first].0;
            if let Some(at) = out[state].iter().position(|(edge, _)| *edge == first) {
                let edge = out[state].remove(at);
                out[state].insert(0, edge);
            }
            state
        }
    };
    for (&(_, end), &(_, begin)) in ends.iter().zip(begins.iter().skip(1)) {
        out[end].push((JUMP, begin));
    }
    let mut taken = vec![0; states];
    let mut path: Vec<(usize, Option<usize>)> = vec![(start, None)];
    let mut trail: Vec<usize> = Vec::with_capacity(island.len());
    while let Some(&(state, by)) = path.last() {
        if let Some(&(edge, to)) = out[state].get(taken[state]) {
            taken[state] += 1;
            path.push((to, Some(edge)));
        } else {
            path.pop();
            trail.extend(by);
        }
    }
    trail.reverse();
    trail.split(|edge| *edge == JUMP).filter(|piece| !piece.is_empty()).map(<[usize]>::to_vec).collect()
}

/// Where a key ends as it began, its images do not say what came first: 1 → 2 and 2 → 1, or the other way round. What was
/// captured without any command in between does: the later one was made first, by the statement whose trigger made the other
/// one, since a statement changes no row twice. Else ids are right. Where they cannot be, and the row was created and deleted,
/// it was not there before: another one would not have been so like it.
fn first_of_circle(island: &[usize], steps: &[ChainStep], links: &[ChainLink]) -> usize {
    let first = island[0];
    let run = |edge: usize| links[steps[edge].link].run;
    let is_walk = island.windows(2).all(|pair| steps[pair[0]].to == steps[pair[1]].from);
    if !is_walk && let Some(created) = island.iter().copied().find(|edge| steps[*edge].from == NOTHING) {
        return created;
    }
    let is_in_place = island.iter().all(|edge| !steps[*edge].moves);
    let last = island.iter().copied().rfind(|edge| run(*edge) == run(first));
    last.filter(|_| is_in_place).unwrap_or(first)
}

fn find(parent: &mut [usize], mut at: usize) -> usize {
    while parent[at] != at {
        parent[at] = parent[parent[at]];
        at = parent[at];
    }
    at
}

/// Several keys' walks as one order.
struct Merge<'a> {
    links: &'a [ChainLink],
    walks: Vec<Vec<usize>>,
    /// of each walk, how much is told
    next: Vec<usize>,
    /// the walks in which a link is a step
    of: Vec<(Option<usize>, Option<usize>)>,
    is_told: Vec<bool>,
    told: Vec<ChainSlot>,
    ready: BinaryHeap<Reverse<usize>>,
}

impl<'a> Merge<'a> {
    fn new(links: &'a [ChainLink], keys: &BTreeMap<u64, Vec<ChainStep>>) -> Self {
        let numbers: HashMap<u64, usize> = keys.keys().enumerate().map(|(number, key)| (*key, number)).collect();
        let number = |state: Option<KeyState>| state.and_then(|state| numbers.get(&state.key)).copied();
        let of = links.iter().map(|link| (number(link.from), number(link.to))).collect();
        let walks: Vec<Vec<usize>> = keys.values().map(|steps| walk(steps, links)).collect();
        let (next, is_told) = (vec![0; walks.len()], vec![false; links.len()]);
        Self { links, walks, next, of, is_told, told: Vec::with_capacity(links.len()), ready: BinaryHeap::new() }
    }

    /// The order; what none makes possible comes by id.
    fn run(mut self) -> Vec<ChainSlot> {
        (0..self.walks.len()).for_each(|walk| self.look(walk));
        while let Some(Reverse(link)) = self.ready.pop() {
            if !self.is_told[link] {
                self.tell(link);
            }
        }
        self.told.extend((0..self.links.len()).filter(|link| !self.is_told[*link]).map(ChainSlot::One));
        self.told
    }

    fn next_of(&self, walk: usize) -> Option<usize> {
        self.walks[walk].get(self.next[walk]).copied()
    }

    /// Notes the next step of a walk if it can be told now.
    fn look(&mut self, walk: usize) {
        let Some(link) = self.next_of(walk) else { return };
        let is_next = |walk: Option<usize>| walk.is_none_or(|walk| self.next_of(walk) == Some(link));
        if is_next(self.of[link].0) && is_next(self.of[link].1) {
            self.ready.push(Reverse(link));
        }
    }

    fn tell(&mut self, link: usize) {
        self.is_told[link] = true;
        self.told.push(ChainSlot::One(link));
        let (from, to) = self.of[link];
        let other = to.filter(|to| Some(*to) != from);
        for walk in [from, other].into_iter().flatten() {
            self.next[walk] += 1;
        }
        for walk in [from, other].into_iter().flatten() {
            self.look(walk);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `1a>1b` changes key 1 from a to b, `>1a` creates, `1a>` deletes; a blank in front of one tells that no command lies
    /// between it and the one before, a `!` behind it that a trigger made it.
    fn links(text: &str) -> Vec<ChainLink> {
        let mut run = 0;
        let state = |text: &str| {
            let (key, image) = text.split_at_checked(1)?;
            Some(KeyState { key: key.parse().ok()?, image: u64::from(image.bytes().next()?) })
        };
        text.split(',')
            .map(|one| {
                run += u32::from(!one.starts_with(' '));
                let (from, to) = one.trim().trim_end_matches('!').split_once('>').unwrap();
                ChainLink { from: state(from), to: state(to), run, depth: 1 + u8::from(one.ends_with('!')) }
            })
            .collect()
    }

    fn ordered(text: &str) -> Vec<String> {
        let texts: Vec<&str> = text.split(',').map(|one| one.trim().trim_end_matches('!')).collect();
        in_order(&links(text), false)
            .into_iter()
            .map(|told| match told {
                ChainSlot::One(link) => texts[link].to_owned(),
                ChainSlot::Exchanged { gone, come } => {
                    format!("{}>{}", texts[gone].split_once('>').unwrap().0, texts[come].split_once('>').unwrap().1)
                }
            })
            .collect()
    }

    #[test]
    fn each_change_begins_where_the_one_before_it_ended() {
        for (by_id, wanted) in [
            ("1b>1c,1a>1b", "1a>1b,1b>1c"),
            ("1c>1d,1b>1c,>1a,1a>1b", ">1a,1a>1b,1b>1c,1c>1d"),
            // what comes back: C has no way on, so it is last
            ("1a>1c,1a>1b,1b>1a", "1a>1b,1b>1a,1a>1c"),
            // the same row again
            ("1a>,>1b,1b>,>1a,1a>1c", "1a>,>1b,1b>,>1a,1a>1c"),
            (">1b,1b>1c,1a>", "1a>,>1b,1b>1c"),
            // created and deleted, whatever was captured first
            ("1a>1b,>1a,1b>", ">1a,1a>1b,1b>"),
            // as they are, where that is possible
            ("1a>,>1a", "1a>,>1a"),
            ("1a>1b,1b>1a,1a>1b", "1a>1b,1b>1a,1a>1b"),
            ("1a>1b,1b>1a", "1a>1b,1b>1a"),
            ("1a>1a,1a>1b", "1a>1a,1a>1b"),
        ] {
            assert_eq!(ordered(by_id).join(","), wanted, "{by_id}");
        }
    }

    #[test]
    fn what_ends_as_it_began_is_told_by_what_was_captured_in_one_go() {
        // the trigger of another row sets this one back before it was captured itself
        assert_eq!(ordered("1b>1a!, 1a>1b").join(","), "1a>1b,1b>1a");
        assert_eq!(ordered("1a>!, >1a").join(","), ">1a,1a>");
        assert_eq!(ordered("1b>1c, 1a>1b,>1a,1c>").join(","), ">1a,1a>1b,1b>1c,1c>");
        // two statements
        assert_eq!(ordered("1b>1a,1a>1b").join(","), "1b>1a,1a>1b");
    }

    #[test]
    fn a_key_is_free_before_another_row_takes_it() {
        for (by_id, wanted) in [
            ("1a>2a,2b>3b,3c>4c", "3c>4c,2b>3b,1a>2a"),
            // rows that look alike, moved by one statement
            ("1x>2x, 2x>3x, 3x>4x", "3x>4x,2x>3x,1x>2x"),
            ("1x>2x,2x>3x,3x>4x", "1x>2x,2x>3x,3x>4x"),
            // moved on by a trigger, captured before
            ("2a>3a!,1a>2a", "1a>2a,2a>3a"),
            ("2a>3a!, 1a>2a", "1a>2a,2a>3a"),
            // another row that looks alike
            ("2a>3a,1a>2a", "2a>3a,1a>2a"),
            ("2a>2b!,>2a,2b>3b", ">2a,2a>2b,2b>3b"),
            ("1x>2x, 2y>3y,2x>5x", "2y>3y,1x>2x,2x>5x"),
            // there and back
            ("1a>2a,2a>1a", "1a>2a,2a>1a"),
            ("1a>2a,2a>1a,1a>1b", "1a>2a,2a>1a,1a>1b"),
            ("1a>2a,2b>", "2b>,1a>2a"),
            (">1b,1a>2a", "1a>2a,>1b"),
        ] {
            assert_eq!(ordered(by_id).join(","), wanted, "{by_id}");
        }
    }

    #[test]
    fn rows_that_hold_nothing_but_their_key_are_not_taken_for_one() {
        let told = in_order(&links("1x>0x, 2x>1x, 3x>2x"), true);
        assert_eq!(told, [0, 1, 2].map(ChainSlot::One));
        assert_eq!(in_order(&links("2x>3x,1x>2x"), true), [0, 1].map(ChainSlot::One));
    }

    #[test]
    fn rows_that_exchange_their_keys_are_told_by_key() {
        assert_eq!(ordered("1a>2a,2b>1b").join(","), "1a>1b,2b>2a");
        assert_eq!(ordered("1a>2a, 2b>3b, 3c>1c").join(","), "1a>1c,2b>2a,3c>3b");
        assert_eq!(ordered("1a>2a,2b>1b,1b>1c,2a>").join(","), "1a>1b,2b>2a,1b>1c,2a>");
        assert_eq!(ordered("1x>2x, 2x>1x").join(","), "1x>1x,2x>2x");
    }

    #[test]
    fn a_row_that_ends_as_it_began_is_told_where_its_order_is_known() {
        let is_known = |text: &str| {
            let links = links(text);
            ends_right(&links, &in_order(&links, false))
        };
        for text in [
            // two statements, or what two triggers did
            "1a>1b,1b>1a",
            "1a>1b!,1b>1a!",
            "1a>1b,1b>1a!",
            ">1a,1a>!",
            // the trigger of another row, before the statement's own change was captured
            "1b>1a!, 1a>1b",
            // it does not end as it began
            "1b>1c!,1a>1b",
            "1a>!,1b>1a",
            // what the deeper one changed is another row
            "2b>2a!,1a>1b,1b>1a",
            // captured out of order, but in one go and in its place; moved, but captured in order
            "1a>1b,1c>1a,1b>1c",
            "1a>2a,2a>1a",
        ] {
            assert!(is_known(text), "{text}");
        }
        for text in [
            // between them the statement's trigger wrote something else, or the next statement began
            "1b>1a!,1a>1b",
            "1a>!,>1a",
            // a BEFORE trigger took a row away for the one that came, or it was deleted by the trigger of another one
            "1a>!, >1a",
            "2x>2y,1b>1a!,1a>1b",
            "1b>1a!,1c>1b!,1a>1c",
            // rows moved through the key, and a trigger moved one on before the statement's own move was captured
            "5h>5a!, 4a>5h, 5a>6i",
            // the row that came to the key was set, by a trigger, to what the row had that had left it
            "5a>7b,6a>8c,7b>7a!, 7a>9d",
        ] {
            assert!(!is_known(text), "{text}");
        }
    }

    #[test]
    fn what_was_not_captured_breaks_no_other_piece() {
        assert_eq!(ordered("1a>1b,1c>1d,1e>1f").join(","), "1a>1b,1c>1d,1e>1f");
        assert_eq!(ordered("1b>1c,1a>1b,1y>1z,1x>1y").join(","), "1a>1b,1b>1c,1x>1y,1y>1z");
    }

    proptest! {
        /// Whatever the links: each is told once.
        #[test]
        fn nothing_is_left_out_and_nothing_told_twice(
            links in prop::collection::vec((prop::option::of((0_u64..4, 1_u64..4)), prop::option::of((0_u64..4, 1_u64..4)), 0_u32..3), 0..12),
        ) {
            let state = |state: Option<(u64, u64)>| state.map(|(key, image)| KeyState { key, image });
            let links: Vec<ChainLink> = links
                .into_iter()
                .filter(|(from, to, _)| from.is_some() || to.is_some())
                .map(|(from, to, run)| ChainLink { from: state(from), to: state(to), run, depth: 1 })
                .collect();
            let told = in_order(&links, false);
            let (mut gone, mut come): (Vec<usize>, Vec<usize>) = told
                .iter()
                .map(|told| match *told {
                    ChainSlot::One(link) => (link, link),
                    ChainSlot::Exchanged { gone, come } => (gone, come),
                })
                .unzip();
            gone.sort_unstable();
            come.sort_unstable();
            prop_assert_eq!(&gone, &(0..links.len()).collect::<Vec<_>>());
            prop_assert_eq!(&come, &gone);
        }

        /// A walk of one key, captured in any order, is found again: each begins where the one before ended, and what the
        /// key holds at the end is what the walk ended with, unless it ends where it began.
        #[test]
        fn a_walk_is_found_whatever_order_it_was_captured_in(
            states in prop::collection::vec(0_u64..6, 2..12),
            shuffle in prop::collection::vec(any::<u32>(), 12),
        ) {
            let state = |image: u64| (image > 0).then_some(KeyState { key: 1, image });
            let steps = states.windows(2).filter(|pair| pair[0] > 0 || pair[1] > 0);
            let mut links: Vec<ChainLink> =
                steps.enumerate().map(|(i, pair)| ChainLink { from: state(pair[0]), to: state(pair[1]), run: i as u32, depth: 1 }).collect();
            let (begin, end) = (links.first().and_then(|l| l.from), links.last().and_then(|l| l.to));
            let mut keyed: Vec<_> = links.drain(..).zip(shuffle).collect();
            keyed.sort_by_key(|(_, key)| *key);
            let links: Vec<ChainLink> = keyed.into_iter().map(|(link, _)| link).collect();
            let told = in_order(&links, false);
            let at = |i: usize| match told[i] { ChainSlot::One(link) => links[link], ChainSlot::Exchanged { .. } => unreachable!() };
            for i in 1..told.len() {
                prop_assert_eq!(at(i - 1).to, at(i).from);
            }
            if begin != end {
                prop_assert_eq!((at(0).from, at(told.len() - 1).to), (begin, end));
            }
        }
    }
}
