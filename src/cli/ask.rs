//! A client of a running rowcast: its pages, a socket. Owns the asking; knows no database.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper_tungstenite::tungstenite::client::IntoClientRequest as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::explain;
use crate::error::{Error, Kind, Result};
use crate::fetch;

/// Looking for an old change may take the database a while.
const WITHIN: Duration = Duration::from_secs(30);
const NOT_RUNNING: &str = "is `rowcast serve` or `rowcast demo` running there? --url names another address";

/// The header that carries a token.
fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Error::new(Kind::Config, "the token is no JSON Web Token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The address of a server that listens beside this process: a port on all addresses is one of this machine.
pub(super) fn beside(listen: &str) -> Option<String> {
    let mut address: SocketAddr = listen.parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Some(format!("http://{address}"))
}

/// What a path of the server answers.
pub(super) async fn get(url: &str, path: &str, token: Option<&str>) -> Result<String> {
    let target = format!("{}{path}", url.trim_end_matches('/'));
    answer(&target, fetch::get(&target, token.map(bearer).transpose()?)).await
}

/// Has the sockets of a user or of a channel closed, and says how many they were.
pub(super) async fn kick(url: &str, what: &str, name: &str, token: Option<&str>) -> Result<String> {
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    let target = format!("{}/kick?{what}={name}", url.trim_end_matches('/'));
    answer(&target, fetch::post(&target, token.map(bearer).transpose()?)).await
}

async fn answer(target: &str, asking: impl Future<Output = Result<(StatusCode, String)>>) -> Result<String> {
    let (status, text) = tokio::time::timeout(WITHIN, asking)
        .await
        .map_err(|_| Error::new(Kind::Connection, format!("{target} does not answer")))?
        .map_err(|e| if e.kind() == Kind::Connection { e.hint(NOT_RUNNING) } else { e })?;
    match status.as_u16() {
        200 => Ok(text),
        401 => Err(Error::new(Kind::Protocol, text.trim().to_owned()).hint("give one with --token or ROWCAST_TOKEN")),
        _ => Err(Error::new(Kind::Protocol, format!("{target}: {status}, {}", text.trim()))),
    }
}

/// A socket of the server, whose refusals come as close codes.
pub(super) async fn socket(
    url: &str,
    path: &str,
    token: Option<&str>,
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    let url = url.trim_end_matches('/').replacen("http", "ws", 1);
    let mut request = format!("{url}{path}")
        .into_client_request()
        .map_err(|e| Error::new(Kind::Config, format!("{url}{path} is no address of a server")).because(e))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("rowcast.v1"));
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
    }
    let (socket, _) = connect_async(request)
        .await
        .map_err(|e| Error::new(Kind::Connection, format!("cannot connect to {url}")).because(e).hint(NOT_RUNNING))?;
    Ok(socket)
}

/// Prints the way of a change, as the server tells it.
pub(super) async fn explain(url: &str, id: i64, token: Option<&str>, as_json: bool) -> Result<()> {
    let text = get(url, &format!("/explain/{id}"), token).await?;
    let told = if as_json {
        text
    } else {
        let story = serde_json::from_str(&text)
            .map_err(|e| Error::new(Kind::Protocol, "the server's answer is not valid JSON").because(e))?;
        explain::story(&story)
    };
    let _ = std::io::stdout().write_all(told.as_bytes());
    Ok(())
}
