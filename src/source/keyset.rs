//! In which order a page of a table is read, from where it goes on, and whether an index serves that order. Pure: text of SQL
//! out of what the catalogue says; reads nothing.
//!
//! A page goes on behind a *place*: the values of its last row in the columns of the order. Where one index serves the order, the
//! rows behind a place are one range of it, or a few ranges one after the other: `a, b` behind `(1, 2)` is `a = 1 and b > 2`,
//! then `a > 1`, then, where nulls come last, `a is null`. Each range is a statement of its own, so each is found by the index;
//! one statement with `or` would read from the beginning.

use std::fmt::Write as _;

use crate::change::ValueKind;
use crate::request::{OrderBy, Place};

/// A column as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub(super) name: Box<str>,
    pub(super) kind: ValueKind,
    /// the type that values are cast to, below any domain
    pub(super) type_name: Box<str>,
    /// no row has null there
    pub(super) is_not_null: bool,
}

/// A B-tree of the whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) columns: Vec<IndexColumn>,
}

/// A column of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexColumn {
    /// `None`: an expression
    pub(super) name: Option<Box<str>>,
    pub(super) is_descending: bool,
    pub(super) nulls_first: bool,
    /// as SQL names it, where it orders text by its bytes; `None`: another one, or none
    pub(super) byte_collation: Option<Box<str>>,
    /// its collation is the column's
    pub(super) is_as_column: bool,
}

/// A column of an order, ready for SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) by: OrderBy,
    /// `t."name" collate "C"`
    expression: String,
    type_name: Box<str>,
    is_not_null: bool,
}

/// The order of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keyset {
    pub(super) terms: Vec<Term>,
}

/// The collation that every database has and that orders text by its bytes.
const BYTES: &str = r#"pg_catalog."C""#;

/// A name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether clients can tell which of two values comes first, as the database does.
fn has_order(kind: ValueKind) -> bool {
    match kind {
        ValueKind::Integer | ValueKind::Number | ValueKind::Text | ValueKind::Uuid | ValueKind::Bool => true,
        ValueKind::Timestamptz | ValueKind::Timestamp | ValueKind::Date | ValueKind::Time => true,
        ValueKind::Padded | ValueKind::Enum | ValueKind::Structured | ValueKind::Opaque | ValueKind::Any => false,
    }
}

impl Keyset {
    /// The primary key in the order that its index has, which clients do not know. `None` where there is none, or where a value
    /// would not find its place again: the operators of an extension's type are not in the search path, and a cast to
    /// `char(n)` or `bit(n)` cuts what is longer than one.
    pub(super) fn of_key(key: &[Box<str>], columns: &[TableColumn]) -> Option<Self> {
        let term = |name: &str| {
            let column = columns.iter().find(|column| *column.name == *name)?;
            if !(has_order(column.kind) || column.kind == ValueKind::Enum || &*column.type_name == "bytea") {
                return None;
            }
            let by = OrderBy { column: name.into(), kind: column.kind, is_descending: false, nulls_first: false };
            let (expression, type_name) = (format!("t.{}", quoted(name)), column.type_name.clone());
            Some(Term { by, expression, type_name, is_not_null: true })
        };
        let terms: Vec<Term> = key.iter().map(|name| term(name)).collect::<Option<_>>()?;
        (!terms.is_empty()).then_some(Self { terms })
    }

    /// What was asked for, and after it what is missing of the primary key, in the last direction.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn of_order(order: &[OrderBy], key: &[Box<str>], columns: &[TableColumn]) -> Result<Self, String> {
        if key.is_empty() {
            return Err("the table has no primary key that may be seen, so its rows have no order".to_owned());
        }
        let is_descending = order.last().is_some_and(|last| last.is_descending);
        let missing = key.iter().filter(|name| !order.iter().any(|by| by.column == **name));
        let missing = missing.map(|name| OrderBy {
            column: name.clone(),
            kind: ValueKind::Any,
            is_descending,
            nulls_first: is_descending,
        });
        let term = |by: OrderBy| {
            let column = columns
                .iter()
                .find(|column| column.name == by.column)
                .ok_or_else(|| format!("there is no column {}", by.column))?;
            if !has_order(column.kind) {
                let (name, kind) = (&by.column, column.kind.as_str());
                return Err(format!("column {name} of type {kind} has no order that clients know"));
            }
            let mut expression = format!("t.{}", quoted(&by.column));
            if column.kind == ValueKind::Text {
                let _ = write!(expression, " collate {BYTES}");
            }
            let by = OrderBy { kind: column.kind, ..by };
            Ok(Term { by, expression, type_name: column.type_name.clone(), is_not_null: column.is_not_null })
        };
        let terms = order.iter().cloned().chain(missing).map(term).collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    /// As clients are told it.
    pub(super) fn order(&self) -> Vec<OrderBy> {
        self.terms.iter().map(|term| term.by.clone()).collect()
    }

    /// The same without the columns that have one value in all rows that are asked for; one of them at least stays.
    pub(super) fn without(&self, fixed: &[Box<str>]) -> Self {
        let terms: Vec<Term> = self.terms.iter().filter(|term| !fixed.contains(&term.by.column)).cloned().collect();
        if terms.is_empty() { Self { terms: self.terms[..1].to_vec() } } else { Self { terms } }
    }

    /// The same in the words of an index that serves it: its collations, and its place of nulls where there are none. `fixed`:
    /// columns that have one value in all rows that are asked for. `None` where this index does not.
    pub(super) fn served_by(&self, index: &Index, fixed: &[Box<str>]) -> Option<Self> {
        let is_fixed = |column: &&IndexColumn| {
            column.is_as_column && column.name.as_ref().is_some_and(|name| fixed.contains(name))
        };
        let mut columns = index.columns.iter().filter(|column| !is_fixed(column));
        let mut is_backwards = None;
        let mut terms = Vec::with_capacity(self.terms.len());
        for term in &self.terms {
            let column = columns.next()?;
            if column.name.as_ref() != Some(&term.by.column) {
                return None;
            }
            let backwards = column.is_descending != term.by.is_descending;
            if *is_backwards.get_or_insert(backwards) != backwards {
                return None;
            }
            let nulls_first = column.nulls_first != backwards;
            if nulls_first != term.by.nulls_first && !term.is_not_null {
                return None;
            }
            let mut served = Term { by: OrderBy { nulls_first, ..term.by.clone() }, ..term.clone() };
            if term.by.kind == ValueKind::Text {
                let collation = column.byte_collation.as_ref()?;
                served.expression = format!("t.{} collate {collation}", quoted(&term.by.column));
            }
            terms.push(served);
        }
        Some(Self { terms })
    }

    /// The index that would serve it, as a statement to paste; first the columns that have one value in all rows that are asked for.
    pub(super) fn remedy(&self, table: &str, fixed: &[Box<str>]) -> String {
        let backwards = self.terms.first().is_some_and(|term| term.by.is_descending);
        let column = |term: &Term| {
            let by = &term.by;
            let collate = if by.kind == ValueKind::Text { " collate \"C\"" } else { "" };
            let descending = by.is_descending != backwards;
            let nulls_first = (by.nulls_first != backwards) && !term.is_not_null;
            let direction = if descending { " desc" } else { "" };
            let nulls = match (descending, nulls_first, term.is_not_null) {
                (_, _, true) => "",
                (false, true, _) => " nulls first",
                (true, false, _) => " nulls last",
                _ => "",
            };
            format!("{}{collate}{direction}{nulls}", quoted(&by.column))
        };
        let columns: Vec<String> = fixed.iter().map(|name| quoted(name)).chain(self.terms.iter().map(column)).collect();
        format!("create index concurrently on {table} ({})", columns.join(", "))
    }

    /// What is selected of a row to know its place: the values of the terms, as text.
    pub(super) fn selected(&self) -> Vec<String> {
        self.terms.iter().map(|term| format!("t.{}::text", quoted(&term.by.column))).collect()
    }

    /// The place of a row with these values.
    pub(super) fn place(&self, values: &[Option<Box<str>>]) -> Place {
        self.terms.iter().map(|term| term.by.column.clone()).zip(values.iter().cloned()).collect()
    }

    /// Behind `order by`; `backwards`: the last first.
    pub(super) fn order_by(&self, backwards: bool) -> String {
        let term = |term: &Term| {
            let direction = if term.by.is_descending == backwards { "asc" } else { "desc" };
            let nulls = if term.by.nulls_first == backwards { "last" } else { "first" };
            format!("{} {direction} nulls {nulls}", term.expression)
        };
        self.terms.iter().map(term).collect::<Vec<_>>().join(", ")
    }

    /// The values of a place, in this order.
    ///
    /// # Errors
    /// What is missing, for people.
    pub(super) fn values(&self, place: &Place) -> Result<Vec<Option<Box<str>>>, String> {
        let value = |term: &Term| {
            let found = place.iter().find(|(name, _)| *name == term.by.column);
            found.map(|(_, value)| value.clone()).ok_or_else(|| {
                let all: Vec<&str> = self.terms.iter().map(|term| &*term.by.column).collect();
                format!("after and before need a value for each column of the order: {}", all.join(", "))
            })
        };
        self.terms.iter().map(value).collect()
    }

    /// The rows behind a place as ranges, the nearest first; `backwards`: those before it. Values stand in parameters of type
    /// text, from `$first` on.
    pub(super) fn behind(&self, place: &[Option<Box<str>>], first: usize, backwards: bool) -> Vec<Range> {
        let is_descending = |at: usize| self.terms[at].by.is_descending != backwards;
        let nulls_first = |at: usize| self.terms[at].by.nulls_first != backwards;
        let sign = |at: usize| if is_descending(at) { "<" } else { ">" };
        // from here on one comparison of rows does for all
        let mut whole = self.terms.len();
        while let Some(at) = whole.checked_sub(1)
            && self.terms[at].is_not_null
            && place[at].is_some()
            && is_descending(at) == is_descending(self.terms.len() - 1)
        {
            whole = at;
        }
        let mut ranges = Vec::new();
        for at in (0..self.terms.len()).rev().filter(|at| *at <= whole) {
            let expression = &self.terms[at].expression;
            let with = |beyond: &dyn Fn(&mut Range) -> String| {
                let mut range = Range { clause: String::new(), values: Vec::new(), first };
                for (term, value) in self.terms.iter().zip(place).take(at) {
                    match value {
                        Some(value) => {
                            let value = range.value(term, value);
                            let _ = write!(range.clause, "{} = {value} and ", term.expression);
                        }
                        None => {
                            let _ = write!(range.clause, "{} is null and ", term.expression);
                        }
                    }
                }
                let beyond = beyond(&mut range);
                range.clause.push_str(&beyond);
                range
            };
            match &place[at] {
                Some(_) if at == whole => ranges.push(with(&|range| {
                    let left: Vec<&str> = self.terms[at..].iter().map(|term| &*term.expression).collect();
                    let rest = self.terms[at..].iter().zip(place[at..].iter().flatten());
                    let right: Vec<String> = rest.map(|(term, value)| range.value(term, value)).collect();
                    format!("({}) {} ({})", left.join(", "), sign(at), right.join(", "))
                })),
                Some(value) => {
                    ranges.push(with(&|range| {
                        format!("{expression} {} {}", sign(at), range.value(&self.terms[at], value))
                    }));
                    if !self.terms[at].is_not_null && !nulls_first(at) {
                        ranges.push(with(&|_| format!("{expression} is null")));
                    }
                }
                None if nulls_first(at) => ranges.push(with(&|_| format!("{expression} is not null"))),
                None => {}
            }
        }
        ranges
    }
}

/// A range of an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// behind `where`
    pub(super) clause: String,
    /// its parameters, all of type text
    pub(super) values: Vec<Box<str>>,
    first: usize,
}

impl Range {
    /// All rows.
    pub(super) fn all() -> Self {
        Self { clause: "true".to_owned(), values: Vec::new(), first: 0 }
    }

    fn value(&mut self, term: &Term, value: &str) -> String {
        self.values.push(value.into());
        format!("${}::text::{}", self.first + self.values.len() - 1, term.type_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: ValueKind, is_not_null: bool) -> TableColumn {
        TableColumn { name: name.into(), kind, type_name: kind.as_str().into(), is_not_null }
    }

    fn columns() -> Vec<TableColumn> {
        vec![
            column("id", ValueKind::Integer, true),
            column("at", ValueKind::Timestamptz, true),
            column("due", ValueKind::Date, false),
            column("name", ValueKind::Text, true),
            column("state", ValueKind::Enum, true),
        ]
    }

    fn by(column: &str, is_descending: bool) -> OrderBy {
        OrderBy { column: column.into(), kind: ValueKind::Any, is_descending, nulls_first: is_descending }
    }

    fn keyset(order: &[OrderBy]) -> Keyset {
        Keyset::of_order(order, &["id".into()], &columns()).unwrap()
    }

    fn index(columns: &[(&str, bool)]) -> Index {
        let column = |&(name, is_descending): &(&str, bool)| IndexColumn {
            name: Some(name.into()),
            is_descending,
            nulls_first: is_descending,
            byte_collation: None,
            is_as_column: true,
        };
        Index { columns: columns.iter().map(column).collect() }
    }

    fn clauses(keyset: &Keyset, place: &[Option<&str>], backwards: bool) -> Vec<String> {
        let place: Vec<Option<Box<str>>> = place.iter().map(|value| value.map(Into::into)).collect();
        keyset.behind(&place, 3, backwards).into_iter().map(|range| range.clause).collect()
    }

    #[test]
    fn an_order_ends_with_the_primary_key_in_its_last_direction() {
        assert_eq!(keyset(&[by("at", true)]).order_by(false), r#"t."at" desc nulls first, t."id" desc nulls first"#);
        assert_eq!(keyset(&[]).order_by(true), r#"t."id" desc nulls first"#);
        assert_eq!(keyset(&[by("id", true)]).terms.len(), 1);
    }

    #[test]
    fn what_has_no_order_is_refused() {
        let refused = |order: &[OrderBy], key: &[Box<str>]| Keyset::of_order(order, key, &columns()).unwrap_err();
        assert!(refused(&[by("state", false)], &["id".into()]).contains("column state of type enum has no order"));
        assert!(refused(&[by("colour", false)], &["id".into()]).contains("there is no column colour"));
        assert!(refused(&[by("at", false)], &[]).contains("no primary key"));
    }

    #[test]
    fn the_rows_behind_a_place_are_one_range_where_all_go_one_way() {
        let ranges = |backwards| clauses(&keyset(&[by("at", true)]), &[Some("x"), Some("1")], backwards);
        assert_eq!(ranges(false), [r#"(t."at", t."id") < ($3::text::timestamptz, $4::text::integer)"#]);
        assert_eq!(ranges(true), [r#"(t."at", t."id") > ($3::text::timestamptz, $4::text::integer)"#]);
    }

    #[test]
    fn nulls_lie_where_the_order_has_them() {
        let last = keyset(&[by("due", false)]);
        assert_eq!(
            clauses(&last, &[Some("x"), Some("1")], false),
            [
                r#"t."due" = $3::text::date and (t."id") > ($4::text::integer)"#,
                r#"t."due" > $3::text::date"#,
                r#"t."due" is null"#
            ]
        );
        assert_eq!(
            clauses(&last, &[None, Some("1")], false),
            [r#"t."due" is null and (t."id") > ($3::text::integer)"#]
        );
        let first = keyset(&[by("due", true)]);
        assert_eq!(
            clauses(&first, &[None, Some("1")], false),
            [r#"t."due" is null and (t."id") < ($3::text::integer)"#, r#"t."due" is not null"#]
        );
    }

    #[test]
    fn an_index_serves_an_order_forwards_and_backwards_but_not_mixed() {
        let newest = keyset(&[by("at", true)]);
        for serving in [index(&[("at", false), ("id", false)]), index(&[("at", true), ("id", true), ("due", false)])] {
            assert!(newest.served_by(&serving, &[]).is_some(), "{serving:?}");
        }
        for other in
            [index(&[("at", false)]), index(&[("at", false), ("id", true)]), index(&[("id", false), ("at", false)])]
        {
            assert!(newest.served_by(&other, &[]).is_none(), "{other:?}");
        }
        let owned = index(&[("state", false), ("at", false), ("id", false)]);
        assert!(newest.served_by(&owned, &["state".into()]).is_some(), "one state is asked for");
    }

    #[test]
    fn text_needs_an_index_by_bytes_and_the_refusal_names_it() {
        let named = keyset(&[by("name", false)]);
        let mut found = index(&[("name", false), ("id", false)]);
        assert!(named.served_by(&found, &[]).is_none());
        found.columns[0].byte_collation = Some("pg_catalog.\"default\"".into());
        let served = named.served_by(&found, &[]).unwrap();
        assert!(served.order_by(false).starts_with(r#"t."name" collate pg_catalog."default" asc"#));
        assert_eq!(
            named.remedy("public.pets", &[]),
            r#"create index concurrently on public.pets ("name" collate "C", "id")"#
        );
        assert_eq!(keyset(&[by("due", true)]).remedy("a", &[]), r#"create index concurrently on a ("due", "id")"#);
    }

    #[test]
    fn nulls_that_cannot_be_do_not_count() {
        let odd = OrderBy { nulls_first: false, ..by("at", true) };
        let plain = index(&[("at", false), ("id", false)]);
        assert!(keyset(&[odd]).served_by(&plain, &[]).is_some());
        let due = OrderBy { nulls_first: false, ..by("due", true) };
        let plain = index(&[("due", false), ("id", false)]);
        let keyset = keyset(&[due]);
        assert!(keyset.served_by(&plain, &[]).is_none());
        assert_eq!(keyset.remedy("a", &[]), r#"create index concurrently on a ("due" nulls first, "id")"#);
    }
}
