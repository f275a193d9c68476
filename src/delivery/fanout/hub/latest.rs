//! Views that are told the newest change of each row, at most so often. Owns that nobody goes on behind what such a view is
//! still owed; what it is owed, and when, is [`latest`](crate::delivery::fanout::latest)'s to say.
//!
//! | what comes meanwhile | what becomes of what is owed |
//! |---|---|
//! | a heartbeat | it carries the cursor from before it |
//! | a `gap` | the client loads again: nothing of it is told |
//! | a change of what a holder may see | it is told at once, before the holder's sockets stop |
//! | a client's `sync`, or a page for its socket | it is told at once |
//! | a client that comes to the view | what it is told from then on does not cancel out what waits |

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::apply::{AT_ONCE, beside};
use super::{Hub, HubState};
use crate::change::Cut;
use crate::delivery::fanout::latest::{LatestViews, Noted, Owed, OwedChange, Ticket};
use crate::delivery::fanout::route::Later;
use crate::delivery::fanout::view::View;
use crate::delivery::scope::telling::Every;
use crate::delivery::scope::visible::RowImages;
use crate::delivery::socket::writer::SocketWriter;
use crate::delivery::wire::frame::push_text_frame;
use crate::delivery::wire::protocol::{self, MessagePlace};
use crate::sync::lock;

/// Frames of a view, each with its length and its row.
#[derive(Debug, Default)]
struct OwedFrames {
    frames: Vec<u8>,
    rows: Vec<(usize, Option<Arc<str>>)>,
}

/// What views are owed, for `log_bytes` of one and `view_bytes` of all.
pub(super) fn nothing_owed(log_bytes: u64, view_bytes: u64) -> LatestViews<Arc<View>> {
    LatestViews::new(log_bytes / 2, view_bytes / 4)
}

impl HubState {
    /// These views are owed the changes of a cut that concern them. To be called before the stream has come past it.
    pub(super) fn owe(&mut self, later: Vec<Later<Arc<View>>>, cut: &Cut) {
        let now = Instant::now();
        let mut noted: HashMap<usize, Noted> = HashMap::new();
        for Later { view, projection, changes } in later {
            let Some(every) = view.key.every() else { continue };
            for index in &changes {
                // the same for all views of a channel
                noted.entry(*index).or_insert_with(|| Noted::of(&cut.changes[*index], projection.key_columns()));
            }
            let changes = changes.iter().filter_map(|index| noted.get(index));
            let (number, view) = (view.number, || (view.clone(), projection.clone()));
            self.latest.add(number, view, every.duration(), &self.cursor, changes, now);
        }
    }

    /// The cursor of what a view was told.
    pub(super) fn cursor_of(&self, view: &View) -> &Arc<str> {
        self.latest.place_of(view.number).unwrap_or(&self.cursor)
    }

    /// Whether something is due that may be told now, or when it is.
    pub(super) fn next_telling(&self) -> Option<Instant> {
        self.latest.next_due().filter(|_| self.is_at_boundary)
    }
}

impl Hub {
    /// Tells what is due; adds to `unwritten` the bytes that this put into logs.
    pub(super) async fn tell_latest(&self, unwritten: &mut u64) {
        let (due, end) = {
            let mut state = lock(&self.state);
            let is_at_boundary = state.is_at_boundary;
            let due = state.latest.take_due(Instant::now(), is_at_boundary);
            (due, is_at_boundary.then(|| state.cursor.clone()))
        };
        for owed in due {
            let (ticket, view, end) = (owed.ticket(), owed.view.clone(), end.clone());
            let made = if owed.bytes() > AT_ONCE {
                beside(move || made_of(owed, end.as_deref())).await
            } else {
                made_of(owed, end.as_deref())
            };
            *unwritten += made.frames.len() as u64;
            self.append_made(&mut lock(&self.state), &view, ticket, made);
            self.wake(&[view], None);
            self.told.send_replace(());
            self.settle(unwritten).await;
        }
    }

    /// Views of what claims let their holders see are told what they are owed: their sockets are to stop here.
    pub(super) fn tell_held(&self, state: &mut HubState) {
        for number in state.latest.owing(|view| view.key.has_members()) {
            self.tell_owed(state, number);
        }
        self.told.send_replace(());
    }

    /// A view is told at once what it is owed: by the names that its columns had when that was read.
    pub(super) fn tell_owed(&self, state: &mut HubState, number: u64) {
        let end = state.is_at_boundary.then(|| state.cursor.clone());
        let Some(owed) = state.latest.take(number, Instant::now()) else { return };
        let (ticket, view) = (owed.ticket(), owed.view.clone());
        let made = made_of(owed, end.as_deref());
        self.append_made(state, &view, ticket, made);
        self.wake(&[view], None);
        self.told.send_replace(());
    }

    /// What these are owed is told to nobody any more: a client that waits for it waits no longer.
    pub(super) fn forget_owed(&self, state: &mut HubState, gone: impl Fn(&View) -> bool) {
        state.latest.forget(|view| gone(view));
        self.told.send_replace(());
    }

    /// Waits until a socket's views were told what they are owed: what is said to it then may speak of rows as they are now. Cancel
    /// safe.
    pub(super) async fn told_latest(&self, writer: &SocketWriter) {
        let logs = writer.newest_logs();
        if logs.is_empty() {
            return;
        }
        let mut told = self.told.subscribe();
        let is_its = |view: &Arc<View>| logs.iter().any(|log| Arc::ptr_eq(log, &view.log));
        let owed = lock(&self.state).latest.hurry(is_its, Instant::now());
        self.hurried.notify_one();
        loop {
            told.mark_unchanged();
            if !lock(&self.state).latest.owes(&owed) {
                return;
            }
            let _ = told.changed().await;
        }
    }

    /// Forgets what nobody is owed any more.
    pub(super) fn sweep_latest(&self) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.latest.forget(|view| !state.known.has(view));
        state.latest.sweep(Every::LONGEST, Instant::now());
    }

    fn append_made(&self, state: &mut HubState, view: &Arc<View>, ticket: Ticket, made: OwedFrames) {
        state.latest.note_told(ticket);
        if !state.known.has(view) || made.rows.is_empty() {
            return;
        }
        if !state.is_at_boundary {
            state.told_amid.push(view.number);
        }
        // told before the next end of a cut, as whatever is put into logs
        self.frontier.leave();
        self.metrics.messages.inc_by(made.rows.len() as u64);
        view.spoke.store(true, Relaxed);
        view.log.append_newest(self.meter.hold(made.frames), made.rows);
        if state.is_at_boundary {
            self.frontier.reach(state.cursor.clone());
        }
    }
}

/// The frames of what a view is owed. `end`: the cursor where the stream is, which the last one of them carries; where it is amid a
/// cut, none does.
fn made_of(mut owed: Owed<Arc<View>>, end: Option<&str>) -> OwedFrames {
    let changes = owed.take_changes();
    let (projection, from) = (&*owed.projection, &*owed.from);
    let Some(channel) = owed.view.key.channel() else { return OwedFrames::default() };
    let message = |OwedChange { row, change }: &OwedChange, place: MessagePlace<'_>| -> Option<String> {
        let update = change.update.as_ref()?;
        let mut shown = projection.show(update, &RowImages::of(update))?;
        if row.is_some() {
            if shown.action == "updated" && update.changed.is_empty() {
                return None;
            }
            // of a slow client's row it is not known what it was told before
            (shown.changed, shown.old) = (Default::default(), None);
        }
        Some(protocol::realtime_update(change, channel, &shown, place, projection.mark()))
    };
    let mut made = OwedFrames::default();
    let mut last: Option<(&OwedChange, usize)> = None;
    for change in &changes {
        let Some(text) = message(change, MessagePlace::Before(from)) else { continue };
        let start = made.frames.len();
        push_text_frame(&mut made.frames, &text);
        made.rows.push((made.frames.len() - start, change.row.as_deref().map(Arc::from)));
        last = Some((change, start));
    }
    // nobody knows which one is the last before the others are known not to be shown
    if let (Some((change, start)), Some(end)) = (last, end)
        && let Some(text) = message(change, MessagePlace::End(end))
        && let Some((length, _)) = made.rows.last_mut()
    {
        made.frames.truncate(start);
        push_text_frame(&mut made.frames, &text);
        *length = made.frames.len() - start;
    }
    made
}
