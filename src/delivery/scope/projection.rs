//! What a subscriber is shown of a channel: which rows, which columns of them, and what was there before. Pure.
//!
//! Equal wishes share one view, so a change is looked at once for each distinct wish, however many sockets have it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::filter::{self, Condition, Missing, Must};
use super::grant::{Grant, Rights};
use super::label::Tag;
use super::memo::Memo;
use super::selection::Selection;
use super::telling::Telling;
use super::value::Value;
use super::visible::{RowImages, VisibleChange, VisibleNotification};
use crate::change::{Change, Column, Json, Notification, Size, Update, ValueKind};
use crate::incarnations::Gap;
use crate::request::{Members, Predicate};
use crate::row::Columns;

/// Columns of a table at most, as Postgres has it. A channel without a table has no others to compare with.
const COLUMNS: usize = 1600;

/// A wish that the channel's columns allow.
#[derive(Debug, Default)]
pub struct Projection {
    /// those of the grant first
    conditions: Vec<Condition>,
    granted: usize,
    columns: Option<Vec<Box<str>>>,
    telling: Telling,
    /// the primary key, where rows are told from each other by it
    key: Vec<Box<str>>,
    mark: String,
    tag: Option<Tag>,
    hides_actor: bool,
    /// of a user's notifications, of which only a part may be seen
    notices: Option<Box<Notices>>,
}

/// Values of which a row must have one.
#[derive(Debug, Clone, Copy)]
pub enum Needed<'a> {
    /// these
    OneOf(&'a [Value]),
    /// those that a holder has, of a column of this kind
    Held(&'a Members, ValueKind),
}

impl<'a> Needed<'a> {
    /// Tells `take` each of them.
    pub fn each(&self, mut take: impl FnMut(Cow<'a, Value>)) {
        match *self {
            Self::OneOf(values) => values.iter().for_each(|value| take(Cow::Borrowed(value))),
            Self::Held(held, kind) => {
                let values = held.iter().filter_map(|text| Value::parse(kind, text));
                values.for_each(|value| take(Cow::Owned(value)));
            }
        }
    }

    /// Whether this is one of them.
    pub fn has(&self, value: &Value) -> bool {
        match self {
            Self::OneOf(values) => values.contains(value),
            Self::Held(held, _) => value.is_among(held),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::OneOf(values) => values.len(),
            Self::Held(held, _) => held.len(),
        }
    }
}

/// What may be seen of a user's notifications.
#[derive(Debug, Default)]
struct Notices {
    /// of those that tell rows, by channel; none of the others
    rows: HashMap<Arc<str>, Projection>,
    shows_sender: bool,
}

/// Why a wish cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit(
    /// for people
    pub String,
);

impl Unfit {
    /// The policy no longer fits the table, or the claims do not fit its columns: nothing is shown, and nothing of the
    /// policy told.
    fn grant() -> Self {
        Self("what this token may see of the channel cannot be told from its rows".to_owned())
    }
}

/// The columns of the primary key, each of which is among those that are shown.
///
/// # Errors
/// [`Unfit`], for people: of a key that may not be seen the same as of one that is not there.
fn key_of(known: Option<&[Column]>, shown: Option<&[Box<str>]>) -> Result<Vec<Box<str>>, Unfit> {
    let key: Vec<Box<str>> =
        known.into_iter().flatten().filter(|column| column.is_key).map(|column| column.name.clone()).collect();
    let is_shown = shown.is_none_or(|shown| key.iter().all(|name| shown.contains(name)));
    if key.is_empty() || !is_shown {
        let text = "latest and changed tell rows from each other by their primary key, which is not among the columns";
        return Err(Unfit(text.to_owned()));
    }
    Ok(key)
}

impl Projection {
    /// Holds a wish against the channel's columns; `None` where it has no table.
    ///
    /// # Errors
    /// [`Unfit`], for people.
    pub fn compile(selection: &Selection, columns: Option<&[Column]>) -> Result<Self, Unfit> {
        if selection.filters.len() > filter::CONDITIONS {
            let text = format!("{} filters are too many: {} are allowed", selection.filters.len(), filter::CONDITIONS);
            return Err(Unfit(text));
        }
        if let Some(names) = selection.columns.as_ref().filter(|names| names.len() > COLUMNS) {
            return Err(Unfit(format!("{} columns are too many: a table has {COLUMNS} at most", names.len())));
        }
        let mut conditions = Vec::new();
        let known = columns;
        let (mut visible, mut granted) = (columns.map(Cow::Borrowed), None);
        if let Some(grant) = &selection.grant {
            // what the policy filters by may be hidden from its holder
            for text in &grant.filters {
                let condition = Condition::granted(text, columns, &grant.members).map_err(|_| Unfit::grant())?;
                if condition.tests().iter().any(|test| is_another(grant, &test.column, columns)) {
                    return Err(Unfit::grant());
                }
                conditions.extend(condition.flattened());
            }
            if let Some(names) = &grant.columns {
                let names: Vec<_> = names.iter().filter(|name| !is_another(grant, name, columns)).cloned().collect();
                if names.iter().any(|name| filter::kind_of(name, columns).is_err()) {
                    return Err(Unfit::grant());
                }
                // for its holder there are no others: also a filter would tell what is in them
                let seen = |column: &&Column| names.iter().any(|name| **name == *column.name);
                let known = columns.map_or_else(
                    || {
                        names
                            .iter()
                            .map(|name| Column { name: name.clone(), kind: ValueKind::Any, number: 0, is_key: false })
                            .collect()
                    },
                    |columns| columns.iter().filter(seen).cloned().collect(),
                );
                (visible, granted) = (Some(Cow::Owned(known)), Some(names));
            }
        }
        let conditions_granted = conditions.len();
        let mut tests = 0;
        for text in &selection.filters {
            let condition = Condition::compile(text, visible.as_deref()).map_err(Unfit)?;
            tests += condition.tests().len();
            if tests > filter::TESTS {
                return Err(Unfit(format!("more than {} tests are too many, in all filters together", filter::TESTS)));
            }
            conditions.extend(condition.flattened());
        }
        for name in selection.columns.iter().flatten() {
            filter::kind_of(name, visible.as_deref()).map_err(|what| Unfit(format!("columns: {what}")))?;
        }
        let columns = selection.columns.clone().or(granted);
        let hides_actor = selection.grant.as_ref().is_some_and(|grant| grant.hides_actor);
        let telling = selection.telling;
        let key = if telling.needs_key() { key_of(known, columns.as_deref())? } else { Vec::new() };
        let (granted, mark, tag) = (conditions_granted, selection.mark(), selection.tag().cloned());
        Ok(Self { conditions, granted, columns, telling, key, mark, tag, hides_actor, notices: None })
    }

    /// Of a user's notifications; `columns` are those of a channel, where it has a table. What no longer fits its table
    /// shows nothing.
    pub fn of_notifications<'a>(rights: &Rights, columns: impl Fn(&str) -> Option<Option<&'a [Column]>>) -> Self {
        let projection = |(channel, grant): &(Arc<str>, Grant)| {
            let projection = Self::compile(&Selection::default().within(grant.clone()), columns(channel)?).ok()?;
            Some((channel.clone(), projection))
        };
        let rows = rights.channels.iter().filter_map(projection).collect();
        let notices = Notices { rows, shows_sender: rights.shows_sender };
        Self { mark: rights.mark(), notices: Some(Box::new(notices)), ..Self::default() }
    }

    /// What this user's view is told by the notification of a change; `None`: nothing.
    pub fn notice<'a>(&'a self, change: &'a Change, told: &'a Notification) -> Option<VisibleNotification<'a>> {
        let omitted = told.omitted;
        let whole = |hides_actor| Some(VisibleNotification { data: Cow::Borrowed(&*told.data), omitted, hides_actor });
        let Some(notices) = &self.notices else { return whole(false) };
        let Some(update) = &change.update else { return whole(!notices.shows_sender) };
        let projection = notices.rows.get(&update.channel);
        if told.is_chosen {
            return whole(projection.is_none_or(|projection| projection.hides_actor));
        }
        // of a large row it may not be known whether it may be seen
        let shown = projection?.show(update, &RowImages::of(update)).filter(|shown| shown.gap.is_none())?;
        Some(VisibleNotification { data: shown.data, omitted, hides_actor: shown.hides_actor })
    }

    /// What this view is told of an update; `None`: nothing.
    pub fn show<'a>(&'a self, update: &'a Update, images: &RowImages<'a>) -> Option<VisibleChange<'a>> {
        self.show_after(self, update, images)
    }

    /// What is told of an update to a subscriber that was shown the row before it through `before`; `None`: nothing.
    pub fn show_after<'a>(
        &'a self,
        before: &Self,
        update: &'a Update,
        images: &RowImages<'a>,
    ) -> Option<VisibleChange<'a>> {
        let seen = self.look(before, update, images)?;
        Some(VisibleChange { hides_actor: self.hides_actor, tag: self.tag.as_ref(), ..seen })
    }

    fn look<'a>(&self, before: &Self, update: &'a Update, images: &RowImages<'a>) -> Option<VisibleChange<'a>> {
        // these are for everybody
        if (update.action == "truncated" && &*update.data == "null") || update.gap().is_some() {
            return Some(VisibleChange::of(update));
        }
        let Some(after) = &images.after else {
            // a publication that is no row: nothing says whether its parts may be seen
            return (self.conditions.is_empty() && self.columns.is_none()).then(|| VisibleChange::of(update));
        };
        if !update.size.is_whole() {
            return self.show_large(update, after, &images.memo);
        }
        let action = match &images.before {
            // of a deleted row the image is of before
            None if update.action == "deleted" && before.wants(after, &images.memo) => "deleted",
            None if update.action != "deleted" && self.wants(after, &images.memo) => &*update.action,
            None => return None,
            Some(row) => match (before.wants(row, &images.memo), self.wants(after, &images.memo)) {
                (false, false) => return None,
                (false, true) => "entered",
                (true, false) => "left",
                (true, true) => "updated",
            },
        };
        let (changed, old): (Cow<'a, [Box<str>]>, Option<&'a Json>) = match action {
            "entered" | "left" => (Cow::Borrowed(&[]), None),
            _ => (
                self.visible(&update.changed),
                if self.telling.old { update.old.as_ref() } else { update.old_key.as_ref() },
            ),
        };
        if changed.is_empty() && !update.changed.is_empty() && action == "updated" {
            return None;
        }
        let row = images.before.as_ref().filter(|_| action == "left").unwrap_or(after);
        let data = match &self.columns {
            // where a row takes another key, a client may know another row by the old one
            _ if self.telling.changed
                && !update.is_published
                && (matches!(action, "deleted" | "left") || (action == "updated" && update.old_key.is_none())) =>
            {
                let told: Vec<Box<str>> = self.key.iter().chain(&*changed).cloned().collect();
                Cow::Owned(row.only(&told).into())
            }
            Some(columns) => Cow::Owned(row.only(columns).into()),
            None if action == "left" => Cow::Owned(row.without(&[]).into()),
            None => Cow::Borrowed(&*update.data),
        };
        let old = old.and_then(|old| self.shown_of(old));
        Some(VisibleChange { action, data, changed, old, omitted: false, gap: None, hides_actor: false, tag: None })
    }

    /// What is told where of the row after the change there may be only the key, and of the row before nothing else.
    /// Whether it is, or was, in this view may not be known: then a gap is told.
    fn show_large<'a>(&self, update: &'a Update, after: &Columns<'_>, memo: &Memo) -> Option<VisibleChange<'a>> {
        let action = match (&*update.action, self.judge(after, memo)) {
            (action, _) if self.conditions.is_empty() => action,
            ("updated", Some(true)) => "entered",
            (action, Some(true)) => action,
            ("created" | "deleted", Some(false)) => return None,
            _ => return Some(VisibleChange { gap: Some(Gap::Unreadable), ..VisibleChange::of(update) }),
        };
        let data = match &self.columns {
            Some(columns) => Cow::Owned(after.only(columns).into()),
            None => Cow::Borrowed(&*update.data),
        };
        let (changed, old) = match action {
            "updated" => (self.visible(&update.changed), update.old_key.as_ref().and_then(|old| self.shown_of(old))),
            _ => (Cow::Borrowed(&[][..]), None),
        };
        Some(VisibleChange {
            action,
            data,
            changed,
            old,
            omitted: update.size == Size::Omitted,
            gap: None,
            hides_actor: false,
            tag: None,
        })
    }

    /// The columns of an old image that this view shows.
    fn shown_of<'a>(&self, old: &'a Json) -> Option<Cow<'a, str>> {
        let Some(columns) = &self.columns else { return Some(Cow::Borrowed(&**old)) };
        let old = Columns::parse(old)?.only(columns);
        (&*old != "{}").then(|| Cow::Owned(old.into()))
    }

    /// Whether a row of which columns are missing satisfies the conditions; `None` where that cannot be told.
    fn judge(&self, row: &Columns<'_>, memo: &Memo) -> Option<bool> {
        let mut known = Some(true);
        for condition in &self.conditions {
            match condition.verdict(row, Missing::IsUntold, memo).is_satisfied() {
                None => known = None,
                Some(false) => return Some(false),
                Some(true) => {}
            }
        }
        known
    }

    /// The primary key, where rows are told from each other by it; else empty.
    pub(crate) fn key_columns(&self) -> &[Box<str>] {
        &self.key
    }

    /// Follows the cursors of this view, see [`Grant::mark`].
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// A row of a snapshot, as this view sees it.
    pub fn row<'a>(&self, json: &'a str) -> Option<Cow<'a, str>> {
        if self.conditions.is_empty() && self.columns.is_none() {
            return Some(Cow::Borrowed(json));
        }
        let row = Columns::parse(json).filter(|row| self.wants(row, &Memo::default()))?;
        Some(self.columns.as_ref().map_or(Cow::Borrowed(json), |columns| Cow::Owned(row.only(columns).into())))
    }

    /// The key of a row of a snapshot that is longer than `row_bytes`; nothing where it does not tell that the row is in
    /// this view.
    pub fn key<'a>(&self, json: &'a str) -> Option<Cow<'a, str>> {
        let row = Columns::parse(json).filter(|row| self.judge(row, &Memo::default()) == Some(true))?;
        Some(self.columns.as_ref().map_or(Cow::Borrowed(json), |columns| Cow::Owned(row.only(columns).into())))
    }

    /// A column that must have one of some values, if there is such a condition: only changes whose row has one of
    /// them, before or after, concern this view.
    pub fn needs(&self) -> Option<(&str, ValueKind, Needed<'_>)> {
        let lists = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Test(test) => match &test.what {
                Must::In(values) => Some((&*test.column, test.kind, Needed::OneOf(values))),
                Must::Among(held) => Some((&*test.column, test.kind, Needed::Held(held, test.kind))),
                Must::Is(value) => Some((&*test.column, test.kind, Needed::OneOf(std::slice::from_ref(value)))),
                _ => None,
            },
            // of these it must have this or that
            Condition::All(_) | Condition::Any(_) | Condition::Not(_) => None,
        });
        lists.min_by_key(|(_, kind, needed)| (matches!(kind, ValueKind::Bool | ValueKind::Enum), needed.len()))
    }

    /// Which rows satisfy the conditions, for the database: those of the policy and those of the client.
    pub fn predicate(&self) -> Predicate {
        Predicate::All(self.conditions.iter().map(Condition::predicate).collect())
    }

    /// Which rows may be in one of this view and `before` alone, which is the same but for what its holder has of claims.
    /// `None` where that takes too many values to say.
    pub fn difference(&self, before: &Self) -> Option<Predicate> {
        debug_assert_eq!(self.conditions.len(), before.conditions.len(), "views of one wish");
        let (mut all, mut any) = (Vec::new(), Vec::new());
        for (now, before) in self.conditions.iter().zip(&before.conditions) {
            let differing = now.differing(before)?;
            if differing.is_empty() {
                all.push(now.predicate());
            }
            any.extend(differing);
        }
        Some(Predicate::All([all, vec![Predicate::Any(any)]].concat()))
    }

    /// What it costs to ask it about a row of so many bytes, about: bytes of text that are gone through, at a nanosecond
    /// each.
    pub fn work(&self, bytes: u64) -> u64 {
        self.conditions.iter().map(|condition| condition.work(bytes)).sum()
    }

    /// Whether it goes through the text of a row, so that a long one takes long.
    pub fn reads_text(&self) -> bool {
        self.work(1) > self.work(0)
    }

    fn wants(&self, row: &Columns<'_>, memo: &Memo) -> bool {
        self.conditions.iter().enumerate().all(|(i, condition)| {
            // renamed or dropped, and the policy not yet: not the null that a policy may ask for
            let missing = if i < self.granted { Missing::IsUntold } else { Missing::IsNull };
            condition.admits(row, missing, memo)
        })
    }

    fn visible<'a>(&self, changed: &'a [Box<str>]) -> Cow<'a, [Box<str>]> {
        match &self.columns {
            None => Cow::Borrowed(changed),
            Some(columns) => changed.iter().filter(|name| columns.contains(name)).cloned().collect(),
        }
    }
}

/// Whether the column of this name is another one than a policy means.
fn is_another(grant: &Grant, name: &str, columns: Option<&[Column]>) -> bool {
    columns.into_iter().flatten().any(|column| *column.name == *name && grant.means_another(column))
}

#[cfg(test)]
mod tests;
