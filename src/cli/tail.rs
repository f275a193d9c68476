//! `rowcast tail`: a channel's messages, printed. Owns that it goes on over lost connections, and how a message looks.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_tungstenite::tungstenite::Message;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::ask;
use crate::delivery::wire::protocol;
use crate::error::{Error, Kind, Result};

/// After so much silence the server is pinged, and has as long to answer: a connection may end without a word.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// How a message is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TailFormat {
    /// as it came
    Json,
    /// time, action, channel, row
    Line,
}

/// What is to be printed.
pub(super) struct Wanted<'a> {
    /// `pets`, or `user/123`
    pub(super) channel: &'a str,
    /// query parameters
    pub(super) asked: Vec<(&'static str, String)>,
    /// what was missed since this cursor comes first
    pub(super) since: Option<String>,
    /// messages
    pub(super) left: u64,
    /// how long the server may be silent
    pub(super) silence: Duration,
    pub(super) form: TailFormat,
}

/// How a connection ended.
enum TailEnd {
    /// everything wanted was printed, or nobody reads it any more
    Done,
    /// to be resumed
    Lost(String),
}

/// Prints the messages of a channel, one a line. A connection that is lost is resumed where it was; the first one must
/// be had.
pub(super) async fn follow(url: &str, mut wanted: Wanted<'_>, token: Option<&str>) -> Result<()> {
    let mut attempt = None;
    loop {
        let lost = match connection(url, &mut wanted, token, &mut attempt).await {
            Ok(TailEnd::Done) => return Ok(()),
            Ok(TailEnd::Lost(why)) => why,
            Err(error) if attempt.is_some() && error.kind() == Kind::Connection => error.to_string(),
            Err(error) => return Err(error),
        };
        let tried = attempt.map_or(0, |tried: u32| tried + 1).min(7);
        attempt = Some(tried);
        let pause = Duration::from_millis(100 << tried).mul_f64(fastrand::f64());
        eprintln!("rowcast: {lost}; resuming");
        tokio::time::sleep(pause).await;
    }
}

async fn connection(
    url: &str,
    wanted: &mut Wanted<'_>,
    token: Option<&str>,
    attempt: &mut Option<u32>,
) -> Result<TailEnd> {
    // rows that were printed once are not wanted again
    let comes_back = wanted.since.is_some() && attempt.is_some();
    let asked = wanted.asked.iter().filter(|(name, _)| !(comes_back && *name == "snapshot"));
    let asked = asked.map(|(name, value)| (*name, value)).chain(wanted.since.iter().map(|since| ("since", since)));
    let asked = asked.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    let path = format!("/ws/{}?{}", wanted.channel, asked.collect::<Vec<_>>().join("&"));
    let opened = tokio::time::timeout(wanted.silence, ask::socket(url, &path, token)).await;
    let silent = || Error::new(Kind::Connection, format!("{url} does not answer"));
    let mut socket = opened.map_err(|_| silent())??;
    let mut is_pinged = false;
    while wanted.left > 0 {
        let next = match tokio::time::timeout(wanted.silence, socket.next()).await {
            Ok(next) => next,
            Err(_) if is_pinged => return Err(silent()),
            Err(_) => {
                is_pinged = true;
                // where it cannot be written, nothing is read either
                let ping = socket.send(Message::Ping(Bytes::new()));
                let _ = tokio::time::timeout(wanted.silence, ping).await;
                continue;
            }
        };
        is_pinged = false;
        match next {
            Some(Ok(Message::Text(message))) => {
                *attempt = Some(0);
                if let Some(cursor) = protocol::cursor_of(&message) {
                    wanted.since = Some(cursor.to_owned());
                }
                // a reader that has closed the pipe has read enough, as in `rowcast tail pets | head -1`
                if print(&message, wanted.form).is_err() {
                    break;
                }
                wanted.left -= 1;
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                let text = format!("the server closed: {} ({})", frame.reason, u16::from(frame.code));
                return match u16::from(frame.code) {
                    1001 | 4408 | 4429 | 4503 if attempt.is_some() => Ok(TailEnd::Lost(text)),
                    _ => Err(Error::new(Kind::Protocol, text)),
                };
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Ok(TailEnd::Lost("the connection is lost".to_owned())),
        }
    }
    let _ = socket.close(None).await;
    let _ = socket.flush().await;
    Ok(TailEnd::Done)
}

fn print(message: &str, form: TailFormat) -> std::io::Result<()> {
    use std::io::IsTerminal as _;
    let mut out = std::io::stdout();
    match form {
        TailFormat::Json => writeln!(out, "{message}"),
        TailFormat::Line => {
            let is_terminal = out.is_terminal();
            writeln!(out, "{}", line(&serde_json::from_str(message).unwrap_or_default(), is_terminal))
        }
    }
}

/// A message in a line; the action in a colour of its own on a terminal.
fn line(message: &Value, in_colour: bool) -> String {
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    let time = text("timestamp").get(11..23).unwrap_or_default();
    let (what, of) = match text("type") {
        "realtime_update" => (text("action"), text("entity_type")),
        "notification" => (text("notification_type"), text("user_id")),
        other => return format!("{:12} {other} {}", "", text("reason")).trim_end().to_owned(),
    };
    let colour = match what {
        "created" | "entered" => "32",
        "deleted" | "left" | "truncated" => "31",
        _ => "33",
    };
    let what = if in_colour { format!("\x1b[{colour}m{what:<9}\x1b[0m") } else { format!("{what:<9}") };
    format!("{time} {what} {of} {}", message["data"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use hyper_tungstenite::tungstenite::handshake::derive_accept_key;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A handshake; and what was asked for.
    async fn accept(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap().into());
        }
        let key = request
            .lines()
            .find_map(|line| line.to_lowercase().starts_with("sec-websocket-key: ").then(|| &line[19..]));
        let accepted = derive_accept_key(key.unwrap().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: rowcast.v1\r\nsec-websocket-accept: {accepted}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        (stream, request)
    }

    /// The machine of the server is gone, or a router forgot the connection: nothing comes, no end either.
    #[tokio::test]
    async fn a_server_that_is_silent_is_left_and_resumed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (form, silence) = (TailFormat::Line, Duration::from_millis(50));
        let wanted = || Wanted { channel: "pets", asked: vec![], since: None, left: 9, form, silence };
        let tail = follow(&url, wanted(), None);
        let server = async {
            let (mut first, asked) = accept(&listener).await;
            assert!(!asked.contains("since="), "{asked}");
            let message = r#"{"type":"subscribed","cursor":"1AAAA.1"}"#;
            first
                .write_all(&[&[0x81, u8::try_from(message.len()).unwrap()], message.as_bytes()].concat())
                .await
                .unwrap();
            let (_second, asked) = accept(&listener).await;
            assert!(asked.contains("since=1AAAA%2E1"), "{asked}");
        };
        tokio::select! {
            ended = tail => panic!("{ended:?}"),
            () = server => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("it waits"),
        }
        // the first one must be had: here nobody answers the handshake
        let ended = follow(&url, wanted(), None).await.unwrap_err();
        assert!(ended.to_string().contains("does not answer"), "{ended}");
    }

    #[test]
    fn a_message_is_a_line() {
        let update = json!({"type": "realtime_update", "entity_type": "pets", "action": "created", "data": {"pet_id": 1},
            "timestamp": "2024-01-15T10:30:00.123456Z"});
        assert_eq!(line(&update, false), r#"10:30:00.123 created   pets {"pet_id":1}"#);
        assert!(line(&update, true).contains("\x1b[32mcreated"));
        assert_eq!(line(&json!({"type": "gap", "reason": "retention"}), false), "             gap retention");
    }
}
