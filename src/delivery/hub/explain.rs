//! What became of a change here: who watches what it concerns, and what they are told. For people, who ask seldom.

use serde_json::{Value, json};

use super::Hub;
use crate::change::Change;
use crate::delivery::protocol;
use crate::delivery::route::Told;
use crate::delivery::view::{View, lock};

/// So many views are told of one by one.
const VIEWS: usize = 100;

impl Hub {
    /// The life of a change from the log on. No value of its row is in it.
    pub fn explain(&self, change: &Change) -> Value {
        let state = lock(&self.state);
        let passed = state.border.as_ref().is_some_and(|border| border.cursor.seen.sees(change.tx));
        let (update, notification) = (change.update.as_ref(), change.notification.as_ref());
        let users: Vec<&str> = notification.iter().flat_map(|told| &told.users).map(|user| &**user).collect();
        let of_users = users.iter().flat_map(|user| state.views.of_user(user));
        let concerned: Vec<_> =
            update.into_iter().flat_map(|update| state.views.of_channel(&update.channel)).chain(of_users).collect();
        let told = |view: &View| {
            let lens = state.lens(&view.key).ok()?;
            Some(match Told::of(&view.key, &lens, change)? {
                Told::Update(_, _, shown, _) => shown.action.to_owned(),
                Told::Notification(_, told, ..) => told.kind.to_string(),
            })
        };
        let views: Vec<Value> = concerned
            .iter()
            .take(VIEWS)
            .map(|view| {
                json!({
                    "watches": view.key.wish(),
                    "by_policy": !view.mark.is_empty(),
                    "sockets": view.subscribers(),
                    "behind": view.behind(),
                    "told": told(view),
                })
            })
            .collect();
        json!({
            "id": change.id,
            "captured": {
                "at": protocol::timestamp(change.at),
                "tx": change.tx.to_string(),
                "actor": change.actor,
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
