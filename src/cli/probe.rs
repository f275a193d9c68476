//! `rowcast doctor --probe`: a message goes the whole way, from a transaction to a socket. Owns the way, and which part of
//! it is broken; what a part looks like that works is everybody else's.
//!
//! The message is a notification to a user who does not exist, so nobody else hears it. Where tokens are checked it is the
//! token's own user, who gets it as `rowcast_probe`. Its row leaves the outbox with its segment.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use hyper_tungstenite::tungstenite::Message;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::ask;
use crate::error::{self, Error, Kind, Result};
use crate::source::client::Client;

/// A part of the way that takes longer is broken: a change that rang no bell is read within a second.
const WITHIN: Duration = Duration::from_secs(5);
/// The type of the notification.
const KIND: &str = "rowcast_probe";

/// Where it is to arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) url: &'a str,
    pub(super) token: Option<&'a str>,
}

/// Sends a message and waits for it; says how long it took.
///
/// # Errors
/// Which part of the way is broken, with the remedy.
pub(super) async fn run(client: &mut Client, way: Way<'_>) -> Result<String> {
    let nonce = format!("{:016x}", fastrand::u64(..));
    let user = way.token.and_then(user_of).unwrap_or_else(|| format!("rowcast-probe-{nonce}"));
    let mut socket = open(way, &user).await?;
    let began = Instant::now();
    let id = write(client, &user, &nonce).await?;
    let committed = Instant::now();
    let arrived = timeout(WITHIN, until(&mut socket, |message| message["data"]["probe"] == *nonce)).await;
    let took = (committed - began, committed.elapsed());
    // a client that goes away is not missed
    let _ = timeout(WITHIN, socket.close(None)).await;
    match arrived {
        Ok(Ok(())) => Ok(format!(
            "written and committed in {:.1} ms, at a socket of {} {:.1} ms later",
            took.0.as_secs_f64() * 1e3,
            way.url,
            took.1.as_secs_f64() * 1e3
        )),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(lost(way, id).await),
    }
}

/// A socket that hears the user, once the server has said so.
async fn open(way: Way<'_>, user: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    let path = format!("/ws/user/{}", utf8_percent_encode(user, NON_ALPHANUMERIC));
    let mut socket = timeout(WITHIN, ask::socket(way.url, &path, way.token))
        .await
        .map_err(|_| Error::new(Kind::Connection, format!("{} does not answer", way.url)))??;
    match timeout(WITHIN, until(&mut socket, |message| message["type"] == "subscribed")).await {
        Ok(subscribed) => subscribed.map(|()| socket),
        Err(_) => Err(Error::new(Kind::Connection, format!("{} takes sockets and reads no changes", way.url))
            .hint("its log says why: source_down, reconnect_failed, no_stream; rowcast status shows what it does")),
    }
}

/// Waits for a message of the server.
async fn until(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) if wanted(&serde_json::from_str(&text).unwrap_or_default()) => return Ok(()),
            Some(Ok(Message::Close(Some(frame)))) => {
                let text = format!("the server closed the socket: {} ({})", frame.reason, u16::from(frame.code));
                return Err(Error::new(Kind::Protocol, text)
                    .hint("where tokens are checked: a token whose role is admin, with a sub, in ROWCAST_TOKEN"));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(Error::new(Kind::Connection, "the server has cut the socket off")),
        }
    }
}

/// Commits the message; its id in the outbox.
async fn write(client: &mut Client, user: &str, nonce: &str) -> Result<i64> {
    let role: String = client
        .query_one("select quote_ident(current_user)", &[])
        .await
        .map_err(|e| Error::database("cannot ask for the role", e))?
        .get(0);
    let naming = client.naming().clone();
    let function = naming.of("grant execute on function rowcast.notify(text, text, jsonb) to");
    let may = format!("{}: {function} {role};", naming.of("let the owner of schema rowcast run"));
    let explain = |e| Error::database("the message cannot be written", e);
    let transaction = client.transaction_read_committed().await.map_err(explain)?;
    transaction.batch_execute("set local lock_timeout = '5s'").await.map_err(explain)?;
    transaction
        .query_one("select rowcast.notify($1, $2, jsonb_build_object('probe', $3::text))", &[&user, &KIND, &nonce])
        .await
        .map_err(|e| {
            let is_refused = e.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE);
            let error = explain(e);
            if is_refused { error.hint(may) } else { error }
        })?;
    let row = transaction
        .query_opt("select id from rowcast.outbox where xid = pg_current_xact_id() and op = 'N'", &[])
        .await
        .map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    row.map(|row| row.get(0)).ok_or_else(|| {
        Error::new(Kind::Database, "the message was not captured: changes are left out")
            .hint(naming.of("select finding, detail, remedy from rowcast.health where finding = 'capture';"))
    })
}

/// Where a message is that was committed and did not arrive.
async fn lost(way: Way<'_>, id: i64) -> Error {
    let broken = |what: &str, remedy: &str| Error::new(Kind::Connection, what.to_owned()).hint(remedy.to_owned());
    let told = match ask::get(way.url, &format!("/explain/{id}"), way.token).await {
        Ok(told) => serde_json::from_str::<Value>(&told).unwrap_or_default(),
        Err(error) => {
            let what = format!("the message is in the outbox and did not arrive, and {}", error::chain(&error));
            return broken(&what, "a token whose role is admin, in ROWCAST_TOKEN, lets the server be asked");
        }
    };
    if told["absent"].is_string() {
        let what = format!("the message is in the outbox, and {} reads another database", way.url);
        return broken(&what, "--url names a server that reads this database");
    }
    if told["passed"] == false {
        let what = format!("the message is in the outbox, and {} has not read it", way.url);
        return broken(&what, "its log says why; where it says nothing, restart it");
    }
    let what = format!("{} has read the message and not written it to the socket", way.url);
    broken(&what, "rowcast status --behind shows which subscribers wait; where none does, restart the server")
}

/// The user that a token names; whether it is to be believed is the server's to say.
fn user_of(token: &str) -> Option<String> {
    let body = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    match serde_json::from_slice::<Value>(&body).ok()?.get("sub")? {
        Value::String(user) => Some(user.clone()),
        Value::Number(user) => Some(user.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_user() {
        let token = |body: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(body));
        assert_eq!(user_of(&token(r#"{"sub":"7"}"#)).as_deref(), Some("7"));
        assert_eq!(user_of(&token(r#"{"sub":7}"#)).as_deref(), Some("7"));
        assert_eq!(user_of(&token("{}")), None);
        assert_eq!(user_of("no token"), None);
    }
}
