//! The listener. Owns accepting and the drain; which connections are taken is `connections`', what is answered the router's.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::connections::{Connection, Overdue, Refused};
use super::proxied::client_of;
use super::reply::harden;
use super::router::{route, route_for_operators};
use super::spare::SpareConnections;
use super::state::Web;

/// Bytes that a client's kernel has not taken for this long end its connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Connections of operators at a time: half of the descriptors that are kept back for health.
const OPERATORS: usize = 16;
/// A connection without a request is kept so long when the server ends.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(1);

/// To an address with too many connections.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 10\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until the shutdown; then every socket gets close code 1001 and has until `drain` to go.
pub async fn run(listener: TcpListener, web: Arc<Web>, drain: Duration) {
    let mut shutdown = web.shutdown.clone();
    let mut spare = SpareConnections::default();
    // with TLS a connection takes two more, see `tls`
    let descriptors = if web.tls.is_some() { 3 } else { 1 };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.begun() => break,
        };
        match accepted {
            Ok((tcp, peer)) => match web.connections.enter(peer.ip().to_canonical(), descriptors) {
                Ok(connection) => {
                    web.tasks.spawn(serve(tcp, connection, web.clone()));
                }
                Err(refused) => {
                    let limit = if refused == Refused::Address { "connections" } else { "descriptors" };
                    if let Some(unlogged) = web.hub.metrics().refuse(limit) {
                        tracing::warn!(event = "connection_refused", address = %peer.ip(), limit, unlogged);
                    }
                    match refused {
                        Refused::Full => spare.take(tcp, &web).await,
                        // a client without TLS reads it; no other is told why
                        Refused::Address => drop(tcp.try_write(TOO_MANY)),
                    }
                }
            },
            Err(error) => {
                if let Some(unlogged) = web.hub.metrics().refuse("accept") {
                    tracing::warn!(event = "accept_failed", %error, unlogged);
                }
                // out of file descriptors, most likely: accepting again at once would only burn the processor
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    web.tasks.close();
    let open = web.tasks.len();
    match tokio::time::timeout(drain, web.tasks.wait()).await {
        Ok(()) => tracing::info!(event = "drained", connections = open),
        Err(_) => tracing::warn!(event = "drain_deadline", left = web.tasks.len(), deadline_s = drain.as_secs()),
    }
}

/// Answers operators until the shutdown, without TLS. Theirs are few, and none is a socket.
pub async fn run_for_operators(listener: TcpListener, web: Arc<Web>) {
    let mut shutdown = web.shutdown.clone();
    let places = Arc::new(Semaphore::new(OPERATORS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.begun() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let connection = web.connections.of_operator(peer.ip().to_canonical());
                let answering = answer(tcp, connection, web.clone(), Door::Operators);
                web.tasks.spawn(async move {
                    answering.await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Which callers a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Clients,
    Operators,
}

async fn serve(mut tcp: TcpStream, mut connection: Arc<Connection>, web: Arc<Web>) {
    // a frame is written whole: waiting for more would only add latency
    let _ = tcp.set_nodelay(true);
    // a client that vanished without a word while frames were on their way: the kernel alone gives up after 15 minutes
    let _ = socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    if web.admission.proxy_protocol {
        match behind_proxy(&mut tcp, &connection, &web).await {
            Some(client) => connection = client,
            None => return,
        }
    }
    match web.tls.clone() {
        None => answer(tcp, connection, web, Door::Clients).await,
        Some(tls) => {
            let mut shutdown = web.shutdown.clone();
            let plain = tokio::select! {
                plain = tls.accept(tcp, &web.tasks) => plain,
                () = shutdown.begun() => None,
            };
            if let Some(plain) = plain {
                answer(plain, connection, web, Door::Clients).await;
            }
        }
    }
}

/// The connection of the client that a proxy's header names; `None` where it is not taken.
async fn behind_proxy(tcp: &mut TcpStream, connection: &Arc<Connection>, web: &Web) -> Option<Arc<Connection>> {
    let (proxy, within) = (connection.peer(), web.connections.headers_within());
    let client = match web.connections.is_proxy(proxy) {
        true => timeout(within, client_of(tcp)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        false => Err(io::Error::other("the peer is none of trusted-proxies")),
    };
    let (limit, error) = match client.map(|client| client.map_or(Ok(connection.clone()), |ip| connection.behind(ip))) {
        Ok(Ok(connection)) => return Some(connection),
        // as without a proxy
        Ok(Err(_)) => ("connections", None),
        Err(error) => ("proxy", Some(error)),
    };
    if let Some(unlogged) = web.hub.metrics().refuse(limit) {
        let error = error.map(tracing::field::display);
        tracing::warn!(event = "connection_refused", address = %proxy, limit, error, unlogged);
    }
    None
}

/// Answers the requests of one connection.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Arc<Connection>,
    web: Arc<Web>,
    door: Door,
) {
    let mut shutdown = web.shutdown.clone();
    let headers_within = web.connections.headers_within();
    let (overdue, asks) = (Overdue::default(), Arc::new(Notify::new()));
    let (clock, has_asked) = (overdue.0.clone(), asks.clone());
    let service = service_fn(move |mut request| {
        let (web, connection) = (web.clone(), connection.clone());
        asks.notify_one();
        request.extensions_mut().insert(overdue.clone());
        async move {
            let (reply, by_tls) = match door {
                Door::Clients => (route(request, &connection, &web).await, web.tls.is_some()),
                Door::Operators => (route_for_operators(request, &web).await, false),
            };
            Ok::<_, Infallible>(harden(reply, by_tls))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_within)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = clock.notified() => return,
        () = shutdown.begun() => {
            // the request of a client that has just connected is on its way: it would take the end for a failure
            let first = timeout(FIRST_REQUEST_WITHIN, has_asked.notified());
            tokio::select! {
                result = connection.as_mut() => result,
                () = clock.notified() => return,
                _ = first => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = connection => result,
                        () = clock.notified() => return,
                    }
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(event = "connection_ended", error = crate::error::chain(&error));
    }
}
