//! How many bytes all logs hold together, each counted once however many logs share them. Owns the count and the
//! budget; which views have to let go is the hub's to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

/// What a run of frames takes beside its bytes: its owner and its allocation.
const BESIDE: u64 = 96;

/// The count.
#[derive(Debug)]
pub struct Meter {
    held: AtomicU64,
    budget: u64,
}

/// Bytes that are counted until the last log has let go of them.
struct MeteredBytes {
    bytes: Vec<u8>,
    meter: Arc<Meter>,
}

impl Meter {
    /// Nothing is held, and `budget` bytes may be.
    pub fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(0), budget })
    }

    /// Counts bytes, and gives them out to be shared.
    pub fn hold(self: &Arc<Self>, mut bytes: Vec<u8>) -> Bytes {
        // a vector that grew to its length by doubling has up to as much again
        if bytes.capacity() > bytes.len() + bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        self.add(bytes.capacity() as u64 + BESIDE);
        Bytes::from_owner(MeteredBytes { bytes, meter: self.clone() })
    }

    /// Counts what is no frame.
    pub(crate) fn add(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
    }

    /// It is gone.
    pub(crate) fn take(&self, bytes: u64) {
        let held = self.held.fetch_sub(bytes, Relaxed);
        debug_assert!(held >= bytes, "I9: {bytes} bytes are given back of {held}");
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Bytes that may be held.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Whether more is held than may be.
    pub fn is_over(&self) -> bool {
        self.held() > self.budget
    }
}

impl AsRef<[u8]> for MeteredBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for MeteredBytes {
    fn drop(&mut self) {
        self.meter.take(self.bytes.capacity() as u64 + BESIDE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_counts_once_until_all_have_let_go() {
        let meter = Meter::new(1000);
        let bytes = meter.hold(vec![0; 900]);
        let shared: Vec<Bytes> = (0..100).map(|_| bytes.slice(10..)).collect();
        assert_eq!(meter.held(), 900 + BESIDE);
        drop(bytes);
        assert!(!meter.is_over() && meter.held() > 900, "one that holds a part holds all");
        drop(shared);
        assert_eq!(meter.held(), 0);
    }
}
