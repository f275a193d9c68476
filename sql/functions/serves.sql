-- rowcast.serves() -> int
-- The oldest version of the schema whose programs work with this one. While a fleet is upgraded one node after the
-- other, those of the version before do; and an operator may go back to them. A migration raises it where it takes
-- away or changes what they use, in a later release than the one that stops using it.
create or replace function rowcast.serves() returns int
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select 6;
$$;
comment on function rowcast.serves() is 'the oldest version of the schema whose programs work with this one';
