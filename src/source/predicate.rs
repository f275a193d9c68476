//! What is asked of the rows of a table, as a `where` of Postgres. Pure; knows neither
//! who asks nor what is read by it.
//!
//! The rows that it lets through are those that satisfy the predicate, or more: what Postgres would decide otherwise than
//! `delivery::scope` does is left out, and the view looks at each row again. So a contrary is never `not (…)`: it is brought down to
//! the tests, each of which is rendered as what lets through all that satisfy it. Values are parameters, each an array of text.

use std::borrow::Cow;

use tokio_postgres::Row;

use super::encoding::Encoding;
use crate::change::ValueKind;
use crate::request::{Predicate, PredicateTest};

/// Digits of a number, and places before or behind its point, that Postgres is asked about.
const DIGITS: usize = 1_000;

/// A column as the catalogue has it.
#[derive(Debug, Clone)]
pub struct ColumnType {
    /// its name
    pub name: Box<str>,
    /// its type, of a domain that beneath
    pub type_oid: u32,
    /// its collation says that what is equal has the same bytes
    pub is_deterministic: bool,
    /// its type is an enum
    pub is_enum: bool,
    /// its type is an array
    pub is_array: bool,
    /// the database is in UTF-8, in which the order of bytes is that of characters
    pub is_utf8: bool,
}

/// A `where`, without the word.
#[derive(Debug, PartialEq, Eq)]
pub struct Where {
    /// `true` where nothing is asked
    pub clause: String,
    /// what stands for its parameters, each a `text[]`
    pub values: Vec<Vec<Box<str>>>,
    /// lets through no row that does not satisfy the predicate
    pub is_exact: bool,
}

impl Where {
    /// The parameters as a session that reads rows sends them. A value that the database has no character for is in no row.
    pub fn encoded(&self, encoding: Encoding) -> Vec<Vec<Cow<'_, [u8]>>> {
        self.values.iter().map(|values| values.iter().filter_map(|text| encoding.encode(text)).collect()).collect()
    }
}

/// Domains may lie over domains. What the session may not read is not there. `$1`: the table.
pub const COLUMNS: &str = "
select a.attname::text, b.oid, coalesce(l.collisdeterministic, true), b.typtype = 'e', b.typcategory = 'A',
       pg_catalog.getdatabaseencoding() = 'UTF8'
  from pg_catalog.pg_attribute a
 cross join lateral (
   with recursive domain(oid, base) as (
     select t.oid, t.typbasetype from pg_catalog.pg_type t where t.oid = a.atttypid
      union all select t.oid, t.typbasetype from domain d join pg_catalog.pg_type t on t.oid = d.base)
   select d.oid from domain d where d.base = 0) d(base)
  join pg_catalog.pg_type b on b.oid = d.base
  left join pg_catalog.pg_collation l on l.oid = a.attcollation
 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
   and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select')";

/// The rows of [`COLUMNS`].
pub fn column_types(rows: &[Row]) -> Vec<ColumnType> {
    let columns = rows.iter().map(|row| ColumnType {
        name: row.get::<_, &str>(0).into(),
        type_oid: row.get(1),
        is_deterministic: row.get(2),
        is_enum: row.get(3),
        is_array: row.get(4),
        is_utf8: row.get(5),
    });
    columns.collect()
}

/// A predicate on a table that the statement calls `alias`, whose parameters begin with this one.
pub fn render(predicate: &Predicate, columns: &[ColumnType], alias: &str, first_parameter: usize) -> Where {
    let mut renderer = Renderer { columns, alias, first_parameter, values: Vec::new() };
    let rendered = renderer.rendered(predicate, false);
    let (clause, is_exact) = (rendered.clause.unwrap_or_else(|| "true".to_owned()), rendered.is_exact);
    Where { clause, values: renderer.values, is_exact }
}

/// The columns that have one value in all rows that satisfy a predicate, and that value as Postgres compares.
pub fn fixed(predicate: &Predicate, columns: &[ColumnType]) -> Vec<Box<str>> {
    match predicate {
        Predicate::All(all) => all.iter().flat_map(|member| fixed(member, columns)).collect(),
        Predicate::Test { column, test: PredicateTest::In(values), .. } if values.len() == 1 => {
            // an index knows it by the column itself
            let known = format!("t.\"{}\" = (", column.replace('"', "\"\""));
            let rendered = render(predicate, columns, "t", 1);
            (rendered.is_exact && rendered.clause.starts_with(&known)).then(|| column.clone()).into_iter().collect()
        }
        Predicate::Any(_) | Predicate::Not(_) | Predicate::Test { .. } => Vec::new(),
    }
}

struct Renderer<'a> {
    columns: &'a [ColumnType],
    alias: &'a str,
    first_parameter: usize,
    values: Vec<Vec<Box<str>>>,
}

struct Rendered {
    /// `None`: every row
    clause: Option<String>,
    is_exact: bool,
}

impl Rendered {
    const LEFT_OUT: Self = Self { clause: None, is_exact: false };

    fn exact(clause: String) -> Self {
        Self { clause: Some(clause), is_exact: true }
    }

    fn more(clause: String) -> Self {
        Self { clause: Some(clause), is_exact: false }
    }
}

impl Renderer<'_> {
    /// What lets through the rows of which the predicate is true; false, where its contrary is asked for.
    fn rendered(&mut self, predicate: &Predicate, is_contrary: bool) -> Rendered {
        match predicate {
            Predicate::Not(predicate) => self.rendered(predicate, !is_contrary),
            Predicate::All(all) => self.joined(all, !is_contrary, is_contrary),
            Predicate::Any(any) => self.joined(any, is_contrary, is_contrary),
            Predicate::Test { column, kind, test } => self.test(column, *kind, test, is_contrary),
        }
    }

    fn joined(&mut self, members: &[Predicate], all: bool, is_contrary: bool) -> Rendered {
        let before = self.values.len();
        let (mut clauses, mut is_exact) = (Vec::new(), true);
        for member in members {
            let rendered = self.rendered(member, is_contrary);
            is_exact &= rendered.is_exact;
            match rendered.clause {
                Some(clause) => clauses.push(clause),
                None if all => {}
                // one of them lets through every row
                None => {
                    self.values.truncate(before);
                    return Rendered { clause: None, is_exact };
                }
            }
        }
        let clause = match (&clauses[..], all) {
            ([], true) => None,
            ([], false) => Some("false".to_owned()),
            (_, true) => Some(format!("({})", clauses.join(" and "))),
            (_, false) => Some(format!("({})", clauses.join(" or "))),
        };
        Rendered { clause, is_exact }
    }

    fn test(&mut self, name: &str, kind: ValueKind, test: &PredicateTest, is_contrary: bool) -> Rendered {
        let Some(column) = self.columns.iter().find(|column| *column.name == *name) else { return Rendered::LEFT_OUT };
        let place = format!("{}.\"{}\"", self.alias, name.replace('"', "\"\""));
        match test {
            PredicateTest::Is(value) if Sort::of(kind, column) == Some(Sort::Plain("bool")) => {
                Rendered::exact(format!("{place} is {}{value}", if is_contrary { "not " } else { "" }))
            }
            PredicateTest::Is(_) => Rendered::LEFT_OUT,
            PredicateTest::Null => null(column, &place, !is_contrary),
            PredicateTest::NotNull => null(column, &place, is_contrary),
            PredicateTest::In(values) => self.one_of(column, kind, &place, values, is_contrary),
            PredicateTest::NotEqual(value) => {
                self.one_of(column, kind, &place, std::slice::from_ref(value), !is_contrary)
            }
            PredicateTest::Below { limit, or_equal } if is_contrary => {
                self.beyond(column, kind, &place, limit, true, !or_equal)
            }
            PredicateTest::Below { limit, or_equal } => self.beyond(column, kind, &place, limit, false, *or_equal),
            PredicateTest::Above { limit, or_equal } if is_contrary => {
                self.beyond(column, kind, &place, limit, false, !or_equal)
            }
            PredicateTest::Above { limit, or_equal } => self.beyond(column, kind, &place, limit, true, *or_equal),
            PredicateTest::Like(pattern) => self.like(column, kind, &place, pattern, is_contrary),
            PredicateTest::Other => Rendered::LEFT_OUT,
        }
    }

    /// Equality, or its contrary.
    fn one_of(
        &mut self,
        column: &ColumnType,
        kind: ValueKind,
        place: &str,
        values: &[Box<str>],
        is_contrary: bool,
    ) -> Rendered {
        let (cast, by_bytes) = match Sort::of(kind, column) {
            Some(Sort::Integer) => {
                // what is no whole number of 64 bits is in no row
                let values = values.iter().filter(|text| text.parse::<i64>().is_ok()).cloned().collect();
                return self.among(place, values, "::int8[]", is_contrary);
            }
            Some(Sort::Numeric) if values.iter().all(|text| is_within(text, DIGITS)) => ("::numeric[]", None),
            // one that Postgres reads as the same is written in many ways
            Some(Sort::Float(range, cast)) if !is_contrary && values.iter().all(|text| is_within(text, range)) => {
                let rendered = self.among(place, values.to_vec(), &format!("::{cast}[]"), false);
                return Rendered { is_exact: false, ..rendered };
            }
            // what stands for bytes without a meaning is in no row; and what the database cannot have is unequal to all
            Some(Sort::Text | Sort::Padded | Sort::Label)
                if !column.is_utf8
                    && values.iter().any(|text| {
                        text.contains(char::REPLACEMENT_CHARACTER) || (is_contrary && !text.is_ascii())
                    }) =>
            {
                return Rendered::LEFT_OUT;
            }
            Some(Sort::Text) if column.is_deterministic => ("", None),
            Some(Sort::Text) => ("", Some(format!("{place} collate \"C\""))),
            Some(Sort::Padded) if column.is_deterministic => ("::pg_catalog.bpchar[]", None),
            Some(Sort::Padded) => {
                return self.among(&format!("{place}::text collate \"C\""), values.to_vec(), "", is_contrary);
            }
            Some(Sort::Label) => return self.among(&format!("{place}::text"), values.to_vec(), "", is_contrary),
            Some(Sort::Plain(cast)) => {
                return self.among(place, values.to_vec(), &format!("::{cast}[]"), is_contrary);
            }
            Some(Sort::Numeric | Sort::Float(..)) | None => return Rendered::LEFT_OUT,
        };
        match by_bytes {
            None => self.among(place, values.to_vec(), cast, is_contrary),
            Some(by_bytes) if is_contrary => self.among(&by_bytes, values.to_vec(), cast, true),
            // an index finds what the collation takes for the same, of which the bytes must be so too
            Some(by_bytes) => {
                let parameter = self.parameter(values.to_vec());
                Rendered::exact(format!("({place} = any ({parameter}) and {by_bytes} = any ({parameter}))"))
            }
        }
    }

    fn among(&mut self, place: &str, values: Vec<Box<str>>, cast: &str, is_contrary: bool) -> Rendered {
        let is_one = values.len() == 1;
        let parameter = self.parameter(values);
        Rendered::exact(if is_one && !is_contrary {
            // the planner knows then that an order by this column is none
            format!("{place} = ({parameter}{cast})[1]")
        } else if is_contrary {
            // nothing is among no values, not even null
            format!("({place} is not null and {place} <> all ({parameter}{cast}))")
        } else {
            format!("{place} = any ({parameter}{cast})")
        })
    }

    fn beyond(
        &mut self,
        column: &ColumnType,
        kind: ValueKind,
        place: &str,
        limit: &str,
        above: bool,
        or_equal: bool,
    ) -> Rendered {
        let operator = match (above, or_equal) {
            (true, true) => ">=",
            (true, false) => ">",
            (false, true) => "<=",
            (false, false) => "<",
        };
        let mut compared = |place: &str, operator: &str, cast: &str| {
            let parameter = self.parameter(vec![limit.into()]);
            format!("{place} {operator} ({parameter})[1]{cast}")
        };
        match Sort::of(kind, column) {
            Some(Sort::Integer) if limit.parse::<i64>().is_ok() => Rendered::exact(compared(place, operator, "::int8")),
            // beyond 64 bits
            Some(Sort::Integer) if exponent(limit) > 19 => {
                let is_beyond_all = above == limit.starts_with('-');
                Rendered::exact(if is_beyond_all { format!("{place} is not null") } else { "false".to_owned() })
            }
            Some(Sort::Integer) if is_within(limit, DIGITS) => {
                Rendered::exact(compared(&format!("{place}::numeric"), operator, "::numeric"))
            }
            Some(Sort::Numeric) if is_within(limit, DIGITS) => Rendered::exact(compared(place, operator, "::numeric")),
            // the limit becomes the nearest number that the type has, which may be that of the row
            Some(Sort::Float(range, cast)) if is_within(limit, range) => {
                Rendered::more(compared(place, if above { ">=" } else { "<=" }, &format!("::{cast}")))
            }
            Some(Sort::Text) if column.is_utf8 => {
                Rendered::exact(compared(&format!("{place} collate \"C\""), operator, ""))
            }
            Some(Sort::Padded) if column.is_utf8 => {
                Rendered::exact(compared(&format!("{place}::text collate \"C\""), operator, ""))
            }
            Some(Sort::Plain(cast)) => Rendered::exact(compared(place, operator, &format!("::{cast}"))),
            _ => Rendered::LEFT_OUT,
        }
    }

    fn like(
        &mut self,
        column: &ColumnType,
        kind: ValueKind,
        place: &str,
        pattern: &str,
        is_contrary: bool,
    ) -> Rendered {
        let place = match Sort::of(kind, column) {
            Some(Sort::Text) if column.is_deterministic => place.to_owned(),
            Some(Sort::Text) => format!("{place} collate \"C\""),
            Some(Sort::Label) => format!("{place}::text"),
            _ => return Rendered::LEFT_OUT,
        };
        // elsewhere a character may be what no other encoding has
        if !column.is_utf8 {
            return Rendered::LEFT_OUT;
        }
        let parameter = self.parameter(vec![pattern.into()]);
        Rendered::exact(format!("{place} {} ({parameter})[1]", if is_contrary { "not like" } else { "like" }))
    }

    fn parameter(&mut self, values: Vec<Box<str>>) -> String {
        self.values.push(values);
        format!("${}::text[]", self.first_parameter + self.values.len() - 1)
    }
}

/// Whether there is no value. That of JSON may be `null`, and a type may be made JSON by anybody's function.
fn null(column: &ColumnType, place: &str, is_null: bool) -> Rendered {
    let is_plain =
        column.is_enum || column.is_array || [19, 26].contains(&column.type_oid) || Sort::of_oid(column).is_some();
    // a composite whose parts are null is null to SQL, and not to its JSON
    match (is_null, is_plain) {
        (true, true) => Rendered::exact(format!("{place} is not distinct from null")),
        (true, false) => Rendered::LEFT_OUT,
        (false, true) => Rendered::exact(format!("{place} is distinct from null")),
        (false, false) => Rendered::more(format!("{place} is distinct from null")),
    }
}

/// How Postgres compares a column, where it does so as we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Integer,
    Numeric,
    /// places before and behind the point that it surely has, and its name
    Float(usize, &'static str),
    Text,
    Padded,
    /// of an enum
    Label,
    /// any that has one order, by its name
    Plain(&'static str),
}

impl Sort {
    /// Nothing where the type is another one than the view was compiled for.
    fn of(kind: ValueKind, column: &ColumnType) -> Option<Self> {
        let sort = if column.is_enum { Self::Label } else { Self::of_oid(column)? };
        let fits = match kind {
            ValueKind::Integer => sort == Self::Integer,
            ValueKind::Number => matches!(sort, Self::Numeric | Self::Float(..)),
            ValueKind::Text => sort == Self::Text,
            ValueKind::Padded => sort == Self::Padded,
            ValueKind::Enum => sort == Self::Label,
            ValueKind::Bool => sort == Self::Plain("bool"),
            ValueKind::Uuid => sort == Self::Plain("uuid"),
            ValueKind::Timestamptz => sort == Self::Plain("timestamptz"),
            ValueKind::Timestamp => sort == Self::Plain("timestamp"),
            ValueKind::Date => sort == Self::Plain("date"),
            ValueKind::Time => sort == Self::Plain("time"),
            ValueKind::Structured | ValueKind::Opaque | ValueKind::Any => false,
        };
        fits.then_some(sort)
    }

    /// By the numbers that types have in every Postgres.
    fn of_oid(column: &ColumnType) -> Option<Self> {
        Some(match column.type_oid {
            16 => Self::Plain("bool"),
            20 | 21 | 23 => Self::Integer,
            19 | 25 | 1043 => Self::Text,
            700 => Self::Float(37, "float4"),
            701 => Self::Float(300, "float8"),
            1042 => Self::Padded,
            1082 => Self::Plain("date"),
            1083 => Self::Plain("time"),
            1114 => Self::Plain("timestamp"),
            1184 => Self::Plain("timestamptz"),
            1700 => Self::Numeric,
            2950 => Self::Plain("uuid"),
            _ => return None,
        })
    }
}

/// Of a number in the form `0.75e1`; a whole number of 64 bits has none.
fn exponent(text: &str) -> i64 {
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

/// Whether a number has no more than so many places, and not more digits than Postgres should read.
fn is_within(text: &str, places: usize) -> bool {
    text.len() <= DIGITS && exponent(text).unsigned_abs() <= places as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_oid: u32) -> ColumnType {
        ColumnType {
            name: name.into(),
            type_oid,
            is_deterministic: name != "folded",
            is_enum: name == "mood",
            is_array: name == "tags",
            is_utf8: true,
        }
    }

    fn of(kind: ValueKind, column: &str, test: PredicateTest) -> Predicate {
        Predicate::Test { column: column.into(), kind, test }
    }

    fn rendered(predicate: &Predicate) -> (String, usize, bool) {
        let columns = [
            column("id", 23),
            column("a\"b", 25),
            column("folded", 25),
            column("mood", 99_999),
            column("price", 701),
            column("doc", 3802),
            column("tags", 1009),
        ];
        let rendered = render(predicate, &columns, "t", 3);
        (rendered.clause, rendered.values.len(), rendered.is_exact)
    }

    fn exact(clause: &str, parameters: usize) -> (String, usize, bool) {
        (clause.to_owned(), parameters, true)
    }

    fn more(clause: &str, parameters: usize) -> (String, usize, bool) {
        (clause.to_owned(), parameters, false)
    }

    #[test]
    fn what_postgres_decides_as_we_do_is_asked_of_it() {
        let id = |test| of(ValueKind::Integer, "id", test);
        let below = |limit: &str| id(PredicateTest::Below { limit: limit.into(), or_equal: false });
        for (predicate, expected) in [
            (Predicate::All(vec![]), exact("true", 0)),
            (Predicate::Any(vec![]), exact("false", 0)),
            (id(PredicateTest::In(vec!["7".into(), "0.75e1".into()])), exact("t.\"id\" = ($3::text[]::int8[])[1]", 1)),
            (
                id(PredicateTest::NotEqual("7".into())),
                exact("(t.\"id\" is not null and t.\"id\" <> all ($3::text[]::int8[]))", 1),
            ),
            (below("7"), exact("t.\"id\" < ($3::text[])[1]::int8", 1)),
            (below("0.75e1"), exact("t.\"id\"::numeric < ($3::text[])[1]::numeric", 1)),
            (below("0.1e30"), exact("t.\"id\" is not null", 0)),
            (below("-0.1e30"), exact("false", 0)),
            (Predicate::Not(Box::new(below("7"))), exact("t.\"id\" >= ($3::text[])[1]::int8", 1)),
            (
                of(ValueKind::Text, "a\"b", PredicateTest::In(vec!["x".into()])),
                exact("t.\"a\"\"b\" = ($3::text[])[1]", 1),
            ),
            (
                of(ValueKind::Text, "folded", PredicateTest::In(vec!["x".into()])),
                exact("(t.\"folded\" = any ($3::text[]) and t.\"folded\" collate \"C\" = any ($3::text[]))", 1),
            ),
            (
                of(ValueKind::Enum, "mood", PredicateTest::In(vec!["x".into()])),
                exact("t.\"mood\"::text = ($3::text[])[1]", 1),
            ),
            (of(ValueKind::Structured, "tags", PredicateTest::Null), exact("t.\"tags\" is not distinct from null", 0)),
        ] {
            assert_eq!(rendered(&predicate), expected, "{predicate:?}");
        }
    }

    #[test]
    fn what_it_would_decide_otherwise_lets_through_more_also_in_a_contrary() {
        let price = || of(ValueKind::Number, "price", PredicateTest::In(vec!["0.1e0".into()]));
        let id = || of(ValueKind::Integer, "id", PredicateTest::In(vec!["7".into()]));
        let not = |predicate| Predicate::Not(Box::new(predicate));
        let other = || of(ValueKind::Text, "a\"b", PredicateTest::Other);
        let is_seven = "t.\"id\" = ($3::text[]::int8[])[1]";
        let is_not_seven = "(t.\"id\" is not null and t.\"id\" <> all ($3::text[]::int8[]))";
        for (predicate, expected) in [
            (price(), more("t.\"price\" = ($3::text[]::float8[])[1]", 1)),
            (not(price()), more("true", 0)),
            (Predicate::All(vec![id(), other()]), more(&format!("({is_seven})"), 1)),
            (Predicate::Any(vec![id(), other()]), more("true", 0)),
            (not(Predicate::Any(vec![id(), other()])), more(&format!("({is_not_seven})"), 1)),
            (not(Predicate::All(vec![id(), other()])), more("true", 0)),
            (not(not(Predicate::All(vec![id(), other()]))), more(&format!("({is_seven})"), 1)),
            (Predicate::All(vec![Predicate::Any(vec![id(), other()]), id()]), more(&format!("({is_seven})"), 1)),
            // the type is another one by now, or the column is gone
            (of(ValueKind::Text, "id", PredicateTest::In(vec!["x".into()])), more("true", 0)),
            (of(ValueKind::Text, "gone", PredicateTest::Null), more("true", 0)),
            // of JSON a value may be null
            (of(ValueKind::Structured, "doc", PredicateTest::Null), more("true", 0)),
            (of(ValueKind::Structured, "doc", PredicateTest::NotNull), more("t.\"doc\" is distinct from null", 0)),
        ] {
            assert_eq!(rendered(&predicate), expected, "{predicate:?}");
        }
    }
}
