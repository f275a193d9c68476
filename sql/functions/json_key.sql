-- rowcast.json_key(row, its table, channel id) -> json
-- What is told of a row that is too large: its primary key, and the user to notify where a column names them. {} where
-- there is no key, or where even that cannot be read: the relay then tells a gap. Never raises.
-- tables touched: rowcast.channel (select)
create or replace function rowcast.json_key(r anyelement, rel oid, channel int) returns json
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  columns pg_catalog.text;
  result pg_catalog.json;
begin
  select pg_catalog.string_agg(case
    when k.is_key then c.value
    else 'case when pg_catalog.pg_column_size(' operator(pg_catalog.||) c.value
             operator(pg_catalog.||) ') operator(pg_catalog.<=) 1000 then '
               operator(pg_catalog.||) c.value
               operator(pg_catalog.||) ' end as '
               operator(pg_catalog.||) pg_catalog.quote_ident(a.attname) end,
             ', '
              order by a.attnum) into columns
    from pg_catalog.pg_attribute a
   cross join lateral (select '($1).' operator(pg_catalog.||) pg_catalog.quote_ident(a.attname)) c(value)
   cross join lateral (
     select exists (select from pg_catalog.pg_index i
                     where i.indrelid operator(pg_catalog.=) rel
                       and i.indisprimary
                       -- without what it includes
                       and a.attnum operator(pg_catalog.=)
                         any ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts operator(pg_catalog.-) 1])),
            exists (select from rowcast.channel w
                      join pg_catalog.pg_attribute u on u.attrelid operator(pg_catalog.=) w.target
                        and u.attnum operator(pg_catalog.=) w.user_column
                     where w.id operator(pg_catalog.=) channel and u.attname operator(pg_catalog.=) a.attname)) k(
                     is_key,
                     is_user)
   where a.attrelid operator(pg_catalog.=) rel
     and a.attnum operator(pg_catalog.>) 0
     and not a.attisdropped
     and (k.is_key or k.is_user);
  if columns is not null then
    execute 'select pg_catalog.row_to_json(q.*) from (select '
      operator(pg_catalog.||) columns
      operator(pg_catalog.||) ') q' into result
      using r;
  end if;
  return coalesce(result, '{}');
exception when others then
  return '{}';
end $$;
comment on function rowcast.json_key(anyelement, oid, int) is 'the key of a row that is too large to be told whole';
