//! `/websocket/status`: what is connected and how delivery fares, as JSON. Reads counters, changes nothing.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use super::server::Web;

/// The status: counts since the start, `lag_ms` of the last change from capture to the log.
pub fn status(web: &Web) -> Value {
    let metrics = web.hub.metrics();
    let (channels, users) = web.hub.census();
    let channels: serde_json::Map<String, Value> =
        channels.into_iter().map(|(name, subscribers)| (name.to_string(), subscribers.into())).collect();
    json!({
        "status": if web.source.is_live() { "live" } else { "source_down" },
        "connections": metrics.sockets.load(Relaxed),
        "channels": channels,
        "users": users,
        "messages": metrics.messages.load(Relaxed),
        "bytes_sent": metrics.bytes.load(Relaxed),
        "received": metrics.received.load(Relaxed),
        "errors": metrics.errors.load(Relaxed),
        "closed_too_slow": metrics.slow.load(Relaxed),
        "lag_ms": metrics.lag_ms(),
        "cursor": &*web.hub.cursor(),
        "source": web.source.status(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}
