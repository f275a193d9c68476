//! What is counted: more than one stage writes it, the status page and `/metrics` read it. Atomics, so that no stage
//! waits for another here. Names and units are Prometheus': seconds, bytes, `_total`; docs/reference/operations.md lists them.

pub mod hour;
mod process;
mod text;

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::error::Kind;
use crate::incarnations::Gap;
use crate::refusals::Refusals;
use crate::sync::lock;
use hour::Delays;
pub use text::{Form, MemoryKept, NodeStatus, encode};

/// Where a client's changes may come from.
const PASTS: [&str; 6] = ["memory", "stream", "outbox", "snapshot", "page", "members"];
/// Where a page of rows may come from.
const PAGES: [&str; 2] = ["database", "memory"];
/// What of `rowcast.health` is a metric: whether what is written is captured.
pub(crate) const FINDINGS: [&str; 3] = ["capture", "triggers", "brief outbox"];
/// What may be refused.
const LIMITS: [&str; 18] = [
    "origin",
    "connections",
    "proxy",
    "descriptors",
    "accept",
    "sockets",
    "address",
    "user",
    "strangers",
    "forged",
    "token",
    "policy",
    "views",
    "claims",
    "commands",
    "messages",
    "memory",
    "filters",
];
/// What two clocks may differ by without being corrected: less is the measurement's own error, or what time servers leave.
const SAME_TIME: i64 = 100_000;

/// What the source did.
#[derive(Debug)]
pub struct SourceMetrics {
    mode: Mutex<&'static str>,
    reads: Counter,
    rows: Counter,
    bells: Counter,
    reconnects: Counter,
    safety_finds: Counter,
    outbox_bytes: Gauge,
    outbox_age: Gauge,
    retention: Gauge,
    /// whether what is written is captured: 0 yes, 1 doubtful or paused, 2 no
    findings: Family<Finding, Gauge>,
    /// what was last said of a database that is away, and when
    outage: Mutex<Option<(Kind, Instant)>>,
    /// name of the stream that this node follows, if any
    stream: OnceLock<String>,
    /// entries of the stream that were read
    entries: Counter,
    appended: Counter,
    appended_bytes: Counter,
}

/// What delivery did.
#[derive(Debug)]
pub struct DeliveryMetrics {
    /// sockets and event streams that are open
    pub sockets: Gauge,
    /// messages put into a view's log, each for any number of sockets
    pub messages: Counter,
    /// messages that clients sent
    pub received: Counter,
    /// error messages sent to clients
    pub errors: Counter,
    /// bytes written to sockets
    pub bytes: Counter,
    /// sockets that the server closed, by close code
    pub closes: Family<Code, Counter>,
    /// gaps told, by reason
    pub gaps: Family<Reason, Counter>,
    /// statements that read what holders have of claims
    pub claim_reads: Counter,
    /// clients that came back, by where their changes came from
    pub resumes: Family<From, Counter>,
    /// pages of rows, by where they came from
    pub pages: Family<From, Counter>,
    /// what was refused, by limit
    pub limits: Family<Limit, Counter>,
    /// changes of a cut
    pub cut_changes: Histogram,
    /// from capture to the end of the pass that wrote it
    pub delay: Histogram,
    /// the same, as they can be read again
    delays: Delays,
    /// microseconds from capture to the log, of the last change
    lag: AtomicI64,
    /// microseconds by which the database's clock is ahead of this one, as it was measured last
    skew: AtomicI64,
    refusals: Refusals,
}

/// A close code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct Code {
    pub code: u32,
    pub reason: &'static str,
}

/// Why there is a gap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct Reason {
    pub reason: &'static str,
}

/// Where a client's changes or rows came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct From {
    pub from: &'static str,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct Finding {
    pub finding: &'static str,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct Limit {
    pub limit: &'static str,
}

impl SourceMetrics {
    /// The counters of the relay of a process that publishes; how the process reads is another matter.
    pub(crate) fn of_publisher(&self) -> std::sync::Arc<Self> {
        let (reads, rows, bells) = (self.reads.clone(), self.rows.clone(), self.bells.clone());
        let (reconnects, safety_finds) = (self.reconnects.clone(), self.safety_finds.clone());
        std::sync::Arc::new(Self { reads, rows, bells, reconnects, safety_finds, ..Self::default() })
    }

    pub(crate) fn count_entry(&self) {
        self.entries.inc();
    }

    pub(crate) fn count_appended(&self, bytes: u64) {
        self.appended.inc();
        self.appended_bytes.inc_by(bytes);
    }

    pub(crate) fn set_mode(&self, mode: &'static str) {
        *lock(&self.mode) = mode;
    }

    pub(crate) fn count_read(&self, rows: usize) {
        self.reads.inc();
        self.rows.inc_by(rows as u64);
    }

    pub(crate) fn count_bells(&self, bells: u64) {
        self.bells.inc_by(bells);
    }

    pub(crate) fn count_reconnect(&self) {
        self.reconnects.inc();
    }

    pub(crate) fn count_safety_find(&self) {
        self.safety_finds.inc();
    }

    /// Whether an error of the database is to be told now. An outage is seen in many places, and each of them tries again and
    /// again: of one kind one line a minute is told, whichever place writes it.
    pub(crate) fn tells(&self, kind: Kind) -> bool {
        let mut outage = lock(&self.outage);
        let is_new = outage.is_none_or(|(told, at)| told != kind || at.elapsed() >= Duration::from_secs(60));
        if is_new {
            *outage = Some((kind, Instant::now()));
        }
        is_new
    }

    /// An error of this kind was told: for a minute nobody else tells of it.
    pub(crate) fn note_told(&self, kind: Kind) {
        *lock(&self.outage) = Some((kind, Instant::now()));
    }

    /// Takes note of the outbox' size, the seconds since its oldest segment was opened, and its retention. The database's
    /// clock may have been put back since.
    pub(crate) fn note_outbox(&self, bytes: i64, age_seconds: i64, retention_seconds: i64) {
        self.outbox_bytes.set(bytes);
        self.outbox_age.set(age_seconds.max(0));
        self.retention.set(retention_seconds);
    }

    /// What `rowcast.health` says: of each finding ok, warn or fail. What it does not have, or was not asked, is ok.
    pub(crate) fn note_findings(&self, said: &[(&str, &str)]) {
        for finding in FINDINGS {
            let state = said.iter().find(|(name, _)| *name == finding).map_or("ok", |(_, state)| state);
            let level = ["ok", "warn", "fail"].iter().position(|name| *name == state).unwrap_or(2);
            self.findings.get_or_create(&Finding { finding }).set(level as i64);
        }
    }

    /// This node follows the stream of this name.
    pub(crate) fn note_stream(&self, name: &str) {
        let _ = self.stream.set(name.to_owned());
    }

    /// The source's part of the status page.
    pub fn status(&self, standing: NodeStatus) -> serde_json::Value {
        serde_json::json!({
            "live": standing.is_live,
            "mode": *lock(&self.mode),
            "reads": self.reads.get(),
            "outbox_rows": self.rows.get(),
            "bells": self.bells.get(),
            "reconnects": self.reconnects.get(),
            "found_by_safety_read": self.safety_finds.get(),
            "publishing": standing.is_publishing,
            "entries_appended": self.appended.get(),
            "entries_read": self.entries.get(),
        })
    }
}

impl Default for SourceMetrics {
    fn default() -> Self {
        let this = Self {
            mode: Mutex::default(),
            reads: Counter::default(),
            rows: Counter::default(),
            bells: Counter::default(),
            reconnects: Counter::default(),
            safety_finds: Counter::default(),
            outbox_bytes: Gauge::default(),
            outbox_age: Gauge::default(),
            retention: Gauge::default(),
            findings: Family::default(),
            outage: Mutex::default(),
            stream: OnceLock::new(),
            entries: Counter::default(),
            appended: Counter::default(),
            appended_bytes: Counter::default(),
        };
        for finding in FINDINGS {
            drop(this.findings.get_or_create(&Finding { finding }));
        }
        this
    }
}

impl Default for DeliveryMetrics {
    fn default() -> Self {
        process::begin();
        let this = Self {
            sockets: Gauge::default(),
            messages: Counter::default(),
            received: Counter::default(),
            errors: Counter::default(),
            bytes: Counter::default(),
            closes: Family::default(),
            gaps: Family::default(),
            claim_reads: Counter::default(),
            resumes: Family::default(),
            pages: Family::default(),
            limits: Family::default(),
            // 1 to 1 million
            cut_changes: Histogram::new(exponential_buckets(1.0, 10.0, 7)),
            // half a millisecond to 16 s
            delay: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            delays: Delays::default(),
            lag: AtomicI64::new(0),
            skew: AtomicI64::new(0),
            refusals: Refusals::default(),
        };
        // all that may come to be counted is there as 0: a counter that begins at 1 has not grown, and no alert fires
        for gap in Gap::ALL {
            drop(this.gaps.get_or_create(&Reason { reason: gap.as_str() }));
        }
        for from in PASTS {
            drop(this.resumes.get_or_create(&From { from }));
        }
        for from in PAGES {
            drop(this.pages.get_or_create(&From { from }));
        }
        for limit in LIMITS {
            drop(this.limits.get_or_create(&Limit { limit }));
        }
        this
    }
}

impl DeliveryMetrics {
    /// Takes note of the age of a change as it reaches the log.
    pub(crate) fn note_change(&self, captured_at: i64) {
        self.lag.store(self.age(captured_at), Relaxed);
    }

    /// Takes note of the age of a change once it was written to every socket that takes bytes.
    pub(crate) fn note_written(&self, captured_at: i64) {
        let seconds = self.age(captured_at) as f64 / 1e6;
        self.delay.observe(seconds);
        self.delays.note(seconds);
    }

    /// The database's clock said `theirs`, microseconds since 1970, when it was asked at `before`, and the answer took so
    /// long: in the middle of it, as far as anybody knows.
    pub(crate) fn note_clock(&self, theirs: i64, before: SystemTime, took: Duration) {
        self.skew.store(theirs - micros(before) - took.as_micros() as i64 / 2, Relaxed);
    }

    /// Seconds by which the database's clock is ahead of this one.
    fn skew_seconds(&self) -> f64 {
        self.skew.load(Relaxed) as f64 / 1e6
    }

    /// Microseconds since a moment of the database's clock; never below 0, and without what the clocks differ by.
    pub(crate) fn age(&self, at: i64) -> i64 {
        let skew = self.skew.load(Relaxed);
        let skew = if skew.abs() < SAME_TIME { 0 } else { skew };
        (micros(SystemTime::now()) + skew - at).max(0)
    }

    /// Sockets may be closed with these codes, for these reasons: each is there from the start.
    pub(crate) fn expect_closes(&self, codes: impl IntoIterator<Item = (u16, &'static str)>) {
        for (code, reason) in codes {
            drop(self.closes.get_or_create(&Code { code: code.into(), reason }));
        }
    }

    pub(crate) fn count_gap(&self, reason: &'static str) {
        self.gaps.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a refusal that is not to be logged.
    pub(crate) fn count_limit(&self, limit: &'static str) {
        debug_assert!(LIMITS.contains(&limit), "{limit} is not counted from the start");
        self.limits.get_or_create(&Limit { limit }).inc();
    }

    /// Counts a refusal. Where it is to be logged: how many were not, since the last one of this limit.
    pub(crate) fn refuse(&self, limit: &'static str) -> Option<u64> {
        self.count_limit(limit);
        self.refusals.note(limit, Instant::now())
    }

    pub(crate) fn count_resume(&self, from: &'static str) {
        debug_assert!(PASTS.contains(&from), "{from} is not counted from the start");
        self.resumes.get_or_create(&From { from }).inc();
    }

    /// Counts a page that was read, or one of a moment ago that was given out again.
    pub(crate) fn count_page(&self, is_read: bool) {
        let from = if is_read { "database" } else { "memory" };
        self.pages.get_or_create(&From { from }).inc();
    }

    /// Sockets closed for being too slow.
    pub fn slow(&self) -> u64 {
        self.closes.get_or_create(&Code { code: 4408, reason: "slow" }).get()
    }

    /// Age of the last change when it reached the log, in milliseconds.
    pub fn lag_ms(&self) -> f64 {
        self.lag.load(Relaxed) as f64 / 1000.0
    }
}

/// Microseconds since 1970.
fn micros(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_makes_no_change_old_or_young() {
        let (metrics, hour) = (DeliveryMetrics::default(), 3_600_000_000);
        let now = micros(SystemTime::now());
        metrics.note_change(now + hour);
        assert_eq!(metrics.lag_ms().to_bits(), 0.0_f64.to_bits(), "before it was measured it is not negative");
        for ahead in [hour, -hour] {
            metrics.note_clock(micros(SystemTime::now()) + ahead, SystemTime::now(), Duration::ZERO);
            assert!((metrics.skew_seconds() - ahead as f64 / 1e6).abs() < 1.0);
            metrics.note_change(micros(SystemTime::now()) + ahead - 2_000_000);
            assert!((1_990.0..3_000.0).contains(&metrics.lag_ms()), "{}", metrics.lag_ms());
        }
    }
}
