//! Changes → sockets. Owns channels, subscribers and the wire; knows no database.
//!
//! The path of a change through it: [`route`] says which views it concerns and [`protocol`] writes its frame, once
//! per view; the view's [`log`] keeps the frame; the [`hub`] wakes the shards that hold the view's subscribers; an
//! [`outbound`] socket writes what is due; a [`session`] is one client's conversation.

pub mod history;
pub mod hub;
pub mod log;
pub mod outbound;
pub mod protocol;
pub mod resume;
pub mod route;
pub mod session;
mod shard;
pub mod view;
