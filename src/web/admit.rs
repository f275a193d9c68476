//! Whether a request may become a socket: where it comes from, whose page it is, whose token it has. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use crate::config::Admission;

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// By which names a server may be called. Where everybody may see everything, a web page could make a name of its own
/// point at this server (DNS rebinding), and would then be a page of the server's own origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostNames {
    /// tokens are checked: a page of another name has none
    Any,
    /// on loopback: this machine's
    ThisMachine,
    /// beyond: those that nobody can register, and addresses
    NotPublic,
}

/// Names under these belong to a network of one's own: nobody can have them registered (RFC 6762, 6761, 8375, and what
/// ICANN has set aside in 2024). So do those without a dot, such as a container's.
const OWN: [&str; 5] = [".localhost", ".local", ".internal", ".home.arpa", ".test"];

impl Admission {
    /// Whether a browser's page of this origin may open a socket. Programs that are no browsers send none. Without a
    /// list it may where it comes from this server, or from this machine to a server that is reached as this machine:
    /// a page from anywhere else must not read what is on somebody's own computer. Behind TLS of its own the server's
    /// origin is `https`; without, a proxy may do TLS for it, and either may be.
    pub fn allow_origin(&self, headers: &HeaderMap, by_tls: bool) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
        let (Some(origin), Some(host)) = (Origin::parse(origin), Authority::parse(host)) else { return false };
        let is_own = (origin.is_secure || !by_tls) && origin.authority.is_at(&host, origin.is_secure);
        is_own || (origin.authority.is_this_machine() && host.is_this_machine())
    }

    /// Whether a server may be called by the name that a request has for it.
    pub fn allow_host(&self, headers: &HeaderMap, names: HostNames) -> bool {
        let Some(host) = headers.get(HOST).filter(|_| names != HostNames::Any) else { return true };
        let Some(host) = host.to_str().ok().and_then(Authority::parse) else { return false };
        let named = |origin: &String| {
            origin == "*"
                || origin
                    .split_once("://")
                    .and_then(|(_, rest)| Authority::parse(rest))
                    .is_some_and(|named| named.host.eq_ignore_ascii_case(host.host))
        };
        match names {
            HostNames::NotPublic if host.is_not_public() => true,
            _ => host.is_this_machine() || self.origins.iter().any(named),
        }
    }

    /// The client's address: the peer's, or where that is a proxy of ours, the last one before our proxies.
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy(peer) {
            return peer;
        }
        let values = headers.get_all(&FORWARDED).iter().map(|value| value.to_str().unwrap_or_default());
        let named: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        // from the right: what stands further left was written by the client
        let mut known = named.into_iter().rev().map_while(|address| without_port(address.trim()));
        known.find(|address| !self.is_proxy(*address)).unwrap_or(peer)
    }

    /// Whether an address is that of a proxy of ours.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.has(address))
    }
}

/// An address as proxies write it: `9.9.9.9`, `9.9.9.9:51234`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:51234`.
fn without_port(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bare).map(|address| address.to_canonical())
}

/// Whether an authority, such as `localhost:8000`, is this machine's.
pub(super) fn is_this_machine(authority: &str) -> bool {
    Authority::parse(authority).is_some_and(|authority| authority.is_this_machine())
}

/// A host, and a port where it is said: `localhost`, `127.0.0.1:8000`, `[::1]:8000`. Nothing else may stand beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Authority<'a> {
    /// without brackets
    host: &'a str,
    port: Option<u16>,
}

/// A page's origin on the web. Others (`null`, extensions, apps) are allowed where the settings name them.
struct Origin<'a> {
    is_secure: bool,
    authority: Authority<'a>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, after) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok())?,
            None => {
                let (host, after) = text.split_at(text.find(':').unwrap_or(text.len()));
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                (Some(host).filter(|host| !host.is_empty() && host.bytes().all(is_name))?, after)
            }
        };
        let port = match after.strip_prefix(':') {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            None if after.is_empty() => None,
            _ => return None,
        };
        Some(Self { host, port })
    }

    fn is_at(&self, other: &Self, is_secure: bool) -> bool {
        let usual = if is_secure { 443 } else { 80 };
        self.host.eq_ignore_ascii_case(other.host) && self.port.unwrap_or(usual) == other.port.unwrap_or(usual)
    }

    fn is_this_machine(&self) -> bool {
        let is_loopback = self.host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        is_loopback || self.host.eq_ignore_ascii_case("localhost")
    }

    fn is_not_public(&self) -> bool {
        let host = self.host.to_ascii_lowercase();
        host.parse::<IpAddr>().is_ok() || !host.contains('.') || OWN.iter().any(|own| host.ends_with(own))
    }
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_secure = scheme.eq_ignore_ascii_case("https");
        let authority = Authority::parse(rest)?;
        (is_secure || scheme.eq_ignore_ascii_case("http")).then_some(Self { is_secure, authority })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

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
                rules.allow_origin(&headers(&[("origin", origin), ("host", host)]), false),
                allowed,
                "{origin} at {host}"
            );
        }
        assert!(rules.allow_origin(&headers(&[("host", "live.example")]), false), "no browser");
        let any = Admission { origins: vec!["*".into()], ..Admission::default() };
        assert!(any.allow_origin(&headers(&[("origin", "https://evil.example"), ("host", "x")]), false));
    }

    #[test]
    fn only_our_own_proxies_say_who_is_behind_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let rules = Admission { proxies: vec![ip("10.0.0.1").into(), ip("10.0.0.2").into()], ..Admission::default() };
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
    fn a_client_behind_a_proxy_is_known_however_its_address_is_written() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let rules = Admission { proxies: vec![Network::parse("10.0.0.0/8").unwrap()], ..Admission::default() };
        for (written, known) in [
            ("9.9.9.9:51234", "9.9.9.9"),
            ("::ffff:9.9.9.9", "9.9.9.9"),
            ("[::ffff:9.9.9.9]:51234", "9.9.9.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443, 10.2.3.4:8080", "2001:db8::1"),
            ("9.9.9.9:, 10.2.3.4", "10.1.1.1"),
        ] {
            let peer = ip("::ffff:10.1.1.1").to_canonical();
            assert_eq!(rules.address(peer, &headers(&[("x-forwarded-for", written)])), ip(known), "{written}");
        }
    }

    #[test]
    fn a_token_is_found_where_clients_can_put_it() {
        assert_eq!(token(&headers(&[("authorization", "bearer a.b.c")]), Some("token=x")), Some("a.b.c"));
        assert_eq!(token(&headers(&[("sec-websocket-protocol", "rowcast.v1, bearer.a.b.c")]), None), Some("a.b.c"));
        assert_eq!(token(&headers(&[]), Some("since=1&token=a.b.c")), Some("a.b.c"));
        assert_eq!(token(&headers(&[("authorization", "Basic abc")]), None), None);
    }

    #[test]
    fn what_only_begins_like_this_machine_is_not() {
        let rules = Admission::default();
        for host in [
            "[::1]evil.com",
            "[::1].evil.com",
            "[::1]:80evil",
            "[::1",
            "localhost:80@evil.com",
            "localhost:",
            "",
            "localhost:99999",
            "evil.com#localhost",
            "127.0.0.1.evil.com",
            "localhost.evil.com",
            "[localhost]",
            "a b",
        ] {
            for names in [HostNames::ThisMachine, HostNames::NotPublic] {
                let allowed = rules.allow_host(&headers(&[("host", host)]), names);
                assert!(!allowed, "{host} for {names:?}");
            }
        }
        for origin in [
            "http://[::1].evil.com",
            "http://[::1]evil.com",
            "evil://localhost",
            "localhost",
            "http://localhost@evil.com",
            "http://",
        ] {
            for host in ["localhost:8000", "[::1]:8000"] {
                assert!(
                    !rules.allow_origin(&headers(&[("origin", origin), ("host", host)]), false),
                    "{origin} at {host}"
                );
            }
        }
    }

    #[test]
    fn a_name_that_anybody_can_register_is_refused_where_everybody_sees_everything() {
        let rules = Admission { origins: vec!["https://clinic.example".into()], ..Admission::default() };
        let allowed = |host, names| rules.allow_host(&headers(&[("host", host)]), names);
        for host in [
            "10.0.0.7:8000",
            "[fd00::7]",
            "192.168.1.7",
            "rowcast:8000",
            "nas.local",
            "rowcast.prod.svc.cluster.local",
            "host.docker.internal:8000",
        ] {
            assert!(allowed(host, HostNames::NotPublic) && !allowed(host, HostNames::ThisMachine), "{host}");
        }
        for host in ["localhost", "127.0.0.1:1", "[::1]:8000", "clinic.example", "Clinic.Example:8443"] {
            assert!(allowed(host, HostNames::NotPublic) && allowed(host, HostNames::ThisMachine), "{host}");
        }
        for host in ["evil.example", "evil.example:8000", "local.evil.example", "evil-local", "10.0.0.7.evil.example"] {
            assert_eq!(allowed(host, HostNames::NotPublic), !host.contains('.'), "{host}");
            assert!(!allowed(host, HostNames::ThisMachine) && allowed(host, HostNames::Any), "{host}");
        }
        assert!(rules.allow_host(&headers(&[]), HostNames::ThisMachine), "no browser");
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        let rules = Admission::default();
        for (origin, host, by_tls, allowed) in [
            ("https://live.example", "live.example", true, true),
            ("http://live.example", "live.example", true, false),
            ("http://live.example", "live.example", false, true),
            ("https://live.example", "live.example:443", false, true),
            ("https://live.example", "live.example:8443", false, false),
            ("http://live.example:8000", "live.example:8000", false, true),
            ("ftp://live.example", "live.example", false, false),
        ] {
            let headers = headers(&[("origin", origin), ("host", host)]);
            assert_eq!(rules.allow_origin(&headers, by_tls), allowed, "{origin} at {host}");
        }
    }
}
