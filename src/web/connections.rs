//! Which connections are taken: how many an address may have before they are sockets, and how many descriptors there are
//! for all. Owns the counts; what is answered on them is the server's.
//!
//! Some descriptors are kept back: for the database, and so that a client that asks whether the server is well gets an
//! answer also when strangers hold all the others.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::config::Network;
use crate::delivery::access::shares::{Counts, counts_as};

/// Descriptors that are kept back: 32 for health checks, the rest for the database (9), Redis, files and the runtime. Of
/// few a third.
const KEPT_BACK: u64 = 96;
/// A request's headers must have arrived by then (slow loris).
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// The same once more than half of what there is room for is taken.
const HEADERS_WITHIN_FULL: Duration = Duration::from_secs(2);

/// Those that are open.
#[derive(Debug)]
pub struct Connections {
    by_address: Counts<IpAddr>,
    per_address: u32,
    /// whose connections are those of many: this machine's own, and proxies
    proxies: Vec<Network>,
    descriptors: AtomicU64,
    room: u64,
}

/// One of them; given back when dropped. A socket keeps it, so it is small.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    peer: IpAddr,
    /// it counts for its address
    counts: AtomicBool,
    descriptors: AtomicU32,
}

/// Told when a connection's client has not taken in time what it asked for: then it ends.
#[derive(Debug, Clone, Default)]
pub struct Overdue(pub Arc<Notify>);

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// the address has as many as one may
    Address,
    /// there are no more descriptors but those that are kept back
    Full,
}

/// Raises the limit of descriptors to the most that the system allows, and says what it is now.
pub fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        tracing::debug!(event = "descriptors_raised", before = soft, now = hard);
        return hard;
    }
    soft
}

impl Connections {
    /// None is open. An address may have `per_address` that are not sockets (0: any number), but for this machine's and
    /// the `proxies`, behind which are many. `descriptors`: what the process may have open.
    pub fn new(per_address: u32, proxies: Vec<Network>, descriptors: u64) -> Arc<Self> {
        let room = descriptors - KEPT_BACK.min(descriptors / 3);
        Arc::new(Self { by_address: Counts::default(), per_address, proxies, descriptors: AtomicU64::new(0), room })
    }

    /// A connection that takes so many descriptors.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn enter(self: &Arc<Self>, peer: IpAddr, descriptors: u32) -> Result<Arc<Connection>, Refused> {
        if !self.take(descriptors) {
            return Err(Refused::Full);
        }
        let connection = Connection {
            all: self.clone(),
            peer,
            counts: AtomicBool::new(false),
            descriptors: AtomicU32::new(descriptors),
        };
        if !peer.is_loopback() && !self.is_proxy(peer) {
            if !self.by_address.take(counts_as(peer), self.per_address) {
                return Err(Refused::Address);
            }
            connection.counts.store(true, Relaxed);
        }
        Ok(Arc::new(connection))
    }

    /// Whether a peer is a proxy of ours.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.has(peer))
    }

    /// One of an operator: of the descriptors that are kept back.
    pub fn of_operator(self: &Arc<Self>, peer: IpAddr) -> Arc<Connection> {
        let (counts, descriptors) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Connection { all: self.clone(), peer, counts, descriptors })
    }

    /// By when a request's headers must have arrived.
    pub fn headers_within(&self) -> Duration {
        if self.descriptors.load(Relaxed) > self.room / 2 { HEADERS_WITHIN_FULL } else { HEADERS_WITHIN }
    }

    fn take(&self, descriptors: u32) -> bool {
        let more = |taken: u64| Some(taken + u64::from(descriptors)).filter(|taken| *taken <= self.room);
        self.descriptors.fetch_update(Relaxed, Relaxed, more).is_ok()
    }
}

impl Connection {
    /// Where it comes from.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The same connection, of a client behind the proxy from which it comes.
    ///
    /// # Errors
    /// [`Refused::Address`].
    pub fn behind(self: &Arc<Self>, client: IpAddr) -> Result<Arc<Self>, Refused> {
        let all = self.all.clone();
        if !all.by_address.take(counts_as(client), all.per_address) {
            return Err(Refused::Address);
        }
        let descriptors = AtomicU32::new(self.descriptors.swap(0, Relaxed));
        Ok(Arc::new(Self { all, peer: client, counts: AtomicBool::new(true), descriptors }))
    }

    /// It is a socket or an event stream from now on, which other limits are for.
    pub fn is_socket(&self) {
        if self.counts.swap(false, Relaxed) {
            self.all.by_address.give_back(&counts_as(self.peer));
        }
    }

    /// It takes so many descriptors more; says whether there are.
    pub fn takes_more(&self, descriptors: u32) -> bool {
        let fits = self.all.take(descriptors);
        if fits {
            self.descriptors.fetch_add(descriptors, Relaxed);
        }
        fits
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.is_socket();
        self.all.descriptors.fetch_sub(self.descriptors.load(Relaxed).into(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_has_so_many_until_they_are_sockets() {
        let all = Connections::new(2, vec![PROXY.into()], 1000);
        let mut open: Vec<_> = (0..2).map(|_| all.enter(HERE, 1).unwrap()).collect();
        assert_eq!(all.enter(HERE, 1).unwrap_err(), Refused::Address);
        for many in [PROXY, LOOPBACK] {
            open.extend((0..5).map(|_| all.enter(many, 1).unwrap()));
        }
        open[0].is_socket();
        open[0].is_socket();
        assert!(all.enter(HERE, 1).is_ok(), "given back once it is gone");
        let third = all.enter(HERE, 1).unwrap();
        assert_eq!(all.enter(HERE, 1).unwrap_err(), Refused::Address);
        drop((open, third));
        assert!(all.enter(HERE, 1).is_ok() && all.descriptors.load(Relaxed) == 0);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let [proxy, here, same, other] =
            ["2001:db8:0:2::1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|a| a.parse::<IpAddr>().unwrap());
        let all = Connections::new(2, vec![proxy.into()], 1000);
        let open = (all.enter(here, 1).unwrap(), all.enter(proxy, 1).unwrap().behind(same).unwrap());
        assert_eq!(all.enter(here, 1).unwrap_err(), Refused::Address);
        assert!(all.enter(other, 1).is_ok());
        drop(open);
        assert!(all.enter(same, 1).is_ok() && all.descriptors.load(Relaxed) == 0);
    }

    #[test]
    fn a_client_behind_a_proxy_has_as_many_as_any_other() {
        let all = Connections::new(2, vec![PROXY.into()], 1000);
        let open: Vec<_> = (0..2).map(|_| all.enter(PROXY, 1).unwrap().behind(HERE).unwrap()).collect();
        let third = all.enter(PROXY, 1).unwrap();
        assert_eq!(third.behind(HERE).unwrap_err(), Refused::Address);
        assert_eq!((open[0].peer(), all.descriptors.load(Relaxed)), (HERE, 3));
        drop((open, third));
        assert!(all.enter(HERE, 1).is_ok() && all.descriptors.load(Relaxed) == 0);
    }

    #[test]
    fn descriptors_are_kept_back_and_time_is_short_when_they_are_few() {
        let all = Connections::new(0, Vec::new(), 300);
        assert_eq!(all.headers_within(), HEADERS_WITHIN);
        let open: Vec<_> = (0..100).map_while(|_| all.enter(LOOPBACK, 3).ok()).collect();
        assert_eq!((open.len(), all.headers_within()), (68, HEADERS_WITHIN_FULL));
        assert_eq!(all.enter(LOOPBACK, 3).unwrap_err(), Refused::Full);
        assert!(!open[0].takes_more(2));
        drop(open);
        let stream = all.enter(LOOPBACK, 1).unwrap();
        assert!(stream.takes_more(2) && all.descriptors.load(Relaxed) == 3);
        drop(stream);
        assert_eq!(all.descriptors.load(Relaxed), 0);
        assert_eq!(Connections::new(0, Vec::new(), 30).room, 20);
    }
}
