-- Capture's state, row size, what may leave a table: what keeps a fault to itself. Frozen once released.

-- Read by every captured change, so it is a sequence: 0.5 microseconds, no DDL to change it (an application's event
-- trigger may refuse DDL), and every session sees a change at once. A segment's number 0, 1 or 2: changes go there.
-- 3 more: the outbox is full; 6 more: rowcast.pause() was called; changes are left out then.
create sequence rowcast.capture_state minvalue 0 maxvalue 8 start 0 cache 1;
select setval('rowcast.capture_state', (select number from rowcast.segment where opened_at is not null order by opened_at desc limit 1));
comment on sequence rowcast.capture_state is 'segment that takes new changes, 0 to 2; 3 more: the outbox is full; 6 more: paused';

alter table rowcast.installation add column left_out_until xid8;
comment on column rowcast.installation.left_out_until is
  'transactions below this one may have left changes out while capture was paused or full; null: none runs any more';

comment on column rowcast.outbox.op is 'I, U, D, T: row created, updated, deleted, table truncated; i, u, d: the same of a row larger than row_bytes, whose images may hold the key alone; N: rowcast.notify; P: rowcast.publish; C: a channel or a policy changed; R: rowcast.revoke';
comment on column rowcast.outbox.old is 'the row before; of an updated one that is large, only the columns that differ';

alter table rowcast.channel
  add column given_columns text[],
  add column allowed       int2[];
comment on column rowcast.channel.given_columns is 'as rowcast.watch was told: the only columns that may leave; null: all that are not excluded';
comment on column rowcast.channel.allowed is 'attnums of the columns that may leave, where columns were given; a column that is added later is not among them';

-- Which candidate publishes. A row and not an advisory lock: a lock's number is nobody's, and whoever may connect could
-- hold it. A session that has ended is known by its backend, so nothing has to be given back.
create table rowcast.publisher (
  pid      int         not null default 0,
  since    timestamptz,
  instance text        not null default '',
  only_one boolean     primary key default true constraint publisher_is_one_row check (only_one)
);
insert into rowcast.publisher default values;
comment on table rowcast.publisher is 'the session that publishes into the stream, if it lives; see rowcast.take_publishing';
comment on column rowcast.publisher.since is 'when that session began, which tells it from a later one of the same number';

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
