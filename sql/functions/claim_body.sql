-- rowcast.claim_body(query) -> text
-- A claim's query as a subquery of a statement over "claim holder", a row of which is a holder: text sub.
-- tables touched: none
create or replace function rowcast.claim_body(query text) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
  select '(' || replace(regexp_replace(query, '[;[:space:]]+$', ''), '{sub}', '"claim holder".sub') || E'\n)';
$$;
comment on function rowcast.claim_body(text) is 'a claim''s query as a part of a statement over all holders';
