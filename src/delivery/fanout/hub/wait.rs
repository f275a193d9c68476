//! What is waited for at the hub: that capture is live, that the stream has come to a position, that the source has looked again.
//! Owns how long.

use std::time::Duration;

use tokio::time::Instant;

use super::Hub;
use crate::cursor::{Boundary, Snapshot};
use crate::sync::lock;

/// While the database is away nobody is made to wait for what it would say.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

impl Hub {
    /// Waits until capture is live.
    pub async fn wait_until_live(&self) {
        // an error means that the hub is gone; the shutdown ends whoever waits
        let _ = self.live.subscribe().wait_for(|live| *live).await;
    }

    /// Waits until the source has told of an incarnation of the server. Cancel safe.
    pub async fn wait_for_incarnation(&self, incarnation: u64) {
        let mut boundaries = self.boundaries.subscribe();
        while !self.incarnations().is_some_and(|incarnations| incarnations.know(incarnation)) {
            let _ = boundaries.changed().await;
        }
    }

    /// Waits until the stream is between two cuts and has come to all that `seen` saw. Cancel safe.
    pub async fn reaches(&self, seen: &Snapshot) -> Boundary {
        let mut boundaries = self.boundaries.subscribe();
        loop {
            boundaries.mark_unchanged();
            {
                let state = lock(&self.state);
                if state.is_at_boundary
                    && let Some(boundary) = state.boundary.as_ref().filter(|boundary| boundary.cursor.seen.covers(seen))
                {
                    return boundary.clone();
                }
            }
            self.source.feedback.nudge();
            let _ = boundaries.changed().await;
        }
    }

    /// Waits until the source has read what was committed before this call, within a second, and says whether it has: a
    /// channel that is unknown here may have been made a moment ago. Many who wait share a read.
    pub async fn wait_for_fresh_read(&self) -> bool {
        let mut boundaries = self.boundaries.subscribe();
        let look = async {
            // the first boundary may be of a read that had begun before
            for _ in 0..2 {
                boundaries.mark_unchanged();
                self.source.feedback.nudge();
                let _ = boundaries.changed().await;
            }
        };
        tokio::time::timeout(LOOK_WITHIN, look).await.is_ok()
    }

    /// Waits until the source has read the channels again, within a second: a column that is unknown here may have been made a
    /// moment ago. The source is asked once a second at most.
    pub async fn wait_for_fresh_channels(&self) {
        let mut catalogued = self.catalogued.subscribe();
        let due = {
            let mut doubted = lock(&self.doubted);
            let now = Instant::now();
            // requests within a second share the next look
            let due = match *doubted {
                Some(at) if at > now => at,
                Some(at) => now.max(at + LOOK_WITHIN),
                None => now,
            };
            *doubted = Some(due);
            due
        };
        tokio::time::sleep_until(due).await;
        catalogued.mark_unchanged();
        self.source.feedback.doubt_channels();
        let _ = tokio::time::timeout(LOOK_WITHIN, catalogued.changed()).await;
    }
}
