//! A channel or user that is watched: its log and its sockets, by shard. Owns nothing else; who appends is the hub, who
//! writes is the shard.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::log::Log;
use super::outbound::Outbound;
use super::route::ViewKey;

/// A channel view: its log and the sockets that read it, by shard.
#[derive(Debug)]
pub struct View {
    pub(super) key: ViewKey,
    /// follows its cursors
    pub(super) mark: String,
    /// tells it from every other
    pub(super) number: u64,
    pub(super) log: Log,
    pub(super) members: Box<[Mutex<Slab<Arc<Outbound>>>]>,
    /// something was appended since the last look of the heartbeat
    pub(super) spoke: AtomicBool,
    /// where its log ended at the last look of the heartbeat
    pub(super) written: AtomicU64,
}

impl View {
    /// A view that nobody watches yet; its log keeps `log_bytes`.
    pub(super) fn new(key: ViewKey, log_bytes: u64, shards: usize) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let members = (0..shards).map(|_| Mutex::default()).collect();
        let (number, log) = (NUMBER.fetch_add(1, Relaxed), Log::new(log_bytes));
        let mark = key.mark();
        Self { key, mark, number, log, members, spoke: AtomicBool::new(true), written: AtomicU64::new(0) }
    }

    /// The frames.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How many of its sockets have not taken everything yet.
    pub(super) fn behind(&self) -> usize {
        let behind = |members: &Mutex<Slab<Arc<Outbound>>>| {
            lock(members).iter().filter(|(_, outbound)| outbound.is_behind(self)).count()
        };
        self.members.iter().map(behind).sum()
    }

    /// How many sockets watch it.
    pub(super) fn subscribers(&self) -> usize {
        self.members.iter().map(|members| lock(members).len()).sum()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
