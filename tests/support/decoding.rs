//! What logical decoding says of a table: a second account of what a transaction did, and in which order. It reads the
//! write-ahead log, and shares nothing with capture. The built-in plugin `pgoutput` is asked, since every server has it;
//! its messages: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>.

use rowcast::source::client::Client;

use super::postgres::TestDatabase;

/// A change of a row; values as text, in the order of the table's columns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// the whole row
    Insert(Vec<Option<String>>),
    /// the key's columns before, where the key has changed; the whole row after
    Update(Option<Vec<Option<String>>>, Vec<Option<String>>),
    /// the key's columns; the others are none
    Delete(Vec<Option<String>>),
}

/// A slot that reads one table, for as long as this lives.
pub(crate) struct Decoding {
    session: Client,
}

impl Decoding {
    /// None where the server writes no log that can be decoded: one that was given by its URL may not.
    pub(crate) async fn of(db: &TestDatabase, table: &str) -> Option<Self> {
        if db.text("select current_setting('wal_level')").await != "logical" {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the server needs wal_level = logical");
            return None;
        }
        db.run(&format!("create publication decoding for table {table} with (publish_via_partition_root = true)"))
            .await;
        let session = db.another_client().await;
        session
            .batch_execute(
                "select pg_create_logical_replication_slot('decoding_' || pg_backend_pid(), 'pgoutput', temporary => true)",
            )
            .await
            .unwrap();
        Some(Self { session })
    }

    /// What was committed since the last call.
    pub(crate) async fn next(&self) -> Vec<Decoded> {
        let changes = self
            .session
            .query(
                "select data from pg_logical_slot_get_binary_changes('decoding_' || pg_backend_pid(), null, null,
                        'proto_version', '1', 'publication_names', 'decoding')",
                &[],
            )
            .await
            .unwrap();
        changes.iter().filter_map(|row| decode(row.get(0))).collect()
    }
}

/// None for what is no change of a row: begin, commit, what a table looks like.
fn decode(message: &[u8]) -> Option<Decoded> {
    // a letter, the table's number, then rows: each a letter, the count of its columns, the columns
    let (kind, mut rest) = (message[0], message.get(5..)?);
    let mut rows = Vec::new();
    if !b"IUD".contains(&kind) {
        return None;
    }
    while let [part, more @ ..] = rest {
        let (count, mut columns) = more.split_first_chunk::<2>().unwrap();
        let row: Vec<_> = (0..u16::from_be_bytes(*count)).map(|_| column(&mut columns)).collect();
        rows.push((*part, row));
        rest = columns;
    }
    let (part, last) = rows.pop().unwrap();
    match kind {
        b'I' => Some(Decoded::Insert(last)),
        b'U' => Some(Decoded::Update(rows.pop().map(|(_, key)| key), last)),
        _ => {
            assert!(part == b'K' || part == b'O');
            Some(Decoded::Delete(last))
        }
    }
}

fn column(rest: &mut &[u8]) -> Option<String> {
    let (kind, more) = rest.split_first().unwrap();
    *rest = more;
    if *kind == b'n' {
        return None;
    }
    assert_eq!(*kind, b't', "a value that is neither null nor text");
    let (size, more) = more.split_first_chunk::<4>().unwrap();
    let (text, more) = more.split_at(u32::from_be_bytes(*size) as usize);
    *rest = more;
    Some(String::from_utf8(text.to_vec()).unwrap())
}
