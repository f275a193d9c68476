//! `/`: a plain page that says what is running. Owns its HTML; the figures are the status's.

use std::fmt::Write as _;

use hyper::StatusCode;

use super::server::{Reply, Web, reply};

const HEAD: &str = include_str!("../../web/index.html");

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
        .replace("{{channels}}", &rows);
    reply(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
