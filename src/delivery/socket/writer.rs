//! The writing half of a socket: what is owed to it leaves in one write. Owns the socket, its end, and which tasks are
//! woken for it; what is owed is the queue's.
//!
//! A shard writes to it directly when its views have grown; nothing is queued for it and no task is woken per
//! delivery. When the kernel takes no more, the socket is *blocked*: shards pass it by, and its session goes on once
//! the socket is writable.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::frame_log::FrameLog;
use super::frontier::Frontier;
pub use super::send_queue::{DueCache, Life};
use super::send_queue::{Lost, SendQueue, TooManyAnswers, Unwritten, Written};
use super::silence::Silence;
use super::transport::SocketStream;
use crate::delivery::wire::frame::{self, CloseCode};
use crate::metrics::{Code, DeliveryMetrics};
use crate::sync::lock;

/// A socket's writing half. Shared by its session and its shard.
#[derive(Debug)]
pub struct SocketWriter {
    stream: SocketStream,
    state: Mutex<WriterState>,
    /// wakes the session: blocked, closing, or gone
    session: AtomicWaker,
    /// something came from the client since it was pinged
    heard: AtomicBool,
    /// its client is told the end of each cut, once the session says to whom it is to be said
    wants_cuts: AtomicBool,
    /// what the session is to do, see [`Instruction`]
    orders: AtomicU8,
    /// so many wait in [`written`](Self::written): where there are none, a write wakes nobody. It changes under the lock, and
    /// stands here for its four bytes
    waiting: AtomicU32,
    /// wakes the tasks that wait in [`write`](Self::write) or [`written`](Self::written): something was written, or
    /// never will be
    progress: Notify,
    metrics: Arc<DeliveryMetrics>,
}

#[derive(Debug, Default)]
struct WriterState {
    queue: SendQueue,
    silence: Silence,
    /// the kernel took less than there was; the session waits until it is writable
    blocked: bool,
}

/// The socket takes no more; what it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed(pub Life);

/// What a session may be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Instruction {
    /// look again what its token may see
    Reconsider = 1,
    /// let go of subscriptions whose view is no more
    Prune = 2,
    /// look whether its token was revoked
    Revoked = 4,
    /// what its holder has of claims is known again
    Settled = 8,
}

/// What a subscriber on its way to the present may still say. It is void once the client has unsubscribed: then nothing
/// of it follows the answer, also where its task is just writing.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// From now on nothing more is said. To be called before the answer is put.
    pub fn void(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether anybody else may still say something.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn is_void(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl SocketWriter {
    /// Takes the socket over after its upgrade.
    pub fn new(stream: impl Into<SocketStream>, metrics: Arc<DeliveryMetrics>) -> Self {
        let (session, heard, progress) = (AtomicWaker::new(), AtomicBool::new(true), Notify::new());
        Self {
            stream: stream.into(),
            state: Mutex::default(),
            session,
            heard,
            wants_cuts: AtomicBool::new(false),
            orders: AtomicU8::new(0),
            waiting: AtomicU32::new(0),
            progress,
            metrics,
        }
    }

    /// Puts a message for this socket alone in front of what its views owe it.
    pub fn say(&self, message: &str) {
        self.control(|control| frame::push_text_frame(control, message));
    }

    /// Sends back what came; `first` is the first byte of its frame.
    #[cfg(feature = "autobahn")]
    pub(crate) fn echo(&self, first: u8, payload: &[u8]) {
        let mut frames = Vec::new();
        frame::push_frame(&mut frames, first, payload);
        self.lock().queue.put(&frames);
    }

    /// Lets `write` append whole frames to the control frames.
    pub fn control(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if state.queue.life() != Life::Open {
            return;
        }
        if let Err(TooManyAnswers) = state.queue.answer(write) {
            self.count_close(CloseCode::TooSlow);
            state.queue.end(Life::Broken);
            self.session.wake();
            self.progress.notify_waiters();
        }
    }

    /// Puts whole frames for this socket alone and waits until they are written: what a slow client has not taken is
    /// held by the caller that makes it, not here. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`] when the socket is closing or broken, or the flag void.
    pub async fn write(&self, frames: &[u8], cancel: &CancelFlag) -> Result<(), Closed> {
        let emptied;
        {
            let mut state = self.lock();
            if state.queue.life() != Life::Open || cancel.is_void() {
                return Err(Closed(state.queue.life().max(Life::Closing)));
            }
            state.queue.put(frames);
            emptied = state.queue.emptied();
        }
        self.written_when(|queue| queue.emptied() != emptied || !queue.has_control()).await
    }

    /// Waits until all is written that the views which the socket follows now hold at this call; of one that it leaves
    /// meanwhile, nothing more. What is put after that comes behind it on the wire. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`] when the socket is closing or broken.
    pub(crate) async fn written(&self) -> Result<(), Closed> {
        let (mut owed, _waiting) = {
            let state = self.lock();
            self.waiting.fetch_add(1, Relaxed);
            (state.queue.owed(), WaitingGuard(self))
        };
        self.written_when(|queue| {
            owed.retain(|(subscription, until)| queue.owes(*subscription, *until));
            owed.is_empty()
        })
        .await
    }

    /// Waits until a subscription has come to an offset of its log, or is left. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`] when the socket is closing or broken.
    pub(crate) async fn written_to(&self, subscription: u64, until: u64) -> Result<(), Closed> {
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = WaitingGuard(self);
        self.written_when(|queue| !queue.owes(subscription, until)).await
    }

    /// Writes, and waits until the queue is as it is to be.
    async fn written_when(&self, mut is_so: impl FnMut(&SendQueue) -> bool) -> Result<(), Closed> {
        self.flush(&mut DueCache::default());
        loop {
            let mut progress = std::pin::pin!(self.progress.notified());
            progress.as_mut().enable();
            {
                let state = self.lock();
                let life = state.queue.life();
                if life != Life::Open {
                    return Err(Closed(life));
                }
                if is_so(&state.queue) {
                    return Ok(());
                }
            }
            progress.await;
        }
    }

    /// Where the socket is told the ends of cuts: one follows what was put so far.
    pub(crate) fn want_cut(&self) {
        self.lock().queue.want_cut();
        self.flush(&mut DueCache::default());
    }

    /// Follows a view from `offset` on, after `messages`. `subscription` tells it from any other of the same view.
    pub fn join(&self, log: Arc<FrameLog>, subscription: u64, offset: u64, messages: &[&str], cancel: &CancelFlag) {
        let mut state = self.lock();
        if state.queue.life() == Life::Open && !cancel.is_void() {
            state.queue.follow(log, subscription, offset, messages);
        }
    }

    /// Its client wants to be told the end of each cut.
    pub(crate) fn want_cuts(&self) {
        self.wants_cuts.store(true, Relaxed);
    }

    /// Whether its client wants to be told the end of each cut.
    pub(crate) fn wants_cuts(&self) -> bool {
        self.wants_cuts.load(Relaxed)
    }

    /// Tells the end of each cut from now on, over all views that it follows. `context` is the session's.
    pub(crate) fn tell_cuts(&self, frontier: &Arc<Frontier>, context: &Context<'_>) {
        self.lock().queue.tell_cuts(frontier, context.waker());
    }

    /// What its holder has of claims is in doubt: of what depends on them, nothing is written that is not in the logs yet, until
    /// this touch is released.
    pub(crate) fn hold(&self, touch: u64, boundary: Option<&Arc<str>>) {
        self.lock().queue.hold(touch, boundary);
    }

    /// These subscriptions go on, up to `touch` where there is one. The session writes what was held.
    pub(crate) fn release(&self, subscriptions: &[u64], touch: Option<u64>) {
        self.lock().queue.release(subscriptions, touch);
    }

    /// Before which touch a subscription is held, and where its log ended there.
    pub(crate) fn held(&self, subscription: u64) -> Option<(u64, u64)> {
        self.lock().queue.held(subscription)
    }

    /// Stops following; `false` where this subscription does not.
    pub fn leave(&self, subscription: u64) -> bool {
        let mut state = self.lock();
        let was_there = state.queue.leave(subscription);
        self.note_progress();
        was_there
    }

    /// Views of it are no more: it is told of each, or closed where it follows no other.
    pub(crate) fn lose(&self, lost: &[Lost]) {
        let mut state = self.lock();
        if !state.queue.lose(lost)
            && let Some(Lost { code, reason, .. }) = lost.last()
        {
            self.close_with(&mut state, *code, reason);
        }
        self.note_progress();
        drop(state);
        self.order(Instruction::Prune);
    }

    /// Says goodbye: nothing follows the close frame.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.close_with(&mut self.lock(), code, reason);
        self.session.wake();
        self.progress.notify_waiters();
    }

    fn close_with(&self, state: &mut WriterState, code: CloseCode, reason: &str) {
        if state.queue.close(code, reason) {
            self.count_close(code);
        }
    }

    fn count_close(&self, code: CloseCode) {
        self.metrics.closes.get_or_create(&Code { code: code.number().into(), reason: code.reason() }).inc();
    }

    /// Writes whatever is due until the kernel takes no more.
    pub fn flush(&self, cache: &mut DueCache) {
        let mut state = self.lock();
        if state.queue.life().is_over() {
            return;
        }
        if state.blocked {
            self.end_if_fallen_off(&mut state);
            return;
        }
        let emptied = state.queue.emptied();
        let is_written = loop {
            match self.write_once(&mut state, cache) {
                Ok(Written::Nothing) => break true,
                Ok(Written::All(written)) => {
                    self.count_written(&mut state, written);
                    break true;
                }
                Ok(Written::Part(written)) => self.count_written(&mut state, written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    state.blocked = true;
                    break false;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    state.queue.end(Life::Broken);
                    break false;
                }
            }
        };
        if state.queue.life().is_over() || state.queue.emptied() != emptied {
            self.progress.notify_waiters();
        } else {
            self.note_progress();
        }
        drop(state);
        if !is_written {
            self.session.wake();
        }
    }

    /// Something may have been written, or need not be any more.
    fn note_progress(&self) {
        if self.waiting.load(Relaxed) > 0 {
            self.progress.notify_waiters();
        }
    }

    fn count_written(&self, state: &mut WriterState, bytes: usize) {
        self.metrics.bytes.inc_by(bytes as u64);
        state.silence.wrote(bytes);
    }

    fn write_once(&self, state: &mut WriterState, cache: &mut DueCache) -> io::Result<Written> {
        match state.queue.write(cache, |slices: &[IoSlice<'_>]| self.stream.try_write(slices)) {
            Ok(written) => Ok(written),
            Err(Unwritten::Io(error)) => Err(error),
            Err(Unwritten::FellOff) => self.fall_off(state),
        }
    }

    /// What a reader is to write is no longer kept: say so if the wire is between two frames, else there is nothing left to say.
    fn fall_off(&self, state: &mut WriterState) -> io::Result<Written> {
        if state.queue.is_inside_a_frame() {
            self.count_close(CloseCode::TooSlow);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.close_with(state, CloseCode::TooSlow, "too slow: resume with your last cursor");
        Ok(Written::Part(0))
    }

    fn end_if_fallen_off(&self, state: &mut WriterState) {
        if !state.queue.has_fallen_off() {
            return;
        }
        match self.fall_off(state) {
            Err(_) => state.queue.end(Life::Broken),
            // the session writes what there is to say
            Ok(_) => state.blocked = false,
        }
        self.session.wake();
    }

    /// Asks the client whether it is there, `interval` after the last time, unless it has been silent for too long.
    pub(crate) fn ping(&self, interval: Duration) {
        let heard = self.heard.swap(false, Relaxed);
        let mut state = self.lock();
        if state.silence.is_over(heard, interval) {
            state.queue.end(Life::Silent);
            drop(state);
            self.session.wake();
            self.progress.notify_waiters();
        } else if heard {
            drop(state);
            self.control(frame::push_ping_frame);
            self.flush(&mut DueCache::default());
        }
    }

    /// Tells the session to do something.
    pub(crate) fn order(&self, order: Instruction) {
        self.orders.fetch_or(order as u8, Relaxed);
        self.session.wake();
    }

    /// Whether that was ordered since the last time.
    pub(crate) fn takes_order(&self, order: Instruction) -> bool {
        self.orders.load(Relaxed) & order as u8 != 0
            && self.orders.fetch_and(!(order as u8), Relaxed) & order as u8 != 0
    }

    /// The task that is woken when the socket is blocked, closing or gone.
    pub(crate) fn wakes(&self, session: &Context<'_>) {
        self.session.register(session.waker());
    }

    /// Whether the client has sent something, or closed.
    ///
    /// The task's waker takes the place of the one that the handshake left behind, and with it the memory of the
    /// handshake's task goes (1.1 KiB a socket).
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.stream.poll_read_ready(context);
        if ready.is_ready() {
            self.heard.store(true, Relaxed);
        }
        ready
    }

    /// Whether a blocked socket takes more again; ready then, and pending where it was not blocked.
    pub(crate) fn poll_unblocked(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.blocked && self.stream.poll_write_ready(context).is_ready() {
            state.blocked = false;
            state.silence.moved();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// How far the client has come in a view's log; `None` where it has not begun to read it.
    pub(crate) fn place_in(&self, log: &FrameLog) -> Option<u64> {
        self.lock().queue.place_in(log)
    }

    /// Whether the client has not taken all that a view owes it.
    pub(crate) fn is_behind(&self, log: &FrameLog) -> bool {
        self.lock().queue.is_behind(log)
    }

    /// The logs of the newest change of each row that it follows.
    pub(crate) fn newest_logs(&self) -> Vec<Arc<FrameLog>> {
        self.lock().queue.newest_logs()
    }

    /// The views of which the client has not taken everything, and how far it has come in each.
    pub(crate) fn behind(&self) -> Vec<(Arc<FrameLog>, u64)> {
        self.lock().queue.behind()
    }

    /// What it still takes.
    pub fn life(&self) -> Life {
        self.lock().queue.life()
    }

    /// Whether nothing more is to be put: it closes, or is closed.
    pub fn is_ending(&self) -> bool {
        self.life() != Life::Open
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }

    fn lock(&self) -> MutexGuard<'_, WriterState> {
        lock(&self.state)
    }
}

/// One that waits until something is written.
struct WaitingGuard<'a>(&'a SocketWriter);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        let before = self.0.waiting.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "one waits no more that did not wait");
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};

    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    use super::*;
    use crate::delivery::socket::meter::Meter;

    /// More than a pair of sockets takes without its reader.
    const LONG: usize = 1 << 20;

    fn open() -> (Arc<SocketWriter>, UnixStream, Arc<FrameLog>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = Arc::new(FrameLog::new(1 << 24, Meter::new(1 << 24), String::new()));
        (Arc::new(SocketWriter::new(ours, Arc::default())), theirs, log)
    }

    fn grow(log: &FrameLog, text: &str) {
        log.append(frame::text_frame(text).into());
    }

    /// As its session does.
    async fn go_on(writer: &SocketWriter) {
        loop {
            poll_fn(|context| writer.poll_unblocked(context)).await;
            writer.flush(&mut DueCache::default());
        }
    }

    #[tokio::test]
    async fn what_is_put_after_the_wait_stands_behind_all_that_was_owed() {
        let (writer, mut client, log) = open();
        let other = Arc::new(FrameLog::new(1 << 24, Meter::new(1 << 24), String::new()));
        writer.join(log.clone(), 1, 0, &["joined"], &CancelFlag::default());
        writer.join(other.clone(), 2, 0, &[], &CancelFlag::default());
        grow(&log, &"x".repeat(LONG));
        grow(&other, "the other");
        let mut waiting = Box::pin(writer.written());
        let pending = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
        assert!(pending, "the client has not read it");
        grow(&log, "later");
        let reading = tokio::spawn(async move {
            let mut wire = Vec::new();
            while !wire.windows(4).any(|part| part == b"page") {
                assert_ne!(client.read_buf(&mut wire).await.unwrap(), 0);
            }
            String::from_utf8_lossy(&wire).into_owned()
        });
        tokio::select! {
            written = waiting => written.unwrap(),
            () = go_on(&writer) => unreachable!("it goes on for ever"),
        }
        writer.say("page");
        writer.flush(&mut DueCache::default());
        let wire = tokio::select! {
            wire = reading => wire.unwrap(),
            () = go_on(&writer) => unreachable!("it goes on for ever"),
        };
        let at = |text: &str| wire.find(text).unwrap();
        assert!(at("joined") < at("xxx") && at("xxx") < at("page") && at("the other") < at("page"));
        assert_eq!(writer.waiting.load(Relaxed), 0);
        writer.written().await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_subscription_and_with_the_socket() {
        for closes in [false, true] {
            let (writer, _client, log) = open();
            writer.join(log.clone(), 1, 0, &[], &CancelFlag::default());
            grow(&log, &"x".repeat(LONG));
            let waits = writer.clone();
            let waiting = tokio::spawn(async move { waits.written().await });
            while writer.waiting.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            assert!(writer.is_behind(&log));
            if closes {
                writer.close(CloseCode::Draining, "");
                assert_eq!(waiting.await.unwrap(), Err(Closed(Life::Closing)));
            } else {
                writer.leave(1);
                assert_eq!(waiting.await.unwrap(), Ok(()));
            }
            assert_eq!(writer.waiting.load(Relaxed), 0);
        }
    }

    #[tokio::test]
    async fn a_wait_that_is_called_off_leaves_nothing_behind() {
        let (writer, _client, log) = open();
        writer.join(log.clone(), 1, 0, &[], &CancelFlag::default());
        grow(&log, &"x".repeat(LONG));
        let mut waiting = Box::pin(writer.written());
        assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
        assert_eq!(writer.waiting.load(Relaxed), 1);
        drop(waiting);
        assert_eq!(writer.waiting.load(Relaxed), 0);
    }
}
