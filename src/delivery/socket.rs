//! Frames and sockets: the bytes that are kept, what each socket is still owed of them, and the two halves of a socket.
//! Knows no channel, no client and no right.
//!
//! A `frame_log` keeps the frames of a view, and `newest` of those that have left it the ones that slow sockets still need; a `send_queue` holds a socket's offsets into logs, and what is for it alone; a
//! `writer` writes that. `cuts` and `frontier` keep several logs at one boundary.

mod cuts;
pub mod frame_log;
pub(crate) mod frontier;
pub(crate) mod keepalive;
pub(crate) mod meter;
mod newest;
pub(crate) mod reader;
pub(crate) mod send_queue;
mod silence;
pub mod transport;
pub mod writer;
