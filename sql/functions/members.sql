-- rowcast.members(holders) -> setof record: the values of every claim, of each of these holders
--   claim      its name
--   holder     as it was given
--   canonical  the holder as the column has it by which a changed row says whose it is; null where there is none
--   members    the values as text, each once; null where they cannot be had, or are more than 100,000
--   problem    why not, without a value; null where the holder's own name is at fault, such as abc for a number
-- One statement for a claim, however many holders. Where it fails for one of them, they are asked one by one, so that
-- nobody else has the damage. What passes by itself (a lock, a lack of resources, a cancelled statement) is raised.
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
  for stated in select c.name, c.query, c.canonical, c.value_type from rowcast.claim c order by c.name loop
    -- 100,000 values, and one more that tells that there are too many
    statement := format(
      'select %L::text, "claim holder".sub, %s, '
      'array(select distinct %s from %s q(value) where q.value is not null limit 100001), null::text '
      'from unnest($1) "claim holder"(sub)',
      stated.name,
      replace(stated.canonical, '{sub}', '"claim holder".sub'),
      -- as rows have it: 7 for 7.00, and an address without the mask that its cast to text adds
      case when stated.value_type = 'numeric'::regtype then 'trim_scale(q.value)::text'
           when stated.value_type = 'inet'::regtype then 'format(''%s'', q.value)'
           else 'q.value::text' end,
      rowcast.claim_body(stated.query));
    begin
      return query execute statement using holders;
      continue;
    exception when others then
      -- what passes by itself is tried again by the caller
      if sqlstate ~ '^(40|53|55|57|58|XX)' then
        raise;
      end if;
    end;
    -- rows that came before it failed come once more, and are the same
    foreach one in array holders loop
      begin
        return query execute statement using array[one];
      exception when others then
        if sqlstate ~ '^(40|53|55|57|58|XX)' then
          raise;
        end if;
        claim := stated.name;
        holder := one;
        canonical := null;
        members := null;
        -- what it says of values (class 22) is nobody's business
        problem := case when sqlstate !~ '^22' then sqlstate || ': ' || sqlerrm end;
        return next;
      end;
    end loop;
  end loop;
  -- TRUNCATE, or DDL that wrote a table anew, came after the snapshot of this statement and before it read the table:
  -- it has seen no rows, where there were some. From then on the lock that it has keeps such away
  if exists (
    with recursive part(relid) as (
        select f.target::oid from rowcast.followed f
      union
        select h.inhrelid
          from part
          join pg_class t on t.oid = part.relid and t.relkind = 'p'
          join pg_inherits h on h.inhparent = part.relid
    )
    select from part
      join pg_class t on t.oid = part.relid and t.relfilenode <> 0
     where t.relfilenode <> pg_relation_filenode(t.oid)) then
    raise exception 'a table that claims follow was truncated meanwhile' using errcode = 'serialization_failure';
  end if;
end $$;
comment on function rowcast.members(text[]) is 'the values of every claim, of each of these holders';
