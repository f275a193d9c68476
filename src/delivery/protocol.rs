//! The wire: what messages look like and what a client may say. Pure: text in, text and frames out.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::lens::{Ask, Shown};
use crate::change::{Change, Notification};
use crate::cursor::push_id;
use crate::lives::Gap;

/// Close codes; docs/protocol.md says what a client does on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// the client closed
    Normal = 1000,
    /// the server drains; reconnect with jitter
    Draining = 1001,
    /// a frame that RFC 6455 does not allow
    Protocol = 1002,
    /// text that is not UTF-8
    NotUtf8 = 1007,
    /// a message above the limit
    TooBig = 1009,
    /// what the request asks for is not understood; final
    BadRequest = 4400,
    /// no token, or one that is not or no longer believed; with another one
    Unauthenticated = 4401,
    /// the token does not allow it; final
    Forbidden = 4403,
    /// no such channel; final
    UnknownChannel = 4404,
    /// fell off the log; resume with the last cursor
    TooSlow = 4408,
    /// more commands than allowed; later
    RateLimited = 4429,
    /// more sockets than configured; later
    Overloaded = 4503,
}

/// What a client sent.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    /// answered with `pong`
    Ping {
        /// comes back in the answer
        #[serde(default)]
        r#ref: Option<Value>,
    },
    /// answered with itself
    Test {},
    /// join a channel
    Subscribe {
        /// its name
        channel: String,
        /// resume from this cursor
        #[serde(default)]
        since: Option<String>,
        /// the current rows first
        #[serde(default)]
        snapshot: bool,
        /// conditions that its rows must satisfy
        #[serde(default)]
        filter: Option<Texts>,
        /// only these columns
        #[serde(default)]
        columns: Option<Texts>,
        /// an update tells the columns as they were
        #[serde(default)]
        old: bool,
        /// comes back in the answer
        #[serde(default)]
        r#ref: Option<Value>,
    },
    /// another token for this socket
    Auth {
        /// a JSON Web Token
        token: String,
        /// comes back in the answer
        #[serde(default)]
        r#ref: Option<Value>,
    },
    /// leave a channel
    Unsubscribe {
        /// its name
        channel: String,
        /// comes back in the answer
        #[serde(default)]
        r#ref: Option<Value>,
    },
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    /// one
    One(String),
    /// several
    Many(Vec<String>),
}

impl Texts {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// What a subscription asks for. One text of columns is a list with commas, as in a query.
pub fn ask_of(filter: Option<Texts>, columns: Option<Texts>, old: bool) -> Ask {
    let columns = columns.map(|columns| match columns {
        Texts::One(list) => list.split(',').map(str::to_owned).collect(),
        other => other.into_vec(),
    });
    Ask::new(filter.map(Texts::into_vec).unwrap_or_default(), columns, old)
}

/// Commands this version knows, for the error that lists them.
const COMMANDS: [&str; 5] = ["ping", "test", "subscribe", "unsubscribe", "auth"];

/// Reads a client's message.
///
/// # Errors
/// The `error` message to answer with; the socket stays open.
pub fn parse_command(text: &str) -> Result<Command, String> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(e) => {
            let place = format!("the message is no JSON (line {}, column {})", e.line(), e.column());
            return Err(error("bad_json", &place, None));
        }
    };
    let reference = value.get("ref").cloned();
    let Some(kind) = value.get("type").and_then(Value::as_str) else {
        return Err(error("bad_message", "the message has no type", reference.as_ref()));
    };
    if !COMMANDS.contains(&kind) {
        let shown: String = kind.chars().take(40).collect();
        let text = format!("unknown command {shown}; known: {}", COMMANDS.join(", "));
        return Err(error("unknown_command", &text, reference.as_ref()));
    }
    let kind = kind.to_owned();
    serde_json::from_value(value).map_err(|e| error("bad_message", &format!("{kind}: {e}"), reference.as_ref()))
}

/// A `realtime_update`: what a view is shown of a change. `inside` is the token of the cut without the id, `end` the
/// cursor after it where this change is its last; `mark` follows either.
pub fn realtime_update(
    change: &Change,
    channel: &str,
    shown: &Shown<'_>,
    inside: &str,
    end: Option<&str>,
    mark: &str,
) -> String {
    let mut message = String::with_capacity(shown.data.len() + inside.len() + 256);
    message.push_str(r#"{"type":"realtime_update","entity_type":"#);
    push_string(&mut message, channel);
    message.push_str(r#","action":"#);
    push_string(&mut message, shown.action);
    message.push_str(r#","data":"#);
    message.push_str(&shown.data);
    push_place(&mut message, change, inside, end, mark);
    if !shown.changed.is_empty() {
        message.push_str(r#","changed":["#);
        for (i, column) in shown.changed.iter().enumerate() {
            if i > 0 {
                message.push(',');
            }
            push_string(&mut message, column);
        }
        message.push(']');
    }
    if let Some(old) = &shown.old {
        message.push_str(r#","old":"#);
        message.push_str(old);
    }
    push_origin(&mut message, change);
    message.push('}');
    message
}

/// A `notification` for one user.
pub fn notification(change: &Change, told: &Notification, user: &str, inside: &str, end: Option<&str>) -> String {
    let mut message = String::with_capacity(told.data.len() + inside.len() + 256);
    message.push_str(r#"{"type":"notification","notification_type":"#);
    push_string(&mut message, &told.kind);
    message.push_str(r#","user_id":"#);
    push_string(&mut message, user);
    message.push_str(r#","data":"#);
    message.push_str(&told.data);
    push_place(&mut message, change, inside, end, "");
    push_origin(&mut message, change);
    message.push('}');
    message
}

fn push_place(message: &mut String, change: &Change, inside: &str, end: Option<&str>, mark: &str) {
    message.push_str(r#","timestamp":""#);
    match jiff::Timestamp::from_microsecond(change.at) {
        Ok(at) => {
            let _ = write!(message, "{at:.6}");
        }
        Err(_) => message.push_str("1970-01-01T00:00:00.000000Z"),
    }
    let _ = write!(message, r#"","id":{},"cursor":""#, change.id);
    match end {
        Some(end) => message.push_str(end),
        None => {
            message.push_str(inside);
            push_id(message, change.id);
        }
    }
    message.push_str(mark);
    message.push('"');
}

fn push_origin(message: &mut String, change: &Change) {
    let _ = write!(message, r#","tx":"{}""#, change.tx);
    if let Some(actor) = &change.actor {
        message.push_str(r#","actor":"#);
        push_string(message, actor);
    }
}

/// Capture is live for this subscriber from `cursor` on. `recovered`: it goes on where its own cursor was; `replayed`:
/// so many messages came before this one.
pub fn subscribed(channel: &str, cursor: &str, recovered: bool, replayed: u64, reference: Option<&Value>) -> String {
    let mut message = serde_json::json!({
        "type": "subscribed", "channel": channel, "cursor": cursor, "recovered": recovered, "replayed": replayed,
    });
    add_reference(&mut message, reference);
    message.to_string()
}

/// The answer to `unsubscribe`.
pub fn unsubscribed(channel: &str, reference: Option<&Value>) -> String {
    let mut message = serde_json::json!({ "type": "unsubscribed", "channel": channel });
    add_reference(&mut message, reference);
    message.to_string()
}

/// Current rows of a channel's table, given as JSON objects with commas between them. The last message has the `cursor`
/// at which they were current.
pub fn snapshot(channel: &str, rows: &str, cursor: Option<&str>) -> String {
    let mut message = String::with_capacity(rows.len() + 128);
    message.push_str(r#"{"type":"snapshot","channel":"#);
    push_string(&mut message, channel);
    message.push_str(r#","rows":["#);
    message.push_str(rows);
    match cursor {
        None => message.push_str(r#"],"last":false}"#),
        Some(cursor) => {
            message.push_str(r#"],"last":true,"cursor":"#);
            push_string(&mut message, cursor);
            message.push('}');
        }
    }
    message
}

/// Changes are missing: take a new snapshot. `channel` is left out where it concerns every channel of the socket.
pub fn gap(channel: Option<&str>, gap: Gap) -> String {
    let mut message = serde_json::json!({ "type": "gap", "reason": gap.as_str() });
    if let Some(channel) = channel {
        message["channel"] = channel.into();
    }
    message.to_string()
}

/// The stream of a channel has come to `cursor`, and nothing else happened.
pub fn heartbeat(channel: &str, cursor: &str) -> String {
    serde_json::json!({ "type": "heartbeat", "channel": channel, "cursor": cursor }).to_string()
}

/// The answer to `auth`: whose token it is, and how many seconds it is good.
pub fn authenticated(user: Option<&str>, role: &str, expires_in: Option<u64>, reference: Option<&Value>) -> String {
    let mut message = serde_json::json!({ "type": "authenticated", "role": role });
    if let Some(user) = user {
        message["user_id"] = user.into();
    }
    if let Some(seconds) = expires_in {
        message["expires_in"] = seconds.into();
    }
    add_reference(&mut message, reference);
    message.to_string()
}

/// The token expires in so many seconds: send another one.
pub fn token_expiring(seconds: u64) -> String {
    serde_json::json!({ "type": "token_expiring", "expires_in": seconds }).to_string()
}

/// Too many commands: this one was not obeyed.
pub fn rate_limited(retry_after: f64, reference: Option<&Value>) -> String {
    let text = "too many commands: this one was not obeyed";
    let seconds = (retry_after * 1000.0).ceil() / 1000.0;
    let mut message =
        serde_json::json!({ "type": "error", "code": "rate_limited", "message": text, "retry_after": seconds });
    add_reference(&mut message, reference);
    message.to_string()
}

/// The answer to `ping`.
pub fn pong(reference: Option<&Value>) -> String {
    let mut message = serde_json::json!({ "type": "pong" });
    add_reference(&mut message, reference);
    message.to_string()
}

/// Something the client or its operator should know.
pub fn error(code: &str, text: &str, reference: Option<&Value>) -> String {
    let mut message = serde_json::json!({ "type": "error", "code": code, "message": text });
    add_reference(&mut message, reference);
    message.to_string()
}

/// The same of one channel, where it answers no command.
pub fn channel_error(code: &str, text: &str, channel: &str) -> String {
    serde_json::json!({ "type": "error", "code": code, "message": text, "channel": channel }).to_string()
}

fn add_reference(message: &mut Value, reference: Option<&Value>) {
    if let Some(reference) = reference {
        message["ref"] = reference.clone();
    }
}

fn push_string(message: &mut String, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        message.push('"');
        message.push_str(text);
        message.push('"');
    } else {
        message.push_str(&Value::from(text).to_string());
    }
}

/// A text frame as the server sends it: final, unmasked (RFC 6455 section 5.2).
pub fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 10);
    push_text_frame(&mut frame, text);
    frame
}

/// Appends a text frame.
pub fn push_text_frame(out: &mut Vec<u8>, text: &str) {
    push_header(out, 0x81, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a close frame; the reason is cut to the 123 bytes it may have.
pub fn push_close_frame(out: &mut Vec<u8>, code: CloseCode, reason: &str) {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    push_header(out, 0x88, 2 + end);
    out.extend_from_slice(&(code as u16).to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

/// Appends an empty ping frame.
pub fn push_ping_frame(out: &mut Vec<u8>) {
    push_header(out, 0x89, 0);
}

fn push_header(out: &mut Vec<u8>, first: u8, length: usize) {
    out.push(first);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Update;

    /// The messages that docs/protocol.md shows and clients are tested against.
    const GOLDEN: &str = include_str!("../../tests/golden/messages.json");

    fn golden(name: &str) -> Value {
        serde_json::from_str::<Value>(GOLDEN).unwrap()[name].clone()
    }

    fn change() -> Change {
        let data: Box<str> = r#"{"pet_id":1,"name":"Luna"}"#.into();
        Change {
            id: 90017,
            tx: 7421,
            at: 1_705_314_600_123_456,
            actor: Some("clinic_app".into()),
            update: Some(Update {
                channel: "pets".into(),
                action: "updated".into(),
                data: data.clone(),
                changed: vec!["name".into()],
                old: Some(r#"{"name":"Lu"}"#.into()),
                old_key: None,
            }),
            notification: Some(Notification {
                users: vec!["123".into()],
                kind: "pet_created".into(),
                data: r#"{"pet_name":"Luna","pet_id":1}"#.into(),
            }),
        }
    }

    fn update_of(change: &Change, inside: &str) -> String {
        realtime_update(change, "pets", &Shown::of(change.update.as_ref().unwrap()), inside, None, "")
    }

    #[test]
    fn messages_are_as_documented() {
        let change = change();
        let update = update_of(&change, "1AAAA");
        assert_eq!(serde_json::from_str::<Value>(&update).unwrap(), golden("realtime_update"));
        let told = notification(&change, change.notification.as_ref().unwrap(), "123", "1AAAA", Some("1BBBB"));
        assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), golden("notification"));
        for (name, message) in [
            ("subscribed", subscribed("pets", "1BBBB", true, 7, Some(&1.into()))),
            ("snapshot", snapshot("pets", r#"{"pet_id":1},{"pet_id":2}"#, None)),
            ("snapshot_last", snapshot("pets", "", Some("1BBBB"))),
            ("unsubscribed", unsubscribed("pets", Some(&2.into()))),
            ("gap", gap(Some("pets"), Gap::Retention)),
            ("heartbeat", heartbeat("pets", "1BBBB")),
            ("pong", pong(None)),
            ("error", error("unknown_channel", "there is no channel cats", Some(&3.into()))),
        ] {
            assert_eq!(serde_json::from_str::<Value>(&message).unwrap(), golden(name), "{name}");
        }
    }

    #[test]
    fn the_documented_fields_come_first() {
        let change = change();
        let update = update_of(&change, "1");
        let start = r#"{"type":"realtime_update","entity_type":"pets","action":"updated","data":{"pet_id":1,"name":"Luna"},"timestamp":"2024-01-15T10:30:00.123456Z","id":90017"#;
        assert!(update.starts_with(start), "{update}");
    }

    #[test]
    fn what_is_no_command_is_answered_with_an_error() {
        let code = |text: &str| {
            let error: Value = serde_json::from_str(&parse_command(text).unwrap_err()).unwrap();
            error["code"].as_str().unwrap().to_owned()
        };
        assert_eq!(code("{"), "bad_json");
        assert_eq!(code("[]"), "bad_message");
        assert_eq!(code(r#"{"type":"dance"}"#), "unknown_command");
        assert_eq!(code(r#"{"type":"subscribe"}"#), "bad_message");
        assert_eq!(code(r#"{"type":"subscribe","channel":"pets","filter":3}"#), "bad_message");
        assert!(matches!(parse_command(r#"{"type":"test","x":1}"#), Ok(Command::Test {})));
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut frame = Vec::new();
        push_close_frame(&mut frame, CloseCode::TooSlow, &"ü".repeat(100));
        assert_eq!(frame[1] as usize, 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
