//! The reading half of a socket: bytes → messages. Owns the parser, tungstenite's, and only as long as a message is
//! incomplete: clients say little, and thousands of sockets would each keep a buffer for it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use hyper_tungstenite::tungstenite::error::Error;
use hyper_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use hyper_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::meter::Meter;
use super::writer::SocketWriter;
use crate::delivery::wire::frame::header_lengths;

/// Bytes that are read at a time; commands are short.
const CHUNK: usize = 1024;
/// Bytes that are read before other tasks of the thread run: a message may be made of endless empty fragments.
const BUDGET: usize = 64 * 1024;

/// The reading half. Between two messages it is one null pointer.
pub(crate) struct SocketReader {
    parser: Option<Box<WebSocket<Wire>>>,
    message_bytes: u32,
}

/// Too many bytes of messages are held whose end has not come, of all sockets together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// What tungstenite reads from and writes to: the socket's bytes in, its own answers out.
struct Wire {
    writer: Arc<SocketWriter>,
    replies: Vec<u8>,
    frames: FrameScan,
    /// bytes that may still be read in this turn
    budget: usize,
    /// counts what is held of messages whose end has not come
    meter: Arc<Meter>,
    /// so much of it is this one's
    held: u64,
}

impl SocketReader {
    /// `received` is what came together with the handshake; a message may have `message_bytes`. `meter` counts what all
    /// hold of messages whose end has not come.
    pub(crate) fn new(writer: &Arc<SocketWriter>, received: Vec<u8>, message_bytes: u32, meter: &Arc<Meter>) -> Self {
        let mut inbound = Self { parser: None, message_bytes };
        if !received.is_empty() {
            inbound.parser = Some(inbound.parser(writer, received, meter));
        }
        inbound
    }

    /// From now on a message may have so many bytes.
    pub(crate) fn allow(&mut self, message_bytes: u32) {
        self.message_bytes = message_bytes;
        if let Some(parser) = &mut self.parser {
            parser.set_config(|config| {
                config.max_message_size = Some(message_bytes as usize);
                config.max_frame_size = Some(message_bytes as usize);
            });
        }
    }

    /// Counts what is held of its message.
    ///
    /// # Errors
    /// [`Full`]: all together hold too much, and this one's is long.
    pub(crate) fn note_held(&mut self) -> Result<(), Full> {
        let Some(parser) = &mut self.parser else { return Ok(()) };
        let wire = parser.get_mut();
        let held = wire.frames.unfinished as u64;
        wire.meter.add(held.saturating_sub(wire.held));
        wire.meter.take(wire.held.saturating_sub(held));
        wire.held = held;
        // short ones go on whatever others do
        if held > CHUNK as u64 && wire.meter.is_over() { Err(Full) } else { Ok(()) }
    }

    /// The next message. What tungstenite answers by itself (pongs, the answer to a close) goes to the writing half,
    /// which puts it between two frames.
    ///
    /// # Errors
    /// `Error::Io` of kind `WouldBlock` when nothing more has arrived; what tungstenite says.
    pub(crate) fn read(&mut self, writer: &Arc<SocketWriter>, meter: &Arc<Meter>) -> Result<Message, Error> {
        if self.parser.is_none() {
            let mut chunk = [0; CHUNK];
            let length = writer.try_read(&mut chunk)?;
            if length == 0 {
                return Err(Error::ConnectionClosed);
            }
            self.parser = Some(self.parser(writer, chunk[..length].to_vec(), meter));
        }
        let Some(parser) = &mut self.parser else { return Ok(Message::Text(Utf8Bytes::default())) };
        parser.get_mut().budget = BUDGET;
        let read = parser.read();
        // its answer to a close or a ping waits for the next call, and after a close there is none
        if matches!(read, Ok(Message::Close(_) | Message::Ping(_))) {
            let _ = parser.flush();
        }
        let wire = parser.get_mut();
        let replies = std::mem::take(&mut wire.replies);
        if !replies.is_empty() {
            writer.control(|control| control.extend_from_slice(&replies));
        }
        let is_dry = matches!(&read, Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock);
        if is_dry && wire.budget > 0 && wire.frames.are_complete() {
            self.parser = None;
        }
        read
    }

    /// Whether it stopped although more may have arrived.
    pub(crate) fn has_more(&self) -> bool {
        self.parser.as_ref().is_some_and(|parser| parser.get_ref().budget == 0)
    }

    fn parser(&self, writer: &Arc<SocketWriter>, received: Vec<u8>, meter: &Arc<Meter>) -> Box<WebSocket<Wire>> {
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = CHUNK;
        config.write_buffer_size = 0;
        config.max_write_buffer_size = 64 * 1024;
        config.max_message_size = Some(self.message_bytes as usize);
        config.max_frame_size = Some(self.message_bytes as usize);
        let mut frames = FrameScan::default();
        frames.advance(&received);
        let (writer, meter) = (writer.clone(), meter.clone());
        let wire = Wire { writer, replies: Vec::new(), frames, budget: BUDGET, meter, held: 0 };
        Box::new(WebSocket::from_partially_read(wire, received, Role::Server, Some(config)))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.meter.take(self.held);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(self.budget);
        let length = self.writer.try_read(&mut buffer[..most])?;
        self.budget -= length;
        self.frames.advance(&buffer[..length]);
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where in the client's frames its bytes have come to (RFC 6455, section 5.2). Whether they are allowed is
/// tungstenite's to say; this only finds out whether it may be forgotten.
#[derive(Debug, Default)]
struct FrameScan {
    /// of the frame that has begun
    header: Vec<u8>,
    /// bytes of its payload that are still to come
    payload: u64,
    /// a message was begun whose last fragment is still to come
    is_fragmented: bool,
    /// bytes since the last message was complete
    unfinished: usize,
}

impl FrameScan {
    fn advance(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload -= skipped as u64;
            self.unfinished += skipped;
            if self.are_complete() {
                self.unfinished = 0;
            }
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else { return };
            self.header.push(*first);
            bytes = rest;
            let Some((length, payload)) = header_lengths(&self.header) else { continue };
            if self.header.len() < length {
                continue;
            }
            let (is_final, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
            // control frames, opcodes from 8, may stand between two fragments
            if opcode < 8 {
                self.is_fragmented = !is_final;
            }
            self.payload = payload;
            self.header.clear();
        }
    }

    fn are_complete(&self) -> bool {
        self.header.is_empty() && self.payload == 0 && !self.is_fragmented
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(0x80 | length as u8),
            126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.resize(frame.len() + length, 0x81);
        frame
    }

    proptest! {
        /// However the bytes are divided, the parser is kept exactly while a message is incomplete.
        #[test]
        fn a_message_is_complete_at_its_end_and_not_before(
            lengths in prop::collection::vec(prop_oneof![0_usize..200, 65_000_usize..66_000], 1..4),
            chunk in 1_usize..3000,
        ) {
            let mut frames = FrameScan::default();
            for length in lengths {
                let bytes = frame(0x81, length);
                for part in bytes[..bytes.len() - 1].chunks(chunk) {
                    frames.advance(part);
                    prop_assert!(!frames.are_complete());
                }
                frames.advance(&bytes[bytes.len() - 1..]);
                prop_assert!(frames.are_complete());
            }
        }
    }

    #[test]
    fn a_message_of_fragments_is_complete_with_the_last_one() {
        let mut frames = FrameScan::default();
        for (first, complete) in [(0x01, false), (0x89, false), (0x00, false), (0x80, true), (0x89, true)] {
            frames.advance(&frame(first, 3));
            assert_eq!(frames.are_complete(), complete, "{first:#x}");
        }
    }
}
