-- rowcast.members(holders) -> setof record: the values of every claim, of each of these holders
--   claim      its name
--   holder     as it was given
--   canonical  the holder as the column has it by which a changed row says whose it is; null where there is none
--   members    the values as text, each once; null where they cannot be had, or are more than 100,000
--   problem    why not, without a value; null where the holder's own name is at fault, such as abc for a number
-- One statement for a claim, however many holders. Where it fails for one of them, they are asked one by one, so that
-- nobody else has the damage.
-- tables touched: rowcast.claim (select), and the tables that claims read, with the rights of the caller
create or replace function rowcast.members(
  holders text[],
  out claim text,
  out holder text,
  out canonical text,
  out members text[],
  out problem text)
returns setof record
language plpgsql stable set search_path = pg_catalog, pg_temp set row_security = off as $$
declare
  stated record;
  statement text;
  one text;
begin
  for stated in select c.name, c.query, c.canonical from rowcast.claim c order by c.name loop
    -- 100,000 values, and one more that tells that there are too many
    statement := format(
      'select %L::text, "rowcast holder".sub, %s, '
      'array(select distinct q.value::text from %s q(value) where q.value is not null limit 100001), null::text '
      'from unnest($1) "rowcast holder"(sub)',
      stated.name,
      replace(stated.canonical, '{sub}', '"rowcast holder".sub'),
      rowcast.claim_body(stated.query));
    begin
      return query execute statement using holders;
      continue;
    exception
      when data_exception then
        null;
      when query_canceled or lock_not_available or object_in_use then
        raise;
      when others then
        problem := sqlstate || ': ' || sqlerrm;
    end;
    foreach one in array holders loop
      begin
        if problem is null then
          return query execute statement using array[one];
          continue;
        end if;
      exception when data_exception then
        null;
      end;
      claim := stated.name;
      holder := one;
      return next;
    end loop;
    problem := null;
  end loop;
end $$;
comment on function rowcast.members(text[]) is 'the values of every claim, of each of these holders';
