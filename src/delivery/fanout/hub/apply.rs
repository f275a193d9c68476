//! What the source tells → the views. Owns what each event changes: cuts go into logs and history, channels and policies
//! into what may be watched, and the tasks that have to hear of it are woken.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use crate::change::{Change, Channel, Claim, Cut, Event, Policy, Start};
use crate::delivery::access::claims::ChangesOf;
use crate::delivery::access::floors::Floors;
use crate::delivery::access::policy::Policies;
use crate::delivery::fanout::hub::{Hub, HubState, JoinError};
use crate::delivery::fanout::route::{Routed, Shed, Views};
use crate::delivery::fanout::view::View;
use crate::delivery::scope::label::Label;
use crate::delivery::scope::projection::Unfit;
use crate::delivery::socket::send_queue::Lost;
use crate::delivery::socket::writer::{Instruction, SocketWriter};
use crate::delivery::wire::frame::{self, CloseCode};
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;
use crate::incarnations::Gap;
use crate::sync::lock;

impl HubState {
    /// Whether the stream still brings changes from before some floor.
    fn notice_floors(&mut self) {
        let seen = self.boundary.as_ref().map(|boundary| &boundary.cursor.seen);
        self.awaits_floor = seen.is_none_or(|seen| self.floors.are_ahead_of(seen));
    }
}

/// Filters that cost less than so much, as projections count it, are asked where the cut arrives: to hand it to another thread
/// and back costs as much as a fifth of it. The rest runs beside the threads that answer clients.
pub(super) const AT_ONCE: u64 = 256 * 1024;
/// Views that come while a cut is routed are routed as well, so many times; those that came meanwhile, under the lock.
const ROUNDS: usize = 4;

impl Hub {
    /// Applies an event; adds to `unwritten` the bytes that it added to logs.
    pub(super) async fn apply(&self, views: &mut Views<Arc<View>>, event: Event, unwritten: &mut u64) {
        match event {
            Event::Cut(cut) => {
                self.hold_before(&cut);
                self.hear_of_views(views);
                for chunk in in_chunks(cut, self.meter.budget() / 4, |change| views.estimate(change).1) {
                    *unwritten += self.apply_cut(views, chunk).await;
                    self.tell_latest(unwritten).await;
                    self.settle(unwritten).await;
                }
            }
            Event::From { mut boundary, incarnations, start, inside: _ } => {
                let mut state = lock(&self.state);
                state.incarnations = Some(incarnations);
                boundary.token = state.sealed(&boundary.token);
                // where a cut was broken off, its rest follows and ends at a boundary
                if start != Start::Continues || state.is_at_boundary {
                    state.cursor = boundary.token.clone();
                    state.is_at_boundary = true;
                    // not before a subscriber that has lost something is told so: its cursor lies behind that
                    if !matches!(start, Start::Gap(_)) {
                        self.frontier.reach(boundary.token.clone());
                    }
                }
                if start != Start::Continues {
                    // what follows it is no part of the cut that was broken off
                    std::mem::take(&mut state.amid).iter().for_each(|view| _ = view.is_amid(false));
                    state.told_amid.clear();
                    self.pages.note_gap(None, Instant::now());
                    state.history.restart(boundary.cursor.seen.clone());
                } else if state.is_at_boundary {
                    state.history.go_back_to(&boundary.cursor.seen);
                }
                state.boundary = Some(boundary);
                self.begin_claims(&mut state, start);
                state.notice_floors();
                if let Start::Gap(gap) = start {
                    self.metrics.count_gap(gap.as_str());
                    self.forget_owed(&mut state, |_| true);
                    self.append_to_views(state, |label, _| protocol::gap(label, gap), |_| true);
                } else {
                    drop(state);
                }
                self.boundaries.send_replace(());
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
                {
                    let mut state = lock(&self.state);
                    if state.claims.stated().follow(&channel) {
                        self.hold_all(&mut state, ChangesOf::BySeveral);
                    }
                }
                // behind the holds, so that no socket that is held goes on as if nothing were missing
                self.pages.note_gap(Some(channel.clone()), Instant::now());
                self.metrics.count_gap(gap.as_str());
                let of_channel = |view: &View| view.key.channel() == Some(&channel);
                self.forget_owed(&mut lock(&self.state), of_channel);
                self.append_to_all(|label, _| protocol::gap(label, gap), of_channel);
            }
            Event::Channels { channels, policies, claims } => self.set_channels(channels, policies, claims),
            Event::Revoked { user, at } => {
                if let Some(keys) = self.keys() {
                    keys.revoke(&user, UNIX_EPOCH + Duration::from_micros(at.try_into().unwrap_or_default()));
                }
                // each looks whether its token is among them: some may be of after that moment
                self.keepalive.of_user(&user).iter().for_each(|writer| writer.order(Instruction::Revoked));
            }
        }
    }

    /// Tells the router of the views that are new, or gone. Not under the lock: one with a thousand values takes a fifth of a
    /// millisecond.
    pub(super) fn hear_of_views(&self, views: &mut Views<Arc<View>>) {
        let news = lock(&self.state).known.take_news();
        news.tell(views);
    }

    /// Bytes that it added to the logs.
    async fn apply_cut(&self, views: &mut Views<Arc<View>>, mut cut: Cut) -> u64 {
        let arrived = SystemTime::now();
        // the token of any position inside the cut, without its id
        let inside: Arc<str> = {
            let state = lock(&self.state);
            if state.awaits_floor {
                cut.changes.retain(|change| !state.floors.keep_out(change));
            }
            if let Some(end) = &mut cut.end {
                end.token = state.sealed(&end.token);
            }
            // a change that is alone has the position after the cut
            if cut.changes.len() > 1 || cut.end.is_none() { state.sealed(&cut.token_inside()) } else { "".into() }
        };
        debug_assert!(cut.is_in_order(), "I4: a cut out of order");
        let cut = Arc::new(cut);
        let Routed { mut frames, mut later, mut shed } = self.route(views, &cut, &inside).await;
        for _ in 0..ROUNDS {
            let news = {
                let mut state = lock(&self.state);
                if !state.known.has_new_views() {
                    break;
                }
                state.known.take_news()
            };
            let routed = self.route(&mut news.alone(), &cut, &inside).await;
            frames.extend(routed.frames);
            later.extend(routed.later);
            shed.extend(routed.shed);
            news.tell(views);
        }
        let mut state = lock(&self.state);
        if state.known.has_new_views() {
            let news = state.known.take_news();
            let routed = news.alone().route(&cut, &inside, self.meter.budget() / 4, |bytes| self.meter.hold(bytes));
            frames.extend(routed.frames);
            later.extend(routed.later);
            shed.extend(routed.shed);
            news.tell(views);
        }
        state.owe(later, &cut);
        let mut bytes = 0;
        self.frontier.leave();
        let mut touched = Vec::with_capacity(frames.len());
        for (view, frames) in frames {
            bytes += frames.bytes.len() as u64;
            self.metrics.messages.inc_by(frames.count);
            view.log.append(frames.bytes);
            view.spoke.store(true, Relaxed);
            touched.push(view);
        }
        // before the frontier comes to the end: it is of the cut
        bytes += self.end_cut(&mut state, &mut touched, &cut);
        if let Some(end) = &cut.end {
            state.cursor = end.token.clone();
            state.boundary = Some(end.clone());
            self.frontier.reach(end.token.clone());
            if state.awaits_floor {
                state.notice_floors();
            }
        } else if let Some(last) = cut.changes.last() {
            let mut token = inside.to_string();
            crate::cursor::push_id(&mut token, last.id);
            state.cursor = token.into();
        }
        state.is_at_boundary = cut.end.is_some();
        if state.is_at_boundary {
            state.told_amid.clear();
        }
        if let Some(last) = cut.changes.last().filter(|_| self.is_live()) {
            self.metrics.note_change(last.at);
        }
        for gap in cut.changes.iter().filter_map(|change| change.update.as_ref()?.gap()) {
            self.metrics.count_gap(gap.as_str());
        }
        self.metrics.cut_changes.observe(cut.changes.len() as f64);
        let oldest = cut.changes.iter().map(|change| change.at).min().filter(|_| self.is_live());
        let traced = self.traced(&cut.changes, arrived);
        state.history.push(cut);
        drop(state);
        self.boundaries.send_replace(());
        self.wake(&touched, oldest);
        self.tell_once_written(traced);
        self.shed(shed);
        bytes
    }

    /// Views that were told a chunk of a cut, and nothing at its end, are told that it has ended. Bytes that this added.
    fn end_cut(&self, state: &mut HubState, touched: &mut Vec<Arc<View>>, cut: &Cut) -> u64 {
        let Some(end) = &cut.end else {
            state.amid.extend(touched.iter().filter(|view| !view.is_amid(true)).cloned());
            return 0;
        };
        touched.iter().for_each(|view| _ = view.is_amid(false));
        let mut bytes = 0;
        for view in std::mem::take(&mut state.amid) {
            if !view.is_amid(false) {
                let frame = self.frame_of(&protocol::channel_cut(
                    &view.key.label(),
                    &ResumeToken::of(&end.token, view.log.mark()).to_string(),
                ));
                bytes += frame.len() as u64;
                view.log.append(frame);
                touched.push(view);
            }
        }
        bytes
    }

    /// What a cut gives the views, found out without the lock.
    async fn route(&self, views: &mut Views<Arc<View>>, cut: &Arc<Cut>, inside: &Arc<str>) -> Routed<Arc<View>> {
        let most = self.meter.budget() / 4;
        let work: u64 = cut.changes.iter().map(|change| views.estimate(change).0).sum();
        if work <= AT_ONCE {
            return views.route(cut, inside, most, |bytes| self.meter.hold(bytes));
        }
        let (theirs, meter) = (std::mem::take(views), self.meter.clone());
        let (cut, inside) = (cut.clone(), inside.clone());
        let routing = move || {
            let routed = theirs.route(&cut, &inside, most, |bytes| meter.hold(bytes));
            (theirs, routed)
        };
        let routed;
        (*views, routed) = beside(routing).await;
        routed
    }

    /// Views that were not looked at to the end: their sockets are told to come back, and lose nothing by it.
    fn shed(&self, shed: Vec<(Arc<View>, Shed)>) {
        for (view, why) in shed {
            let (limit, reason) = match why {
                Shed::Work => {
                    ("filters", "your filters ask for too much work: use fewer, and resume with your last cursor")
                }
                Shed::Memory => ("memory", "what is kept for slow clients is full: resume with your last cursor"),
            };
            if let Some(unlogged) = self.metrics.refuse(limit) {
                let channel = view.key.channel().map_or("user", |name| name);
                tracing::warn!(event = "view_shed", channel, limit, unlogged);
            }
            view.sockets().iter().for_each(|writer| writer.close(CloseCode::Overloaded, reason));
        }
    }

    fn set_channels(&self, channels: Vec<Channel>, policies: Vec<Policy>, claims: Option<Vec<Claim>>) {
        let mut state = lock(&self.state);
        let has_other_claims = claims.is_some_and(|claims| state.claims.state(claims));
        if has_other_claims {
            self.hold_all(&mut state, ChangesOf::ByNone);
        }
        let floors = Floors::new(&channels);
        let policies = Policies::new(policies, &floors);
        let raised: Vec<_> =
            floors.raised_since(&state.floors).map(|(name, notifies)| (name.clone(), notifies)).collect();
        // DDL may have made other rows of those that say who is a member
        if raised.iter().any(|(name, _)| state.claims.stated().follow(name)) {
            self.hold_all(&mut state, ChangesOf::ByNone);
        }
        if floors != state.floors {
            state.history.forget(|change| floors.cover(change));
            state.floors = floors;
            state.notice_floors();
        }
        let before = state.policies.replace(policies);
        // also clients on their way to a channel; not the first time, which those that are there wait for
        let has_others = state.policies != before || has_other_claims;
        if self.settings.keys.is_some() && before.is_some() && has_others {
            self.keepalive.all().iter().for_each(|writer| writer.order(Instruction::Reconsider));
        }
        let listed = channels.into_iter().filter(|channel| !channel.is_unlisted);
        let channels: BTreeMap<_, _> = listed.map(|channel| (channel.name, channel.columns)).collect();
        let before = state.channels.replace(channels).unwrap_or_default();
        let is_altered = state.channels.as_ref() != Some(&before);
        let altered = |view: &Arc<View>| match view.key.channel() {
            Some(name) => before.get(name).map(|columns| columns.as_deref()) != state.channel(name),
            None => is_altered && !view.key.is_everything(),
        };
        let views: Vec<_> = state.known.iter().filter(|view| altered(view)).cloned().collect();
        let mut closed = Vec::new();
        for view in views {
            let label = view.key.label();
            let (code, kind, reason) = match state.projection(&view.key) {
                Ok(projection) => {
                    // what it is owed has the names of before; behind a raised floor it is told nothing of that
                    if !raised.iter().any(|(name, _)| Some(name) == view.key.channel()) {
                        self.tell_owed(&mut state, view.number);
                    }
                    state.known.insert(&view, projection);
                    continue;
                }
                Err(JoinError::Unfit(Unfit(reason))) => (CloseCode::BadRequest, "bad_filter", reason),
                Err(
                    JoinError::UnknownChannel
                    | JoinError::NotLive
                    | JoinError::InDoubt
                    | JoinError::Forbidden
                    | JoinError::TooMany(_),
                ) => {
                    let reason = format!("channel {label} is gone: its table is no longer watched");
                    (CloseCode::UnknownChannel, "unknown_channel", reason)
                }
            };
            state.known.remove(&view);
            let message = protocol::channel_error(kind, &reason, &label).into();
            let lost = Lost { log: view.log.clone(), code, reason: reason.into(), message };
            closed.push((view, lost));
        }
        self.tell_of_floors(state, &raised);
        self.catalogued.send_replace(());
        // each socket once: it is closed where it follows nothing else
        let mut sockets: HashMap<*const SocketWriter, (Arc<SocketWriter>, Vec<Lost>)> = HashMap::new();
        for (view, lost) in closed {
            for writer in view.sockets() {
                let known = sockets.entry(Arc::as_ptr(&writer)).or_insert_with(|| (writer, Vec::new()));
                known.1.push(lost.clone());
            }
        }
        sockets.into_values().for_each(|(writer, lost)| writer.lose(&lost));
    }

    /// Of channels whose floor was raised, and of users whom they notify: load again. What their sockets have not taken
    /// once all were tried is from before, and is dropped: they are too slow, and come back.
    fn tell_of_floors(&self, mut state: MutexGuard<'_, HubState>, raised: &[(Arc<str>, bool)]) {
        if raised.is_empty() {
            return;
        }
        let users = raised.iter().any(|(_, notifies)| *notifies);
        let concerned = |view: &View| match view.key.channel() {
            Some(name) => raised.iter().any(|(raised, _)| raised == name),
            None => users,
        };
        let before: Vec<_> =
            state.known.iter().filter(|view| concerned(view)).map(|view| (view.clone(), view.log.end())).collect();
        self.metrics.count_gap(Gap::Policy.as_str());
        self.forget_owed(&mut state, concerned);
        self.append_to_views(state, |label, _| protocol::gap(label, Gap::Policy), concerned);
        let shards = self.shards.clone();
        tokio::spawn(async move {
            for shard in &shards {
                shard.passed().await;
            }
            before.iter().for_each(|(view, end)| view.log.forget_before(*end));
        });
    }

    /// A heartbeat to every view that was silent. And what was due at the last one is dropped: a client that has not
    /// taken it by now is too slow, and thousands of views would keep what nobody needs.
    pub(super) fn beat(&self) {
        self.pages.sweep();
        self.sweep_claims();
        self.sweep_latest();
        for view in lock(&self.state).known.iter() {
            let written = view.written.swap(view.log.end(), Relaxed);
            if view.log.is_of_newest() {
                // nobody is too slow: what a later change of its row has not replaced waits for the slowest
                view.log.forget_before(view.slowest().1.min(written));
                view.log.retire_before(written);
            } else {
                view.log.forget_before(written);
            }
        }
        if *self.live.borrow() {
            self.append_to_all(protocol::heartbeat, |view| !view.spoke.swap(false, Relaxed));
        }
    }

    /// Appends a message to views, made of the channel's name and the cursor.
    fn append_to_all(&self, message: impl Fn(&Label, &str) -> String, wanted: impl Fn(&View) -> bool) {
        self.append_to_views(lock(&self.state), message, wanted);
    }

    fn append_to_views(
        &self,
        state: MutexGuard<'_, HubState>,
        message: impl Fn(&Label, &str) -> String,
        wanted: impl Fn(&View) -> bool,
    ) {
        let views: Vec<_> = state.known.iter().filter(|view| wanted(view)).cloned().collect();
        // all of them, or none, are told before the next end of a cut
        self.frontier.leave();
        for view in &views {
            let cursor = ResumeToken::of(state.cursor_of(view), view.log.mark()).to_string();
            view.log.append(self.frame_of(&message(&view.key.label(), &cursor)));
        }
        if state.is_at_boundary {
            self.frontier.reach(state.cursor.clone());
        }
        drop(state);
        self.wake(&views, None);
    }

    fn frame_of(&self, message: &str) -> Bytes {
        self.meter.hold(frame::text_frame(message))
    }

    /// Has the shards write what was appended to these views; `oldest` as in [`Shard::wake`](super::super::shard::Shard).
    pub(super) fn wake(&self, views: &[Arc<View>], oldest: Option<i64>) {
        for shard in &self.shards {
            shard.wake(views, oldest);
        }
    }
}

/// What costs much, beside the threads that answer clients.
pub(super) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // the runtime goes down
        Err(_) => std::future::pending().await,
    }
}

/// A cut as chunks that give no more than `most` bytes each, by what `size` says of a change; one change is not divided.
/// Each chunk but the last is what the source itself would hand over of a larger cut.
fn in_chunks(cut: Cut, most: u64, size: impl Fn(&Change) -> u64) -> Vec<Cut> {
    let sizes: Vec<u64> = cut.changes.iter().map(size).collect();
    if sizes.iter().sum::<u64>() <= most {
        return vec![cut];
    }
    let Cut { changes, from, until, end } = cut;
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for (change, size) in changes.into_iter().zip(sizes) {
        if bytes + size > most && !chunk.is_empty() {
            let changes = std::mem::take(&mut chunk);
            chunks.push(Cut { changes, from: from.clone(), until: until.clone(), end: None });
            bytes = 0;
        }
        bytes += size;
        chunk.push(change);
    }
    chunks.push(Cut { changes: chunk, from, until, end });
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Snapshot;

    #[test]
    fn a_cut_is_divided_between_changes_and_ends_with_its_last_part() {
        let change = |id| Change { id, tx: 1, at: 0, actor: None, update: None, notification: None };
        let cut = |count| Cut::chunk((1..=count).map(change).collect(), Snapshot::all_before(9));
        let ids = |most| -> Vec<Vec<i64>> {
            let chunks = in_chunks(cut(5), most, |change| change.id as u64);
            chunks.iter().map(|chunk| chunk.changes.iter().map(|change| change.id).collect()).collect()
        };
        assert_eq!(ids(15), [vec![1, 2, 3, 4, 5]]);
        assert_eq!(ids(6), [vec![1, 2, 3], vec![4], vec![5]]);
        assert_eq!(ids(1), [[1], [2], [3], [4], [5]], "one that is too large by itself goes by itself");
        assert_eq!(in_chunks(cut(0), 0, |_| 1).len(), 1, "also a cut of nothing moves the cursor");
    }
}
