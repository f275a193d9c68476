//! What is counted: more than one stage writes it, the status page and `/metrics` read it. Atomics, so that no stage
//! waits for another here. Names and units are Prometheus': seconds, bytes, `_total`; docs/operations.md lists them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::cursor::Snapshot;
use crate::refusals::Refusals;

/// What the source did.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    live: AtomicBool,
    mode: Mutex<&'static str>,
    reads: Counter,
    rows: Counter,
    bells: Counter,
    reconnects: Counter,
    safety_finds: Counter,
    outbox_bytes: Gauge,
    outbox_age: Gauge,
    /// entries of the stream that were read
    entries: Counter,
    appended: Counter,
    appended_bytes: Counter,
    publishing: AtomicBool,
    /// the snapshot up to which this node needs nothing of the outbox any more
    seen: Mutex<Option<Snapshot>>,
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
    /// clients that came back, by where their changes came from
    pub resumes: Family<From, Counter>,
    /// what was refused, by limit
    pub limits: Family<Limit, Counter>,
    /// changes of a cut
    pub cut_changes: Histogram,
    /// from capture to the end of the pass that wrote it
    pub delay: Histogram,
    /// microseconds from capture to the log, of the last change
    lag: AtomicI64,
    refusals: Refusals,
}

/// A close code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct Code {
    pub code: u32,
}

/// Why there is a gap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct Reason {
    pub reason: &'static str,
}

/// Where a client's changes came from: `memory`, `stream`, `outbox`, or `snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct From {
    pub from: &'static str,
}

/// A limit: `origin`, `connections`, `descriptors`, `accept`, `sockets`, `address`, `user`, `strangers`, `forged`, `token`,
/// `policy`, `views`, `commands`, `messages`, `memory`, `filters`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "a label")]
pub struct Limit {
    pub limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelName {
    channel: String,
}

impl SourceMetrics {
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Relaxed);
    }

    /// The counters of the relay of a process that publishes: whether changes arrive here is another matter.
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

    pub(crate) fn appended(&self) -> u64 {
        self.appended.get()
    }

    /// Whether this process is the publisher of the stream; says what it was before.
    pub(crate) fn set_publishing(&self, publishing: bool) -> bool {
        self.publishing.swap(publishing, Relaxed)
    }

    /// Whether this process is the publisher of the stream.
    pub fn is_publishing(&self) -> bool {
        self.publishing.load(Relaxed)
    }

    /// This node needs nothing of the outbox that `seen` saw; `None`: nothing at all.
    pub(crate) fn note_seen(&self, seen: Option<&Snapshot>) {
        *self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = seen.cloned();
    }

    /// What this node needs nothing of any more, as Postgres reads it.
    pub(crate) fn seen(&self) -> Option<String> {
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.as_ref().map(Snapshot::to_string)
    }

    pub(crate) fn set_mode(&self, mode: &'static str) {
        *self.mode.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = mode;
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

    pub(crate) fn note_outbox(&self, bytes: i64, age_seconds: i64) {
        self.outbox_bytes.set(bytes);
        self.outbox_age.set(age_seconds);
    }

    /// Whether capture is live: connected and caught up once.
    pub fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// The source's part of the status page.
    pub fn status(&self) -> serde_json::Value {
        serde_json::json!({
            "live": self.is_live(),
            "mode": *self.mode.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            "reads": self.reads.get(),
            "outbox_rows": self.rows.get(),
            "bells": self.bells.get(),
            "reconnects": self.reconnects.get(),
            "found_by_safety_read": self.safety_finds.get(),
            "publishing": self.is_publishing(),
            "entries_appended": self.appended.get(),
            "entries_read": self.entries.get(),
        })
    }
}

impl Default for DeliveryMetrics {
    fn default() -> Self {
        Self {
            sockets: Gauge::default(),
            messages: Counter::default(),
            received: Counter::default(),
            errors: Counter::default(),
            bytes: Counter::default(),
            closes: Family::default(),
            gaps: Family::default(),
            resumes: Family::default(),
            limits: Family::default(),
            // 1 to 1 million
            cut_changes: Histogram::new(exponential_buckets(1.0, 10.0, 7)),
            // half a millisecond to 16 s
            delay: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            lag: AtomicI64::new(0),
            refusals: Refusals::default(),
        }
    }
}

impl DeliveryMetrics {
    /// Takes note of the age of a change as it reaches the log. Both clocks are wall clocks: over two machines the
    /// figure holds their difference.
    pub(crate) fn note_change(&self, captured_at: i64) {
        self.lag.store(age(captured_at), Relaxed);
    }

    /// Takes note of the age of a change once it was written to every socket that takes bytes.
    pub(crate) fn note_written(&self, captured_at: i64) {
        self.delay.observe(age(captured_at) as f64 / 1e6);
    }

    pub(crate) fn count_gap(&self, reason: &'static str) {
        self.gaps.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a refusal that is not to be logged.
    pub(crate) fn count_limit(&self, limit: &'static str) {
        self.limits.get_or_create(&Limit { limit }).inc();
    }

    /// Counts a refusal. Where it is to be logged: how many were not, since the last one of this limit.
    pub(crate) fn refuse(&self, limit: &'static str) -> Option<u64> {
        self.count_limit(limit);
        self.refusals.note(limit, Instant::now())
    }

    pub(crate) fn count_resume(&self, from: &'static str) {
        self.resumes.get_or_create(&From { from }).inc();
    }

    /// Sockets closed for being too slow.
    pub fn slow(&self) -> u64 {
        self.closes.get_or_create(&Code { code: 4408 }).get()
    }

    /// Age of the last change when it reached the log, in milliseconds.
    pub fn lag_ms(&self) -> f64 {
        self.lag.load(Relaxed) as f64 / 1000.0
    }
}

/// Microseconds since a moment that is given in microseconds since 1970.
fn age(at: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64) - at
}

/// All of it in the text format of Prometheus, with the subscribers of each channel as they are now.
pub fn encode(
    source: &SourceMetrics,
    delivery: &DeliveryMetrics,
    channels: impl Iterator<Item = (String, usize)>,
    users: usize,
    view_bytes: u64,
) -> String {
    let mut registry = Registry::with_prefix("rowcast");
    let r = &mut registry;
    r.register("build", "version of the server", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    let live = Gauge::<i64>::default();
    live.set(i64::from(source.is_live()));
    r.register("source_live", "1 while connected to the database and caught up", live);
    r.register("source_reads", "reads of the outbox", source.reads.clone());
    r.register("source_rows", "rows of the outbox that were read", source.rows.clone());
    r.register("source_bells", "notifications that rang", source.bells.clone());
    r.register("source_reconnects", "attempts to reach the database again", source.reconnects.clone());
    r.register("source_safety_finds", "reads that found a change without a bell", source.safety_finds.clone());
    let publishing = Gauge::<i64>::default();
    publishing.set(i64::from(source.is_publishing()));
    r.register("publishing", "1 while this node writes the stream", publishing);
    r.register("stream_entries", "entries of the stream that were read", source.entries.clone());
    r.register("stream_appended", "entries that were appended to the stream", source.appended.clone());
    let bytes = source.appended_bytes.clone();
    r.register_with_unit("stream_appended", "bodies of entries that were appended", Unit::Bytes, bytes);
    r.register_with_unit("outbox", "size, as of the last minute", Unit::Bytes, source.outbox_bytes.clone());
    r.register_with_unit("outbox_age", "since its oldest segment was opened", Unit::Seconds, source.outbox_age.clone());
    let lag = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
    lag.set(delivery.lag_ms() / 1000.0);
    r.register_with_unit("lag", "age of the last change when it reached its channel's log", Unit::Seconds, lag);
    r.register("sockets", "sockets and event streams that are open", delivery.sockets.clone());
    let subscribers = Family::<ChannelName, Gauge>::default();
    for (channel, count) in channels {
        subscribers.get_or_create(&ChannelName { channel }).set(count as i64);
    }
    r.register("subscribers", "subscribers of a channel", subscribers);
    let watched = Gauge::<i64>::default();
    watched.set(users as i64);
    r.register("users", "users with a subscriber", watched);
    let kept = Gauge::<i64>::default();
    kept.set(view_bytes.cast_signed());
    r.register_with_unit("view", "frames kept for all views together", Unit::Bytes, kept);
    r.register("messages", "messages put into a view's log, each for any number of sockets", delivery.messages.clone());
    r.register_with_unit("sent", "written to sockets", Unit::Bytes, delivery.bytes.clone());
    r.register("received", "messages from clients", delivery.received.clone());
    r.register("errors", "error messages to clients", delivery.errors.clone());
    r.register("closes", "sockets that the server closed, by close code", delivery.closes.clone());
    r.register("gaps", "gaps told, by reason", delivery.gaps.clone());
    r.register("resumes", "clients that were given their past, by where it came from", delivery.resumes.clone());
    r.register("limits", "requests and commands refused, by limit", delivery.limits.clone());
    r.register("cut_changes", "changes of a cut, or of a part of it", delivery.cut_changes.clone());
    r.register_with_unit("delay", "from capture to written to every socket", Unit::Seconds, delivery.delay.clone());
    let mut text = String::new();
    // writing into a String does not fail
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}
