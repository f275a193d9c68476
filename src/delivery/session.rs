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
use tokio::time::Instant;

use super::hub::{Hub, JoinError, Subscription};
use super::outbound::{DueCache, Outbound};
use super::protocol::{self, CloseCode, Command};
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
    /// joins that wait until capture is live
    waiting: Vec<(ViewKey, Option<Value>)>,
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
        Self { hub, outbound, socket, limits, subscriptions: Vec::new(), waiting: Vec::new() }
    }

    /// Talks to the client until either side ends it, joining `first` at once.
    pub async fn run(mut self, first: Option<ViewKey>, mut shutdown: Shutdown) -> Ended {
        let mut live = self.hub.live();
        if let Some(key) = first {
            self.join(key, None);
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
                self.waiting.clear();
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
                () = becomes_live(&mut live), if !self.waiting.is_empty() && !closing => {
                    for (key, reference) in std::mem::take(&mut self.waiting) {
                        self.join(key, reference);
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
            Ok(Command::Subscribe { channel, r#ref }) => {
                let key = ViewKey::Channel(channel.into());
                if self.is_joined(&key) {
                    let text = format!("already subscribed to {}", key.label());
                    self.refuse(&protocol::error("already_subscribed", &text, r#ref.as_ref()));
                } else if self.subscriptions.len() + self.waiting.len() >= self.limits.subscriptions {
                    let text = format!("a socket may have {} subscriptions", self.limits.subscriptions);
                    self.refuse(&protocol::error("too_many_subscriptions", &text, r#ref.as_ref()));
                } else {
                    self.join(key, r#ref);
                }
            }
            Ok(Command::Unsubscribe { channel, r#ref }) => {
                let key = ViewKey::Channel(channel.into());
                if self.is_joined(&key) {
                    self.subscriptions.retain(|subscription| *subscription.key() != key);
                    self.waiting.retain(|(waiting, _)| *waiting != key);
                    self.outbound.say(&protocol::unsubscribed(&key.label(), r#ref.as_ref()));
                } else {
                    let text = format!("not subscribed to {}", key.label());
                    self.refuse(&protocol::error("not_subscribed", &text, r#ref.as_ref()));
                }
            }
        }
    }

    fn join(&mut self, key: ViewKey, reference: Option<Value>) {
        match self.hub.join(&key, &self.outbound, reference.as_ref()) {
            Ok(subscription) => self.subscriptions.push(subscription),
            Err(JoinError::NotLive) => self.waiting.push((key, reference)),
            Err(JoinError::UnknownChannel) => {
                let text = format!("there is no channel {}", key.label());
                self.refuse(&protocol::error("unknown_channel", &text, reference.as_ref()));
            }
        }
    }

    fn is_joined(&self, key: &ViewKey) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.key() == key)
            || self.waiting.iter().any(|(waiting, _)| waiting == key)
    }

    fn refuse(&self, error: &str) {
        self.hub.metrics().errors.fetch_add(1, Relaxed);
        self.outbound.say(error);
    }
}

async fn becomes_live(live: &mut tokio::sync::watch::Receiver<bool>) {
    // an error means that the hub is gone; the shutdown ends the session
    let _ = live.wait_for(|live| *live).await;
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
