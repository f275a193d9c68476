//! An address, or a network of them: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.

use std::net::IpAddr;

/// Addresses whose first bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// as IPv6, an IPv4 one mapped
    bits: u128,
    /// how many of the bits count
    length: u32,
}

impl Network {
    /// What is written as an address, or as an address and how many of its first bits count.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (most, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let length = match length {
            None => most,
            Some(length) => length.parse().ok().filter(|length| *length <= most)?,
        };
        Some(Self { bits: bits(address), length: length + before })
    }

    /// Whether an address is one of them, also as a listener for both kinds sees it: `::ffff:10.0.0.1`.
    pub fn has(&self, address: IpAddr) -> bool {
        let different = self.bits ^ bits(address);
        self.length == 0 || different >> (128 - self.length) == 0
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self { bits: bits(address), length: 128 }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    }
    .to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_however_it_is_written() {
        for (network, inside, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2"),
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
            ("192.168.4.0/22", "::ffff:192.168.7.9", "192.168.8.0"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("::/0", "1.2.3.4", ""),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.has(inside.parse().unwrap()), "{inside} in {network}");
            assert!(outside.is_empty() || !parsed.has(outside.parse().unwrap()), "{outside} not in {network}");
        }
        for wrong in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "proxy.internal", "10.0.0.0/8/8"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
