//! What a client resumes with: a cursor, a mark of the rights with which it was got, and in the middle of a snapshot the place of the
//! last row that the client was given. Pure: text.
//!
//! The mark begins with `~`, which no cursor has in it. A client that comes back with other rights is told `gap` and not a replay of
//! what it did not see before.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::delivery::scope::grant::MARK;
use crate::request::Place;

/// In the place of the mark: whatever the rights. Only the database itself gives such a cursor out, in `rowcast.cursor()`, to an
/// application that has shown somebody rows by rules of its own. What follows is told by the rights of now.
const WHATEVER: &str = "~-";

/// A cursor as messages have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken<'a> {
    /// the sealed cursor
    pub cursor: &'a str,
    /// `~` and a hash of what may be seen, see [`Grant::mark`](crate::delivery::scope::grant::Grant::mark); empty: everything
    pub rights: &'a str,
    /// in the middle of a snapshot `~` and the place, see [`encode_place`]; empty: the client has all rows
    pub place: &'a str,
}

impl<'a> ResumeToken<'a> {
    /// Takes a client's text apart. Whether its cursor is one, and its rights are those of now, is not decided here.
    pub fn parse(text: &'a str) -> Self {
        let (cursor, rest) = text.split_at(text.find(MARK).unwrap_or(text.len()));
        let (rights, place) = match rest.get(1..).and_then(|after| after.find(MARK)) {
            Some(at) => rest.split_at(at + 1),
            None => (rest, ""),
        };
        // where there is a place, the mark of all rights is not empty
        let rights = if place.is_empty() || rights.len() > 1 { rights } else { "" };
        Self { cursor, rights, place }
    }

    /// A position of a client that has all rows.
    pub fn of(cursor: &'a str, rights: &'a str) -> Self {
        Self { cursor, rights, place: "" }
    }

    /// Whether a client may go on from it whose rights have this mark now.
    pub fn is_good_for(&self, mark: &str) -> bool {
        self.rights == mark || self.rights == WHATEVER
    }
}

impl fmt::Display for ResumeToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = if self.place.is_empty() || !self.rights.is_empty() { self.rights } else { "~" };
        write!(f, "{}{rights}{}", self.cursor, self.place)
    }
}

/// The place of a row as a token has it: `~` and JSON in base64url.
pub fn encode_place(place: &Place) -> String {
    let json = serde_json::to_vec(place).unwrap_or_default();
    format!("{MARK}{}", URL_SAFE_NO_PAD.encode(json))
}

/// The same back; `None` where it is none.
pub fn decode_place(text: &str) -> Option<Place> {
    let json = URL_SAFE_NO_PAD.decode(text.strip_prefix(MARK)?).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let place = encode_place(&vec![("id".into(), Some("7~ü".into())), ("at".into(), None)]);
        for (cursor, rights) in [("1abc", ""), ("1abc.2x", "~3f0"), ("1abc", "~-"), ("", "")] {
            for place in ["", &place] {
                let token = ResumeToken { cursor, rights, place };
                assert_eq!(ResumeToken::parse(&token.to_string()), token);
            }
        }
        assert_eq!(decode_place(&place).unwrap()[0].1.as_deref(), Some("7~ü"));
        for text in ["", "~", "~~", "~~~", "1abc~", "ü~ü"] {
            assert_eq!(ResumeToken::parse(text).cursor, text.split('~').next().unwrap());
        }
        assert_eq!((decode_place("~"), decode_place("~x"), decode_place("~e30")), (None, None, None));
    }

    #[test]
    fn it_is_good_for_the_rights_with_which_it_was_got() {
        let token = |rights| ResumeToken::of("1abc", rights);
        assert!(token("").is_good_for("") && token("~3f0").is_good_for("~3f0"));
        assert!(!token("").is_good_for("~3f0") && !token("~3f0").is_good_for("") && !token("~").is_good_for(""));
        assert!(["", "~3f0"].iter().all(|mark| token("~-").is_good_for(mark)));
    }
}
