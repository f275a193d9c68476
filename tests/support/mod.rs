//! What the tests stand on: a Postgres, a server, a client.

use std::time::Duration;

/// Whatever is waited for comes within this time, or the test fails: beside six programs that never stop, on two cores, a hundred
/// clients that read three thousand messages each needed more than half a minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) mod decoding;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod server;
pub(crate) mod socket;
