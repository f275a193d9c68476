-- What else is in the database: schemas that are watched whole, logical replication, autovacuum. Frozen once released.

alter table rowcast.channel add column replicated boolean not null default false;
comment on column rowcast.channel.replicated is 'whether what a subscription of logical replication writes is captured as well';

create table rowcast.watched_schema (
  name          text        primary key,
  number        oid         not null,
  prefix        text        not null default '',
  except_tables text[]      not null default '{}',
  stated_at     timestamptz not null default now(),
  stated_by     text        not null default session_user
);
comment on table rowcast.watched_schema is 'schemas whose future tables are watched as well; change it with rowcast.watch_schema, and rowcast.unwatch for one table';
comment on column rowcast.watched_schema.number is 'number of the schema then: where another one has the name now, its tables are not watched';

-- A new table is one whose number and name nobody has seen: whatever was there when somebody chose what to watch, was taken
-- out, is a partition or was one, or takes the name of a watched table, is for the DBA to decide.
create table rowcast.seen_table (number oid primary key);
comment on table rowcast.seen_table is 'tables that a look for new ones has seen';

create table rowcast.stated_table (
  schema name,
  name   name,
  number oid     not null,
  is_out boolean not null default false,
  constraint stated_table_has_one_name primary key (schema, name)
);
comment on table rowcast.stated_table is 'names of tables that are or were watched, also of those that are gone';
comment on column rowcast.stated_table.is_out is 'rowcast.unwatch has taken it out of a schema whose future tables are watched';
insert into rowcast.stated_table (schema, name, number)
  select given_schema, given_name, target from rowcast.channel where given_schema is not null and target is not null
  on conflict on constraint stated_table_has_one_name do nothing;

-- Columns that have had the name of an excluded one while something was written. Whoever writes notes it, since the column may
-- have another name before a relay looks; only ever added to, so that nobody waits.
create table rowcast.hidden_column (
  channel int  not null,
  attnum  int2 not null
);
comment on table rowcast.hidden_column is 'columns that took the name of an excluded one, as their writers saw it; see rowcast.keep_excluded';

-- Rows of a segment leave by TRUNCATE, so there is nothing to vacuum; they are looked up by transaction, whose index is
-- chosen without statistics. Against the wraparound of transaction ids autovacuum works all the same.
alter table rowcast.outbox_0 set (autovacuum_enabled = false, toast.autovacuum_enabled = false);
alter table rowcast.outbox_1 set (autovacuum_enabled = false, toast.autovacuum_enabled = false);
alter table rowcast.outbox_2 set (autovacuum_enabled = false, toast.autovacuum_enabled = false);
