//! The channels as the database describes them. Owns the reading of `rowcast.channel`; knows no row of the outbox.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio_postgres::Row;

use super::client::Pool;
use super::encoding::{Bytes, Encoding};
use super::epoch;
use crate::change::{self, Claim, Column, Floor, Follow, Policy};
use crate::condition;
use crate::cursor::Snapshot;
use crate::error::{Error, Kind, Result};

/// No function in it opens a table of the application: `pg_partition_tree`, say, waits for a session that holds a lock
/// on one partition. What describes a table can be read whatever is done to it.
const CHANNELS: &str = "
select c.id, c.name, c.singular,
       (select a.attname::text from pg_catalog.pg_attribute a
         where a.attrelid = c.target and a.attnum = c.user_column and not a.attisdropped),
       c.user_query is not null,
       c.notification::text,
       array(select a.attname::text from pg_catalog.pg_attribute a
              where a.attrelid = c.target and a.attnum > 0 and not a.attisdropped
                and not exists (select from rowcast.shown_column s where s.channel = c.id and s.attnum = a.attnum)
             union select pg_catalog.unnest(c.hidden_names) union select pg_catalog.unnest(c.given_exclude)),
       array(select a.attname::text from pg_catalog.pg_attribute a
              where a.attrelid = c.target and a.attnum > 0 and not a.attisdropped
                and a.atttypid = 'pg_catalog.timestamptz'::pg_catalog.regtype),
       array(select a.attname::text from pg_catalog.pg_index i
               join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
              where i.indrelid = c.target and i.indisprimary),
       array(with recursive part(relid) as (
                 select c.target::oid union select i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.relid
               )
             select distinct a.attname::text
               from part
               join pg_catalog.pg_partitioned_table p on p.partrelid = part.relid
               join pg_catalog.pg_attribute a on a.attrelid = part.relid and a.attnum = any (p.partattrs::int2[]) and a.attnum > 0),
       c.target is not null and (
         -- another table has the name for which it was given, also where its own is gone
         exists (select from rowcast.displaced d where d.channel = c.id) or
         -- insert 4, delete 8, update 16, truncate 32, by whichever of our triggers
         exists (select from pg_catalog.pg_class t where t.oid = c.target) and 60 <> (select coalesce(bit_or(t.tgtype::int4), 0) & 60 from pg_catalog.pg_trigger t
                     where t.tgrelid = c.target and t.tgparentid = 0 and t.tgname ~ '^!rowcast(_[tu])?(_[0-9]+)?$'
                       and t.tgenabled in ('O', 'A'))),
       case when exists (select from pg_catalog.pg_class t where t.oid = c.target) then
         array(select s.name from rowcast.shown_column s where s.channel = c.id order by s.attnum) end,
       array(select case when b.typtype = 'e' then 'enum'
                         when b.typtype = 'c' or b.typcategory = 'A' then 'structured'
                         else pg_catalog.format_type(b.oid, null) end
               from rowcast.shown_column s
               join pg_catalog.pg_type t on t.oid = s.type
               join pg_catalog.pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
              where s.channel = c.id order by s.attnum),
       array(select s.attnum from rowcast.shown_column s where s.channel = c.id order by s.attnum),
       array(select a.attname::text from pg_catalog.pg_attribute a
              where a.attrelid = c.target and a.attnum > 0 and not a.attisdropped order by a.attnum),
       exists (select from rowcast.policy p where p.channel = c.name and p.named <> '{}'),
       -- one from the future is of the cluster that a dump was taken from
       case when pg_catalog.pg_snapshot_xmax(c.floor) <= pg_catalog.pg_snapshot_xmax(n.now) then c.floor::text end,
       c.floored_by::text,
       c.exclude <> '{}' or c.given_exclude <> '{}' or c.hidden_names <> '{}' or c.allowed is not null, c.briefly, c.unlisted
  from rowcast.channel c cross join (select pg_catalog.pg_current_snapshot()) n(now)
 where c.target is null or (c.target = c.target_oid and c.origin = (select rowcast.origin()))";
const BELL: &str = "
select rowcast.bell_mode() = 'never', pg_catalog.pg_notification_queue_usage(), pg_catalog.current_setting('server_encoding'),
       exists (select from rowcast.setting where name = 'actor' and value = 'hide'),
       exists (select from rowcast.channel c join pg_catalog.pg_attribute a on a.attrelid = c.target and a.attnum > 0 and not a.attisdropped
                where c.target = c.target_oid and c.origin = (select rowcast.origin())
                  and a.attname::text = any (c.hidden_names || c.given_exclude) and a.attnum <> all (c.exclude))";
const KEEP_EXCLUDED: &str = "select rowcast.keep_excluded()";
// first, so that a client that loads again is given the column
const GRANT_ADDED: &str = "
select rowcast.grant_added(c.target) from rowcast.channel c
 where (c.exclude <> '{}' or c.given_exclude <> '{}' or c.allowed is not null) and c.target = c.target_oid and c.origin = (select rowcast.origin())
   and pg_catalog.has_any_column_privilege('rowcast_relay', c.target::oid, 'select')
   and exists (select from rowcast.shown_column s
                where s.channel = c.id and not pg_catalog.has_column_privilege('rowcast_relay', c.target::oid, s.attnum, 'select'))";
const NOTE_FORMS: &str = "select rowcast.note_forms()";
const POLICIES: &str = "
select p.channel, p.role, p.row_filter, p.columns, p.actor,
       case when pg_catalog.pg_snapshot_xmax(p.floor) <= pg_catalog.pg_snapshot_xmax(n.now) then p.floor::text end,
       p.named,
       case when exists (select from rowcast.channel c where c.name = p.channel and c.target_oid = p.target_oid and c.origin = p.origin)
            then p.attnums else '{}' end
  from rowcast.policy p cross join (select pg_catalog.pg_current_snapshot()) n(now) order by 1, 2";

/// A table that is followed and not captured, or a column of it that does not leave, makes `channel` null. So does a pause, or a
/// full outbox: nobody is told who is a member since.
const CLAIMS: &str = "
select k.name, pg_catalog.md5(k.query || k.stated_at::text),
       (select c.name from rowcast.channel c
         where c.target = f.target and c.target = c.target_oid and c.origin = (select rowcast.origin())
           and not exists (select from rowcast.displaced d where d.channel = c.id)
           and case when c.briefly then (select s.last_value from rowcast.capture_state_brief s)
                    else (select s.last_value from rowcast.capture_state s) end < 3
           and not exists (select from pg_catalog.unnest(f.columns) w(name)
                            where not exists (select from rowcast.shown_column s where s.channel = c.id and s.name = w.name))),
       f.columns, f.holder
  from rowcast.claim k left join rowcast.followed f on f.claim = k.name order by k.name, f.target::oid";

/// What decoding needs to know of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogChannel {
    /// stands in `/ws/{name}` and in `entity_type`
    pub name: Arc<str>,
    /// `pet` in `pet_created`
    pub singular: Box<str>,
    /// column that names the user to notify
    pub user_column: Option<Box<str>>,
    /// whether a query names the users; then they stand in the outbox
    pub has_user_query: bool,
    /// key in the notification's data, column of the row; `None`: the whole row
    pub notification: Option<Vec<(Box<str>, Box<str>)>>,
    /// columns that never leave, also those that were excluded under a name and are gone; in the outbox they are null, or
    /// from before
    pub excluded: Vec<Box<str>>,
    /// columns of type timestamptz: their text has the writer's offset and is brought to UTC
    pub timestamps: Vec<Box<str>>,
    /// columns of the primary key
    pub key: Vec<Box<str>>,
    /// of a partitioned table, the columns by which it is partitioned
    pub partitioned_by: Vec<Box<str>>,
    /// its triggers are missing or disabled: nothing is captured
    pub is_off: bool,
    /// of its table, those that may leave; `None` where it has no table
    pub columns: Option<Arc<[Column]>>,
    /// from when on it may be seen
    pub floor: Option<Floor>,
    /// of its table, all columns, in order
    pub shape: Vec<Box<str>>,
    /// a policy names some of them
    pub is_named_by_policies: bool,
    /// some are excluded
    pub has_exclusions: bool,
    /// its changes are in the outbox for a short time only
    pub is_kept_briefly: bool,
    /// it is captured because a claim follows it
    pub is_unlisted: bool,
}

impl CatalogChannel {
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// All channels, and how the doorbell rings.
#[derive(Debug, Default)]
pub struct Catalog {
    channels: HashMap<i32, CatalogChannel>,
    /// names of channels of which nothing is known for now; see [`without`](Self::without)
    left_out: HashMap<i32, Arc<str>>,
    policies: Vec<Policy>,
    claims: Vec<Claim>,
    /// the database's, for whatever its sessions take as it is
    pub encoding: Encoding,
    /// nobody is told who wrote
    pub hides_actors: bool,
    /// no bell will ring: the relay polls
    pub bell_is_off: bool,
    /// part of the NOTIFY queue in use, 0 to 1
    pub queue_usage: f64,
}

impl Catalog {
    /// Reads that of the database `followed`; `None`: of whichever there is.
    ///
    /// # Errors
    /// [`Kind::Connection`] or [`Kind::Database`].
    pub async fn load(pool: &Pool, followed: Option<u64>) -> Result<Self> {
        let client = epoch::client_of(pool, followed, "no connection to read the channels").await?;
        let explain = |e| Error::database("cannot read the channels", e);
        let bell = client.query_one(BELL, &[]).await.map_err(explain)?;
        let names = NameDecoder(Encoding::of(bell.get(2)));
        // hidden by its name as it is: to remember more can wait
        if bell.get(4)
            && let Err(error) = client.query_one(KEEP_EXCLUDED, &[]).await
        {
            tracing::warn!(
                event = "exclusion_unkept",
                error = crate::error::chain(&Error::database("cannot keep a column excluded", error)),
                "{}",
                client
                    .naming()
                    .of("a column with the name of an excluded one leaves if it is renamed: call rowcast.watch again")
            );
        }
        let rows = client.query(CHANNELS, &[]).await.map_err(explain)?;
        let channels: HashMap<i32, CatalogChannel> = rows.iter().map(|row| (row.get(0), names.channel(row))).collect();
        let claims = names.claims(&client.query(CLAIMS, &[]).await.map_err(explain)?, &channels);
        let policies = client.query(POLICIES, &[]).await.map_err(explain)?;
        let policies = policies.iter().map(|row| names.policy(row)).collect();
        let (bell_is_off, queue_usage, hides_actors) = (bell.get(0), bell.get(1), bell.get(3));
        let (encoding, left_out) = (names.0, HashMap::new());
        Ok(Self { channels, left_out, policies, claims, encoding, hides_actors, bell_is_off, queue_usage })
    }

    /// Has the database look whether DDL has changed what rows say, or added columns that the relay may not read yet. Beside the reading of the channels, which must not wait
    /// for it: 700 tables take a tenth of a second.
    ///
    /// # Errors
    /// [`Kind::Connection`] or [`Kind::Database`].
    pub async fn note_forms(pool: &Pool) -> Result<()> {
        let client = pool
            .get()
            .await
            .map_err(|e| Error::new(Kind::Connection, "no connection to look at the tables").because(e))?;
        let explain = |e| Error::database("cannot note what the rows look like", e);
        client.query(GRANT_ADDED, &[]).await.map_err(explain)?;
        client.query_one(NOTE_FORMS, &[]).await.map_err(explain)?;
        Ok(())
    }

    /// A channel by the id that the outbox carries.
    pub fn get(&self, id: i32) -> Option<&CatalogChannel> {
        self.channels.get(&id)
    }

    /// The id of a channel.
    pub fn id(&self, name: &str) -> Option<i32> {
        self.channels.iter().find(|(_, channel)| *channel.name == *name).map(|(id, _)| *id)
    }

    /// The channels whose changes are in the outbox for a short time only.
    pub(super) fn kept_briefly(&self) -> impl Iterator<Item = Arc<str>> {
        self.channels.values().filter(|channel| channel.is_kept_briefly).map(|channel| channel.name.clone())
    }

    /// Whether a channel's table has a primary key.
    pub fn has_key(&self, id: i32) -> bool {
        self.get(id).is_some_and(|channel| !channel.key.is_empty())
    }

    /// Whether what is told of a channel's rows is nothing but their primary key.
    pub fn is_bare(&self, id: i32) -> bool {
        self.get(id).is_some_and(|channel| channel.columns.as_ref().is_some_and(|all| all.len() <= channel.key.len()))
    }

    /// All channels as subscribers may ask for them.
    pub fn channels(&self) -> Vec<change::Channel> {
        let channels = self.channels.values();
        let mut channels: Vec<_> = channels
            .map(|c| change::Channel {
                name: c.name.clone(),
                columns: c.columns.clone(),
                floor: c.floor.clone(),
                notifies: c.user_column.is_some() || c.has_user_query,
                is_unlisted: c.is_unlisted,
            })
            .collect();
        // the same ones read the same each time
        channels.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        channels
    }

    /// Who may see them.
    pub fn policies(&self) -> Vec<Policy> {
        self.policies.clone()
    }

    /// The claims whose values stand in tables.
    pub fn claims(&self) -> Vec<Claim> {
        self.claims.clone()
    }

    /// The channels whose triggers worked in an earlier catalogue and do not any more.
    pub fn switched_off_since(&self, before: &Self) -> Vec<Arc<str>> {
        let off = self.channels.iter().filter(|(_, channel)| channel.is_off);
        off.filter(|(id, _)| before.get(**id).is_some_and(|channel| !channel.is_off))
            .map(|(_, channel)| channel.name.clone())
            .collect()
    }

    /// The same without some channels: their rows cannot be told, and are missing.
    pub(super) fn without(&self, ids: &BTreeSet<i32>) -> Self {
        let mut channels = self.channels.clone();
        let left_out = ids.iter().filter_map(|id| Some((*id, channels.remove(id)?.name))).collect();
        Self { channels, left_out, policies: self.policies.clone(), claims: self.claims.clone(), ..*self }
    }

    /// The name of a channel, also where nothing else is known of it.
    pub(super) fn name_of(&self, id: i32) -> Option<&Arc<str>> {
        self.channels.get(&id).map(|channel| &channel.name).or_else(|| self.left_out.get(&id))
    }

    /// A catalogue of these, for tests.
    pub fn of(channels: impl IntoIterator<Item = (i32, CatalogChannel)>) -> Self {
        Self { channels: channels.into_iter().collect(), ..Self::default() }
    }
}

/// What was read → text, in whichever encoding the database has its names.
struct NameDecoder(Encoding);

impl NameDecoder {
    fn channel(&self, row: &Row) -> CatalogChannel {
        let excluded: Vec<Box<str>> = self.some(row, 6).unwrap_or_default();
        let told = |text: &str| columns_of(text).map(|named| allowed(named, &excluded));
        let floor = row.get::<_, Option<&str>>(16).and_then(Snapshot::parse);
        let by = row.get::<_, Option<&str>>(17).and_then(|xid| xid.parse().ok());
        let key: Vec<Box<str>> = self.some(row, 8).unwrap_or_default();
        CatalogChannel {
            name: self.one(row, 1).into(),
            singular: self.one(row, 2).into(),
            user_column: row.get::<_, Option<Bytes<'_>>>(3).map(|name| self.text(name).into()),
            has_user_query: row.get(4),
            notification: row.get::<_, Option<Bytes<'_>>>(5).and_then(|text| told(&self.text(text))),
            floor: floor.map(|seen| Floor { seen, by: by.unwrap_or_default() }),
            timestamps: self.some(row, 7).unwrap_or_default(),
            partitioned_by: self.some(row, 9).unwrap_or_default(),
            is_off: row.get(10),
            columns: self.columns(row, &key),
            key,
            shape: self.some(row, 14).unwrap_or_default(),
            is_named_by_policies: row.get(15),
            has_exclusions: row.get(18),
            is_kept_briefly: row.get(19),
            is_unlisted: row.get(20),
            excluded,
        }
    }

    /// Those that may leave, where there is a table.
    fn columns(&self, row: &Row, key: &[Box<str>]) -> Option<Arc<[Column]>> {
        let names = self.some::<Box<str>>(row, 11)?;
        let types = self.some::<Box<str>>(row, 12).unwrap_or_default();
        let numbers: Vec<i16> = row.get(13);
        // a part of a key tells no row from another one
        let is_whole = key.iter().all(|of_key| names.contains(of_key));
        let columns = names.into_iter().zip(&types).zip(numbers).map(|((name, kind), number)| {
            let is_key = is_whole && key.contains(&name);
            Column { name, kind: change::ValueKind::of_type(kind), number, is_key }
        });
        Some(columns.collect())
    }

    /// One for each claim, of rows in the order of their names. One that follows a table whose changes are not captured now has no
    /// values: they would be those of before.
    fn claims(&self, rows: &[Row], channels: &HashMap<i32, CatalogChannel>) -> Vec<Claim> {
        let is_on = |name: &str| channels.values().any(|channel| *channel.name == *name && !channel.is_off);
        let mut claims: Vec<Claim> = Vec::new();
        for row in rows {
            let name = self.one(row, 0);
            if claims.last().is_none_or(|last| *last.name != *name) {
                let (name, revision) = (name.into(), self.one(row, 1).into());
                claims.push(Claim { name, revision, follows: Some(Vec::new()) });
            }
            let Some(claim) = claims.last_mut() else { continue };
            let channel = row.get::<_, Option<Bytes<'_>>>(2).map(|channel| self.text(channel));
            let follow = channel.filter(|channel| is_on(channel)).map(|channel| Follow {
                channel: channel.into(),
                columns: self.some(row, 3).unwrap_or_default(),
                holder: row.get::<_, Option<Bytes<'_>>>(4).map(|holder| self.text(holder).into()),
            });
            match (&mut claim.follows, follow) {
                (Some(follows), Some(follow)) => follows.push(follow),
                (follows, _) => *follows = None,
            }
        }
        claims
    }

    fn policy(&self, row: &Row) -> Policy {
        let named: Vec<Box<str>> = self.some(row, 6).unwrap_or_default();
        let numbers: Vec<i16> = row.get(7);
        let filter = row.get::<_, Option<Bytes<'_>>>(2).map(|filter| self.text(filter));
        let filters = filter.iter().flat_map(|filter| condition::split(filter)).map(Into::into).collect();
        Policy {
            channel: self.one(row, 0).into(),
            role: self.one(row, 1).into(),
            filters,
            columns: self.some(row, 3),
            bound: named.into_iter().zip(numbers).collect(),
            floor: row.get::<_, Option<&str>>(5).and_then(Snapshot::parse),
            actor: row.get(4),
        }
    }

    fn text<'a>(&self, bytes: Bytes<'a>) -> Cow<'a, str> {
        self.0.decode(bytes.0)
    }

    fn one<'a>(&self, row: &'a Row, index: usize) -> Cow<'a, str> {
        self.text(row.get(index))
    }

    /// The texts of an array; `None` where it is null.
    fn some<'a, T: From<Cow<'a, str>>>(&self, row: &'a Row, index: usize) -> Option<Vec<T>> {
        let texts = row.get::<_, Option<Vec<Option<Bytes<'a>>>>>(index)?;
        Some(texts.into_iter().flatten().map(|text| self.text(text).into()).collect())
    }
}

/// Of what a notification tells, what may leave.
fn allowed(named: Vec<(Box<str>, Box<str>)>, excluded: &[Box<str>]) -> Vec<(Box<str>, Box<str>)> {
    named.into_iter().filter(|(_, column)| !excluded.contains(column)).collect()
}

fn columns_of(notification: &str) -> Option<Vec<(Box<str>, Box<str>)>> {
    let columns: std::collections::BTreeMap<Box<str>, Box<str>> = serde_json::from_str(notification).ok()?;
    Some(columns.into_iter().collect())
}
