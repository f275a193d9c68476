//! A row of the outbox → a `Change`. Pure: never waits, never panics on what the database holds.
//!
//! A row's JSON is passed through as text. Only what a channel asks for looks inside: the changed columns of an
//! update, a user rule by column, a notification's columns, an excluded column.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::catalog::{Catalog, CatalogChannel};
use crate::change::{Change, Json, Notification, Size, Update};
use crate::row::{Columns, text_of};

/// A row of the outbox as it was read.
#[derive(Debug, Clone, Copy)]
pub struct OutboxRow<'a> {
    /// order inside the cut
    pub id: i64,
    /// transaction
    pub xid: u64,
    /// microseconds since 1970
    pub at: i64,
    /// channel id, 0 for a notification
    pub channel: i32,
    /// I U D T i u d N P C R; see the column's comment
    pub op: u8,
    /// old image
    pub old: Option<&'a str>,
    /// new image, or what `notify` and `publish` were given
    pub new: Option<&'a str>,
    /// who did it
    pub actor: Option<&'a str>,
    /// users to notify
    pub users: Option<&'a [Option<String>]>,
    /// the command of its transaction that captured it
    pub command: u32,
    /// how many triggers were running then, one inside the other, the one that captured it included; 0: nobody knows
    pub depth: u8,
}

/// What a row means.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once for a row, and taken apart at once")]
pub enum Decoded {
    /// A change to deliver.
    Change(Change),
    /// Nothing for subscribers: a channel or a policy changed, a user's sockets must be closed.
    Internal,
    /// The catalogue does not know the channel: it must be read again, or the table is no longer watched.
    UnknownChannel,
    /// Nothing a subscriber would see: an update in which only excluded columns differ.
    Invisible,
    /// A row that is not what capture writes.
    Malformed(&'static str),
}

/// Decodes one row.
pub fn decode(row: &OutboxRow<'_>, catalog: &Catalog) -> Decoded {
    let row = OutboxRow { actor: row.actor.filter(|_| !catalog.hides_actors), ..*row };
    match row.op {
        b'C' | b'R' => Decoded::Internal,
        b'N' => notification(&row),
        op => match catalog.get(row.channel) {
            None => Decoded::UnknownChannel,
            Some(channel) if op == b'P' => publication(&row, channel),
            Some(channel) => row_change(&row, channel),
        },
    }
}

fn row_change(row: &OutboxRow<'_>, channel: &CatalogChannel) -> Decoded {
    // in lower case: an image was longer than row_bytes, and the key stands for it
    let is_large = row.op.is_ascii_lowercase();
    let (action, image) = match row.op.to_ascii_uppercase() {
        b'I' => ("created", row.new),
        b'U' => ("updated", row.new),
        b'D' => ("deleted", row.old),
        b'T' => ("truncated", Some("null")),
        _ => return Decoded::Malformed("unknown op"),
    };
    let Some(image) = image else { return Decoded::Malformed("no image of the row") };
    let mut columns = None;
    let mut changed = Vec::new();
    let (mut old, mut old_key) = (None, None);
    if action == "updated" {
        let (Some(new), Some(mut before)) = (Columns::parse(image), row.old.and_then(Columns::parse)) else {
            return Decoded::Malformed("an image that is no object");
        };
        changed = new.differing_from(&before, &channel.excluded);
        if changed.is_empty() && !is_large {
            return Decoded::Invisible;
        }
        let in_utc = before.in_utc(&channel.timestamps);
        before.replace(&in_utc);
        if channel.key.iter().any(|name| changed.contains(name)) {
            // of a large row there may be only those that differ
            let key = told_key(channel);
            let is_whole = before.has_all(&channel.key);
            old_key = Some(if is_whole { before.only(&key) } else { new.overlaid(&before).only(&key) });
        }
        if is_large {
            let hidden = |name: &str| channel.excluded.iter().chain(&channel.key).any(|other| **other == *name);
            changed = new.names().filter(|name| !hidden(name)).map(Into::into).collect();
        } else {
            old = Some(before.only(&changed));
        }
        columns = Some(new);
    }
    let looks_inside = channel.user_column.is_some()
        || channel.has_user_query
        || !channel.excluded.is_empty()
        || !channel.timestamps.is_empty();
    if row.op == b'T' {
        columns = None;
    } else if (looks_inside || is_large) && columns.is_none() {
        columns = Columns::parse(image);
        if columns.is_none() {
            return Decoded::Malformed("an image that is no object");
        }
    }
    // text that replaces a value's must live as long as the columns that borrow it
    let in_utc = columns.as_ref().map(|columns| columns.in_utc(&channel.timestamps)).unwrap_or_default();
    if let Some(columns) = &mut columns {
        columns.replace(&in_utc);
    }
    let size = match &columns {
        Some(columns) if is_large => size_of(columns, channel),
        _ => Size::Whole,
    };
    let data: Json = match &columns {
        Some(columns) if size == Size::Omitted => {
            let key = told_key(channel);
            if key.is_empty() || !columns.has_all(&key) {
                return Decoded::Malformed("a row longer than row_bytes, without a key to tell it by");
            }
            changed.clear();
            columns.only(&key)
        }
        Some(columns) if !channel.excluded.is_empty() || !in_utc.is_empty() => columns.without(&channel.excluded),
        _ => image.into(),
    };
    let notification = columns.as_ref().and_then(|columns| {
        let users = users_of(row, channel, columns);
        (!users.is_empty()).then(|| Notification {
            users,
            kind: format!("{}_{action}", channel.singular).into(),
            data: channel.notification.as_ref().map_or_else(|| data.clone(), |wanted| columns.picked(wanted)),
            omitted: size == Size::Omitted,
            is_chosen: channel.notification.is_some(),
        })
    });
    let action = Cow::Borrowed(action);
    let update =
        Update { channel: channel.name.clone(), action, data, changed, old, old_key, size, is_published: false };
    Decoded::Change(change(row, Some(update), notification))
}

/// The columns by which a row is told from others, as far as they may leave: a column that was excluded may be in a primary key
/// that was made later.
fn told_key(channel: &CatalogChannel) -> Vec<Box<str>> {
    channel.key.iter().filter(|name| !channel.excluded.contains(name)).cloned().collect()
}

/// What is known of a large row. One that has shrunk is told whole, and only what it was before is not known.
fn size_of(columns: &Columns<'_>, channel: &CatalogChannel) -> Size {
    let all = channel.columns.iter().flat_map(|columns| columns.iter()).map(|column| &column.name);
    if columns.has_all(all) { Size::BeforeOmitted } else { Size::Omitted }
}

fn users_of(row: &OutboxRow<'_>, channel: &CatalogChannel, columns: &Columns<'_>) -> Vec<Box<str>> {
    if let Some(column) = &channel.user_column {
        // an array may name one twice
        let mut named = HashSet::new();
        let users = columns.get(column).map(scalars).unwrap_or_default();
        return users.into_iter().filter(|user| named.insert(user.clone())).collect();
    }
    if channel.has_user_query { named_users(row) } else { Vec::new() }
}

/// The users that stand in the row, each once.
fn named_users(row: &OutboxRow<'_>) -> Vec<Box<str>> {
    let mut known = HashSet::new();
    let named = row.users.unwrap_or_default().iter().flatten().map(String::as_str);
    named.filter(|user| known.insert(*user)).map(Into::into).collect()
}

fn publication(row: &OutboxRow<'_>, channel: &CatalogChannel) -> Decoded {
    let Some(body) = row.new.and_then(Columns::parse) else { return Decoded::Malformed("a publication without body") };
    let Some(action) = body.get("action").and_then(text_of) else {
        return Decoded::Malformed("a publication without action");
    };
    let data = body.get("data").map_or("null", RawValue::get).into();
    let update = Update {
        channel: channel.name.clone(),
        action: Cow::Owned(action.into_string()),
        data,
        changed: Vec::new(),
        old: None,
        old_key: None,
        size: Size::Whole,
        is_published: true,
    };
    Decoded::Change(change(row, Some(update), None))
}

fn notification(row: &OutboxRow<'_>) -> Decoded {
    let Some(body) = row.new.and_then(Columns::parse) else { return Decoded::Malformed("a notification without body") };
    let Some(kind) = body.get("notification_type").and_then(text_of) else {
        return Decoded::Malformed("a notification without type");
    };
    let users = named_users(row);
    let data = body.get("data").map_or("null", RawValue::get).into();
    Decoded::Change(change(row, None, Some(Notification { users, kind, data, omitted: false, is_chosen: true })))
}

fn change(row: &OutboxRow<'_>, update: Option<Update>, notification: Option<Notification>) -> Change {
    Change { id: row.id, tx: row.xid, at: row.at, actor: row.actor.map(Into::into), update, notification }
}

/// The users in a column's value: a string or number is one, an array holds several, null is none.
fn scalars(value: &RawValue) -> Vec<Box<str>> {
    if value.get().starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        return items.into_iter().filter_map(text_of).collect();
    }
    text_of(value).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pets() -> CatalogChannel {
        CatalogChannel {
            name: "pets".into(),
            singular: "pet".into(),
            user_column: Some("user_id".into()),
            has_user_query: false,
            notification: Some(vec![("pet_name".into(), "name".into()), ("pet_id".into(), "pet_id".into())]),
            excluded: vec![Box::from("chip")],
            timestamps: vec![Box::from("seen_at")],
            key: vec![Box::from("pet_id")],
            ..CatalogChannel::default()
        }
    }

    fn row<'a>(op: u8, old: Option<&'a str>, new: Option<&'a str>) -> OutboxRow<'a> {
        OutboxRow { id: 7, xid: 70, at: 0, channel: 1, op, old, new, actor: None, users: None, command: 0, depth: 1 }
    }

    fn decode_pets(row: &OutboxRow<'_>) -> Decoded {
        decode(row, &Catalog::of([(1, pets())]))
    }

    #[test]
    fn an_insert_tells_the_channel_and_the_owner() {
        let Decoded::Change(change) =
            decode_pets(&row(b'I', None, Some(r#"{"pet_id":1,"user_id":123,"name":"Luna","chip":null}"#)))
        else {
            panic!("no change")
        };
        let update = change.update.unwrap();
        assert_eq!(&*update.data, r#"{"pet_id":1,"user_id":123,"name":"Luna"}"#, "the excluded column is gone");
        let notification = change.notification.unwrap();
        assert_eq!(&*notification.kind, "pet_created");
        assert_eq!(notification.users, [Box::from("123")]);
        assert_eq!(&*notification.data, r#"{"pet_name":"Luna","pet_id":1}"#);
    }

    #[test]
    fn a_time_is_told_in_utc_whatever_the_writers_zone() {
        for (written, told) in [
            ("\"2024-01-15T11:30:00.5+01:00\"", "\"2024-01-15T10:30:00.5+00:00\""),
            ("\"2024-01-15T10:30:00+00:00\"", "\"2024-01-15T10:30:00+00:00\""),
            ("\"2024-07-01T00:00:00.123456-02:30\"", "\"2024-07-01T02:30:00.123456+00:00\""),
            ("\"infinity\"", "\"infinity\""),
            ("null", "null"),
        ] {
            let image = format!(r#"{{"pet_id":1,"seen_at":{written}}}"#);
            let Decoded::Change(change) = decode_pets(&row(b'I', None, Some(&image))) else { panic!("no change") };
            assert_eq!(&*change.update.unwrap().data, format!(r#"{{"pet_id":1,"seen_at":{told}}}"#));
        }
    }

    #[test]
    fn an_update_lists_what_changed() {
        let old = r#"{"pet_id":1,"user_id":"a\"b","name":"Luna","chip":null}"#;
        let new = r#"{"pet_id":1,"user_id":"a\"b","name":"Nala","chip":null}"#;
        let Decoded::Change(change) = decode_pets(&row(b'U', Some(old), Some(new))) else { panic!("no change") };
        assert_eq!(change.update.unwrap().changed, [Box::from("name")]);
        assert_eq!(change.notification.unwrap().users, [Box::from(r#"a"b"#)]);
    }

    #[test]
    fn an_update_of_the_key_tells_the_old_one() {
        let (old, new) = (r#"{"pet_id":1,"name":"Luna"}"#, r#"{"pet_id":2,"name":"Luna"}"#);
        let Decoded::Change(change) = decode_pets(&row(b'U', Some(old), Some(new))) else { panic!("no change") };
        assert_eq!(change.update.unwrap().old_key.as_deref(), Some(r#"{"pet_id":1}"#));
    }

    #[test]
    fn an_update_of_an_excluded_column_is_invisible() {
        let image = r#"{"pet_id":1,"user_id":1,"name":"Luna","chip":null}"#;
        assert!(matches!(decode_pets(&row(b'U', Some(image), Some(image))), Decoded::Invisible));
    }

    #[test]
    fn a_delete_carries_the_old_row_and_a_truncate_null() {
        let Decoded::Change(change) = decode_pets(&row(b'D', Some(r#"{"pet_id":1,"user_id":null}"#), None)) else {
            panic!("no change")
        };
        assert_eq!(&*change.update.unwrap().data, r#"{"pet_id":1,"user_id":null}"#);
        assert!(change.notification.is_none(), "nobody owns it");
        let Decoded::Change(change) = decode_pets(&row(b'T', None, None)) else { panic!("no change") };
        assert_eq!(&*change.update.unwrap().data, "null");
    }

    #[test]
    fn a_row_above_row_bytes_is_told_by_its_key() {
        let known = ["pet_id", "user_id", "name", "seen_at"];
        let columns = known.map(|name| crate::change::Column {
            name: name.into(),
            kind: crate::change::ValueKind::Any,
            number: 0,
            is_key: false,
        });
        let of = |key: &[&str]| {
            let key = key.iter().map(|name| Box::from(*name)).collect();
            Catalog::of([(1, CatalogChannel { columns: Some(columns.clone().into()), key, ..pets() })])
        };
        let catalog = of(&["pet_id"]);
        let key = Some(r#"{"pet_id":1,"user_id":7}"#);
        let told = |row: &OutboxRow<'_>| match decode(row, &catalog) {
            Decoded::Change(change) => change,
            other => panic!("{other:?}"),
        };
        let change = told(&row(b'i', None, key));
        let update = change.update.unwrap();
        assert_eq!((&*update.action, &*update.data, update.size), ("created", r#"{"pet_id":1}"#, Size::Omitted));
        let notification = change.notification.unwrap();
        assert_eq!((&*notification.data, notification.omitted), (r#"{"pet_name":null,"pet_id":1}"#, true));
        // an excluded column is in a primary key that was made later
        let with_chip = row(b'i', None, Some(r#"{"pet_id":1,"chip":"x","user_id":7}"#));
        match decode(&with_chip, &of(&["pet_id", "chip"])) {
            Decoded::Change(change) => assert_eq!(&*change.update.unwrap().data, r#"{"pet_id":1}"#),
            other => panic!("{other:?}"),
        }
        let update = told(&row(b'u', Some(r#"{"pet_id":2}"#), key)).update.unwrap();
        assert_eq!((&*update.data, update.old_key.as_deref()), (r#"{"pet_id":1}"#, Some(r#"{"pet_id":2}"#)));
        let small = Some(r#"{"pet_id":1,"user_id":7,"name":"Lu","chip":null,"seen_at":null}"#);
        let update = told(&row(b'u', key, small)).update.unwrap();
        assert_eq!(
            (&*update.data, update.size),
            (r#"{"pet_id":1,"user_id":7,"name":"Lu","seen_at":null}"#, Size::BeforeOmitted),
            "a row that has shrunk"
        );
        assert_eq!(told(&row(b'd', key, None)).update.unwrap().size, Size::Omitted);
        assert!(matches!(decode(&row(b'i', None, Some("{}")), &catalog), Decoded::Malformed(_)), "without a key");
    }

    #[test]
    fn a_column_that_the_old_image_lacks_is_as_it_was() {
        let new = r#"{"pet_id":1,"user_id":7,"name":"Lu","chip":null,"seen_at":null}"#;
        let Decoded::Change(change) = decode_pets(&row(b'U', Some(r#"{ "name" : "Luna" }"#), Some(new))) else {
            panic!("no change")
        };
        let update = change.update.unwrap();
        assert_eq!((&*update.changed, update.old.as_deref()), (&[Box::from("name")][..], Some(r#"{"name":"Luna"}"#)));
        assert!(matches!(decode_pets(&row(b'U', Some("{}"), Some(new))), Decoded::Invisible));
    }

    #[test]
    fn what_json_allows_and_rust_does_not_passes_through() {
        let image = "{\"pet_id\":1e200000,\"name\":\"\\u0000\",\"user_id\":[1,\"x\",1]}";
        let Decoded::Change(change) = decode_pets(&row(b'I', None, Some(image))) else { panic!("no change") };
        assert_eq!(&*change.update.unwrap().data, image);
        assert_eq!(change.notification.unwrap().users, [Box::from("1"), Box::from("x")]);
    }

    #[test]
    fn a_notification_needs_no_channel() {
        let users = [Some("5".to_owned()), None, Some("5".to_owned())];
        let body = r#"{"notification_type" : "hello", "data" : {"a": 1}}"#;
        let row = OutboxRow { channel: 0, users: Some(&users), ..row(b'N', None, Some(body)) };
        let Decoded::Change(change) = decode_pets(&row) else { panic!("no change") };
        let notification = change.notification.unwrap();
        assert_eq!((&*notification.kind, &*notification.data), ("hello", r#"{"a": 1}"#));
        assert_eq!(notification.users, [Box::from("5")]);
    }

    #[test]
    fn a_channel_nobody_knows_is_said_so() {
        assert!(matches!(
            decode_pets(&OutboxRow { channel: 9, ..row(b'I', None, Some("{}")) }),
            Decoded::UnknownChannel
        ));
    }

    proptest! {
        #[test]
        fn no_row_makes_it_panic(op: u8, old in prop::option::of("\\PC{0,40}"), new in prop::option::of("\\PC{0,40}")) {
            let _ = decode_pets(&row(op, old.as_deref(), new.as_deref()));
        }
    }
}
