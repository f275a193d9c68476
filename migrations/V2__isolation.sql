-- Isolation: what concerns one concerns no other. Frozen once released.

-- == From when on something may be seen ==

-- A floor is the snapshot of the transaction that changed what may be seen, that transaction included: who has not seen
-- all that it sees is told `gap`, and nothing from before.
alter table rowcast.channel
  add column floor        pg_snapshot,
  add column floored_by   xid8,
  add column hidden_names text[] not null default '{}';
comment on column rowcast.channel.floor is 'sees everything from before what may be seen was changed: a cursor that does not see all of it gets gap, policy';
comment on column rowcast.channel.floored_by is 'the transaction that changed it, which the floor sees as well';
comment on column rowcast.channel.hidden_names is 'every name under which a column was excluded, also of columns that are gone: older rows have them';
update rowcast.channel c set hidden_names = array(
  select c.given_exclude[i] from generate_subscripts(c.given_exclude, 1) i
   union select a.attname::text from pg_attribute a where a.attrelid = c.target and a.attnum = any (c.exclude) and not a.attisdropped);

-- A policy holds for the columns that had the names when it was stated.
alter table rowcast.policy
  add column floor      pg_snapshot,
  add column actor      boolean not null default true,
  add column target_oid oid,
  add column origin     text,
  add column named      text[]  not null default '{}',
  add column attnums    int2[]  not null default '{}';
comment on column rowcast.policy.floor is 'sees everything from before the policy was stated or changed: nothing of that is shown by it';
comment on column rowcast.policy.actor is 'whether its holders are told who wrote';
comment on column rowcast.policy.target_oid is 'the table that fed the channel when the policy was bound to columns';
comment on column rowcast.policy.origin is 'rowcast.origin() then';
comment on column rowcast.policy.named is 'the columns that it names, in columns and in row_filter';
comment on column rowcast.policy.attnums is 'their numbers then; 0: there was none';
update rowcast.policy set actor = false where role = 'anon';
-- as rowcast.bind_policies does it
update rowcast.policy p
   set target_oid = c.target_oid, origin = c.origin, named = n.names,
       attnums = array(select coalesce((select a.attnum from pg_attribute a
                                         where a.attrelid = c.target and a.attname = name and a.attnum > 0 and not a.attisdropped), 0)::int2
                         from unnest(n.names) with ordinality names(name, place) order by place)
  from rowcast.channel c
  join rowcast.policy q on q.channel = c.name
 cross join lateral (
    select array(select unnest(q.columns) union select split_part(condition, '=', 1) from unnest(string_to_array(q.row_filter, '&')) condition)) n(names)
 where c.target is not null and q.channel = p.channel and q.role = p.role;

create table rowcast.revoked (
  user_id text        primary key,
  at      timestamptz not null
);
comment on table rowcast.revoked is 'users whose tokens of before that moment are no longer good; forgotten after a day';

-- What cursors are sealed with, so that one that no server gave out is refused on every node.
alter table rowcast.installation
  add column cursor_key bytea not null default uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
comment on column rowcast.installation.cursor_key is 'what cursors are sealed with; another one makes all that were given out worthless';
