//! What delivery tells the source that it is fed by: that somebody waits for the present, and how long writing takes.
//! Hints; what is lost of them costs latency.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// The way back from delivery to its source.
#[derive(Debug, Default)]
pub struct Feedback {
    nudge: Notify,
    doubts_channels: AtomicBool,
    /// microseconds
    longest_pass: AtomicU64,
}

impl Feedback {
    /// Somebody waits for the present. Kept until it is heard.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits until somebody waits for the present. Cancel safe.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// A client names a column that nobody knows: its table may have been altered a moment ago.
    pub fn doubt_channels(&self) {
        self.doubts_channels.store(true, Ordering::Release);
        self.nudge();
    }

    /// Whether the channels were doubted since this was asked last.
    pub fn take_doubt(&self) -> bool {
        self.doubts_channels.swap(false, Ordering::AcqRel)
    }

    /// A pass over the sockets took so long.
    pub fn note_pass(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_pass.fetch_max(us, Ordering::Relaxed);
    }

    /// The longest pass over the sockets since this was asked last.
    pub fn take_longest_pass(&self) -> Duration {
        Duration::from_micros(self.longest_pass.swap(0, Ordering::Relaxed))
    }
}
