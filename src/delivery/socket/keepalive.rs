//! Whether clients are still there: one timer for all sockets. Owns when each is pinged, and the goodbye to all of them
//! when the server goes down; knows nothing of what they talk about.
//!
//! The sockets stand on a ring. Each tick visits one place of it, so that a socket is visited once in a ping interval
//! and ten thousand are not pinged at once. A timer of its own in each session would take more memory than the rest of
//! the session.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slab::Slab;

use super::writer::SocketWriter;
use crate::delivery::wire::frame::CloseCode;
use crate::shutdown::Shutdown;
use crate::sync::lock;

/// Places on the ring.
const PLACES: usize = 32;

/// The ring.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// `None` once the server goes down
    ring: Mutex<Option<Vec<Slab<Member>>>>,
    interval: Duration,
}

/// A socket, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) writer: Arc<SocketWriter>,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) address: IpAddr,
}

/// Where a socket stands: its slot, and in it the place. In four bytes, since each session has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingSlot(u32);

impl RingSlot {
    fn new(place: usize, slot: usize) -> Self {
        Self((slot * PLACES + place) as u32)
    }

    fn place(self) -> usize {
        self.0 as usize % PLACES
    }

    fn slot(self) -> usize {
        self.0 as usize / PLACES
    }
}

impl Keepalive {
    /// Each socket is pinged once in `interval`.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { ring: Mutex::new(Some((0..PLACES).map(|_| Slab::new()).collect())), interval }
    }

    /// Takes a socket up, at any place. While the server goes down it is told so at once.
    pub(crate) fn enter(&self, writer: &Arc<SocketWriter>, user: Option<Arc<str>>, address: IpAddr) -> RingSlot {
        let place = fastrand::usize(..PLACES);
        let mut ring = lock(&self.ring);
        let slot = match &mut *ring {
            Some(ring) => {
                let here = &mut ring[place];
                if here.len() == here.capacity() {
                    // doubled, it would be half empty: memory for thousands of sockets that may never come
                    here.reserve_exact(8 + here.len() / 4);
                }
                here.insert(Member { writer: writer.clone(), user, address })
            }
            None => {
                drain(writer);
                0
            }
        };
        RingSlot::new(place, slot)
    }

    /// Whose socket it is now.
    pub(crate) fn belongs_to(&self, standing: RingSlot, user: Option<Arc<str>>) {
        if let Some(member) = lock(&self.ring).as_mut().and_then(|ring| ring[standing.place()].get_mut(standing.slot()))
        {
            member.user = user;
        }
    }

    /// All sockets.
    pub(crate) fn all(&self) -> Vec<Arc<SocketWriter>> {
        let ring = lock(&self.ring);
        ring.iter().flatten().flatten().map(|(_, member)| member.writer.clone()).collect()
    }

    /// All sockets, and whose each is.
    pub(crate) fn everybody(&self) -> Vec<Member> {
        lock(&self.ring).iter().flatten().flatten().map(|(_, member)| member.clone()).collect()
    }

    /// The sockets of a user.
    pub(crate) fn of_user(&self, user: &str) -> Vec<Arc<SocketWriter>> {
        let ring = lock(&self.ring);
        let members = ring.iter().flatten().flatten().map(|(_, member)| member);
        members.filter(|member| member.user.as_deref() == Some(user)).map(|member| member.writer.clone()).collect()
    }

    /// Whose sockets there are.
    pub(crate) fn users(&self) -> HashSet<Arc<str>> {
        lock(&self.ring).iter().flatten().flatten().filter_map(|(_, member)| member.user.clone()).collect()
    }

    /// The sockets of those users.
    pub(crate) fn of_users(&self, is_one: impl Fn(&str) -> bool) -> Vec<Arc<SocketWriter>> {
        let ring = lock(&self.ring);
        let members = ring.iter().flatten().flatten().map(|(_, member)| member);
        members
            .filter(|member| member.user.as_deref().is_some_and(&is_one))
            .map(|member| member.writer.clone())
            .collect()
    }

    /// Lets a socket go.
    pub(crate) fn leave(&self, standing: RingSlot) {
        if let Some(ring) = &mut *lock(&self.ring) {
            ring[standing.place()].try_remove(standing.slot());
        }
    }

    /// Pings until the shutdown, then says goodbye to all.
    pub(crate) async fn run(&self, mut shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.interval / PLACES as u32);
        for place in (0..PLACES).cycle() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.begun() => break,
            }
            let here: Vec<_> = match &*lock(&self.ring) {
                Some(ring) => ring[place].iter().map(|(_, member)| member.writer.clone()).collect(),
                None => break,
            };
            here.iter().for_each(|writer| writer.ping(self.interval));
        }
        for (_, member) in lock(&self.ring).take().into_iter().flatten().flatten() {
            drain(&member.writer);
        }
    }
}

fn drain(writer: &SocketWriter) {
    writer.close(CloseCode::Draining, "the server goes down: reconnect");
}
