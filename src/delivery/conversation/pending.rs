//! Subscriptions of one socket that are on their way to the present. Owns their tasks: one that was called off says
//! nothing more, and its end is not taken for that of another one.

use std::convert::Infallible;
use std::task::{Context, Poll, ready};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::catch_up::{CatchUp, Former, JoinFailed, SubscribeOptions};
use super::syncs::OnTheirWay;
use crate::delivery::fanout::hub::Subscription;
use crate::delivery::scope::label::Label;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::CancelFlag;

/// How it ended.
pub(crate) type Joined = Result<Subscription, Box<NotJoined>>;

/// One that has failed.
pub(crate) struct NotJoined {
    pub(crate) asked: ViewKey,
    pub(crate) reference: Option<Value>,
    pub(crate) failed: JoinFailed,
    /// it was to take the place of another one
    pub(crate) is_regrant: bool,
}

/// Those on their way.
#[derive(Default)]
pub(crate) struct Pending {
    tasks: JoinSet<Joined>,
    waiting: Vec<PendingJoin>,
}

struct PendingJoin {
    asked: ViewKey,
    /// the part of it that it is on its way to; `None` where that was not known yet
    permitted: Option<ViewKey>,
    cancel: CancelFlag,
    task: AbortHandle,
    /// what it takes the place of
    former: Option<Former>,
    /// of each that waits for it, see [`ends`](Pending::ends)
    waited_for: Vec<mpsc::Sender<Infallible>>,
}

impl Pending {
    /// Sends one on its way in the place of a subscription, which follows no longer once this one is called off.
    pub(super) fn send_instead(
        &mut self,
        former: Former,
        way: CatchUp,
        asked: ViewKey,
        permitted: Option<ViewKey>,
        cancel: CancelFlag,
    ) {
        self.send(way.instead_of(former.clone()), SubscribeOptions::default(), asked, permitted, None, cancel);
        if let Some(waiting) = self.waiting.last_mut() {
            waiting.former = Some(former);
        }
    }

    /// Sends one on its way, which may say what `cancel` allows.
    pub(crate) fn send(
        &mut self,
        way: CatchUp,
        wish: SubscribeOptions,
        asked: ViewKey,
        permitted: Option<ViewKey>,
        reference: Option<Value>,
        cancel: CancelFlag,
    ) {
        let key = asked.clone();
        let failed = |failed| Box::new(NotJoined { asked: key, reference, failed, is_regrant: false });
        let task = self.tasks.spawn(async move { Box::pin(way.run(wish)).await.map_err(failed) });
        self.waiting.push(PendingJoin { asked, permitted, cancel, task, former: None, waited_for: Vec::new() });
    }

    /// What they ask for.
    pub(crate) fn asked(&self) -> impl ExactSizeIterator<Item = &ViewKey> {
        self.waiting.iter().map(|waiting| &waiting.asked)
    }

    /// Calls those off that are meant.
    pub(crate) fn cancel(&mut self, is_meant: impl Fn(&Label) -> bool) {
        self.waiting.retain(|waiting| {
            let goes = is_meant(&waiting.asked.label());
            if goes {
                waiting.cancel.void();
                waiting.task.abort();
                waiting.former.iter().for_each(Former::let_go);
            }
            !goes
        });
    }

    /// Calls those off that take the place of another one, once `tell` was told what each of them asks for.
    pub(super) fn call_off_regrants(&mut self, mut tell: impl FnMut(&ViewKey)) -> Vec<ViewKey> {
        let mut called_off = Vec::new();
        self.waiting.retain(|waiting| {
            let Some(former) = &waiting.former else { return true };
            waiting.cancel.void();
            waiting.task.abort();
            tell(&waiting.asked);
            former.let_go();
            called_off.push(waiting.asked.clone());
            false
        });
        called_off
    }

    /// Whether one takes the place of another one.
    pub(super) fn has_regrants(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.former.is_some())
    }

    /// Closes when those that are on their way now have joined, failed or were called off.
    pub(crate) fn ends(&mut self) -> OnTheirWay {
        let (each, all) = mpsc::channel(1);
        self.waiting.iter_mut().for_each(|waiting| waiting.waited_for.push(each.clone()));
        all
    }

    /// Whether each is on its way to what it is allowed now.
    pub(crate) fn may_go_on(&self, is_allowed: impl Fn(&ViewKey, Option<&ViewKey>) -> bool) -> bool {
        self.waiting.iter().all(|waiting| is_allowed(&waiting.asked, waiting.permitted.as_ref()))
    }

    /// Ready with one that has ended and was not called off, or with nothing when none is left.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Joined>> {
        while let Some(ended) = ready!(self.tasks.poll_join_next_with_id(context)) {
            let (task, joined) = match ended {
                Ok((task, joined)) => (task, Some(joined)),
                Err(error) => (error.id(), None),
            };
            let Some(position) = self.waiting.iter().position(|waiting| waiting.task.id() == task) else { continue };
            let waiting = self.waiting.swap_remove(position);
            // one that panicked has not answered
            let (asked, is_regrant) = (waiting.asked, waiting.former.is_some());
            let failed = NotJoined { asked, reference: None, failed: JoinFailed::Unanswered, is_regrant };
            let joined = joined.unwrap_or_else(|| Err(Box::new(failed)));
            return Poll::Ready(Some(joined.map_err(|failed| Box::new(NotJoined { is_regrant, ..*failed }))));
        }
        Poll::Ready(None)
    }
}
