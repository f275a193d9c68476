-- rowcast.claim_holder(query) -> text, the column that says whose a row is; null where none is found for sure
-- The column that a query compares with {sub}, where each row that it reads from the column's table is of the holder
-- whose value stands there, and of nobody else: select .. from .. where a.user_id = {sub}::int and ... So the test must
-- hold for every row that is given: one SELECT, its conditions joined by AND alone, the comparison in none of their
-- parentheses. Where the text leaves a doubt, the answer is null, and a change of a row concerns every holder.
-- tables touched: none
create or replace function rowcast.claim_holder(query text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
declare
  -- what stands in quotes says nothing of how the query is put together
  bare text := lower(regexp_replace(
    regexp_replace(query, '''([^'']|'''')*''', '''''', 'g'),
    '"([^"]|"")*"', 'quoted', 'g'));
  compared constant text :=
    '\m(?:where|and)\s+(?:[a-z_][a-z0-9_$]*[.])?([a-z_][a-z0-9_$]*)\s*=\s*'
    '[{]sub[}](?:\s*::\s*[a-z_]+(?:\s*[(][0-9]+[)])?)?\s*(?=$|\mand\M|\morder\M)';
  found text[];
begin
  bare := regexp_replace(bare, '\mis\s+not\s+(null|true|false)\M', 'is known', 'g');
  if bare ~ '--|/[*]|[$]'
     or bare ~ ('\m(or|not|case|union|intersect|except|coalesce|nullif|any|some|all|exists|between|limit|offset|fetch|'
                'with|window|lateral|isnull|notnull|having)\M')
     or (select count(*) from regexp_matches(bare, '\mselect\M', 'g')) <> 1
     or (select count(*) from regexp_matches(bare, '[{]sub[}]', 'g')) <> 1
     or (select count(*) from regexp_matches(bare, '\mwhere\M', 'g')) <> 1 then
    return null;
  end if;
  -- behind the word WHERE, and in no parentheses
  found := regexp_match(substring(bare from '\mwhere\M.*$'), '^(.*?)' || compared);
  if found is null
     or length(replace(found[1], '(', '')) <> length(replace(found[1], ')', '')) then
    return null;
  end if;
  return found[2];
end $$;
comment on function rowcast.claim_holder(text) is
  'the column of a claim''s query that says whose a row is; null where none is found for sure';
