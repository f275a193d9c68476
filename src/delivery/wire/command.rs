//! What a client may say. Pure: text in, a command or the error that answers it out.

use serde::Deserialize;
use serde_json::Value;

use super::protocol::error;
use crate::delivery::scope::label::Tag;
use crate::delivery::scope::paging::{Paging, WantedRows};
use crate::delivery::scope::selection::Selection;
use crate::delivery::scope::telling::Telling;

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
        /// what its messages have as `view`
        #[serde(default)]
        view: Option<String>,
        /// resume from this cursor
        #[serde(default)]
        since: Option<String>,
        /// the current rows first
        #[serde(default)]
        snapshot: bool,
        /// a snapshot may come in pages, and goes on where it was broken off
        #[serde(default)]
        partial: bool,
        /// a page of the current rows first
        #[serde(default)]
        rows: Option<Paging>,
        /// conditions that its rows must satisfy
        #[serde(default)]
        filter: Option<Texts>,
        /// only these columns
        #[serde(default)]
        columns: Option<Texts>,
        /// an update tells the columns as they were
        #[serde(default)]
        old: bool,
        /// an update tells the columns that differ, and the key
        #[serde(default)]
        changed: bool,
        /// the newest change of each row
        #[serde(default)]
        latest: bool,
        /// at most so often, in milliseconds
        #[serde(default)]
        every: Option<u32>,
        /// comes back in the answer
        #[serde(default)]
        r#ref: Option<Value>,
    },
    /// a page of current rows
    Rows {
        /// the channel's name
        channel: String,
        /// a subscription of this socket, whose filter and columns count
        #[serde(default)]
        view: Option<String>,
        /// conditions that its rows must satisfy
        #[serde(default)]
        filter: Option<Texts>,
        /// only these columns
        #[serde(default)]
        columns: Option<Texts>,
        /// which of the rows, in which order
        #[serde(flatten)]
        paging: Paging,
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
    /// tell the end of each cut from now on
    Cuts {},
    /// say when the stream has come to a position, and all of it was written
    Sync {
        /// it
        cursor: String,
        /// comes back in the answer
        #[serde(default)]
        r#ref: Option<Value>,
    },
    /// leave a channel, or one view of it
    Unsubscribe {
        /// its name
        channel: String,
        /// all views where it is absent; empty: the one without
        #[serde(default)]
        view: Option<String>,
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

/// What a subscription asks for, with the tag that its client has chosen; where it has chosen none, whatever is not the whole
/// channel gets one.
///
/// # Errors
/// What is wrong with the tag.
pub fn tagged(selection: Selection, view: Option<&str>) -> Result<Selection, String> {
    match view {
        Some(text) => Tag::chosen(text)
            .map(|tag| selection.tagged(tag))
            .ok_or_else(|| "view has 1 to 32 characters: letters, digits, - and _ of ASCII".to_owned()),
        None if selection.is_narrowed() => {
            let tag = Tag::of(&selection);
            Ok(selection.tagged(tag))
        }
        None => Ok(selection),
    }
}

/// What a subscription asks for. One text of columns is a list with commas, as in a query.
pub fn selection_of(filter: Option<Texts>, columns: Option<Texts>, telling: Telling) -> Selection {
    let columns = columns.map(|columns| match columns {
        Texts::One(list) => list.split(',').map(str::to_owned).collect(),
        other => other.into_vec(),
    });
    Selection::new(filter.map(Texts::into_vec).unwrap_or_default(), columns, telling)
}

/// Which of the current rows a `subscribe` asks for.
///
/// # Errors
/// What is wrong with it: code and text.
pub fn wanted_rows(snapshot: bool, rows: Option<Paging>) -> Result<WantedRows, (&'static str, String)> {
    match (snapshot, rows) {
        (false, None) => Ok(WantedRows::Nothing),
        (true, None) => Ok(WantedRows::All),
        (false, Some(paging)) => paging.parse().map(WantedRows::Page).map_err(|text| ("bad_order", text)),
        (true, Some(_)) => {
            Err(("bad_message", "snapshot is all rows, and rows a page of them: ask for one".to_owned()))
        }
    }
}

/// Commands this version knows, for the error that lists them.
const COMMANDS: [&str; 8] = ["ping", "test", "subscribe", "unsubscribe", "rows", "auth", "cuts", "sync"];

/// Bytes of the `ref` of a command that may wait: it is kept meanwhile, and JSON that was read takes tens of times its text.
const REFERENCE: usize = 1024;

/// Reads a client's message.
///
/// # Errors
/// The `error` message to answer with; the socket stays open.
pub fn parse(text: &str) -> Result<Command, String> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(e) => {
            let place = format!("the message is not valid JSON (line {}, column {})", e.line(), e.column());
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
    let is_long = |reference: &Value| reference.to_string().len() > REFERENCE;
    if matches!(&*kind, "subscribe" | "rows" | "sync") && reference.as_ref().is_some_and(is_long) {
        return Err(error("bad_message", &format!("ref has more than {REFERENCE} bytes"), None));
    }
    serde_json::from_value(value).map_err(|e| error("bad_message", &format!("{kind}: {e}"), reference.as_ref()))
}

/// Whether a command joins or leaves a channel. To `parse` it takes as long as this.
pub fn joins_or_leaves(text: &str) -> bool {
    matches!(parse(text), Ok(Command::Subscribe { .. } | Command::Unsubscribe { .. }))
}

/// The `ref` of a command that is not obeyed; a long one is not read for it.
pub fn reference_of(text: &str) -> Option<Value> {
    let short = Some(text).filter(|text| text.len() <= 1024)?;
    serde_json::from_str::<Value>(short).ok()?.get("ref").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_command_is_answered_with_an_error() {
        let code = |text: &str| {
            let error: Value = serde_json::from_str(&parse(text).unwrap_err()).unwrap();
            error["code"].as_str().unwrap().to_owned()
        };
        assert_eq!(code("{"), "bad_json");
        assert_eq!(code("[]"), "bad_message");
        assert_eq!(code(r#"{"type":"dance"}"#), "unknown_command");
        assert_eq!(code(r#"{"type":"subscribe"}"#), "bad_message");
        assert_eq!(code(r#"{"type":"subscribe","channel":"pets","filter":3}"#), "bad_message");
        assert!(matches!(parse(r#"{"type":"test","x":1}"#), Ok(Command::Test {})));
        let with_ref =
            |kind: &str, length| format!(r#"{{"type":"{kind}","channel":"pets","ref":"{}"}}"#, "x".repeat(length));
        assert!(parse(&with_ref("subscribe", 1022)).is_ok() && parse(&with_ref("ping", 100_000)).is_ok());
        assert_eq!(code(&with_ref("subscribe", 1023)), "bad_message");
    }
}
