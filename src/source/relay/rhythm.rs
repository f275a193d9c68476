//! When a relay that sleeps should wake, by the bells that it answered. Pure: moments in, decisions out; the relay
//! looks at what waits.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When a relay that sleeps answered bells lately. A bell costs its writer little while writers do not overlap: NOTIFY takes a
/// lock of the whole cluster until the commit is on disk. So what wakes the relay is a writer that waits for another's bell,
/// or so many bells that reading without them costs no more. Not how many bells: a transaction of many rows rings many times,
/// and all of them at its commit.
#[derive(Debug)]
pub(super) struct Rhythm {
    answered: VecDeque<Instant>,
    /// since when each answer found another bell when it was there, and how many
    behind: Option<(Instant, u32)>,
    /// when the last look at what waits ended, and how long it says nothing anew
    looked: Option<(Instant, Duration)>,
    was_waiting: bool,
    /// for so long it stays awake once writers have waited
    stay: Duration,
    slept: Option<Instant>,
}

/// What the bells of late ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bells {
    /// to sleep on
    Few,
    /// To sleep on unless writers wait. A look at them is due after this time, if no bell rings before: right behind a bell,
    /// one of two writers that take turns has just committed, and none waits.
    Some(Duration),
    /// to wake
    Many,
}

impl Rhythm {
    const WINDOW: Duration = Duration::from_millis(500);
    const MANY: usize = 120;
    const SHORT: Duration = Duration::from_millis(100);
    const MANY_SHORT: usize = 30;
    /// Reading one time after the other for so long, at least so often: to be awake costs no more, and spares the bells.
    const BEHIND: (Duration, u32) = (Duration::from_millis(100), 4);
    /// Looks at what waits: so far apart, or further where a look takes more than a twentieth of that, up to `LOOK_LATEST`;
    /// and as soon as a second bell within `WINDOW` was answered.
    const LOOK_EVERY: Duration = Duration::from_millis(200);
    const LOOK_LATEST: Duration = Duration::from_secs(2);
    const LOOK_AFTER: Duration = Duration::from_millis(10);
    /// Awake for this once writers have waited; twice as long each time that they wait again as soon as it sleeps.
    const STAY: Duration = Duration::from_secs(1);
    const STAY_LONGEST: Duration = Duration::from_secs(60);
    const AGAIN: Duration = Duration::from_secs(2);

    /// It sleeps from now on, or tries to.
    pub(super) fn note_asleep(&mut self, now: Instant) {
        self.slept = Some(now);
    }

    /// Takes note of whether bells rang, and whether another one had when they were answered.
    pub(super) fn note(&mut self, now: Instant, rang: bool, is_behind: bool) -> Bells {
        if rang {
            self.answered.push_back(now);
        }
        while self.answered.front().is_some_and(|at| now.duration_since(*at) > Self::WINDOW) {
            self.answered.pop_front();
        }
        self.behind = (rang && is_behind).then(|| self.behind.map_or((now, 1), |(since, times)| (since, times + 1)));
        let is_reading_on = self
            .behind
            .is_some_and(|(since, times)| now.duration_since(since) >= Self::BEHIND.0 && times >= Self::BEHIND.1);
        let lately = self.answered.iter().rev().take_while(|at| now.duration_since(**at) <= Self::SHORT).count();
        if self.answered.len() > Self::MANY || lately > Self::MANY_SHORT || is_reading_on {
            return Bells::Many;
        }
        let is_due = self.looked.is_none_or(|(at, pause)| now.duration_since(at) >= pause);
        match u32::try_from(self.answered.len()) {
            Ok(answers @ 2..) if is_due => Bells::Some(Self::LOOK_AFTER.min(Self::WINDOW / answers)),
            _ => Bells::Few,
        }
    }

    /// Takes note of whether a writer waits now, by a look that took so long. Where the relay is to wake, says until when it
    /// stays awake: at the second look in a row. Writers that come as they please meet now and then; those that write as fast
    /// as they can wait at every look.
    pub(super) fn note_waiting(&mut self, now: Instant, took: Duration, is_waiting: bool) -> Option<Instant> {
        let in_a_row = self.looked.is_some_and(|(at, pause)| now.duration_since(at) < pause + Self::WINDOW + took);
        let wakes = is_waiting && self.was_waiting && in_a_row;
        self.looked = Some((now, (took * 20).clamp(Self::LOOK_EVERY, Self::LOOK_LATEST)));
        self.was_waiting = is_waiting && !wakes;
        if !wakes {
            return None;
        }
        let again = self.slept.is_some_and(|at| now.duration_since(at) < Self::AGAIN);
        self.stay = if again { Self::STAY_LONGEST.min(self.stay * 2) } else { Self::STAY };
        Some(now + self.stay)
    }
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            answered: VecDeque::new(),
            behind: None,
            looked: None,
            was_waiting: false,
            stay: Self::STAY,
            slept: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_answers_wake_however_many_bells_each_answers() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rhythm = Rhythm::default();
        assert!((0..100).all(|i| rhythm.note(at(5 * i), true, false) != Bells::Many), "200 a second");
        assert_eq!(rhythm.note(at(2000), false, false), Bells::Few);
        assert!((0..150).any(|i| rhythm.note(at(3000 + 4 * i), true, false) == Bells::Many), "250 a second");
        let many = (0..50).find(|i| rhythm.note(at(9000 + 2 * i), true, false) == Bells::Many);
        assert_eq!(many, Some(30), "500 a second, after 60 ms");
        assert_eq!(rhythm.note(at(9800), true, false), Bells::Few);
    }

    #[test]
    fn a_relay_that_reads_one_time_after_the_other_wakes_however_slow_its_reads_are() {
        let start = Instant::now();
        let after = |every: u64, is_behind: fn(u64) -> bool| {
            let mut rhythm = Rhythm::default();
            (0..40).find(|i| rhythm.note(start + Duration::from_millis(every * i), true, is_behind(*i)) == Bells::Many)
        };
        assert_eq!(after(40, |_| true), Some(3));
        assert_eq!(after(10, |_| true), Some(10));
        assert_eq!(after(10, |i| i % 8 != 0), None, "not every time");
    }

    #[test]
    fn a_writer_that_waits_at_two_looks_in_a_row_wakes() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // the moments of looks beside a bell each so many milliseconds, and when the relay wakes
        let looks = |every: u64, took: u64, waits: fn(usize) -> bool| {
            let mut rhythm = Rhythm::default();
            let mut looks = Vec::new();
            for ms in (0..2000).step_by(usize::try_from(every).unwrap()) {
                if let Bells::Some(_) = rhythm.note(at(ms), true, false) {
                    looks.push(ms);
                    let wakes = rhythm.note_waiting(at(ms), Duration::from_millis(took), waits(looks.len()));
                    if let Some(until) = wakes {
                        assert_eq!(until, at(ms + 1000));
                        return (looks, Some(ms));
                    }
                }
            }
            (looks, None)
        };
        assert_eq!(looks(25, 1, |_| true), (vec![25, 225], Some(225)), "40 a second");
        assert_eq!(looks(150, 1, |_| true), (vec![150, 450], Some(450)), "a disk that takes 150 ms");
        assert_eq!(looks(10, 1, |look| look % 2 == 0).1, None, "not each time");
        assert_eq!(looks(10, 1, |_| false).0.len(), 10, "five looks a second");
        assert_eq!(looks(10, 30, |_| false).0.len(), 4, "a look takes 30 ms");
        assert_eq!(looks(10, 900, |_| false).0.len(), 1, "a look takes 900 ms");
        assert_eq!(looks(600, 1, |_| true), (vec![], None), "one at a time");
    }

    #[test]
    fn writers_that_wait_as_soon_as_it_sleeps_keep_it_awake_twice_as_long() {
        let mut now = Instant::now();
        let mut rhythm = Rhythm::default();
        let mut stays = |pause_before_waiting: u64| {
            rhythm.note_asleep(now);
            now += Duration::from_millis(pause_before_waiting);
            assert_eq!(rhythm.note_waiting(now, Duration::ZERO, true), None);
            now += Rhythm::LOOK_EVERY;
            let until = rhythm.note_waiting(now, Duration::ZERO, true).unwrap();
            let stay = until - now;
            now = until;
            stay.as_secs()
        };
        assert_eq!([100; 8].map(&mut stays), [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!([5000, 100, 5000].map(stays), [1, 2, 1]);
    }
}
