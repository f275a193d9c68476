//! What is told about the server: `/websocket/status`, what is connected and how delivery fares; `/websocket/behind`,
//! how far each subscriber is behind; `/websocket/hour`, the last hour; `/metrics`, figures for Prometheus;
//! `/websocket/database`, what the database says of itself; `/explain/{id}`, the way of one change. Reads and asks,
//! changes nothing.

use hyper::StatusCode;
use serde_json::{Value, json as object};
use tokio::sync::oneshot;

use super::reply::{Reply, json, reply, text};
use super::state::Web;
use crate::metrics::{self, Form, NodeStatus};
use crate::question::{Answer, Question, Recorded};

fn standing(web: &Web) -> NodeStatus {
    NodeStatus { is_live: web.hub.is_live(), is_publishing: web.node.is_publishing() }
}

/// The status: counts since the start, `lag_ms` of the last change from capture to the log.
pub(super) fn status(web: &Web) -> Value {
    let metrics = web.hub.metrics();
    let (channels, users) = web.hub.census();
    let channels: serde_json::Map<String, Value> =
        channels.into_iter().map(|(name, subscribers)| (name.to_string(), subscribers.into())).collect();
    object!({
        "status": if web.hub.is_live() { "live" } else { "source_down" },
        "connections": metrics.sockets.get(),
        "channels": channels,
        "users": users,
        "messages": metrics.messages.get(),
        "bytes_sent": metrics.bytes.get(),
        "received": metrics.received.get(),
        "errors": metrics.errors.get(),
        "closed_too_slow": metrics.slow(),
        "lag_ms": metrics.lag_ms(),
        "open_to_everybody": web.hub.keys().is_none(),
        "demo": web.application.is_some(),
        "cursor": &*web.hub.cursor(),
        "source": web.source.status(standing(web)),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The metrics, in the form that the header `Accept` asks for.
pub(super) fn metrics(web: &Web, accept: &str) -> Reply {
    let form = Form::accepted(accept);
    let (channels, users) = web.hub.census();
    let channels = channels.into_iter().map(|(name, subscribers)| (name.to_string(), subscribers));
    let text = metrics::encode(form, &web.source, web.hub.metrics(), channels, users, (standing(web), web.hub.kept()));
    reply(StatusCode::OK, form.content_type(), text)
}

/// What the database says of itself.
pub(super) async fn database(web: &Web) -> Reply {
    match ask(web, Question::Database).await {
        Ok(text) => reply(StatusCode::OK, "application/json", text),
        Err(error) => json(StatusCode::SERVICE_UNAVAILABLE, &object!({ "error": error })),
    }
}

/// The way of a change.
pub(super) async fn explain(web: &Web, id: &str) -> Reply {
    let Some(id) = id.parse::<i64>().ok().filter(|id| *id > 0) else {
        return text(StatusCode::BAD_REQUEST, "the id of a change is a whole number: the id of a message\n");
    };
    match ask(web, |answer| Question::Change { id, answer }).await {
        Ok(Recorded::Change(change)) => json(StatusCode::OK, &web.hub.explain(&change)),
        Ok(Recorded::Nothing) => {
            let why = "a channel, a policy or a revocation: nothing that a subscriber would see";
            json(StatusCode::OK, &object!({ "id": id, "captured": null, "silent": why }))
        }
        Ok(Recorded::Absent { last, first }) => {
            let why = match first {
                _ if id > last => format!("the last id that was given away is {last}"),
                Some(first) if id >= first => "its transaction has not committed, or was rolled back".to_owned(),
                _ => "it is older than the outbox: the retention is over".to_owned(),
            };
            json(StatusCode::OK, &object!({ "id": id, "captured": null, "absent": why }))
        }
        Err(error) => json(StatusCode::SERVICE_UNAVAILABLE, &object!({ "error": error })),
    }
}

async fn ask<T>(web: &Web, question: impl FnOnce(oneshot::Sender<Answer<T>>) -> Question) -> Answer<T> {
    let (answer, told) = oneshot::channel();
    let gone = || "the server is going down".to_owned();
    let questions = web.questions.as_ref().ok_or("this node has no database: ask one that has")?;
    questions.send(question(answer)).await.map_err(|_| gone())?;
    told.await.unwrap_or_else(|_| Err(gone()))
}
