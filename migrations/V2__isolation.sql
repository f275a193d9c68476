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
