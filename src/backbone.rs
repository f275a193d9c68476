//! The backbone: one Redis Stream that carries the changes from the one node that reads Postgres to all nodes that
//! serve sockets. Owns the stream, which node may write to it and how far each has read; knows no socket.
//!
//! The path of a change through it: a [`candidate`] becomes the publisher and gives what the source tells, as an
//! [`entry`] each, to the [`append`]er; a [`follower`] reads the entries, [`merge`] says what of a cut is news to it, and
//! delivery gets the same events that it would get from the source itself. [`past`] answers clients that come back. A
//! node that waits for the present has it read now: [`asked`].
//!
//! An entry carries the position before it and the position after it, as cursors. So a reader of the stream knows what
//! it has missed, also when Redis has lost the newest entries, or all of them: a position is a snapshot of Postgres,
//! not a number in Redis.

pub mod append;
pub mod asked;
pub mod candidate;
pub mod entry;
pub mod follower;
pub mod link;
pub mod merge;
pub mod past;
pub mod stream;

/// The keys of one backbone. The braces put them into one hash slot of a Redis Cluster.
#[derive(Debug, Clone)]
pub struct StreamKeys {
    /// the stream
    pub changes: String,
    /// hash: the last id and the position after it, the last catalogue, the incarnations of the server
    pub state: String,
    /// list: a node wants the present to be read now
    pub asked: String,
}

impl StreamKeys {
    /// The keys of the stream `name`.
    pub fn of(name: &str) -> Self {
        let key = |what| format!("{{{name}}}:{what}");
        Self { changes: key("changes"), state: key("state"), asked: key("asked") }
    }
}
