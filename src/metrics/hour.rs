//! What this node did in the last hour, each ten seconds: for an operator who opens the page after something has gone
//! wrong. Owns the intervals and what is computed of two counts; a restart begins anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{DeliveryMetrics, SourceMetrics};
use crate::shutdown::Shutdown;
use crate::sync::lock;

/// One point of a chart.
const EVERY: Duration = Duration::from_secs(10);
/// An hour of them: 20 kB.
const KEPT: usize = 360;
/// Upper bounds of the delays that are counted: half a millisecond, then each twice the one before, up to 16 s; the last one
/// counts what took longer.
const BUCKETS: usize = 17;
const FIRST: f64 = 0.0005;

/// How many changes took how long from capture to the sockets, since the start.
#[derive(Debug, Default)]
pub(super) struct Delays([AtomicU64; BUCKETS]);

impl Delays {
    pub(super) fn note(&self, seconds: f64) {
        let bucket = (0..BUCKETS - 1).find(|bucket| seconds <= bound(*bucket)).unwrap_or(BUCKETS - 1);
        self.0[bucket].fetch_add(1, Relaxed);
    }

    fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.0[bucket].load(Relaxed))
    }
}

/// Upper bound of a bucket, in seconds.
fn bound(bucket: usize) -> f64 {
    FIRST * f64::from(1_u32 << bucket)
}

/// What was counted up to a moment.
#[derive(Debug, Clone)]
struct Counted {
    at: Instant,
    delays: [u64; BUCKETS],
    changes: u64,
    bytes: u64,
}

/// What happened between two counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interval {
    /// its end, seconds since 1970
    time: f64,
    /// seconds from capture to the sockets, of half of the changes at most; `None` where there was none
    p50: Option<f64>,
    /// of 99 in 100
    p99: Option<f64>,
    /// a second
    changes: f64,
    /// to all sockets, a second
    bytes: f64,
    /// open at its end
    sockets: i64,
}

/// What an operator is told.
#[derive(Debug, Serialize)]
pub struct LastHour {
    /// seconds since 1970, by this server's clock
    now: f64,
    /// the oldest first
    intervals: Vec<Interval>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn between(before: &Counted, after: &Counted, time: f64, sockets: i64) -> Interval {
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let counts: [u64; BUCKETS] = std::array::from_fn(|bucket| after.delays[bucket] - before.delays[bucket]);
    let rate = |was: u64, is: u64| (is - was) as f64 / seconds;
    Interval {
        time,
        p50: quantile(0.5, &counts),
        p99: quantile(0.99, &counts),
        changes: rate(before.changes, after.changes),
        bytes: rate(before.bytes, after.bytes),
        sockets,
    }
}

/// The value below which a part of what was counted lies, taken as even inside a bucket.
fn quantile(part: f64, counts: &[u64; BUCKETS]) -> Option<f64> {
    let rank = part * counts.iter().sum::<u64>() as f64;
    let mut below = 0.0;
    for (bucket, count) in counts.iter().map(|count| *count as f64).enumerate() {
        if count > 0.0 && below + count >= rank {
            let low = if bucket == 0 { 0.0 } else { bound(bucket - 1) };
            let is_last = bucket == BUCKETS - 1;
            return Some(if is_last { low } else { low + (bound(bucket) - low) * (rank - below) / count });
        }
        below += count;
    }
    None
}

/// The last hour.
#[derive(Debug, Default)]
pub struct Hour(Mutex<VecDeque<Interval>>);

impl Hour {
    /// Takes note of each interval until the shutdown.
    pub async fn run(self: Arc<Self>, source: Arc<SourceMetrics>, delivery: Arc<DeliveryMetrics>, mut end: Shutdown) {
        let count = || Counted {
            at: Instant::now(),
            delays: delivery.delays.counts(),
            changes: source.rows.get(),
            bytes: delivery.bytes.get(),
        };
        let mut before = count();
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = end.begun() => return,
            }
            let after = count();
            self.note(between(&before, &after, now(), delivery.sockets.get()));
            before = after;
        }
    }

    fn note(&self, interval: Interval) {
        let mut kept = lock(&self.0);
        kept.truncate(KEPT - 1);
        kept.push_front(interval);
    }

    /// The intervals, and what time it is here.
    pub fn told(&self) -> LastHour {
        LastHour { now: now(), intervals: self.intervals() }
    }

    fn intervals(&self) -> Vec<Interval> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_what_came_between_two_counts() {
        let (delays, at) = (Delays::default(), Instant::now());
        delays.note(3.0); // of before
        let before = Counted { at, delays: delays.counts(), changes: 5, bytes: 100 };
        (0..98).for_each(|_| delays.note(0.0015));
        (0..2).for_each(|_| delays.note(100.0));
        let at = at + Duration::from_secs(10);
        let after = Counted { at, delays: delays.counts(), changes: 105, bytes: 1100 };
        let Interval { p50, p99, changes, bytes, .. } = between(&before, &after, 0.0, 1);
        assert_eq!((changes.to_bits(), bytes.to_bits()), (10.0_f64.to_bits(), 100.0_f64.to_bits()));
        assert!((0.001..=0.002).contains(&p50.unwrap()), "{p50:?}");
        assert_eq!(p99, Some(bound(15)), "longer than the longest that is told apart");
        assert_eq!(between(&after, &Counted { at: at + EVERY, ..after.clone() }, 0.0, 1).p50, None);
    }

    #[test]
    fn an_hour_is_kept() {
        let hour = Hour::default();
        let at = |time| Interval { time, p50: None, p99: None, changes: 0.0, bytes: 0.0, sockets: 0 };
        (0..400).for_each(|time| hour.note(at(f64::from(time))));
        let kept = hour.intervals();
        assert_eq!((kept.len(), kept[0].clone(), kept[359].clone()), (360, at(40.0), at(399.0)));
    }
}
