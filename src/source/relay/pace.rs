//! How fast an awake relay reads, and when it is slow enough to fall asleep. Pure: durations in, durations out.

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

/// Whether changes still come often enough to stay awake, by the last tenth of a second. Goes to sleep below the rate
/// at which it wakes: at 30 changes a second, awake cost the database hundreds of reads for nothing.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    busy_reads: u32,
}

impl Pace {
    const WINDOW: Duration = Duration::from_millis(100);
    const SLOW: u32 = 4;

    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, busy_reads: 0 }
    }

    pub(super) fn is_slow(&mut self, now: Instant, found: bool) -> bool {
        self.busy_reads += u32::from(found);
        if now.duration_since(self.since) < Self::WINDOW {
            return false;
        }
        let slow = self.busy_reads <= Self::SLOW;
        *self = Self::new(now);
        slow
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
        for (reads, slow) in [(4, true), (5, false)] {
            let mut pace = Pace::new(start);
            for _ in 0..reads {
                assert!(!pace.is_slow(start + Duration::from_millis(50), true));
            }
            assert_eq!(pace.is_slow(start + Duration::from_millis(100), false), slow);
        }
    }
}
