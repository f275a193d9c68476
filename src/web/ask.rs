//! What a request asks for, by path and query, and whether it may have it. Owns the refusals; which clients are let in
//! is admit's, what a token shows is delivery's.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::admit;
use super::reply::{Reply, text};
use super::state::Web;
use crate::delivery::access::auth::Identity;
use crate::delivery::access::shares::{Share, TooMany};
use crate::delivery::conversation::catch_up::SubscribeOptions;
use crate::delivery::fanout::hub::JoinError;
use crate::delivery::scope::paging::{Paging, WantedRows};
use crate::delivery::scope::projection::Unfit;
use crate::delivery::scope::selection::Selection;
use crate::delivery::scope::telling::Telling;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::wire::command::{self, Texts};
use crate::delivery::wire::frame::CloseCode;

/// Why a request is refused: as HTTP says it, and as a socket does.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: CloseCode,
    pub(super) reason: String,
}

/// A refusal as HTTP says it.
pub(super) fn refused(refusal: Refusal) -> Reply {
    let mut reply = text(refusal.status, refusal.reason + "\n");
    // with it a client knows that rowcast has answered, and not a proxy or an application in its place. That commands came too slowly,
    // or were too many, says nothing of what they ask for: the client tries again
    if !matches!(refusal.status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
        reply.headers_mut().insert("rowcast-code", HeaderValue::from(refusal.code.number()));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(refusal.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        // spread over ten seconds: clients that were refused together must not come back together
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(fastrand::u16(1..=10)));
    }
    reply
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// a socket, or an event stream
    Socket,
    /// a page of rows
    Rows,
}

/// A request that may become a socket, or has a page of rows for its answer.
pub(super) struct Admitted {
    /// what is joined at once
    pub(super) first: Option<(ViewKey, SubscribeOptions)>,
    /// `None` where everybody may see everything
    pub(super) who: Option<Arc<Identity>>,
    /// what it counts for
    pub(super) share: Box<Share>,
    /// it is told the end of each cut
    pub(super) wants_cuts: bool,
    /// of a page
    pub(super) paging: Paging,
}

/// Gives a channel, or a column, that was made a moment ago the time to be known here. Only for a client that may see
/// it: by the time that it takes others would learn which there are.
pub(super) async fn learn(request: &Request<Incoming>, path: &str, peer: IpAddr, web: &Web) {
    let (named, what) = match path.strip_prefix("/rows/") {
        Some(name) => (Some(name), Endpoint::Rows),
        None => (path.strip_prefix("/ws/").or_else(|| path.strip_prefix("/sse/")), Endpoint::Socket),
    };
    let Some(name) = named.filter(|name| !name.is_empty() && !name.starts_with("user/")) else { return };
    let name = percent_decode_str(name).decode_utf8_lossy();
    if !allows_origin(request, web) || !web.hub.is_live() {
        return;
    }
    let is_known = web.hub.has_channel(&name) != Some(false);
    let asked = QueryParameters::read(request.uri().query().unwrap_or_default(), what).ok();
    let selection = asked.and_then(|mut asked| asked.selection().ok());
    let key = ViewKey::named(&name, selection.unwrap_or_default());
    if is_known && !key.names_columns() {
        return;
    }
    let Ok(who) = who_of(request, web.admission.address(peer, request.headers()), web) else { return };
    let Ok(permitted) = web.hub.permit(&key, who.as_ref()) else { return };
    if !is_known {
        web.hub.wait_for_fresh_read().await;
    } else if web.hub.lacks_column(&permitted) {
        web.hub.wait_for_fresh_channels().await;
    }
}

/// Whether a page of this origin may ask, or no page asks.
pub(super) fn allows_origin(request: &Request<Incoming>, web: &Web) -> bool {
    web.admission.allow_origin(request.headers(), web.tls.is_some())
}

/// Whose request it is; `None` where everybody may see everything.
fn who_of(request: &Request<Incoming>, address: IpAddr, web: &Web) -> Result<Option<Identity>, Refusal> {
    let Some(keys) = web.hub.keys() else { return Ok(None) };
    let Some(token) = admit::token(request.headers(), request.uri().query()) else {
        return Ok(Some(Identity::anonymous()));
    };
    let refuse = |limit, status, code, reason: String| {
        if let Some(unlogged) = web.hub.metrics().refuse(limit) {
            tracing::warn!(event = "socket_refused", %address, status = StatusCode::as_u16(&status), reason, unlogged);
        }
        Err(Refusal { status, code, reason })
    };
    let shares = web.hub.shares();
    if shares.is_suspect(address) {
        let reason = "too many tokens with a wrong signature came from your address: try again later".to_owned();
        return refuse("forged", StatusCode::TOO_MANY_REQUESTS, CloseCode::RateLimited, reason);
    }
    match keys.verify(token) {
        Ok(who) => Ok(Some(who)),
        Err(reason) => {
            if reason.is_forged() {
                shares.suspect(address);
            }
            refuse("token", StatusCode::UNAUTHORIZED, CloseCode::Unauthenticated, reason.to_string())
        }
    }
}

/// What is running is nobody's business once tokens are checked, but those whose role is admin.
pub(super) fn for_admin(request: &Request<Incoming>, peer: IpAddr, web: &Web) -> Result<(), Refusal> {
    match who_of(request, web.admission.address(peer, request.headers()), web) {
        Ok(None) => Ok(()),
        Ok(Some(who)) if &*who.role == "admin" => Ok(()),
        Err(refusal) if refusal.status == StatusCode::TOO_MANY_REQUESTS => Err(refusal),
        Ok(Some(_)) | Err(_) => {
            let (status, code) = (StatusCode::UNAUTHORIZED, CloseCode::Unauthenticated);
            Err(Refusal { status, code, reason: "this page is for a token whose role is admin".to_owned() })
        }
    }
}

/// Whether a request may: `name` is what stands after `/ws/`, `/sse/` or `/rows/`. In the order in which the least is
/// told to a client that has no business here.
pub(super) fn admit(
    request: &Request<Incoming>,
    what: Endpoint,
    name: &str,
    peer: IpAddr,
    web: &Web,
) -> Result<Admitted, Refusal> {
    let (headers, query) = (request.headers(), request.uri().query());
    let address = web.admission.address(peer, headers);
    let refuse = |limit, status, code, reason: String| {
        if let Some(unlogged) = web.hub.metrics().refuse(limit) {
            tracing::warn!(event = "socket_refused", %address, status = StatusCode::as_u16(&status), reason, unlogged);
        }
        Refusal { status, code, reason }
    };
    if !allows_origin(request, web) {
        let reason = "pages of this origin may not connect: see the setting origins".to_owned();
        return Err(refuse("origin", StatusCode::FORBIDDEN, CloseCode::Forbidden, reason));
    }
    let overloaded =
        |limit, reason: String| refuse(limit, StatusCode::SERVICE_UNAVAILABLE, CloseCode::Overloaded, reason);
    if !web.has_room() {
        return Err(overloaded("sockets", format!("all {} sockets are in use: try again later", web.max_sockets)));
    }
    let too_many = |TooMany { limit, reason }| overloaded(limit, reason.to_owned());
    let mut share = Box::new(web.hub.shares().enter(address).map_err(too_many)?);
    let who = who_of(request, address, web)?.map(Arc::new);
    share.belongs_to(who.as_ref().and_then(|who| who.user.as_ref())).map_err(too_many)?;
    let mut asked = QueryParameters::read(query.unwrap_or_default(), what)?;
    let (wants_cuts, paging) = (asked.cuts, std::mem::take(&mut asked.paging));
    let first = first_of(name, asked, who.as_deref(), web)?;
    if first.is_none() && who.as_ref().is_some_and(|who| who.expires.is_none()) {
        share.is_stranger().map_err(too_many)?;
    }
    Ok(Admitted { first, who, share, wants_cuts, paging })
}

/// What a name watches: a channel, a user, or (none) whatever the client asks for.
fn first_of(
    name: &str,
    mut asked: QueryParameters,
    who: Option<&Identity>,
    web: &Web,
) -> Result<Option<(ViewKey, SubscribeOptions)>, Refusal> {
    let unknown = |reason: String| Refusal { status: StatusCode::NOT_FOUND, code: CloseCode::UnknownChannel, reason };
    if name.is_empty() {
        return match asked.named.first() {
            None => Ok(None),
            Some(name) => Err(bad(format!("{name} belongs to a subscription: send it in subscribe"))),
        };
    };
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(|name| name.into_owned());
    let decoded = decode(name).map_err(|_| unknown("the name after /ws/ is no UTF-8".to_owned()))?;
    let selection = asked.selection()?;
    // the slash that makes a user of it is the path's own, not one of a name
    let key = match name.strip_prefix("user/") {
        Some("") => return Err(unknown("the user id is missing".to_owned())),
        Some(user) => {
            ViewKey::User(decode(user).map_err(|_| unknown("the user id is no UTF-8".to_owned()))?.into(), None)
        }
        None => ViewKey::Channel(decoded.into(), selection),
    };
    let permitted = match web.hub.permit(&key, who) {
        Ok(permitted) => permitted,
        // it is asked again when the policies are known
        Err(JoinError::NotLive | JoinError::InDoubt) => return Ok(Some((key, asked.wish))),
        // a claim that is too long
        Err(JoinError::Unfit(Unfit(reason))) => return Err(bad(reason)),
        Err(_) => {
            if let Some(unlogged) = web.hub.metrics().refuse("policy") {
                let (user, role) = who.map_or((None, ""), |who| (who.user.as_deref(), &*who.role));
                let channel = key.channel().map_or("user", |name| name);
                tracing::warn!(event = "forbidden", channel, user, role, unlogged);
            }
            // a client that has no token may have forgotten it
            let (status, code) = match who.and_then(|who| who.expires) {
                None => (StatusCode::UNAUTHORIZED, CloseCode::Unauthenticated),
                Some(_) => (StatusCode::FORBIDDEN, CloseCode::Forbidden),
            };
            return Err(Refusal { status, code, reason: format!("your token does not let you see {}", key.label()) });
        }
    };
    match &key {
        ViewKey::User(..) => {
            if let Some(name) = asked.named.iter().find(|name| **name != "since") {
                return Err(bad(format!("a user's notifications have no {name}")));
            }
        }
        ViewKey::Channel(channel, _) => match web.hub.has_channel(channel) {
            None => {}
            Some(false) if who.is_some() => return Err(unknown(format!("there is no channel {}", key.label()))),
            Some(false) => {
                let known: Vec<_> = web.hub.census().0.into_iter().map(|(name, _)| name.to_string()).collect();
                let shown: String = channel.chars().take(40).collect();
                return Err(unknown(format!("there is no channel {shown}; there are: {}", known.join(", "))));
            }
            Some(true) => {
                if let Err(JoinError::Unfit(Unfit(reason))) = web.hub.projection(&permitted) {
                    return Err(bad(reason));
                }
            }
        },
    }
    Ok(Some((key, asked.wish)))
}

/// What the query parameters ask for.
#[derive(Default)]
struct QueryParameters {
    wish: SubscribeOptions,
    filters: Vec<String>,
    columns: Option<String>,
    old: bool,
    changed: bool,
    latest: bool,
    every: Option<u32>,
    /// of the socket, not of a subscription
    cuts: bool,
    /// of a page
    paging: Paging,
    /// the parameters of a subscription that were there
    named: Vec<&'static str>,
}

impl QueryParameters {
    /// Not obeying half of a request: a client that misspells a filter must not get the whole channel.
    fn read(query: &str, what: Endpoint) -> Result<Self, Refusal> {
        let all: &[&'static str] = match what {
            Endpoint::Socket => {
                &["since", "snapshot", "partial", "filter", "columns", "old", "changed", "latest", "every", "cuts"]
            }
            Endpoint::Rows => &["filter", "columns", "order", "limit", "after", "before", "count"],
        };
        let mut asked = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            // as browsers' URLSearchParams and most other programs write a space; a plus is %2B
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8_lossy().into_owned();
            if name == "token" {
                continue;
            }
            let known = all.iter().copied().find(|known| *known == name);
            match known {
                Some("cuts") => {
                    asked.cuts = flag("cuts", &value)?;
                    continue;
                }
                Some("since") => asked.wish.since = Some(value),
                Some("snapshot") => {
                    asked.wish.rows = if flag("snapshot", &value)? { WantedRows::All } else { WantedRows::Nothing }
                }
                Some("partial") => asked.wish.in_pages = flag("partial", &value)?,
                Some("filter") => asked.filters.push(value),
                Some("columns") => asked.columns = Some(value),
                Some("old") => asked.old = flag("old", &value)?,
                Some("changed") => asked.changed = flag("changed", &value)?,
                Some("latest") => asked.latest = flag("latest", &value)?,
                Some("every") => {
                    let every = value.parse().map_err(|_| bad("every is a number of milliseconds".to_owned()))?;
                    asked.every = Some(every);
                }
                Some("order") => asked.paging.order = Some(value),
                Some("limit") => {
                    let limit = value.parse().map_err(|_| bad("limit is a number".to_owned()))?;
                    asked.paging.limit = Some(limit);
                }
                Some("after") => asked.paging.after = Some(place(&value)?),
                Some("before") => asked.paging.before = Some(place(&value)?),
                Some("count") => asked.paging.count = Some(value),
                _ => {
                    let shown: String = name.chars().take(40).collect();
                    let known = all.join(", ");
                    return Err(bad(format!("query parameter {shown} is not supported; known: {known}")));
                }
            }
            asked.named.extend(known);
        }
        Ok(asked)
    }

    /// What a subscription, or a page, is of.
    fn selection(&mut self) -> Result<Selection, Refusal> {
        let telling = Telling::of(self.old, self.changed, self.latest, self.every).map_err(bad)?;
        let (filters, columns) = (std::mem::take(&mut self.filters), self.columns.take());
        Ok(command::selection_of(Some(Texts::Many(filters)), columns.map(Texts::One), telling))
    }
}

fn place(text: &str) -> Result<serde_json::Value, Refusal> {
    serde_json::from_str(text).map_err(|_| bad("after and before take a JSON object of columns and values".to_owned()))
}

fn flag(name: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(bad(format!("{name} is true or false, not {shown}")))
        }
    }
}

pub(super) fn bad(reason: String) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, code: CloseCode::BadRequest, reason }
}
