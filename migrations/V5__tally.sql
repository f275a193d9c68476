-- What was written beside what was captured: how a table shows whose changes nobody hears. Frozen once released.

create table rowcast.tally (
  channel     int    primary key,
  target      oid    not null,
  written     bigint not null,
  living      bigint not null,
  captured    bigint not null,
  surplus     bigint,
  estimated   timestamptz,
  parts       int,
  silent_rows bigint,
  silent_at   timestamptz,
  silent_tx   xid8
);
comment on table rowcast.tally is 'rows that Postgres has counted in watched tables, beside those that were captured; see rowcast.note_tally';
comment on column rowcast.tally.target is 'the table that was counted';
comment on column rowcast.tally.written is 'rows inserted and deleted as Postgres counts them, those of transactions that were rolled back included';
comment on column rowcast.tally.living is 'rows that live, as Postgres estimates';
comment on column rowcast.tally.captured is 'rows inserted and deleted by the outbox; begins with what was written when the table was first counted';
comment on column rowcast.tally.surplus is 'the most by which written was larger than captured; null: the tally begins, and sessions may still tell what they wrote before';
comment on column rowcast.tally.estimated is 'when the rows that live were estimated anew, by ANALYZE or VACUUM';
comment on column rowcast.tally.parts is 'a hash of the partitions that were counted: one that comes or goes brings its rows';
comment on column rowcast.tally.silent_rows is 'rows that were written while none was captured, the last time that it was so';
comment on column rowcast.tally.silent_tx is 'the transaction that noted it: who had the floor of the channel raised since has told the subscribers';

alter table rowcast.installation
  add column tallied    pg_snapshot,
  add column tallied_at timestamptz;
comment on column rowcast.installation.tallied is 'what it sees of the outbox was counted; see rowcast.note_tally';

alter table rowcast.node add column unread timestamptz;
comment on column rowcast.node.unread is 'when the first change was captured of those that the node had not read; such a one is young, unless the node stands still';
