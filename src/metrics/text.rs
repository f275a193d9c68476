//! Metrics as they are read: the registry of a moment, in OpenMetrics or in Prometheus' older text format. Owns names,
//! units and forms; counts nothing.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{DeliveryMetrics, SourceMetrics, process};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelName {
    channel: String,
}

/// Of the stream; empty where this node follows none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamName {
    stream: String,
}

/// How metrics are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Prometheus' text format, which everything reads
    Plain,
    /// its successor
    OpenMetrics,
}

impl Form {
    /// What the header `Accept` asks for: the older form, unless the newer one is named and not liked less.
    pub fn accepted(accept: &str) -> Self {
        let liking = |kind: &str| {
            let asked = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(kind));
                let of_part = |part: &str| {
                    part.split_once('=')
                        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"))?
                        .1
                        .trim()
                        .parse::<f32>()
                        .ok()
                };
                named.then(|| parts.find_map(of_part).unwrap_or(1.0_f32))
            });
            asked.fold(0.0, f32::max)
        };
        let newer = liking("application/openmetrics-text");
        if newer > 0.0 && newer >= liking("text/plain") { Self::OpenMetrics } else { Self::Plain }
    }

    /// As the header `Content-Type` says it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How the node stands now.
#[derive(Debug, Clone, Copy)]
pub struct NodeStatus {
    /// changes arrive: connected and caught up
    pub is_live: bool,
    /// it writes the stream
    pub is_publishing: bool,
}

/// What is kept in memory now.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryKept {
    /// bytes of frames, of all views together
    pub view_bytes: u64,
    /// bytes of the values of claims that stand in tables
    pub claim_bytes: u64,
    /// users whose values are kept
    pub claim_holders: u64,
}

/// All of it in one of the forms, with the subscribers of each channel as they are now.
pub fn encode(
    form: Form,
    source: &SourceMetrics,
    delivery: &DeliveryMetrics,
    channels: impl Iterator<Item = (String, usize)>,
    users: usize,
    (standing, kept): (NodeStatus, MemoryKept),
) -> String {
    let mut registry = Registry::default();
    process::register(&mut registry);
    let r = registry.sub_registry_with_prefix("rowcast");
    r.register("build", "version of the server", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    let live = Gauge::<i64>::default();
    live.set(i64::from(standing.is_live));
    r.register("source_live", "1 while connected to the database and caught up", live);
    r.register("source_reads", "reads of the outbox", source.reads.clone());
    r.register("source_rows", "rows of the outbox that were read", source.rows.clone());
    r.register("source_bells", "notifications that rang", source.bells.clone());
    r.register("source_reconnects", "attempts to reach the database again", source.reconnects.clone());
    r.register("source_safety_finds", "reads that found a change without a bell", source.safety_finds.clone());
    let publishing = Family::<StreamName, Gauge>::default();
    let stream = source.stream.get().cloned().unwrap_or_default();
    publishing.get_or_create(&StreamName { stream }).set(i64::from(standing.is_publishing));
    r.register("publishing", "1 while this node writes the stream", publishing);
    r.register("stream_entries", "entries of the stream that were read", source.entries.clone());
    r.register("stream_appended", "entries that were appended to the stream", source.appended.clone());
    let bytes = source.appended_bytes.clone();
    r.register_with_unit("stream_appended", "bodies of entries that were appended", Unit::Bytes, bytes);
    r.register_with_unit("outbox", "size, as of the last minute", Unit::Bytes, source.outbox_bytes.clone());
    r.register_with_unit("outbox_age", "since its oldest segment was opened", Unit::Seconds, source.outbox_age.clone());
    let retention = source.retention.clone();
    r.register_with_unit("retention", "how long the outbox keeps changes", Unit::Seconds, retention);
    let about = "what rowcast.health says of capture, as of 15 seconds ago: 0 ok, 1 warn, 2 fail";
    r.register("finding", about, source.findings.clone());
    let skew = Gauge::<f64, AtomicU64>::default();
    skew.set(delivery.skew_seconds());
    r.register_with_unit("clock_skew", "by which the database's clock is ahead of this one", Unit::Seconds, skew);
    let lag = Gauge::<f64, AtomicU64>::default();
    lag.set(delivery.lag_ms() / 1000.0);
    r.register_with_unit("lag", "age of the last change when it reached its channel's log", Unit::Seconds, lag);
    r.register("sockets", "sockets and event streams that are open", delivery.sockets.clone());
    let subscribers = Family::<ChannelName, Gauge>::default();
    for (channel, count) in channels {
        subscribers.get_or_create(&ChannelName { channel }).set(count as i64);
    }
    r.register("subscribers", "subscribers of a channel", subscribers);
    let watched = Gauge::<i64>::default();
    watched.set(users as i64);
    r.register("users", "users with a subscriber", watched);
    let gauge = |number: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(number.cast_signed());
        gauge
    };
    r.register_with_unit("view", "frames kept for all views together", Unit::Bytes, gauge(kept.view_bytes));
    let held = gauge(kept.claim_bytes);
    r.register_with_unit("claim", "values of claims that stand in tables, of connected users", Unit::Bytes, held);
    r.register("claim_holders", "users whose values of claims are kept", gauge(kept.claim_holders));
    r.register("claim_reads", "statements that read values of claims", delivery.claim_reads.clone());
    r.register("messages", "messages put into a view's log, each for any number of sockets", delivery.messages.clone());
    r.register_with_unit("sent", "written to sockets", Unit::Bytes, delivery.bytes.clone());
    r.register("received", "messages from clients", delivery.received.clone());
    r.register("errors", "error messages to clients", delivery.errors.clone());
    r.register("closes", "sockets that the server closed, by close code", delivery.closes.clone());
    r.register("gaps", "gaps told, by reason", delivery.gaps.clone());
    r.register("resumes", "clients that were given their past, by where it came from", delivery.resumes.clone());
    r.register("pages", "pages of rows, read or given out again", delivery.pages.clone());
    r.register("limits", "requests and commands refused, by limit", delivery.limits.clone());
    r.register("cut_changes", "changes of a cut, or of a part of it", delivery.cut_changes.clone());
    r.register_with_unit("delay", "from capture to written to every socket", Unit::Seconds, delivery.delay.clone());
    let mut text = String::new();
    // writing into a String does not fail
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    match form {
        Form::OpenMetrics => text,
        Form::Plain => plain(&text),
    }
}

/// OpenMetrics in the older text format: a counter's name has its `_total` in its description too, as has an info's
/// `_info`, which is a gauge; there are neither units nor an end.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), about) => help = about,
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    _ => ("", kind),
                };
                if let Some(about) = help.take() {
                    out.extend(["# HELP ", name, suffix, " ", about, "\n"]);
                }
                out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            (Some("#"), ..) => {}
            _ => out.extend([line, "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn who_asks_for_openmetrics_gets_it_and_nobody_else() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, form) in [
            ("", Form::Plain),
            ("*/*", Form::Plain),
            ("text/html", Form::Plain),
            (prometheus, Form::OpenMetrics),
            ("application/openmetrics-text", Form::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", Form::Plain),
            ("Application/OpenMetrics-Text; version=1.0.0; Q=0.3, text/plain; q=0.9", Form::Plain),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept}");
        }
    }
}
