//! Subscriptions of one socket that are on their way to the present. Owns their tasks: one that was called off says
//! nothing more, and its end is not taken for that of another one.

use std::convert::Infallible;
use std::task::{Context, Poll, ready};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::catch_up::{CatchUp, Failed, SubscribeOptions};
use super::syncs::OnTheirWay;
use crate::delivery::fanout::hub::Subscription;
use crate::delivery::scope::label::Label;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::CancelFlag;

/// How it ended.
pub(crate) type Joined = Result<Subscription, (ViewKey, Option<Value>, Failed)>;

/// Those on their way.
#[derive(Default)]
pub(crate) struct Pending {
    tasks: JoinSet<Joined>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    asked: ViewKey,
    /// the part of it that it is on its way to; `None` where that was not known yet
    permitted: Option<ViewKey>,
    cancel: CancelFlag,
    task: AbortHandle,
    /// of each that waits for it, see [`ends`](Pending::ends)
    waited_for: Vec<mpsc::Sender<Infallible>>,
}

impl Pending {
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
        let task =
            self.tasks.spawn(async move { Box::pin(way.run(wish)).await.map_err(|failed| (key, reference, failed)) });
        self.waiting.push(Waiting { asked, permitted, cancel, task, waited_for: Vec::new() });
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
            }
            !goes
        });
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
            return Poll::Ready(Some(joined.unwrap_or(Err((waiting.asked, None, Failed::Unanswered)))));
        }
        Poll::Ready(None)
    }
}
