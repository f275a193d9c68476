//! `/rows/{channel}`: a page of a channel's current rows, for programs and pages that follow nothing, or not yet. Owns the answer's
//! headers; which rows they are is the hub's.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_ENCODING, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, ORIGIN, VARY,
};
use hyper::{Request, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::ask::{self, Admitted, Endpoint, Refusal, bad, refused};
use super::connections::Overdue;
use super::reply::{BodyHold, Reply, long, reply};
use super::state::Web;
use crate::delivery::access::auth::Identity;
use crate::delivery::fanout::hub::{Freshness, JoinError, NoPage};
use crate::delivery::scope::page::ViewPage;
use crate::delivery::scope::projection::Unfit;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::wire::frame::CloseCode;
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;

const CURSOR: HeaderName = HeaderName::from_static("rowcast-cursor");
const MORE: HeaderName = HeaderName::from_static("rowcast-more");
const ORDER: HeaderName = HeaderName::from_static("rowcast-order");
const COUNT: HeaderName = HeaderName::from_static("rowcast-count");
const OMITTED: HeaderName = HeaderName::from_static("rowcast-omitted");
/// What a page of another origin may read.
const EXPOSED: &str = "etag, rowcast-count, rowcast-cursor, rowcast-more, rowcast-omitted, rowcast-order";
/// A body from so many bytes on is compressed for a client that takes that, beside the threads that answer.
const COMPRESSED: usize = 1024;
/// So often a page is read again, where what may be seen changes meanwhile.
const TRIES: u32 = 3;

/// A client that takes nothing of its page for so long loses its connection. What it takes is noticed when the kernel has room
/// again for a third of what it buffers: 64 KiB, or hundreds of them on a fast line.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// And one that takes the whole of it more slowly than this, in bytes a second, beyond that time.
const SLOWEST: u64 = 32 * 1024;

/// Answers a request for `/rows/{name}`.
pub(super) async fn rows(request: &Request<Incoming>, name: &str, peer: IpAddr, web: &Arc<Web>) -> Reply {
    let admitted = match ask::admit(request, Endpoint::Rows, name, peer, web) {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(refusal),
    };
    let (is_public, asker) = (admitted.who.is_none(), admitted.share.asker());
    let (page, cursor) = match page(admitted, web).await {
        Ok(found) => found,
        Err(refusal) => return refused(refusal),
    };
    let Ok(taken) = web.hub.room_for(&asker, &page).await else {
        let reason = "too many pages wait for clients that do not take them: try again later".to_owned();
        return refused(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, code: CloseCode::Overloaded, reason });
    };
    let (progress, taking) = watch::channel(());
    if let Some(overdue) = request.extensions().get::<Overdue>() {
        let all_within = TAKEN_WITHIN + Duration::from_secs(page.size() as u64 / SLOWEST);
        tokio::spawn(look_after(taking, all_within, overdue.clone()));
    }
    answer(request.headers(), &page, &cursor, is_public, BodyHold { _room: taken, progress }).await
}

/// Ends the connection of a client that takes nothing of its page. Ends with the page.
async fn look_after(mut taking: watch::Receiver<()>, all_within: Duration, overdue: Overdue) {
    let all_by = Instant::now() + all_within;
    loop {
        match timeout_at(all_by.min(Instant::now() + TAKEN_WITHIN), taking.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!(event = "rows_not_taken", seconds = TAKEN_WITHIN.as_secs());
                return overdue.0.notify_one();
            }
        }
    }
}

/// The page, and its cursor.
async fn page(admitted: Admitted, web: &Web) -> Result<(Arc<ViewPage>, String), Refusal> {
    let Admitted { first, who, share, wants_cuts: _, paging } = admitted;
    let refuse = |status, code, reason: &str| Err(Refusal { status, code, reason: reason.to_owned() });
    let Some((asked, _)) = first.filter(|(key, _)| key.channel().is_some()) else {
        let reason = "name a channel, such as /rows/pets: a user's notifications have no rows";
        return refuse(StatusCode::NOT_FOUND, CloseCode::UnknownChannel, reason);
    };
    let spec = paging.parse().map_err(bad)?;
    if !web.hub.is_live() {
        let reason = "the server is not connected to its database: try again later";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, CloseCode::Overloaded, reason);
    }
    for _ in 0..TRIES {
        let (key, projection) = match web.hub.look_patiently(&asked, who.as_deref()).await {
            Ok(looked) => looked,
            Err(JoinError::Unfit(Unfit(reason))) => return Err(bad(reason)),
            Err(JoinError::Forbidden) => {
                let reason = format!("your token does not let you see {}", asked.label());
                return refuse(StatusCode::FORBIDDEN, CloseCode::Forbidden, &reason);
            }
            Err(_) => {
                let reason = format!("there is no channel {}", asked.label());
                return refuse(StatusCode::NOT_FOUND, CloseCode::UnknownChannel, &reason);
            }
        };
        match web.hub.page(&key, &projection, &spec, Freshness::Replayed, &share.asker()).await {
            // it may have waited long for its turn: what was allowed then is not to be told now
            Ok(page) if !web.hub.may_be_told(&key, who.as_deref(), &page.boundary.cursor.seen).await => {}
            Ok(_) if !is_still_allowed(web, &asked, &key, who.as_deref()) => {}
            Ok(page) => {
                let cursor = web.hub.sealed(&page.boundary.token);
                let cursor = ResumeToken::of(&cursor, projection.mark()).to_string();
                return Ok((page, cursor));
            }
            Err(NoPage::Outdated) => {}
            Err(NoPage::Unfit(what)) => return Err(bad(what)),
            Err(NoPage::Refused) => {
                let reason = "the rows cannot be read: the server's log says why";
                return refuse(StatusCode::SERVICE_UNAVAILABLE, CloseCode::Overloaded, reason);
            }
            Err(NoPage::Later | NoPage::Unanswered) => break,
        }
    }
    let reason = "the rows could not be read in time: try again later";
    refuse(StatusCode::SERVICE_UNAVAILABLE, CloseCode::Overloaded, reason)
}

fn is_still_allowed(web: &Web, asked: &ViewKey, key: &ViewKey, who: Option<&Identity>) -> bool {
    let is_good = who.is_none_or(|who| {
        let is_over = who.expires.is_some_and(|at| at <= SystemTime::now());
        !is_over && web.hub.keys().is_none_or(|keys| !keys.is_revoked(who))
    });
    is_good && web.hub.permit(asked, who).is_ok_and(|now| now == *key)
}

async fn answer(asked: &HeaderMap, page: &ViewPage, cursor: &str, is_public: bool, held: BodyHold) -> Reply {
    let mut body = String::with_capacity(page.size() + page.parts.len() + 8);
    body.push('[');
    for part in page.parts.iter().filter(|part| !part.rows.is_empty()) {
        if body.len() > 1 {
            body.push(',');
        }
        body.push_str(&part.rows);
    }
    body.push_str("]\n");
    let hash = URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..12]);
    let wants_gzip = accepts_gzip(asked) && body.len() >= COMPRESSED;
    let tag = format!("\"{hash}{}\"", if wants_gzip { "-gzip" } else { "" });
    let is_known =
        asked.get_all(IF_NONE_MATCH).iter().any(|known| known.to_str().is_ok_and(|known| known.contains(&tag)));
    let mut answer = match (is_known, wants_gzip) {
        (true, _) => reply(StatusCode::NOT_MODIFIED, "application/json", ""),
        (false, false) => long("application/json", body, held),
        (false, true) => match tokio::task::spawn_blocking(move || gzip(body.as_bytes())).await {
            Ok(Ok(packed)) => {
                let mut answer = long("application/json", packed, held);
                answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                answer
            }
            Ok(Err(_)) | Err(_) => {
                reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the rows cannot be compressed\n")
            }
        },
    };
    let headers = answer.headers_mut();
    let mut put = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    put(ETAG, tag);
    put(CURSOR, cursor.to_owned());
    put(MORE, page.more.to_string());
    put(ORDER, ascii(&protocol::order(&page.order).to_string()));
    if let Some(count) = page.count {
        put(COUNT, format!("{}{}", if count.is_exact { "" } else { "~" }, count.rows));
    }
    let omitted = page.parts.iter().filter(|part| part.omitted).count();
    if omitted > 0 {
        put(OMITTED, "row_bytes".to_owned());
    }
    // what one token shows is not to be kept for another; a page that everybody may see may be a second old, as it may be here
    put(CACHE_CONTROL, if is_public { "public, max-age=1" } else { "private, no-cache" }.to_owned());
    put(VARY, "accept-encoding, authorization, origin".to_owned());
    if let Some(origin) = asked.get(ORIGIN) {
        // it is an allowed one, else there were no answer
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    answer
}

/// JSON in which every character is one of ASCII: names of columns may have others, and headers may not.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() {
            text.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

/// Whether the client takes a body that is compressed: `gzip`, and not `gzip;q=0`.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_alphabet_fits_into_a_header() {
        assert_eq!(ascii(r#"{"größe":"🦀"}"#), r#"{"gr\u00f6\u00dfe":"\ud83e\udd80"}"#);
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let accepts = |value: &'static str| {
            accepts_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(accepts("gzip") && accepts("br, GZIP;q=0.5") && accepts("deflate, gzip"));
        assert!(!accepts("gzip;q=0") && !accepts("br") && !accepts("x-gzip"));
    }
}
