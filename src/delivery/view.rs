//! A channel or user that is watched: its log and its sockets, by shard. Owns nothing else; who appends is the hub, who
//! writes is the shard.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::log::Log;
use super::meter::Meter;
use super::outbound::Outbound;
use super::route::Watched;
use super::view_key::ViewKey;

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
    /// who is charged for what its filter costs, and by how many sockets; the first few of them
    payers: Mutex<Vec<(Arc<str>, u32)>>,
    /// the router has heard of it
    routed: AtomicBool,
    /// it was told a part of the cut that is arriving
    amid: AtomicBool,
}

/// Of so many at most it is known who looks through a view: one of them who can pay is enough.
const PAYERS: usize = 8;

impl View {
    /// A view that nobody watches yet; its log keeps `log_bytes`.
    pub(super) fn new(key: ViewKey, log_bytes: u64, meter: Arc<Meter>, shards: usize) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let members = (0..shards).map(|_| Mutex::default()).collect();
        let (number, log) = (NUMBER.fetch_add(1, Relaxed), Log::new(log_bytes, meter));
        let mark = key.mark();
        let (spoke, written, payers) = (AtomicBool::new(true), AtomicU64::new(0), Mutex::default());
        Self {
            key,
            mark,
            number,
            log,
            members,
            spoke,
            written,
            payers,
            routed: AtomicBool::new(false),
            amid: AtomicBool::new(false),
        }
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

    /// Somebody looks through it by one more socket, or by one less.
    pub(super) fn is_paid_by(&self, who: &Arc<str>, more: bool) {
        let mut payers = lock(&self.payers);
        match (payers.iter().position(|(known, _)| known == who), more) {
            (Some(place), true) => payers[place].1 += 1,
            (None, true) if payers.len() < PAYERS => payers.push((who.clone(), 1)),
            (Some(place), false) if payers[place].1 > 1 => payers[place].1 -= 1,
            (Some(place), false) => {
                payers.swap_remove(place);
            }
            (None, _) => {}
        }
    }

    /// Whether the router has heard of it.
    pub(super) fn is_routed(&self) -> bool {
        self.routed.load(Relaxed)
    }

    pub(super) fn set_routed(&self) {
        self.routed.store(true, Relaxed);
    }

    /// Says whether it was told a part of the cut that is arriving; whether that is what was said before.
    pub(super) fn is_amid(&self, is: bool) -> bool {
        self.amid.swap(is, Relaxed) == is
    }

    /// How far the slowest of its sockets is behind, and where it is; one that has not begun to read is as far behind
    /// as the log reaches.
    pub(super) fn slowest(&self) -> (u64, u64) {
        let (end, kept) = (self.log.end(), self.log.kept());
        let place = |members: &Mutex<Slab<Arc<Outbound>>>| {
            lock(members).iter().map(|(_, outbound)| outbound.place_in(self).unwrap_or(end.saturating_sub(kept))).min()
        };
        let slowest = self.members.iter().filter_map(place).min().unwrap_or(end).min(end);
        (kept.min(end - slowest), slowest)
    }

    /// All its sockets.
    pub(super) fn sockets(&self) -> Vec<Arc<Outbound>> {
        let of = |members: &Mutex<Slab<Arc<Outbound>>>| -> Vec<_> {
            lock(members).iter().map(|(_, outbound)| outbound.clone()).collect()
        };
        self.members.iter().flat_map(of).collect()
    }

    /// How many sockets watch it.
    pub(super) fn subscribers(&self) -> usize {
        self.members.iter().map(|members| lock(members).len()).sum()
    }
}

impl Watched for Arc<View> {
    fn number(&self) -> u64 {
        self.number
    }

    fn payers(&self) -> Vec<Arc<str>> {
        lock(&self.payers).iter().map(|(who, _)| who.clone()).collect()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
