//! A row of the outbox: first byte the kind, then the image before and after it, divided by a zero byte. What comes of
//! it is JSON without the excluded column, or a reason.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rowcast::source::catalog::{Catalog, Channel};
use rowcast::source::decode::{Decoded, OutboxRow, decode};
use serde_json::Value;
use serde_json::value::RawValue;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let channel = Channel {
        name: "pets".into(),
        singular: "pet".into(),
        user_column: Some("owner".into()),
        notification: Some(vec![("name".into(), "name".into())]),
        excluded: vec!["chip".into()],
        timestamps: vec!["seen".into()],
        key: vec!["id".into()],
        ..Channel::default()
    };
    Catalog::of([(1, channel)])
});

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fuzz_target!(|text: &str| {
    let mut letters = text.chars();
    let Some(op) = letters.next().and_then(|letter| u8::try_from(letter).ok()) else { return };
    let (old, new) = letters.as_str().split_once('\0').unwrap_or(("", letters.as_str()));
    // Postgres stores only what is JSON
    let row = OutboxRow {
        id: 1,
        xid: 1,
        at: 0,
        channel: 1,
        op,
        old: Some(old).filter(|image| is_json(image)),
        new: Some(new).filter(|image| is_json(image)),
        actor: None,
        users: None,
        command: 1,
        depth: 1,
    };
    let Decoded::Change(change) = decode(&row, &CATALOG) else { return };
    for json in change.update.iter().flat_map(|update| [Some(&update.data), update.old.as_ref()]).flatten() {
        // numbers and escapes that Postgres passes through may be beyond this parser
        if let Ok(value) = serde_json::from_str::<Value>(json) {
            assert!(matches!(op, b'P') || value.get("chip").is_none(), "{json}");
        }
    }
});
