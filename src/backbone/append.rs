//! The one way an entry gets into the stream: compare and append. Owns the script and the state beside the stream.
//!
//! An entry is taken only while the stream ends with the entry that its writer wrote or read last. So two publishers
//! cannot interleave, and one that was stopped for minutes and wakes up cannot write: the one that wrote in between has
//! moved the end. No clock, no lease and no number of a term is needed for that.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};

use super::StreamKeys;
use super::entry::{FORMAT, Said};
use super::link::{RedisConnection, explain};
use crate::change::{Event, Start};
use crate::cursor::Cursor;
use crate::error::{Error, Kind, Result};

/// StreamKeys: the stream, its state. Arguments: the last id as its writer knows it, the retention in milliseconds, the five
/// fields, then what changes in the state: names and values; `id`, as a value or at its end, is the id of this entry.
///
/// Where a stranger has appended an entry of a time to come, all that follow have its time, or a later one: they would never
/// leave the stream, and at the highest id none could follow. So the stream begins again, as after one that was deleted.
///
/// The stream is what counts: a state without a stream is that of one which was deleted. A revocation is forgotten after
/// a day, as the nodes do; to look for such costs 1 ms of Redis for 1,000 of them, so it is done once an hour at most.
const APPEND: &str = r"
local function is_error(answer) return type(answer) == 'table' and answer.err ~= nil end
local last = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HGET', KEYS[2], 'last') or ''
if last ~= ARGV[1] then return {0, last} end
local now = redis.call('TIME')
local oldest = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[2]
local id = redis.pcall('XADD', KEYS[1], 'MINID', '~', string.format('%d', oldest), '*',
  'at', ARGV[3], 'to', ARGV[4], 'kind', ARGV[5], 'body', ARGV[6], 'format', ARGV[7])
local is_full = is_error(id)
if is_full and not string.find(id.err, 'last possible ID', 1, true) then return id end
local is_to_come = is_full or tonumber(string.match(id, '^%d+')) > now[1] * 1000 + 3600000
if is_to_come and not is_error(redis.pcall('DEL', KEYS[1], KEYS[2])) then return {0, ''} end
if is_full then return id end
redis.call('HSET', KEYS[2], 'last', id, 'to', ARGV[4])
if ARGV[5] == 'revoked' and now[1] - (redis.call('HGET', KEYS[2], 'pruned') or 0) > 3600 then
  redis.call('HSET', KEYS[2], 'pruned', now[1])
  local fields = redis.call('HGETALL', KEYS[2])
  for i = 1, #fields, 2 do
    local told = string.sub(fields[i], 1, 8) == 'revoked/' and tonumber(string.match(fields[i + 1], '^%d+'))
    if told and told < now[1] * 1000 - 86400000 then redis.pcall('HDEL', KEYS[2], fields[i]) end
  end
end
for i = 8, #ARGV, 2 do
  local value = ARGV[i + 1]
  if value == 'id' then value = id elseif string.sub(value, -3) == ' id' then value = string.sub(value, 1, -3) .. id end
  redis.call('HSET', KEYS[2], ARGV[i], value)
end
return {1, id}
";

/// Fields of the state that name a user whose tokens were revoked.
const REVOKED: &str = "revoked/";

/// How the stream is, as its writers noted it.
#[derive(Debug, Clone)]
pub struct StreamState {
    /// id of the last entry
    pub last: String,
    /// the position after it
    pub to: Cursor,
    /// body of the last catalogue; empty before the first
    pub channels: String,
    /// body of the last `from`
    pub from: String,
    /// id of the last `from` that does not go on from what came before: what lies before it is of no use
    pub restart: String,
    /// whether the publisher is connected to Postgres
    pub is_live: bool,
    /// users whose tokens were revoked
    pub revoked: Vec<Revoked>,
}

/// Of a user whose tokens were revoked, as the state says it: `milliseconds id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// the user
    pub user: Box<str>,
    /// those that were issued until then, microseconds since 1970
    pub at: i64,
    /// id of the entry that said so
    pub id: String,
}

/// Reads the state; `None` where there is no stream.
///
/// # Errors
/// [`Kind::Connection`], or [`Kind::Config`] for a key that holds something else.
pub async fn state(connection: &mut RedisConnection, keys: &StreamKeys) -> Result<Option<StreamState>> {
    let doing = "cannot read the state of the stream";
    let exists: bool =
        connection.run(Cmd::new().arg("EXISTS").arg(&keys.changes)).await.map_err(|e| explain(doing, e))?;
    let mut fields: HashMap<String, String> =
        connection.run(Cmd::new().arg("HGETALL").arg(&keys.state)).await.map_err(|e| explain(doing, e))?;
    if !exists || fields.is_empty() {
        return Ok(None);
    }
    let mut field = |name: &str| fields.remove(name).unwrap_or_default();
    let to = Cursor::parse(&field("to")).map_err(|_| {
        Error::new(Kind::Config, format!("the key {} holds no state that this version knows", keys.state))
            .hint("delete it and the stream beside it, or choose another --redis-stream")
    })?;
    let is_live = field("live") == "1";
    let mut revoked = Vec::new();
    for (name, id) in &fields {
        // an earlier version wrote the id alone
        let moment = || id.split_once('-').map(|(ms, _)| (ms, id.as_str()));
        let read = name.strip_prefix(REVOKED).zip(id.split_once(' ').or_else(moment));
        revoked.extend(read.and_then(|(user, (at, id))| {
            let at = at.parse::<i64>().ok()?.checked_mul(1000)?;
            Some(Revoked { user: user.into(), at, id: id.to_owned() })
        }));
    }
    let mut field = |name: &str| fields.remove(name).unwrap_or_default();
    let (last, channels, from, restart) = (field("last"), field("channels"), field("from"), field("restart"));
    Ok(Some(StreamState { last, to, channels, from, restart, is_live, revoked }))
}

/// Writes the stream, as long as nobody else does.
#[derive(Debug)]
pub struct Appender {
    connection: RedisConnection,
    keys: StreamKeys,
    retention: Duration,
    /// id of the last entry; empty where there is none
    last: String,
    script: redis::Script,
}

/// Somebody else has written, or Redis has lost what was written: the end has to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved;

impl Appender {
    /// A writer that goes on after the entry `last`; empty for the first one.
    pub fn new(connection: RedisConnection, keys: StreamKeys, retention: Duration, last: String) -> Self {
        Self { connection, keys, retention, last, script: redis::Script::new(APPEND) }
    }

    /// Appends what is said between two positions; `event` is what it was said of.
    ///
    /// # Errors
    /// [`Kind::Connection`]: whether it was written is not known, and the end has to be read again.
    pub async fn append(
        &mut self,
        at: &str,
        to: &str,
        said: &Said,
        event: Option<&Event>,
    ) -> Result<Result<(), Moved>> {
        loop {
            match self.try_append(at, to, said, event).await {
                Ok((true, id)) => {
                    self.last = id;
                    return Ok(Ok(()));
                }
                Ok((false, _)) => return Ok(Err(Moved)),
                Err(error) if error.code() == Some("OOM") || error.to_string().contains("OOM") => {
                    self.make_room(error).await?;
                }
                Err(error) => return Err(explain("cannot append to the stream", error)),
            }
        }
    }

    async fn try_append(
        &mut self,
        at: &str,
        to: &str,
        said: &Said,
        event: Option<&Event>,
    ) -> Result<(bool, String), RedisError> {
        let (retention, format) = (self.retention.as_millis().to_string(), FORMAT.to_string());
        let mut arguments = vec![&*self.last, &retention, at, to, said.kind, &said.body, &format];
        let (revoked, when);
        match event {
            Some(Event::From { start, .. }) => {
                arguments.extend(["from", &said.body]);
                if *start != Start::Continues {
                    arguments.extend(["restart", "id"]);
                }
            }
            Some(Event::Channels { .. }) => arguments.extend(["channels", &said.body]),
            Some(Event::Revoked { user, at }) => {
                // rounded up: none that was issued before may be good
                (revoked, when) = (format!("{REVOKED}{user}"), format!("{} id", (at + 999) / 1000));
                arguments.extend([&*revoked, &*when]);
            }
            Some(Event::Live) => arguments.extend(["live", "1"]),
            Some(Event::Down { .. }) => arguments.extend(["live", "0"]),
            _ => {}
        }
        let command = |name: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(name).arg(script).arg(2).arg(&self.keys.changes).arg(&self.keys.state).arg(&arguments);
            command
        };
        let known = command("EVALSHA", self.script.get_hash());
        match self.connection.run(&known).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let whole = command("EVAL", APPEND);
                self.connection.run(&whole).await
            }
            answer => answer,
        }
    }

    /// Redis is out of memory: a shorter stream is better than none, and the outbox has the rest.
    async fn make_room(&mut self, error: RedisError) -> Result<()> {
        let doing = "Redis is out of memory";
        let length: u64 =
            self.connection.run(Cmd::new().arg("XLEN").arg(&self.keys.changes)).await.map_err(|e| explain(doing, e))?;
        if length < 2 {
            return Err(explain(doing, error));
        }
        let gone: u64 = self
            .connection
            .run(Cmd::new().arg("XTRIM").arg(&self.keys.changes).arg("MAXLEN").arg(length / 2))
            .await
            .map_err(|e| explain(doing, e))?;
        tracing::warn!(
            event = "stream_shortened",
            entries = gone,
            "Redis is out of memory: a client that comes back from further away needs the outbox; give Redis more memory, or a shorter --stream-retention-seconds"
        );
        Ok(())
    }
}
