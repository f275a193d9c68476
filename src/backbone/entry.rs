//! What the source tells ⇄ an entry of the stream. Pure: owns the form of entries, which `redis-cli xrange` shows as
//! they are; knows no connection.
//!
//! | field | |
//! |---|---|
//! | `at` | cursor token of the position before the entry; empty where nothing came before |
//! | `to` | cursor token of the position after it |
//! | `kind` | `from`, `channels`, `cut`, `gap`, `revoked`, `live`, `down`, `beat` |
//! | `body` | JSON |
//! | `format` | the [`FORMAT`] of the fields above; a version that knew of none wrote the first |

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::change::{Change, Channel, Claim, Cut, Event, Policy, Start};
use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::incarnations::{Gap, Incarnations};

/// The format of the entries that this version writes, and the highest that it reads. It is raised where a node that does
/// not know the new format must not go on: a field that such a node may leave out needs no other one. The release that
/// writes a higher one comes after one that reads it, since nodes are replaced one by one, and may be gone back to.
pub const FORMAT: u32 = 1;

/// An entry that was read.
#[derive(Debug)]
pub struct Entry {
    /// the position before it; `None` where nothing came before
    pub at: Option<Cursor>,
    /// the position after it
    pub to: Cursor,
    /// what it says; `None`: only that the publisher lives
    pub event: Option<Event>,
}

/// What an entry says, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// names the form of the body
    pub kind: &'static str,
    /// JSON
    pub body: String,
}

/// An entry that no node with this format has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEntry(pub &'static str);

#[derive(Serialize, Deserialize)]
struct FromBody<'a> {
    // on the Redis Stream names stay, as nodes of two versions read it
    #[serde(rename = "border")]
    boundary: Cow<'a, str>,
    #[serde(rename = "lives")]
    incarnations: Cow<'a, Incarnations>,
    start: Start,
}

/// The catalogue, as an entry and the state hold it.
#[derive(Serialize, Deserialize)]
struct EntryChannels<'a> {
    channels: Cow<'a, [Channel]>,
    policies: Cow<'a, [Policy]>,
    // a node of before says nothing of them: those that are known stay
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claims: Option<Cow<'a, [Claim]>>,
}

#[derive(Serialize, Deserialize)]
struct CutBody<'a> {
    inside: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<Cow<'a, str>>,
    changes: Cow<'a, [Change]>,
}

#[derive(Serialize, Deserialize)]
struct GapBody {
    reason: Gap,
    channel: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct RevokedBody<'a> {
    text: Cow<'a, str>,
    /// an earlier version did not say it: then it is the entry's
    #[serde(default)]
    at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct CowText<'a> {
    text: Cow<'a, str>,
}

/// The format that an entry says it has. One that is no number is of a version to come.
pub fn format(said: &str) -> u32 {
    if said.is_empty() { 1 } else { said.parse().unwrap_or(u32::MAX) }
}

/// That the publisher lives.
pub fn beat() -> Said {
    Said { kind: "beat", body: String::new() }
}

/// What is written of an event.
///
/// # Errors
/// [`BadEntry`] for a row that is not valid JSON, which Postgres does not make.
pub fn write(event: &Event) -> Result<Said, BadEntry> {
    let (kind, body) = match event {
        Event::From { boundary, incarnations, start, inside: _ } => {
            let body = FromBody {
                boundary: Cow::Borrowed(&boundary.token),
                incarnations: Cow::Borrowed(incarnations),
                start: *start,
            };
            ("from", serde_json::to_string(&body))
        }
        Event::Channels { channels, policies, claims } => {
            let body = EntryChannels {
                channels: channels.into(),
                policies: policies.into(),
                claims: claims.as_deref().map(Into::into),
            };
            ("channels", serde_json::to_string(&body))
        }
        Event::Cut(cut) => {
            let end = cut.end.as_ref().map(|end| Cow::Borrowed(&*end.token));
            let body = CutBody { inside: cut.token_inside().into(), end, changes: (&cut.changes).into() };
            ("cut", serde_json::to_string(&body))
        }
        Event::Gap { gap, channel } => {
            ("gap", serde_json::to_string(&GapBody { reason: *gap, channel: channel.clone() }))
        }
        Event::Revoked { user, at } => {
            ("revoked", serde_json::to_string(&RevokedBody { text: Cow::Borrowed(user), at: Some(*at) }))
        }
        Event::Down { reason } => ("down", serde_json::to_string(&CowText { text: Cow::Borrowed(reason) })),
        Event::Live => ("live", Ok(String::new())),
    };
    body.map(|body| Said { kind, body }).map_err(|_| BadEntry("a row that is not valid JSON"))
}

/// The position after an event, where that is not the position before it.
pub fn position_after(event: &Event) -> Option<Cursor> {
    match event {
        Event::From { boundary, inside, .. } => Some(Cursor { inside: inside.clone(), ..boundary.cursor.clone() }),
        Event::Cut(cut) => match (&cut.end, cut.changes.last()) {
            (Some(end), _) => Some(end.cursor.clone()),
            (None, last) => last.map(|last| cut.position(last.id)),
        },
        _ => None,
    }
}

/// Reads the fields of an entry that was written at a moment, microseconds since 1970.
///
/// # Errors
/// [`BadEntry`] with what is wrong.
pub fn read(written: i64, at: &str, to: &str, kind: &str, body: &str) -> Result<Entry, BadEntry> {
    let at = if at.is_empty() { None } else { Some(Cursor::parse(at).map_err(|_| BadEntry("at is no position"))?) };
    let to = Cursor::parse(to).map_err(|_| BadEntry("to is no position"))?;
    let bad = |_| BadEntry("a body of another form");
    let event = match kind {
        "from" => {
            let from: FromBody<'_> = serde_json::from_str(body).map_err(bad)?;
            let boundary = boundary_of(&from.boundary)?;
            Event::From {
                boundary,
                incarnations: Arc::new(from.incarnations.into_owned()),
                start: from.start,
                inside: to.inside.clone(),
            }
        }
        "channels" => channels(body)?,
        "cut" => {
            let cut: CutBody<'_> = serde_json::from_str(body).map_err(bad)?;
            let (from, until) = ends_of(&cut.inside).ok_or(BadEntry("inside is no position"))?;
            let end = cut.end.map(|end| boundary_of(&end)).transpose()?;
            let changes = cut.changes.into_owned();
            Event::Cut(Cut { changes, from: Arc::new(from), until: Arc::new(until), end })
        }
        "gap" => {
            let gap: GapBody = serde_json::from_str(body).map_err(bad)?;
            Event::Gap { gap: gap.reason, channel: gap.channel }
        }
        "revoked" => {
            let body: RevokedBody<'_> = serde_json::from_str(body).map_err(bad)?;
            Event::Revoked { user: body.text.as_ref().into(), at: body.at.unwrap_or(written) }
        }
        "down" => {
            let text: CowText<'_> = serde_json::from_str(body).map_err(bad)?;
            Event::Down { reason: text.text.into_owned().into() }
        }
        "live" => Event::Live,
        "beat" => return Ok(Entry { at, to, event: None }),
        _ => return Err(BadEntry("a kind of a later version")),
    };
    Ok(Entry { at, to, event: Some(event) })
}

/// The catalogue in the body of `channels`.
///
/// # Errors
/// [`BadEntry`].
pub fn channels(body: &str) -> Result<Event, BadEntry> {
    let read: EntryChannels<'_> = serde_json::from_str(body).map_err(|_| BadEntry("a catalogue of another form"))?;
    let (channels, policies) = (read.channels.into_owned(), read.policies.into_owned());
    Ok(Event::Channels { channels, policies, claims: read.claims.map(Cow::into_owned) })
}

/// The incarnations in the body of `from`.
///
/// # Errors
/// [`BadEntry`].
pub fn incarnations(body: &str) -> Result<Incarnations, BadEntry> {
    let from: FromBody<'_> = serde_json::from_str(body).map_err(|_| BadEntry("lives of another form"))?;
    Ok(from.incarnations.into_owned())
}

/// Where a cut begins and ends, of which `inside` is the token of any position without its id.
fn ends_of(inside: &str) -> Option<(Cursor, Snapshot)> {
    // a token has an id
    let mut cursor = Cursor::parse(&format!("{inside}.11")).ok()?;
    let (end, _) = cursor.inside.take()?;
    Some((cursor, end))
}

fn boundary_of(token: &str) -> Result<Boundary, BadEntry> {
    match Cursor::parse(token) {
        Ok(cursor) if cursor.inside.is_none() => Ok(Boundary::new(cursor)),
        _ => Err(BadEntry("a border that is none")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::change::{Column, Floor, Follow, Notification, Update, ValueKind};
    use crate::incarnations::Incarnation;
    use crate::seal::Seal;

    fn boundary(xid: u64) -> Boundary {
        let seen = Snapshot::all_before(xid);
        Boundary::new(Cursor { epoch: 7, incarnation: 1, lsn: xid * 10, seen, inside: None })
    }

    /// As it is after the way through an entry.
    fn told(event: &Event) -> Event {
        let said = write(event).unwrap();
        let to = position_after(event).unwrap_or_else(|| boundary(9).cursor);
        read(0, "", &to.token(), said.kind, &said.body).unwrap().event.unwrap()
    }

    /// Nodes of the version before read it, and it stands in streams that they have written.
    #[test]
    fn the_names_in_an_entry_stay() {
        let incarnations =
            Incarnations { epoch: 7, incarnations: vec![Incarnation { id: 1, bound: Some(5) }], seal: None };
        let from = Event::From {
            boundary: boundary(10),
            incarnations: Arc::new(incarnations),
            start: Start::Continues,
            inside: None,
        };
        let said = write(&from).unwrap();
        let token = &boundary(10).token;
        let lives = r#"{"epoch":7,"lives":[{"id":1,"bound":5}]}"#;
        assert_eq!(said.body, format!(r#"{{"border":"{token}","lives":{lives},"start":"continues"}}"#));
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let incarnations = [Incarnation { id: 1, bound: None }, Incarnation { id: 2, bound: Some(5) }].to_vec();
        let incarnations = Incarnations { epoch: 7, incarnations, seal: Some(Seal::new(b"key")) };
        let update = Update {
            channel: "pets".into(),
            action: "updated".into(),
            data: r#"{"name":"\u0000 Luna","n":1e200000}"#.into(),
            changed: vec!["name".into()],
            old: Some("null".into()),
            old_key: None,
            size: crate::change::Size::Whole,
            is_published: false,
        };
        let notification = Notification {
            users: vec!["5".into()],
            kind: "pet_updated".into(),
            data: "[1]".into(),
            omitted: false,
            is_chosen: true,
        };
        let change = Change {
            id: 4,
            tx: 12,
            at: -5,
            actor: Some("cron".into()),
            update: Some(update),
            notification: Some(notification),
        };
        let (from, until) = (boundary(10), boundary(13));
        let cut = |end| Cut {
            changes: vec![change.clone()],
            from: Arc::new(Cursor { seen: from.cursor.seen.clone(), ..until.cursor.clone() }),
            until: Arc::new(until.cursor.seen.clone()),
            end,
        };
        let column = Column { name: "name".into(), kind: ValueKind::Timestamptz, number: 3, is_key: false };
        let floor = Some(Floor { seen: Snapshot::parse("5:8:5,7").unwrap(), by: 6 });
        let channel =
            Channel { name: "pets".into(), columns: Some([column].into()), floor, notifies: true, is_unlisted: true };
        let follow = Follow { channel: "pets".into(), columns: vec!["name".into()], holder: Some("name".into()) };
        let claim = Claim { name: "names".into(), revision: "1".into(), follows: Some(vec![follow]) };
        let policy = Policy {
            channel: "pets".into(),
            role: "user".into(),
            filters: vec!["a=eq.1".into()],
            columns: None,
            bound: vec![("a".into(), 2)],
            floor: Some(Snapshot::all_before(5)),
            actor: true,
        };
        for event in [
            Event::From {
                boundary: from.clone(),
                incarnations: Arc::new(incarnations.clone()),
                start: Start::Continues,
                inside: None,
            },
            Event::From {
                boundary: from.clone(),
                incarnations: Arc::new(incarnations),
                start: Start::Gap(Gap::Retention),
                inside: None,
            },
            Event::Channels { channels: vec![channel], policies: vec![policy], claims: Some(vec![claim]) },
            Event::Cut(cut(None)),
            Event::Cut(cut(Some(until.clone()))),
            Event::Gap { gap: Gap::TriggerOff, channel: "pets".into() },
            Event::Revoked { user: "5".into(), at: 7 },
            Event::Down { reason: "gone".into() },
            Event::Live,
        ] {
            assert_eq!(format!("{:?}", told(&event)), format!("{event:?}"));
        }
        let of_before = read(5, "", &boundary(9).token, "revoked", r#"{"text":"7"}"#).unwrap().event.unwrap();
        assert!(matches!(of_before, Event::Revoked { at: 5, .. }), "as an earlier version wrote it");
        let position = position_after(&Event::Cut(cut(None))).unwrap();
        assert_eq!(position.inside, Some((until.cursor.seen.clone(), 4)));
    }

    proptest! {
        #[test]
        fn no_entry_makes_it_panic(kind in "from|channels|cut|gap|revoked|down|x", body in "\\PC{0,60}") {
            let _ = read(0, "", &boundary(9).token, &kind, &body);
        }
    }
}
