//! How far each subscriber is behind: what it has not taken of what is in the logs. For people, who ask seldom. What
//! the kernel has taken counts as taken.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Hub;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::frame_log::FrameLog;
use crate::sync::lock;

/// So many are told of one by one, those that wait longest.
const TOLD: usize = 100;

impl Hub {
    /// The subscribers that are behind. Where everybody may ask, nobody is told who the others are.
    pub fn behind(&self) -> Value {
        let is_for_admins = self.settings.keys.is_some();
        let sockets = self.keepalive.everybody();
        let views: HashMap<_, _> =
            lock(&self.state).known.iter().map(|view| (Arc::as_ptr(&view.log), view.clone())).collect();
        let mut behind = Vec::new();
        for member in &sockets {
            // a log without a view is of one that is no more
            let of =
                |(log, place): (Arc<FrameLog>, u64)| Some((log.wait(place), views.get(&Arc::as_ptr(&log))?, place));
            behind.extend(
                member
                    .writer
                    .behind()
                    .into_iter()
                    .filter_map(of)
                    .map(|(wait, view, place)| (wait, view, place, member)),
            );
        }
        let count = behind.len();
        behind.sort_by_key(|(wait, ..)| Reverse(*wait));
        behind.truncate(TOLD);
        let subscribers: Vec<Value> = behind
            .iter()
            .map(|(wait, view, place, member)| {
                let watches = match &view.key {
                    key if is_for_admins => key.wish(),
                    // a filter may say which user it is
                    ViewKey::Channel(name, _) => name.to_string(),
                    ViewKey::User(..) => "user".to_owned(),
                };
                json!({
                    "watches": watches,
                    "user": member.user.as_deref().filter(|_| is_for_admins),
                    "address": is_for_admins.then(|| member.address.to_string()),
                    "messages": view.log.count(*place),
                    "bytes": view.log.end() - place,
                    "ms": wait.as_millis() as u64,
                })
            })
            .collect();
        json!({ "sockets": sockets.len(), "behind": count, "subscribers": subscribers })
    }
}
