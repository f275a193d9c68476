-- rowcast.segment() -> int
-- The segment of the outbox that takes new rows: 0, 1 or 2. Immutable, so it is a constant in the capture
-- trigger's plan and costs nothing per row; rotating replaces the function, which invalidates those plans.
create or replace function rowcast.segment() returns int
language sql immutable parallel safe as 'select 0';
comment on function rowcast.segment() is 'segment of the outbox that takes new rows';
