-- rowcast.json_within(row, its table, the watched root, excluded attnums, excluded names, allowed attnums) -> json
-- A row's JSON, without what may not leave as in rowcast.json_without; null where it is longer than
-- rowcast.row_bytes(), or cannot be made at all: JSON of over 1 GB, memory that is not there. A row that is stored in
-- more bytes than that is not read for it. For rows that are large: the EXCEPTION block costs a microsecond, and no
-- transaction id, as nothing is written in it.
create or replace function rowcast.json_within(
  r anyelement,
  rel oid,
  root oid,
  attnums int2[],
  names text[],
  allowed int2[])
returns json
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  result pg_catalog.json;
begin
  if attnums operator(pg_catalog.<>) '{}' or names operator(pg_catalog.<>) '{}' or allowed is not null then
    result := rowcast.json_without(r, rel, root, attnums, names, allowed);
  elsif pg_catalog.pg_column_size(r) operator(pg_catalog.<=) rowcast.row_bytes() then
    result := pg_catalog.row_to_json(r);
  end if;
  if pg_catalog.octet_length(result::pg_catalog.text) operator(pg_catalog.>) rowcast.row_bytes() then
    return null;
  end if;
  return result;
exception when others then
  return null;
end $$;
comment on function rowcast.json_within(anyelement, oid, oid, int2[], text[], int2[]) is
  'a row''s JSON; null where it is longer than row_bytes';
