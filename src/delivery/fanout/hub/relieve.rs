//! What happens when the logs of all views together hold more than they may. Owns which views have to let go; how much
//! is held is the meter's to say.

use std::cmp::Reverse;

use super::Hub;
use crate::sync::lock;

impl Hub {
    /// Drops what every reader has taken. Where that is not enough, the views whose slowest reader is furthest behind
    /// let go of everything, until an eighth of the budget is free: their slow readers fall off and are told to resume,
    /// those that keep up lose nothing. To be called when every shard has written what it could.
    pub(super) fn relieve(&self) {
        let views: Vec<_> = lock(&self.state).known.iter().cloned().collect();
        let mut behind = Vec::new();
        for view in views {
            let (bytes, slowest) = view.slowest();
            view.log.forget_before(slowest);
            if bytes > 0 {
                behind.push((bytes, view));
            }
        }
        let enough = self.meter.budget() - self.meter.budget() / 8;
        if self.meter.held() <= enough {
            return;
        }
        behind.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut relieved = Vec::new();
        for (bytes, view) in behind {
            if self.meter.held() <= enough {
                break;
            }
            if let Some(unlogged) = self.metrics.refuse("memory") {
                let channel = view.key.channel().map_or("user", |name| name);
                tracing::warn!(
                    event = "readers_dropped",
                    channel,
                    behind_bytes = bytes,
                    budget = self.meter.budget(),
                    unlogged
                );
            }
            view.log.forget_before(view.log.end());
            relieved.push(view);
        }
        // sockets notice when they are written to
        self.wake(&relieved, None);
    }
}
