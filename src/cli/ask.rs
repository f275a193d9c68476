//! A client of a running rowcast: its status page, a channel's messages. Owns the asking; knows no database.

use std::io::Write as _;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::client::IntoClientRequest as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::error::{Error, Kind, Result};

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

/// One GET, without a client library: status pages are short and the server is ours.
pub(super) async fn get(url: &str, path: &str, token: Option<&str>) -> Result<String> {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let explain =
        |e: std::io::Error| Error::new(Kind::Connection, format!("cannot ask {host}")).because(e).hint(NOT_RUNNING);
    let mut tcp = tokio::net::TcpStream::connect(host).await.map_err(explain)?;
    let authorization = match token {
        Some(token) => format!("authorization: {}\r\n", bearer(token)?.to_str().unwrap_or_default()),
        None => String::new(),
    };
    tcp.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{authorization}connection: close\r\n\r\n").as_bytes(),
    )
    .await
    .map_err(explain)?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(5), tcp.read_to_string(&mut answer))
        .await
        .map_err(|_| Error::new(Kind::Connection, format!("{host} does not answer")))?
        .map_err(explain)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| Error::new(Kind::Protocol, format!("{host} does not speak HTTP")))?;
    if head.split(' ').nth(1) == Some("401") {
        return Err(Error::new(Kind::Protocol, body.trim().to_owned()).hint("give one with --token or ROWCAST_TOKEN"));
    }
    Ok(body.to_owned())
}
