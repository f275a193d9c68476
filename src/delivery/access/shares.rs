//! Whose share a socket uses: that of a user where the token names one, else that of an address.
//! Owns what each of them has now (sockets, ways of looking at channels, tokens that were wrong); what is let in by a
//! token is `auth`'s.

use crate::sync::lock;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Sockets without a token and without a subscription, in all: each may hold the beginning of one message of
/// [`STRANGER_BYTES`], so they hold 64 MiB at most.
const STRANGERS: u32 = 1_024;
/// A message on a socket that has brought no token: `auth` with a token of nearly 64 KiB fits, which has thousands of
/// values in a claim.
pub const STRANGER_BYTES: u32 = 64 * 1024;
/// Tokens with a wrong signature of one address: so many at once, and then so many a second. A check of the slowest kind
/// (ES512) takes 2.3 ms, so an address gets a twentieth of a core for them.
const FORGED: f64 = 100.0;
/// see [`FORGED`]
const FORGED_A_SECOND: f64 = 20.0;
/// Addresses that are remembered for that; beyond, the one that is nearest to being forgotten anyway goes.
const SUSPECTS: usize = 10_000;

/// What an address counts as. Of IPv6 that is its network of 64 bits: a machine chooses the other 64 bits itself
/// (RFC 8981), as often as it likes.
pub fn counts_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// What each may have; 0: any number.
#[derive(Debug, Clone, Copy, Default)]
pub struct Most {
    /// sockets of one address
    pub sockets_per_address: u32,
    /// sockets of one user
    pub sockets_per_user: u32,
    /// of one address, sockets that have neither token nor subscription yet
    pub strangers_per_address: u32,
    /// distinct filters and columns of one user, over all of the user's sockets
    pub views_per_user: u32,
    /// the same of those at one address that have no user
    pub views_per_address: u32,
}

/// What everybody has.
#[derive(Debug, Default)]
pub struct Shares {
    most: Most,
    by_address: Counts<IpAddr>,
    by_user: Counts<Arc<str>>,
    /// `None` counts all of them
    strangers: Counts<Option<IpAddr>>,
    /// by whom, by view: how many of the sockets
    views: Mutex<HashMap<Arc<str>, HashMap<u64, u32>>>,
    suspects: Mutex<HashMap<IpAddr, Suspect>>,
}

/// A limit that is reached: its name in the metrics, and what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// for metrics
    pub limit: &'static str,
    /// for people
    pub reason: &'static str,
}

impl Shares {
    /// Nobody has anything yet.
    pub fn new(most: Most) -> Arc<Self> {
        Arc::new(Self { most, ..Self::default() })
    }

    /// A socket from this address.
    ///
    /// # Errors
    /// [`TooMany`] of the address.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Share, TooMany> {
        let too_many = TooMany { limit: "address", reason: "too many sockets of this address" };
        let mut share = self.refused(address);
        share.counts = self.by_address.take(counts_as(address), self.most.sockets_per_address);
        if share.counts { Ok(share) } else { Err(too_many) }
    }

    /// A client that is told to go, and counts for nothing.
    pub fn refused(self: &Arc<Self>, address: IpAddr) -> Share {
        Share { shares: self.clone(), address, counts: false, user: None, is_stranger: false }
    }

    /// Whether so many tokens of this address were wrong lately that no more are looked at.
    pub fn is_suspect(&self, address: IpAddr) -> bool {
        self.is_suspect_at(counts_as(address), Instant::now())
    }

    /// A token of this address had a wrong signature.
    pub fn suspect(&self, address: IpAddr) {
        self.suspect_at(counts_as(address), Instant::now());
    }

    fn is_suspect_at(&self, address: IpAddr, now: Instant) -> bool {
        lock(&self.suspects).get(&address).is_some_and(|suspect| suspect.left(now) < 1.0)
    }

    fn suspect_at(&self, address: IpAddr, now: Instant) {
        let mut suspects = lock(&self.suspects);
        if suspects.len() >= SUSPECTS && !suspects.contains_key(&address) {
            suspects.retain(|_, suspect| suspect.left(now) < FORGED);
            let calmest = suspects.iter().max_by(|(_, a), (_, b)| a.left(now).total_cmp(&b.left(now)));
            if let Some(calmest) = calmest.map(|(address, _)| *address).filter(|_| suspects.len() >= SUSPECTS) {
                suspects.remove(&calmest);
            }
        }
        let suspect = suspects.entry(address).or_insert(Suspect { left: FORGED, at: now });
        (suspect.left, suspect.at) = ((suspect.left(now) - 1.0).max(0.0), now);
    }

    /// A view that somebody looks through now.
    ///
    /// # Errors
    /// [`TooMany`] distinct ones.
    pub fn look(self: &Arc<Self>, who: &Arc<str>, view: u64) -> Result<Look, TooMany> {
        let (most, reason) = match who.strip_prefix(USER) {
            Some(_) => (self.most.views_per_user, "too many distinct filters of this user: see max-views-per-user"),
            None => {
                (self.most.views_per_address, "too many distinct filters of this address: see max-views-per-address")
            }
        };
        let mut all = lock(&self.views);
        let views = all.entry(who.clone()).or_default();
        if most > 0 && views.len() >= most as usize && !views.contains_key(&view) {
            return Err(TooMany { limit: "views", reason });
        }
        *views.entry(view).or_default() += 1;
        drop(all);
        Ok(Look { shares: self.clone(), who: who.clone(), view })
    }
}

/// How many wrong tokens an address may still send, as of a moment.
#[derive(Debug)]
struct Suspect {
    left: f64,
    at: Instant,
}

impl Suspect {
    fn left(&self, now: Instant) -> f64 {
        (self.left + now.duration_since(self.at).as_secs_f64() * FORGED_A_SECOND).min(FORGED)
    }
}

/// A view that somebody looks through; given back when dropped.
#[derive(Debug)]
pub struct Look {
    shares: Arc<Shares>,
    who: Arc<str>,
    view: u64,
}

impl Look {
    /// The asker that looks.
    pub fn who(&self) -> &Arc<str> {
        &self.who
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let mut all = lock(&self.shares.views);
        let Some(views) = all.get_mut(&self.who) else { return };
        if let Some(sockets) = views.get_mut(&self.view) {
            *sockets -= 1;
            if *sockets == 0 {
                views.remove(&self.view);
            }
        }
        if views.is_empty() {
            all.remove(&self.who);
        }
    }
}

const USER: &str = "user/";

/// Whether an asker is a user, and not an address.
pub fn is_user(asker: &str) -> bool {
    asker.starts_with(USER)
}

/// Whose a socket is. What it counts for is given back when dropped. Small: there is one for each socket.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    address: IpAddr,
    /// it is one of its address's
    counts: bool,
    /// it is one of this user's
    user: Option<Arc<str>>,
    is_stranger: bool,
}

impl Share {
    /// Where it comes from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What everybody has.
    pub fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    /// The asker, in one text: the same for all sockets that share.
    pub fn asker(&self) -> Arc<str> {
        match &self.user {
            Some(user) => format!("{USER}{user}").into(),
            None => counts_as(self.address).to_string().into(),
        }
    }

    /// It is this user's from now on, by the handshake or by a command; none where the token names none.
    ///
    /// # Errors
    /// [`TooMany`] sockets of the user; then it is nobody's.
    pub fn belongs_to(&mut self, user: Option<&Arc<str>>) -> Result<(), TooMany> {
        if self.user.as_ref() == user {
            return Ok(());
        }
        if let Some(before) = self.user.take() {
            self.shares.by_user.give_back(&before);
        }
        let Some(user) = user else { return Ok(()) };
        if !self.shares.by_user.take(user.clone(), self.shares.most.sockets_per_user) {
            return Err(TooMany { limit: "user", reason: "too many sockets of this user" });
        }
        self.user = Some(user.clone());
        Ok(())
    }

    /// It has neither a token nor a subscription, where tokens are checked.
    ///
    /// # Errors
    /// [`TooMany`] such of the address, or in all.
    pub fn is_stranger(&mut self) -> Result<(), TooMany> {
        let strangers = &self.shares.strangers;
        let here = Some(counts_as(self.address));
        let too_many =
            TooMany { limit: "strangers", reason: "too many sockets without a token: send it with the request" };
        if !strangers.take(here, self.shares.most.strangers_per_address) {
            return Err(too_many);
        }
        if !strangers.take(None, STRANGERS) {
            strangers.give_back(&here);
            return Err(too_many);
        }
        self.is_stranger = true;
        Ok(())
    }

    /// It has a token, or a subscription that needs none.
    pub fn is_known(&mut self) {
        if std::mem::take(&mut self.is_stranger) {
            self.shares.strangers.give_back(&Some(counts_as(self.address)));
            self.shares.strangers.give_back(&None);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.is_known();
        if let Some(user) = self.user.take() {
            self.shares.by_user.give_back(&user);
        }
        if self.counts {
            self.shares.by_address.give_back(&counts_as(self.address));
        }
    }
}

/// How many each of something has.
#[derive(Debug)]
pub struct Counts<K: Hash + Eq>(Mutex<HashMap<K, u32>>);

impl<K: Hash + Eq> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Counts<K> {
    /// One more, unless there are `most`; 0: any number. Says whether.
    pub fn take(&self, key: K, most: u32) -> bool {
        let mut counts = lock(&self.0);
        let count = counts.entry(key).or_default();
        let fits = most == 0 || *count < most;
        *count += u32::from(fits);
        fits
    }

    /// One less.
    pub fn give_back(&self, key: &K) {
        let mut counts = lock(&self.0);
        if let Some(count) = counts.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let counts = Counts::default();
        assert!(counts.take("a", 1) && !counts.take("a", 1) && counts.take("b", 1));
        counts.give_back(&"a");
        assert!(counts.take("a", 1));
        counts.give_back(&"a");
        counts.give_back(&"b");
        assert!(lock(&counts.0).is_empty(), "nothing is left of an asker that has gone");
    }

    #[test]
    fn a_user_by_handshake_and_by_command_is_one_user() {
        let shares = Shares::new(Most { sockets_per_user: 2, ..Most::default() });
        let five: Arc<str> = "5".into();
        let mut sockets: Vec<_> = (0..3).map(|_| shares.enter(HERE).unwrap()).collect();
        assert_eq!(&*sockets[0].asker(), "192.0.2.1");
        for socket in &mut sockets[..2] {
            socket.belongs_to(Some(&five)).unwrap();
            socket.belongs_to(Some(&five)).unwrap();
        }
        assert_eq!(sockets[2].belongs_to(Some(&five)).unwrap_err().limit, "user");
        assert_eq!(&*sockets[0].asker(), "user/5");
        sockets.remove(0);
        assert!(sockets[1].belongs_to(Some(&five)).is_ok());
    }

    #[test]
    fn distinct_views_are_counted_over_all_sockets_and_equal_ones_once() {
        let shares = Shares::new(Most { views_per_user: 2, ..Most::default() });
        let (five, six): (Arc<str>, Arc<str>) = ("user/5".into(), "user/6".into());
        let looks = [shares.look(&five, 1), shares.look(&five, 1), shares.look(&five, 2)];
        assert!(looks.iter().all(Result::is_ok));
        assert_eq!(shares.look(&five, 3).unwrap_err().limit, "views");
        assert!(shares.look(&six, 3).is_ok() && shares.look(&five, 2).is_ok());
        drop(looks);
        assert!(lock(&shares.views).is_empty(), "nothing is left of an asker that has gone");
    }

    #[test]
    fn strangers_are_few_and_not_for_long() {
        let shares = Shares::new(Most { strangers_per_address: 1, ..Most::default() });
        let mut sockets: Vec<_> = (0..2).map(|_| shares.enter(HERE).unwrap()).collect();
        sockets[0].is_stranger().unwrap();
        assert_eq!(sockets[1].is_stranger().unwrap_err().limit, "strangers");
        assert!(shares.enter(THERE).unwrap().is_stranger().is_ok());
        sockets[0].is_known();
        assert!(sockets[1].is_stranger().is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let shares = Shares::new(Most { sockets_per_address: 2, strangers_per_address: 1, ..Most::default() });
        let [here, same, other] = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|a| a.parse().unwrap());
        let mut sockets = [shares.enter(here).unwrap(), shares.enter(same).unwrap()];
        assert_eq!(shares.enter(same).unwrap_err().limit, "address");
        assert!(shares.enter(other).is_ok());
        assert_eq!(sockets[0].asker(), sockets[1].asker());
        assert_eq!(sockets[1].address(), same, "the log tells the whole address");
        sockets[0].is_stranger().unwrap();
        assert_eq!(sockets[1].is_stranger().unwrap_err().limit, "strangers");
        for _ in 0..100 {
            shares.suspect(here);
        }
        assert!(shares.is_suspect(same) && !shares.is_suspect(other));
        drop(sockets);
        assert!(lock(&shares.by_address.0).is_empty() && lock(&shares.strangers.0).is_empty());
    }

    #[test]
    fn an_address_that_forges_is_not_listened_to_for_a_while() {
        let (shares, start) = (Shares::new(Most::default()), Instant::now());
        let forge = |address, at| {
            let is_looked_at = !shares.is_suspect_at(address, at);
            if is_looked_at {
                shares.suspect_at(address, at);
            }
            is_looked_at
        };
        assert_eq!((0..1000).filter(|_| forge(HERE, start)).count(), 100);
        assert!(!shares.is_suspect_at(THERE, start), "each address has its own");
        let later = start + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| forge(HERE, later)).count(), 20);
        assert!(!shares.is_suspect_at(HERE, later + Duration::from_secs(60)));
    }

    #[test]
    fn who_forges_from_everywhere_does_not_fill_the_memory() {
        let (shares, now) = (Shares::new(Most::default()), Instant::now());
        for n in 0..20_000_u32 {
            shares.suspect_at(IpAddr::V4(n.into()), now);
        }
        assert_eq!(lock(&shares.suspects).len(), SUSPECTS);
    }
}
