//! One client's conversation: joins, commands, pings, goodbye. Owns its subscriptions and its patience; the writing
//! of changes is the shard's, reading frames is tungstenite's.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use hyper_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::hub::{Hub, JoinError, Subscription};
use super::lens::Unfit;
use super::outbound::{DueCache, Outbound};
use super::protocol::{self, CloseCode, Command};
use super::resume::{Failed, Resume, Wish};
use super::route::ViewKey;
use crate::shutdown::Shutdown;

/// What a socket may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// bytes of a message from a client
    pub message_bytes: usize,
    /// a client that says nothing for this long is pinged, and gone when it says nothing for as long again
    pub ping: Duration,
    /// channels and users on one socket
    pub subscriptions: usize,
}

/// After the close frame, how long the client may take to answer it.
const GOODBYE: Duration = Duration::from_secs(2);
/// Bytes that tungstenite asks for at a time; commands are short. It is kept for each socket.
const READ_BUFFER: usize = 512;
/// Messages of one client that are answered before other tasks of the thread run.
const COMMANDS_AT_A_TIME: usize = 64;

/// A socket after its upgrade.
pub struct Session {
    hub: Arc<Hub>,
    outbound: Arc<Outbound>,
    socket: WebSocket<Inbound>,
    limits: Limits,
    subscriptions: Vec<Subscription>,
    /// on their way to the present, or waiting until capture is live
    joining: JoinSet<Joined>,
    joining_keys: Vec<(ViewKey, AbortHandle)>,
}

/// How joining ended.
type Joined = Result<Subscription, (ViewKey, Option<Value>, Failed)>;

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

impl Session {
    /// A session over `outbound`. `received` is what the client sent together with its handshake.
    pub fn new(hub: Arc<Hub>, outbound: Arc<Outbound>, received: Vec<u8>, limits: Limits) -> Self {
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = READ_BUFFER;
        config.write_buffer_size = 0;
        config.max_write_buffer_size = 64 * 1024;
        config.max_message_size = Some(limits.message_bytes);
        config.max_frame_size = Some(limits.message_bytes);
        let inbound = Inbound { outbound: outbound.clone(), replies: Vec::new() };
        let socket = WebSocket::from_partially_read(inbound, received, Role::Server, Some(config));
        let (subscriptions, joining, joining_keys) = (Vec::new(), JoinSet::new(), Vec::new());
        Self { hub, outbound, socket, limits, subscriptions, joining, joining_keys }
    }

    /// Talks to the client until either side ends it, joining `first` at once.
    pub async fn run(mut self, first: Option<(ViewKey, Wish)>, mut shutdown: Shutdown) -> Ended {
        if let Some((key, wish)) = first {
            self.join(key, wish, None);
        }
        // pings are spread over the interval, so that ten thousand sockets are not pinged at once
        let mut next_ping = Instant::now() + self.limits.ping.mul_f64(0.5 + 0.5 * fastrand::f64());
        let mut pinged = false;
        let mut goodbye = None;
        loop {
            self.outbound.flush(&mut DueCache::default());
            if self.outbound.is_gone() {
                return Ended::Broken;
            }
            if self.outbound.is_closing() {
                self.subscriptions.clear();
                self.joining.abort_all();
                goodbye.get_or_insert_with(|| Instant::now() + GOODBYE);
            }
            let closing = goodbye.is_some();
            tokio::select! {
                ready = self.outbound.ready() => match ready {
                    Err(_) => return Ended::Broken,
                    Ok(ready) => {
                        if ready.is_writable() {
                            self.outbound.unblock();
                        }
                        if ready.is_readable() || ready.is_read_closed() {
                            pinged = false;
                            match self.read() {
                                Reading::Goes => {}
                                Reading::Paused => tokio::task::yield_now().await,
                                Reading::Over(ended) => return ended,
                            }
                        }
                    }
                },
                () = self.outbound.changed() => {}
                () = tokio::time::sleep_until(goodbye.unwrap_or(next_ping)) => {
                    if closing {
                        return Ended::Closed;
                    }
                    if pinged {
                        return Ended::Silent;
                    }
                    pinged = true;
                    next_ping = Instant::now() + self.limits.ping;
                    self.outbound.control(protocol::push_ping_frame);
                },
                () = shutdown.begun(), if !closing => {
                    self.outbound.close(CloseCode::Draining, "the server goes down: reconnect");
                },
                Some(joined) = self.joining.join_next(), if !self.joining.is_empty() => {
                    if let Ok(joined) = joined {
                        self.joined(joined);
                    }
                },
            }
        }
    }

    fn read(&mut self) -> Reading {
        for _ in 0..COMMANDS_AT_A_TIME {
            let read = self.socket.read();
            self.send_replies();
            match read {
                Ok(Message::Text(text)) => self.obey(&text),
                Ok(Message::Binary(_)) => {
                    self.refuse(&protocol::error(
                        "bad_message",
                        "binary frames are not understood: send JSON as text",
                        None,
                    ));
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // tungstenite has put the answer into the replies; nothing may follow it
                    self.outbound.flush(&mut DueCache::default());
                    return Reading::Over(Ended::Closed);
                }
                Err(WsError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return Reading::Goes,
                Err(WsError::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                    self.outbound
                        .close(CloseCode::TooBig, &format!("{size} bytes are more than the {max_size} of a message"));
                    return Reading::Goes;
                }
                Err(WsError::Protocol(e)) if !self.outbound.is_closing() => {
                    self.outbound.close(CloseCode::Protocol, &e.to_string());
                    return Reading::Goes;
                }
                Err(WsError::Utf8(_)) => {
                    self.outbound.close(CloseCode::NotUtf8, "text that is not UTF-8");
                    return Reading::Goes;
                }
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => return Reading::Over(Ended::Closed),
                Err(_) if self.outbound.is_closing() => return Reading::Over(Ended::Closed),
                Err(_) => return Reading::Over(Ended::Broken),
            }
        }
        Reading::Paused
    }

    /// Hands what tungstenite answered by itself (pongs, the answer to a close) to the writing half, which puts it
    /// between two frames.
    fn send_replies(&mut self) {
        let replies = std::mem::take(&mut self.socket.get_mut().replies);
        if !replies.is_empty() {
            self.outbound.control(|control| control.extend_from_slice(&replies));
        }
    }

    fn obey(&mut self, text: &str) {
        self.hub.metrics().received.fetch_add(1, Relaxed);
        match protocol::parse_command(text) {
            Err(error) => self.refuse(&error),
            Ok(Command::Ping { r#ref }) => self.outbound.say(&protocol::pong(r#ref.as_ref())),
            Ok(Command::Test {}) => self.outbound.say(text),
            Ok(Command::Subscribe { channel, since, snapshot, filter, columns, old, r#ref }) => {
                let ask = protocol::ask_of(filter, columns, old);
                let sees_everything = ask.is_everything();
                let key = ViewKey::named(&channel, ask);
                if matches!(key, ViewKey::User(_)) && (snapshot || !sees_everything) {
                    let text = "a user's notifications have no snapshot, filter, columns or old";
                    self.refuse(&protocol::error("bad_message", text, r#ref.as_ref()));
                } else if self.is_joined(&channel) {
                    let text = format!("already subscribed to {channel}: unsubscribe first, or open another socket");
                    self.refuse(&protocol::error("already_subscribed", &text, r#ref.as_ref()));
                } else if self.subscriptions.len() + self.joining_keys.len() >= self.limits.subscriptions {
                    let text = format!("a socket may have {} subscriptions", self.limits.subscriptions);
                    self.refuse(&protocol::error("too_many_subscriptions", &text, r#ref.as_ref()));
                } else {
                    self.join(key, Wish { since, snapshot }, r#ref);
                }
            }
            Ok(Command::Unsubscribe { channel, r#ref }) => {
                if self.is_joined(&channel) {
                    self.subscriptions.retain(|subscription| subscription.key().label() != channel);
                    self.joining_keys.retain(|(joining, task)| {
                        let goes = joining.label() == channel;
                        if goes {
                            task.abort();
                        }
                        !goes
                    });
                    self.outbound.say(&protocol::unsubscribed(&channel, r#ref.as_ref()));
                } else {
                    let shown: String = channel.chars().take(40).collect();
                    let text = format!("not subscribed to {shown}");
                    self.refuse(&protocol::error("not_subscribed", &text, r#ref.as_ref()));
                }
            }
        }
    }

    fn join(&mut self, key: ViewKey, wish: Wish, reference: Option<Value>) {
        // whoever only wants the stream needs no task of its own
        if wish.since.is_none() && !wish.snapshot {
            match self.hub.join(&key, &self.outbound, reference.as_ref()) {
                Ok(subscription) => return self.subscriptions.push(subscription),
                Err(JoinError::NotLive) => {}
                Err(error) => return self.failed(&key, reference.as_ref(), &error.into()),
            }
        }
        let way = Resume::new(self.hub.clone(), self.outbound.clone(), key.clone(), reference.clone());
        let joining = key.clone();
        let task = self
            .joining
            .spawn(async move { Box::pin(way.run(wish)).await.map_err(|failed| (joining, reference, failed)) });
        self.joining_keys.push((key, task));
    }

    fn joined(&mut self, joined: Joined) {
        let key = match &joined {
            Ok(subscription) => subscription.key(),
            Err((key, _, _)) => key,
        };
        let was_joining = self.joining_keys.iter().any(|(joining, _)| joining == key);
        self.joining_keys.retain(|(joining, _)| joining != key);
        match joined {
            // unsubscribed while it joined: dropping it leaves
            Ok(subscription) if was_joining && !self.outbound.is_closing() => self.subscriptions.push(subscription),
            Ok(_) => {}
            Err((key, reference, failed)) => self.failed(&key, reference.as_ref(), &failed),
        }
    }

    fn failed(&self, key: &ViewKey, reference: Option<&Value>, failed: &Failed) {
        match failed {
            Failed::Gone => {}
            Failed::UnknownChannel => {
                let text = format!("there is no channel {}", key.label());
                self.refuse(&protocol::error("unknown_channel", &text, reference));
            }
            Failed::Unfit(Unfit(text)) => self.refuse(&protocol::error("bad_filter", text, reference)),
            // nothing is lost: the cursor of the last message that was sent is good
            Failed::Unanswered => {
                self.outbound
                    .close(CloseCode::TooSlow, "the past could not be read to its end: resume with your last cursor");
            }
        }
    }

    fn is_joined(&self, label: &str) -> bool {
        let joined = self.subscriptions.iter().map(Subscription::key);
        joined.chain(self.joining_keys.iter().map(|(key, _)| key)).any(|key| key.label() == label)
    }

    fn refuse(&self, error: &str) {
        self.hub.metrics().errors.fetch_add(1, Relaxed);
        self.outbound.say(error);
    }
}

enum Reading {
    /// everything that had arrived was read
    Goes,
    /// there may be more
    Paused,
    Over(Ended),
}

/// What tungstenite reads from and writes to: the socket's bytes in, its own answers out.
struct Inbound {
    outbound: Arc<Outbound>,
    replies: Vec<u8>,
}

impl Read for Inbound {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.outbound.try_read(buffer)
    }
}

impl Write for Inbound {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
