//! A socket's membership of a view. Owns where it goes on; the hub says which views there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Hub;
use crate::delivery::access::shares::Look;
use crate::delivery::fanout::view::View;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{CancelFlag, SocketWriter};
use crate::sync::lock;

/// A socket's place in a view; dropping it leaves.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    view: Arc<View>,
    writer: Arc<SocketWriter>,
    /// what it counts for; `None` where it is the whole channel, or a user's
    look: Option<Box<Look>>,
    /// tells it from any other
    number: u64,
    /// of its holder's values of claims, when it became a member; 0 where it does not depend on them
    epoch: u64,
    /// where the view's log goes on for this subscriber
    offset: u64,
    shard: usize,
    slot: usize,
}

impl Subscription {
    /// Of a socket that was just put into this slot: it goes on where the view's log ends now.
    pub(super) fn new(
        hub: Arc<Hub>,
        view: Arc<View>,
        writer: Arc<SocketWriter>,
        look: Option<Box<Look>>,
        epoch: u64,
        shard: usize,
        slot: usize,
    ) -> Self {
        if let Some(look) = &look {
            view.is_paid_by(look.who(), true);
        }
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (number, offset) = (NUMBER.fetch_add(1, Relaxed), view.log.end());
        Self { hub, view, writer, look, number, epoch, offset, shard, slot }
    }

    /// Follows the view's cursors.
    pub(super) fn mark(&self) -> &str {
        self.view.log.mark()
    }

    /// Tells it from any other.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Of its holder's values of claims, when it became a member; 0 where it does not depend on them.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of its view.
    pub(super) fn view_number(&self) -> u64 {
        self.view.number
    }

    /// Its number, and up to where it is held in its view's log.
    pub(crate) fn place(&self) -> Option<(u64, u64)> {
        Some((self.number, self.held()?.1))
    }

    /// Before which touch it is held, and where its log ended there.
    pub(super) fn held(&self) -> Option<(u64, u64)> {
        self.writer.held(self.number)
    }

    /// What it watches.
    pub fn key(&self) -> &ViewKey {
        &self.view.key
    }

    /// From now on the socket gets what the view's log has had since it became a member, after `messages`. Under the hub's
    /// lock, where what it shows depends on claims.
    pub(super) fn follow(&self, messages: &[&str], cancel: &CancelFlag) {
        self.writer.join(self.view.log.clone(), self.number, self.offset, messages, cancel);
    }

    /// Stops following before it is dropped; `false` where it does not, as its socket was told that its view is no more.
    pub(crate) fn leave(&self) -> bool {
        self.writer.leave(self.number)
    }

    /// Whether its view is still one: not where the channel is gone.
    pub fn is_open(&self) -> bool {
        lock(&self.hub.state).known.has(&self.view)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.writer.leave(self.number);
        let mut state = lock(&self.hub.state);
        lock(&self.view.members[self.shard]).try_remove(self.slot);
        if let Some(look) = &self.look {
            self.view.is_paid_by(look.who(), false);
        }
        if state.known.has(&self.view) && self.view.subscribers() == 0 {
            state.known.remove(&self.view);
        }
    }
}
