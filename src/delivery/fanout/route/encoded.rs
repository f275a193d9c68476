//! The frames of one change, each made once however many views are shown the same. Pure: knows where a frame is, not what
//! is in it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;

use crate::delivery::scope::visible::VisibleChange;

/// The frames of one change that were made: what is shown to several is made once.
#[derive(Default)]
pub(super) struct Encoded<'a>(HashMap<u64, Vec<Made<'a>>>);

/// The mark of its views, what is shown, and where the frame is.
type Made<'a> = (&'a str, VisibleChange<'a>, Range<usize>);

impl<'a> Encoded<'a> {
    pub(super) fn insert(&mut self, mark: &'a str, shown: VisibleChange<'a>, frame: Range<usize>) {
        self.0.entry(digest(mark, &shown)).or_default().push((mark, shown, frame));
    }

    pub(super) fn find(&self, mark: &str, shown: &VisibleChange<'_>) -> Option<Range<usize>> {
        let same = |(known, other, _): &&Made<'_>| *known == mark && is_same(other, shown);
        self.0.get(&digest(mark, shown))?.iter().find(same).map(|(.., frame)| frame.clone())
    }
}

/// Text of the change itself is told by where it is; only what was made for a view is gone through.
fn digest(mark: &str, shown: &VisibleChange<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (mark, shown.tag, shown.action, &shown.changed, shown.gap.is_some()).hash(&mut hasher);
    for text in [Some(&shown.data), shown.old.as_ref()] {
        match text {
            Some(Cow::Borrowed(text)) => (text.as_ptr() as usize, text.len()).hash(&mut hasher),
            Some(Cow::Owned(text)) => text.hash(&mut hasher),
            None => {}
        }
    }
    hasher.finish()
}

fn is_same(one: &VisibleChange<'_>, other: &VisibleChange<'_>) -> bool {
    let is_same = |one: &str, other: &str| std::ptr::eq(one, other) || one == other;
    one.tag == other.tag
        && one.action == other.action
        && one.gap == other.gap
        && one.omitted == other.omitted
        && one.changed == other.changed
        && is_same(&one.data, &other.data)
        && match (&one.old, &other.old) {
            (None, None) => true,
            (Some(one), Some(other)) => is_same(one, other),
            _ => false,
        }
}
