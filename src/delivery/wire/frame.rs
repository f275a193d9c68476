//! Frames as they stand on the wire (RFC 6455, section 5.2). Pure: bytes in, bytes out; knows no message.

/// Close codes; docs/reference/protocol.md says what a client does on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// the client closed
    Normal,
    /// the server drains; reconnect with jitter
    Draining,
    /// a frame that RFC 6455 does not allow
    Protocol,
    /// text that is not UTF-8
    NotUtf8,
    /// a message above the limit
    TooBig,
    /// what the request asks for is not understood; final
    BadRequest,
    /// no token, or one that is not or no longer believed; with another one
    Unauthenticated,
    /// the token does not allow it; final
    Forbidden,
    /// no such channel; final
    UnknownChannel,
    /// fell off the log; resume with the last cursor
    TooSlow,
    /// what it may see was changed while it was joining; resume with the last cursor
    RightsChanged,
    /// the past was not read to its end; resume with the last cursor
    PastUnread,
    /// more commands than allowed; later
    RateLimited,
    /// more sockets than configured; later
    Overloaded,
}

impl CloseCode {
    /// Each there is.
    pub const ALL: [Self; 14] = [
        Self::Normal,
        Self::Draining,
        Self::Protocol,
        Self::NotUtf8,
        Self::TooBig,
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::UnknownChannel,
        Self::TooSlow,
        Self::RightsChanged,
        Self::PastUnread,
        Self::RateLimited,
        Self::Overloaded,
    ];

    /// As it stands in the close frame.
    pub fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Draining => 1001,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::BadRequest => 4400,
            Self::Unauthenticated => 4401,
            Self::Forbidden => 4403,
            Self::UnknownChannel => 4404,
            // resume now: for the client it is the same
            Self::TooSlow | Self::RightsChanged | Self::PastUnread => 4408,
            Self::RateLimited => 4429,
            Self::Overloaded => 4503,
        }
    }

    /// Tells apart what has one number; empty where a number says it all.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooSlow => "slow",
            Self::RightsChanged => "rights",
            Self::PastUnread => "past",
            _ => "",
        }
    }
}

/// A text frame as the server sends it: final, unmasked (RFC 6455 section 5.2).
pub fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 10);
    push_text_frame(&mut frame, text);
    frame
}

/// Appends a text frame.
pub fn push_text_frame(out: &mut Vec<u8>, text: &str) {
    push_header(out, 0x81, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a close frame; the reason is cut to the 123 bytes it may have.
pub fn push_close_frame(out: &mut Vec<u8>, code: CloseCode, reason: &str) {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    push_header(out, 0x88, 2 + end);
    out.extend_from_slice(&code.number().to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

/// Appends an empty ping frame.
pub fn push_ping_frame(out: &mut Vec<u8>) {
    push_header(out, 0x89, 0);
}

/// Appends a frame of any kind, to echo what came.
#[cfg(feature = "autobahn")]
pub fn push_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    push_header(out, first, payload.len());
    out.extend_from_slice(payload);
}

fn push_header(out: &mut Vec<u8>, first: u8, length: usize) {
    out.push(first);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Whether a frame begins at `offset` of a segment, found by walking the headers of its frames. Only a reader that
/// could not write everything asks.
pub fn is_frame_boundary(segment: &[u8], offset: usize) -> bool {
    let mut at = 0;
    while at < offset {
        let Some(length) = frame_length(&segment[at..]) else { return false };
        at += length;
    }
    at == offset
}

/// The text of a text frame of ours.
pub fn payload(frame: &[u8]) -> &str {
    let text = header_lengths(frame).and_then(|(header, _)| std::str::from_utf8(frame.get(header..)?).ok());
    text.expect("a whole text frame, made by push_text_frame")
}

/// Length of the frame that begins here, header included.
pub fn frame_length(frame: &[u8]) -> Option<usize> {
    let (header, payload) = header_lengths(frame)?;
    usize::try_from(payload).ok()?.checked_add(header)
}

/// Length of the header, a client's mask included, and of the payload; `None` while the bytes that say so are not there.
pub fn header_lengths(frame: &[u8]) -> Option<(usize, u64)> {
    let second = *frame.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (header, payload) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(frame.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(frame.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    Some((header + mask, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut frame = Vec::new();
        push_close_frame(&mut frame, CloseCode::TooSlow, &"ü".repeat(100));
        assert_eq!(frame[1] as usize, 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    proptest! {
        #[test]
        fn boundaries_are_found_at_any_length(lengths in prop::collection::vec(0_usize..70_000, 1..5)) {
            let texts: Vec<String> = lengths.iter().map(|&n| "x".repeat(n)).collect();
            let mut boundaries = vec![0];
            let mut bytes = Vec::new();
            for text in &texts {
                bytes.extend(text_frame(text));
                boundaries.push(bytes.len());
            }
            for &boundary in &boundaries {
                prop_assert!(is_frame_boundary(&bytes, boundary));
                prop_assert_eq!(is_frame_boundary(&bytes, boundary + 1), boundaries.contains(&(boundary + 1)));
            }
        }
    }
}
