//! Which subscription of a socket a message is of: its channel or user, and a tag where the socket may have several views of
//! one. Pure: knows no view.

use std::fmt;
use std::hash::{Hash, Hasher as _};
use std::sync::Arc;

/// The `view` of messages: 1 to 32 characters that stand in JSON as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(Arc<str>);

/// Characters of a tag at most: it is in each message.
const LONGEST: usize = 32;

impl Tag {
    /// One that a client has chosen; `None` where it is too long, empty, or has other characters than letters, digits, `-`
    /// and `_` of ASCII.
    pub fn chosen(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        ((1..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain)).then(|| Self(text.into()))
    }

    /// One for a client that has chosen none: the same for the same wish, so that sockets share a view.
    pub fn of(wish: &impl Hash) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        wish.hash(&mut hasher);
        // 40 bits: a socket has some thousand views at most
        Self(format!("{:010x}", hasher.finish() >> 24).into())
    }
}

impl Tag {
    /// Whether it is this text.
    pub fn is(&self, text: &str) -> bool {
        *self.0 == *text
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which subscription of its socket a message is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// the channel, or `user/` and the user's id
    pub channel: Arc<str>,
    /// `None` where the socket has the whole channel
    pub tag: Option<Tag>,
}

impl fmt::Display for Label {
    /// The channel, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_plain_text() {
        for good in ["a", "A-z_09", &"x".repeat(32)] {
            assert_eq!(Tag::chosen(good).unwrap().to_string(), *good);
        }
        for bad in ["", "a b", "\"", "ü", &"x".repeat(33)] {
            assert_eq!(Tag::chosen(bad), None, "{bad}");
        }
        assert_eq!(Tag::of(&"one"), Tag::of(&"one"));
        assert_ne!(Tag::of(&"one"), Tag::of(&"two"));
        assert_eq!(Tag::chosen(&Tag::of(&1).to_string()), Some(Tag::of(&1)));
    }
}
