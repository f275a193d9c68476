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
