//! Keeps refusals from flooding the log: of each kind a few a second are written, with the number of those that were
//! not. Pure but for its counts.

use crate::sync::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines of a kind that are written within a second.
const WRITTEN: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// What was written of each kind.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<&'static str, Lines>>);

#[derive(Debug)]
struct Lines {
    since: Instant,
    written: u32,
    unwritten: u64,
}

impl Refusals {
    /// Whether a line of this kind is to be written now, and if so, how many were not since the last one.
    pub fn note(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = lock(&self.0);
        let lines = kinds.entry(kind).or_insert(Lines { since: now, written: 0, unwritten: 0 });
        if now.duration_since(lines.since) >= WINDOW {
            (lines.since, lines.written) = (now, 0);
        }
        if lines.written == WRITTEN {
            lines.unwritten += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_a_second_and_a_number() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let written = (0..1000).filter_map(|_| refusals.note("token", start)).count();
        assert_eq!(written, 10);
        assert_eq!(refusals.note("origin", start), Some(0), "each kind has its own");
        assert_eq!(refusals.note("token", start + WINDOW), Some(990));
        assert_eq!(refusals.note("token", start + WINDOW), Some(0));
    }
}
