//! Whether a position that a client brings can be believed. Owns the questions that do not depend on what the client asks for,
//! and their order; where the stream has come to is waited for elsewhere.

use std::time::Duration;

use super::Hub;
use crate::cursor::{Cursor, Snapshot};
use crate::incarnations::{Gap, Lineage};

/// An incarnation of the server that another node has seen begin is news here for so long at most.
const LEARN_WITHIN: Duration = Duration::from_secs(3);

/// A position that was found to be good.
#[derive(Debug)]
pub(crate) struct Judged {
    /// it
    pub(crate) cursor: Cursor,
    /// where it was found to be good: in the next incarnation of the server it has to be judged anew
    pub(crate) lineage: Lineage,
}

impl Judged {
    /// What the stream has come to where it has come to the position, and to the end of the cut in which that lies.
    pub(crate) fn end(&self) -> &Snapshot {
        self.cursor.inside.as_ref().map_or(&self.cursor.seen, |(end, _)| end)
    }
}

impl Hub {
    /// Judges a cursor as clients get it, without the mark of their rights: whether it is one, of this database, given out by
    /// one of its servers, and of what has survived. Waits while the source is down. Cancel safe.
    ///
    /// # Errors
    /// Why it cannot be honoured.
    pub(crate) async fn judge(&self, token: &str) -> Result<Judged, Gap> {
        let cursor = Cursor::parse(token).map_err(|_| Gap::BadCursor)?;
        // after a restart another node may have connected earlier: its cursors are of an incarnation that is news here
        self.learn(cursor.incarnation).await;
        self.wait_until_live().await;
        let incarnations = self.incarnations().ok_or(Gap::BadCursor)?;
        incarnations.judge(cursor.epoch, cursor.incarnation, cursor.lsn)?;
        if incarnations.seal.as_ref().is_some_and(|seal| !seal.is_on(token)) {
            return Err(Gap::BadCursor);
        }
        Ok(Judged { cursor, lineage: incarnations.lineage() })
    }

    /// Gives the source a while to tell of an incarnation of the server.
    pub(crate) async fn learn(&self, incarnation: u64) {
        let _ = tokio::time::timeout(LEARN_WITHIN, self.wait_for_incarnation(incarnation)).await;
    }
}
