//! The changes of a stretch of the stream as one for each row: how it was where the stretch begins, and how it is where that
//! ends. Pure. What was in between is shown to nobody by it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::change::{Change, Json, Size, Update};
use crate::row::Columns;

/// A change of a row that is known whole, before it and after it.
#[derive(Debug)]
pub struct RowChange {
    /// tells the row from every other one of its table
    pub name: Box<str>,
    /// the row before it, if it was there
    before: Option<Json>,
    /// whether the row is there after it
    is_there: bool,
    change: Change,
}

impl RowChange {
    /// `key` names the columns of the table's primary key. `None` where it is not the change of one row: the table was truncated, a
    /// row got another key, or is not known whole, or it was no row.
    pub fn of(change: &Change, key: &[Box<str>]) -> Option<Self> {
        let update = change.update.as_ref()?;
        let (before, is_there) = images(update)?;
        let name = name_of(&update.data, key)?.into();
        Some(Self { name, before, is_there, change: change.clone() })
    }

    /// The row after it, if it is there.
    fn after(&self) -> Option<&Json> {
        self.change.update.as_ref().filter(|_| self.is_there).map(|update| &update.data)
    }

    /// Bytes that it takes in memory, about.
    pub fn size(&self) -> u64 {
        self.change.size() + (self.name.len() + self.before.as_ref().map_or(0, |row| row.len())) as u64
    }
}

/// A stretch as far as it has come.
#[derive(Debug, Default)]
pub struct Folding {
    rows: HashMap<Box<str>, FoldedRow>,
}

/// A row over a stretch of the stream.
#[derive(Debug)]
struct FoldedRow {
    first: Arc<RowChange>,
    last: Arc<RowChange>,
    count: usize,
}

impl Folding {
    /// Goes on with the next change. Returns the bytes that this added, and those that it let go of.
    pub fn add(&mut self, change: &Arc<RowChange>) -> (u64, u64) {
        let freed = match self.rows.get_mut(&change.name) {
            Some(row) => {
                let freed = if row.count > 1 { row.last.size() } else { 0 };
                (row.last, row.count) = (change.clone(), row.count + 1);
                freed
            }
            None => {
                let (first, last) = (change.clone(), change.clone());
                self.rows.insert(change.name.clone(), FoldedRow { first, last, count: 1 });
                0
            }
        };
        (change.size(), freed)
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One change for each row, in the order in which they were changed last. A row that came and went is none.
    pub fn changes(self) -> Vec<FoldedChange> {
        let mut rows: Vec<(Box<str>, FoldedRow)> = self.rows.into_iter().collect();
        rows.sort_by_key(|(_, row)| row.last.change.id);
        rows.into_iter().filter_map(|(name, row)| row.change(name)).collect()
    }
}

/// What a stretch comes to for a row.
#[derive(Debug)]
pub struct FoldedChange {
    /// the row's
    pub name: Box<str>,
    /// the row where the stretch begins, if it was there
    pub before: Option<Json>,
    /// from there to where it ends
    pub change: Change,
}

/// One change for each row that was changed, in the order in which they were changed last. `changes` are those of one channel, in order;
/// `key` names the columns of its primary key.
///
/// `None` where that cannot be told from them, see [`RowChange::of`].
pub fn fold<'a>(changes: impl IntoIterator<Item = &'a Change>, key: &[Box<str>]) -> Option<Folded> {
    let mut folding = Folding::default();
    for change in changes {
        folding.add(&Arc::new(RowChange::of(change, key)?));
    }
    let names = folding.rows.keys().cloned().collect();
    Some(Folded { changes: folding.changes(), names })
}

/// What a stretch comes to.
#[derive(Debug)]
pub struct Folded {
    /// one for each row, in the order in which they were changed last
    pub changes: Vec<FoldedChange>,
    /// of the rows that were changed
    names: HashSet<Box<str>>,
}

impl Folded {
    /// Whether a row was changed; `None` where that cannot be told from it.
    pub fn has(&self, row: &str, key: &[Box<str>]) -> Option<bool> {
        Some(self.names.contains(&*name_of(row, key)?))
    }
}

/// Of a row that is not changed: one that leaves it as it is, at `at`, in microseconds since 1970.
pub fn unchanged(channel: Arc<str>, row: Json, at: i64) -> Change {
    let update = Update {
        channel,
        action: "updated".into(),
        data: row,
        changed: Vec::new(),
        old: Some("{}".into()),
        old_key: None,
        size: Size::Whole,
        is_published: false,
    };
    Change { id: 0, tx: 0, at, actor: None, update: Some(update), notification: None }
}

impl FoldedRow {
    /// Nothing where the row came and went.
    fn change(self, name: Box<str>) -> Option<FoldedChange> {
        let (before, last) = (self.first.before.clone(), &self.last.change);
        let update = last.update.as_ref()?;
        if self.count == 1 && !(update.action == "updated" && update.changed.is_empty()) {
            return Some(FoldedChange { name, before, change: last.clone() });
        }
        let (action, data, changed, old) = match (&before, self.last.after()) {
            (None, None) => return None,
            (None, Some(after)) => ("created", after.clone(), Vec::new(), None),
            (Some(before), None) => ("deleted", before.clone(), Vec::new(), None),
            (Some(before), Some(after)) => {
                // both were read before, for the row's name and its image
                let (was, is) = (Columns::parse(before)?, Columns::parse(after)?);
                let changed = is.differing_from(&was, &[]);
                if changed.is_empty() {
                    let change = unchanged(update.channel.clone(), after.clone(), last.at);
                    return Some(FoldedChange { name, before: Some(before.clone()), change });
                }
                let old = was.only(&changed);
                ("updated", after.clone(), changed, Some(old))
            }
        };
        let channel = update.channel.clone();
        let (size, is_published) = (Size::Whole, false);
        let update = Update { channel, action: action.into(), data, changed, old, old_key: None, size, is_published };
        let change = Change { update: Some(update), notification: None, ..last.clone() };
        Some(FoldedChange { name, before, change })
    }
}

/// The row before a change, if it was there, and whether it is there after it.
fn images(update: &Update) -> Option<(Option<Json>, bool)> {
    if !update.size.is_whole() || update.old_key.is_some() || update.is_published {
        return None;
    }
    match &*update.action {
        "created" => Some((None, true)),
        "deleted" => Some((Some(update.data.clone()), false)),
        "updated" => {
            let before = match update.old.as_deref() {
                Some(old) => Columns::parse(&update.data)?.overlaid(&Columns::parse(old)?).without(&[]),
                None if update.changed.is_empty() => update.data.clone(),
                None => return None,
            };
            Some((Some(before), true))
        }
        _ => None,
    }
}

/// Tells a row from every other one of its table.
fn name_of(row: &str, key: &[Box<str>]) -> Option<String> {
    let row = Columns::parse(row)?;
    let values: Option<Vec<&str>> = key.iter().map(|column| row.get(column).map(|value| value.get())).collect();
    values.filter(|values| !values.is_empty()).map(|values| values.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: i64, action: &'static str, data: &str, old: Option<&str>) -> Change {
        let changed = if old.is_some() { vec!["n".into()] } else { Vec::new() };
        let update = Update {
            channel: "pets".into(),
            action: action.into(),
            data: data.into(),
            changed,
            old: old.map(Into::into),
            old_key: None,
            size: Size::Whole,
            is_published: false,
        };
        Change { id, tx: 1, at: 0, actor: None, update: Some(update), notification: None }
    }

    fn folded(changes: &[Change]) -> Option<Vec<String>> {
        let folded = fold(changes, &["id".into()])?;
        let told = |folded: &FoldedChange| {
            let update = folded.change.update.as_ref().unwrap();
            format!("{} {} {:?} {}", update.action, update.data, update.changed, update.old.as_deref().unwrap_or("-"))
        };
        Some(folded.changes.iter().map(told).collect())
    }

    #[test]
    fn a_row_is_what_it_was_first_and_what_it_is_last() {
        let created = |id, row| change(id, "created", row, None);
        let deleted = |id, row| change(id, "deleted", row, None);
        let updated = |id, row, old| change(id, "updated", row, Some(old));
        let (one, two, three) = (r#"{"id":1,"n":1}"#, r#"{"id":1,"n":2}"#, r#"{"id":1,"n":3}"#);
        for (changes, wanted) in [
            (vec![created(1, one), updated(2, two, r#"{"n":1}"#)], vec![r#"created {"id":1,"n":2} [] -"#]),
            (vec![created(1, one), deleted(2, one)], vec![]),
            (vec![updated(1, two, r#"{"n":1}"#), deleted(2, two)], vec![r#"deleted {"id":1,"n":1} [] -"#]),
            (
                vec![updated(1, two, r#"{"n":1}"#), updated(2, three, r#"{"n":2}"#)],
                vec![r#"updated {"id":1,"n":3} ["n"] {"n":1}"#],
            ),
            // a client that did not see it before may see it now
            (
                vec![updated(1, two, r#"{"n":1}"#), updated(2, one, r#"{"n":2}"#)],
                vec![r#"updated {"id":1,"n":1} [] {}"#],
            ),
            (vec![deleted(1, one), created(2, one)], vec![r#"updated {"id":1,"n":1} [] {}"#]),
            (vec![deleted(1, one), created(2, two)], vec![r#"updated {"id":1,"n":2} ["n"] {"n":1}"#]),
            (
                vec![updated(1, two, r#"{"n":1}"#), created(2, r#"{"id":2,"n":1}"#), updated(3, three, r#"{"n":2}"#)],
                vec![r#"created {"id":2,"n":1} [] -"#, r#"updated {"id":1,"n":3} ["n"] {"n":1}"#],
            ),
        ] {
            assert_eq!(folded(&changes).unwrap(), wanted, "{changes:?}");
        }
    }

    #[test]
    fn a_change_that_is_a_rows_only_one_is_told_as_it_is_unless_nothing_differs() {
        let mut only = change(4, "created", r#"{"id":1,"n":1}"#, None);
        only.notification = Some(crate::change::Notification {
            users: vec!["5".into()],
            kind: "pet_created".into(),
            data: "{}".into(),
            omitted: false,
            is_chosen: false,
        });
        let told = |changes: &[Change]| fold(changes, &["id".into()]).unwrap().changes.pop().unwrap();
        let FoldedChange { before, change: as_it_is, .. } = told(&[only.clone()]);
        assert!(before.is_none() && as_it_is.notification.is_some());
        let updated = change(5, "updated", r#"{"id":1,"n":2}"#, Some(r#"{"n":1}"#));
        let FoldedChange { before, change: folded, .. } = told(&[only, updated.clone()]);
        assert!(before.is_none() && folded.notification.is_none(), "its users were told when it happened");
        let FoldedChange { before, change: as_it_is, .. } = told(&[updated]);
        assert_eq!((before.as_deref(), as_it_is.id), (Some(r#"{"id":1,"n":1}"#), 5));
        // a client that did not see it before may see it now
        let same = told(&[change(6, "updated", r#"{"id":1,"n":2}"#, None)]);
        assert_eq!((same.before.as_deref(), same.change.id), (Some(r#"{"id":1,"n":2}"#), 0));
    }

    #[test]
    fn a_stretch_knows_which_rows_were_changed() {
        let (created, deleted) = (change(1, "created", r#"{"id":1}"#, None), change(2, "deleted", r#"{"id":2}"#, None));
        let key = ["id".into()];
        let folded = fold([&created, &deleted], &key).unwrap();
        let has = |row| folded.has(row, &key);
        assert_eq!(
            [has(r#"{"id":1,"n":9}"#), has(r#"{"id":2}"#), has(r#"{"id":3}"#)],
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!(has(r#"{"n":1}"#), None, "it does not say which row it is");
    }

    #[test]
    fn what_is_not_known_of_each_row_is_not_folded() {
        let one = r#"{"id":1}"#;
        assert!(folded(&[change(1, "truncated", "null", None)]).is_none());
        assert!(folded(&[change(1, "painted", r#"{"id":1}"#, None)]).is_none());
        assert!(folded(&[change(1, "created", r#"{"n":1}"#, None)]).is_none(), "a row without its key");
        let mut unknown = change(1, "updated", r#"{"id":1}"#, None);
        unknown.update.as_mut().unwrap().changed = vec!["n".into()];
        assert!(folded(&[unknown]).is_none(), "nothing says what it was");
        let mut published = change(1, "updated", one, None);
        published.update.as_mut().unwrap().is_published = true;
        assert!(folded(&[published]).is_none());
        let mut moved = change(1, "updated", r#"{"id":2,"n":1}"#, Some(r#"{"id":1}"#));
        moved.update.as_mut().unwrap().old_key = Some(r#"{"id":1}"#.into());
        assert!(folded(&[moved]).is_none());
    }
}
