//! What the server says: messages as text. Pure; frames are made of them in [`frame`](super::frame), and what a client
//! says is in [`command`](super::command).

use std::fmt::Write as _;

use serde_json::Value;

use crate::actor;
use crate::change::Change;
use crate::cursor::push_id;
use crate::delivery::scope::label::{Label, Tag};
use crate::delivery::scope::page::{PagePart, ViewPage};
use crate::delivery::scope::visible::{VisibleChange, VisibleNotification};
use crate::incarnations::Gap;
use crate::request::OrderBy;

/// Nothing of the cut follows on this channel.
const LAST: &str = r#","last":true"#;
/// The row is longer than `row_bytes`: only its key is told.
const OMITTED: &str = r#","omitted":"row_bytes""#;

/// Where a client goes on that has a message, and whether nothing of its cut follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessagePlace<'a> {
    /// inside the cut, behind the change: the token of the cut without the id
    Inside(&'a str),
    /// the cursor after the cut: this is the last message of it
    End(&'a str),
    /// this cursor, from before the change, and others follow
    Before(&'a str),
}

impl<'a> MessagePlace<'a> {
    /// At the end where there is one.
    pub fn of(inside: &'a str, end: Option<&'a str>) -> Self {
        end.map_or(Self::Inside(inside), Self::End)
    }

    fn is_last(self) -> bool {
        matches!(self, Self::End(_))
    }
}

/// A `realtime_update`: what a view is shown of a change; `mark` follows its cursor. A `gap` where the change cannot be read.
pub fn realtime_update(
    change: &Change,
    channel: &str,
    shown: &VisibleChange<'_>,
    place: MessagePlace<'_>,
    mark: &str,
) -> String {
    if let Some(missing) = shown.gap {
        let message = gap(&Label { channel: channel.into(), tag: shown.tag.cloned() }, missing);
        return if place.is_last() { as_last(&message) } else { message };
    }
    let mut message = String::with_capacity(shown.data.len() + 512);
    message.push_str(r#"{"type":"realtime_update","entity_type":"#);
    push_string(&mut message, channel);
    message.push_str(r#","action":"#);
    push_string(&mut message, shown.action);
    message.push_str(r#","data":"#);
    message.push_str(&shown.data);
    push_place(&mut message, change, place, mark);
    if !shown.changed.is_empty() || shown.action == "updated" {
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
    if shown.omitted {
        message.push_str(OMITTED);
    }
    push_origin(&mut message, change, shown.hides_actor);
    push_tag(&mut message, shown.tag);
    push_last(&mut message, place);
    message.push('}');
    message
}

/// A frame's message of a change, of which it is known by now that nothing of its cut follows.
pub fn as_last(message: &str) -> String {
    let mut message = message.to_owned();
    message.pop();
    message.push_str(LAST);
    message.push('}');
    message
}

fn push_last(message: &mut String, place: MessagePlace<'_>) {
    if place.is_last() {
        message.push_str(LAST);
    }
}

/// A `notification` for one user: what the user's view is told of it.
pub fn notification(
    change: &Change,
    kind: &str,
    told: &VisibleNotification<'_>,
    user: &str,
    place: MessagePlace<'_>,
    mark: &str,
) -> String {
    let mut message = String::with_capacity(told.data.len() + 512);
    message.push_str(r#"{"type":"notification","notification_type":"#);
    push_string(&mut message, kind);
    message.push_str(r#","user_id":"#);
    push_string(&mut message, user);
    message.push_str(r#","data":"#);
    message.push_str(&told.data);
    push_place(&mut message, change, place, mark);
    if told.omitted {
        message.push_str(OMITTED);
    }
    push_origin(&mut message, change, told.hides_actor);
    push_last(&mut message, place);
    message.push('}');
    message
}

/// A moment, given in microseconds since 1970.
pub fn timestamp(at: i64) -> String {
    let mut text = String::new();
    push_timestamp(&mut text, at);
    text
}

fn push_timestamp(text: &mut String, at: i64) {
    match jiff::Timestamp::from_microsecond(at) {
        Ok(at) => {
            let _ = write!(text, "{at:.6}");
        }
        Err(_) => text.push_str("1970-01-01T00:00:00.000000Z"),
    }
}

fn push_place(message: &mut String, change: &Change, place: MessagePlace<'_>, mark: &str) {
    message.push_str(r#","timestamp":""#);
    push_timestamp(message, change.at);
    let _ = write!(message, r#"","id":{},"cursor":""#, change.id);
    match place {
        MessagePlace::End(cursor) | MessagePlace::Before(cursor) => message.push_str(cursor),
        MessagePlace::Inside(token) => {
            message.push_str(token);
            push_id(message, change.id);
        }
    }
    message.push_str(mark);
    message.push('"');
}

fn push_origin(message: &mut String, change: &Change, hides_actor: bool) {
    let _ = write!(message, r#","tx":"{}""#, change.tx);
    let name = change.actor.as_deref().filter(|_| !hides_actor).and_then(|actor| actor::read(actor).0);
    if let Some(actor) = name {
        message.push_str(r#","actor":"#);
        push_string(message, actor);
    }
}

/// Capture is live for this subscriber from `cursor` on. `recovered`: it goes on where its own cursor was; `replayed`:
/// so many messages came before this one.
pub fn subscribed(label: &Label, cursor: &str, recovered: bool, replayed: u64, reference: Option<&Value>) -> String {
    let mut message = of(label, "subscribed");
    message["cursor"] = cursor.into();
    message["recovered"] = recovered.into();
    message["replayed"] = replayed.into();
    add_reference(&mut message, reference);
    message.to_string()
}

/// The answer to `unsubscribe`.
pub fn unsubscribed(label: &Label, reference: Option<&Value>) -> String {
    let mut message = of(label, "unsubscribed");
    add_reference(&mut message, reference);
    message.to_string()
}

/// Current rows of a channel's table, given as JSON objects with commas between them; of rows longer than `row_bytes`, where they
/// are `omitted`, the keys. `cursor`: where a client goes on that was given all rows up to here.
pub fn snapshot(label: &Label, rows: &str, omitted: bool, cursor: Option<&str>) -> String {
    snapshot_part(label, rows, omitted, cursor, false)
}

/// The end of a snapshot. The changes after `cursor` follow.
pub fn last_snapshot(label: &Label, cursor: &str) -> String {
    snapshot_part(label, "", false, Some(cursor), true)
}

fn snapshot_part(label: &Label, rows: &str, omitted: bool, cursor: Option<&str>, last: bool) -> String {
    let mut message = begin_rows("snapshot", label, rows, omitted);
    let _ = write!(message, r#","last":{last}"#);
    if let Some(cursor) = cursor {
        message.push_str(r#","cursor":"#);
        push_string(&mut message, cursor);
    }
    message.push('}');
    message
}

/// Rows of a page, given as JSON objects with commas between them; others of the same page follow.
pub fn rows(label: &Label, part: &PagePart, reference: Option<&Value>) -> String {
    let mut message = begin_rows("rows", label, &part.rows, part.omitted);
    message.push_str(r#","last":false"#);
    end_rows(message, reference)
}

/// The last rows of a page, and what is to be said of all of it. `cursor`: where it was read.
pub fn last_rows(label: &Label, page: &ViewPage, cursor: &str, reference: Option<&Value>) -> String {
    let mut message = begin_rows("rows", label, page.parts.last().map_or("", |part| &part.rows), false);
    let _ = write!(message, r#","last":true,"more":{},"order":{}"#, page.more, order(&page.order));
    if let Some(count) = page.count {
        let _ = write!(message, r#","count":{},"exact":{}"#, count.rows, count.is_exact);
    }
    message.push_str(r#","cursor":"#);
    push_string(&mut message, cursor);
    end_rows(message, reference)
}

/// By which columns rows are ordered, the rest of the primary key included, as JSON.
pub fn order(order: &[OrderBy]) -> Value {
    let columns = order.iter().map(|by| {
        let nulls = if by.nulls_first { "first" } else { "last" };
        serde_json::json!({ "column": by.column, "type": by.kind.as_str(), "desc": by.is_descending, "nulls": nulls })
    });
    columns.collect()
}

/// What messages with rows begin with.
fn begin_rows(kind: &str, label: &Label, rows: &str, omitted: bool) -> String {
    let mut message = String::with_capacity(rows.len() + 512);
    let _ = write!(message, r#"{{"type":"{kind}","channel":"#);
    push_string(&mut message, &label.channel);
    push_tag(&mut message, label.tag.as_ref());
    message.push_str(r#","rows":["#);
    message.push_str(rows);
    message.push(']');
    if omitted {
        message.push_str(OMITTED);
    }
    message
}

fn end_rows(mut message: String, reference: Option<&Value>) -> String {
    if let Some(reference) = reference {
        let _ = write!(message, r#","ref":{reference}"#);
    }
    message.push('}');
    message
}

/// What came on this socket up to here, on all its channels, is the database at one moment.
pub fn cut(cursor: Option<&str>) -> String {
    let mut message = serde_json::json!({ "type": "cut" });
    if let Some(cursor) = cursor {
        message["cursor"] = cursor.into();
    }
    message.to_string()
}

/// Nothing of the cut follows on this channel: what came before did not say so.
pub fn channel_cut(label: &Label, cursor: &str) -> String {
    let mut message = of(label, "cut");
    message["cursor"] = cursor.into();
    message.to_string()
}

/// Changes are missing: take a new snapshot.
pub fn gap(label: &Label, gap: Gap) -> String {
    let mut message = of(label, "gap");
    message["reason"] = gap.as_str().into();
    message.to_string()
}

/// The place after a message, if it has one.
pub fn cursor_of(message: &str) -> Option<&str> {
    #[derive(serde::Deserialize)]
    struct WithCursor<'a> {
        #[serde(borrow)]
        cursor: Option<&'a str>,
    }
    serde_json::from_str::<WithCursor<'_>>(message).ok()?.cursor
}

/// The stream of a channel has come to `cursor`, and nothing else happened.
pub fn heartbeat(label: &Label, cursor: &str) -> String {
    let mut message = of(label, "heartbeat");
    message["cursor"] = cursor.into();
    message.to_string()
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

/// The answer to `sync`: what this socket follows was written up to the position.
pub fn synced(reference: Option<&Value>) -> String {
    let mut message = serde_json::json!({ "type": "synced" });
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
pub fn channel_error(code: &str, text: &str, label: &Label) -> String {
    let mut message = of(label, "error");
    message["code"] = code.into();
    message["message"] = text.into();
    message.to_string()
}

/// A message about a subscription.
fn of(label: &Label, kind: &str) -> Value {
    let mut message = serde_json::json!({ "type": kind, "channel": &*label.channel });
    if let Some(tag) = &label.tag {
        message["view"] = tag.to_string().into();
    }
    message
}

fn push_tag(message: &mut String, tag: Option<&Tag>) {
    if let Some(tag) = tag {
        let _ = write!(message, r#","view":"{tag}""#);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Notification, Update, ValueKind};
    use crate::cursor::{Boundary, Cursor, Snapshot};
    use crate::delivery::scope::projection::Projection;
    use crate::request::Count;

    /// The messages that docs/reference/protocol.md shows and clients are tested against.
    const GOLDEN: &str = include_str!("../../../tests/golden/messages.json");

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
                size: crate::change::Size::Whole,
                is_published: false,
            }),
            notification: Some(Notification {
                users: vec!["123".into()],
                kind: "pet_created".into(),
                data: r#"{"pet_name":"Luna","pet_id":1}"#.into(),
                omitted: false,
                is_chosen: true,
            }),
        }
    }

    fn update_of(change: &Change, inside: &str) -> String {
        realtime_update(
            change,
            "pets",
            &VisibleChange::of(change.update.as_ref().unwrap()),
            MessagePlace::Inside(inside),
            "",
        )
    }

    #[test]
    fn messages_are_as_documented() {
        let change = change();
        let update = update_of(&change, "1AAAA");
        assert_eq!(serde_json::from_str::<Value>(&update).unwrap(), golden("realtime_update"));
        let projection = Projection::default();
        let noticed = projection.notice(&change, change.notification.as_ref().unwrap()).unwrap();
        let told = notification(&change, "pet_created", &noticed, "123", MessagePlace::End("1BBBB"), "");
        assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), golden("notification"));
        let pets = Label { channel: "pets".into(), tag: None };
        let view = Label { channel: "pets".into(), tag: Tag::chosen("luna") };
        let shown = VisibleChange { tag: view.tag.as_ref(), ..VisibleChange::of(change.update.as_ref().unwrap()) };
        let part = |rows: &str| PagePart { rows: rows.to_owned(), omitted: false };
        let by = OrderBy { column: "pet_id".into(), kind: ValueKind::Integer, is_descending: true, nulls_first: true };
        let seen = Snapshot::all_before(9);
        let page = ViewPage {
            parts: vec![part(r#"{"pet_id":7,"name":"Luna"}"#)],
            order: vec![by],
            more: true,
            last: None,
            told: None,
            count: Some(Count { rows: 12, is_exact: true }),
            boundary: Boundary::new(Cursor { epoch: 1, incarnation: 1, lsn: 1, seen, inside: None }),
            floor: None,
        };
        for (name, message) in [
            ("cut_of_a_channel", channel_cut(&pets, "1BBBB")),
            ("realtime_update_of_a_view", realtime_update(&change, "pets", &shown, MessagePlace::Inside("1AAAA"), "")),
            ("subscribed_to_a_view", subscribed(&view, "1BBBB", false, 0, None)),
            (
                "gap_of_a_view",
                realtime_update(
                    &change,
                    "pets",
                    &VisibleChange { gap: Some(Gap::Retention), ..shown },
                    MessagePlace::Inside("1"),
                    "",
                ),
            ),
            ("subscribed", subscribed(&pets, "1BBBB", true, 7, Some(&1.into()))),
            ("snapshot", snapshot(&pets, r#"{"pet_id":1},{"pet_id":2}"#, false, Some("1AAAA~~W10"))),
            ("snapshot_last", last_snapshot(&pets, "1BBBB")),
            ("rows", rows(&pets, &part(r#"{"pet_id":9,"name":"Rex"}"#), Some(&5.into()))),
            ("rows_last", last_rows(&view, &page, "1BBBB", Some(&5.into()))),
            ("unsubscribed", unsubscribed(&pets, Some(&2.into()))),
            ("gap", gap(&pets, Gap::Retention)),
            ("heartbeat", heartbeat(&pets, "1BBBB")),
            ("cut", cut(Some("1BBBB"))),
            ("pong", pong(None)),
            ("synced", synced(Some(&4.into()))),
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
}
