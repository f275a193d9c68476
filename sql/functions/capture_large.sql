-- rowcast.capture_large(op, old row, new row, its table, the watched root, channel id, excluded attnums, excluded
-- names, allowed attnums) -> table(op, old json, new json); op null: an update that changes nothing of what may leave
-- The images of a row that is stored in more than 2,000 bytes. Nothing that it does may fail the write, whatever the
-- size: two images of 600 MB do not fit into one row of the outbox, 200 MB of control characters are 1.2 GB of JSON,
-- and a row of 1 GB cannot even be compared. An image above rowcast.row_bytes() gives way to the key, and op is in
-- lower case. An old image of more than 2,000 bytes is kept as the columns that differ: an update of a number beside a
-- text of 20 kB wrote the text twice. Output settings are pinned as in rowcast.capture_pinned.
create or replace function rowcast.capture_large(op "char", o anyelement, n anyelement, rel oid, root oid, channel int,
  attnums int2[], names text[], allowed int2[], out what "char", out old json, out new json)
language plpgsql
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set intervalstyle = 'postgres'
set bytea_output = 'hex' set extra_float_digits = 1 set datestyle = 'ISO' as $$
declare
  hidden text[];
begin
  what := op;
  if op operator(pg_catalog.=) 'U' and pg_catalog.pg_column_size(o) operator(pg_catalog.<=) rowcast.row_bytes()
     and pg_catalog.pg_column_size(n) operator(pg_catalog.<=) rowcast.row_bytes()
     and (o operator(pg_catalog.*<>) n) is false then
    what := null;
    return;
  end if;
  if op operator(pg_catalog.<>) 'I' then
    old := rowcast.json_within(o, rel, root, attnums, names, allowed);
  end if;
  if op operator(pg_catalog.<>) 'D' then
    new := rowcast.json_within(n, rel, root, attnums, names, allowed);
  end if;
  if (old is null and op operator(pg_catalog.<>) 'I') or (new is null and op operator(pg_catalog.<>) 'D') then
    what := pg_catalog.lower(op::pg_catalog.text)::pg_catalog."char";
    if op operator(pg_catalog.<>) 'I' then old := rowcast.json_key(o, rel, channel); end if;
    if op operator(pg_catalog.<>) 'D' and new is null then new := rowcast.json_key(n, rel, channel); end if;
    -- a column that may not leave may be in a primary key that was made later
    if attnums <> '{}' or names <> '{}' or allowed is not null then
      hidden := names || array(select a.attname::text from pg_attribute a
                                where a.attrelid = root
                                  and a.attnum > 0
                                  and (a.attnum = any (attnums) or a.attnum <> all (allowed)));
      if old is not null then
        old := coalesce(
          (select json_object_agg(e.key, e.value) from json_each(old) e where e.key <> all (hidden)),
          '{}');
      end if;
      if new is not null then
        new := coalesce(
          (select json_object_agg(e.key, e.value) from json_each(new) e where e.key <> all (hidden)),
          '{}');
      end if;
    end if;
  elsif op operator(pg_catalog.=) 'U' and pg_catalog.octet_length(old::pg_catalog.text) operator(pg_catalog.>) 2000 then
    old := rowcast.json_differing(old, new);
    if old::pg_catalog.text operator(pg_catalog.=) '{}' then
      what := null;
    end if;
  end if;
end $$;
comment on function rowcast.capture_large("char", anyelement, anyelement, oid, oid, int, int2[], text[], int2[]) is
  'images of a change of a large row';
