//! The command `sync`: that a client is told when it has seen what a cursor speaks of. Owns the answers; the waiting is that of
//! its tasks.

use std::task::{Context, Poll, ready};

use serde_json::Value;
use tokio::sync::mpsc;

use super::Session;
use crate::delivery::conversation::pending::Pending;
use crate::delivery::conversation::syncs::{MOST, Synced};
use crate::delivery::wire::protocol;
use crate::incarnations::Gap;

impl Session {
    pub(super) fn sync(&mut self, cursor: String, reference: Option<Value>) {
        let syncs = &mut self.unanswered.get_or_insert_default().syncs;
        if syncs.count() >= MOST {
            let text =
                format!("{MOST} commands sync of this socket wait already: send the next one when one was answered");
            return self.refuse(&protocol::error("too_many_syncs", &text, reference.as_ref()));
        }
        let before = self.pending.as_deref_mut().map_or_else(|| mpsc::channel(1).1, Pending::ends);
        syncs.send(self.hub.clone(), self.writer.clone(), cursor, reference, before);
    }

    /// Ready when one was answered; pending when none waits.
    pub(super) fn poll_synced(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(unanswered) = &mut self.unanswered else { return Poll::Pending };
        match ready!(unanswered.syncs.poll_next(context)) {
            Some(Synced { reference, outcome: Ok(()) }) => {
                self.writer.say(&protocol::synced(reference.as_ref()));
                // a client that shows rows at the end of a cut shows there what it has waited for
                self.writer.want_cut();
            }
            Some(Synced { reference, outcome: Err(gap) }) => {
                self.refuse(&protocol::error("bad_cursor", explain(gap), reference.as_ref()));
            }
            None if unanswered.pages.are_answered() => self.unanswered = None,
            None => return Poll::Pending,
        }
        Poll::Ready(())
    }
}

/// Why a position is not waited for.
fn explain(gap: Gap) -> &'static str {
    match gap {
        Gap::Failover => {
            "the database lost the end of its log since then, and with it perhaps what this cursor speaks of"
        }
        Gap::BadCursor | Gap::Retention | Gap::TriggerOff | Gap::Policy | Gap::Unreadable | Gap::Slow => {
            "this is no cursor of this database, or one that is ahead of it"
        }
    }
}
