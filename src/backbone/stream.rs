//! Reading the stream: ids, entries, their age, and where a position lies. Owns the reading commands; does not know what an
//! entry is read for.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Cmd, FromRedisValue, ParsingError, Value};
use tokio::time::Instant;

use super::StreamKeys;
use super::append::StreamState;
use super::entry::{self, BadEntry, Entry, FORMAT};
use super::link::{RedisConnection, explain};
use super::merge::can_begin;
use crate::cursor::{Cursor, Snapshot};
use crate::error::Result;

/// Entries read at a time: each holds up to a mebibyte.
pub const AT_A_TIME: usize = 16;
/// Waited for the next entry so long at a time, in milliseconds.
const BLOCK_MS: u32 = 1_000;
/// At the start, so many of the latest entries are read, within the bytes of the history, so that clients that were connected
/// elsewhere can resume from memory.
const RECENT_ENTRIES: usize = 4_096;

/// An entry's id: milliseconds of Redis' clock, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Id {
    /// milliseconds since 1970
    pub ms: u64,
    number: u64,
}

impl Id {
    /// Reads `milliseconds-number`.
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, number) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, number: number.parse().ok()? })
    }

    /// The id just before.
    #[must_use]
    pub fn before(self) -> Self {
        match self.number.checked_sub(1) {
            Some(number) => Self { number, ..self },
            None => Self { ms: self.ms.saturating_sub(1), number: u64::MAX },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// An entry as Redis gives it.
#[derive(Debug)]
pub struct RawEntry {
    /// its id
    pub id: Id,
    /// names and values
    fields: Vec<(String, String)>,
}

impl FromRedisValue for RawEntry {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, fields): (String, Vec<(String, String)>) = redis::from_redis_value(value)?;
        let id = Id::parse(&id).ok_or_else(|| ParsingError::from("an entry's id that is none"))?;
        Ok(Self { id, fields })
    }
}

impl RawEntry {
    /// The format that it has, where that is one of a later version.
    pub fn newer(&self) -> Option<u32> {
        Some(entry::format(self.field("format"))).filter(|format| *format > FORMAT)
    }

    /// What it says.
    ///
    /// # Errors
    /// [`BadEntry`].
    pub fn entry(&self) -> Result<Entry, BadEntry> {
        if self.newer().is_some() {
            return Err(BadEntry("a format of a later version"));
        }
        let written = i64::try_from(self.id.ms).unwrap_or(i64::MAX).saturating_mul(1000);
        entry::read(written, self.field("at"), self.field("to"), self.field("kind"), self.field("body"))
    }

    /// The position before it, without its body being read; `None` where nothing came before, or it cannot be read.
    fn at(&self) -> Option<Cursor> {
        Cursor::parse(self.field("at")).ok()
    }

    fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }

    /// Bytes of its fields.
    pub fn size(&self) -> u64 {
        self.fields.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
    }
}

async fn entries(connection: &mut RedisConnection, command: &Cmd) -> Result<Vec<RawEntry>> {
    connection.run(command).await.map_err(|e| explain("cannot read the stream", e))
}

/// At most `count` entries from one id to another, as XRANGE names them.
///
/// # Errors
/// When the connection is lost.
pub async fn range(
    connection: &mut RedisConnection,
    keys: &StreamKeys,
    from: &str,
    to: &str,
    count: usize,
) -> Result<Vec<RawEntry>> {
    let mut command = Cmd::new();
    command.arg("XRANGE").arg(&keys.changes).arg(from).arg(to).arg("COUNT").arg(count);
    entries(connection, &command).await
}

/// The entry that was appended last.
///
/// # Errors
/// When the connection is lost.
pub async fn newest(connection: &mut RedisConnection, keys: &StreamKeys) -> Result<Option<RawEntry>> {
    let mut command = Cmd::new();
    command.arg("XREVRANGE").arg(&keys.changes).arg("+").arg("-").arg("COUNT").arg(1);
    Ok(entries(connection, &command).await?.pop())
}

/// The last entry with which a reader that has seen what `seen` saw can begin; `None` where the stream begins later. Entries
/// before `restart`, the last place at which the stream did not go on from what came before, are of no use to it.
///
/// # Errors
/// When the connection is lost.
pub async fn locate(
    connection: &mut RedisConnection,
    keys: &StreamKeys,
    restart: Id,
    seen: &Snapshot,
) -> Result<Option<Id>> {
    let newest = newest(connection, keys).await?;
    let oldest = range(connection, keys, &restart.to_string(), "+", 1).await?.pop();
    let (Some(oldest), Some(newest)) = (oldest, newest) else { return Ok(None) };
    let mut search = Search::between(oldest.id, newest.id);
    while let Some(from) = search.next_from() {
        let raw = range(connection, keys, &from.to_string(), "+", 1).await?.pop();
        search.take(raw.as_ref(), seen);
    }
    Ok(search.found)
}

/// The search of [`locate`], by halving the time: from `oldest` on positions only move on.
struct Search {
    oldest: Id,
    /// milliseconds: what is searched for lies before `high`, and not before `low`, or is `found`
    low: u64,
    high: u64,
    found: Option<Id>,
}

impl Search {
    fn between(oldest: Id, newest: Id) -> Self {
        Self { oldest, low: oldest.ms, high: newest.ms.saturating_add(1), found: None }
    }

    fn middle(&self) -> u64 {
        self.low + (self.high - self.low) / 2
    }

    /// From where the next entry to look at is the first one; `None` at the end of the search.
    fn next_from(&self) -> Option<Id> {
        (self.low < self.high).then(|| self.oldest.max(Id { ms: self.middle(), number: 0 }))
    }

    /// Goes on with the first entry from [`next_from`](Self::next_from) on.
    fn take(&mut self, raw: Option<&RawEntry>, seen: &Snapshot) {
        // the entry with which the stream began has no position before it
        let position = |raw: &RawEntry| raw.at().or_else(|| Cursor::parse(raw.field("to")).ok());
        match raw.filter(|raw| position(raw).is_some_and(|position| can_begin(seen, &position))) {
            Some(raw) => (self.found, self.low) = (Some(raw.id), raw.id.ms + 1),
            None => self.high = self.middle(),
        }
    }
}

/// The entries after `id`, at most `count`; waits a second for the first one.
///
/// # Errors
/// When the connection is lost, or they do not arrive in time.
pub async fn read_after(
    connection: &mut RedisConnection,
    keys: &StreamKeys,
    id: Id,
    count: usize,
) -> Result<Vec<RawEntry>> {
    let mut command = Cmd::new();
    command.arg("XREAD").arg("COUNT").arg(count).arg("BLOCK").arg(BLOCK_MS);
    command.arg("STREAMS").arg(&keys.changes).arg(id.to_string());
    // each stream with its entries, or nothing
    let read: Option<Vec<(String, Vec<RawEntry>)>> =
        connection.run(&command).await.map_err(|e| explain("cannot read the stream", e))?;
    Ok(read.into_iter().flatten().flat_map(|(_, entries)| entries).collect())
}

/// The oldest of the latest entries with which a node can begin, not further back than `most` bytes of them. Asks for so many
/// `at_a_time`: on a slow line more do not come in time.
///
/// # Errors
/// When the connection is lost.
pub async fn recent(
    connection: &mut RedisConnection,
    keys: &StreamKeys,
    state: &StreamState,
    most: u64,
    at_a_time: usize,
) -> Result<Option<Id>> {
    let restart = Id::parse(&state.restart).unwrap_or_default();
    let (mut bytes, mut count, mut begin) = (0, 0, None);
    let mut newest = "+".to_owned();
    while bytes < most && count < RECENT_ENTRIES {
        let mut command = Cmd::new();
        command.arg("XREVRANGE").arg(&keys.changes).arg(&newest).arg("-").arg("COUNT").arg(at_a_time);
        let read = entries(connection, &command).await?;
        for raw in &read {
            bytes += raw.size();
            count += 1;
            if raw.id == restart || raw.at().is_some_and(|at| at.inside.is_none()) {
                begin = Some(raw.id);
            }
            if raw.id <= restart {
                return Ok(begin);
            }
        }
        match read.last() {
            Some(oldest) if read.len() == at_a_time => newest = format!("({}", oldest.id),
            _ => break,
        }
    }
    Ok(begin)
}

/// Redis' clock, by which entries are numbered.
#[derive(Debug)]
pub struct Clock {
    /// of Redis, minus ours
    ahead_ms: i64,
}

impl Clock {
    /// Asks for it.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn of(connection: &mut RedisConnection) -> Result<Self> {
        let (seconds, micros): (i64, i64) =
            connection.run(&redis::cmd("TIME")).await.map_err(|e| explain("cannot read Redis' clock", e))?;
        Ok(Self { ahead_ms: seconds * 1000 + micros / 1000 - now_ms() })
    }

    /// When an entry was written.
    pub fn when(&self, id: Id) -> Instant {
        let age = (now_ms() + self.ahead_ms).saturating_sub_unsigned(id.ms);
        let age = Duration::from_millis(age.max(0).cast_unsigned());
        Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions before wrote no format, and leave one out that they read.
    #[test]
    fn an_entry_of_a_later_form_is_told_from_those_that_can_be_read() {
        let beat = |format: &[&str]| {
            let fields = ["at", "", "to", "1.1.1.1", "kind", "beat", "body", ""].iter().chain(format);
            let fields: Vec<_> = fields.map(|text| (*text).to_owned()).collect();
            let fields = fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            RawEntry { id: Id::default(), fields }
        };
        for (format, newer) in [
            (&[] as &[&str], None),
            (&["format", "1"], None),
            (&["format", "2"], Some(2)),
            (&["format", "later"], Some(u32::MAX)),
        ] {
            assert_eq!(beat(format).newer(), newer, "{format:?}");
            let is_refused = matches!(beat(format).entry(), Err(BadEntry("a format of a later version")));
            assert_eq!(is_refused, newer.is_some(), "{format:?}");
        }
    }

    /// A publisher that has moved to a database with lower numbers: what the stream has of the one before looks like the
    /// future.
    #[test]
    fn what_lies_before_a_restart_does_not_mislead_a_search_behind_it() {
        let at = |xmax: u64| Cursor {
            epoch: 1,
            incarnation: 1,
            lsn: 1,
            seen: Snapshot::parse(&format!("{xmax}:{xmax}:")).unwrap(),
            inside: None,
        };
        let stream: Vec<RawEntry> = (0..100)
            .map(|ms| {
                let position = at(if ms < 50 { 1_000_000 + ms } else { 500 + ms }).token();
                RawEntry { id: Id { ms, number: 0 }, fields: vec![("at".to_owned(), position)] }
            })
            .collect();
        let search = |seen: u64| {
            let mut search = Search::between(Id { ms: 50, number: 0 }, stream.last().unwrap().id);
            while let Some(from) = search.next_from() {
                search.take(stream.iter().find(|raw| raw.id >= from), &at(seen).seen);
            }
            search.found.map(|id| id.ms)
        };
        for seen in 550..600 {
            assert_eq!(search(seen), Some(seen - 500));
        }
        assert_eq!(search(549), None, "a position before the restart");
    }

    #[test]
    fn ids_have_an_order() {
        let id = |text| Id::parse(text).unwrap();
        assert!(id("5-10") > id("5-9") && id("10-0") > id("9-7"));
        assert_eq!(id("5-0").before(), Id { ms: 4, number: u64::MAX });
        assert_eq!(id("5-3").before().to_string(), "5-2");
        assert_eq!(Id::parse("5"), None);
    }
}
