//! Which rows a subscriber wants: conditions in the grammar of PostgREST, `user_id=eq.123`. Pure: compiled against a
//! channel's columns, then asked row by row. All conditions must hold; null compares to nothing, as in SQL.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::like::{self, Like};
use super::memo::Memo;
use super::value::Value;
use crate::change::{Column, Kind};

/// Conditions of one subscription at most, bytes of each, and values of an `in`.
pub const CONDITIONS: usize = 10;
/// see [`CONDITIONS`]
pub const CONDITION_BYTES: usize = 2_000;
const IN_VALUES: usize = 100;
/// The same of a condition of a policy, whose values come from a signed token.
pub const CLAIM_VALUES: usize = 10_000;
const CLAIM_BYTES: usize = 1_000_000;

/// What a condition costs besides the text that it goes through, as bytes of such.
const ONE: u64 = 16;

const OPERATORS: &str = "eq, neq, lt, lte, gt, gte, in, is, like, ilike";

/// One condition on one column.
#[derive(Debug, Clone)]
pub struct Condition {
    pub(crate) column: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) test: Test,
}

/// What a value must be.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// one of these, in order; `eq` has one
    In(Vec<Value>),
    /// `neq`
    Not(Value),
    /// `lt` and `lte`, where equality is allowed
    Below(Value, bool),
    /// `gt` and `gte`, where equality is allowed
    Above(Value, bool),
    /// `is.null`
    Null,
    /// `is.not_null`
    NotNull,
    Like(Arc<Like>),
}

impl Condition {
    /// Reads `column=operator.operand`. `columns`: what the channel has; `None` where it has no table.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn compile(text: &str, columns: Option<&[Column]>) -> Result<Self, String> {
        Self::compile_within(text, columns, CONDITION_BYTES, IN_VALUES)
    }

    /// The same of a policy.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn granted(text: &str, columns: Option<&[Column]>) -> Result<Self, String> {
        Self::compile_within(text, columns, CLAIM_BYTES, CLAIM_VALUES)
    }

    fn compile_within(text: &str, columns: Option<&[Column]>, bytes: usize, values: usize) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        let wrong = |what: String| format!("filter {shown}: {what}");
        if text.len() > bytes {
            return Err(wrong(format!("it has {} bytes, {bytes} are allowed", text.len())));
        }
        if text.contains('\0') {
            return Err(wrong("no text of the database has a null character".to_owned()));
        }
        let parts = text.split_once('=').and_then(|(column, rest)| Some((column, rest.split_once('.')?)));
        let Some((name, (operator, operand))) = parts else {
            return Err(wrong("write it as column=operator.value, such as user_id=eq.123".to_owned()));
        };
        let kind = kind_of(name, columns).map_err(wrong)?;
        let test = Test::compile(operator, operand, kind, values).map_err(wrong)?;
        Ok(Self { column: name.into(), kind, test })
    }

    /// Whether a value satisfies it; a column that is missing is null.
    pub fn holds(&self, json: Option<&RawValue>) -> bool {
        self.holds_in(json, &Memo::default())
    }

    /// The same of a value of a row of which `memo` knows something already.
    pub(crate) fn holds_in(&self, json: Option<&RawValue>, memo: &Memo) -> bool {
        memo.charge(ONE);
        let is_null = json.is_none_or(|json| json.get() == "null");
        let json = match (&self.test, json) {
            (Test::Null, _) => return is_null,
            (Test::NotNull, _) => return !is_null,
            (_, None) => return false,
            (Test::Like(like), Some(json)) => return memo.is_like(json, like),
            (_, Some(json)) => json,
        };
        memo.with_value(self.kind, json, |value| {
            let Some(value) = value else { return false };
            // without a table a value may be of another sort than the operand
            let is_comparable = |other: &Value| std::mem::discriminant(other) == std::mem::discriminant(value);
            match &self.test {
                Test::In(values) => values.binary_search(value).is_ok(),
                Test::Not(other) => *value != *other,
                Test::Below(limit, or_equal) => {
                    is_comparable(limit) && (value < limit || (*or_equal && value == limit))
                }
                Test::Above(limit, or_equal) => {
                    is_comparable(limit) && (value > limit || (*or_equal && value == limit))
                }
                Test::Null | Test::NotNull | Test::Like(_) => false,
            }
        })
    }

    /// What it costs to ask it about a row of so many bytes, about; see [`Memo::work`].
    pub(crate) fn work(&self, bytes: u64) -> u64 {
        match &self.test {
            Test::Like(like) => ONE + bytes * like.weight(),
            _ => ONE,
        }
    }
}

/// The kind of a column.
///
/// # Errors
/// The channel has no such column, and which there are.
pub fn kind_of(name: &str, columns: Option<&[Column]>) -> Result<Kind, String> {
    let Some(columns) = columns else { return Ok(Kind::Any) };
    columns.iter().find(|column| *column.name == *name).map(|column| column.kind).ok_or_else(|| {
        let known: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        let shown: String = name.chars().take(40).collect();
        format!("there is no column {shown}; there are: {}", known.join(", "))
    })
}

impl Test {
    fn compile(operator: &str, operand: &str, kind: Kind, most: usize) -> Result<Self, String> {
        let value = |text: &str| {
            Value::parse(kind, text).ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                format!("{shown} is no {}", kind.as_str())
            })
        };
        let unfit = || Err(format!("{operator} does not fit a column of type {}", kind.as_str()));
        let has_order = !matches!(kind, Kind::Bool | Kind::Enum | Kind::Opaque);
        Ok(match operator {
            "is" => match (operand, kind) {
                ("null" | "unknown", _) => Self::Null,
                ("not_null", _) => Self::NotNull,
                ("true" | "false", Kind::Bool | Kind::Any) => Self::In(vec![value(operand)?]),
                ("true" | "false", _) => return unfit(),
                _ => return Err("is takes null, not_null, true or false".to_owned()),
            },
            _ if kind == Kind::Structured => return unfit(),
            "eq" => Self::In(vec![value(operand)?]),
            "neq" => Self::Not(value(operand)?),
            "in" => {
                let values = list(operand)?;
                if values.len() > most {
                    return Err(format!("in has {} values, {most} are allowed", values.len()));
                }
                let mut values = values.iter().map(|text| value(text)).collect::<Result<Vec<_>, _>>()?;
                values.sort_unstable();
                values.dedup();
                Self::In(values)
            }
            "lt" | "lte" | "gt" | "gte" if !has_order => return unfit(),
            "lt" | "lte" => Self::Below(value(operand)?, operator == "lte"),
            "gt" | "gte" => Self::Above(value(operand)?, operator == "gte"),
            "like" | "ilike" if !matches!(kind, Kind::Text | Kind::Enum | Kind::Any) => return unfit(),
            "like" | "ilike" => match Like::compile(operand, operator == "ilike") {
                Some(like) => Self::Like(Arc::new(like)),
                None => return Err(format!("a pattern may have {} characters", like::CHARS)),
            },
            _ => return Err(format!("operator {operator} is not known; known: {OPERATORS}")),
        })
    }
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
            ("id", Kind::Integer),
            ("price", Kind::Number),
            ("name", Kind::Text),
            ("open", Kind::Bool),
            ("at", Kind::Timestamptz),
            ("day", Kind::Date),
            ("state", Kind::Enum),
            ("tags", Kind::Structured),
            ("span", Kind::Opaque),
        ]
        .map(|(name, kind)| Column { name: name.into(), kind, number: 0 })
        .into()
    }

    fn holds(filter: &str, json: &str) -> bool {
        let json: Box<RawValue> = serde_json::from_str(json).unwrap();
        Condition::compile(filter, Some(&columns())).unwrap().holds(Some(&json))
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
        let holds = |filter: &str, json: &str| {
            let json: Box<RawValue> = serde_json::from_str(json).unwrap();
            Condition::compile(filter, None).unwrap().holds(Some(&json))
        };
        assert!(holds("level=gte.3", "3.0") && !holds("level=gte.3", "\"4\""));
        assert!(holds("level=eq.red", "\"red\"") && holds("up=is.true", "true"));
        assert!(holds("tags=is.not_null", "[1]") && !holds("tags=eq.1", "[1]"));
    }

    proptest! {
        #[test]
        fn no_filter_makes_it_panic(text in "\\PC{0,40}", json in "[0-9eE.\\-]{1,8}") {
            if let (Ok(condition), Ok(json)) = (Condition::compile(&text, None), serde_json::from_str::<Box<RawValue>>(&json)) {
                condition.holds(Some(&json));
            }
        }
    }
}
