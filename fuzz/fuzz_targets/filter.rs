//! A condition and a row, divided by a line break: the condition is refused, or holds or does not, of any row.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rowcast::change::{Column, ValueKind};
use rowcast::delivery::scope::filter::Condition;
use rowcast::row::Columns;

static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    [
        ("i", ValueKind::Integer),
        ("n", ValueKind::Number),
        ("t", ValueKind::Text),
        ("p", ValueKind::Padded),
        ("e", ValueKind::Enum),
        ("b", ValueKind::Bool),
        ("u", ValueKind::Uuid),
        ("z", ValueKind::Timestamptz),
        ("s", ValueKind::Timestamp),
        ("d", ValueKind::Date),
        ("h", ValueKind::Time),
        ("j", ValueKind::Structured),
        ("o", ValueKind::Opaque),
    ]
    .into_iter()
    .map(|(name, kind)| Column { name: name.into(), kind, number: 0 })
    .collect()
});

fuzz_target!(|text: &str| {
    let (condition, json) = text.split_once('\n').unwrap_or((text, ""));
    let row = Columns::parse(json).unwrap_or_default();
    for columns in [Some(COLUMNS.as_slice()), None] {
        if let Ok(condition) = Condition::compile(condition, columns) {
            assert_eq!(condition.holds(&row), condition.holds(&row));
            condition.holds(&Columns::default());
        }
    }
});
