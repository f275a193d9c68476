//! Which rows a subscriber wants: conditions in the grammar of PostgREST, `user_id=eq.123`, `or=(a.eq.1,b.is.null)`. Pure: compiled
//! against a channel's columns, then asked row by row. All conditions must hold. Logic is that of SQL, with three values: a
//! comparison with null is unknown, and so is its contrary.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::grant::NamedClaim;
use super::like::{self, Like};
use super::memo::Memo;
use super::value::Value;
use crate::change::{Column, ValueKind};
use crate::condition::ParsedCondition;
use crate::request::{self, Members, Predicate};
use crate::row::Columns;

/// Conditions of one subscription at most, bytes of each, tests in all of them, and values of an `in`.
pub const CONDITIONS: usize = 10;
/// see [`CONDITIONS`]
pub const CONDITION_BYTES: usize = 2_000;
/// see [`CONDITIONS`]
pub const TESTS: usize = 100;
const IN_VALUES: usize = 100;
/// The same of a condition of a policy, whose values come from a signed token.
pub const CLAIM_VALUES: usize = 10_000;
const CLAIM_BYTES: usize = 1_000_000;

/// What a test costs besides the text that it goes through, as bytes of such.
const ONE: u64 = 16;

const OPERATORS: &str = "eq, neq, lt, lte, gt, gte, in, is, like, ilike";

/// What a row must satisfy.
#[derive(Debug, Clone)]
pub enum Condition {
    /// one column
    Test(Test),
    /// all of these
    All(Box<[Self]>),
    /// one of these at least
    Any(Box<[Self]>),
    /// the contrary
    Not(Box<Self>),
}

/// What one column must be.
#[derive(Debug, Clone)]
pub struct Test {
    pub(crate) column: Box<str>,
    pub(crate) kind: ValueKind,
    pub(crate) what: Must,
}

/// What a value must be.
#[derive(Debug, Clone)]
pub(crate) enum Must {
    /// one of these, in order; `eq` has one
    In(Vec<Value>),
    /// one of those that a holder has, by their text
    Among(Arc<Members>),
    /// `neq`
    Not(Value),
    /// `lt` and `lte`, where equality is allowed
    Below(Value, bool),
    /// `gt` and `gte`, where equality is allowed
    Above(Value, bool),
    /// `is.true` and `is.false`, which null is not
    Is(Value),
    /// `is.null`
    Null,
    /// `is.not_null`
    NotNull,
    Like(Arc<Like>),
}

/// What a column is that a row has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// null: a channel without a table leaves out what it has not
    IsNull,
    /// anything: the row is not all there, or the column has another name by now
    IsUntold,
}

/// Which of the three truth values of SQL a condition may have. More than one where columns are untold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict(u8);

impl Verdict {
    const TRUE: Self = Self(1);
    const FALSE: Self = Self(2);
    const UNKNOWN: Self = Self(4);
    const ANY: Self = Self(7);

    /// Whether the row satisfies it: unknown does not. `None` where that cannot be told.
    pub(crate) fn is_satisfied(self) -> Option<bool> {
        match self {
            Self::TRUE => Some(true),
            other if other.0 & Self::TRUE.0 == 0 => Some(false),
            _ => None,
        }
    }

    fn of(verdict: Option<bool>) -> Self {
        match verdict {
            Some(true) => Self::TRUE,
            Some(false) => Self::FALSE,
            None => Self::UNKNOWN,
        }
    }

    fn contrary(self) -> Self {
        Self((self.0 & 1) << 1 | (self.0 & 2) >> 1 | self.0 & 4)
    }

    fn and(self, other: Self) -> Self {
        let is = |verdict: Self, one: Self| verdict.0 & one.0 != 0;
        let both = |one: Self| is(self, one) && is(other, one);
        let unknown = both(Self::UNKNOWN)
            || (is(self, Self::UNKNOWN) && is(other, Self::TRUE))
            || (is(self, Self::TRUE) && is(other, Self::UNKNOWN));
        let bit = |is: bool, one: Self| if is { one.0 } else { 0 };
        Self(bit(both(Self::TRUE), Self::TRUE) | (self.0 | other.0) & Self::FALSE.0 | bit(unknown, Self::UNKNOWN))
    }

    fn or(self, other: Self) -> Self {
        self.contrary().and(other.contrary()).contrary()
    }
}

impl Condition {
    /// Reads `column=operator.operand`, or a group. `columns`: what the channel has; `None` where it has no table.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn compile(text: &str, columns: Option<&[Column]>) -> Result<Self, String> {
        Self::compile_within(text, columns, CONDITION_BYTES, IN_VALUES, &[])
    }

    /// The same of a policy, where `in.{name}` is one of these.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn granted(text: &str, columns: Option<&[Column]>, members: &[NamedClaim]) -> Result<Self, String> {
        Self::compile_within(text, columns, CLAIM_BYTES, CLAIM_VALUES, members)
    }

    fn compile_within(
        text: &str,
        columns: Option<&[Column]>,
        bytes: usize,
        values: usize,
        members: &[NamedClaim],
    ) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        let wrong = |what: Cow<'static, str>| format!("filter {shown}: {what}");
        if text.len() > bytes {
            return Err(wrong(format!("it has {} bytes, {bytes} are allowed", text.len()).into()));
        }
        if text.contains('\0') {
            return Err(wrong("no text of the database has a null character".into()));
        }
        let asked = ParsedCondition::read(text).map_err(wrong)?;
        Self::of(&asked, columns, values, members).map_err(|what| wrong(what.into()))
    }

    fn of(
        asked: &ParsedCondition<'_>,
        columns: Option<&[Column]>,
        values: usize,
        members: &[NamedClaim],
    ) -> Result<Self, String> {
        let all = |all: &[ParsedCondition<'_>]| -> Result<_, String> {
            all.iter().map(|asked| Self::of(asked, columns, values, members)).collect()
        };
        Ok(match asked {
            ParsedCondition::Test(asked) => {
                let kind = kind_of(&asked.column, columns)?;
                // without a table an operand has several readings: unequal is what equals none of them
                let (operator, is_not) = match (asked.operator, kind) {
                    ("neq", ValueKind::Any) => ("eq", true),
                    (operator, _) => (operator, false),
                };
                let named = asked.claim().and_then(|name| members.iter().find(|(known, _)| **known == *name));
                let what = match named {
                    Some((_, held)) if asked.operator == "in" => Must::one_of(held, kind),
                    _ => Must::compile(operator, &asked.operand, kind, values)?,
                };
                let test = Self::Test(Test { column: (&*asked.column).into(), kind, what });
                if is_not { Self::Not(Box::new(test)) } else { test }
            }
            ParsedCondition::All(members) => Self::All(all(members)?),
            ParsedCondition::Any(members) => Self::Any(all(members)?),
            ParsedCondition::Not(asked) => Self::Not(Box::new(Self::of(asked, columns, values, members)?)),
        })
    }

    /// Those that must all hold in its place.
    pub(crate) fn flattened(self) -> Vec<Self> {
        match self {
            Self::All(all) => all.into_vec().into_iter().flat_map(Self::flattened).collect(),
            other => vec![other],
        }
    }

    /// Whether a row satisfies it; a column that is missing is null.
    pub fn holds(&self, row: &Columns<'_>) -> bool {
        self.admits(row, Missing::IsNull, &Memo::default())
    }

    /// Whether a row surely satisfies it. A thousand views ask it, most of them of one column.
    pub(crate) fn admits(&self, row: &Columns<'_>, missing: Missing, memo: &Memo) -> bool {
        match self {
            Self::Test(test) => {
                let json = row.get(&test.column);
                (json.is_some() || missing == Missing::IsNull) && test.holds(json, memo) == Some(true)
            }
            other => other.verdict(row, missing, memo) == Verdict::TRUE,
        }
    }

    /// What is to be said of a row of which `memo` knows something already.
    pub(crate) fn verdict(&self, row: &Columns<'_>, missing: Missing, memo: &Memo) -> Verdict {
        match self {
            Self::Test(test) => test.verdict(row, missing, memo),
            Self::Not(condition) => condition.verdict(row, missing, memo).contrary(),
            Self::All(all) => {
                let mut verdict = Verdict::TRUE;
                for condition in all {
                    verdict = verdict.and(condition.verdict(row, missing, memo));
                    if verdict == Verdict::FALSE {
                        break;
                    }
                }
                verdict
            }
            Self::Any(any) => {
                let mut verdict = Verdict::FALSE;
                for condition in any {
                    verdict = verdict.or(condition.verdict(row, missing, memo));
                    if verdict == Verdict::TRUE {
                        break;
                    }
                }
                verdict
            }
        }
    }

    /// What it costs to ask it about a row of so many bytes, about; see [`Memo::work`].
    pub(crate) fn work(&self, bytes: u64) -> u64 {
        match self {
            Self::Test(test) => test.work(bytes),
            Self::All(all) | Self::Any(all) => all.iter().map(|condition| condition.work(bytes)).sum(),
            Self::Not(condition) => condition.work(bytes),
        }
    }

    /// Its tests, in their order.
    pub(crate) fn tests(&self) -> Vec<&Test> {
        match self {
            Self::Test(test) => vec![test],
            Self::All(all) | Self::Any(all) => all.iter().flat_map(Self::tests).collect(),
            Self::Not(condition) => condition.tests(),
        }
    }

    /// The tests whose values are not those that they have in `before`, which is the same but for the values of lists: of every
    /// row of which both do not say the same, one of them admits a column. `None` where these are too many.
    pub(crate) fn differing(&self, before: &Self) -> Option<Vec<Predicate>> {
        let mut differing = Vec::new();
        for (now, before) in self.tests().into_iter().zip(before.tests()) {
            let what = match (&now.what, &before.what) {
                (Must::Among(now), Must::Among(before)) if now != before => {
                    let one_alone = |held: &Arc<Members>, other: &Arc<Members>| {
                        held.iter().filter(|text| !other.has(text)).map(Box::from).collect::<Vec<_>>()
                    };
                    request::PredicateTest::In([one_alone(now, before), one_alone(before, now)].concat())
                }
                (Must::In(now), Must::In(before)) if now != before => {
                    let one_alone = |list: &[Value], other: &[Value]| {
                        let alone = list.iter().filter(|value| other.binary_search(value).is_err());
                        alone.filter_map(Value::for_database).collect::<Vec<_>>()
                    };
                    request::PredicateTest::In([one_alone(now, before), one_alone(before, now)].concat())
                }
                _ => continue,
            };
            if matches!(&what, request::PredicateTest::In(values) if values.len() > CLAIM_VALUES) {
                return None;
            }
            differing.push(Predicate::Test { column: now.column.clone(), kind: now.kind, test: what });
        }
        Some(differing)
    }

    /// The same for the database.
    pub(crate) fn predicate(&self) -> Predicate {
        match self {
            Self::Test(test) => {
                Predicate::Test { column: test.column.clone(), kind: test.kind, test: test.what.for_database() }
            }
            Self::All(all) => Predicate::All(all.iter().map(Self::predicate).collect()),
            Self::Any(any) => Predicate::Any(any.iter().map(Self::predicate).collect()),
            Self::Not(condition) => Predicate::Not(Box::new(condition.predicate())),
        }
    }
}

impl Test {
    fn verdict(&self, row: &Columns<'_>, missing: Missing, memo: &Memo) -> Verdict {
        let json = row.get(&self.column);
        if json.is_none() && missing == Missing::IsUntold {
            return Verdict::ANY;
        }
        Verdict::of(self.holds(json, memo))
    }

    /// What SQL says of a value; `None`: unknown.
    fn holds(&self, json: Option<&RawValue>, memo: &Memo) -> Option<bool> {
        memo.charge(ONE);
        let json = json.filter(|json| json.get() != "null");
        let json = match (&self.what, json) {
            (Must::Null, _) => return Some(json.is_none()),
            (Must::NotNull, _) => return Some(json.is_some()),
            (Must::Is(_), None) => return Some(false),
            (_, None) => return None,
            (Must::Like(like), Some(json)) => return memo.is_like(json, like),
            (_, Some(json)) => json,
        };
        memo.with_value(self.kind, json, |value| {
            let Some(value) = value else { return matches!(self.what, Must::Is(_)).then_some(false) };
            // without a table a value may be of another sort than the operand
            let is_comparable = |other: &Value| std::mem::discriminant(other) == std::mem::discriminant(value);
            match &self.what {
                Must::In(values) => Some(values.binary_search(value).is_ok()),
                Must::Among(held) => Some(value.is_among(held)),
                Must::Not(other) => Some(*value != *other),
                Must::Is(other) => Some(*value == *other),
                Must::Below(limit, _) | Must::Above(limit, _) if !is_comparable(limit) => None,
                Must::Below(limit, or_equal) => Some(value < limit || (*or_equal && value == limit)),
                Must::Above(limit, or_equal) => Some(value > limit || (*or_equal && value == limit)),
                Must::Null | Must::NotNull | Must::Like(_) => None,
            }
        })
    }

    fn work(&self, bytes: u64) -> u64 {
        match &self.what {
            Must::Like(like) => ONE + bytes * like.weight(),
            _ => ONE,
        }
    }
}

/// The kind of a column.
///
/// # Errors
/// The channel has no such column, and which there are.
pub fn kind_of(name: &str, columns: Option<&[Column]>) -> Result<ValueKind, String> {
    let Some(columns) = columns else { return Ok(ValueKind::Any) };
    columns.iter().find(|column| *column.name == *name).map(|column| column.kind).ok_or_else(|| {
        let known: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        let shown: String = name.chars().take(40).collect();
        format!("there is no column {shown}; there are: {}", known.join(", "))
    })
}

impl Must {
    /// What is no value of the column is none of its rows'. Where equal values have one text, as Postgres and [`Value::for_database`]
    /// write it, nothing is kept but the text: a million values are 9 MB, and were 80.
    fn one_of(held: &Arc<Members>, kind: ValueKind) -> Self {
        if matches!(kind, ValueKind::Integer | ValueKind::Text | ValueKind::Enum | ValueKind::Uuid | ValueKind::Bool) {
            return Self::Among(held.clone());
        }
        Self::any_of(held.iter().flat_map(|text| readings(kind, text)).collect())
    }

    fn any_of(mut values: Vec<Value>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::In(values)
    }

    fn compile(operator: &str, operand: &str, kind: ValueKind, most: usize) -> Result<Self, String> {
        let value = |text: &str| {
            Value::parse(kind, text).ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                format!("{shown} is no {}", kind.as_str())
            })
        };
        let unfit = || Err(format!("{operator} does not fit a column of type {}", kind.as_str()));
        let has_order = !matches!(kind, ValueKind::Bool | ValueKind::Enum | ValueKind::Opaque);
        Ok(match operator {
            "is" => match (operand, kind) {
                ("null" | "unknown", _) => Self::Null,
                ("not_null", _) => Self::NotNull,
                ("true" | "false", ValueKind::Bool | ValueKind::Any) => Self::Is(value(operand)?),
                ("true" | "false", _) => return unfit(),
                _ => return Err("is takes null, not_null, true or false".to_owned()),
            },
            _ if kind == ValueKind::Structured => return unfit(),
            "eq" => {
                value(operand)?;
                Self::any_of(readings(kind, operand).collect())
            }
            "neq" => Self::Not(value(operand)?),
            "in" => {
                let values = list(operand)?;
                if values.len() > most {
                    return Err(format!("in has {} values, {most} are allowed", values.len()));
                }
                values.iter().try_for_each(|text| value(text).map(drop))?;
                Self::any_of(values.iter().flat_map(|text| readings(kind, text)).collect())
            }
            "lt" | "lte" | "gt" | "gte" if !has_order => return unfit(),
            "lt" | "lte" => Self::Below(value(operand)?, operator == "lte"),
            "gt" | "gte" => Self::Above(value(operand)?, operator == "gte"),
            "like" | "ilike" if !matches!(kind, ValueKind::Text | ValueKind::Enum | ValueKind::Any) => return unfit(),
            "like" | "ilike" => match Like::compile(operand, operator == "ilike") {
                Some(like) => Self::Like(Arc::new(like)),
                None => return Err(format!("a pattern may have {} characters", like::CHARS)),
            },
            _ => return Err(format!("operator {operator} is not known; known: {OPERATORS}")),
        })
    }

    /// The same for the database: values as it reads them.
    fn for_database(&self) -> request::PredicateTest {
        use request::PredicateTest;
        match self {
            Self::In(values) => PredicateTest::In(values.iter().filter_map(Value::for_database).collect()),
            Self::Among(held) => PredicateTest::In(held.iter().map(Into::into).collect()),
            // no row has what the database cannot have
            Self::Not(value) => value.for_database().map_or(PredicateTest::NotNull, PredicateTest::NotEqual),
            Self::Below(limit, or_equal) => match limit.for_database() {
                Some(limit) => PredicateTest::Below { limit, or_equal: *or_equal },
                None => PredicateTest::Other,
            },
            Self::Above(limit, or_equal) => match limit.for_database() {
                Some(limit) => PredicateTest::Above { limit, or_equal: *or_equal },
                None => PredicateTest::Other,
            },
            Self::Is(value) => PredicateTest::Is(*value == Value::Bool(true)),
            Self::Null => PredicateTest::Null,
            Self::NotNull => PredicateTest::NotNull,
            Self::Like(like) => like.for_database().map_or(PredicateTest::Other, PredicateTest::Like),
        }
    }
}

/// What a text may stand for. Without a table, what looks like a number or a boolean may be a text in the JSON.
fn readings(kind: ValueKind, text: &str) -> impl Iterator<Item = Value> {
    let as_text = (kind == ValueKind::Any).then(|| Value::Text(text.into()));
    Value::parse(kind, text).into_iter().chain(as_text)
}

/// The values of `(a,b,"c,d")`; inside quotes `\"` is a quote and `\\` a backslash.
fn list(text: &str) -> Result<Vec<String>, String> {
    let wrong = || "in takes a list: in.(1,2,3), with values that hold a comma in double quotes".to_owned();
    let inside = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
    let mut values = Vec::new();
    let mut chars = inside.chars().peekable();
    loop {
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next().ok_or_else(wrong)? {
                    '"' => break,
                    '\\' => value.push(chars.next().ok_or_else(wrong)?),
                    other => value.push(other),
                }
            }
        } else {
            while let Some(other) = chars.next_if(|c| *c != ',') {
                value.push(other);
            }
        }
        values.push(value);
        match chars.next() {
            None => return Ok(values),
            Some(',') => {}
            Some(_) => return Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns() -> Vec<Column> {
        [
            ("id", ValueKind::Integer),
            ("price", ValueKind::Number),
            ("name", ValueKind::Text),
            ("open", ValueKind::Bool),
            ("at", ValueKind::Timestamptz),
            ("day", ValueKind::Date),
            ("state", ValueKind::Enum),
            ("tags", ValueKind::Structured),
            ("span", ValueKind::Opaque),
        ]
        .map(|(name, kind)| Column { name: name.into(), kind, number: 0, is_key: false })
        .into()
    }

    /// Of a row whose columns all have this value.
    fn holds(filter: &str, json: &str) -> bool {
        holds_of(Condition::compile(filter, Some(&columns())).unwrap(), json)
    }

    fn holds_of(condition: Condition, json: &str) -> bool {
        let members: Vec<_> = condition.tests().iter().map(|test| format!("{:?}:{json}", test.column)).collect();
        condition.holds(&Columns::parse(&format!("{{{}}}", members.join(","))).unwrap())
    }

    #[test]
    fn conditions_hold_as_in_sql() {
        for (filter, holding, failing) in [
            ("id=eq.7", &["7"][..], &["8", "null"][..]),
            ("id=neq.7", &["8"], &["7", "null"]),
            ("id=in.(1,2)", &["1", "2"], &["3", "null"]),
            ("price=gte.1.5", &["1.50", "2", "\"NaN\"", "\"Infinity\""], &["1.49", "null", "\"-Infinity\""]),
            ("price=eq.NaN", &["\"NaN\""], &["\"Infinity\"", "1"]),
            ("price=lt.0", &["-0.01"], &["0", "1"]),
            ("name=eq.a,b", &["\"a,b\""], &["\"a\""]),
            ("name=in.(\"a,b\",c)", &["\"a,b\"", "\"c\""], &["\"a\""]),
            ("name=like.L*a", &["\"Luna\"", "\"La\""], &["\"luna\"", "\"Lu\"", "null"]),
            ("name=ilike.%UN_", &["\"Luna\""], &["\"Lun\""]),
            ("name=like.100\\%", &["\"100%\""], &["\"1000\""]),
            ("name=is.null", &["null"], &["\"\""]),
            ("name=is.not_null", &["\"\""], &["null"]),
            ("open=is.true", &["true"], &["false", "null"]),
            ("open=eq.false", &["false"], &["true"]),
            (
                "at=gt.2024-01-15T10:30:00Z",
                &["\"2024-01-15T10:30:00.5+00:00\"", "\"infinity\"", "\"12345-06-07T08:09:10+00:00\""],
                &["\"2024-01-15T10:30:00+00:00\"", "\"-infinity\"", "\"0044-03-15T12:00:00+00:00 BC\""],
            ),
            ("at=eq.infinity", &["\"infinity\""], &["\"2024-01-15T10:30:00+00:00\"", "\"-infinity\"", "null"]),
            ("at=eq.2024-01-15T11:30:00+01:00", &["\"2024-01-15T10:30:00+00:00\""], &[]),
            ("day=lte.2024-02-29", &["\"2024-02-29\""], &["\"2024-03-01\""]),
            ("state=in.(new,old)", &["\"new\""], &["\"lost\""]),
            ("tags=is.null", &["null"], &["[]"]),
            ("span=eq.1 day", &["\"1 day\""], &["\"2 days\""]),
        ] {
            for json in holding {
                assert!(holds(filter, json), "{filter} on {json}");
            }
            for json in failing {
                assert!(!holds(filter, json), "{filter} on {json}");
            }
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_remedy() {
        for (filter, part) in [
            ("id", "column=operator.value"),
            ("id=7", "column=operator.value"),
            ("id=is7.", "operator is7 is not known; known: eq, neq"),
            ("id=eq.x", "x is no integer"),
            ("colour=eq.red", "there is no column colour; there are: id, price"),
            ("tags=eq.[]", "eq does not fit a column of type json or array"),
            ("state=lt.new", "lt does not fit a column of type enum"),
            ("id=like.1*", "like does not fit"),
            ("id=in.1,2", "in takes a list"),
            ("name=in.(\"a)", "in takes a list"),
            ("open=is.maybe", "is takes null"),
            ("at=gt.yesterday", "yesterday is no timestamptz"),
        ] {
            let error = Condition::compile(filter, Some(&columns())).unwrap_err();
            assert!(error.contains(part), "{filter}: {error}");
        }
    }

    #[test]
    fn a_channel_without_a_table_is_compared_by_what_it_was_given() {
        let holds = |filter: &str, json: &str| holds_of(Condition::compile(filter, None).unwrap(), json);
        assert!(holds("level=gte.3", "3.0") && !holds("level=gte.3", "\"4\""));
        assert!(holds("level=eq.red", "\"red\"") && holds("up=is.true", "true"));
        assert!(holds("tags=is.not_null", "[1]") && !holds("tags=eq.1", "[1]"));
        // "7" is equal to 7 and to the text
        assert!(holds("to=eq.7", "\"7\"") && holds("to=eq.7", "7.0") && !holds("to=eq.7", "\"07\""));
        assert!(holds("to=in.(6,007)", "\"007\"") && holds("to=in.(6,007)", "7") && holds("up=eq.true", "\"true\""));
        assert!(!holds("to=neq.7", "\"7\"") && !holds("to=neq.7", "7") && holds("to=neq.7", "\"8\""));
        assert!(!holds("to=neq.7", "null") && !holds("to=neq.true", "\"true\"") && holds("to=neq.true", "false"));
    }

    proptest! {
        #[test]
        fn no_filter_makes_it_panic(text in "\\PC{0,40}|a=(not.)?(eq|gt|in|like).[0-9()e,-]{0,9}", json in "[0-9eE.\\-]{1,8}") {
            let row = format!("{{\"a\":{json}}}");
            if let (Ok(condition), Some(row)) = (Condition::compile(&text, None), Columns::parse(&row)) {
                condition.holds(&row);
            }
        }
    }
}
