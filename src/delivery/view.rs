//! A channel or user that is watched: its log and its sockets, by shard. Owns nothing else; who appends is the hub, who
//! writes is the shard.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::log::Log;
use super::outbound::Outbound;
use super::route::ViewKey;

/// A channel view: its log and the sockets that read it, by shard.
#[derive(Debug)]
pub struct View {
    pub(super) key: ViewKey,
    pub(super) log: Log,
    pub(super) members: Box<[Mutex<Slab<Arc<Outbound>>>]>,
    /// something was appended since the last look of the heartbeat
    pub(super) spoke: AtomicBool,
}

impl View {
    /// A view that nobody watches yet; its log keeps `log_bytes`.
    pub(super) fn new(key: ViewKey, log_bytes: u64, shards: usize) -> Self {
        let members = (0..shards).map(|_| Mutex::default()).collect();
        Self { key, log: Log::new(log_bytes), members, spoke: AtomicBool::new(true) }
    }

    /// The frames.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How many sockets watch it.
    pub(super) fn subscribers(&self) -> usize {
        self.members.iter().map(|members| lock(members).len()).sum()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
