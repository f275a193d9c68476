//! From an HTTP upgrade to a session. Owns the handshake and its refusals; knows nothing of messages.
//!
//! A refused handshake is the matching HTTP status. Browsers cannot read that, so a client that offers the
//! subprotocol `rowcast.v1` is accepted and gets the close code instead.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::{Request, StatusCode};
use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::admit;
use super::ask::{self, Refusal, refused};
use super::connections::Connection;
use super::reply::{Reply, text};
use super::state::Web;
use crate::delivery::access::auth::Identity;
use crate::delivery::access::shares::Share;
use crate::delivery::conversation::catch_up::SubscribeOptions;
use crate::delivery::conversation::session::Session;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::transport::SocketStream;
use crate::delivery::socket::writer::SocketWriter;
use crate::metrics::DeliveryMetrics;

const SUBPROTOCOL: &str = "rowcast.v1";

/// Answers a request for a socket.
pub(super) fn upgrade(
    request: &mut Request<Incoming>,
    path: &str,
    connection: &Arc<Connection>,
    web: &Arc<Web>,
) -> Reply {
    let name = path.strip_prefix("/ws").map(|rest| rest.trim_start_matches('/')).unwrap_or_default();
    let peer = connection.peer();
    let address = web.admission.address(peer, request.headers());
    let refusal = ask::admit(request, ask::Endpoint::Socket, name, peer, web);
    if request.method() != hyper::Method::GET || !hyper_tungstenite::is_upgrade_request(&*request) {
        return match refusal {
            Err(refusal) => refused(refusal),
            Ok(_) => text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: connect with a WebSocket client\n"),
        };
    }
    let speaks_ours = offers_subprotocol(request);
    let outcome = match refusal {
        Err(refusal) if !speaks_ours => return refused(refusal),
        outcome => outcome,
    };
    // its buffers are thrown away after the handshake: the session reads and writes the bare socket
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 1;
    config.write_buffer_size = 0;
    config.max_write_buffer_size = 1;
    let (mut response, websocket) = match hyper_tungstenite::upgrade(request, Some(config)) {
        Ok(upgraded) => upgraded,
        Err(error) => return refused(ask::bad(format!("the WebSocket handshake is broken: {error}"))),
    };
    if speaks_ours {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    connection.is_socket();
    let open = Open::count(web.hub.metrics(), connection);
    let seat = match outcome {
        Ok(admitted) => Ok((admitted.first.map(Box::new), admitted.who, admitted.share, admitted.wants_cuts)),
        Err(refusal) => Err((Box::new(refusal), Box::new(web.hub.shares().refused(address)))),
    };
    web.tasks.spawn(converse(websocket, seat, web.clone(), open));
    response.map(Either::Left)
}

/// What is joined at once, whose token it has, what it counts for, and whether it is told the end of each cut.
type Seat = (Option<Box<(ViewKey, SubscribeOptions)>>, Option<Arc<Identity>>, Box<Share>, bool);

async fn converse(
    websocket: HyperWebsocket,
    seat: Result<Seat, (Box<Refusal>, Box<Share>)>,
    web: Arc<Web>,
    open: Open,
) {
    let Some((stream, received)) = bare_socket(websocket).await else { return };
    let writer = Arc::new(SocketWriter::new(stream, web.hub.metrics().clone()));
    let (first, who, share, wants_cuts) = match seat {
        Ok(seat) => seat,
        Err((refusal, share)) => {
            writer.close(refusal.code, &refusal.reason);
            (None, None, share, false)
        }
    };
    let mut session = Session::new(web.hub.clone(), writer, received, web.limits, who, share, wants_cuts);
    if let Some(first) = first {
        session.begin(first.0, first.1);
    }
    web.tasks.spawn(Conversation { session, opened: seconds(), _open: open });
}

/// A session and what is counted for it, to its end. A task of its own, since that lives as long as its socket and has the size of
/// its largest step: the handshake takes more than twice as much.
struct Conversation {
    session: Session,
    /// when, see [`seconds`]
    opened: u32,
    _open: Open,
}

impl Future for Conversation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(Pin::new(&mut self.session).poll(context));
        tracing::debug!(event = "socket_ended", ?ended, open_s = seconds().saturating_sub(self.opened));
        Poll::Ready(())
    }
}

/// Since the first socket. In four bytes, of which there is room in each task.
fn seconds() -> u32 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    u32::try_from(FIRST.elapsed().as_secs()).unwrap_or(u32::MAX)
}

/// The stream under the upgraded connection, and what the client had already sent.
async fn bare_socket(websocket: HyperWebsocket) -> Option<(SocketStream, Vec<u8>)> {
    let upgraded = websocket.await.ok()?.into_inner().into_inner();
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Some((parts.io.into_inner().into(), parts.read_buf.to_vec())),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
            Some((parts.io.into_inner().into(), parts.read_buf.to_vec()))
        }
    }
}

fn offers_subprotocol(request: &Request<Incoming>) -> bool {
    admit::offers(request.headers()).any(|name| name == SUBPROTOCOL)
}

/// One of the sockets that are open; counted until it is dropped, and so is its connection.
pub(super) struct Open(Arc<DeliveryMetrics>, #[allow(dead_code, reason = "held")] Arc<Connection>);

impl Open {
    pub(super) fn count(metrics: &Arc<DeliveryMetrics>, connection: &Arc<Connection>) -> Self {
        metrics.sockets.inc();
        Self(metrics.clone(), connection.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.sockets.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_socket_is_small() {
        // with what Tokio and the tracker keep of a task, the most that fits into an allocation of 256 bytes
        assert!(size_of::<Conversation>() <= 144, "{} bytes", size_of::<Conversation>());
    }
}
