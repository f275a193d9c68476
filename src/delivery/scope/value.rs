//! Values of a row as a filter compares them. Pure: text in, order out.
//!
//! Numbers are compared exactly, whatever their length, `NaN` above all as in Postgres; text by its bytes (the order of
//! collation "C"); times by the moment they name. A value that is null compares to nothing, as in SQL.

use std::cmp::Ordering;

use serde_json::value::RawValue;

use super::moment;
use crate::change::ValueKind;
use crate::request::Members;
use crate::row::text_of;

/// A value that is not null. Values of one column are of one variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// of any numeric type
    Number(Decimal),
    /// anything that is compared as text
    Text(Box<str>),
    /// true or false
    Bool(bool),
    /// timestamptz, in microseconds: see `moment`
    Moment(i64),
    /// timestamp, in microseconds
    Civil(i64),
    /// date, in days
    Date(i64),
    /// time, in microseconds
    Time(i64),
}

impl Value {
    /// Reads the JSON of a column; `None` for null and what cannot be compared.
    pub fn of(kind: ValueKind, json: &RawValue) -> Option<Self> {
        match kind {
            ValueKind::Any if json.get().starts_with('"') => Self::parse(ValueKind::Text, &text_of(json)?),
            ValueKind::Any => {
                Self::parse(ValueKind::Number, json.get()).or_else(|| Self::parse(ValueKind::Bool, json.get()))
            }
            ValueKind::Structured => None,
            _ => Self::parse(kind, &text_of(json)?),
        }
    }

    /// Reads text as a value of this kind. `Any` makes a number of what looks like one.
    pub fn parse(kind: ValueKind, text: &str) -> Option<Self> {
        Some(match kind {
            ValueKind::Integer => Self::Number(Decimal::parse(text)?),
            ValueKind::Number => Self::Number(Decimal::parse(text).or_else(|| Decimal::unbounded(text))?),
            ValueKind::Text | ValueKind::Enum | ValueKind::Opaque => Self::Text(text.into()),
            ValueKind::Padded => Self::Text(text.trim_end_matches(' ').into()),
            ValueKind::Uuid => Self::Text(uuid(text)?),
            ValueKind::Bool => Self::Bool(text.parse().ok()?),
            ValueKind::Timestamptz => Self::Moment(moment::timestamptz(text)?),
            ValueKind::Timestamp => Self::Civil(moment::timestamp(text)?),
            ValueKind::Date => Self::Date(moment::date(text)?),
            ValueKind::Time => Self::Time(moment::time(text)?),
            ValueKind::Any => Decimal::parse(text)
                .map(Self::Number)
                .or_else(|| text.parse().ok().map(Self::Bool))
                .unwrap_or_else(|| Self::Text(text.into())),
            ValueKind::Structured => return None,
        })
    }
}

impl Value {
    /// Whether it is one of these, by its text.
    pub(crate) fn is_among(&self, members: &Members) -> bool {
        match self {
            Self::Text(text) => members.has(text),
            other => other.for_database().is_some_and(|text| members.has(&text)),
        }
    }

    /// As Postgres reads it; nothing where no type of Postgres has it.
    pub(crate) fn for_database(&self) -> Option<Box<str>> {
        Some(match self {
            Self::Number(number) => number.for_database(),
            Self::Text(text) => text.clone(),
            Self::Bool(bool) => bool.to_string().into(),
            Self::Moment(micros) => moment::timestamptz_text(*micros)?.into(),
            Self::Civil(micros) => moment::timestamp_text(*micros)?.into(),
            Self::Date(days) => moment::date_text(*days)?.into(),
            Self::Time(micros) => moment::time_text(*micros).into(),
        })
    }
}

fn uuid(text: &str) -> Option<Box<str>> {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    is_uuid.then(|| text.to_ascii_lowercase().into())
}

/// A decimal number of any length: ±0.DIGITS × 10^exponent, without zeros at either end, so that equal numbers are
/// equal field by field. Zero has no digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    exponent: i64,
    digits: Box<str>,
}

impl Decimal {
    /// Reads `-12.50`, `1e+20` and the like; `None` where the text is no number.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.truncate(digits.trim_end_matches('0').len());
        let zeros = digits.len() - digits.trim_start_matches('0').len();
        digits.drain(..zeros);
        if digits.is_empty() {
            return Some(Self { negative: false, exponent: 0, digits: "".into() });
        }
        let exponent = whole.len() as i64 - zeros as i64 + i64::from(power);
        Some(Self { negative, exponent, digits: digits.into() })
    }

    /// Reads `Infinity`, `-Infinity` and `NaN`, in the order that Postgres gives them: by an exponent that no number has.
    fn unbounded(text: &str) -> Option<Self> {
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        let (negative, digits) = if is("infinity") || is("inf") {
            (false, "1")
        } else if is("-infinity") || is("-inf") {
            (true, "1")
        } else if is("nan") {
            (false, "2")
        } else {
            return None;
        };
        Some(Self { negative, exponent: i64::MAX, digits: digits.into() })
    }

    /// As a whole number of 64 bits, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        let length = usize::try_from(self.exponent).ok().filter(|length| *length <= 19)?;
        if self.digits.len() > length {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{:0<length$}", if length == 0 { "0" } else { &self.digits }).parse().ok()
    }

    /// A whole number as its digits, any other with an exponent, `0.75e1`.
    fn for_database(&self) -> Box<str> {
        if self.exponent == i64::MAX {
            let text = match (self.negative, &*self.digits) {
                (true, _) => "-Infinity",
                (false, "2") => "NaN",
                (false, _) => "Infinity",
            };
            return text.into();
        }
        if let Some(whole) = self.as_i64() {
            return whole.to_string().into();
        }
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}0.{}e{}", self.digits, self.exponent).into()
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        // digits are without zeros at the end, so 0.12 < 0.123 is their order as text
        let magnitude = || (self.exponent, &self.digits).cmp(&(other.exponent, &other.digits));
        self.sign().cmp(&other.sign()).then_with(|| if self.negative { magnitude().reverse() } else { magnitude() })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn numbers_are_compared_by_value() {
        assert_eq!(decimal("1.50"), decimal("1.5"));
        assert_eq!(decimal("1e+3"), decimal("1000"));
        assert_eq!(decimal("-0"), decimal("0.00"));
        assert!(decimal("9007199254740993") > decimal("9007199254740992"), "beyond what a float tells apart");
        assert!(decimal("-2") < decimal("-1.5") && decimal("-1") < decimal("0") && decimal("0") < decimal("0.001"));
        assert!(decimal("0.05") < decimal("0.5") && decimal("99") < decimal("100"));
        for text in ["", "-", ".", "1x", "NaN", "1e", "0x1", "1 "] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(decimal("12e2").as_i64(), Some(1200));
        assert_eq!(decimal("0").as_i64(), Some(0));
        assert_eq!(decimal("-9223372036854775808").as_i64(), Some(i64::MIN));
        assert_eq!((decimal("1.5").as_i64(), decimal("9223372036854775808").as_i64()), (None, None));
    }

    #[test]
    fn what_is_beyond_every_number_is_ordered_as_postgres_does() {
        let number = |text| Value::parse(ValueKind::Number, text).unwrap();
        let texts = ["-Infinity", "-1e2000", "0", "1e2000", "Infinity", "NaN"];
        assert!(texts.map(number).is_sorted_by(|a, b| a < b));
        assert_eq!((number("nan"), number("inf")), (number("NaN"), number("Infinity")));
        assert_eq!(Value::parse(ValueKind::Integer, "NaN"), None);
        assert_eq!(Decimal::unbounded("Infinity").unwrap().as_i64(), None);
    }

    proptest! {
        #[test]
        fn decimals_order_as_integers_do(one in any::<i64>(), other in any::<i64>(), scale in 0_u32..30) {
            let text = |n: i64| format!("{n}e-{scale}");
            prop_assert_eq!(decimal(&text(one)).cmp(&decimal(&text(other))), one.cmp(&other));
            prop_assert_eq!(decimal(&one.to_string()).as_i64(), Some(one));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}") {
            let _ = Decimal::parse(&text);
        }
    }
}
