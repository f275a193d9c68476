//! Sockets that an operator closes. Owns which they are; their clients come back, and go on where they were.

use std::collections::HashMap;
use std::sync::Arc;

use super::Hub;
use crate::delivery::wire::frame::CloseCode;
use crate::sync::lock;

/// Whose sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// those with a token of this user, and those that hear of this user's notifications
    User(Box<str>),
    /// those that follow this channel, with all else that they follow
    Channel(Box<str>),
}

impl Hub {
    /// Closes them with 1001, and says how many they are.
    pub fn kick(&self, whom: &Whom) -> usize {
        let (views, mut sockets) = match whom {
            Whom::User(user) => {
                let views: Vec<_> = lock(&self.state).known.of_user(user).cloned().collect();
                (views, self.keepalive.of_user(user))
            }
            Whom::Channel(name) => (lock(&self.state).known.of_channel(name).cloned().collect(), Vec::new()),
        };
        sockets.extend(views.iter().flat_map(|view| view.sockets()));
        // one may follow several views
        let sockets: HashMap<_, _> = sockets.into_iter().map(|writer| (Arc::as_ptr(&writer), writer)).collect();
        let open = sockets.values().filter(|writer| !writer.is_ending());
        open.map(|writer| writer.close(CloseCode::Draining, "an operator has closed this socket: reconnect")).count()
    }
}
