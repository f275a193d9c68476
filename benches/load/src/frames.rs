//! WebSocket frames (RFC 6455) as a client sees them, and the numbers in a message. Pure: bytes in, slices out.

use memchr::memmem::{self, Finder};

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// No server here sends more; a length beyond it was misread.
const LARGEST: u64 = 64 << 20;
/// What the handshake asks with, and the answer that RFC 6455 gives for it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A mask hides nothing on loopback; it only has to be there.
const MASK: [u8; 4] = [0x17, 0x2a, 0x3b, 0x4c];

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
}

/// The frame at the head of `bytes` and how many of them it takes; `None` while it is not all there.
pub fn next(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let opcode = first & 0x0f;
    if first & 0x80 == 0 || opcode == 0 {
        return Err("a fragmented message".to_owned());
    }
    if second & 0x80 != 0 {
        return Err("a masked frame".to_owned());
    }
    let (start, length) = match second {
        126 => match *bytes {
            [_, _, a, b, ..] => (4, u64::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match *bytes {
            [_, _, a, b, c, d, e, f, g, h, ..] => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if length > LARGEST {
        return Err(format!("a frame of {length} bytes"));
    }
    let end = start + length as usize;
    Ok(bytes.get(start..end).map(|payload| (Frame { opcode, payload }, end)))
}

/// A frame from the client, with a payload of less than 64 KiB.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a command or a pong, which is short");
    let mut frame = vec![0x80 | opcode];
    match length {
        0..126 => frame.push(0x80 | length as u8),
        _ => frame.extend([0x80 | 126, (length >> 8) as u8, length as u8]),
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// How many bytes the answer to the handshake takes; `None` while it is not all there.
pub fn answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    if !head.starts_with(b"HTTP/1.1 101 ") || memmem::find(head, ACCEPT).is_none() {
        return Err(format!("the handshake was answered with {:?}", String::from_utf8_lossy(bytes)));
    }
    Ok(Some(end + 4))
}

/// Which message it is: the first of these columns are written side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub publisher: u64,
    /// counts each publisher's messages, from 0
    pub n: u64,
    /// microseconds since 1970 as it was published
    pub t: u64,
}

/// Finds marks.
pub struct Marks(Finder<'static>);

impl Marks {
    const BEGIN: &'static [u8] = b"\"publisher\":";

    pub fn new() -> Self {
        Self(Finder::new(Self::BEGIN))
    }

    /// The mark of a message; `None`: it is something else, such as `subscribed`.
    pub fn find(&self, payload: &[u8]) -> Option<Mark> {
        let (publisher, rest) = number(&payload[self.0.find(payload)? + Self::BEGIN.len()..])?;
        let (n, rest) = number(rest.strip_prefix(b",\"n\":")?)?;
        let (t, _) = number(rest.strip_prefix(b",\"t\":")?)?;
        Some(Mark { publisher, n, t })
    }
}

/// The whole number at the head of these bytes, and what follows it.
pub fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take(19).take_while(|byte| byte.is_ascii_digit()).count();
    let value = bytes[..digits].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    (digits > 0).then_some((value, &bytes[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_needs_all_its_bytes() {
        let text = |payload| Frame { opcode: TEXT, payload };
        assert_eq!(next(b"\x81\x03abcd"), Ok(Some((text(b"abc"), 5))));
        assert_eq!(next(b"\x81\x7e\x00\x02hi"), Ok(Some((text(b"hi"), 6))));
        assert_eq!(next(b"\x81\x7f\0\0\0\0\0\0\0\x01x"), Ok(Some((text(b"x"), 11))));
        for part in [&b""[..], b"\x81", b"\x81\x03ab", b"\x81\x7e\x00", b"\x81\x7f\0\0\0\0\0\0\0"] {
            assert_eq!(next(part), Ok(None), "{part:?}");
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        assert!(next(b"\x01\x03abc").is_err(), "the first of several fragments");
        assert!(next(b"\x80\x03abc").is_err(), "the last of several fragments");
        assert!(next(b"\x81\x83mask").is_err());
        assert!(next(b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn a_pong_is_masked() {
        let frame = masked(PONG, b"hello");
        assert_eq!(frame[..2], [0x8a, 0x85]);
        let payload: Vec<u8> =
            frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(payload, b"hello");
    }

    #[test]
    fn a_long_command_says_its_length_in_two_bytes() {
        let frame = masked(TEXT, &[b'a'; 300]);
        assert_eq!((&frame[..4], frame.len()), (&[0x81, 0xfe, 0x01, 0x2c][..], 8 + 300));
    }

    #[test]
    fn only_the_right_answer_opens_a_socket() {
        let right = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(answer(right), Ok(Some(right.len())));
        assert_eq!(answer(&right[..right.len() - 1]), Ok(None));
        assert!(answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
        assert!(answer(b"HTTP/1.1 503 Service Unavailable\r\n\r\nfull").is_err());
    }

    #[test]
    fn marks_are_found_in_rows_and_nowhere_else() {
        let marks = Marks::new();
        let row = br#"{"type":"realtime_update","data":{"id":9,"publisher":1,"n":42,"t":1700000000000000,"owner":0,"body":""}}"#;
        assert_eq!(marks.find(row), Some(Mark { publisher: 1, n: 42, t: 1_700_000_000_000_000 }));
        assert_eq!(marks.find(br#"{"type":"subscribed","channel":"fan"}"#), None);
        assert_eq!(marks.find(br#"{"publisher":1,"n":"#), None);
        assert_eq!(marks.find(br#"{"publisher":1}"#), None);
    }
}
