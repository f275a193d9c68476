//! Responses: what each of them is made of, and the headers that all of them have.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::{Response, StatusCode, header};
use tokio::sync::{mpsc, watch};

use crate::room::Taken;

/// Pages load nothing from elsewhere. Their styles stand in them; a script in a page would not run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The response of every route.
pub(super) type Reply = Response<Either<Full<Bytes>, Either<Events, Long>>>;

/// A long body is handed to the connection in pieces of so many bytes: more is not taken from it than the connection can send.
pub(super) const PIECE: usize = 64 * 1024;

/// The body of an event stream. It is dropped when the client goes, which is how that is noticed.
#[derive(Debug)]
pub(super) struct Events(mpsc::Receiver<Bytes>);

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

/// A body that may lie here for as long as its client is slow.
#[derive(Debug)]
pub(super) struct Long {
    left: Bytes,
    held: BodyHold,
}

/// What a long body has until its last piece is on its way.
#[derive(Debug)]
pub(super) struct BodyHold {
    /// memory; a short one takes none
    pub(super) _room: Option<Taken>,
    /// is told when a piece is taken
    pub(super) progress: watch::Sender<()>,
}

impl Body for Long {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.held.progress.send_replace(());
        let piece = PIECE.min(self.left.len());
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

/// An event stream, which goes on while `events` come.
pub(super) fn stream(events: mpsc::Receiver<Bytes>) -> Reply {
    Response::new(Either::Right(Either::Left(Events(events))))
}

/// A plain text response.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body)
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    reply(status, "application/json", format!("{body:#}\n"))
}

/// A response with its content type, never cached.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// A response whose body may lie here for as long as its client is slow, never cached.
pub(super) fn long(content_type: &'static str, body: impl Into<Bytes>, held: BodyHold) -> Reply {
    reply(StatusCode::OK, content_type, "").map(|_| Either::Right(Either::Right(Long { left: body.into(), held })))
}

/// Headers that keep a browser from guessing, framing, loading from elsewhere, telling others where it was, and, once
/// it came by TLS, from coming without.
pub(super) fn harden(mut reply: Reply, by_tls: bool) -> Reply {
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    if by_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, header::HeaderValue::from_static("max-age=31536000"));
    }
    reply
}
