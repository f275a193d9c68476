-- rowcast.json_without(row, its table, the watched root, excluded attnums, excluded names, allowed attnums) -> json
-- A row's JSON with the columns emptied that may not leave: those of these numbers of the watched root, those that have
-- one of these names now, and where some are allowed (null: all), all others. By number, so that a rename changes
-- nothing and a partition may number its columns differently; by name too, so that a column that takes the name of an
-- excluded one stays in. The key stays, with null; the relay drops it.
--
-- jsonb_populate_record keeps every other column byte for byte, also json with \u0000 or 1e200000, at which
-- json_each and jsonb fail. Where it would be wrong, the hidden columns are cut out of the row's JSON:
--   * only some columns are allowed;
--   * an excluded column is of a domain, which may refuse NULL;
--   * a column was added with a default and the row is from before: it would be null;
--   * the transaction keeps one snapshot: it cannot see in the catalog whether one of the two is the case;
--   * the row is large: it would be copied in one piece.
-- Where json_each fails (a \u0000 in a value of type json), or the row is so large that an excluded column should not
-- be written as JSON first, a query that names the other columns is made at run time: 70 microseconds for each column.
-- The names come from pg_identify_object_as_address, which sees the catalog as the row does. A query sees it as its
-- snapshot does: under REPEATABLE READ with the name from before a rename, which would let the column out.
-- force_generic_plan: else the planner runs at every call (90 instead of 20 microseconds).
create or replace function rowcast.json_without(
  r anyelement,
  rel oid,
  root oid,
  attnums int2[],
  names text[],
  allowed int2[])
returns json language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  hidden pg_catalog.text[] := names;
  shown pg_catalog.text[];
  emptied pg_catalog.jsonb;
  size pg_catalog.int4 := pg_catalog.pg_column_size(r);
  cuts pg_catalog.bool := allowed is not null or size operator(pg_catalog.>) 2000
    or pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.<>) 'read committed';
  name pg_catalog.text;
  columns pg_catalog.text := '';
  result pg_catalog.json;
begin
  -- a table that was restored from a dump has another oid, and its columns other numbers: nothing leaves, nothing fails
  -- (while a partition is being detached it has no ancestors, and its triggers go on)
  if rel operator(pg_catalog.<>) root
     and not exists (select from pg_catalog.pg_partition_ancestors(rel) a where a.relid operator(pg_catalog.=) root)
     and not exists (select from pg_catalog.pg_inherits i
                      where i.inhrelid operator(pg_catalog.=) rel and i.inhparent operator(pg_catalog.=) root) then
    return '{}';
  end if;
  for n in 1 .. pg_catalog.cardinality(attnums) loop
    hidden := hidden
      operator(pg_catalog.||) (pg_catalog.pg_identify_object_as_address(1259, root, attnums[n])).object_names[3];
  end loop;
  for n in 1 .. coalesce(pg_catalog.cardinality(allowed), 0) loop
    shown := shown
      operator(pg_catalog.||) (pg_catalog.pg_identify_object_as_address(1259, root, allowed[n])).object_names[3];
  end loop;
  if allowed is not null then
    shown := coalesce(shown, '{}');
  elsif pg_catalog.array_length(pg_catalog.array_remove(hidden, null), 1) is null then
    return '{}';
  end if;
  if not cuts then
    select exists (
        select from pg_catalog.pg_attribute a where a.attrelid operator(pg_catalog.=) rel and a.atthasmissing
      union all
        select from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid operator(pg_catalog.=) a.atttypid
         where a.attrelid operator(pg_catalog.=) root
           and a.attname::pg_catalog.text operator(pg_catalog.=) any (hidden)
           and t.typtype operator(pg_catalog.=) 'd')
      into cuts;
  end if;
  if not cuts then
    -- a query, not an expression: an expression's state lives as long as the transaction, and with it the column names
    -- that jsonb_populate_record has cached, so a rename in the same transaction would let the column out
    select pg_catalog.jsonb_object_agg(h, null) into emptied from pg_catalog.unnest(hidden) h where h is not null;
    select pg_catalog.row_to_json(pg_catalog.jsonb_populate_record(r, emptied)) into result;
    return result;
  end if;
  if size operator(pg_catalog.<=) 100000 then
    begin
      select '{'
             operator(pg_catalog.||) coalesce(
               pg_catalog.string_agg(
                 pg_catalog.to_json(e.key)::pg_catalog.text
                 operator(pg_catalog.||) ':'
                 operator(pg_catalog.||) e.value::pg_catalog.text,
                 ',' order by e.n),
               '')
             operator(pg_catalog.||) '}'
        into result
        from pg_catalog.json_each(pg_catalog.row_to_json(r)) with ordinality e(key, value, n)
       where not coalesce(e.key operator(pg_catalog.=) any (hidden), false)
         and (shown is null or e.key operator(pg_catalog.=) any (shown));
      return result;
    exception when others then
      null;
    end;
  end if;
  for n in 1 .. 1600 loop
    name := (pg_catalog.pg_identify_object_as_address(1259, rel, n)).object_names[3];
    exit when name is null;
    if not pg_catalog.starts_with(name, '........pg.dropped.')
      and not coalesce(name operator(pg_catalog.=) any (hidden), false)
       and (shown is null or name operator(pg_catalog.=) any (shown)) then
      columns := columns operator(pg_catalog.||) ', ($1).' operator(pg_catalog.||) pg_catalog.quote_ident(name);
    end if;
  end loop;
  if columns operator(pg_catalog.=) '' then
    return '{}';
  end if;
  execute 'select pg_catalog.row_to_json(q.*) from (select '
    operator(pg_catalog.||) pg_catalog.substr(columns, 3)
    operator(pg_catalog.||) ') q'
    into result using r;
  return result;
end $$;
comment on function rowcast.json_without(anyelement, oid, oid, int2[], text[], int2[]) is
  'a row''s JSON with the columns emptied that may not leave';
drop function if exists rowcast.json_without(anyelement, oid, oid, int2[]);
