//! What the tests stand on: a Postgres, a server, a client.

pub(crate) mod decoding;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod server;
pub(crate) mod socket;
