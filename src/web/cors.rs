//! Pages of other origins (the Fetch standard's CORS): what a browser asks before it sends a token in a header, and what lets a
//! page read an answer that is a refusal. Which origins may is admit's.

use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, StatusCode};

use super::ask;
use super::reply::{Reply, text};
use super::state::Web;

/// Seconds for which a browser needs not ask again. Firefox takes a day, Chrome two hours; an origin may be taken out sooner.
const KEPT: HeaderValue = HeaderValue::from_static("600");

/// The origin of the page that asks for what pages of other origins may have; `None`: no page asks, or one that may not.
pub(super) fn origin_of(request: &Request<Incoming>, path: &str, web: &Web) -> Option<HeaderValue> {
    let is_for_pages = path.starts_with("/rows/") || path == "/sse" || path.starts_with("/sse/");
    let origin = request.headers().get(ORIGIN).filter(|_| is_for_pages)?;
    ask::allows_origin(request, web).then(|| origin.clone())
}

/// Whether a browser asks what a page may send.
pub(super) fn is_preflight(request: &Request<Incoming>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What it is told.
pub(super) fn preflight(origin: HeaderValue) -> Reply {
    let mut reply = text(StatusCode::NO_CONTENT, "");
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let allowed = "authorization, content-type, if-none-match, last-event-id";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_MAX_AGE, KEPT);
    headers.insert(VARY, HeaderValue::from_static("origin"));
    reply
}

/// Lets the page read an answer that does not say so itself.
pub(super) fn share(reply: &mut Reply, origin: Option<HeaderValue>) {
    let headers = reply.headers_mut();
    let Some(origin) = origin.filter(|_| !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, rowcast-code"));
    headers.insert(VARY, HeaderValue::from_static("origin"));
}
