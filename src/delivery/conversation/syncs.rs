//! Commands `sync` of one socket that are not answered yet. Owns their tasks: each waits until the stream has come to a
//! position, and the socket was written all of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::delivery::fanout::hub::{Hub, NotSynced};
use crate::delivery::socket::writer::SocketWriter;
use crate::delivery::wire::resume_token::ResumeToken;
use crate::incarnations::Gap;

/// So many of one socket may wait: each has a task.
pub(crate) const MOST: usize = 64;

/// Those that wait.
#[derive(Default)]
pub(crate) struct Syncs(JoinSet<Synced>);

/// What became of one.
pub(crate) struct Synced {
    /// the command's
    pub(crate) reference: Option<Value>,
    /// why the position cannot be waited for
    pub(crate) outcome: Result<(), Gap>,
}

/// Subscriptions that were on their way when a `sync` came, see [`Pending`](super::pending::Pending): it closes when the last
/// of them has joined, failed or was called off.
pub(crate) type OnTheirWay = mpsc::Receiver<Infallible>;

impl Syncs {
    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// One more, which waits for `before` as well.
    pub(crate) fn send(
        &mut self,
        hub: Arc<Hub>,
        writer: Arc<SocketWriter>,
        cursor: String,
        reference: Option<Value>,
        before: OnTheirWay,
    ) {
        debug_assert!(self.count() < MOST, "{MOST} wait already");
        self.0.spawn(async move {
            match come_to(&hub, &writer, &cursor, before).await {
                Some(outcome) => Synced { reference, outcome },
                // the session ends
                None => std::future::pending().await,
            }
        });
    }

    /// Ready with one that has ended, or with nothing when none is left.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Synced>> {
        loop {
            match ready!(self.0.poll_join_next(context)) {
                Some(Ok(synced)) => return Poll::Ready(Some(synced)),
                // one that panicked: there is nobody whom it could answer
                Some(Err(_)) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Waits until a socket was written all up to a position, whatever the rights with which it was got: nothing is shown by it.
/// `None` where the socket is gone.
async fn come_to(hub: &Hub, writer: &SocketWriter, cursor: &str, mut before: OnTheirWay) -> Option<Result<(), Gap>> {
    let cursor = ResumeToken::parse(cursor).cursor;
    loop {
        let judged = match hub.judge(cursor).await {
            Ok(judged) => judged,
            Err(gap) => return Some(Err(gap)),
        };
        if let Err(gap) = hub.reach(judged.end()).await {
            return Some(Err(gap));
        }
        // what these missed is written before they have joined, and what comes after that is in their logs
        before.recv().await;
        match hub.written_up_to(writer, judged.end()).await {
            Ok(boundary) if boundary.cursor.lineage() == judged.lineage => return Some(Ok(())),
            // the server has crashed meanwhile: what the position speaks of may be lost
            Ok(_) => {}
            Err(NotSynced::Ahead) => return Some(Err(Gap::BadCursor)),
            Err(NotSynced::Gone(_)) => return None,
        }
    }
}
