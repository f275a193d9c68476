//! Transactions whose writers name their trace: which ones a cut has, and that their spans are told once every socket was
//! written. Costs nothing where nobody collects traces; a transaction without a trace costs a look at its actor.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::actor::{self, TraceParent};
use crate::change::Change;
use crate::delivery::fanout::hub::Hub;
use crate::spans::{Delivered, Spans};

/// What a span says of channels: so many names.
const CHANNELS: usize = 16;

/// Transactions of a cut that are told: four spans of each fill the exporter's queue of 2,048, which would lose the rest.
const MOST: usize = 512;

/// A transaction of a cut, with the captured time of its first change, by the database's clock.
struct Traced {
    parent: TraceParent,
    tx: u64,
    at: i64,
    changes: i64,
    channels: Vec<Arc<str>>,
}

/// The transactions that are recorded, in the order in which they are told. Those of a cut stand together.
fn traced(changes: &[Change]) -> Vec<Traced> {
    let mut found: Vec<Traced> = Vec::new();
    for change in changes {
        let Some(parent) = change.actor.as_deref().and_then(|actor| actor::read(actor).1) else { continue };
        if !parent.is_sampled {
            continue;
        }
        if found.last().is_none_or(|last| (last.tx, last.parent) != (change.tx, parent)) {
            if found.len() == MOST {
                break;
            }
            found.push(Traced { parent, tx: change.tx, at: change.at, changes: 0, channels: Vec::new() });
        }
        let Some(last) = found.last_mut() else { continue };
        last.changes += 1;
        last.at = last.at.min(change.at);
        // a user's name is nobody's business but the user's
        let channel = change.update.as_ref().map_or_else(|| "user".into(), |update| update.channel.clone());
        if last.channels.len() < CHANNELS && !last.channels.contains(&channel) {
            last.channels.push(channel);
        }
    }
    found
}

impl Hub {
    /// What there is to tell of a cut that came at `arrived` and is in every frame log now.
    pub(super) fn traced(&self, changes: &[Change], arrived: SystemTime) -> Vec<Delivered> {
        if self.settings.spans.is_none() {
            return Vec::new();
        }
        let routed = SystemTime::now();
        let delivered = |traced: Traced| {
            let Traced { parent, tx, at, changes, channels } = traced;
            let age = Duration::from_micros(self.metrics.age(at).unsigned_abs());
            let captured = routed.checked_sub(age).unwrap_or(arrived).min(arrived);
            Delivered { parent, tx, changes, channels, captured, arrived, routed }
        };
        traced(changes).into_iter().map(delivered).collect()
    }

    /// Tells the spans once the passes that write these frames are done.
    pub(super) fn tell_once_written(&self, delivered: Vec<Delivered>) {
        let Some(spans) = self.settings.spans.clone().filter(|_| !delivered.is_empty()) else { return };
        let shards = self.shards.clone();
        tokio::spawn(async move {
            for shard in shards {
                shard.passed().await;
            }
            let written = SystemTime::now();
            delivered.into_iter().for_each(|delivered| Spans::tell(&spans, delivered, written));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_told_once_and_by_its_first_change() {
        let parent = |span| format!("clerk traceparent=00-0af7651916cd43dd8448eb211c80319c-000000000000000{span}-01");
        let change = |tx, at, actor: Option<String>| Change {
            id: at,
            tx,
            at,
            actor: actor.map(Into::into),
            update: None,
            notification: None,
        };
        let changes = [
            change(1, 20, Some(parent(1))),
            change(1, 10, Some(parent(1))),
            change(2, 30, Some("clerk".into())),
            change(2, 31, None),
            change(3, 40, Some(parent(2))),
            change(3, 41, Some(parent(2).replace("-01", "-00"))),
        ];
        let found: Vec<_> =
            traced(&changes).iter().map(|t| (t.tx, t.at, t.changes, t.parent.span, t.channels.len())).collect();
        assert_eq!(found, [(1, 10, 2, 1, 1), (3, 40, 1, 2, 1)]);
        let many: Vec<_> = (0..2_000).map(|tx| change(tx, 1, Some(parent(1)))).collect();
        assert_eq!(traced(&many).len(), MOST);
    }
}
