//! Which client stands behind a proxy that forwards bytes and says so with a header of the PROXY protocol, version 1 or
//! 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt). Owns the reading of that header, to its last byte; which proxy
//! to believe is said by the caller.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// With it a header of version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// A header of version 1 has so many bytes at most.
const LINE: usize = 107;
/// The addresses and additions of version 2: proxies add a certificate's name or an id of a link, of some hundred bytes.
const ADDITIONS: usize = 4096;

/// The client's address; `None` where the proxy speaks for itself, as in its health checks.
///
/// # Errors
/// When there is no header, or the connection breaks.
pub(super) async fn client_of(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    // the shortest header, `PROXY UNKNOWN\r\n`, has 15 bytes: nothing that follows it is taken
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(16, 0);
        stream.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > ADDITIONS {
            return Err(bad());
        }
        header.resize(16 + length, 0);
        stream.read_exact(&mut header[16..]).await?;
    } else {
        while !header.ends_with(b"\r\n") {
            if header.len() == LINE || !header.starts_with(b"PROXY ") {
                return Err(bad());
            }
            header.push(stream.read_u8().await?);
        }
    }
    let address = match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(ip) => Some(IpAddr::from(ip.source_address)),
            v1::Addresses::Tcp6(ip) => Some(IpAddr::from(ip.source_address)),
        },
        HeaderResult::V2(Ok(header)) => match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some(IpAddr::from(ip.source_address)),
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some(IpAddr::from(ip.source_address)),
            _ => None,
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => return Err(bad()),
    };
    Ok(address.map(|address| address.to_canonical()))
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn read(mut bytes: &[u8]) -> (Option<Option<String>>, usize) {
        let whole = bytes.len();
        let client = client_of(&mut bytes).await.ok();
        (client.map(|client| client.map(|client| client.to_string())), whole - bytes.len())
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        [SIGNATURE, &[command, family], &(addresses.len() as u16).to_be_bytes(), addresses].concat()
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_nothing_behind_it_is_taken() {
        let four = [203, 0, 113, 7, 10, 0, 0, 1, 0x11, 0x22, 0x1f, 0x90];
        let mut six = [0; 36];
        six[..2].copy_from_slice(&[0x20, 1]);
        // an addition of a length that the header says
        let added = [&four[..], &[0x02, 0, 3, b'a', b'b', b'c']].concat();
        for (header, client) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4386 8080\r\n".to_vec(), Some("203.0.113.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4386 8080\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4386 8080\r\n".to_vec(), Some("203.0.113.7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &four), Some("203.0.113.7")),
            (version_2(0x21, 0x11, &added), Some("203.0.113.7")),
            (version_2(0x21, 0x21, &six), Some("2001::")),
            (version_2(0x20, 0x00, &[]), None),
            (version_2(0x20, 0x11, &four), None),
        ] {
            let request = [&header, &b"GET / HTTP/1.1\r\n"[..]].concat();
            let expected = (Some(client.map(str::to_owned)), header.len());
            assert_eq!(read(&request).await, expected, "{}", header.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let huge = version_2(0x21, 0x11, &[0; ADDITIONS + 1]);
        let long = [b"PROXY TCP4 ", &[b'1'; 200][..], b"\r\n"].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            b"PROXY TCP4 nowhere 10.0.0.1 1 2\r\n",
            b"PROXY",
            b"",
            &huge,
            &long,
            &version_2(0x31, 0x11, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 4]),
        ] {
            assert_eq!(read(bytes).await.0, None, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(is_2 in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = if is_2 { [SIGNATURE, &bytes[..]].concat() } else { [b"PROXY ", &bytes[..]].concat() };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&bytes));
        }
    }
}
