//! What order compares of a row: a hash of its key, and one of each image. Pure; knows neither rows beside it nor what
//! the hashes are for.
//!
//! An image is compared by its columns, not by its whole text: an old image may hold only the columns that differ, and
//! what it lacks is as in the new one.

use std::hash::{BuildHasher as _, RandomState};

use super::catalog::CatalogChannel;
use super::decode::OutboxRow;
use crate::row;

/// Hashes with a seed of their own: nobody can choose rows that have the same one. Only equality is asked of them, so
/// that the order does not depend on the seed.
#[derive(Debug, Default)]
pub(super) struct Hashes(RandomState);

/// Which rows of the table a change concerns; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct KeyHashes {
    /// key of the old image
    pub(super) from: u64,
    /// key of the new image
    pub(super) to: u64,
    /// of half a move between partitions: the key without the columns by which the table is partitioned
    pub(super) stem: u64,
}

/// Hashes of both images of a row; 0: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Images {
    pub(super) old: u64,
    pub(super) new: u64,
}

impl Hashes {
    /// The keys of a row; nothing where an image does not say them. A column that an old image lacks is as in the new one.
    pub(super) fn keys(&self, row: &OutboxRow<'_>, channel: &CatalogChannel) -> Option<KeyHashes> {
        let new = row.new.map(|json| values(json, &channel.key));
        let mut old = row.old.map(|json| values(json, &channel.key));
        if let (Some(old), Some(new)) = (&mut old, &new) {
            old.iter_mut().zip(new).for_each(|(old, new)| *old = old.or(*new));
        }
        let is_stem = |name: &str| channel.partitioned_by.iter().all(|by| **by != *name);
        let has_stem = !channel.partitioned_by.is_empty() && channel.key.iter().any(|name| is_stem(name));
        let hash = |values: &[Option<&str>], stem_only: bool| {
            let named = channel.key.iter().zip(values).filter(|(name, _)| !stem_only || is_stem(name.as_ref()));
            let texts: Option<Vec<_>> =
                named.map(|(name, value)| value.map(|value| in_utc(name, value, channel))).collect();
            texts.map(|texts| self.0.hash_one(texts).max(1))
        };
        let of = |values: &Option<Vec<Option<&str>>>| values.as_ref().map_or(Some(0), |values| hash(values, false));
        let (from, to) = match row.op.to_ascii_uppercase() {
            b'I' => (0, of(&new)?),
            b'D' => (of(&old)?, 0),
            _ => (of(&old)?, of(&new)?),
        };
        let stem = match (row.op, &old, &new) {
            (b'D', Some(values), _) | (b'I', _, Some(values)) if has_stem => hash(values, true)?,
            _ => 0,
        };
        (from != 0 || to != 0).then_some(KeyHashes { from, to, stem })
    }

    /// The images of a row; nothing where one of them is no row.
    pub(super) fn images(&self, row: &OutboxRow<'_>, channel: &CatalogChannel) -> Option<Images> {
        let one = |name: &str, value: &str| self.0.hash_one((name, in_utc(name, value, channel)));
        let sum = |columns: &[(&str, &str)]| {
            columns.iter().fold(1_u64, |sum, (name, value)| sum.wrapping_add(one(name, value))).max(1)
        };
        let new = row.new.map(|json| shown(json, channel)).transpose().ok()?;
        let mut old = row.old.map(|json| shown(json, channel)).transpose().ok()?;
        if let (Some(old), Some(new)) = (&mut old, &new)
            && old.len() < new.len()
        {
            let lacking: Vec<_> = new.iter().filter(|(name, _)| old.iter().all(|(other, _)| other != name)).collect();
            old.extend(lacking);
        }
        Some(Images { old: old.map_or(0, |old| sum(&old)), new: new.map_or(0, |new| sum(&new)) })
    }
}

/// A time at another offset is the same time.
fn in_utc<'a>(name: &str, value: &'a str, channel: &CatalogChannel) -> std::borrow::Cow<'a, str> {
    let is_time = value.starts_with('"') && channel.timestamps.iter().any(|column| **column == *name);
    match is_time.then(|| row::in_utc(value)).flatten() {
        Some(text) => text.into(),
        None => value.into(),
    }
}

/// The values of some columns. Reads no further than the last of them, which is a key's and stands in front as a rule.
fn values<'a>(json: &'a str, names: &[Box<str>]) -> Vec<Option<&'a str>> {
    let mut found = vec![None; names.len()];
    let mut missing = names.len();
    for (name, value) in ObjectMembers::of(json) {
        let is = |wanted: &str| if name.contains('\\') { unescaped(name) == wanted } else { name == wanted };
        if let Some(at) = names.iter().position(|wanted| is(wanted)) {
            missing -= usize::from(found[at].is_none());
            found[at] = Some(value);
            if missing == 0 {
                break;
            }
        }
    }
    found
}

fn unescaped(name: &str) -> String {
    serde_json::from_str(&format!("\"{name}\"")).unwrap_or_default()
}

/// An image that is no object.
struct NoRow;

/// The columns that may leave. An excluded one is null in one image of a row, and missing in another that is larger: it counts for
/// nothing.
fn shown<'a>(json: &'a str, channel: &CatalogChannel) -> Result<Vec<(&'a str, &'a str)>, NoRow> {
    let mut all = columns(json)?;
    if !channel.excluded.is_empty() {
        let is = |name: &str, other: &str| if name.contains('\\') { unescaped(name) == other } else { name == other };
        all.retain(|(name, _)| !channel.excluded.iter().any(|excluded| is(name, excluded)));
    }
    Ok(all)
}

fn columns(json: &str) -> Result<Vec<(&str, &str)>, NoRow> {
    let mut members = ObjectMembers::of(json);
    let columns = members.by_ref().collect();
    if members.is_whole { Ok(columns) } else { Err(NoRow) }
}

/// The members of a JSON object as they are written: name without its quotes, value. Postgres made the text, so that what
/// lies inside a value is not checked again.
struct ObjectMembers<'a> {
    json: &'a str,
    at: usize,
    /// the object's end was seen
    is_whole: bool,
}

impl<'a> ObjectMembers<'a> {
    fn of(json: &'a str) -> Self {
        let mut members = Self { json, at: 0, is_whole: false };
        members.skip_blanks();
        match members.peek() {
            Some(b'{') => members.at += 1,
            _ => members.at = json.len(),
        }
        members
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Goes behind a string that begins here.
    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b'}' | b']' if depth == 0 => return Some(()),
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn member(&mut self) -> Option<(&'a str, &'a str)> {
        self.skip_blanks();
        if self.peek()? == b',' {
            self.at += 1;
            self.skip_blanks();
        }
        if self.peek()? == b'}' {
            self.is_whole = true;
            return None;
        }
        let name = self.at;
        (self.peek()? == b'"').then_some(())?;
        self.skip_string()?;
        let name = self.json.get(name + 1..self.at - 1)?;
        self.skip_blanks();
        (self.peek()? == b':').then_some(())?;
        self.at += 1;
        self.skip_blanks();
        let value = self.at;
        self.skip_value()?;
        let value = self.json.get(value..self.at)?.trim_ascii_end();
        (!value.is_empty()).then_some((name, value))
    }
}

impl<'a> Iterator for ObjectMembers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let member = self.member();
        if member.is_none() && !self.is_whole {
            self.at = self.json.len();
        }
        member
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row<'a>(op: u8, old: Option<&'a str>, new: Option<&'a str>) -> OutboxRow<'a> {
        OutboxRow { id: 7, xid: 70, at: 0, channel: 1, op, old, new, actor: None, users: None, command: 0, depth: 1 }
    }

    fn channel() -> CatalogChannel {
        let (key, timestamps) = (vec!["k".into(), "at".into()], vec!["at".into()]);
        CatalogChannel { key, timestamps, partitioned_by: vec!["at".into()], ..CatalogChannel::named("t") }
    }

    #[test]
    fn members_are_read_as_they_are_written() {
        for (json, members) in [
            (
                r#"{"a":1,"b" : {"x":["}","\"",[]]} , "c":"\\"}"#,
                vec![("a", "1"), ("b", r#"{"x":["}","\"",[]]}"#), ("c", r#""\\""#)],
            ),
            ("{}", vec![]),
            (r#" { "a" : null } "#, vec![("a", "null")]),
        ] {
            assert_eq!(columns(json).ok(), Some(members), "{json}");
        }
        for json in ["", "null", "[1]", r#"{"a""#, r#"{"a":"#, r#"{"a":1"#, r#"{"a":"\"#, "{a:1}"] {
            assert!(columns(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_old_image_that_lacks_columns_has_them_of_the_new_one() {
        let (hashes, channel) = (Hashes::default(), channel());
        let full = r#"{"k":1,"at":null,"v":1}"#;
        let updated = row(b'U', Some(r#"{"v":1}"#), Some(r#"{"k":1,"at":null,"v":2}"#));
        let created = row(b'I', None, Some(full));
        let images = |row: &OutboxRow<'_>| hashes.images(row, &channel).unwrap();
        assert_eq!(images(&updated).old, images(&created).new);
        assert_ne!(images(&updated).old, images(&updated).new);
        let keys = hashes.keys(&updated, &channel).unwrap();
        assert_eq!((keys.from, keys.to), (keys.to, hashes.keys(&created, &channel).unwrap().to));
    }

    #[test]
    fn a_time_is_the_same_whatever_the_writers_zone() {
        let (hashes, channel) = (Hashes::default(), channel());
        let one = row(b'I', None, Some(r#"{"k":1,"at":"2024-01-15T11:30:00+01:00"}"#));
        let other = row(b'D', Some(r#"{"k":1,"at":"2024-01-15T10:30:00+00:00"}"#), None);
        let keys = [&one, &other].map(|row| hashes.keys(row, &channel).unwrap());
        assert_eq!((keys[0].to, keys[0].stem), (keys[1].from, keys[1].stem));
        assert_eq!(hashes.images(&one, &channel).unwrap().new, hashes.images(&other, &channel).unwrap().old);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(op: u8, old in prop::option::of("[{}\\[\\]\",:k1\\\\ü ]{0,20}"), new in prop::option::of("\\PC{0,40}")) {
            let (hashes, channel) = (Hashes::default(), channel());
            let row = row(op, old.as_deref(), new.as_deref());
            let _ = (hashes.keys(&row, &channel), hashes.images(&row, &channel));
        }

        #[test]
        fn what_serde_reads_is_read_alike(values in prop::collection::vec("\\PC{0,6}", 0..5)) {
            let object: serde_json::Map<String, serde_json::Value> =
                values.iter().enumerate().map(|(i, text)| (format!("{text}{i}"), serde_json::json!([text, { text: i }]))).collect();
            let json = serde_json::to_string(&object).unwrap();
            let read = columns(&json).ok().unwrap();
            prop_assert_eq!(read.len(), object.len());
            for ((name, value), (key, wanted)) in read.iter().zip(&object) {
                prop_assert_eq!(&unescaped(name), key);
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(value).unwrap(), wanted);
            }
        }
    }
}
