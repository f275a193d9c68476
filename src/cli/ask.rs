//! A client of a running rowcast: its status page, a channel's messages. Owns the asking; knows no database.

use std::io::Write as _;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::client::IntoClientRequest as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::explain;
use crate::error::{Error, Kind, Result};
use crate::fetch;

/// Looking for an old change may take the database a while.
const WITHIN: Duration = Duration::from_secs(30);
const NOT_RUNNING: &str = "is `rowcast serve` or `rowcast demo` running there? --url names another address";

/// Prints the messages of a channel (`pets`, or `user/123`), one a line, until `left` of them came. `asked` are query
/// parameters.
pub(super) async fn tail(
    url: &str,
    channel: &str,
    asked: &[(&str, String)],
    token: Option<&str>,
    mut left: u64,
) -> Result<()> {
    let url = url.trim_end_matches('/').replacen("http", "ws", 1);
    let asked = asked.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    let target = format!("{url}/ws/{channel}?{}", asked.collect::<Vec<_>>().join("&"));
    let mut request = target
        .as_str()
        .into_client_request()
        .map_err(|e| Error::new(Kind::Config, format!("{target} is no address of a server")).because(e))?;
    request
        .headers_mut()
        .insert(hyper::header::SEC_WEBSOCKET_PROTOCOL, hyper::header::HeaderValue::from_static("rowcast.v1"));
    if let Some(token) = token {
        request.headers_mut().insert(hyper::header::AUTHORIZATION, bearer(token)?);
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.map_err(|e| {
        Error::new(Kind::Connection, format!("cannot connect to {target}")).because(e).hint(NOT_RUNNING)
    })?;
    while left > 0 {
        match socket.next().await {
            Some(Ok(Message::Text(message))) => {
                // whoever read it has read enough, as in `rowcast tail pets | head -1`
                if writeln!(std::io::stdout(), "{message}").is_err() {
                    break;
                }
                left -= 1;
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                return Err(Error::new(
                    Kind::Protocol,
                    format!("the server closed: {} ({})", frame.reason, u16::from(frame.code)),
                ));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Error::new(Kind::Connection, "the connection is lost").because(error)),
            None => return Err(Error::new(Kind::Connection, "the connection is lost")),
        }
    }
    let _ = socket.close(None).await;
    let _ = socket.flush().await;
    Ok(())
}

fn bearer(token: &str) -> Result<hyper::header::HeaderValue> {
    let mut value = hyper::header::HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Error::new(Kind::Config, "the token is no JSON Web Token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a path of the server answers.
pub(super) async fn get(url: &str, path: &str, token: Option<&str>) -> Result<String> {
    let target = format!("{}{path}", url.trim_end_matches('/'));
    let authorization = token.map(bearer).transpose()?;
    let answer = tokio::time::timeout(WITHIN, fetch::get(&target, authorization)).await;
    let (status, text) = answer
        .map_err(|_| Error::new(Kind::Connection, format!("{target} does not answer")))?
        .map_err(|e| if e.kind() == Kind::Connection { e.hint(NOT_RUNNING) } else { e })?;
    match status.as_u16() {
        200 => Ok(text),
        401 => Err(Error::new(Kind::Protocol, text.trim().to_owned()).hint("give one with --token or ROWCAST_TOKEN")),
        _ => Err(Error::new(Kind::Protocol, format!("{target}: {status}, {}", text.trim()))),
    }
}

/// Prints the life of a change, as the server tells it.
pub(super) async fn explain(url: &str, id: i64, token: Option<&str>, as_json: bool) -> Result<()> {
    let text = get(url, &format!("/explain/{id}"), token).await?;
    let told = if as_json {
        text
    } else {
        let story = serde_json::from_str(&text)
            .map_err(|e| Error::new(Kind::Protocol, "the server's answer is no JSON").because(e))?;
        explain::story(&story)
    };
    let _ = std::io::stdout().write_all(told.as_bytes());
    Ok(())
}
