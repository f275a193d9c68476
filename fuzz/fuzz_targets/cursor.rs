//! A token of a client: it is refused, or means one place, whose token means the same place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rowcast::cursor::{Cursor, Snapshot};

fuzz_target!(|token: &str| {
    if let Ok(cursor) = Cursor::parse(token) {
        let again = Cursor::parse(&cursor.token()).expect("a token of our own");
        assert_eq!(again, cursor);
        assert!(cursor.seen.covers(&cursor.seen));
    }
    if let Some(snapshot) = Snapshot::parse(token) {
        assert_eq!(Snapshot::parse(&snapshot.to_string()), Some(snapshot));
    }
});
