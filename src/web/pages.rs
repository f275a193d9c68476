//! Pages, scripts and descriptions that are part of the program. Owns which there are; each is a file of `web/` or
//! `docs/`, and what they show comes from the other routes.

use std::borrow::Cow;

use hyper::{StatusCode, header};

use super::reply::{Reply, reply};
use crate::naming::Naming;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const JSON: &str = "application/json";

/// The browser client is `client/` in one file; `npm run bundle` there makes it.
const PAGES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../../web/dashboard.html")),
    ("/dashboard.js", SCRIPT, include_str!("../../web/dashboard.js")),
    ("/figures.js", SCRIPT, include_str!("../../web/figures.js")),
    ("/uplot.js", SCRIPT, include_str!("../../web/vendor/uplot.js")),
    ("/uplot.css", STYLE, include_str!("../../web/vendor/uplot.css")),
    ("/rowcast.js", SCRIPT, include_str!("../../web/rowcast.js")),
    ("/docs", HTML, include_str!("../../web/docs.html")),
    ("/docs.js", SCRIPT, include_str!("../../web/docs.js")),
    ("/openapi.json", JSON, include_str!("../../docs/openapi.json")),
    ("/asyncapi.json", JSON, include_str!("../../docs/asyncapi.json")),
];

/// Of `rowcast demo` alone.
const DEMO: &[(&str, &str, &str)] = &[
    ("/clinic", HTML, include_str!("../../web/clinic.html")),
    ("/clinic.js", SCRIPT, include_str!("../../web/clinic.js")),
];

/// What is at a path, if anything. SQL in it is to be pasted, so it is in the words of the installation.
pub(super) fn page(path: &str, is_demo: bool, naming: &Naming) -> Option<Reply> {
    let demo = if is_demo { DEMO } else { &[] };
    let (_, content_type, text) = PAGES.iter().chain(demo).find(|(known, ..)| *known == path)?;
    let mut reply = match naming.of(text) {
        Cow::Borrowed(text) => reply(StatusCode::OK, content_type, text),
        Cow::Owned(text) => reply(StatusCode::OK, content_type, text),
    };
    if path == "/rowcast.js" {
        // also for pages of other origins: it is no secret, and sockets check theirs
        reply.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, header::HeaderValue::from_static("*"));
    }
    Some(reply)
}
