//! What became of a change here: the sockets that it concerns, and what they are told. For people, who ask seldom.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Hub;
use crate::actor;
use crate::change::Change;
use crate::delivery::fanout::told::Told;
use crate::delivery::fanout::view::View;
use crate::delivery::scope::projection::Projection;
use crate::delivery::wire::protocol;
use crate::sync::lock;

/// So many views are told of one by one.
const VIEWS: usize = 100;
/// What their filters may cost, see [`Projection::work`]: 16 ms. What the rest is told is left open.
const WORK: u64 = 16 << 20;

impl Hub {
    /// The way of a change from the log on. No value of its row is in it.
    pub fn explain(&self, change: &Change) -> Value {
        let (update, notification) = (change.update.as_ref(), change.notification.as_ref());
        let users: Vec<&str> = notification.iter().flat_map(|told| &told.users).map(|user| &**user).collect();
        let (passed, concerned, projections): (bool, Vec<Arc<View>>, Vec<_>) = {
            let state = lock(&self.state);
            let passed = state.boundary.as_ref().is_some_and(|boundary| boundary.cursor.seen.sees(change.tx));
            let of_users = users.iter().flat_map(|user| state.known.of_user(user));
            let of_channel = update.into_iter().flat_map(|update| state.known.of_channel(&update.channel));
            let concerned: Vec<_> = of_channel.chain(of_users).cloned().collect();
            let projections = concerned.iter().take(VIEWS).map(|view| state.projection(&view.key).ok()).collect();
            (passed, concerned, projections)
        };
        // filters are asked without the lock, and no longer than a moment
        let size = update.map_or(0, |update| update.data.len() as u64);
        let mut work = WORK;
        let mut told = |view: &View, projection: Option<Arc<Projection>>| {
            let projection = projection?;
            work = work.checked_sub(projection.work(size))?;
            Some(match Told::of(&view.key, &projection, change)? {
                Told::Update(_, _, shown, _) => shown.action.to_owned(),
                Told::Notification(_, told, ..) => told.kind.to_string(),
            })
        };
        let views: Vec<Value> = concerned
            .iter()
            .zip(projections)
            .map(|(view, projection)| {
                json!({
                    "watches": view.key.wish(),
                    "by_policy": !view.log.mark().is_empty(),
                    "sockets": view.subscribers(),
                    "behind": view.behind(),
                    "told": told(view, projection),
                })
            })
            .collect();
        json!({
            "id": change.id,
            "captured": {
                "at": protocol::timestamp(change.at),
                "tx": change.tx.to_string(),
                "actor": change.actor.as_deref().and_then(|actor| actor::read(actor).0),
                "channel": update.map(|update| &*update.channel),
                "action": update.map(|update| &*update.action),
                "users": users,
            },
            "passed": passed,
            "views": views,
            "more_views": concerned.len().saturating_sub(VIEWS),
        })
    }
}
