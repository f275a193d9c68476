-- rowcast.claim_holder(query, view) -> record: whose a row of a claim's query is
--   relation  the table with the column that the query compares with {sub}; null where none is found for sure
--   "column"  that column
-- Each row that the query reads from that table is of the holder whose value stands in the column, and of nobody else:
-- select .. from .. where a.user_id = {sub}::int and ... So the test must hold for every row that is given: one SELECT
-- over tables and inner joins, its conditions joined by AND alone, the comparison in no parentheses, with a cast to a
-- whole number, a uuid or text. Where the text leaves a doubt, the answer is null: then a changed row concerns every
-- holder.
--   view  of the query, as rowcast.claim makes it: its tree says which table has the column
-- tables touched: none
create or replace function rowcast.claim_holder(query text, checked regclass, out relation regclass, out "column" text)
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  -- what stands in quotes says nothing of how the query is put together
  bare text := lower(regexp_replace(
    regexp_replace(query, '''[^'']*''', ' literal ', 'g'),
    '"[^"]*"', ' "quoted" ', 'g'));
  compared constant text :=
    '(?:([a-z_][a-z0-9_]*)\s*[.]\s*)?([a-z_][a-z0-9_]*)\s*=\s*'
    '[{]sub[}](?:\s*::\s*(?:smallint|int|integer|bigint|int2|int4|int8|uuid|text))?\s*(?=$|\mand\M|\morder\M)';
  tree text := (select string_agg(r.ev_action::text, ' ') from pg_rewrite r where r.ev_class = checked);
  found text[];
  tables oid[];
begin
  bare := regexp_replace(bare, '\mis\s+not\s+(null|true|false)\M', 'is known', 'g');
  bare := regexp_replace(bare, '[;\s]+$', '');
  -- a backslash may be part of a literal, whose end is another one then; $ and -- hide text
  if query ~ '\\' or bare ~ '--|/[*]|[$]'
     or bare ~ ('\m(or|not|case|union|intersect|except|coalesce|nullif|any|some|all|exists|between|limit|offset|fetch|'
                'with|window|lateral|isnull|notnull|having|filter|within|over|left|right|full|outer|tablesample|'
                'natural|values|table)\M')
     or (select count(*) from regexp_matches(bare, '\mselect\M', 'g')) <> 1
     or (select count(*) from regexp_matches(bare, '[{]sub[}]', 'g')) <> 1
     or (select count(*) from regexp_matches(bare, '\mwhere\M', 'g')) <> 1
     -- tables, joins, and the two subqueries that the view is made of; no function, no list, nothing else
     or (select count(*) filter (where m[1] = '1') <> 2 or count(*) filter (where m[1] not in ('0', '1', '2')) > 0
           from regexp_matches(tree, ':rtekind ([0-9]+) ', 'g') m) then
    return;
  end if;
  found := regexp_match(bare, '^(.*?)\mwhere\M((?:.*?\mand\M)??\s+)' || compared);
  if found is null
     -- neither the word WHERE nor the comparison stands in parentheses
     or length(replace(found[1], '(', '')) <> length(replace(found[1], ')', ''))
     or length(replace(found[2], '(', '')) <> length(replace(found[2], ')', '')) then
    return;
  end if;
  -- the one table that has the column, by its alias where that is said
  select array_agg(m[3]::oid) into tables
    from regexp_matches(
      tree,
      ':eref [{]ALIAS :aliasname ([^ ]+) :colnames [(]((?:[^()\\]|\\.)*)[)][}] :rtekind 0 :relid ([0-9]+) ',
      'g') m
    join pg_class c on c.oid = m[3]::oid
   where c.relkind in ('r', 'p')
     and m[2] ~ ('"' || found[4] || '"')
     and (found[3] is null or m[1] = found[3]);
  if cardinality(tables) = 1
     -- and it stands in the query once: in another place its rows could be of others
     and (select count(*) from regexp_matches(tree, ':rtekind 0 :relid ' || tables[1] || ' ', 'g')) = 1
     -- nor behind a view, whose own tree says what it reads
     and not exists (select from regexp_matches(tree, ':rtekind 0 :relid ([0-9]+) ', 'g') m
                       join pg_class c on c.oid = m[1]::oid
                      where c.relkind = 'v' and c.oid <> checked) then
    relation := tables[1];
    "column" := found[4];
  end if;
end $$;
comment on function rowcast.claim_holder(text, regclass) is
  'the table and column of a claim''s query that say whose a row is; null where none is found for sure';
