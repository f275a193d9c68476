//! One client's conversation: commands, joins, goodbye. Owns its subscriptions and its patience; the writing of changes
//! is the shard's, reading frames is tungstenite's.

mod pace;
mod rights;
mod sync;

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use serde_json::Value;
use tokio::time::Sleep;

use super::catch_up::{CatchUp, JoinFailed, SubscribeOptions};
use super::pending::{NotJoined, Pending};
use super::rows::{PageReader, PendingPages, Wish};
use super::syncs::Syncs;
use super::token_lease::TokenLease;
use crate::delivery::access::auth::Identity;
use crate::delivery::access::shares::{STRANGER_BYTES, Share};
use crate::delivery::fanout::hub::{Hub, JoinError, Subscription};
use crate::delivery::scope::label::Label;
use crate::delivery::scope::paging::WantedRows;
use crate::delivery::scope::telling::Telling;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::keepalive::RingSlot;
use crate::delivery::socket::reader::{Full, SocketReader};
use crate::delivery::socket::writer::{CancelFlag, DueCache, Instruction, Life, SocketWriter};
use crate::delivery::wire::command::{self, Command};
use crate::delivery::wire::frame::CloseCode;
use crate::delivery::wire::protocol;
use pace::{CommandPace, TooFast};

/// What a socket may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// bytes of a message from a client
    pub message_bytes: u32,
    /// on one socket
    pub subscriptions: u32,
    /// commands of a client a second, and as many more at once; of `subscribe` and `unsubscribe`
    /// besides twice as many as there may be subscriptions
    pub commands_per_second: NonZeroU32,
}

/// After the close frame, how long the client may take to answer it.
const GOODBYE: Duration = Duration::from_secs(2);
/// A client that goes on after so many commands were refused as too many is closed.
const REFUSED: u32 = 100;
/// Messages of one client that are answered before other tasks of the thread run.
const COMMANDS_AT_A_TIME: usize = 64;

/// A socket after its upgrade. It is small, since there are many: what only some of them need is behind a pointer.
pub struct Session {
    hub: Arc<Hub>,
    writer: Arc<SocketWriter>,
    standing: RingSlot,
    inbound: SocketReader,
    limits: Limits,
    /// `None` where everybody may see everything
    pass: Option<Box<TokenLease>>,
    /// what it counts for
    share: Box<Share>,
    /// made at the first command
    pace: Option<Box<CommandPace>>,
    subscriptions: Vec<Subscription>,
    /// on their way to the present, or waiting until capture is live
    pending: Option<Box<Pending>>,
    /// commands that are answered later
    unanswered: Option<Box<Unanswered>>,
    /// set once a close frame was put
    goodbye: Option<Pin<Box<Sleep>>>,
}

/// Commands that are answered once something has come.
#[derive(Default)]
struct Unanswered {
    syncs: Syncs,
    pages: PendingPages,
}

/// Why a session is over; the summary line of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// either side closed
    Closed,
    /// the connection broke
    Broken,
    /// the client did not answer a ping
    Silent,
}

/// Talks to the client until either side ends it. By hand: an `async fn` would keep the session twice.
impl Future for Session {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        self.get_mut().talk(context)
    }
}

impl Session {
    /// A session over `writer`. `received` is what the client sent together with its handshake, `who` it is where
    /// tokens are checked; `wants_cuts`: it is told the end of each cut.
    pub fn new(
        hub: Arc<Hub>,
        writer: Arc<SocketWriter>,
        received: Vec<u8>,
        limits: Limits,
        who: Option<Arc<Identity>>,
        share: Box<Share>,
        wants_cuts: bool,
    ) -> Self {
        if wants_cuts {
            writer.want_cuts();
        }
        let user = who.as_ref().and_then(|who| who.user.clone());
        let standing = hub.keepalive().enter(&writer, user, share.address());
        // a socket that has brought no token may bring one, and do little else
        let is_stranger = who.as_ref().is_some_and(|who| who.expires.is_none());
        let message_bytes = if is_stranger { limits.message_bytes.min(STRANGER_BYTES) } else { limits.message_bytes };
        let inbound = SocketReader::new(&writer, received, message_bytes, hub.unfinished());
        // it may have been revoked since the handshake, when this socket was not among those that were told
        if hub.keys().zip(who.as_ref()).is_some_and(|(keys, who)| keys.is_revoked(who)) {
            writer.close(CloseCode::Unauthenticated, "the token was revoked");
        }
        let pass = hub.keys().zip(who).map(|(keys, who)| Box::new(TokenLease::new(keys.clone(), who)));
        let (pace, subscriptions, pending, unanswered, goodbye) = (None, Vec::new(), None, None, None);
        Self { hub, writer, standing, inbound, limits, pass, share, pace, subscriptions, pending, unanswered, goodbye }
    }

    /// Joins what the path names.
    pub fn begin(&mut self, asked: ViewKey, wish: SubscribeOptions) {
        self.join(asked, wish, None);
    }

    fn talk(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        self.writer.wakes(context);
        loop {
            if self.writer.wants_cuts() {
                self.writer.tell_cuts(self.hub.frontier(), context);
            }
            self.writer.flush(&mut DueCache::default());
            match self.writer.life() {
                Life::Open => {}
                Life::Silent => return Poll::Ready(Ended::Silent),
                Life::Broken => return Poll::Ready(Ended::Broken),
                Life::Closing => {
                    self.subscriptions.clear();
                    (self.pending, self.unanswered) = (None, None);
                    let goodbye = self.goodbye.get_or_insert_with(|| Box::pin(tokio::time::sleep(GOODBYE)));
                    if goodbye.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Ended::Closed);
                    }
                }
            }
            if self.writer.takes_order(Instruction::Prune) {
                self.subscriptions.retain(Subscription::is_open);
            }
            if self.writer.takes_order(Instruction::Revoked) && !self.writer.is_ending() {
                self.look_at_revocation();
                continue;
            }
            if self.writer.takes_order(Instruction::Reconsider) && !self.writer.is_ending() {
                self.reconsider();
                continue;
            }
            if self.writer.takes_order(Instruction::Settled) && !self.writer.is_ending() {
                self.settle();
                continue;
            }
            if self.poll_pass(context).is_ready()
                || self.poll_joined(context).is_ready()
                || self.poll_synced(context).is_ready()
                || self.writer.poll_unblocked(context).is_ready()
            {
                continue;
            }
            if ready!(self.writer.poll_readable(context)).is_err() {
                return Poll::Ready(Ended::Broken);
            }
            match self.read() {
                ReadOutcome::Goes => {}
                ReadOutcome::Paused => {
                    context.waker().wake_by_ref();
                    self.writer.flush(&mut DueCache::default());
                    return Poll::Pending;
                }
                ReadOutcome::Over(ended) => return Poll::Ready(ended),
            }
        }
    }

    fn read(&mut self) -> ReadOutcome {
        for _ in 0..COMMANDS_AT_A_TIME {
            match self.inbound.read(&self.writer, self.hub.unfinished()) {
                // a client that was refused, or told to go, is answered nothing more
                Ok(Message::Text(_) | Message::Binary(_)) if self.writer.is_ending() => {}
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => self.hear(&message),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // tungstenite's answer is in the control frames; nothing may follow it
                    self.writer.flush(&mut DueCache::default());
                    return ReadOutcome::Over(Ended::Closed);
                }
                Err(WsError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    if let Err(Full) = self.inbound.note_held() {
                        self.hub.metrics().count_limit("messages");
                        self.writer
                            .close(CloseCode::Overloaded, "too many long messages are on their way: come back later");
                        // at once: to wait for its answer would be to read the rest
                        self.writer.flush(&mut DueCache::default());
                        return ReadOutcome::Over(Ended::Closed);
                    }
                    return if self.inbound.has_more() { ReadOutcome::Paused } else { ReadOutcome::Goes };
                }
                Err(WsError::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                    self.writer
                        .close(CloseCode::TooBig, &format!("{size} bytes are more than the {max_size} of a message"));
                    return ReadOutcome::Goes;
                }
                Err(WsError::Protocol(e)) if !self.writer.is_ending() => {
                    self.writer.close(CloseCode::Protocol, &e.to_string());
                    return ReadOutcome::Goes;
                }
                Err(WsError::Utf8(_)) => {
                    self.writer.close(CloseCode::NotUtf8, "text that is not UTF-8");
                    return ReadOutcome::Goes;
                }
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => return ReadOutcome::Over(Ended::Closed),
                Err(_) if self.writer.is_ending() => return ReadOutcome::Over(Ended::Closed),
                Err(_) => return ReadOutcome::Over(Ended::Broken),
            }
        }
        ReadOutcome::Paused
    }

    #[cfg(not(feature = "autobahn"))]
    fn hear(&mut self, message: &Message) {
        match message {
            Message::Text(text) => self.obey(text),
            _ if self.is_too_fast("") => {}
            _ => {
                let text = "binary frames are not understood: send JSON as text";
                self.refuse(&protocol::error("bad_message", text, None));
            }
        }
    }

    /// Sends back what came.
    #[cfg(feature = "autobahn")]
    fn hear(&self, message: &Message) {
        match message {
            Message::Text(text) => self.writer.echo(0x81, text.as_bytes()),
            Message::Binary(bytes) => self.writer.echo(0x82, bytes),
            _ => {}
        }
    }

    /// Whether this command is one too many; then it is answered.
    fn is_too_fast(&mut self, text: &str) -> bool {
        let pace = self.pace.get_or_insert_with(|| Box::new(CommandPace::new(&self.limits)));
        let Err(TooFast { wait, refused }) = pace.allow(text) else { return false };
        if refused > 1 {
            self.hub.metrics().count_limit("commands");
        } else if let Some(unlogged) = self.hub.metrics().refuse("commands") {
            tracing::warn!(event = "rate_limited", limit = self.limits.commands_per_second, unlogged);
        }
        if refused >= REFUSED {
            self.writer.close(CloseCode::RateLimited, "too many commands: come back later");
        }
        self.refuse(&protocol::rate_limited(wait.as_secs_f64(), command::reference_of(text).as_ref()));
        true
    }

    #[cfg_attr(feature = "autobahn", allow(dead_code, reason = "sockets echo"))]
    fn obey(&mut self, text: &str) {
        self.hub.metrics().received.inc();
        if self.is_too_fast(text) {
            return;
        }
        match command::parse(text) {
            Err(error) => self.refuse(&error),
            Ok(Command::Ping { r#ref }) => self.writer.say(&protocol::pong(r#ref.as_ref())),
            Ok(Command::Test {}) => self.writer.say(text),
            Ok(Command::Cuts {}) => self.writer.want_cuts(),
            Ok(Command::Sync { cursor, r#ref }) => self.sync(cursor, r#ref),
            Ok(Command::Auth { token, r#ref }) => self.authenticate(&token, r#ref.as_ref()),
            Ok(Command::Subscribe {
                channel,
                view,
                since,
                snapshot,
                partial,
                rows,
                filter,
                columns,
                old,
                changed,
                latest,
                every,
                r#ref,
            }) => {
                let selection = Telling::of(old, changed, latest, every).and_then(|telling| {
                    command::tagged(command::selection_of(filter, columns, telling), view.as_deref())
                });
                let key = selection.map(|selection| (selection.is_everything(), ViewKey::named(&channel, selection)));
                match (key, command::wanted_rows(snapshot, rows)) {
                    (Err(text), _) => self.refuse(&protocol::error("bad_message", &text, r#ref.as_ref())),
                    (Ok((is_everything, ViewKey::User(..))), Ok(rows))
                        if rows != WantedRows::Nothing || !is_everything =>
                    {
                        let text = "a user's notifications have no view, snapshot, rows, filter, columns, old, changed or latest";
                        self.refuse(&protocol::error("bad_message", text, r#ref.as_ref()));
                    }
                    (Ok(_), Err((code, text))) => self.refuse(&protocol::error(code, &text, r#ref.as_ref())),
                    (Ok((_, key)), Ok(rows)) => {
                        self.subscribe(key, SubscribeOptions { since, rows, in_pages: partial }, r#ref)
                    }
                }
            }
            Ok(Command::Rows { channel, view, filter, columns, paging, r#ref }) => {
                let selection = command::selection_of(filter, columns, Telling::default());
                let key = match view.as_deref() {
                    Some(_) if !selection.is_everything() => {
                        Err(("bad_message", "view has a filter and columns of its own".to_owned()))
                    }
                    Some(view) => self
                        .asked_by(&channel, view)
                        .ok_or_else(|| ("not_subscribed", format!("there is no view {view}"))),
                    None => Ok(ViewKey::named(&channel, selection)),
                };
                match (key, paging.parse()) {
                    (Ok(ViewKey::User(..)), _) => {
                        let text = "a user's notifications have no rows";
                        self.refuse(&protocol::error("bad_message", text, r#ref.as_ref()));
                    }
                    (Ok(key), Ok(spec)) => self.send_rows(Wish { key, spec, reference: r#ref }),
                    (Err((code, text)), _) => self.refuse(&protocol::error(code, &text, r#ref.as_ref())),
                    (_, Err(text)) => self.refuse(&protocol::error("bad_order", &text, r#ref.as_ref())),
                }
            }
            Ok(Command::Unsubscribe { channel, view, r#ref }) => {
                let is_meant = |label: &Label| {
                    *label.channel == *channel
                        && match (view.as_deref(), &label.tag) {
                            (None, _) | (Some(""), None) => true,
                            (Some(_), None) => false,
                            (Some(view), Some(tag)) => tag.is(view),
                        }
                };
                let left: Vec<Label> = self.asked().map(ViewKey::label).filter(is_meant).collect();
                self.subscriptions.retain(|subscription| !is_meant(&subscription.key().label()));
                if let Some(pending) = &mut self.pending {
                    pending.cancel(is_meant);
                }
                if let Some(unanswered) = &self.unanswered {
                    unanswered.pages.cancel(is_meant);
                }
                for label in &left {
                    self.writer.say(&protocol::unsubscribed(label, r#ref.as_ref()));
                }
                if left.is_empty() {
                    let shown: String = channel.chars().take(40).collect();
                    let text = format!("not subscribed to {shown}");
                    self.refuse(&protocol::error("not_subscribed", &text, r#ref.as_ref()));
                }
            }
        }
    }

    /// What a subscription of this socket is of, by its name.
    fn asked_by(&self, channel: &str, view: &str) -> Option<ViewKey> {
        let mut asked = self.asked().map(|key| (key, key.label()));
        let is_meant = |label: &Label| *label.channel == *channel && label.tag.as_ref().is_some_and(|tag| tag.is(view));
        asked.find(|(_, label)| is_meant(label)).map(|(key, _)| key.asked())
    }

    fn send_rows(&mut self, wish: Wish) {
        let asker = PageReader {
            hub: self.hub.clone(),
            writer: self.writer.clone(),
            who: self.who(),
            asker: self.share.asker(),
        };
        let reference = wish.reference.clone();
        // it would overtake what its client is told of the rows that come and go
        let before = self.pending.as_mut().filter(|pending| pending.has_regrants()).map(|pending| pending.ends());
        if !self.unanswered.get_or_insert_default().pages.send(asker, wish, before) {
            let text = "too many pages are on their way to this socket: wait for one";
            self.refuse(&protocol::error("too_many_pages", text, reference.as_ref()));
        }
    }

    fn subscribe(&mut self, key: ViewKey, wish: SubscribeOptions, reference: Option<Value>) {
        let label = key.label();
        if self.asked().any(|known| known.label() == label) {
            let view = label.tag.as_ref().map(|tag| format!(" by the view {tag}")).unwrap_or_default();
            let text = format!("already subscribed to {label}{view}: unsubscribe first, or give this one another view");
            self.refuse(&protocol::error("already_subscribed", &text, reference.as_ref()));
        } else if self.asked().count() >= self.limits.subscriptions as usize {
            let text = format!("a socket may have {} subscriptions", self.limits.subscriptions);
            self.refuse(&protocol::error("too_many_subscriptions", &text, reference.as_ref()));
        } else {
            self.join(key, wish, reference);
        }
    }

    fn join(&mut self, asked: ViewKey, wish: SubscribeOptions, reference: Option<Value>) {
        let (who, asker) = (self.who(), self.share.asker());
        let permitted = self.hub.permit(&asked, who.as_deref());
        // a subscriber that only wants the stream needs no task of its own
        if wish.is_the_stream() {
            let joined = permitted
                .clone()
                .and_then(|key| self.hub.join(&key, who.as_deref(), &self.writer, &asker, reference.as_ref()));
            match joined {
                Ok(subscription) => return self.follow(subscription),
                // it may have been made a moment ago: the way is to wait for the present
                Err(JoinError::NotLive | JoinError::InDoubt | JoinError::UnknownChannel) => {}
                Err(JoinError::Unfit(_)) if permitted.as_ref().is_ok_and(|key| self.hub.lacks_column(key)) => {}
                Err(error) => return self.failed(&asked, reference.as_ref(), &error.into()),
            }
        }
        let cancel = CancelFlag::default();
        let way = self.way_to(asked.clone(), reference.clone(), cancel.clone());
        self.pending.get_or_insert_default().send(way, wish, asked, permitted.ok(), reference, cancel);
    }

    fn way_to(&self, asked: ViewKey, reference: Option<Value>, cancel: CancelFlag) -> CatchUp {
        let (hub, writer) = (self.hub.clone(), self.writer.clone());
        CatchUp::new(hub, writer, asked, self.who(), self.share.asker(), reference, cancel)
    }

    fn follow(&mut self, subscription: Subscription) {
        self.share.is_known();
        self.inbound.allow(self.limits.message_bytes);
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push(subscription);
    }

    /// Ready when a subscription has joined or failed; pending when none is on its way.
    fn poll_joined(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pending) = &mut self.pending else { return Poll::Pending };
        match ready!(pending.poll_next(context)) {
            Some(Ok(subscription)) => {
                // else dropping it leaves
                match subscription.is_open() {
                    _ if self.writer.is_ending() => {}
                    true => self.follow(subscription),
                    false => {
                        self.lost(&subscription);
                        drop(subscription);
                    }
                }
                self.settle_what_joined();
            }
            Some(Err(failed)) => {
                let NotJoined { asked, reference, failed, is_regrant } = *failed;
                self.failed(&asked, reference.as_ref(), &failed);
                if is_regrant && matches!(failed, JoinFailed::Forbidden) && self.asked().next().is_none() {
                    self.writer.close(CloseCode::Forbidden, "the token no longer allows what this socket is for");
                }
                self.settle_what_joined();
            }
            None => {
                self.pending = None;
                self.settle_what_joined();
            }
        }
        Poll::Ready(())
    }

    /// What its holder has of claims may have been settled before one that has joined, or was called off, was known here: all wait
    /// for it then.
    fn settle_what_joined(&mut self) {
        if self.writer.is_ending() {
            return;
        }
        if self.subscriptions.iter().any(|subscription| subscription.key().has_members()) {
            self.settle();
        } else if self.writer.wants_cuts() {
            // the others were held with one that has gone
            self.hub.release(self.who().as_deref(), &self.writer, &self.subscriptions);
        }
    }

    /// Its view was taken away while it was on its way. Nobody has told the client, where it did not follow by then.
    fn lost(&self, subscription: &Subscription) {
        if subscription.leave() {
            let failed =
                self.hub.projection(subscription.key()).err().map_or(JoinFailed::UnknownChannel, JoinFailed::from);
            self.failed(subscription.key(), None, &failed);
        }
    }

    fn failed(&self, key: &ViewKey, reference: Option<&Value>, failed: &JoinFailed) {
        match failed {
            JoinFailed::Gone => {}
            // nothing is lost: the cursor of the last message that was sent is good
            JoinFailed::Unanswered => {
                self.writer.close(
                    CloseCode::PastUnread,
                    "the past could not be read to its end: resume with your last cursor",
                );
            }
            // a path's own: there is nothing else for it to do
            JoinFailed::TooMany(what) if reference.is_none() && self.asked().next().is_none() => {
                self.count_too_many(what.limit);
                self.writer.close(CloseCode::Overloaded, what.reason);
            }
            // its client comes back to the path after a pause
            JoinFailed::Later if reference.is_none() && self.asked().next().is_none() => {
                self.writer.close(CloseCode::PastUnread, "the rows cannot be read for the moment: come back");
            }
            JoinFailed::UnknownChannel
            | JoinFailed::Later
            | JoinFailed::Forbidden
            | JoinFailed::Unfit(_)
            | JoinFailed::NoOrder(_)
            | JoinFailed::TooMany(_) => {
                if let JoinFailed::TooMany(what) = failed {
                    self.count_too_many(what.limit);
                }
                if matches!(failed, JoinFailed::Forbidden) {
                    let channel: String = key.channel().map_or("user", |name| name).chars().take(40).collect();
                    if let Some(unlogged) = self.hub.metrics().refuse("policy") {
                        tracing::warn!(event = "forbidden", channel, unlogged);
                    }
                }
                let (code, text) = failed.explain(key);
                // where no command asks, the channel says what it is about
                self.refuse(&match reference {
                    Some(_) => protocol::error(code, &text, reference),
                    None => protocol::channel_error(code, &text, &key.label()),
                });
            }
        }
    }

    fn count_too_many(&self, limit: &'static str) {
        if let Some(unlogged) = self.hub.metrics().refuse(limit) {
            tracing::warn!(event = "subscription_refused", address = %self.share.address(), limit, unlogged);
        }
    }

    /// What it is joined to, or on its way to.
    fn asked(&self) -> impl Iterator<Item = &ViewKey> {
        let pending = self.pending.iter().flat_map(|pending| pending.asked());
        self.subscriptions.iter().map(Subscription::key).chain(pending)
    }

    fn refuse(&self, error: &str) {
        self.hub.metrics().errors.inc();
        self.writer.say(error);
    }
}

enum ReadOutcome {
    /// everything that had arrived was read
    Goes,
    /// there may be more
    Paused,
    Over(Ended),
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.keepalive().leave(self.standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 120, "{} bytes", size_of::<Session>());
        // with its counts, what fits into an allocation of 232 bytes
        assert!(size_of::<SocketWriter>() <= 208, "{} bytes", size_of::<SocketWriter>());
    }
}
