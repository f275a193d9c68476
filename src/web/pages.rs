//! Pages and scripts that are part of the program: `/` says what is running, `/rowcast.js` is the browser client,
//! `/clinic` the demo. Owns their HTML; the figures are the status's.

use std::fmt::Write as _;

use hyper::{StatusCode, header};

use super::server::{Reply, Web, reply};

const HEAD: &str = include_str!("../../web/index.html");

/// `client/` in one file; `npm run bundle` there makes it.
const CLIENT: &str = include_str!("../../web/rowcast.js");
const CLINIC: &str = include_str!("../../web/clinic.html");
const CLINIC_SCRIPT: &str = include_str!("../../web/clinic.js");

/// The browser client, an ES module. Also for pages of other origins: it is no secret, and sockets check theirs.
pub fn client() -> Reply {
    let mut reply = script(CLIENT);
    reply.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, header::HeaderValue::from_static("*"));
    reply
}

/// The demo's page.
pub fn clinic() -> Reply {
    reply(StatusCode::OK, "text/html; charset=utf-8", CLINIC)
}

/// Its script.
pub fn clinic_script() -> Reply {
    script(CLINIC_SCRIPT)
}

fn script(text: &'static str) -> Reply {
    reply(StatusCode::OK, "text/javascript; charset=utf-8", text)
}

/// The page.
pub fn index(web: &Web) -> Reply {
    let (channels, users) = web.hub.census();
    let mut rows = String::new();
    for (name, subscribers) in &channels {
        let name = escape(name);
        let _ = writeln!(rows, "<tr><td>{name}</td><td><code>/ws/{name}</code></td><td>{subscribers}</td></tr>");
    }
    let state =
        if web.source.is_live() { "Capture is live." } else { "The source is down; changes are delayed, not lost." };
    let body = HEAD
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{state}}", state)
        .replace("{{users}}", &users.to_string())
        .replace("{{channels}}", &rows)
        .replace("{{demo}}", if web.is_demo { " <a href=\"/clinic\">The clinic, live</a>." } else { "" });
    reply(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
