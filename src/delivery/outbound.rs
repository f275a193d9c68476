//! The writing half of a socket: what is due leaves in one write. Owns offsets, control frames and frame borders;
//! knows nothing of changes.
//!
//! A shard writes to it directly when its views have grown; nothing is queued for it and no task is woken per
//! delivery. When the kernel takes no more, the socket is *blocked*: shards pass it by, and its session goes on once
//! the socket is writable.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::log::{DUE_SEGMENTS, Due, FellOff};
use super::protocol::{self, CloseCode};
use super::view::View;
use crate::metrics::{Code, DeliveryMetrics};

/// A socket's writing half. Shared by its session and its shard.
#[derive(Debug)]
pub struct Outbound {
    tcp: TcpStream,
    state: Mutex<State>,
    /// wakes the session: blocked, closing, or gone
    session: AtomicWaker,
    /// something came from the client since it was pinged
    heard: AtomicBool,
    /// what the session is to do, see [`Order`]
    orders: AtomicU8,
    /// wakes who waits in [`write`](Self::write): the control frames are written, or never will be
    drained: Notify,
    metrics: Arc<DeliveryMetrics>,
}

#[derive(Debug, Default)]
struct State {
    /// Frames for this socket alone: answers, pings, close. They leave at the next border of a frame.
    control: Vec<u8>,
    /// bytes of answers among them, since it was last empty
    answers: usize,
    readers: Vec<Reader>,
    /// whose frame is cut in half on the wire: only its rest may follow
    half: Half,
    /// the kernel took less than there was; the session waits until it is writable
    blocked: bool,
    /// a close frame is the last thing in `control`
    closing: bool,
    /// nothing can be written any more
    gone: Option<Gone>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Half {
    #[default]
    None,
    Control,
    Reader(usize),
}

/// Answers that wait for a client to read them: pongs, errors, echoes. One that lets more pile up is dropped.
const ANSWER_BYTES: usize = 1 << 20;

/// Why the socket takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// a close frame is on its way
    Closing,
    /// the connection broke
    Broken,
    /// the client did not answer a ping
    Silent,
}

/// What a session may be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    /// look again what its token may see
    Reconsider = 1,
    /// let go of subscriptions whose view is no more
    Prune = 2,
}

/// What a subscriber on its way to the present may still say. It is void once the client has unsubscribed: then nothing
/// of it follows the answer, also where its task is just writing.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Arc<AtomicBool>);

impl Ticket {
    /// From now on nothing more is said. To be called before the answer is put.
    pub fn void(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_void(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What a write has done.
enum Written {
    /// nothing was due
    Nothing,
    /// so many bytes, and nothing more is due
    All(usize),
    /// so many bytes, and there may be more
    Part(usize),
}

/// A place in a view's log.
#[derive(Debug)]
struct Reader {
    view: Arc<View>,
    subscription: u64,
    offset: u64,
}

/// Most sockets of a shard are at the same offset of the same view: what is due to one is due to the next.
#[derive(Debug, Default)]
pub struct DueCache(Option<(Arc<View>, u64, Due)>);

impl Outbound {
    /// Takes the socket over after its upgrade.
    pub fn new(tcp: TcpStream, metrics: Arc<DeliveryMetrics>) -> Self {
        let (session, heard, drained) = (AtomicWaker::new(), AtomicBool::new(true), Notify::new());
        Self { tcp, state: Mutex::default(), session, heard, orders: AtomicU8::new(0), drained, metrics }
    }

    /// Puts a message for this socket alone in front of what its views owe it.
    pub fn say(&self, message: &str) {
        self.control(|control| protocol::push_text_frame(control, message));
    }

    /// Lets `write` append whole frames to the control frames.
    pub fn control(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if state.closing {
            return;
        }
        let before = state.control.len();
        write(&mut state.control);
        state.answers += state.control.len() - before;
        // a client that asks and does not read: a close frame would only join the others
        if state.answers > ANSWER_BYTES && state.gone.is_none() {
            self.count_close(CloseCode::TooSlow);
            state.gone = Some(Gone::Broken);
            state.control = Vec::new();
            self.session.wake();
            self.drained.notify_waiters();
        }
    }

    /// Puts whole frames for this socket alone and waits until they are written: what a slow client has not taken is
    /// held by whoever makes it, not here. Cancel safe.
    ///
    /// # Errors
    /// [`Gone`] when the socket is closing or broken, or the ticket void.
    pub async fn write(&self, frames: &[u8], ticket: &Ticket) -> Result<(), Gone> {
        {
            let mut state = self.lock();
            if state.closing || ticket.is_void() {
                return Err(Gone::Closing);
            }
            state.control.extend_from_slice(frames);
        }
        self.flush(&mut DueCache::default());
        loop {
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();
            {
                let state = self.lock();
                if let Some(gone) = state.gone {
                    return Err(gone);
                }
                if state.closing {
                    return Err(Gone::Closing);
                }
                if state.control.is_empty() {
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Follows a view from `offset` on, after `message`. `subscription` tells it from any other of the same view.
    pub fn join(&self, view: Arc<View>, subscription: u64, offset: u64, message: &str, ticket: &Ticket) {
        let mut state = self.lock();
        if !state.closing && !ticket.is_void() {
            protocol::push_text_frame(&mut state.control, message);
            // most sockets follow one view: a vector of four places would be memory for three that never come
            state.readers.reserve_exact(1);
            state.readers.push(Reader { view, subscription, offset });
        }
    }

    /// Stops following; nothing where this subscription never did.
    pub fn leave(&self, subscription: u64) {
        let mut state = self.lock();
        if let Some(index) = state.readers.iter().position(|reader| reader.subscription == subscription) {
            state.finish_half();
            state.readers.remove(index);
        }
    }

    /// Its view is no more: the socket is closed with `code`, or told `message` where it follows others as well.
    pub fn lose(&self, view: &Arc<View>, code: CloseCode, reason: &str, message: &str) {
        let mut state = self.lock();
        if state.readers.len() < 2 {
            self.close_with(&mut state, code, reason);
        } else if let Some(index) = state.readers.iter().position(|reader| Arc::ptr_eq(&reader.view, view)) {
            state.finish_half();
            state.readers.remove(index);
            protocol::push_text_frame(&mut state.control, message);
        }
        drop(state);
        self.order(Order::Prune);
    }

    /// Says goodbye: nothing follows the close frame.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.close_with(&mut self.lock(), code, reason);
        self.session.wake();
        self.drained.notify_waiters();
    }

    fn close_with(&self, state: &mut State, code: CloseCode, reason: &str) {
        if state.close(code, reason) {
            self.count_close(code);
        }
    }

    fn count_close(&self, code: CloseCode) {
        self.metrics.closes.get_or_create(&Code { code: code as u32 }).inc();
    }

    /// Writes whatever is due until the kernel takes no more.
    pub fn flush(&self, cache: &mut DueCache) {
        let mut state = self.lock();
        if state.gone.is_some() {
            return;
        }
        if state.blocked {
            self.end_if_fallen_off(&mut state);
            return;
        }
        loop {
            match self.write_once(&mut state, cache) {
                Ok(Written::Nothing) => return,
                Ok(Written::All(written)) => {
                    self.metrics.bytes.inc_by(written as u64);
                    return;
                }
                Ok(Written::Part(written)) => {
                    self.metrics.bytes.inc_by(written as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    state.blocked = true;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    state.gone = Some(Gone::Broken);
                    break;
                }
            }
        }
        let gone = state.gone.is_some();
        drop(state);
        self.session.wake();
        if gone {
            self.drained.notify_waiters();
        }
    }

    /// One write of everything that is due.
    fn write_once(&self, state: &mut State, cache: &mut DueCache) -> io::Result<Written> {
        if let ([reader], true) = (&mut state.readers[..], state.control.is_empty()) {
            let Ok(due) = cache.due(reader) else { return self.fall_off(state) };
            let written = match &due.bytes[..] {
                [] => return Ok(Written::Nothing),
                [only] => self.tcp.try_write(only)?,
                many => self.tcp.try_write_vectored(&many.iter().map(|b| IoSlice::new(b)).collect::<Vec<_>>())?,
            };
            let wanted: usize = due.bytes.iter().map(bytes::Bytes::len).sum();
            reader.offset += written as u64;
            let is_all = written == wanted;
            // what was due is bounded in segments, so there may be more
            let has_more = due.bytes.len() >= DUE_SEGMENTS;
            state.half = if is_all { Half::None } else { state.half_after(0) };
            return Ok(if is_all && !has_more { Written::All(written) } else { Written::Part(written) });
        }
        let mut all_due = Vec::with_capacity(state.readers.len());
        for reader in &state.readers {
            match cache.due(reader) {
                Ok(due) => all_due.push(due.clone()),
                Err(FellOff) => return self.fall_off(state),
            }
        }
        // the frame that is cut in half goes on first, then control, then the views
        let mut slices = Vec::new();
        let first = match state.half {
            Half::Reader(index) => Some(index),
            Half::None | Half::Control => None,
        };
        let order: Vec<Option<usize>> = first
            .into_iter()
            .map(Some)
            .chain([None])
            .chain((0..state.readers.len()).filter(|index| Some(*index) != first).map(Some))
            .collect();
        for part in &order {
            match part {
                None => slices.push(IoSlice::new(&state.control)),
                Some(index) => slices.extend(all_due[*index].bytes.iter().map(|b| IoSlice::new(b))),
            }
        }
        slices.retain(|slice| !slice.is_empty());
        if slices.is_empty() {
            return Ok(Written::Nothing);
        }
        let written = self.tcp.try_write_vectored(&slices)?;
        drop(slices);
        let had_control = !state.control.is_empty();
        let mut left = written;
        for part in order {
            if left == 0 {
                break;
            }
            match part {
                None => {
                    let taken = left.min(state.control.len());
                    let whole = taken == state.control.len();
                    state.control.drain(..taken);
                    state.half = if whole { Half::None } else { Half::Control };
                    left -= taken;
                }
                Some(index) => {
                    let length: usize = all_due[index].bytes.iter().map(bytes::Bytes::len).sum();
                    let taken = left.min(length);
                    state.readers[index].offset += taken as u64;
                    state.half = if taken == length { Half::None } else { state.half_after(index) };
                    left -= taken;
                }
            }
        }
        if state.control.is_empty() && had_control {
            // few sockets say anything of their own, and then seldom
            state.control = Vec::new();
            state.answers = 0;
            self.drained.notify_waiters();
        }
        Ok(Written::Part(written))
    }

    /// A reader's place is no longer kept: say so if the wire is at a border, else there is nothing left to say.
    fn fall_off(&self, state: &mut State) -> io::Result<Written> {
        if matches!(state.half, Half::Reader(_)) {
            self.count_close(CloseCode::TooSlow);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.close_with(state, CloseCode::TooSlow, "too slow: resume with your last cursor");
        let written = self.tcp.try_write(&state.control)?;
        state.control.drain(..written);
        Ok(Written::Part(written))
    }

    fn end_if_fallen_off(&self, state: &mut State) {
        if !state.readers.iter().any(|reader| reader.view.log().due(reader.offset).is_err()) {
            return;
        }
        match self.fall_off(state) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => state.gone = Some(Gone::Broken),
            Ok(_) => state.blocked = false,
        }
        self.session.wake();
    }

    /// Asks the client whether it is there, unless it did not answer the last time.
    pub(super) fn ping(&self) {
        if self.heard.swap(false, Relaxed) {
            self.control(protocol::push_ping_frame);
            self.flush(&mut DueCache::default());
        } else {
            self.lock().gone = Some(Gone::Silent);
            self.session.wake();
            self.drained.notify_waiters();
        }
    }

    /// Tells the session to do something.
    pub(super) fn order(&self, order: Order) {
        self.orders.fetch_or(order as u8, Relaxed);
        self.session.wake();
    }

    /// Whether that was ordered since the last time.
    pub(super) fn takes_order(&self, order: Order) -> bool {
        self.orders.load(Relaxed) & order as u8 != 0
            && self.orders.fetch_and(!(order as u8), Relaxed) & order as u8 != 0
    }

    /// The task that is woken when the socket is blocked, closing or gone.
    pub(super) fn wakes(&self, session: &Context<'_>) {
        self.session.register(session.waker());
    }

    /// Whether the client has sent something, or closed.
    ///
    /// The task's waker takes the place of the one that the handshake left behind, and with it the memory of the
    /// handshake's task goes (1.1 KiB a socket).
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.tcp.poll_read_ready(context);
        if ready.is_ready() {
            self.heard.store(true, Relaxed);
        }
        ready
    }

    /// Whether a blocked socket takes more again; ready then, and pending where it was not blocked.
    pub(super) fn poll_unblocked(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.blocked && self.tcp.poll_write_ready(context).is_ready() {
            state.blocked = false;
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Whether a close frame was put.
    pub fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Why nothing can be written any more, if so.
    pub fn gone(&self) -> Option<Gone> {
        self.lock().gone
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.try_read(buffer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it was not closing yet.
    fn close(&mut self, code: CloseCode, reason: &str) -> bool {
        if self.closing {
            return false;
        }
        self.finish_half();
        self.readers.clear();
        protocol::push_close_frame(&mut self.control, code, reason);
        self.closing = true;
        true
    }

    /// Moves the rest of a frame that is cut in half into `control`, so that its reader may go.
    fn finish_half(&mut self) {
        let Half::Reader(index) = self.half else { return };
        let reader = &self.readers[index];
        let Some(rest) = reader.view.log().rest_of_frame(reader.offset) else {
            // what follows would stand in the middle of a frame
            self.gone = Some(Gone::Broken);
            self.half = Half::None;
            return;
        };
        self.control.splice(..0, rest.iter().copied());
        // this reader may stay: what control sends now is not to be sent again
        self.readers[index].offset += rest.len() as u64;
        self.half = Half::Control;
    }

    fn half_after(&self, index: usize) -> Half {
        let reader = &self.readers[index];
        match reader.view.log().due(reader.offset) {
            Ok(due) if due.at_border => Half::None,
            Ok(_) | Err(FellOff) => Half::Reader(index),
        }
    }
}

impl DueCache {
    fn due(&mut self, reader: &Reader) -> Result<&Due, FellOff> {
        let fits = self
            .0
            .as_ref()
            .is_some_and(|(view, offset, _)| *offset == reader.offset && Arc::ptr_eq(view, &reader.view));
        if !fits {
            self.0 = Some((reader.view.clone(), reader.offset, reader.view.log().due(reader.offset)?));
        }
        self.0.as_ref().map(|(_, _, due)| due).ok_or(FellOff)
    }
}
