//! How fast an awake relay reads, and when it is slow enough to fall asleep. Pure: durations and moments in, decisions out.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::outbox::Found;

/// Awake, the pause between two reads: as long as the read took, or a pass over the sockets, so that a busy machine has
/// fewer of both, but not shorter than this. Each read in vain doubles this, up to `PAUSE_IN_VAIN`, unless several write at
/// once: of those that run, one will commit in a moment. And longer for each change that was found, so that beside 6,000
/// changes a second there are 180 reads instead of 390, which take 0.12 of a core instead of 0.17, half of it from the
/// database.
const PAUSE: Duration = Duration::from_micros(250);
const PAUSE_IN_VAIN: Duration = Duration::from_millis(1);
const PAUSE_A_CHANGE: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// `pass`: the longest one over the sockets since the last pause. `in_vain`: so many reads have found nothing since one
/// found something.
pub(super) fn pause_after(took: Duration, pass: Duration, found: Found, in_vain: u32) -> Duration {
    let doubled = if found.is_overtaken { 0 } else { in_vain };
    let least = PAUSE_IN_VAIN.min(PAUSE.saturating_mul(2_u32.saturating_pow(doubled)));
    let rows = u32::try_from(found.rows).unwrap_or(u32::MAX);
    PAUSE_MAX.min(took.max(pass).max(least).saturating_add(PAUSE_A_CHANGE.saturating_mul(rows)))
}

/// Why a relay is awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// it has just started, or so many changes came
    ByRate,
    /// writers waited for each other's bells: it stays awake until then
    ByWaiting(Instant),
}

/// Whether changes still come often enough to stay awake, by the last tenth of a second.
#[derive(Debug)]
pub(super) struct Pace {
    woken: Woken,
    since: Instant,
    found: Instant,
    reads: u32,
    busy_reads: u32,
}

impl Pace {
    const WINDOW: Duration = Duration::from_millis(100);
    /// Two thirds of the rate that wakes, so that a steady one is on one side.
    const SLOW: u32 = 16;
    /// Nobody waits where nothing is written for so long.
    const NOTHING: Duration = Duration::from_secs(1);

    pub(super) fn new(now: Instant, woken: Woken) -> Self {
        Self { woken, since: now, found: now, reads: 0, busy_reads: 0 }
    }

    pub(super) fn is_slow(&mut self, now: Instant, found: bool) -> bool {
        self.reads += 1;
        if found {
            self.busy_reads += 1;
            self.found = now;
        }
        if now.duration_since(self.since) < Self::WINDOW {
            return false;
        }
        // where most reads find something, they are few because each takes long
        let are_few = self.busy_reads <= Self::SLOW && self.busy_reads * 2 < self.reads;
        (self.since, self.reads, self.busy_reads) = (now, 0, 0);
        match self.woken {
            Woken::ByRate => are_few,
            // how many come says nothing of what waiting would cost: on a disk that takes 25 ms they are few either way
            Woken::ByWaiting(until) if now < until => now.duration_since(self.found) >= Self::NOTHING,
            Woken::ByWaiting(_) => are_few,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_in_vain_doubles_the_pause_and_a_change_lengthens_it() {
        let pause = |took, pass, rows, is_overtaken, in_vain| {
            let found = Found { rows, xmin: 0, is_overtaken, may_keep_quiet: true };
            pause_after(Duration::from_micros(took), Duration::from_micros(pass), found, in_vain).as_micros()
        };
        assert_eq!([1, 2, 3, 40].map(|in_vain| pause(100, 0, 0, false, in_vain)), [500, 1000, 1000, 1000]);
        assert_eq!(pause(100, 0, 0, true, 40), 250, "somebody will commit in a moment");
        assert_eq!([1, 3, 30].map(|rows| pause(100, 0, rows, false, 0)), [450, 850, 5000]);
        assert_eq!(pause(1500, 0, 0, false, 1), 1500, "the database is busy");
        assert_eq!(pause(100, 1500, 0, false, 1), 1500, "the sockets are");
        assert_eq!(pause(100, 150_000, 0, false, 1), 5000);
    }

    #[test]
    fn a_few_changes_in_a_tenth_of_a_second_are_slow() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let after_a_window = |woken, busy| {
            let mut pace = Pace::new(start, woken);
            assert!((0..90).all(|ms| !pace.is_slow(at(ms), ms < busy)));
            pace.is_slow(at(100), false)
        };
        assert!(after_a_window(Woken::ByRate, 16));
        assert!(!after_a_window(Woken::ByRate, 17));
        assert!(!after_a_window(Woken::ByWaiting(at(1000)), 1));
        assert!(after_a_window(Woken::ByWaiting(at(100)), 16));
        let slow_reads = |busy_of_four: u64| {
            let mut pace = Pace::new(start, Woken::ByRate);
            (1..=8).any(|read| pace.is_slow(at(25 * read), read % 4 < busy_of_four))
        };
        assert!(slow_reads(1), "one of four reads of 25 ms finds something");
        assert!(!slow_reads(2), "every other one");
        let mut pace = Pace::new(start, Woken::ByWaiting(at(60_000)));
        let slow = (0..200).find(|i| pace.is_slow(at(10 * i), *i < 50));
        assert_eq!(slow, Some(150), "nothing for a second");
    }
}
