//! `like` patterns: compiled once, then matched in time linear in the text, whatever the pattern. Pure.
//!
//! A pattern is what must stand at the start, pieces that follow each other somewhere in between, and what must stand at
//! the end. The leftmost place of each piece leaves the most room for the next ones, so none is tried twice. A piece
//! without `_` is found by a search that is linear for any text; one with `_` by a word of one bit a character
//! (Baeza-Yates and Gonnet), which is why a pattern has at most as many characters as that word has bits.

use memchr::memmem;

/// Characters of a pattern at most: a bit of a `u128` each, and room to spare.
pub(crate) const CHARS: usize = 100;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Like {
    /// compares lower case with lower case
    pub(crate) any_case: bool,
    start: Piece,
    /// `None`: there is no `%`, and nothing may follow `start`
    rest: Option<(Box<[Piece]>, Piece)>,
}

/// What stands between two `%`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Piece {
    Plain(Box<str>),
    Gapped(Gapped),
}

/// With `_` in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Gapped {
    /// `None` is `_`
    glyphs: Box<[Option<char>]>,
    /// the bits of the places where any character may stand
    any: u128,
    /// by character, sorted: the bits of the places where it may stand
    places: Box<[(char, u128)]>,
}

impl Like {
    /// Reads a pattern: `%` or `*` any text, `_` one character, `\` takes the meaning from what follows. Nothing where it
    /// is too long.
    pub(crate) fn compile(pattern: &str, any_case: bool) -> Option<Self> {
        if pattern.chars().count() > CHARS {
            return None;
        }
        let pattern = if any_case { pattern.to_lowercase() } else { pattern.to_owned() };
        let mut pieces = vec![Vec::new()];
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let glyph = match c {
                '%' | '*' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '_' => None,
                '\\' => Some(chars.next().unwrap_or('\\')),
                other => Some(other),
            };
            pieces.last_mut()?.push(glyph);
        }
        // lower case may be longer: İ becomes two characters
        if pieces.iter().any(|piece| piece.len() > u128::BITS as usize) {
            return None;
        }
        let mut pieces = pieces.into_iter().map(Piece::of);
        let start = pieces.next()?;
        let mut between: Vec<Piece> = pieces.collect();
        let rest = between.pop().map(|end| {
            between.retain(|piece| *piece != Piece::Plain("".into()));
            (between.into(), end)
        });
        Some(Self { any_case, start, rest })
    }

    /// Bytes that a match goes through for each byte of the text, about: a step of a piece with `_` is slower.
    pub(crate) fn weight(&self) -> u64 {
        let pieces = self.rest.iter().flat_map(|(between, _)| between.iter());
        if pieces.into_iter().any(|piece| matches!(piece, Piece::Gapped(_))) { 8 } else { 1 }
    }

    /// As SQL's `like` has it; nothing where case does not count, which each collation sees in its own way.
    pub(crate) fn for_database(&self) -> Option<Box<str>> {
        let mut pattern = String::new();
        self.start.push_to(&mut pattern);
        if let Some((between, end)) = &self.rest {
            for piece in between.iter().chain([end]) {
                pattern.push('%');
                piece.push_to(&mut pattern);
            }
        }
        (!self.any_case).then(|| pattern.into())
    }

    /// Whether a text is like it; in lower case, where case does not count.
    pub(crate) fn is_like(&self, text: &str) -> bool {
        let Some(text) = self.start.strip_start(text) else { return false };
        let Some((between, end)) = &self.rest else { return text.is_empty() };
        let Some(mut text) = end.strip_end(text) else { return false };
        for piece in between {
            let Some(after) = piece.end_of_first(text) else { return false };
            text = &text[after..];
        }
        true
    }
}

impl Piece {
    fn of(glyphs: Vec<Option<char>>) -> Self {
        if let Some(plain) = glyphs.iter().copied().collect::<Option<String>>() {
            return Self::Plain(plain.into());
        }
        let bit = |place: usize| 1_u128 << place;
        let any = glyphs.iter().enumerate().filter(|(_, glyph)| glyph.is_none()).map(|(place, _)| bit(place)).sum();
        let mut chars: Vec<char> = glyphs.iter().copied().flatten().collect();
        chars.sort_unstable();
        chars.dedup();
        let places = chars.into_iter().map(|c| {
            let here = glyphs.iter().enumerate().filter(|(_, glyph)| **glyph == Some(c));
            (c, any | here.map(|(place, _)| bit(place)).sum::<u128>())
        });
        let places = places.collect();
        Self::Gapped(Gapped { glyphs: glyphs.into(), any, places })
    }

    fn push_to(&self, pattern: &mut String) {
        let mut push = |glyph: Option<char>| match glyph {
            None => pattern.push('_'),
            Some(c) => {
                if matches!(c, '%' | '_' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
        };
        match self {
            Self::Plain(plain) => plain.chars().for_each(|c| push(Some(c))),
            Self::Gapped(gapped) => gapped.glyphs.iter().for_each(|glyph| push(*glyph)),
        }
    }

    /// The text after it, where it begins with it.
    fn strip_start<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Plain(plain) => text.strip_prefix(&**plain),
            Self::Gapped(Gapped { glyphs, .. }) => {
                let mut chars = text.chars();
                let fits = glyphs.iter().all(|glyph| chars.next().is_some_and(|c| glyph.is_none_or(|g| g == c)));
                fits.then_some(chars.as_str())
            }
        }
    }

    /// The text before it, where it ends with it.
    fn strip_end<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Plain(plain) => text.strip_suffix(&**plain),
            Self::Gapped(Gapped { glyphs, .. }) => {
                let mut chars = text.chars();
                let mut glyphs = glyphs.iter().rev();
                let fits = glyphs.all(|glyph| chars.next_back().is_some_and(|c| glyph.is_none_or(|g| g == c)));
                fits.then_some(chars.as_str())
            }
        }
    }

    /// Where its first occurrence ends.
    fn end_of_first(&self, text: &str) -> Option<usize> {
        match self {
            Self::Plain(plain) => memmem::find(text.as_bytes(), plain.as_bytes()).map(|at| at + plain.len()),
            Self::Gapped(gapped) => {
                let found = 1_u128 << (gapped.glyphs.len() - 1);
                // bit n: the characters up to here fit the first n + 1 places
                let mut fits = 0_u128;
                for (at, c) in text.char_indices() {
                    let here = gapped.places.binary_search_by_key(&c, |(known, _)| *known);
                    let here = here.map_or(gapped.any, |place| gapped.places[place].1);
                    fits = ((fits << 1) | 1) & here;
                    if fits & found != 0 {
                        return Some(at + c.len_utf8());
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn like(pattern: &str) -> Like {
        Like::compile(pattern, false).unwrap()
    }

    proptest! {
        #[test]
        fn like_means_what_its_definition_says(pattern in "[abü_%]{0,7}", text in "[abü]{0,9}") {
            fn defined(pattern: &[char], text: &[char]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some(('%', rest)) => (0..=text.len()).any(|n| defined(rest, &text[n..])),
                    Some(('_', rest)) => !text.is_empty() && defined(rest, &text[1..]),
                    Some((c, rest)) => text.first() == Some(c) && defined(rest, &text[1..]),
                }
            }
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(like(&pattern).is_like(&text), defined(&chars(&pattern), &chars(&text)));
        }
    }

    /// Twice the text is twice the time, and no pattern makes it the product of both lengths: that took 1.8 s for 10,000
    /// characters and ten patterns.
    #[test]
    fn the_worst_patterns_are_read_through_once() {
        let text = "a".repeat(2_000_000) + "b";
        let many = "%a".repeat(50);
        let gapped = format!("%{}c%", "a_".repeat(40));
        let ends = format!("%{}b", "a".repeat(98));
        let misses = format!("%{}cb%", "a".repeat(96));
        for (pattern, expected) in [(&*many, false), (&*gapped, false), (&*ends, true), (&*misses, false)] {
            let pattern = like(pattern);
            let began = Instant::now();
            assert_eq!(pattern.is_like(&text), expected);
            // the product would be 200 million steps, which is 2 s and more in a build for tests
            assert!(began.elapsed() < Duration::from_millis(1500), "{:?} of {pattern:?}", began.elapsed());
        }
    }

    #[test]
    fn a_pattern_that_no_word_holds_is_refused() {
        assert!(Like::compile(&"_".repeat(101), false).is_none());
        assert!(Like::compile(&"_".repeat(100), false).is_some());
        // two characters each in lower case
        assert!(Like::compile(&format!("_{}", "İ".repeat(99)), true).is_none());
    }
}
