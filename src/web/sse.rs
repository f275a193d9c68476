//! Server-sent events: the messages of one channel or user for clients without WebSockets, `curl -N` and `EventSource`.
//! Owns their text format; everything else is a socket's.
//!
//! An event stream is a WebSocket client inside the server: a session talks over a pair of sockets inside the process,
//! and what it says is written as events. So resume, policies, limits and a slow client are the session's, the same as
//! for everybody, and a stream costs two more sockets and a copy. Where many are expected, WebSockets are the way.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use http_body_util::Either;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, VARY};
use hyper::{Request, Response};
use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::protocol::Role;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;

use super::ask::{self, Admitted, Refusal};
use super::connections::Connection;
use super::server::{Reply, Web};
use super::socket::Open;
use crate::delivery::frame::CloseCode;
use crate::delivery::outbound::Outbound;
use crate::delivery::protocol;
use crate::delivery::session::Session;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The body of the response. It is dropped when the client goes, which is how that is noticed.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

/// Answers a request for `/sse/{name}`.
pub(super) fn stream(request: &Request<Incoming>, name: &str, connection: &Arc<Connection>, web: &Arc<Web>) -> Reply {
    let admitted = ask::admit(request, name, connection.peer(), web).and_then(|mut admitted| {
        let Some((_, wish)) = &mut admitted.first else {
            let reason = "name a channel or a user: /sse/pets, /sse/user/123".to_owned();
            return Err(Refusal { status: hyper::StatusCode::NOT_FOUND, code: CloseCode::UnknownChannel, reason });
        };
        // a browser that comes back says where it was
        if let Some(last) = request.headers().get(LAST_EVENT_ID).and_then(|last| last.to_str().ok()) {
            wish.since = Some(last.to_owned());
        }
        // the two ends of its pair
        if !connection.takes_more(2) {
            let reason = "all connections are in use: try again later".to_owned();
            let (status, code) = (hyper::StatusCode::SERVICE_UNAVAILABLE, CloseCode::Overloaded);
            return Err(Refusal { status, code, reason });
        }
        Ok(admitted)
    });
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return ask::refused(refusal),
    };
    let (sender, events) = mpsc::channel(1);
    connection.is_socket();
    let open = Open::count(web.hub.metrics(), connection);
    web.tasks.spawn(serve(admitted, web.clone(), sender, open));
    let mut response = Response::new(Either::Right(Events(events)));
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

async fn serve(admitted: Admitted, web: Arc<Web>, sender: mpsc::Sender<Bytes>, open: Open) {
    let Admitted { first, who, party } = admitted;
    let (ours, theirs) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => return tracing::warn!(event = "event_stream_failed", %error),
    };
    let outbound = Arc::new(Outbound::new(ours, web.hub.metrics().clone()));
    let session = Session::new(web.hub.clone(), outbound, Vec::new(), web.limits, who, party);
    // whichever ends first takes the other with it: the session's socket closes, or the body's receiver is gone
    tokio::select! {
        ended = session.run(first.map(Box::new)) => tracing::debug!(event = "event_stream_ended", ?ended),
        () = write(theirs, sender) => {}
    }
    drop(open);
}

/// Messages as events, until either side ends. A client that does not read holds this up, then the session, as it would
/// a socket.
async fn write(socket: UnixStream, body: mpsc::Sender<Bytes>) {
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
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
            Message::Close(Some(frame)) => {
                let said = serde_json::json!({ "code": u16::from(frame.code), "reason": frame.reason.as_str() });
                format!("event: close\ndata: {said}\n\n")
            }
            // answered by the library at the next read
            _ => continue,
        };
        if body.send(event.into()).await.is_err() {
            return;
        }
    }
}

/// `id` is the cursor, so that a browser that comes back sends it.
fn event_of(message: &str) -> String {
    // a column of type json keeps the line breaks of whoever wrote it. They stand between its tokens, never inside a
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
