//! Which answer a request gets, by its path. Owns the routes; what each answers is the others'.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, header};
use percent_encoding::percent_decode_str;
use tokio::sync::{mpsc, oneshot};

use super::admit::HostNames;
use super::connections::Connection;
use super::reply::{Reply, json, text};
use super::state::Web;
use super::{ask, cors, pages, rows, socket, sse, status};
use crate::delivery::fanout::hub::Whom;
use crate::errand::Errand;

/// The answer to one request.
pub(super) async fn route(mut request: Request<Incoming>, connection: &Arc<Connection>, web: &Arc<Web>) -> Reply {
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
    if path == "/kick" {
        let peer = connection.peer();
        ask::learn(&request, &path, peer, web).await;
        return match ask::for_admin(&request, peer, web) {
            Err(refusal) => ask::refused(refusal),
            // where there are no tokens, any client that reaches this address could
            Ok(()) if web.hub.keys().is_none() => text(StatusCode::FORBIDDEN, "set admin-listen, and ask there\n"),
            Ok(()) => kick(&request, web),
        };
    }
    let origin = cors::origin_of(&request, &path, web);
    if let Some(origin) = origin.clone().filter(|_| cors::is_preflight(&request)) {
        return cors::preflight(origin);
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
        let mut reply = sse::stream(&mut request, name, connection, web).await;
        // what a stream takes of the descriptors is given back with its connection, so that serves nothing else
        reply.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        cors::share(&mut reply, origin);
        return reply;
    }
    if let Some(name) = path.strip_prefix("/rows/") {
        let mut reply = rows::rows(&request, name, peer, web).await;
        cors::share(&mut reply, origin);
        return reply;
    }
    if is_about_the_server(&path) {
        let admin = ask::for_admin(&request, peer, web);
        // what became of a change is the business of clients that may see channels; and the page at / asks here with
        // its token
        let is_elsewhere = web.has_admin_listener && !path.starts_with("/explain/");
        if is_elsewhere && (web.hub.keys().is_none() || admin.is_err()) {
            return text(StatusCode::NOT_FOUND, "metrics and status are answered at admin-listen\n");
        }
        if let Err(refusal) = admin {
            return ask::refused(refusal);
        }
    }
    if let Some(id) = path.strip_prefix("/explain/") {
        return status::explain(web, id).await;
    }
    match about_the_server(&path, &request, web).await {
        Some(reply) => reply,
        None => pages::page(&path, web.application.is_some(), &web.naming)
            .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not found: see / for what there is\n")),
    }
}

/// The same on the listener of operators, who need no token: nothing of channels is there.
pub(super) async fn route_for_operators(request: Request<Incoming>, web: &Web) -> Reply {
    // a page of a name that anybody may have made is no operator's
    if !web.admission.allow_host(request.headers(), HostNames::NotPublic) {
        return text(StatusCode::MISDIRECTED_REQUEST, "use an address, or a name that nobody else can register\n");
    }
    if request.uri().path() == "/kick" {
        return kick(&request, web);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
    }
    let reply = about_the_server(request.uri().path(), &request, web).await;
    reply.unwrap_or_else(|| {
        let there = "not found: here are /metrics, /healthz, /readyz, /websocket/status, /websocket/behind, /websocket/hour, /websocket/database, /kick\n";
        text(StatusCode::NOT_FOUND, there)
    })
}

/// Closes the sockets of a user or of a channel.
fn kick(request: &Request<Incoming>, web: &Web) -> Reply {
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only POST is answered here\n");
    }
    // a page that an operator looks at is not the operator
    if request.headers().contains_key(header::ORIGIN) {
        return text(StatusCode::FORBIDDEN, "no page may ask this\n");
    }
    // a token may stand beside it, and nothing else: half of a request is not obeyed
    let query = request.uri().query().unwrap_or_default();
    let asked: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("token=")).collect();
    let named = match asked[..] {
        [asked] => asked.split_once('=').and_then(|(what, name)| {
            // as everywhere here a plus is a space
            let name = name.replace('+', " ");
            let name = percent_decode_str(&name).decode_utf8().ok().filter(|name| !name.is_empty())?;
            match what {
                "user" => Some(Whom::User(name.into())),
                "channel" => Some(Whom::Channel(name.into())),
                _ => None,
            }
        }),
        _ => None,
    };
    let Some(whom) = named else {
        return text(StatusCode::BAD_REQUEST, "say whom: /kick?user=7 or /kick?channel=pets\n");
    };
    let closed = web.hub.kick(&whom);
    match &whom {
        Whom::User(user) => tracing::info!(event = "kicked", user = &**user, closed),
        Whom::Channel(channel) => tracing::info!(event = "kicked", channel = &**channel, closed),
    }
    json(StatusCode::OK, &serde_json::json!({ "closed": closed }))
}

/// What is answered of the server itself, and of nothing that it serves.
async fn about_the_server(path: &str, request: &Request<Incoming>, web: &Web) -> Option<Reply> {
    Some(match path {
        "/websocket/status" => json(StatusCode::OK, &status::status(web)),
        "/websocket/behind" => json(StatusCode::OK, &web.hub.behind()),
        "/websocket/hour" => json(StatusCode::OK, &serde_json::json!(web.hour.told())),
        "/websocket/database" => status::database(web).await,
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            status::metrics(web, accept.unwrap_or_default())
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if web.hub.is_live() && !web.shutdown.has_begun() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "capture is not live\n"),
        _ => return None,
    })
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
    matches!(path, "/websocket/status" | "/websocket/behind" | "/websocket/hour" | "/websocket/database" | "/metrics")
        || path.starts_with("/explain/")
}
