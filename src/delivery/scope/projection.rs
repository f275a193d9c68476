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
    old: bool,
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
                            .map(|name| Column { name: name.clone(), kind: ValueKind::Any, number: 0 })
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
        let (granted, old, mark, tag) = (conditions_granted, selection.old, selection.mark(), selection.tag().cloned());
        Ok(Self { conditions, granted, columns, old, mark, tag, hides_actor, notices: None })
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

    /// What is told of an update to whoever was shown the row before it through `before`; `None`: nothing.
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
            _ => (self.visible(&update.changed), if self.old { update.old.as_ref() } else { update.old_key.as_ref() }),
        };
        if changed.is_empty() && !update.changed.is_empty() && action == "updated" {
            return None;
        }
        let row = images.before.as_ref().filter(|_| action == "left").unwrap_or(after);
        let data = match &self.columns {
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

/// Whether a name that a policy means is that of another column now: nothing was said of that one.
fn is_another(grant: &Grant, name: &str, columns: Option<&[Column]>) -> bool {
    let Some((_, meant)) = grant.bound.iter().find(|(bound, _)| **bound == *name) else { return false };
    columns.into_iter().flatten().any(|column| *column.name == *name && column.number != *meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projection(filters: &[&str], columns: Option<&[&str]>, old: bool) -> Projection {
        let known = [
            ("id", ValueKind::Integer),
            ("owner", ValueKind::Integer),
            ("name", ValueKind::Text),
            ("done", ValueKind::Bool),
        ]
        .map(|(name, kind)| Column { name: name.into(), kind, number: 0 });
        let columns = columns.map(|columns| columns.iter().map(ToString::to_string).collect());
        let selection = Selection::new(filters.iter().map(ToString::to_string), columns, old);
        Projection::compile(&selection, Some(&known)).unwrap()
    }

    fn update(action: &'static str, data: &str, changed: &[&str], old: Option<&str>) -> Update {
        Update {
            channel: "pets".into(),
            action: action.into(),
            data: data.into(),
            changed: changed.iter().map(|&name| name.into()).collect(),
            old: old.map(Into::into),
            old_key: None,
            size: crate::change::Size::Whole,
            is_published: false,
        }
    }

    /// action, data, changed, old
    fn shown(projection: &Projection, update: &Update) -> Option<(String, String, String, Option<String>)> {
        let shown = projection.show(update, &RowImages::of(update))?;
        Some((
            shown.action.to_owned(),
            shown.data.to_string(),
            shown.changed.join(","),
            shown.old.map(|old| old.to_string()),
        ))
    }

    fn told(
        action: &str,
        data: &str,
        changed: &str,
        old: Option<&str>,
    ) -> Option<(String, String, String, Option<String>)> {
        Some((action.into(), data.into(), changed.into(), old.map(Into::into)))
    }

    #[test]
    fn a_row_that_crosses_the_filter_enters_and_leaves() {
        let moved = update("updated", r#"{"id":1,"owner":8,"name":"Luna"}"#, &["owner"], Some(r#"{"owner":7}"#));
        assert_eq!(
            shown(&projection(&["owner=eq.8"], None, false), &moved),
            told("entered", r#"{"id":1,"owner":8,"name":"Luna"}"#, "", None)
        );
        assert_eq!(
            shown(&projection(&["owner=eq.7"], None, false), &moved),
            told("left", r#"{"id":1,"owner":7,"name":"Luna"}"#, "", None),
            "what it could see before, and nothing of what is there now"
        );
        assert_eq!(shown(&projection(&["owner=eq.9"], None, true), &moved), None);
        assert_eq!(
            shown(&projection(&["owner=in.(7,8)"], None, true), &moved),
            told("updated", r#"{"id":1,"owner":8,"name":"Luna"}"#, "owner", Some(r#"{"owner":7}"#))
        );
    }

    #[test]
    fn only_the_columns_that_were_asked_for_are_shown() {
        let projection = projection(&["owner=eq.7"], Some(&["id", "name"]), true);
        let row = r#"{"id":1,"owner":7,"name":"Luna"}"#;
        assert_eq!(
            shown(&projection, &update("created", row, &[], None)),
            told("created", r#"{"id":1,"name":"Luna"}"#, "", None)
        );
        let renamed = update("updated", row, &["owner", "name"], Some(r#"{"owner":7.0,"name":"Lu"}"#));
        assert_eq!(
            shown(&projection, &renamed),
            told("updated", r#"{"id":1,"name":"Luna"}"#, "name", Some(r#"{"name":"Lu"}"#))
        );
        let unseen = update("updated", row, &["owner"], Some(r#"{"owner":7.0}"#));
        assert_eq!(shown(&projection, &unseen), None, "nothing that it sees is different");
        assert_eq!(projection.row(row).unwrap(), r#"{"id":1,"name":"Luna"}"#);
        assert_eq!(projection.row(r#"{"id":1,"owner":8}"#), None);
    }

    #[test]
    fn of_a_large_row_a_view_is_told_what_is_known_and_a_gap_where_nothing_is() {
        let large = |action: &'static str, data: &str, size| Update { size, ..update(action, data, &[], None) };
        let told = |projection: &Projection, update: &Update| {
            let shown = projection.show(update, &RowImages::of(update))?;
            Some((shown.action.to_owned(), shown.data.to_string(), shown.omitted, shown.gap.is_some()))
        };
        let (key, whole) = (r#"{"id":1}"#, r#"{"id":1,"owner":7,"name":"L"}"#);
        let gap = |told: Option<(String, String, bool, bool)>| told.is_some_and(|(.., gap)| gap);
        let (all, by_key, by_owner) = (
            projection(&[], Some(&["id"]), true),
            projection(&["id=eq.1"], None, true),
            projection(&["owner=eq.7"], None, true),
        );
        for action in ["created", "updated", "deleted"] {
            let omitted = large(action, key, Size::Omitted);
            assert_eq!(told(&all, &omitted), Some((action.into(), key.into(), true, false)));
            assert!(gap(told(&by_owner, &omitted)), "{action}: whose row it is, is not known");
        }
        assert_eq!(
            told(&by_key, &large("updated", key, Size::Omitted)),
            Some(("entered".into(), key.into(), true, false))
        );
        assert_eq!(told(&by_key, &large("created", r#"{"id":2}"#, Size::Omitted)), None);
        assert!(gap(told(&by_key, &large("updated", r#"{"id":2}"#, Size::Omitted))), "it may have been 1");
        let shrunk = large("updated", whole, Size::BeforeOmitted);
        assert_eq!(told(&by_owner, &shrunk), Some(("entered".into(), whole.into(), false, false)));
        assert!(gap(told(&projection(&["owner=eq.8"], None, true), &shrunk)), "it may have been 8");
    }

    #[test]
    fn logic_is_that_of_sql() {
        let row = |json: &str, filters: &[&str]| projection(filters, None, false).row(json).is_some();
        let (seven, null) =
            (r#"{"id":1,"owner":7,"name":"Luna","done":false}"#, r#"{"id":1,"owner":null,"name":null,"done":null}"#);
        for (filter, holds_of_seven, holds_of_null) in [
            ("owner=eq.7", true, false),
            ("owner=not.eq.7", false, false),
            ("owner=not.eq.5", true, false),
            ("owner=not.is.null", true, false),
            ("done=is.true", false, false),
            ("done=not.is.true", true, true),
            ("done=not.eq.true", true, false),
            ("done=not.is.false", false, true),
            ("or=(owner.eq.7,name.eq.Rex)", true, false),
            ("not.or=(owner.eq.5,name.eq.Rex)", true, false),
            ("or=(owner.eq.5,name.is.null)", false, true),
            ("not.and=(owner.eq.5,name.is.not_null)", true, true),
            ("and=(id.eq.1,or(owner.not.in.(7,8),not.and(name.like.L*,id.gt.1)))", true, true),
        ] {
            assert_eq!((row(seven, &[filter]), row(null, &[filter])), (holds_of_seven, holds_of_null), "{filter}");
        }
        assert!(row(seven, &["or=(owner.eq.7,owner.eq.8)", "name=eq.Luna"]));
        assert!(!row(seven, &["or=(owner.eq.7,owner.eq.8)", "name=eq.Rex"]));
    }

    #[test]
    fn of_a_row_that_is_not_all_there_what_cannot_be_told_is_not_null() {
        let key = Columns::parse(r#"{"id":1,"name":null}"#).unwrap();
        for (filter, told) in [
            ("owner=is.null", None),
            ("owner=not.is.null", None),
            ("owner=eq.7", None),
            ("name=eq.Luna", Some(false)),
            ("name=not.eq.Luna", Some(false)),
            ("or=(id.eq.1,owner.eq.7)", Some(true)),
            ("or=(id.eq.2,owner.eq.7)", None),
            ("or=(name.eq.Luna,owner.eq.7)", None),
            ("and=(id.eq.2,owner.eq.7)", Some(false)),
            // null and anything is false or null
            ("and=(name.eq.Luna,owner.eq.7)", Some(false)),
            ("not.and=(name.eq.Luna,owner.eq.7)", None),
            ("not.and=(id.eq.2,owner.eq.7)", Some(true)),
            ("not.or=(id.eq.1,owner.eq.7)", Some(false)),
        ] {
            assert_eq!(projection(&[filter], None, false).judge(&key, &Memo::default()), told, "{filter}");
        }
    }

    #[test]
    fn a_group_tells_nothing_of_a_hidden_column_and_narrows_only_where_it_must_hold() {
        let known = [("id", ValueKind::Integer), ("owner", ValueKind::Integer), ("name", ValueKind::Text)]
            .map(|(name, kind)| Column { name: name.into(), kind, number: 0 });
        let grant = Grant { columns: Some(vec!["id".into(), "name".into()]), ..Grant::default() };
        for hidden in ["or=(id.eq.1,and(name.is.null,owner.gt.3))", "not.and=(id.eq.1,\"owner\".not.eq.3)"] {
            let selection = Selection::new([hidden.to_owned()], None, false).within(grant.clone());
            assert!(!selection.sees_what_it_names(&known), "as if there were none");
            let of_hidden = Projection::compile(&selection, Some(&known)).unwrap_err().0;
            let gone = Selection::new([hidden.replace("owner", "gone")], None, false).within(grant.clone());
            let of_gone = Projection::compile(&gone, Some(&known)).unwrap_err().0;
            assert_eq!(of_hidden.replace("owner", "gone"), of_gone);
        }
        let policy =
            Grant { filters: vec!["or=(owner.eq.7,name.eq.x)".into()], bound: vec![("name".into(), 9)], ..grant };
        let compiled = Projection::compile(&Selection::default().within(policy), Some(&known));
        assert_eq!(compiled.unwrap_err(), Unfit::grant(), "another column has taken a name");
        let needs = |filter: &str| projection(&[filter], None, false).needs().map(|(column, ..)| column.to_owned());
        assert_eq!(needs("or=(owner.eq.7,id.eq.8)"), None);
        assert_eq!(needs("owner=not.eq.7"), None);
        assert_eq!(needs("and=(name.gt.a,and(owner.eq.7))").as_deref(), Some("owner"));
    }

    #[test]
    fn of_a_renamed_column_a_policy_shows_what_it_would_show_whatever_was_in_it() {
        let known = [("id", ValueKind::Integer), ("name", ValueKind::Text)].map(|(name, kind)| Column {
            name: name.into(),
            kind,
            number: 0,
        });
        let of = |filter: &str| {
            let grant = Grant { filters: vec![filter.into()], ..Grant::default() };
            Projection::compile(&Selection::default().within(grant), Some(&known)).unwrap()
        };
        let renamed = r#"{"id":1,"title":"Luna"}"#;
        assert!(of("or=(id.eq.1,name.eq.Luna)").row(renamed).is_some());
        for filter in ["or=(id.eq.2,name.is.null)", "not.or=(id.eq.2,name.eq.Luna)", "name=not.eq.Luna"] {
            assert_eq!(of(filter).row(renamed), None, "{filter}");
        }
    }

    #[test]
    fn a_selection_has_so_many_tests() {
        let known = [Column { name: "a".into(), kind: ValueKind::Integer, number: 0 }];
        let group = |tests: usize| format!("or=({})", vec!["a.eq.1"; tests].join(","));
        let compile = |filters: Vec<String>| Projection::compile(&Selection::new(filters, None, false), Some(&known));
        assert!(compile(vec![group(60), group(40)]).is_ok());
        assert!(compile(vec![group(60), group(41)]).unwrap_err().0.contains("more than 100 tests"));
    }

    #[test]
    fn a_row_that_is_gone_is_told_to_who_saw_it() {
        let projection = projection(&["owner=eq.7"], None, false);
        let gone = |owner| update("deleted", &format!(r#"{{"id":1,"owner":{owner}}}"#), &[], None);
        assert!(shown(&projection, &gone(7)).is_some() && shown(&projection, &gone(8)).is_none());
        assert!(shown(&projection, &update("truncated", "null", &[], None)).is_some());
        assert!(shown(&projection, &update("flash", "[1]", &[], None)).is_none(), "a publication that is no row");
        assert!(shown(&projection, &update("flash", r#"{"owner":7}"#, &[], None)).is_some());
    }

    #[test]
    fn what_is_not_granted_does_not_exist() {
        let known = [("id", ValueKind::Integer), ("owner", ValueKind::Integer), ("name", ValueKind::Text)]
            .map(|(name, kind)| Column { name: name.into(), kind, number: 0 });
        let grant = || Grant {
            filters: vec!["owner=eq.7".into()],
            columns: Some(vec!["id".into(), "name".into()]),
            ..Grant::default()
        };
        let compile = |filters: &[&str], columns: Option<&[&str]>| {
            let columns = columns.map(|columns| columns.iter().map(ToString::to_string).collect());
            let selection = Selection::new(filters.iter().map(ToString::to_string), columns, true).within(grant());
            Projection::compile(&selection, Some(&known))
        };
        let row = r#"{"id":1,"owner":7,"name":"Luna"}"#;
        let projection = compile(&[], None).unwrap();
        assert_eq!(projection.row(row).unwrap(), r#"{"id":1,"name":"Luna"}"#);
        assert_eq!(projection.row(r#"{"id":1,"owner":8,"name":"Luna"}"#), None);
        let renamed = Grant { filters: vec!["name=is.null".into()], ..Grant::default() };
        let renamed = Projection::compile(&Selection::default().within(renamed), Some(&known)).unwrap();
        assert_eq!(renamed.row(r#"{"id":1,"title":"Luna"}"#), None, "a column that is gone is not null");
        let given_away = update(
            "updated",
            r#"{"id":1,"owner":8,"name":"Secret"}"#,
            &["owner", "name"],
            Some(r#"{"owner":7,"name":"Luna"}"#),
        );
        assert_eq!(shown(&projection, &given_away), told("left", r#"{"id":1,"name":"Luna"}"#, "", None));
        let touched = update("updated", row, &["owner"], Some(r#"{"owner":7.0}"#));
        assert_eq!(shown(&projection, &touched), None, "not even that something changed");
        assert_eq!(compile(&["name=eq.Luna"], Some(&["id"])).unwrap().row(row).unwrap(), r#"{"id":1}"#);
        for error in [compile(&["owner=gt.3"], None).unwrap_err(), compile(&[], Some(&["owner"])).unwrap_err()] {
            assert!(error.0.ends_with("there is no column owner; there are: id, name"), "{error:?}");
        }
    }

    #[test]
    fn equal_selections_are_equal() {
        let selection_of = |filters: &[&str], columns: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
            Selection::new(texts(filters), Some(texts(columns)), false)
        };
        assert_eq!(
            selection_of(&["a=eq.1", "b=eq.2"], &["x", "y"]),
            selection_of(&["b=eq.2", "a=eq.1", "a=eq.1"], &["y", "x"])
        );
    }

    #[test]
    fn a_column_that_has_taken_a_granted_name_is_not_shown() {
        let column = |name: &str, number| Column { name: name.into(), kind: ValueKind::Text, number };
        let grant = |filters: &[&str]| Grant {
            filters: filters.iter().map(|&filter| filter.into()).collect(),
            members: Vec::new(),
            columns: Some(vec!["id".into(), "pub".into()]),
            bound: vec![("id".into(), 1), ("pub".into(), 2)],
            hides_actor: false,
        };
        let projection = |filters: &[&str], columns: &[Column]| {
            Projection::compile(&Selection::default().within(grant(filters)), Some(columns))
        };
        let row = r#"{"id":"1","pub":"2"}"#;
        let (as_stated, exchanged) = ([column("id", 1), column("pub", 2)], [column("id", 1), column("pub", 3)]);
        assert_eq!(projection(&[], &as_stated).unwrap().row(row).unwrap(), row);
        assert_eq!(projection(&[], &exchanged).unwrap().row(row).unwrap(), r#"{"id":"1"}"#);
        assert!(projection(&["pub=eq.2"], &as_stated).is_ok());
        assert_eq!(projection(&["pub=eq.2"], &exchanged).unwrap_err(), Unfit::grant(), "by it nothing can be decided");
        let asked = Selection::new([], Some(vec!["pub".into()]), false).within(grant(&[]));
        assert!(Projection::compile(&asked, Some(&exchanged)).is_err(), "for its holder there is none of that name");
    }

    #[test]
    fn the_narrowest_equality_is_looked_up() {
        let projection = projection(&["name=in.(a,b)", "owner=eq.7.0"], None, false);
        let (column, _, values) = projection.needs().unwrap();
        assert_eq!((column, values.len()), ("owner", 1));
    }
}
