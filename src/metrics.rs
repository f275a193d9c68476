//! Counters that more than one stage writes and the status pages read. Plain atomics: no stage waits for another here.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the source did.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    live: AtomicBool,
    mode: Mutex<&'static str>,
    reads: AtomicU64,
    rows: AtomicU64,
    reconnects: AtomicU64,
    safety_finds: AtomicU64,
}

/// What delivery did.
#[derive(Debug, Default)]
pub struct DeliveryMetrics {
    /// sockets that are open
    pub sockets: AtomicI64,
    /// messages put into a channel's log, each for any number of sockets
    pub messages: AtomicU64,
    /// messages that clients sent
    pub received: AtomicU64,
    /// error messages sent to clients
    pub errors: AtomicU64,
    /// bytes written to sockets
    pub bytes: AtomicU64,
    /// sockets closed for being too slow
    pub slow: AtomicU64,
    /// microseconds from capture to the log, of the last change
    lag: AtomicI64,
}

impl SourceMetrics {
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Relaxed);
    }

    pub(crate) fn set_mode(&self, mode: &'static str) {
        *self.mode.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = mode;
    }

    pub(crate) fn count_read(&self, rows: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
    }

    pub(crate) fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_safety_find(&self) {
        self.safety_finds.fetch_add(1, Relaxed);
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
            "reads": self.reads.load(Relaxed),
            "outbox_rows": self.rows.load(Relaxed),
            "reconnects": self.reconnects.load(Relaxed),
            "found_by_safety_read": self.safety_finds.load(Relaxed),
        })
    }
}

impl DeliveryMetrics {
    /// Takes note of the age of a change as it reaches the log. Both clocks are wall clocks: over two machines the
    /// figure holds their difference.
    pub(crate) fn note_change(&self, captured_at: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        self.lag.store(now - captured_at, Relaxed);
    }

    /// Age of the last change when it reached the log, in milliseconds.
    pub fn lag_ms(&self) -> f64 {
        self.lag.load(Relaxed) as f64 / 1000.0
    }
}
