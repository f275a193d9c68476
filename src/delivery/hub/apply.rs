//! What the source tells → the views. Owns what each event changes: cuts go into logs and history, channels and policies
//! into what may be watched, and who has to hear of it is woken.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::{Hub, JoinError, State};
use crate::change::{Channel, Cut, Event, Policy, Start};
use crate::delivery::floors::Floors;
use crate::delivery::frame::{self, CloseCode};
use crate::delivery::lens::Unfit;
use crate::delivery::outbound::Order;
use crate::delivery::policy::Policies;
use crate::delivery::protocol;
use crate::delivery::view::{View, lock};
use crate::lives::Gap;

impl State {
    /// Whether the stream still brings changes from before some floor.
    fn notice_floors(&mut self) {
        let seen = self.border.as_ref().map(|border| &border.cursor.seen);
        self.awaits_floor = seen.is_none_or(|seen| self.floors.are_ahead_of(seen));
    }
}

impl Hub {
    /// Bytes that it added to the logs.
    pub(super) fn apply(&self, event: Event) -> u64 {
        match event {
            Event::Cut(cut) => return self.apply_cut(cut),
            Event::From { mut border, lives, start, inside: _ } => {
                let mut state = lock(&self.state);
                state.lives = Some(lives);
                border.token = state.sealed(&border.token);
                // where a cut was broken off, its rest follows and ends at a border
                if start != Start::Continues || state.is_at_border {
                    state.cursor = border.token.clone();
                    state.is_at_border = true;
                }
                if start != Start::Continues {
                    state.history.restart(border.cursor.seen.clone());
                }
                state.border = Some(border);
                state.notice_floors();
                if let Start::Gap(gap) = start {
                    self.metrics.count_gap(gap.as_str());
                    self.append_to_views(state, |label, _| protocol::gap(label, gap), |_| true);
                } else {
                    drop(state);
                }
                self.borders.send_replace(());
            }
            Event::Live => {
                if !self.live.send_replace(true) {
                    self.append_to_all(protocol::heartbeat, |_| true);
                }
            }
            Event::Down { reason } => {
                self.live.send_replace(false);
                self.append_to_all(|label, _| protocol::channel_error("source_down", &reason, label), |_| true);
            }
            Event::Gap { gap, channel } => {
                self.metrics.count_gap(gap.as_str());
                let of_channel = |view: &View| view.key.channel() == Some(&channel);
                self.append_to_all(|label, _| protocol::gap(label, gap), of_channel);
            }
            Event::Channels { channels, policies } => self.set_channels(channels, policies),
            Event::Revoked { user, at } => {
                if let Some(keys) = self.keys() {
                    keys.revoke(&user, UNIX_EPOCH + Duration::from_micros(at.try_into().unwrap_or_default()));
                }
                // each looks whether its token is among them: some may be of after that moment
                self.pulse.of_user(&user).iter().for_each(|outbound| outbound.order(Order::Revoked));
            }
        }
        0
    }

    fn apply_cut(&self, mut cut: Cut) -> u64 {
        let mut state = lock(&self.state);
        if state.awaits_floor {
            cut.changes.retain(|change| !state.floors.keep_out(change));
        }
        // a change that is alone has the place after the cut
        if cut.changes.len() > 1 || cut.end.is_none() {
            cut.inside = state.sealed(&cut.inside);
        }
        if let Some(end) = &mut cut.end {
            end.token = state.sealed(&end.token);
        }
        let cut = Arc::new(cut);
        let routed = state.views.route(&cut, |view| view.number);
        let mut bytes = 0;
        let mut touched = Vec::with_capacity(routed.len());
        for (view, frames) in routed {
            bytes += frames.bytes.len() as u64;
            self.metrics.messages.inc_by(frames.count);
            view.log.append(Bytes::from(frames.bytes));
            view.spoke.store(true, Relaxed);
            touched.push(view);
        }
        if let Some(end) = &cut.end {
            state.cursor = end.token.clone();
            state.border = Some(end.clone());
            if state.awaits_floor {
                state.notice_floors();
            }
        } else if let Some(last) = cut.changes.last() {
            let mut token = cut.inside.to_string();
            crate::cursor::push_id(&mut token, last.id);
            state.cursor = token.into();
        }
        state.is_at_border = cut.end.is_some();
        if let Some(last) = cut.changes.last().filter(|_| self.is_live()) {
            self.metrics.note_change(last.at);
        }
        self.metrics.cut_changes.observe(cut.changes.len() as f64);
        let oldest = cut.changes.iter().map(|change| change.at).min().filter(|_| self.is_live());
        state.history.push(cut);
        drop(state);
        self.borders.send_replace(());
        self.wake(&touched, oldest);
        bytes
    }

    fn set_channels(&self, channels: Vec<Channel>, policies: Vec<Policy>) {
        let mut state = lock(&self.state);
        let floors = Floors::new(&channels);
        let policies = Policies::new(policies, &floors);
        let raised: Vec<_> =
            floors.raised_since(&state.floors).map(|(name, notifies)| (name.clone(), notifies)).collect();
        if floors != state.floors {
            state.history.forget(|change| floors.cover(change));
            state.floors = floors;
            state.notice_floors();
        }
        let before = state.policies.replace(policies);
        // also who is on his way to a channel; not the first time, which those who are there wait for
        if self.settings.keys.is_some() && before.is_some() && state.policies != before {
            self.pulse.all().iter().for_each(|outbound| outbound.order(Order::Reconsider));
        }
        let channels: BTreeMap<_, _> = channels.into_iter().map(|channel| (channel.name, channel.columns)).collect();
        let before = std::mem::replace(&mut state.channels, channels);
        let is_altered = before != state.channels;
        let altered = |view: &&Arc<View>| match view.key.channel() {
            Some(name) => before.get(name) != state.channels.get(name),
            None => is_altered && !view.key.is_everything(),
        };
        let views: Vec<_> = state.views.iter().filter(altered).cloned().collect();
        let mut closed = Vec::new();
        for view in views {
            let label = view.key.label();
            let (code, kind, reason) = match state.lens(&view.key) {
                Ok(lens) => {
                    state.views.remove(&view.key);
                    state.views.insert(&view.key, lens, view.clone());
                    continue;
                }
                Err(JoinError::Unfit(Unfit(reason))) => (CloseCode::BadRequest, "bad_filter", reason),
                Err(JoinError::UnknownChannel | JoinError::NotLive | JoinError::Forbidden) => {
                    let reason = format!("channel {label} is gone: its table is no longer watched");
                    (CloseCode::UnknownChannel, "unknown_channel", reason)
                }
            };
            state.views.remove(&view.key);
            closed.push((view, code, protocol::channel_error(kind, &reason, &label), reason));
        }
        self.tell_of_floors(state, &raised);
        for (view, code, message, reason) in closed {
            for members in &view.members {
                let members: Vec<_> = lock(members).iter().map(|(_, outbound)| outbound.clone()).collect();
                for outbound in members {
                    outbound.lose(&view, code, &reason, &message);
                }
            }
        }
    }

    /// Of channels whose floor was raised, and of users whom they notify: load again. What their sockets have not taken
    /// once all were tried is from before, and is dropped: they are too slow, and come back.
    fn tell_of_floors(&self, state: MutexGuard<'_, State>, raised: &[(Arc<str>, bool)]) {
        if raised.is_empty() {
            return;
        }
        let users = raised.iter().any(|(_, notifies)| *notifies);
        let concerned = |view: &View| match view.key.channel() {
            Some(name) => raised.iter().any(|(raised, _)| raised == name),
            None => users,
        };
        let before: Vec<_> =
            state.views.iter().filter(|view| concerned(view)).map(|view| (view.clone(), view.log.end())).collect();
        self.metrics.count_gap(Gap::Policy.as_str());
        self.append_to_views(state, |label, _| protocol::gap(label, Gap::Policy), concerned);
        let shards = self.shards.clone();
        tokio::spawn(async move {
            for shard in &shards {
                shard.passed().await;
            }
            before.iter().for_each(|(view, end)| view.log.forget_before(*end));
        });
    }

    /// A heartbeat to every view that was silent. And what was due at the last one is dropped: who has not taken it by
    /// now is too slow, and thousands of views would keep what nobody needs.
    pub(super) fn beat(&self) {
        for view in lock(&self.state).views.iter() {
            view.log.forget_before(view.written.swap(view.log.end(), Relaxed));
        }
        if *self.live.borrow() {
            self.append_to_all(protocol::heartbeat, |view| !view.spoke.swap(false, Relaxed));
        }
    }

    /// Appends a message to views, made of the channel's name and the cursor.
    fn append_to_all(&self, message: impl Fn(&str, &str) -> String, wanted: impl Fn(&View) -> bool) {
        self.append_to_views(lock(&self.state), message, wanted);
    }

    fn append_to_views(
        &self,
        state: MutexGuard<'_, State>,
        message: impl Fn(&str, &str) -> String,
        wanted: impl Fn(&View) -> bool,
    ) {
        let views: Vec<_> = state.views.iter().filter(|view| wanted(view)).cloned().collect();
        for view in &views {
            let cursor = format!("{}{}", state.cursor, view.mark);
            view.log.append(Bytes::from(frame::text_frame(&message(&view.key.label(), &cursor))));
        }
        drop(state);
        self.wake(&views, None);
    }

    /// Has the shards write what was appended to these views; `oldest` as in [`Shard::wake`](super::super::shard::Shard).
    fn wake(&self, views: &[Arc<View>], oldest: Option<i64>) {
        for shard in &self.shards {
            shard.wake(views, oldest);
        }
    }
}
