//! The order of rows inside a cut, where their ids do not tell it. Pure: rows in, rows out.
//!
//! Rows of a cut come by id, and ids are drawn under the row's lock, so two transactions can never be confused. Inside
//! one transaction there are two cases in which the trigger fires in another order than a subscriber would expect:
//!
//! * an application's own AFTER trigger updates the row again and fires before ours: 1 → 101 is captured before 0 → 1.
//!   The images tell: the later row ends where the earlier one begins. Their contents change places, their ids do not;
//! * a row that moves to another partition is captured as deleted there and created here: one `updated` is made of it.
//!
//! Both are neighbours within their transaction, though rows of others may lie between.

use std::collections::HashMap;

use super::catalog::Catalog;
use super::decode::{OutboxRow, is_same_row};

/// So many ids lie between neighbours at most: while one writer pauses for a few milliseconds between the two halves of
/// a move, others go on. Whoever reads a cut from its middle starts so many ids earlier.
pub const NEIGHBOURS: i64 = 4_096;
/// The same for two updates of one row, which no other statement comes between.
pub const NEAR: usize = 64;

/// An application's triggers that update one row again and again, one inside the other, more often than this?
const LONGEST_CHAIN: usize = 16;

/// Brings rows, given by id, into the order in which they happened.
pub fn settle<'a>(rows: Vec<OutboxRow<'a>>, catalog: &Catalog) -> Vec<OutboxRow<'a>> {
    let mut settled: Vec<Option<OutboxRow<'a>>> = Vec::with_capacity(rows.len());
    // where the rows of a transaction stand that may yet be corrected, the newest last
    let mut run: HashMap<u64, Vec<usize>> = HashMap::new();
    for row in rows {
        let at = settled.len();
        settled.push(Some(row));
        let run = run.entry(row.xid).or_default();
        let linked = run.last().and_then(|&last| settled[last]).is_some_and(|last| last.channel == row.channel);
        if !linked {
            run.clear();
        }
        run.push(at);
        if run.len() > LONGEST_CHAIN {
            run.remove(0);
        }
        if is_move(&settled, run, catalog) {
            fold(&mut settled, run);
        } else {
            sink(&mut settled, run);
        }
    }
    settled.into_iter().flatten().collect()
}

/// Whether the last two rows of a run are one row on its way to another partition.
fn is_move(settled: &[Option<OutboxRow<'_>>], run: &[usize], catalog: &Catalog) -> bool {
    let &[.., gone, here] = run else { return false };
    let (Some(gone), Some(here)) = (settled[gone], settled[here]) else { return false };
    gone.op == b'D'
        && here.op == b'I'
        && catalog.get(here.channel).is_some_and(|channel| is_same_row(&gone, &here, channel))
}

fn fold(settled: &mut [Option<OutboxRow<'_>>], run: &mut Vec<usize>) {
    let &[.., from, to] = &run[..] else { return };
    let gone = settled[from].take();
    if let (Some(gone), Some(here)) = (gone, &mut settled[to]) {
        here.op = b'U';
        here.old = gone.old;
        here.users = here.users.or(gone.users);
    }
    run.remove(run.len() - 2);
}

/// Moves the last row of a run up to where a chain begins that it must have come before: 1 → 2 → 3, and then 0 → 1.
fn sink(settled: &mut [Option<OutboxRow<'_>>], run: &[usize]) {
    // nearly no row is one: look before anything is collected
    let Some(new) = run.last().and_then(|&at| settled[at]).and_then(|last| last.new) else { return };
    if !run[..run.len() - 1].iter().any(|&at| settled[at].is_some_and(|earlier| earlier.old == Some(new))) {
        return;
    }
    let rows: Vec<OutboxRow<'_>> = run.iter().filter_map(|&at| settled[at]).collect();
    let Some((last, chain)) = rows.split_last() else { return };
    let linked = |pair: &[OutboxRow<'_>]| pair[0].new == pair[1].old;
    let start = chain.windows(2).rposition(|pair| !linked(pair)).map_or(0, |broken| broken + 1);
    let Some((first, newest)) = chain[start..].first().zip(chain.last()) else { return };
    let inverted = first.op == b'U' && first.old == Some(new) && last.old != newest.new;
    if !inverted {
        return;
    }
    // contents change places, ids and times stay
    let contents = std::iter::once(last).chain(&chain[start..]);
    for ((&at, place), content) in run[start..].iter().zip(&rows[start..]).zip(contents) {
        settled[at] = Some(OutboxRow { id: place.id, at: place.at, ..*content });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::Channel;

    fn row<'a>(id: i64, xid: u64, op: u8, old: Option<&'a str>, new: Option<&'a str>) -> OutboxRow<'a> {
        OutboxRow { id, xid, at: id, channel: 1, op, old, new, actor: None, users: None }
    }

    fn parts() -> Catalog {
        let (key, partitioned_by) = (vec!["k".into(), "p".into()], vec!["p".into()]);
        let channel = Channel { key, partitioned_by, ..Channel::named("parts") };
        Catalog::of([(1, channel)])
    }

    fn shown(rows: &[OutboxRow<'_>]) -> Vec<String> {
        rows.iter()
            .map(|r| format!("{} {} {}>{}", r.id, char::from(r.op), r.old.unwrap_or("-"), r.new.unwrap_or("-")))
            .collect()
    }

    #[test]
    fn an_inverted_chain_is_put_right_across_rows_of_others() {
        let rows = vec![
            row(1, 7, b'U', Some("2"), Some("3")),
            row(2, 8, b'U', Some("2"), Some("9")),
            row(3, 7, b'U', Some("1"), Some("2")),
            row(4, 7, b'I', None, Some("1")),
        ];
        assert_eq!(shown(&settle(rows, &parts())), ["1 I ->1", "2 U 2>9", "3 U 1>2", "4 U 2>3"]);
    }

    #[test]
    fn a_value_that_comes_back_is_no_inversion() {
        let rows = vec![row(1, 7, b'U', Some("1"), Some("2")), row(2, 7, b'U', Some("2"), Some("1"))];
        assert_eq!(shown(&settle(rows, &parts())), ["1 U 1>2", "2 U 2>1"]);
    }

    #[test]
    fn a_row_that_moves_to_another_partition_is_updated() {
        let (a, b) = (r#"{"k":1,"p":"a"}"#, r#"{"k":1,"p":"b"}"#);
        let other = r#"{"k":2,"p":"b"}"#;
        let rows = vec![
            row(1, 7, b'D', Some(a), None),
            row(2, 8, b'D', Some(other), None),
            row(3, 7, b'I', None, Some(b)),
            row(4, 8, b'I', None, Some(a)),
        ];
        let settled = settle(rows, &parts());
        assert_eq!(shown(&settled)[1], format!("3 U {a}>{b}"));
        assert_eq!(settled.len(), 3, "another key is another row: {:?}", shown(&settled));
    }
}
