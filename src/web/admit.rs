//! Whether a request may become a socket: where it comes from, whose page it is, whose token it has. Pure but for the
//! counts of open sockets.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use crate::config::Admission;

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Admission {
    /// Whether a browser's page of this origin may open a socket. Programs that are no browsers send none. Without a
    /// list it may where it comes from this server, or from this machine to a server that is reached as this machine:
    /// a page from anywhere else must not read what is on somebody's own computer.
    pub fn allow_origin(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
        let Some((_, theirs)) = origin.split_once("://") else { return false };
        theirs.eq_ignore_ascii_case(host) || (is_this_machine(theirs) && is_this_machine(host))
    }

    /// Whether a server that is open to everybody on loopback was meant by this name. Another name may have been made to
    /// point at this machine by a web page (DNS rebinding), whose origin is then the server's own.
    pub fn allow_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return true };
        let Ok(host) = host.to_str() else { return false };
        let named = |origin: &String| {
            origin == "*" || origin.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host))
        };
        is_this_machine(host) || self.origins.iter().any(named)
    }

    /// The client's address: the peer's, or where that is a proxy of ours, the last one before our proxies.
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.proxies.contains(&peer) {
            return peer;
        }
        let values = headers.get_all(&FORWARDED).iter().map(|value| value.to_str().unwrap_or_default());
        let named: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        // from the right: what stands further left was written by the client
        let mut known = named.into_iter().rev().map_while(|address| address.trim().parse::<IpAddr>().ok());
        known.find(|address| !self.proxies.contains(address)).unwrap_or(peer)
    }
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The token of a request: `Authorization: Bearer`, subprotocol `bearer.…` (browsers can send nothing else), `?token=`.
pub fn token<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<&'a str> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let offered = || offers(headers).find_map(|name| name.strip_prefix("bearer."));
    let asked = || query.unwrap_or_default().split('&').find_map(|parameter| parameter.strip_prefix("token="));
    header.or_else(offered).or_else(asked)
}

/// The subprotocols that a client offers.
pub fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// How many sockets each of something has.
#[derive(Debug)]
pub struct Counts<K: Hash + Eq>(Mutex<HashMap<K, u32>>);

impl<K: Hash + Eq> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub struct Counted<K: Hash + Eq + Clone>(Arc<Counts<K>>, K);

impl<K: Hash + Eq + Clone> Counts<K> {
    /// One more, unless there are `most`; 0: any number.
    pub fn take(self: &Arc<Self>, key: K, most: u32) -> Option<Counted<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if most > 0 && *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted(self.clone(), key))
    }
}

impl<K: Hash + Eq + Clone> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_page_from_elsewhere_is_kept_out() {
        let rules = Admission { origins: vec!["https://clinic.example".into()], ..Admission::default() };
        for (origin, host, allowed) in [
            ("https://clinic.example", "live.example", true),
            ("https://evil.example", "live.example", false),
            ("https://live.example", "live.example", true),
            ("http://localhost:3000", "127.0.0.1:8000", true),
            ("http://localhost:3000", "live.example", false),
            ("http://localhost.evil.example", "127.0.0.1:8000", false),
            ("http://[::1]:3000", "localhost:8000", true),
            ("null", "127.0.0.1:8000", false),
            ("https://clinic.example.evil.example", "live.example", false),
        ] {
            assert_eq!(
                rules.allow_origin(&headers(&[("origin", origin), ("host", host)])),
                allowed,
                "{origin} at {host}"
            );
        }
        assert!(rules.allow_origin(&headers(&[("host", "live.example")])), "no browser");
        let any = Admission { origins: vec!["*".into()], ..Admission::default() };
        assert!(any.allow_origin(&headers(&[("origin", "https://evil.example"), ("host", "x")])));
    }

    #[test]
    fn only_our_own_proxies_say_who_is_behind_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let rules = Admission { proxies: vec![ip("10.0.0.1"), ip("10.0.0.2")], ..Admission::default() };
        let forged = headers(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.2")]);
        assert_eq!(rules.address(ip("10.0.0.1"), &forged), ip("2.2.2.2"));
        assert_eq!(rules.address(ip("9.9.9.9"), &forged), ip("9.9.9.9"));
        let forged = headers(&[("x-forwarded-for", "1.1.1.1, x, 2.2.2.2")]);
        assert_eq!(rules.address(ip("10.0.0.1"), &forged), ip("2.2.2.2"));
        assert_eq!(rules.address(ip("10.0.0.1"), &headers(&[("x-forwarded-for", "1.1.1.1, x")])), ip("10.0.0.1"));
        assert_eq!(rules.address(ip("10.0.0.1"), &headers(&[])), ip("10.0.0.1"));
        assert_eq!(rules.address(ip("10.0.0.1"), &headers(&[("x-forwarded-for", "nonsense")])), ip("10.0.0.1"));
    }

    #[test]
    fn a_token_is_found_where_clients_can_put_it() {
        assert_eq!(token(&headers(&[("authorization", "bearer a.b.c")]), Some("token=x")), Some("a.b.c"));
        assert_eq!(token(&headers(&[("sec-websocket-protocol", "rowcast.v1, bearer.a.b.c")]), None), Some("a.b.c"));
        assert_eq!(token(&headers(&[]), Some("since=1&token=a.b.c")), Some("a.b.c"));
        assert_eq!(token(&headers(&[("authorization", "Basic abc")]), None), None);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let counts = Arc::new(Counts::default());
        let first = counts.take("a", 1);
        assert!(first.is_some() && counts.take("a", 1).is_none() && counts.take("b", 1).is_some());
        drop(first);
        assert!(counts.take("a", 1).is_some());
    }
}
