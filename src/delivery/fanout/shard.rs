//! The tasks that write to the sockets: each shard has some of every view's members and is woken once a cut. Owns the
//! rhythm of its passes; knows nothing of changes.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::view::View;
use crate::delivery::socket::writer::{DueCache, SocketWriter};
use crate::feedback::Feedback;
use crate::metrics::DeliveryMetrics;
use crate::shutdown::Shutdown;
use crate::sync::lock;

/// Sockets that a shard writes to before it lets other tasks of its thread run.
const BATCH: usize = 128;

/// The sockets of one writing task.
#[derive(Debug)]
pub(crate) struct Shard {
    index: usize,
    dirty: Mutex<Vec<Arc<View>>>,
    /// when the oldest change was captured that the next pass writes
    oldest: Mutex<Option<i64>>,
    wake: Notify,
    /// passes asked for, passes done
    asked: Mutex<u64>,
    done: watch::Sender<u64>,
    feedback: Arc<Feedback>,
    metrics: Arc<DeliveryMetrics>,
}

impl Shard {
    pub(crate) fn new(index: usize, feedback: Arc<Feedback>, metrics: Arc<DeliveryMetrics>) -> Self {
        let (dirty, oldest, asked) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (wake, done) = (Notify::new(), watch::Sender::new(0));
        Self { index, dirty, oldest, wake, asked, done, feedback, metrics }
    }

    /// Asks for a pass over those of the views that have members here. `oldest`: when the oldest of its changes was
    /// captured, microseconds since 1970.
    pub(crate) fn wake(&self, views: &[Arc<View>], oldest: Option<i64>) {
        let mine = views.iter().filter(|view| !lock(&view.members[self.index]).is_empty());
        let mut dirty = lock(&self.dirty);
        let before = dirty.len();
        dirty.extend(mine.cloned());
        if dirty.len() > before {
            if let Some(oldest) = oldest {
                lock(&self.oldest).get_or_insert(oldest);
            }
            *lock(&self.asked) += 1;
            self.wake.notify_one();
        }
    }

    /// Waits until the passes that were asked for are done.
    pub(crate) async fn passed(&self) {
        let asked = *lock(&self.asked);
        let mut done = self.done.subscribe();
        let _ = done.wait_for(|done| *done >= asked).await;
    }

    /// Writes whenever it is asked to, until the shutdown.
    pub(crate) async fn write(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = shutdown.begun() => break,
            }
            let began = Instant::now();
            let asked = *lock(&self.asked);
            let mut dirty = std::mem::take(&mut *lock(&self.dirty));
            let oldest = lock(&self.oldest).take();
            // several cuts may have named a view; a heartbeat names thousands, so pairwise comparing would not do
            dirty.sort_unstable_by_key(Arc::as_ptr);
            dirty.dedup_by(|one, other| Arc::ptr_eq(one, other));
            for view in &dirty {
                self.write_view(view).await;
            }
            if let Some(oldest) = oldest {
                self.metrics.note_written(oldest);
            }
            self.feedback.note_pass(began.elapsed());
            self.done.send_replace(asked);
        }
        // a task that waits for a pass must not wait for ever
        self.done.send_replace(u64::MAX);
    }

    async fn write_view(&self, view: &View) {
        let mut cache = DueCache::default();
        let mut next = 0;
        loop {
            let batch: Vec<Arc<SocketWriter>> = {
                let members = lock(&view.members[self.index]);
                let end = members.capacity().min(next + BATCH);
                let batch = (next..end).filter_map(|slot| members.get(slot).cloned()).collect();
                if next >= members.capacity() {
                    return;
                }
                next = end;
                batch
            };
            for writer in &batch {
                writer.flush(&mut cache);
            }
            tokio::task::yield_now().await;
        }
    }
}
