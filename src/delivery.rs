//! Changes → sockets. Owns channels, subscribers and the wire; knows no database.
//!
//! The path of a change through it: [`route`] says which views it concerns, a view's [`lens`] what of it is shown there,
//! and [`protocol`] writes the frame, once per view; the view's [`log`] keeps the frame; the [`hub`] wakes the shards that hold the view's subscribers; an
//! [`outbound`] socket writes what is due; a [`session`] is one client's conversation.

pub mod auth;
pub mod command;
mod cuts;
pub mod filter;
pub mod floors;
pub mod frame;
mod frontier;
pub mod history;
pub mod hub;
mod inbound;
mod joining;
pub mod label;
pub mod lens;
mod like;
pub mod log;
mod memo;
mod meter;
mod moment;
pub mod outbound;
mod owed;
pub mod party;
mod pass;
pub mod policy;
pub mod protocol;
mod pulse;
pub mod resume;
pub mod route;
pub mod session;
mod shard;
mod silence;
pub mod stream;
pub mod told;
pub mod value;
pub mod view;
pub mod view_key;
