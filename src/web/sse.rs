//! Server-sent events: the messages of one channel or user for clients without WebSockets, `curl -N` and `EventSource`.
//! Owns their text format; everything else is a socket's.
//!
//! An event stream is a WebSocket client inside the server: a session talks over a pair of sockets inside the process,
//! and what it says is written as events. So resume, policies, limits and a slow client are the session's, the same as
//! for everybody, and a stream costs two more sockets and a copy. Where many are expected, WebSockets are the way.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, VARY};
use hyper::{Method, Request, StatusCode};
use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::protocol::Role;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;

use super::ask::{self, Admitted, Endpoint, Refusal};
use super::connections::Connection;
use super::reply::{self, Reply};
use super::socket::Open;
use super::state::Web;
use crate::delivery::access::shares::STRANGER_BYTES;
use crate::delivery::conversation::session::Session;
use crate::delivery::socket::meter::Meter;
use crate::delivery::socket::writer::SocketWriter;
use crate::delivery::wire::frame::CloseCode;
use crate::delivery::wire::protocol;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Bytes of commands that a request may bring: as many subscriptions as a socket may have, of 400 bytes each.
const COMMANDS: usize = 1 << 20;
/// Commands of so many bytes are read however many others are on their way.
const SHORT: usize = 1024;
/// They come within this time.
const COMMANDS_WITHIN: Duration = Duration::from_secs(10);

/// Answers a request for `/sse/{name}`, or one for `/sse` that brings its commands.
pub(super) async fn stream(
    request: &mut Request<Incoming>,
    name: &str,
    connection: &Arc<Connection>,
    web: &Arc<Web>,
) -> Reply {
    let admitted = admit(request, name, connection, web).await;
    let (sender, events) = mpsc::channel(1);
    match admitted {
        Ok((admitted, commands)) => {
            connection.is_socket();
            let open = Open::count(web.hub.metrics(), connection);
            web.tasks.spawn(serve(admitted, commands, web.clone(), sender, open));
        }
        // to any other status a browser's EventSource never comes back
        Err(refusal) if is_temporary(refusal.status) => {
            let closed = closed(refusal.code.number(), &refusal.reason);
            let _ = sender.try_send(format!("retry: {}\n\n{closed}", fastrand::u32(1_000..10_000)).into());
        }
        Err(refusal) => return ask::refused(refusal),
    }
    let mut response = reply::stream(events);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold events back
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    // a cache must not give one page what was allowed to another
    response.headers_mut().insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = request.headers().get(ORIGIN) {
        // it is an allowed one, else there were no stream
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response
}

/// The client's identity, and what is said for it. Commands of a client that has no business here are not read.
async fn admit(
    request: &mut Request<Incoming>,
    name: &str,
    connection: &Arc<Connection>,
    web: &Arc<Web>,
) -> Result<(Admitted, Vec<Box<str>>), Refusal> {
    let mut admitted = ask::admit(request, Endpoint::Socket, name, connection.peer(), web)?;
    // the two ends of its pair
    if !connection.takes_more(2) {
        let reason = "all connections are in use: try again later".to_owned();
        let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, CloseCode::Overloaded);
        return Err(Refusal { status, code, reason });
    }
    // as on a socket: a client that has brought no token says less
    let is_stranger = admitted.who.as_ref().is_some_and(|who| who.expires.is_none());
    let most = if is_stranger { STRANGER_BYTES as usize } else { COMMANDS };
    let commands = commands_of(request, most, web.hub.unfinished()).await?;
    match &mut admitted.first {
        Some((_, wish)) => {
            // a browser that comes back says where it was
            if let Some(last) = request.headers().get(LAST_EVENT_ID).and_then(|last| last.to_str().ok()) {
                wish.since = Some(last.to_owned());
            }
        }
        None if commands.is_empty() => {
            let reason = "name a channel or a user: /sse/pets, /sse/user/123; or send commands by POST".to_owned();
            return Err(Refusal { status: StatusCode::NOT_FOUND, code: CloseCode::UnknownChannel, reason });
        }
        None => {}
    }
    Ok((admitted, commands))
}

fn is_temporary(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// The commands that a client brings, one a line: it can say nothing later. They have `most` bytes; `meter` counts what all
/// hold of commands whose end has not come.
async fn commands_of(
    request: &mut Request<Incoming>,
    most: usize,
    meter: &Arc<Meter>,
) -> Result<Vec<Box<str>>, Refusal> {
    if request.method() != Method::POST {
        return Ok(Vec::new());
    }
    let bad = |status, reason: String| Refusal { status, code: CloseCode::BadRequest, reason };
    let too_large = || {
        let reason = format!("more than {most} bytes of commands, or their end did not come");
        bad(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    let read = async {
        let mut read = Unfinished { text: Vec::new(), meter };
        while let Some(frame) = request.body_mut().frame().await {
            let Ok(data) = frame.map_err(|_| too_large())?.into_data() else { continue };
            if read.text.len() + data.len() > most {
                return Err(too_large());
            }
            // a copy: a chunk of one byte would keep what it was read into
            read.text.extend_from_slice(&data);
            meter.add(data.len() as u64);
            // short ones go on whatever others do
            if read.text.len() > SHORT && meter.is_over() {
                let reason = "too many bytes of commands are on their way: try again later".to_owned();
                return Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, code: CloseCode::Overloaded, reason });
            }
        }
        Ok(read)
    };
    let read = timeout(COMMANDS_WITHIN, read)
        .await
        .unwrap_or_else(|_| Err(bad(StatusCode::REQUEST_TIMEOUT, "the commands did not come in time".to_owned())))?;
    let text =
        std::str::from_utf8(&read.text).map_err(|_| bad(StatusCode::BAD_REQUEST, "commands are UTF-8".to_owned()))?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(Box::from).collect())
}

/// What has come of commands, as long as it is counted.
struct Unfinished<'a> {
    text: Vec<u8>,
    meter: &'a Meter,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.meter.take(self.text.len() as u64);
    }
}

async fn serve(admitted: Admitted, commands: Vec<Box<str>>, web: Arc<Web>, sender: mpsc::Sender<Bytes>, open: Open) {
    let Admitted { first, who, share, wants_cuts, paging: _ } = admitted;
    let (ours, theirs) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => return tracing::warn!(event = "event_stream_failed", %error),
    };
    let writer = Arc::new(SocketWriter::new(ours, web.hub.metrics().clone()));
    let mut session = Session::new(web.hub.clone(), writer, Vec::new(), web.limits, who, share, wants_cuts);
    if let Some((asked, wish)) = first {
        session.begin(asked, wish);
    }
    // whichever ends first takes the other with it: the session's socket closes, or the body's receiver is gone
    tokio::select! {
        ended = session => tracing::debug!(event = "event_stream_ended", ?ended),
        () = write(theirs, commands, sender) => {}
    }
    drop(open);
}

/// Messages as events, until either side ends. A client that does not read holds this up, then the session, as it would
/// a socket.
async fn write(socket: UnixStream, commands: Vec<Box<str>>, body: mpsc::Sender<Bytes>) {
    let socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
    let (mut says, mut socket) = socket.split();
    // beside the reading: the answers to the first may fill the pair before the last is said
    let say = async move {
        for command in commands {
            if says.send(Message::text(&*command)).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        () = say => {}
        () = tell(&mut socket, body) => {}
    }
}

async fn tell(socket: &mut SplitStream<WebSocketStream<UnixStream>>, body: mpsc::Sender<Bytes>) {
    // browsers come back by themselves, and not all at once
    let first = format!("retry: {}\n\n", fastrand::u32(1_000..5_000));
    if body.send(first.into()).await.is_err() {
        return;
    }
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = body.closed() => return,
        };
        let Some(Ok(message)) = message else { return };
        let event = match message {
            Message::Text(text) => event_of(&text),
            Message::Close(Some(frame)) => closed(frame.code.into(), frame.reason.as_str()),
            // answered by the library at the next read
            _ => continue,
        };
        if body.send(event.into()).await.is_err() {
            return;
        }
    }
}

fn closed(code: u16, reason: &str) -> String {
    let said = serde_json::json!({ "code": code, "reason": reason });
    format!("event: close\ndata: {said}\n\n")
}

/// `id` is the cursor, so that a browser that comes back sends it.
fn event_of(message: &str) -> String {
    // a column of type json keeps the line breaks of its writer. They stand between its tokens, never inside a
    // text, where JSON has them escaped; here they would end the line, and the event
    let message: Cow<'_, str> =
        if message.contains(['\n', '\r']) { message.replace(['\n', '\r'], " ").into() } else { message.into() };
    match protocol::cursor_of(&message) {
        Some(cursor) => format!("id: {cursor}\ndata: {message}\n\n"),
        None => format!("data: {message}\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_its_writer_put_between_its_tokens() {
        for between in ["\n", "\r", "\r\n", "\n\n", "\n \t\r\r\n"] {
            let data = format!("{{{between}\"a\":{between}\"\\n\u{2028}x\"{between}}}");
            let message = format!("{{\"type\":\"realtime_update\",\"data\":{data},\"cursor\":\"1x\"}}");
            let event = event_of(&message);
            let lines: Vec<&str> = event.split(['\n', '\r']).collect();
            let ["id: 1x", line, "", ""] = lines[..] else { panic!("{lines:?}") };
            let read: serde_json::Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(read["data"], serde_json::json!({"a": "\n\u{2028}x"}), "{between:?}");
        }
    }
}
