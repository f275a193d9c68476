//! The order of rows inside a cut, where their ids do not tell it. Pure: rows in, places out; the same for the same rows of
//! a transaction, whichever node reads them and whatever lies between them.
//!
//! Rows of a cut come by id, and ids are drawn under the row's lock, so two transactions can never be confused. Inside
//! one transaction the trigger may fire in another order than the rows were changed. Postgres fires the AFTER triggers of
//! a statement when all its rows are changed, one row after the other, and what a trigger changes is captured at the end
//! of that inner statement. So where an application's trigger of row 1 updates row 3 of the same statement, 1 → 101 of row
//! 3 is captured before its 0 → 1. What a foreign key cascades is captured later still, behind the rows of its statement.
//! And an update that moves a row to another partition is captured as deleted there and created here.
//!
//! The images tell: of one key, each change begins where the one before it ended (`chain`). Their contents
//! change places, their ids and times do not. Half moves become one `updated`. A table without a primary key has no such
//! chains; its changes come by id.
//!
//! Nothing is looked into where at most one row of a table is concerned, or all were created, or all deleted: a key is
//! created once before it is deleted.

use std::collections::{HashMap, HashSet};

use super::catalog::Catalog;
use super::chain::{self, ChainLink, ChainSlot, KeyState};
use super::decode::OutboxRow;
use super::image::{Hashes, Images, KeyHashes};
use crate::change::Json;
use crate::row::Columns;

/// What of a row the order depends on, its images aside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brief {
    pub(super) xid: u64,
    pub(super) channel: i32,
    pub(super) op: u8,
    /// the command of its transaction by which it was captured
    pub(super) command: u32,
    /// how many triggers were running then, one inside the other
    pub(super) depth: u8,
    pub(super) keys: Option<KeyHashes>,
}

/// What happened to the rows of one transaction on one channel, whatever rows they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Deeds {
    count: u32,
    kinds: u8,
}

/// Where each row is told. Rows are named by their number, by id.
#[derive(Debug, Default)]
pub(super) struct Order {
    moved: HashMap<usize, Placed>,
    /// told elsewhere, as a half of something
    gone: HashSet<usize>,
    /// transactions and channels of which no order was found that ends with what the table holds
    torn: HashSet<(u64, i32)>,
}

/// What is told in the place of a row: with its id and time, the images of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// what happened; `None`: what happened to the row of the new image, or of the old one where there is none
    pub(super) op: Option<u8>,
    /// whose old image
    pub(super) old: usize,
    /// whose new image
    pub(super) new: usize,
}

/// Rows that may have to change places, by number: all that concern a key, or keys that a row went through.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) groups: Vec<Vec<u32>>,
    /// the half of a move that tells where the row came from
    halves: HashMap<u32, u32>,
    /// see [`ChainLink::run`]
    runs: Vec<u32>,
}

impl Deeds {
    /// One more row.
    pub(super) fn add(&mut self, op: u8) {
        let kind = match op.to_ascii_uppercase() {
            b'I' => 1,
            b'D' => 2,
            b'U' => 4,
            _ => return,
        };
        self.count += 1;
        self.kinds |= kind;
    }

    /// The same and more.
    pub(super) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.kinds |= other.kinds;
    }

    /// Whether two of them may concern one row, on a channel that has a key.
    pub(super) fn may_meet(self) -> bool {
        self.count > 1 && self.kinds != 1 && self.kinds != 2
    }
}

impl Plan {
    /// Finds the rows that may have to change places.
    pub(super) fn of(count: usize, brief: impl Fn(usize) -> Brief) -> Self {
        let mut channels: HashMap<(u64, i32), Stretch> = HashMap::new();
        let mut opened: HashMap<(u32, u32, u64), Vec<(u32, u64)>> = HashMap::new();
        let (mut keyed, mut halves, mut runs) = (Vec::new(), HashMap::new(), Vec::with_capacity(count));
        for row in 0..count {
            runs.push(0);
            let now = brief(row);
            if !matches!(now.op.to_ascii_uppercase(), b'I' | b'D' | b'U' | b'T') {
                continue;
            }
            let next = channels.len() as u32;
            let stretch =
                channels.entry((now.xid, now.channel)).or_insert(Stretch { number: next, ..Stretch::default() });
            let is_next = now.command == stretch.command.wrapping_add(1);
            stretch.run += u32::from(!is_next);
            stretch.command = now.command;
            runs[row] = stretch.run;
            if now.op == b'T' {
                // no trigger can wait while a table is truncated: what lies before and after has nothing in common
                stretch.part += 1;
                continue;
            }
            let Some(keys) = now.keys else { continue };
            let row = row as u32;
            let name = |key: u64| mixed(mixed(u64::from(stretch.number), u64::from(stretch.part)), key);
            keyed.extend([keys.from, keys.to].into_iter().filter(|key| *key != 0).map(|key| (name(key), row)));
            if keys.stem == 0 {
                continue;
            }
            let open = opened.entry((stretch.number, stretch.part, keys.stem)).or_default();
            if now.op == b'D' {
                open.push((row, keys.from));
            } else if let Some((gone, from)) = open.pop()
                && from != keys.to
            {
                halves.insert(row, gone);
            }
        }
        keyed.sort_unstable();
        keyed.dedup();
        let mut sets = Sets::default();
        for pair in keyed.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            sets.join(pair[0].1, pair[1].1);
        }
        for (&here, &gone) in &halves {
            sets.join(here, gone);
        }
        Self { groups: sets.groups(), halves, runs }
    }

    /// Whether it takes more than ids.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Puts them in order. `is_bare`: a channel's rows hold nothing but their key.
    pub(super) fn order(
        &self,
        brief: impl Fn(usize) -> Brief,
        images: impl Fn(usize) -> Option<Images>,
        is_bare: impl Fn(i32) -> bool,
    ) -> Order {
        let mut order = Order::default();
        for group in &self.groups {
            let gone: HashSet<u32> = group.iter().filter_map(|row| self.halves.get(row)).copied().collect();
            order.gone.extend(gone.iter().map(|row| *row as usize));
            // the rows, by id, and their changes
            let (mut rows, mut links) = (Vec::new(), Vec::new());
            for &row in group.iter().filter(|row| !gone.contains(row)) {
                let half = self.halves.get(&row).copied();
                match self.link(row, half, &brief, &images) {
                    Some(link) => {
                        rows.push((row as usize, half.map(|half| half as usize)));
                        links.push(link);
                    }
                    None => self.place(&mut order, row as usize, (row as usize, half.map(|half| half as usize))),
                }
            }
            let is_bare = group.first().is_some_and(|row| is_bare(brief(*row as usize).channel));
            let told = chain::in_order(&links, is_bare);
            if !chain::ends_right(&links, &told) || self.hides_depth(group, &brief, &images) {
                order.torn.extend(group.first().map(|row| brief(*row as usize)).map(|now| (now.xid, now.channel)));
            }
            for (told, &(at, _)) in told.into_iter().zip(&rows) {
                match told {
                    ChainSlot::One(link) => self.place(&mut order, at, rows[link]),
                    ChainSlot::Exchanged { gone, come } => {
                        let (gone, come) = (rows[gone], rows[come]);
                        let placed = Placed { op: Some(b'U'), old: gone.1.unwrap_or(gone.0), new: come.0 };
                        order.moved.insert(at, placed);
                    }
                }
            }
        }
        order
    }

    /// Whether a change that is told by its key alone was captured in a trigger, or another one of that key in a trigger
    /// before it: nothing tells which happened first.
    fn hides_depth(
        &self,
        group: &[u32],
        brief: &impl Fn(usize) -> Brief,
        images: &impl Fn(usize) -> Option<Images>,
    ) -> bool {
        // of each key, the greatest depth so far, and that of what is told by its key
        let mut deepest: HashMap<u64, (u8, u8)> = HashMap::new();
        group.iter().any(|row| {
            let Brief { keys, depth, .. } = brief(*row as usize);
            let Some(keys) = keys else { return false };
            let is_hidden = self.link(*row, None, brief, images).is_none();
            [keys.from, keys.to].into_iter().filter(|key| *key != 0).any(|key| {
                let (any, hidden) = deepest.entry(key).or_default();
                let is_unknown = depth > 0 && (*hidden > depth || (is_hidden && *any > depth));
                *any = depth.max(*any);
                if is_hidden {
                    *hidden = depth.max(*hidden);
                }
                is_unknown
            })
        })
    }

    fn place(&self, order: &mut Order, at: usize, (row, half): (usize, Option<usize>)) {
        if at != row || half.is_some() {
            order.moved.insert(at, Placed { op: half.map(|_| b'U'), old: half.unwrap_or(row), new: row });
        }
    }

    /// The change of a row; nothing where its images do not say what it was, as of one that was too large to be kept.
    fn link(
        &self,
        row: u32,
        half: Option<u32>,
        brief: &impl Fn(usize) -> Brief,
        images: &impl Fn(usize) -> Option<Images>,
    ) -> Option<ChainLink> {
        let now = brief(row as usize);
        let (keys, own) = (now.keys?, images(row as usize)?);
        if !now.op.is_ascii_uppercase() {
            return None;
        }
        let state = |key: u64, image: u64| (key != 0 && image != 0).then_some(KeyState { key, image });
        let (from, to) = match half {
            Some(half) => (state(brief(half as usize).keys?.from, images(half as usize)?.old), state(keys.to, own.new)),
            None => (state(keys.from, own.old), state(keys.to, own.new)),
        };
        (from.is_some() || to.is_some()).then_some(ChainLink {
            from,
            to,
            run: self.runs[row as usize],
            depth: now.depth,
        })
    }
}

impl Order {
    /// Whether the changes of a transaction to a channel may not end with what the table holds: that is to be told.
    pub(super) fn is_torn(&self, xid: u64, channel: i32) -> bool {
        self.torn.contains(&(xid, channel))
    }

    /// What is told in the place of a row; nothing where that is told elsewhere.
    pub(super) fn at(&self, row: usize) -> Option<Placed> {
        if self.gone.contains(&row) {
            return None;
        }
        Some(self.moved.get(&row).copied().unwrap_or(Placed { op: None, old: row, new: row }))
    }
}

impl Placed {
    /// The old image as a whole, where it is another row's than the new one and holds only what differs there.
    pub(super) fn whole_old(&self, row_of_old: &OutboxRow<'_>) -> Option<Json> {
        if self.old == self.new || row_of_old.op != b'U' {
            return None;
        }
        let new = row_of_old.new.and_then(Columns::parse)?;
        let old = row_of_old.old.and_then(Columns::parse)?;
        Some(new.overlaid(&old).without(&[]))
    }

    /// The row as it is told at a place, with the images of these rows.
    pub(super) fn row<'a>(
        &self,
        at: &OutboxRow<'a>,
        of_old: &OutboxRow<'a>,
        of_new: &OutboxRow<'a>,
        whole_old: Option<&'a str>,
    ) -> OutboxRow<'a> {
        OutboxRow {
            id: at.id,
            at: at.at,
            op: self.op.unwrap_or(of_new.op),
            old: whole_old.or(of_old.old),
            users: of_new.users.or(of_old.users),
            ..*of_new
        }
    }
}

/// Brings rows, given by id, into the order in which they happened, and tells each with the id of its place.
pub fn settle(rows: &[OutboxRow<'_>], catalog: &Catalog, mut each: impl FnMut(&OutboxRow<'_>)) {
    let order = order_of(rows, catalog);
    for (at, row) in rows.iter().enumerate() {
        let Some(placed) = order.at(at) else { continue };
        let whole_old = placed.whole_old(&rows[placed.old]);
        each(&placed.row(row, &rows[placed.old], &rows[placed.new], whole_old.as_deref()));
    }
}

/// Where each of these rows is told.
pub(super) fn order_of(rows: &[OutboxRow<'_>], catalog: &Catalog) -> Order {
    if rows.len() < 2 {
        return Order::default();
    }
    let mut deeds: HashMap<(u64, i32), Deeds> = HashMap::new();
    for row in rows {
        deeds.entry((row.xid, row.channel)).or_default().add(row.op);
    }
    if !deeds.iter().any(|((_, channel), deeds)| deeds.may_meet() && catalog.has_key(*channel)) {
        return Order::default();
    }
    let hashes = Hashes::default();
    let channel_of = |row: &OutboxRow<'_>| catalog.get(row.channel).filter(|channel| !channel.key.is_empty());
    let keys: Vec<Option<KeyHashes>> = rows
        .iter()
        .map(|row| {
            let may_meet = deeds.get(&(row.xid, row.channel)).is_some_and(|deeds| deeds.may_meet());
            channel_of(row).filter(|_| may_meet).and_then(|channel| hashes.keys(row, channel))
        })
        .collect();
    let brief = |at: usize| {
        let OutboxRow { xid, channel, op, command, depth, .. } = rows[at];
        Brief { xid, channel, op, command, depth, keys: keys[at] }
    };
    let images = |at: usize| channel_of(&rows[at]).and_then(|channel| hashes.images(&rows[at], channel));
    Plan::of(rows.len(), brief).order(brief, images, |channel| catalog.is_bare(channel))
}

/// The changes of one transaction on one channel, as they are passed.
#[derive(Debug, Default)]
struct Stretch {
    number: u32,
    /// what lies between two truncates
    part: u32,
    run: u32,
    command: u32,
}

/// Two numbers as one. Where two pairs gave the same, unlike rows would be looked at together, and put in the same order.
fn mixed(one: u64, other: u64) -> u64 {
    (one.rotate_left(32) ^ other).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ other
}

/// Which rows belong together; those that belong to nothing take no room.
#[derive(Debug, Default)]
struct Sets(HashMap<u32, u32>);

impl Sets {
    fn find(&mut self, row: u32) -> u32 {
        let mut root = row;
        while let Some(&parent) = self.0.get(&root)
            && parent != root
        {
            root = parent;
        }
        let mut at = row;
        while at != root {
            at = self.0.insert(at, root).unwrap_or(root);
        }
        root
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.find(one), self.find(other));
        let root = one.min(other);
        self.0.insert(root, root);
        self.0.insert(one.max(other), root);
    }

    fn groups(mut self) -> Vec<Vec<u32>> {
        let mut rows: Vec<u32> = self.0.keys().copied().collect();
        rows.sort_unstable();
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        for row in rows {
            groups.entry(self.find(row)).or_default().push(row);
        }
        groups.into_values().filter(|group| group.len() > 1).collect()
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::CatalogChannel;

    fn row<'a>(id: i64, xid: u64, op: u8, old: Option<&'a str>, new: Option<&'a str>) -> OutboxRow<'a> {
        // a command of its own between any two
        OutboxRow {
            id,
            xid,
            at: id,
            channel: 1,
            op,
            old,
            new,
            actor: None,
            users: None,
            command: id as u32 * 2,
            depth: 1,
        }
    }

    fn parts() -> Catalog {
        let (key, partitioned_by) = (vec!["k".into(), "p".into()], vec!["p".into()]);
        let channel = CatalogChannel { key, partitioned_by, ..CatalogChannel::named("parts") };
        let keyless = CatalogChannel::named("keyless");
        Catalog::of([(1, channel), (2, keyless)])
    }

    fn shown(rows: &[OutboxRow<'_>]) -> Vec<String> {
        let mut shown = Vec::new();
        settle(rows, &parts(), |r| {
            let (op, old, new) = (char::from(r.op), r.old.unwrap_or("-"), r.new.unwrap_or("-"));
            shown.push(format!("{} {op} {old}>{new}", r.id).replace(r#"{"k":1,"p":"a","v":"#, "{"));
        });
        shown
    }

    const V: [&str; 5] = [
        r#"{"k":1,"p":"a","v":0}"#,
        r#"{"k":1,"p":"a","v":1}"#,
        r#"{"k":1,"p":"a","v":2}"#,
        r#"{"k":1,"p":"a","v":3}"#,
        r#"{"k":1,"p":"a","v":4}"#,
    ];
    const OTHER: [&str; 2] = [r#"{"k":2,"p":"a","v":0}"#, r#"{"k":2,"p":"a","v":1}"#];

    #[test]
    fn a_chain_is_put_right_across_any_number_of_rows_of_others_and_of_its_own_transaction() {
        let mut rows = vec![row(1, 7, b'U', Some(V[2]), Some(V[3]))];
        let others: Vec<String> = (10..500).map(|k| format!(r#"{{"k":{k},"p":"a"}}"#)).collect();
        rows.extend(others.iter().enumerate().map(|(i, image)| row(10 + i as i64, 7, b'I', None, Some(image))));
        rows.push(row(600, 8, b'U', Some(V[2]), Some(V[4])));
        rows.push(row(601, 7, b'U', Some(V[1]), Some(V[2])));
        rows.push(row(602, 7, b'I', None, Some(V[1])));
        let shown = shown(&rows);
        assert_eq!((&*shown[0], &*shown[1]), ("1 I ->{1}", r#"10 I ->{"k":10,"p":"a"}"#));
        assert_eq!(shown[shown.len() - 3..], ["600 U {2}>{4}", "601 U {1}>{2}", "602 U {2}>{3}"]);
    }

    #[test]
    fn a_value_that_comes_back_is_no_inversion() {
        let rows = [row(1, 7, b'U', Some(V[1]), Some(V[2])), row(2, 7, b'U', Some(V[2]), Some(V[1]))];
        assert_eq!(shown(&rows), ["1 U {1}>{2}", "2 U {2}>{1}"]);
    }

    #[test]
    fn what_a_trigger_set_back_before_it_was_captured_comes_last() {
        let mut rows = [row(1, 7, b'U', Some(V[2]), Some(V[1])), row(2, 7, b'U', Some(V[1]), Some(V[2]))];
        rows[1].command = rows[0].command + 1;
        assert_eq!(shown(&rows), ["1 U {1}>{2}", "2 U {2}>{1}"]);
    }

    #[test]
    fn where_nothing_tells_which_was_last_the_channel_is_torn() {
        let is_torn = |rows: &[OutboxRow<'_>]| order_of(rows, &parts()).is_torn(rows[0].xid, 1);
        let deep = |row| OutboxRow { depth: 2, ..row };
        let (there, back) = (row(2, 7, b'U', Some(V[1]), Some(V[2])), row(1, 7, b'U', Some(V[2]), Some(V[1])));
        assert!(is_torn(&[deep(back), there]), "a trigger set it back, or the next statement set it again");
        assert!(!is_torn(&[back, there]) && !is_torn(&[back, deep(there)]));
        assert!(!is_torn(&[deep(back), OutboxRow { command: back.command + 1, ..there }]), "no command between them");
        // another transaction of the cut has its own order
        let before = row(1, 6, b'I', None, Some(OTHER[0]));
        let (back_too, there_too) = (OutboxRow { id: 2, ..deep(back) }, OutboxRow { id: 3, ..there });
        let beside = order_of(&[before, back_too, there_too], &parts());
        assert!(!beside.is_torn(6, 1) && beside.is_torn(7, 1));
        // of a row that is told by its key nothing tells what it was
        let key = Some(r#"{"k":1,"p":"a"}"#);
        let (created, deleted) = (row(2, 7, b'i', None, key), row(1, 7, b'd', key, None));
        assert!(is_torn(&[deep(deleted), created]) && is_torn(&[deep(row(1, 7, b'D', Some(V[1]), None)), created]));
        assert!(!is_torn(&[deleted, created]) && !is_torn(&[deleted, deep(created)]));
        // nor where nobody has said how deep it was, as of a row of before
        assert!(!is_torn(&[deep(deleted), OutboxRow { depth: 0, ..created }]));
        // what is told by its key alone says nothing of another key that the row went through
        let moved = row(1, 7, b'U', Some(V[1]), Some(OTHER[0]));
        let rest = [deep(row(2, 7, b'd', key, None)), row(3, 7, b'D', Some(OTHER[0]), None)];
        assert!(!is_torn(&[moved, rest[0], rest[1]]));
        let other = row(1, 7, b'D', Some(OTHER[0]), None);
        assert!(!is_torn(&[deep(other), created, row(3, 7, b'U', Some(V[1]), Some(V[2]))]));
    }

    #[test]
    fn two_rows_that_were_not_both_created_or_deleted_may_meet() {
        let of = |ops: &str| {
            let mut deeds = Deeds::default();
            ops.bytes().for_each(|op| deeds.add(op));
            deeds
        };
        for apart in ["", "U", "III", "DD", "iI", "TU", "C"] {
            assert!(!of(apart).may_meet(), "{apart}");
        }
        for together in ["UU", "ID", "IU", "dU", "IID", "IIIU"] {
            assert!(of(together).may_meet(), "{together}");
            let (one, rest) = together.split_at(1);
            let mut joined = of(one);
            joined.join(of(rest));
            assert_eq!(joined, of(together));
        }
    }

    #[test]
    fn rows_of_one_key_are_looked_at_together_and_no_others() {
        let groups = |rows: &[(u8, i32, u64)]| {
            let brief = |at: usize| {
                let (op, channel, key) = rows[at];
                let keys = KeyHashes { from: key, to: key, stem: 0 };
                Brief { xid: 7, channel, op, command: 0, depth: 1, keys: Some(keys) }
            };
            let plan = Plan::of(rows.len(), brief);
            assert_eq!(plan.is_empty(), plan.groups.is_empty());
            plan.groups
        };
        assert!(groups(&[(b'U', 1, 5)]).is_empty());
        assert_eq!(groups(&[(b'U', 1, 5), (b'U', 1, 6), (b'U', 1, 5)]), [[0, 2]]);
        assert!(groups(&[(b'U', 1, 5), (b'U', 2, 5)]).is_empty(), "two channels have nothing in common");
        assert!(groups(&[(b'U', 1, 5), (b'T', 1, 0), (b'U', 1, 5)]).is_empty(), "nor what lies before a truncate");
    }

    #[test]
    fn a_truncate_divides_what_came_before_from_what_came_after() {
        let rows = [
            row(1, 7, b'U', Some(V[1]), Some(V[2])),
            row(2, 7, b'T', None, None),
            row(3, 7, b'U', Some(V[1]), Some(V[3])),
            row(4, 7, b'I', None, Some(V[1])),
        ];
        assert_eq!(shown(&rows), ["1 U {1}>{2}", "2 T ->-", "3 I ->{1}", "4 U {1}>{3}"]);
    }

    #[test]
    fn a_table_without_a_key_and_a_row_that_was_too_large_keep_their_place() {
        let by_id = |rows: [OutboxRow<'_>; 2]| assert_eq!(shown(&rows), ["1 U {1}>{2}", "2 U {0}>{1}"]);
        let rows = [row(1, 7, b'U', Some(V[1]), Some(V[2])), row(2, 7, b'U', Some(V[0]), Some(V[1]))];
        by_id(rows.map(|row| OutboxRow { channel: 2, ..row }));
        let key = r#"{"k":1,"p":"a"}"#;
        let rows = [
            row(1, 7, b'U', Some(V[1]), Some(V[2])),
            row(2, 7, b'u', Some(key), Some(key)),
            row(3, 7, b'U', Some(V[0]), Some(V[1])),
        ];
        assert_eq!(shown(&rows), ["1 U {0}>{1}".to_owned(), format!("2 u {key}>{key}"), "3 U {1}>{2}".to_owned()]);
        // nor does what is no row at all
        let rows =
            [row(1, 7, b'U', None, Some("null")), row(2, 7, b'U', Some("{"), Some(V[1])), row(3, 7, b'D', None, None)];
        assert_eq!(shown(&rows), ["1 U ->null", "2 U {>{1}", "3 D ->-"]);
    }

    #[test]
    fn a_row_that_moves_to_another_partition_is_updated_at_any_distance() {
        let (a, b) = (r#"{"k":1,"p":"a"}"#, r#"{"k":1,"p":"b","v":0}"#);
        let (again, c) = (r#"{"k":1,"p":"b","v":1}"#, r#"{"k":1,"p":"c"}"#);
        let rows = [
            row(1, 7, b'D', Some(a), None),
            row(2, 8, b'D', Some(OTHER[0]), None),
            row(3, 7, b'D', Some(OTHER[0]), None),
            row(4, 7, b'U', Some(b), Some(again)),
            row(5, 7, b'I', None, Some(OTHER[1])),
            row(6, 7, b'I', None, Some(b)),
            row(7, 8, b'I', None, Some(c)),
        ];
        let wanted = [
            format!("2 D {}>-", OTHER[0]),
            format!("3 D {}>-", OTHER[0]),
            format!("4 U {a}>{b}"),
            format!("5 I ->{}", OTHER[1]),
            format!("6 U {b}>{again}"),
            format!("7 I ->{c}"),
        ];
        assert_eq!(shown(&rows), wanted, "another key is another row, and so is the same key that came back");
    }

    #[test]
    fn rows_that_exchange_their_keys_have_whole_old_images() {
        let rows = [
            row(1, 7, b'U', Some(r#"{"k":1}"#), Some(r#"{"k":2,"p":"a","v":"x"}"#)),
            row(2, 7, b'U', Some(r#"{"k":2}"#), Some(r#"{"k":1,"p":"a","v":"y"}"#)),
        ];
        assert_eq!(
            shown(&rows),
            [r#"1 U {"x"}>{"y"}"#.to_owned(), r#"2 U {"k":2,"p":"a","v":"y"}>{"k":2,"p":"a","v":"x"}"#.to_owned()]
        );
    }
}
