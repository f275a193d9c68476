//! Which rows of a snapshot each socket got: each has to come once. Pure.

use memchr::memmem::Finder;

use crate::frames::number;

/// A bit for each row, so 128 MiB for a socket at most.
const LARGEST: u64 = 1 << 30;

/// Counts of all sockets together.
pub struct Rows {
    /// how a row begins
    begin: Finder<'static>,
    /// of each socket, a bit for each row that it has
    seen: Vec<Vec<u64>>,
    /// different rows, each counted once at each socket
    pub told: u64,
    /// came once more
    pub repeated: u64,
}

impl Rows {
    /// Rows whose first column is `key`.
    pub fn new(key: &str, sockets: usize) -> Self {
        let begin = Finder::new(&format!("{{\"{key}\":")).into_owned();
        Self { begin, seen: vec![Vec::new(); sockets], told: 0, repeated: 0 }
    }

    /// A message that a socket got. A quote within a text is escaped, so a text does not look like a row.
    pub fn take(&mut self, socket: usize, payload: &[u8]) -> Result<(), String> {
        let Some(seen) = self.seen.get_mut(socket) else { return Ok(()) };
        let length = self.begin.needle().len();
        for at in self.begin.find_iter(payload) {
            let row = number(&payload[at + length..]).map(|(row, _)| row).filter(|row| *row < LARGEST);
            let row = row.ok_or("a row whose key is no whole number below 2^30")?;
            let (word, bit) = ((row / 64) as usize, 1 << (row % 64));
            if word >= seen.len() {
                seen.resize(word + 1, 0);
            }
            if seen[word] & bit == 0 {
                seen[word] |= bit;
                self.told += 1;
            } else {
                self.repeated += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_counts_once_at_each_socket() {
        let mut rows = Rows::new("id", 2);
        let text = r#"{"type":"snapshot","rows":[{"id":7,"body":"{\"id\":9}"},{"id":130,"body":""}],"last":false}"#;
        for (socket, repeated) in [(0, 0), (1, 0), (0, 2), (2, 2)] {
            rows.take(socket, text.as_bytes()).unwrap();
            assert_eq!(rows.repeated, repeated);
        }
        assert_eq!(rows.told, 4);
        rows.take(0, br#"{"type":"snapshot","rows":[],"last":true}"#).unwrap();
        assert_eq!((rows.told, rows.repeated), (4, 2));
    }

    #[test]
    fn a_key_that_cannot_be_counted_is_refused() {
        for row in [r#"{"id":"seven"}"#, r#"{"id":1073741824}"#, r#"{"id":"#] {
            assert!(Rows::new("id", 1).take(0, row.as_bytes()).is_err(), "{row}");
        }
    }
}
