//! How far the logs of all views have come together: to a boundary between two cuts, or into the middle of one. Owns the
//! sequence by which a socket knows that it saw all its logs at one boundary; knows no log and no socket.
//!
//! A cut goes into the logs of its views one after the other, and a large one in chunks. Until its last chunk is in all of
//! them the sequence is odd. A socket that reads an even number, the ends of some logs, and the same number again, has
//! ends that lie at one boundary.

use crate::sync::lock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

/// The end of what is in the logs.
#[derive(Debug, Default)]
pub(crate) struct Frontier {
    /// odd: a cut is arriving
    sequence: AtomicU64,
    boundary: Mutex<LastBoundary>,
}

#[derive(Debug, Default)]
struct LastBoundary {
    /// the cursor there
    cursor: Arc<str>,
    /// of sockets that have something to say at the next one
    waiting: Vec<Waker>,
}

impl Frontier {
    /// The rest of a cut, or a new one, is about to go into the logs.
    pub(crate) fn leave(&self) {
        if self.sequence.load(SeqCst).is_multiple_of(2) {
            self.sequence.fetch_add(1, SeqCst);
        }
    }

    /// Everything before this cursor is in the logs, and nothing behind it. Only the hub calls this and
    /// [`leave`](Self::leave), under its lock.
    pub(crate) fn reach(&self, cursor: Arc<str>) {
        let waiting = {
            let mut boundary = self.lock();
            boundary.cursor = cursor;
            // twice where none was arriving: what was read meanwhile is another boundary
            let more = if self.sequence.load(SeqCst).is_multiple_of(2) { 2 } else { 1 };
            let before = self.sequence.fetch_add(more, SeqCst);
            debug_assert!((before + more).is_multiple_of(2), "I8: a boundary while a cut arrives");
            std::mem::take(&mut boundary.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// What `look` sees, and the cursor if that was seen at one boundary.
    pub(crate) fn look<T>(&self, look: impl FnOnce() -> T) -> (T, Option<Arc<str>>) {
        let before = self.sequence.load(SeqCst);
        let seen = look();
        let boundary = self.lock();
        let is_boundary = before.is_multiple_of(2) && self.sequence.load(SeqCst) == before;
        (seen, is_boundary.then(|| boundary.cursor.clone()))
    }

    /// Wakes at the next boundary; at once where it is one now. `since` is the caller's, and keeps it from waiting twice.
    pub(crate) fn wait(&self, waker: &Waker, since: &mut u64) {
        let mut boundary = self.lock();
        let sequence = self.sequence.load(SeqCst);
        if sequence.is_multiple_of(2) {
            drop(boundary);
            return waker.wake_by_ref();
        }
        if std::mem::replace(since, sequence) != sequence {
            boundary.waiting.push(waker.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, LastBoundary> {
        lock(&self.boundary)
    }
}
