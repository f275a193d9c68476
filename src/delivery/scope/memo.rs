//! What was found out about the values of one row, so that a thousand filters read its text once. Owns what that cost;
//! knows no filter but by what it asks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::like::Like;
use super::value::Value;
use crate::change::ValueKind;
use crate::row::text_of;

/// A pattern is remembered for texts from here on: below, it is matched again sooner than looked up.
const WORTH: usize = 4096;

/// Of the values of one row, before and after a change. They must outlive it: it knows them by where they are.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    known: RefCell<Vec<KnownValue>>,
    work: Cell<u64>,
}

/// Of one value.
#[derive(Debug)]
struct KnownValue {
    at: usize,
    /// `None`: not looked at; inside: null, or not to be compared
    value: Option<(ValueKind, Option<Value>)>,
    text: Option<Option<Box<str>>>,
    lower: Option<Box<str>>,
    likes: HashMap<Arc<Like>, bool>,
}

impl Memo {
    /// What was done so far, in bytes of text gone through: about a nanosecond each.
    pub(crate) fn work(&self) -> u64 {
        self.work.get()
    }

    pub(crate) fn charge(&self, work: u64) {
        self.work.set(self.work.get() + work);
    }

    /// Tells `ask` the value as one of this kind.
    pub(crate) fn with_value<T>(&self, kind: ValueKind, json: &RawValue, ask: impl FnOnce(Option<&Value>) -> T) -> T {
        let mut known = self.known.borrow_mut();
        let known = Self::of(&mut known, json);
        if known.value.as_ref().is_none_or(|(of, _)| *of != kind) {
            self.charge(json.get().len() as u64);
            known.value = Some((kind, Value::of(kind, json)));
        }
        ask(known.value.as_ref().and_then(|(_, value)| value.as_ref()))
    }

    /// Whether the text of a value is like that; nothing where it has no text.
    pub(crate) fn is_like(&self, json: &RawValue, like: &Arc<Like>) -> Option<bool> {
        let mut known = self.known.borrow_mut();
        let known = Self::of(&mut known, json);
        if known.text.is_none() {
            self.charge(json.get().len() as u64);
        }
        let text = known.text.get_or_insert_with(|| text_of(json)).as_deref()?;
        if let Some(is_like) = known.likes.get(like) {
            return Some(*is_like);
        }
        let text: &str = if like.any_case {
            if known.lower.is_none() {
                self.charge(4 * text.len() as u64);
            }
            known.lower.get_or_insert_with(|| text.to_lowercase().into())
        } else {
            text
        };
        self.charge(text.len() as u64 * like.weight());
        let is_like = like.is_like(text);
        if text.len() >= WORTH {
            known.likes.insert(like.clone(), is_like);
        }
        Some(is_like)
    }

    fn of<'a>(known: &'a mut Vec<KnownValue>, json: &RawValue) -> &'a mut KnownValue {
        let at = json.get().as_ptr() as usize;
        let place = known.iter().position(|known| known.at == at).unwrap_or_else(|| {
            known.push(KnownValue { at, value: None, text: None, lower: None, likes: HashMap::new() });
            known.len() - 1
        });
        &mut known[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_read_once_however_many_ask_for_the_same() {
        let json: Box<RawValue> = serde_json::from_str(&format!("\"{}\"", "x".repeat(100_000))).unwrap();
        let memo = Memo::default();
        let like = |pattern| Arc::new(Like::compile(pattern, false).unwrap());
        assert_eq!(memo.is_like(&json, &like("%y%")), Some(false));
        let once = memo.work();
        for _ in 0..1000 {
            assert_eq!(memo.is_like(&json, &like("%y%")), Some(false));
        }
        assert_eq!(memo.work(), once);
        assert_eq!(memo.is_like(&json, &like("x%")), Some(true));
        assert!(memo.work() >= once + 100_000, "another pattern is another pass");
    }

    #[test]
    fn a_value_is_known_by_its_kind() {
        let json: Box<RawValue> = serde_json::from_str("\"12\"").unwrap();
        let memo = Memo::default();
        assert!(memo.with_value(ValueKind::Text, &json, |value| matches!(value, Some(Value::Text(_)))));
        assert!(memo.with_value(ValueKind::Number, &json, |value| matches!(value, Some(Value::Number(_)))));
    }
}
