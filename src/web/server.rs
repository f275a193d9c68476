//! The listener and the routes. Owns accepting and the drain; which connections are taken is `connections`'.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::admit::Names;
use super::ask;
use super::connections::{Connection, Connections, Refused};
use super::spare::Spare;
use super::sse::{self, Events};
use super::tls::Tls;
use super::{pages, socket, status};
use crate::config::Admission;
use crate::delivery::conversation::session::Limits;
use crate::delivery::fanout::hub::Hub;
use crate::errand::Errand;
use crate::metrics::SourceMetrics;
use crate::naming::Naming;
use crate::question::Question;
use crate::shutdown::Shutdown;

/// Bytes that a client's kernel has not taken for this long end its connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// To an address with too many connections.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 10\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Pages load nothing from elsewhere. Their styles stand in them; a script in a page would not run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every request may need.
#[derive(Debug)]
pub struct Web {
    /// subscribers
    pub hub: Arc<Hub>,
    /// the source's counters
    pub source: Arc<SourceMetrics>,
    /// of a socket
    pub limits: Limits,
    /// who may open one
    pub admission: Admission,
    /// by which names it may be called
    pub names: Names,
    /// of the demo alone: takes what the clinic's page asks of the clinic's application
    pub application: Option<mpsc::Sender<Errand>>,
    /// takes what people ask of the database; `None`: this node has none
    pub questions: Option<mpsc::Sender<Question>>,
    /// the installation, for SQL that its pages show
    pub naming: Naming,
    /// `None`: connections are not encrypted
    pub tls: Option<Arc<Tls>>,
    /// those that are open
    pub connections: Arc<Connections>,
    /// sockets in all
    pub max_sockets: i64,
    /// sockets and connections that are open
    pub tasks: TaskTracker,
    /// begins when the server drains
    pub shutdown: Shutdown,
}

/// The response of every route.
pub type Reply = Response<Either<Full<Bytes>, Events>>;

/// Serves until the shutdown; then every socket gets close code 1001 and has until `drain` to go.
pub async fn run(listener: TcpListener, web: Arc<Web>, drain: Duration) {
    let mut shutdown = web.shutdown.clone();
    let mut spare = Spare::default();
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

async fn serve(tcp: TcpStream, connection: Arc<Connection>, web: Arc<Web>) {
    // a frame is written whole: waiting for more would only add latency
    let _ = tcp.set_nodelay(true);
    // a client that vanished without a word while frames were on their way: the kernel alone gives up after 15 minutes
    let _ = socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    match web.tls.clone() {
        None => answer(tcp, connection, web).await,
        Some(tls) => {
            let mut shutdown = web.shutdown.clone();
            let plain = tokio::select! {
                plain = tls.accept(tcp, &web.tasks) => plain,
                () = shutdown.begun() => None,
            };
            if let Some(plain) = plain {
                answer(plain, connection, web).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Arc<Connection>,
    web: Arc<Web>,
) {
    let mut shutdown = web.shutdown.clone();
    let headers_within = web.connections.headers_within();
    let service = service_fn(move |request| {
        let (web, connection) = (web.clone(), connection.clone());
        async move { Ok::<_, Infallible>(harden(route(request, &connection, &web).await, web.tls.is_some())) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_within)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(event = "connection_ended", error = crate::error::chain(&error));
    }
}

async fn route(mut request: Request<Incoming>, connection: &Arc<Connection>, web: &Arc<Web>) -> Reply {
    let path = request.uri().path().to_owned();
    if !web.admission.allow_host(request.headers(), web.names) {
        return text(
            StatusCode::MISDIRECTED_REQUEST,
            "everybody may see everything here, so a name that anybody may have made is refused: \
             use localhost or an address, or put the page's origin into the setting origins\n",
        );
    }
    if let Some(application) = &web.application
        && let Some(errand) = path.strip_prefix("/clinic/")
    {
        return hand_on(application, errand, &request, web).await;
    }
    let brings_commands = request.method() == Method::POST && path == "/sse";
    if request.method() != Method::GET && request.method() != Method::HEAD && !brings_commands {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
    }
    let peer = connection.peer();
    ask::learn(&request, &path, peer, web).await;
    if path == "/ws" || path.starts_with("/ws/") {
        return socket::upgrade(&mut request, &path, connection, web);
    }
    if let Some(name) = path.strip_prefix("/sse/").or(brings_commands.then_some("")) {
        return sse::stream(&mut request, name, connection, web).await;
    }
    if is_about_the_server(&path)
        && let Err(refusal) = ask::for_admin(&request, peer, web)
    {
        return ask::refused(refusal);
    }
    match path.as_str() {
        "/websocket/status" => json(StatusCode::OK, &status::status(web)),
        "/websocket/behind" => json(StatusCode::OK, &web.hub.behind()),
        "/websocket/database" => status::database(web).await,
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            status::metrics(web, accept.unwrap_or_default())
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if web.source.is_live() && !web.shutdown.has_begun() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "capture is not live\n"),
        _ => match path.strip_prefix("/explain/") {
            Some(id) => status::explain(web, id).await,
            None => pages::page(&path, web.application.is_some(), &web.naming)
                .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not found: see / for what there is\n")),
        },
    }
}

/// Hands the clinic's application what the clinic's page asks of it, as a proxy before both would.
async fn hand_on(application: &mpsc::Sender<Errand>, errand: &str, request: &Request<Incoming>, web: &Web) -> Reply {
    if !web.admission.allow_origin(request.headers(), web.tls.is_some()) {
        return text(StatusCode::FORBIDDEN, "a page of another origin\n");
    }
    let (answer, answered) = oneshot::channel();
    let errand = Errand { may_write: request.method() == Method::POST, path: errand.to_owned(), answer };
    if application.try_send(errand).is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the clinic's application is busy\n");
    }
    match answered.await {
        Ok(answer) => text(StatusCode::OK, answer),
        Err(_) => text(StatusCode::NOT_FOUND, "the clinic's application has not done this\n"),
    }
}

fn is_about_the_server(path: &str) -> bool {
    matches!(path, "/websocket/status" | "/websocket/behind" | "/websocket/database" | "/metrics")
        || path.starts_with("/explain/")
}

/// Headers that keep a browser from guessing, framing, loading from elsewhere, telling others where it was, and, once
/// it came by TLS, from coming without.
fn harden(mut reply: Reply, by_tls: bool) -> Reply {
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

/// Whether another socket fits.
pub fn has_room(web: &Web) -> bool {
    web.hub.metrics().sockets.get() < web.max_sockets
}

/// A plain text response.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body)
}

/// A JSON response.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    reply(status, "application/json", format!("{body:#}\n"))
}

/// A response with its content type, never cached.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
