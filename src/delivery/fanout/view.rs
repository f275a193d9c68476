//! A channel or user that is watched: its log and its sockets, by shard. Owns nothing else; the hub appends, shards
//! write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use slab::Slab;

use super::route::Watched;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::frame_log::FrameLog;
use crate::delivery::socket::meter::Meter;
use crate::delivery::socket::writer::SocketWriter;
use crate::delivery::wire::protocol;
use crate::incarnations::Gap;
use crate::sync::lock;

/// A channel view: its log and the sockets that read it, by shard.
#[derive(Debug)]
pub struct View {
    pub(crate) key: ViewKey,
    /// tells it from every other
    pub(crate) number: u64,
    pub(crate) log: Arc<FrameLog>,
    pub(crate) members: Box<[Mutex<Slab<Arc<SocketWriter>>>]>,
    /// something was appended since the last look of the heartbeat
    pub(crate) spoke: AtomicBool,
    /// where its log ended at the last look of the heartbeat
    pub(crate) written: AtomicU64,
    /// the askers that are charged for what its filter costs, each with the number of its sockets; only the first few
    payers: Mutex<Vec<(Arc<str>, u32)>>,
    /// the router has heard of it
    routed: AtomicBool,
    /// it was told a chunk of the cut that is arriving
    amid: AtomicBool,
}

/// Of so many askers at most it is known that they look through a view: one of them that can pay is enough.
const PAYERS: usize = 8;

impl View {
    /// A view that nobody watches yet; its log keeps `log_bytes`.
    pub(crate) fn new(key: ViewKey, log_bytes: u64, meter: Arc<Meter>, shards: usize) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let members = (0..shards).map(|_| Mutex::default()).collect();
        let number = NUMBER.fetch_add(1, Relaxed);
        let log = FrameLog::new(log_bytes, meter, key.mark()).of_claims(key.has_members());
        let log = match key.every() {
            Some(_) => log.of_newest(protocol::gap(&key.label(), Gap::Slow)),
            None => log,
        };
        let log = Arc::new(log);
        let (spoke, written, payers) = (AtomicBool::new(true), AtomicU64::new(0), Mutex::default());
        Self {
            key,
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

    /// How many of its sockets have not taken everything yet.
    pub(crate) fn behind(&self) -> usize {
        let behind = |members: &Mutex<Slab<Arc<SocketWriter>>>| {
            lock(members).iter().filter(|(_, writer)| writer.is_behind(&self.log)).count()
        };
        self.members.iter().map(behind).sum()
    }

    /// Somebody looks through it by one more socket, or by one less.
    pub(crate) fn is_paid_by(&self, who: &Arc<str>, more: bool) {
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
    pub(crate) fn is_routed(&self) -> bool {
        self.routed.load(Relaxed)
    }

    pub(crate) fn set_routed(&self) {
        self.routed.store(true, Relaxed);
    }

    /// Says whether it was told a chunk of the cut that is arriving; whether that is what was said before.
    pub(crate) fn is_amid(&self, is: bool) -> bool {
        self.amid.swap(is, Relaxed) == is
    }

    /// How far the slowest of its sockets is behind, and where it is; one that has not begun to read is as far behind
    /// as the log reaches.
    pub(crate) fn slowest(&self) -> (u64, u64) {
        let (end, kept) = (self.log.end(), self.log.kept());
        let place = |members: &Mutex<Slab<Arc<SocketWriter>>>| {
            lock(members).iter().map(|(_, writer)| writer.place_in(&self.log).unwrap_or(end.saturating_sub(kept))).min()
        };
        let slowest = self.members.iter().filter_map(place).min().unwrap_or(end).min(end);
        (kept.min(end - slowest), slowest)
    }

    /// All its sockets.
    pub(crate) fn sockets(&self) -> Vec<Arc<SocketWriter>> {
        let of = |members: &Mutex<Slab<Arc<SocketWriter>>>| -> Vec<_> {
            lock(members).iter().map(|(_, writer)| writer.clone()).collect()
        };
        self.members.iter().flat_map(of).collect()
    }

    /// How many sockets watch it.
    pub(crate) fn subscribers(&self) -> usize {
        self.members.iter().map(|members| lock(members).len()).sum()
    }
}

impl Watched for Arc<View> {
    fn number(&self) -> u64 {
        self.number
    }

    fn is_of_newest(&self) -> bool {
        self.log.is_of_newest()
    }

    fn payers(&self) -> Vec<Arc<str>> {
        lock(&self.payers).iter().map(|(who, _)| who.clone()).collect()
    }
}
