//! `/websocket/status`, what is connected and how delivery fares, as JSON; `/metrics`, the same for Prometheus. Reads
//! counters, changes nothing.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::server::{Reply, Web, reply};
use crate::metrics;

/// The status: counts since the start, `lag_ms` of the last change from capture to the log.
pub fn status(web: &Web) -> Value {
    let metrics = web.hub.metrics();
    let (channels, users) = web.hub.census();
    let channels: serde_json::Map<String, Value> =
        channels.into_iter().map(|(name, subscribers)| (name.to_string(), subscribers.into())).collect();
    json!({
        "status": if web.source.is_live() { "live" } else { "source_down" },
        "connections": metrics.sockets.get(),
        "channels": channels,
        "users": users,
        "messages": metrics.messages.get(),
        "bytes_sent": metrics.bytes.get(),
        "received": metrics.received.get(),
        "errors": metrics.errors.get(),
        "closed_too_slow": metrics.slow(),
        "lag_ms": metrics.lag_ms(),
        "cursor": &*web.hub.cursor(),
        "source": web.source.status(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The metrics.
pub fn metrics(web: &Web) -> Reply {
    let (channels, users) = web.hub.census();
    let channels = channels.into_iter().map(|(name, subscribers)| (name.to_string(), subscribers));
    let text = metrics::encode(&web.source, web.hub.metrics(), channels, users);
    reply(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
}
