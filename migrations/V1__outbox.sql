-- The tables of rowcast. Private: the functions and views of schema rowcast are the interface.
-- Frozen once released; function text lives in sql/functions and is replaced at each migrate.

comment on schema rowcast is 'rowcast: committed row changes, on their way to WebSocket clients. Start with: select * from rowcast.health';

-- One row, written once: a restored dump and a clone keep it, so it is only a part of the epoch; the system
-- identifier and the database's oid, which they do not keep, are the rest.
create table rowcast.installation (
  id           uuid        not null default gen_random_uuid(),
  installed_at timestamptz not null default now(),
  floor        pg_snapshot,
  only_one     boolean     primary key default true constraint installation_is_one_row check (only_one)
);
insert into rowcast.installation default values;
comment on table rowcast.installation is 'identity of this installation; part of the epoch that every cursor carries';
comment on column rowcast.installation.floor is 'sees every change that was pruned: a cursor that does not see all it sees is too old';

create table rowcast.setting (
  name  text primary key,
  value text not null
);
comment on table rowcast.setting is 'settings kept in the database; change them with rowcast.configure(name, value)';

create table rowcast.channel (
  id           int generated always as identity primary key,
  name         text      not null constraint channel_name_taken unique,
  target       regclass  constraint channel_target_watched_once unique,
  singular     text      not null,
  user_column  int2,
  user_query   text,
  notification jsonb,
  exclude      int2[]    not null default '{}',
  -- what a restored dump gets wrong: numbers of tables and columns. By these it is noticed, and mended
  target_oid    oid,
  origin        text,
  given_rule    text,
  given_exclude text[]   not null default '{}',
  since        timestamptz not null default now(),
  -- the name stands in a URL path (/ws/{channel}); 'user' is taken by /ws/user/{user_id}
  constraint channel_name_fits_a_url check (name <> '' and length(name) <= 100 and name !~ '[[:space:][:cntrl:]/?#%]' and name <> 'user'),
  constraint channel_one_user_rule check (user_column is null or user_query is null),
  constraint channel_notification_is_an_object check (notification is null or jsonb_typeof(notification) = 'object')
);
comment on table rowcast.channel is 'a channel, fed by a watched table or, where target is null, by rowcast.publish alone';
comment on column rowcast.channel.target_oid is 'number of the table when it was watched; another one now: the table comes from a dump';
comment on column rowcast.channel.origin is 'rowcast.origin() then: after a dump a table may have its old number by chance';
comment on column rowcast.channel.given_rule is 'as rowcast.watch was told';
comment on column rowcast.channel.given_exclude is 'as rowcast.watch was told';
comment on column rowcast.channel.user_column is 'attnum of the column that names the user to notify';
comment on column rowcast.channel.user_query is 'query over "row" that gives the users to notify';
comment on column rowcast.channel.notification is '{key in the notification''s data: column of the row}; null: the whole row';
comment on column rowcast.channel.exclude is 'attnums of the columns that never leave the table';

-- Who may see what, once the relay has a key to check tokens with: no row, no access. By the channel's name, so that it
-- outlives an unwatch; a relay shows nothing where the row filter or the columns no longer fit the table.
create table rowcast.policy (
  channel    text        not null,
  role       text        not null,
  row_filter text,
  columns    text[],
  stated_at  timestamptz not null default now(),
  stated_by  text        not null default session_user,
  constraint policy_one_for_a_role primary key (channel, role),
  constraint policy_filter_is_not_empty check (row_filter <> ''),
  constraint policy_columns_have_names check (array_position(columns, null) is null)
);
comment on table rowcast.policy is 'who may see what; change it with rowcast.allow and rowcast.deny, audit it with rowcast.exposure';

-- Ids order the changes inside a cut: drawn under the row's lock in the AFTER trigger, so CACHE must stay 1
-- (with CACHE 20, versions 1, 2, 3, 4 of one row took the ids 1, 21, 2, 22).
create sequence rowcast.outbox_id cache 1;

-- The outbox is the truth. Three segments take turns, so that old rows leave by TRUNCATE, never by DELETE. They
-- inherit instead of being declared partitions: an insert straight into a segment then has no partition constraint
-- to check (2 of 15 microseconds a row).
create table rowcast.outbox (
  id      bigint      not null default nextval('rowcast.outbox_id'),
  xid     xid8        not null default pg_current_xact_id(),
  at      timestamptz not null default clock_timestamp(),
  channel int         not null,
  op      "char"      not null,
  old     json,
  new     json,
  actor   text,
  users   text[]
);
comment on table rowcast.outbox is 'every captured change, written in the writer''s own transaction; read it through rowcast.recent';
comment on column rowcast.outbox.op is 'I, U, D, T: row created, updated, deleted, table truncated; N: rowcast.notify; P: rowcast.publish; C: a channel or a policy changed; R: rowcast.revoke';
comment on column rowcast.outbox.users is 'users to notify, where the channel''s rule is a query or the row is a notification';

create table rowcast.outbox_0 () inherits (rowcast.outbox);
create table rowcast.outbox_1 () inherits (rowcast.outbox);
create table rowcast.outbox_2 () inherits (rowcast.outbox);
-- The read step looks rows up by transaction id only; an index on (xid, id) gained nothing.
create index outbox_0_xid on rowcast.outbox_0 (xid);
create index outbox_1_xid on rowcast.outbox_1 (xid);
create index outbox_2_xid on rowcast.outbox_2 (xid);

create table rowcast.segment (
  number    int         primary key constraint segment_is_one_of_three check (number in (0, 1, 2)),
  opened_at timestamptz,
  closed    pg_snapshot,
  closed_at timestamptz
);
insert into rowcast.segment (number, opened_at) values (0, now()), (1, null), (2, null);
comment on table rowcast.segment is 'which segment takes new rows (the one opened last), and since when a segment takes none; see rowcast.prune';
comment on column rowcast.segment.opened_at is 'null: empty';
comment on column rowcast.segment.closed is 'sees every row in it; null while some writer may still add one';

-- Lives of the server. After a crash or a promotion, transaction ids of the lost tail are used again, so a cursor of
-- an earlier life is good only up to a position in the write-ahead log that is known to have survived.
create table rowcast.incarnation (
  number     int         generated always as identity primary key,
  life       text        not null,
  noted_at   timestamptz not null default clock_timestamp(),
  bound      pg_lsn,
  durable    pg_lsn      not null default pg_current_wal_flush_lsn(),
  durable_at timestamptz not null default clock_timestamp()
);
comment on table rowcast.incarnation is 'lives of the server, as relays saw them begin';
comment on column rowcast.incarnation.life is 'timeline, start time and recovered end of the log';
comment on column rowcast.incarnation.bound is 'cursors of earlier lives are honoured up to here; null: all of them';
comment on column rowcast.incarnation.durable is 'flushed position, noted while the life went on';
-- Each node notes itself every ten seconds, so that an operator sees all of them from any of them, and rowcast.prune how
-- far they have come.
create table rowcast.node (
  node       text        primary key,
  version    text        not null,
  address    text        not null,
  role       text        not null,
  started_at timestamptz not null,
  seen_at    timestamptz not null,
  sockets    bigint      not null,
  lag_ms     float8      not null,
  seen       pg_snapshot
);
comment on table rowcast.node is 'nodes, as they noted themselves; rowcast.nodes shows those that live';
comment on column rowcast.node.seen is 'what this snapshot sees of the outbox the node needs no more';

-- Unlogged on purpose: a crash or a promotion empties it, and nothing else does. That is how a crash shows that was
-- followed by a clean restart, both while no relay was connected.
create unlogged table rowcast.alive (incarnation int not null);
comment on table rowcast.alive is 'the incarnation that goes on; emptied by a crash or a promotion';
