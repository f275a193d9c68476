//! A row's JSON by column, each value as its text. Pure; knows neither where the row comes from nor who wants it.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::change::Json;

/// The columns of a row, in their order.
#[derive(Debug, Default)]
pub struct Columns<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Columns<'a> {
    /// Reads a JSON object; anything else is no row.
    pub fn parse(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// A column's value.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(column, _)| column == name).map(|(_, value)| *value)
    }

    /// Names of the columns whose text differs. A column that the old image lacks is as it was: of a large row only those
    /// that differ are kept. Both images come from one row type, so the order is the same otherwise.
    pub fn differing_from(&self, old: &Self, excluded: &[Box<str>]) -> Vec<Box<str>> {
        let mut names = Vec::new();
        for (i, (name, value)) in self.0.iter().enumerate() {
            let before = old.0.get(i).filter(|(n, _)| n == name).map(|(_, v)| *v).or_else(|| old.get(name));
            if before.is_some_and(|before| before.get() != value.get()) && !excluded.iter().any(|e| **e == **name) {
                names.push(name.as_ref().into());
            }
        }
        names
    }

    /// Whether it has all of these columns.
    pub fn has_all<'n>(&self, names: impl IntoIterator<Item = &'n Box<str>>) -> bool {
        names.into_iter().all(|name| self.get(name).is_some())
    }

    /// The names of its columns, in the row's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The values of these columns that are a time at another offset than UTC, at UTC: index and text. Times that the
    /// parser does not know (infinity, years of five digits) stay as they are.
    pub fn in_utc(&self, timestamps: &[Box<str>]) -> Vec<(usize, Box<RawValue>)> {
        let at_other_offsets = self.0.iter().enumerate().filter(|(_, (name, value))| {
            !value.get().ends_with("+00:00\"")
                && value.get().starts_with('"')
                && timestamps.iter().any(|column| **column == **name)
        });
        at_other_offsets
            .filter_map(|(index, (_, value))| Some((index, RawValue::from_string(in_utc(value.get())?).ok()?)))
            .collect()
    }

    /// Puts other text in the place of some values.
    pub fn replace(&mut self, values: &'a [(usize, Box<RawValue>)]) {
        for (index, text) in values {
            self.0[*index].1 = text;
        }
    }

    /// The row without some columns.
    pub fn without(&self, excluded: &[Box<str>]) -> Json {
        let kept = self.0.iter().filter(|(name, _)| !excluded.iter().any(|e| **e == **name));
        object(kept.map(|(name, value)| (name.as_ref(), value.get())))
    }

    /// Only these columns of the row, in the row's order.
    pub fn only(&self, wanted: &[Box<str>]) -> Json {
        let kept = self.0.iter().filter(|(name, _)| wanted.iter().any(|w| **w == **name));
        object(kept.map(|(name, value)| (name.as_ref(), value.get())))
    }

    /// An object of (key, column); a column that is missing is null.
    pub fn picked(&self, wanted: &[(Box<str>, Box<str>)]) -> Json {
        object(wanted.iter().map(|(key, column)| (key.as_ref(), self.get(column).map_or("null", RawValue::get))))
    }

    /// The row with the values that `other` has in their place.
    pub fn overlaid(&self, other: &Self) -> Self {
        let values = self.0.iter().map(|(name, value)| (name.clone(), other.get(name).unwrap_or(value)));
        Self(values.collect())
    }

    /// Whether it has no column.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A time at another offset than UTC, a JSON string, at UTC; nothing where it is at UTC, or no time.
pub fn in_utc(value: &str) -> Option<String> {
    if value.ends_with("+00:00\"") {
        return None;
    }
    let at: jiff::Timestamp = value.trim_matches('"').parse().ok()?;
    let text = at.to_string();
    Some(format!("\"{}+00:00\"", text.strip_suffix('Z')?))
}

fn object<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> Json {
    let mut json = String::from("{");
    for (key, value) in members {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&serde_json::Value::from(key).to_string());
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    json.into()
}

/// The text of a scalar: a string's content, a number or a boolean as written; nothing of null, an array, an object.
pub fn text_of(value: &RawValue) -> Option<Box<str>> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str::<Box<str>>(text).ok(),
        b'n' | b'{' | b'[' => None,
        _ => Some(text.into()),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Columns<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a row as an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut columns = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry()? {
                    columns.push((name, value));
                }
                Ok(columns)
            }
        }
        deserializer.deserialize_map(Object).map(Columns)
    }
}

/// A column's name, borrowed unless it contains an escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column's name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.to_owned()))
            }
        }
        deserializer.deserialize_str(NameVisitor).map(Name)
    }
}
