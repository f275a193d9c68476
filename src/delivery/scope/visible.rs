//! What a view shows of a change. Pure: texts that are ready for a message; which of it shows is the projection's to say.

use std::borrow::Cow;

use super::label::Tag;
use super::memo::Memo;
use super::value::Value;
use crate::change::{Size, Update, ValueKind};
use crate::incarnations::Gap;
use crate::row::Columns;

/// What a view is told of a change.
#[derive(Debug, PartialEq, Eq)]
pub struct VisibleChange<'a> {
    /// the change's, or `entered` and `left` where an update moves the row across the filter
    pub action: &'a str,
    /// the row after the change; before it, where the row is gone for this view
    pub data: Cow<'a, str>,
    /// of an update
    pub changed: Cow<'a, [Box<str>]>,
    /// of an update
    pub old: Option<Cow<'a, str>>,
    /// the row is too large: `data` is its key
    pub omitted: bool,
    /// the change cannot be told; this is told in its place
    pub gap: Option<Gap>,
    /// the client is not told who wrote
    pub hides_actor: bool,
    /// the view's
    pub tag: Option<&'a Tag>,
}

/// What a user's view is told by a notification.
#[derive(Debug, PartialEq, Eq)]
pub struct VisibleNotification<'a> {
    /// its data, or what may be seen of it
    pub data: Cow<'a, str>,
    /// the row is too large: its other columns are missing
    pub omitted: bool,
    /// the client is not told who wrote
    pub hides_actor: bool,
}

/// The row of a change, after it and before it, where it has one.
pub struct RowImages<'a> {
    pub(super) after: Option<Columns<'a>>,
    /// of an update
    pub(super) before: Option<Columns<'a>>,
    pub(super) memo: Memo,
    /// columns are missing
    are_partial: bool,
}

impl<'a> VisibleChange<'a> {
    /// All of it.
    pub fn of(update: &'a Update) -> Self {
        let old = update.old_key.as_deref().map(Cow::Borrowed);
        let (data, changed) = (Cow::Borrowed(&*update.data), Cow::Borrowed(&*update.changed));
        let omitted = update.size == Size::Omitted;
        Self { action: &update.action, data, changed, old, omitted, gap: update.gap(), hides_actor: false, tag: None }
    }
}

impl<'a> RowImages<'a> {
    /// Looks into the JSON of a change.
    pub fn of(update: &'a Update) -> Self {
        let after = Columns::parse(&update.data);
        let old = update.old.as_deref().and_then(Columns::parse);
        let before = after.as_ref().zip(old).map(|(after, old)| after.overlaid(&old));
        Self { after, before, memo: Memo::default(), are_partial: !update.size.is_whole() }
    }

    /// What asking about it has cost so far, see [`Projection::work`](super::projection::Projection::work).
    pub(crate) fn work(&self) -> u64 {
        self.memo.work()
    }

    /// Whether every view must be asked: there is no row whose values would say which, or not all of it.
    pub(crate) fn concern_all(&self) -> bool {
        self.after.is_none() || self.are_partial
    }

    /// The values that a column has after and before the change.
    pub(crate) fn values(&self, column: &str, kind: ValueKind) -> impl Iterator<Item = Value> {
        let of = |row: &Option<Columns<'a>>| row.as_ref().and_then(|row| Value::of(kind, row.get(column)?));
        let (after, before) = (of(&self.after), of(&self.before));
        let before = before.filter(|before| after.as_ref() != Some(before));
        after.into_iter().chain(before)
    }
}
