//! Changes → sockets. Owns channels, subscribers and the wire; knows no database.
//!
//! The rooms, each of which uses only those below it:
//!
//! | room | what it is about |
//! |---|---|
//! | [`conversation`] | one client: its commands, its way to the present, its token |
//! | [`fanout`] | from a cut to the sockets that are owed something |
//! | [`socket`] | frames that are kept, and what each socket is still owed |
//! | [`access`] | who may see what, and how much each may have |
//! | [`wire`] | messages and frames as text and bytes |
//! | [`scope`] | which rows and columns are asked for, and what of a change that shows |
//!
//! The path of a change: [`fanout::route`] says which views it concerns, a view's [`scope::projection`] what of it is shown
//! there, and [`wire::protocol`] writes the message, once per view; the view's [`socket::frame_log`] keeps the frame; the
//! [`fanout::hub`] wakes the shards that hold the view's subscribers; a [`socket::writer`] writes what is due.

pub mod access;
pub mod conversation;
pub mod fanout;
pub mod scope;
pub mod socket;
pub mod wire;
