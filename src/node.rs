//! What this node is at the moment. Plain state that its tasks set; it is noted in the database, where other nodes and
//! `rowcast.prune` go by it, and metrics read it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::cursor::Snapshot;
use crate::sync::lock;

/// What a node is at the moment: other nodes and `rowcast.prune` go by it.
#[derive(Debug, Default)]
pub struct NodeState {
    is_publishing: AtomicBool,
    /// the snapshot up to which this node needs nothing of the outbox any more
    seen: Mutex<Option<Snapshot>>,
}

impl NodeState {
    /// Whether it is the publisher of the stream from now on; returns whether it was.
    pub(crate) fn set_publishing(&self, is_publishing: bool) -> bool {
        self.is_publishing.swap(is_publishing, Relaxed)
    }

    /// Whether it is the publisher of the stream.
    pub fn is_publishing(&self) -> bool {
        self.is_publishing.load(Relaxed)
    }

    /// It needs nothing of the outbox that `seen` saw; `None`: nothing at all.
    pub(crate) fn note_seen(&self, seen: Option<&Snapshot>) {
        *lock(&self.seen) = seen.cloned();
    }

    /// What it needs nothing of any more, as Postgres reads it.
    pub(crate) fn seen(&self) -> Option<String> {
        lock(&self.seen).as_ref().map(Snapshot::to_string)
    }
}
