//! What is waited for at the hub: that capture is live, that the stream has come to a position and a socket was written all of
//! it, that the source has looked again. Owns how long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Hub, JoinError};
use crate::cursor::{Boundary, Snapshot};
use crate::delivery::access::auth::Identity;
use crate::delivery::scope::projection::Projection;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{Closed, SocketWriter};
use crate::incarnations::Gap;
use crate::sync::lock;

/// While the database is away nobody is made to wait for what it would say.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Why it cannot be said that a socket was written all up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSynced {
    /// The position is of the future.
    Ahead,
    /// The socket takes nothing any more.
    Gone(Closed),
}

impl Hub {
    /// Waits until capture is live.
    pub async fn wait_until_live(&self) {
        // an error means that the hub is gone; the shutdown ends each task that waits
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

    /// Waits until the stream is between two cuts and has come to all that `seen` saw: no longer than [`Settings::reach_within`]
    /// while it comes, and for as long as the source is down. Cancel safe.
    ///
    /// # Errors
    /// [`Gap::BadCursor`]: the position is of the future.
    ///
    /// [`Settings::reach_within`]: super::Settings::reach_within
    pub(crate) async fn reach(&self, seen: &Snapshot) -> Result<Boundary, Gap> {
        loop {
            match tokio::time::timeout(self.settings.reach_within, self.reaches(seen)).await {
                Ok(boundary) => return Ok(boundary),
                // a position of the future, unless the source stands still and nobody has noticed yet
                Err(_) if self.is_at_boundary() && self.wait_for_fresh_read().await => {
                    let reached = tokio::time::timeout(Duration::ZERO, self.reaches(seen)).await;
                    return reached.map_err(|_| Gap::BadCursor);
                }
                // a large cut is on its way, or the source is down
                Err(_) => self.wait_until_live().await,
            }
        }
    }

    /// Waits as [`reach`](Self::reach) does, and then until all is written to a socket that the views hold which it follows;
    /// of one that it leaves meanwhile, nothing more. What is put to the socket after that stands behind all that it
    /// follows up to the boundary that is told, and perhaps behind some of what comes after it. Cancel safe.
    ///
    /// A subscription that is on its way is not waited for: it is told in its turn what it missed.
    ///
    /// # Errors
    /// [`NotSynced`].
    pub(crate) async fn written_up_to(&self, writer: &SocketWriter, seen: &Snapshot) -> Result<Boundary, NotSynced> {
        let boundary = self.reach(seen).await.map_err(|_| NotSynced::Ahead)?;
        debug_assert!(boundary.cursor.seen.covers(seen), "the stream has not come to {seen}");
        self.told_latest(writer).await;
        // the hub has put into the logs all up to the boundary before it told that
        writer.written().await.map_err(NotSynced::Gone)?;
        Ok(boundary)
    }

    /// What somebody may see of what is asked for, and how it is shown; where the channel or a column is unknown, once it was looked for.
    ///
    /// # Errors
    /// [`JoinError`].
    pub(crate) async fn look_patiently(
        &self,
        asked: &ViewKey,
        who: Option<&Identity>,
    ) -> Result<(ViewKey, Arc<Projection>), JoinError> {
        let key = loop {
            match self.permit(asked, who) {
                Err(JoinError::InDoubt) => self.wait_until_settled(who).await,
                permitted => break permitted?,
            }
        };
        if self.projection(&key).is_err_and(|error| error == JoinError::UnknownChannel) {
            self.wait_for_fresh_read().await;
        }
        if self.lacks_column(&key) {
            self.wait_for_fresh_channels().await;
        }
        let projection = self.projection(&key)?;
        Ok((key, projection))
    }

    /// Waits until the source has read what was committed before this call, within a second, and says whether it has: a
    /// channel that is unknown here may have been made a moment ago. Many tasks that wait share a read.
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
