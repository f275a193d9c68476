//! A page of rows as a view shows it, ready for messages. Pure: puts rows together into parts.

use crate::change::{Floor, Json};
use crate::cursor::Boundary;
use crate::request::{Count, OrderBy, Page, Place};

/// Rows are put together into messages of so many bytes.
const PART: usize = 64 * 1024;

/// A page as a view shows it.
#[derive(Debug)]
pub struct ViewPage {
    /// in order; the last one is not of rows that are too large
    pub parts: Vec<PagePart>,
    /// the whole order
    pub order: Vec<OrderBy>,
    /// further rows lie behind them
    pub more: bool,
    /// the place of the last row that was looked at
    pub last: Option<Place>,
    /// that of the last row that is told: a client learns no other one
    pub told: Option<Place>,
    /// where it was asked for
    pub count: Option<Count>,
    /// where it was read
    pub boundary: Boundary,
    /// the rules by which it was read
    pub floor: Option<Floor>,
}

/// Some rows of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PagePart {
    /// JSON objects with commas between them
    pub rows: String,
    /// they are too large: of each there is its key, and the columns of the order
    pub omitted: bool,
}

impl ViewPage {
    /// What the source has told, by the rules of `floor`.
    pub fn of(page: Page, floor: Option<Floor>) -> Self {
        let Page { rows, order, more, last, told, count, boundary } = page;
        Self { parts: parts(rows), order, more, last, told, count, boundary, floor }
    }

    /// Bytes of its rows.
    pub fn size(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }
}

/// Rows, and whether each is whole, as parts of one kind.
fn parts(rows: Vec<(Json, bool)>) -> Vec<PagePart> {
    let mut parts: Vec<PagePart> = Vec::new();
    for (row, is_whole) in rows {
        match parts.last_mut().filter(|part| part.omitted != is_whole && part.rows.len() < PART) {
            Some(part) => {
                part.rows.push(',');
                part.rows.push_str(&row);
            }
            None => parts.push(PagePart { rows: row.into(), omitted: !is_whole }),
        }
    }
    if parts.last().is_none_or(|last| last.omitted) {
        parts.push(PagePart::default());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_one_kind_and_the_last_is_of_whole_rows() {
        let row = |id: u32, is_whole| (Json::from(format!("{{\"id\":{id}}}")), is_whole);
        let part = |rows: &str, omitted| PagePart { rows: rows.to_owned(), omitted };
        assert_eq!(parts(vec![]), [part("", false)]);
        assert_eq!(parts(vec![row(1, true), row(2, true)]), [part(r#"{"id":1},{"id":2}"#, false)]);
        assert_eq!(
            parts(vec![row(1, true), row(2, false)]),
            [part(r#"{"id":1}"#, false), part(r#"{"id":2}"#, true), part("", false)]
        );
        let long = Json::from(format!("{{\"text\":\"{}\"}}", "x".repeat(PART)));
        assert_eq!(parts(vec![(long, true), row(2, true)]).len(), 2);
    }
}
