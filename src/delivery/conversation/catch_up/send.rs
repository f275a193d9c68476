//! What a client on its way to the present is sent, and how fast. Owns the pieces in which filters are asked and frames are written,
//! so that no other client waits; which changes those are is the way's.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::timeout;

use super::{CatchUp, CatchUpStop, JoinFailed};
use crate::change::Change;
use crate::delivery::fanout::told::Told;
use crate::delivery::wire::{frame, protocol};
use crate::incarnations::Gap;
use crate::room::Taken;

/// Frames are handed to the socket in so many bytes at a time; the next ones wait until these are written.
pub(super) const CHUNK: usize = 64 * 1024;
/// What filters may cost in one piece, see [`Projection::work`](crate::delivery::scope::projection::Projection::work): a millisecond, after which other tasks of the thread run.
const PIECE: u64 = 1 << 20;
/// What each change costs besides, whatever the filter.
const A_CHANGE: u64 = 64;
/// A client that takes nothing of its past for so long comes back for the rest: meanwhile it would hold what memory has
/// long let go of.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(60);

impl CatchUp {
    /// Waits for the turn to look through a filter that takes long, if this is one.
    pub(super) async fn sieve(&self) -> Option<Taken> {
        if !self.projection.reads_text() {
            return None;
        }
        tokio::task::yield_now().await;
        Some(self.hub.sieve(&self.asker).await)
    }

    /// The next of the changes that is told, in pieces between which other tasks run.
    pub(super) async fn next_told<'a>(
        &'a self,
        changes: &mut (impl Iterator<Item = &'a Change> + Send),
    ) -> Option<Told<'a>> {
        loop {
            let _turn = self.sieve().await;
            let mut work = 0;
            while work < PIECE {
                let change = changes.next()?;
                work += A_CHANGE + self.projection.work(change.size());
                if let Some(told) = Told::of(&self.key, &self.projection, change) {
                    return Some(told);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn is_told_any(&self, changes: &[Change]) -> bool {
        self.next_told(&mut changes.iter()).await.is_some()
    }

    /// Sends in order what is told of the changes, and says how many. `inside` is the token of their cut without the id,
    /// `end` the cursor after the last.
    pub(super) async fn send<'a>(
        &'a self,
        mut changes: impl Iterator<Item = &'a Change> + Send,
        inside: &str,
        end: Option<&str>,
    ) -> Result<u64, CatchUpStop> {
        let mut frames = Vec::new();
        let mut count = 0;
        let mut next = self.next_told(&mut changes).await;
        while let Some(told) = next {
            let gap = told.gap().filter(|_| self.wants_rows);
            if let Some(gap) = gap.filter(|_| !self.tells_gap_late) {
                self.put(&frames).await?;
                return Err(gap.into());
            }
            next = self.next_told(&mut changes).await;
            if let Some(gap) = gap {
                let _ = self.late_gap.set(gap);
                if next.is_none() {
                    self.put(&frames).await?;
                }
                continue;
            }
            frame::push_text_frame(&mut frames, &told.message(inside, end.filter(|_| next.is_none())));
            count += 1;
            if frames.len() >= CHUNK || next.is_none() {
                self.put(&frames).await?;
                frames.clear();
            }
        }
        Ok(count)
    }

    pub(super) async fn tell_gap(&self, gap: Gap) -> Result<(), JoinFailed> {
        self.hub.metrics().count_gap(gap.as_str());
        self.say(&protocol::gap(&self.key.label(), gap)).await
    }

    pub(super) async fn say(&self, message: &str) -> Result<(), JoinFailed> {
        self.put(&frame::text_frame(message)).await
    }

    /// Writes whole frames, and then waits as long as all so far take at the pace that is set.
    pub(super) async fn put(&self, frames: &[u8]) -> Result<(), JoinFailed> {
        let written = timeout(TAKEN_WITHIN, self.writer.write(frames, &self.cancel)).await;
        written.map_err(|_| JoinFailed::Unanswered)?.map_err(|_| JoinFailed::Gone)?;
        let sent = self.sent.fetch_add(frames.len() as u64, Relaxed) + frames.len() as u64;
        if let Some(due) = self.hub.time_for(sent) {
            tokio::time::sleep_until(self.began + due).await;
        }
        Ok(())
    }
}
