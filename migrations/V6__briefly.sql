-- An outbox of its own for tables whose changes are kept briefly: rowcast.keep_briefly. Frozen once released.

-- Three more segments, which take turns like the others, and beside them. They are a part of rowcast.outbox from the first
-- call on: three index scans that find nothing cost each read 3 to 8 of 53 to 65 microseconds.
create table rowcast.outbox_3 () inherits (rowcast.outbox) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table rowcast.outbox_4 () inherits (rowcast.outbox) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table rowcast.outbox_5 () inherits (rowcast.outbox) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create index outbox_3_xid on rowcast.outbox_3 (xid);
create index outbox_4_xid on rowcast.outbox_4 (xid);
create index outbox_5_xid on rowcast.outbox_5 (xid);
alter table rowcast.outbox_3 no inherit rowcast.outbox;
alter table rowcast.outbox_4 no inherit rowcast.outbox;
alter table rowcast.outbox_5 no inherit rowcast.outbox;

alter table rowcast.segment drop constraint segment_is_one_of_three;
alter table rowcast.segment add constraint segment_is_one_of_six check (number between 0 and 5);
insert into rowcast.segment (number) values (3), (4), (5);
comment on table rowcast.segment is 'which segment takes new rows (the one opened last), and since when a segment takes none; see rowcast.prune. 0 to 2; 3 to 5: of tables that are kept briefly';

create sequence rowcast.capture_state_brief minvalue 0 maxvalue 8 start 0 cache 1;
select setval('rowcast.capture_state_brief', 0);
comment on sequence rowcast.capture_state_brief is 'the same of tables that are kept briefly: 0 to 2 are segments 3 to 5';

alter table rowcast.channel add column briefly boolean not null default false;
comment on column rowcast.channel.briefly is 'whether its changes are kept for brief_retention; see rowcast.keep_briefly';

alter table rowcast.installation
  add column brief_floor          pg_snapshot,
  add column brief_floored_by     xid8,
  add column brief_left_out_until xid8;
comment on column rowcast.installation.brief_floor is 'the floor of tables that are kept briefly';
comment on column rowcast.installation.brief_floored_by is 'the transaction that has set it: a snapshot that sees it sees all that the floor sees';
comment on column rowcast.installation.brief_left_out_until is 'as left_out_until, of tables that are kept briefly';
