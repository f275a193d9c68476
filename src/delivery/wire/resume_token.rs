//! What a client resumes with: a cursor, and a mark of the rights with which it was got. Pure: text.
//!
//! The mark begins with `~`, which no cursor has in it. A client that comes back with other rights is told `gap` and not a replay of
//! what it did not see before.

use std::fmt;

use crate::delivery::scope::grant::MARK;

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
}

impl<'a> ResumeToken<'a> {
    /// Takes a client's text apart. Whether its cursor is one, and its rights are those of now, is not decided here.
    pub fn parse(text: &'a str) -> Self {
        let (cursor, rights) = text.split_at(text.find(MARK).unwrap_or(text.len()));
        Self { cursor, rights }
    }

    /// Whether a client may go on from it whose rights have this mark now.
    pub fn is_good_for(&self, mark: &str) -> bool {
        self.rights == mark || self.rights == WHATEVER
    }
}

impl fmt::Display for ResumeToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.cursor, self.rights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        for (cursor, rights) in [("1abc", ""), ("1abc.2x", "~3f0"), ("", ""), ("", "~")] {
            let token = ResumeToken { cursor, rights };
            assert_eq!(ResumeToken::parse(&token.to_string()), token);
        }
    }

    #[test]
    fn it_is_good_for_the_rights_with_which_it_was_got() {
        let token = |rights| ResumeToken { cursor: "1abc", rights };
        assert!(token("").is_good_for("") && token("~3f0").is_good_for("~3f0"));
        assert!(!token("").is_good_for("~3f0") && !token("~3f0").is_good_for("") && !token("~").is_good_for(""));
        assert!(["", "~3f0"].iter().all(|mark| token("~-").is_good_for(mark)));
    }
}
