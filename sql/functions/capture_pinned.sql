-- rowcast.capture_pinned(op, old row, new row, its table, the watched root, excluded attnums, excluded names, allowed
-- attnums) -> table(old json, new json)
-- Both images of a change under the server's default output settings, so that the same row gives the same JSON
-- whichever session writes it. A function of its own because SET clauses cost 3 microseconds a row: only writers whose
-- settings deviate pay them.
create or replace function rowcast.capture_pinned(
  op "char",
  o anyelement,
  n anyelement,
  rel oid,
  root oid,
  attnums int2[],
  names text[],
  allowed int2[],
  out old json, out new json)
language plpgsql
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set intervalstyle = 'postgres'
set bytea_output = 'hex' set extra_float_digits = 1 set datestyle = 'ISO' as $$
declare
  is_whole pg_catalog.bool := attnums operator(pg_catalog.=) '{}'
    and names operator(pg_catalog.=) '{}'
    and allowed is null;
begin
  if op operator(pg_catalog.<>) 'I' then
    if is_whole then
      old := pg_catalog.row_to_json(o);
    else
      old := rowcast.json_without(o, rel, root, attnums, names, allowed);
    end if;
  end if;
  if op operator(pg_catalog.<>) 'D' then
    if is_whole then
      new := pg_catalog.row_to_json(n);
    else
      new := rowcast.json_without(n, rel, root, attnums, names, allowed);
    end if;
  end if;
end $$;
comment on function rowcast.capture_pinned("char", anyelement, anyelement, oid, oid, int2[], text[], int2[]) is
  'images of a change under the server''s default output settings';
drop function if exists rowcast.capture_pinned("char", anyelement, anyelement, oid, oid, int2[]);
