-- rowcast.json_differing(old json, new json) -> json
-- Of an updated row's old image the columns that differ from the new one; the image as it is where that cannot be
-- said. Both are of one table, so their columns stand in one order: read side by side they cost a third less than
-- joined by their names. Called by capture, so every name is qualified; a search_path of its own would cost 4
-- microseconds.
create or replace function rowcast.json_differing(old json, new json) returns json
language plpgsql as $$
begin
  return (select coalesce(pg_catalog.json_object_agg((p.b).key, (p.b).value) filter (where coalesce(
                   (p.a).key operator(pg_catalog.<>) (p.b).key
                     or (p.a).value::pg_catalog.text operator(pg_catalog.<>) (p.b).value::pg_catalog.text, true)),
                   '{}')
            from (select pg_catalog.json_each(old) as b, pg_catalog.json_each(new) as a) p where p.b is not null);
exception when others then
  return old;  -- a \u0000 in a value of type json, which json_each refuses
end $$;
comment on function rowcast.json_differing(json, json) is 'of an old image the columns that differ';
