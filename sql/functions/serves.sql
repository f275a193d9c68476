-- rowcast.serves() -> int
-- The oldest version of the schema whose programs work with this one. While a fleet is upgraded one node after the
-- other, those of the version before do; and an operator may go back to them. A migration raises it where it takes
-- away or changes what they use, in a later release than the one that stops using it.
-- Programs of 6 know no claim that stands in tables, and would take one of its name from tokens: they do not work any
-- more once one is stated.
-- tables touched: rowcast.claim (select)
create or replace function rowcast.serves() returns int
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return case when exists (select from rowcast.claim) then 7 else 6 end;
end $$;
comment on function rowcast.serves() is 'the oldest version of the schema whose programs work with this one';
