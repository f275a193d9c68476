-- rowcast.who_sees(channel, claims, key) -> setof record: why a client with these claims sees rows of a channel, or not
--   channel  'pets', also one that is not watched yet; 'user/7': the notifications of a user
--   claims   those of the token, '{"sub":"7","role":"vet"}'; null: a client without a token
--   key      '{"pet_id":1}': whether this row of the table is seen. It is read with the rights of the caller, past row
--            security; no value of it is given, only whether the conditions hold
-- The first row is of all: its test is null. One follows for each test of the policy's row filter:
--   condition  number of the condition, between which stands &
--   test       as it is written
--   source     where its values come from: token, table (a claim that rowcast.claim has stated), policy
--   values     the first 20 of them
--   total      how many there are
--   seen       false: nothing is shown by it, or it does not hold for the row; null: it depends on the row
--   verdict    what that means
-- Looked at is what a relay makes of the policy: where a claim is missing, or is no value of its column, all of the
-- policy shows nothing. Of no importance while the relay has no key to check tokens with.
-- Each test of the row filter is turned into SQL: values are cast to types of Postgres alone, all else is compared as
-- text, so nobody's code runs. What joins the tests is read from the filter beside them. It stays logic with three
-- values, which is that of SQL: an unknown condition does not hold.
-- tables touched: rowcast.channel, rowcast.policy, rowcast.claim (select), the tables that claims read and the table of
-- the channel, with the rights of the caller
create or replace function rowcast.who_sees(
  channel text,
  claims jsonb,
  key jsonb default null,
  out condition int,
  out test text,
  out source text,
  out "values" text[],
  out total int,
  out seen bool,
  out verdict text)
returns setof record
language plpgsql stable
set search_path = pg_catalog, pg_temp
set row_security = off
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
declare
  token jsonb := coalesce(nullif(claims, 'null'), '{}');
  whose text;
  holder_role text;
  entry rowcast.channel;
  policy rowcast.policy;
  drifted text[];
  shown text;
  part record;
  named text;
  held text[];
  fault text;
  -- of all: the first test that lets nobody see anything
  nothing text;
  column_name text;
  kind text;
  column_sql text;
  value text;
  literals text[];
  body text;
  -- the tests, and what they are in SQL
  conditions int[] := '{}';
  tests text[] := '{}';
  sources text[] := '{}';
  samples text[] := '{}';
  totals int[] := '{}';
  bare bool[] := '{}';
  empty bool[] := '{}';
  problems text[] := '{}';
  tests_sql text[] := '{}';
  -- the conditions, as they are written and in SQL
  texts text[] := '{}';
  filters text[] := '{}';
  rest text;
  found_text text[];
  filter_sql text := '';
  text_begins text;
  -- how the members of each open group are joined, innermost last; and which one of them is a contrary
  joined text[] := '{}';
  is_not bool;
  key_sql text := 'true';
  item record;
  -- the result of each test, then of each condition
  result bool[];
  results int;
begin
  if channel is null or channel = '' or jsonb_typeof(token) <> 'object'
     or (key is not null and (jsonb_typeof(key) <> 'object' or key = '{}')) then
    raise exception 'cannot say who sees channel %: it takes a channel, the claims of a token and the key of a row',
      coalesce(channel, 'null')
      using errcode = 'invalid_parameter_value',
            hint = 'select * from rowcast.who_sees(''pets'', ''{"sub":"7","role":"vet"}'', ''{"pet_id":1}'')';
  end if;
  holder_role := coalesce(token ->> 'role', 'anon');
  whose := token ->> 'sub';
  select f.name into fault
    from (values ('sub'), ('role')) f(name)
   where coalesce(jsonb_typeof(token -> f.name), 'null') not in ('null', 'string', 'number') or token ->> f.name = '';
  if found then
    seen := false;
    verdict := format('a server refuses this token: claim %s has to be text that is not empty, or a number', fault);
    return next;
    return;
  end if;

  if channel like 'user/%' and channel <> 'user/*' then
    seen := whose is not distinct from substr(channel, 6)
      or exists (select from rowcast.policy p where p.channel = 'user/*' and p.role = holder_role);
    verdict := case
      when whose is not distinct from substr(channel, 6)
        then 'these are the notifications of this user; of rows, each shows what the policy of its channel shows'
      when seen then format('a policy lets role %s see the notifications of every user', holder_role)
      else format('these are the notifications of another user, and role %s may not see those: '
                  'select rowcast.allow(''user/*'', %L);', holder_role, holder_role) end;
    return next;
    return;
  end if;
  select * into entry from rowcast.channel c where c.name = who_sees.channel;
  select * into policy from rowcast.policy p where p.channel = who_sees.channel and p.role = holder_role;
  if not found then
    seen := false;
    verdict := format('no policy for role %s: select rowcast.allow(%L, %L);', holder_role, channel, holder_role);
    return next;
    return;
  end if;
  if entry.unlisted then
    nothing := format('channel %s is for claims alone, no client sees it: select rowcast.watch(%L);',
                      channel, entry.target::text);
  elsif entry.target is not null
    and (entry.target <> entry.target_oid or entry.origin is distinct from (select rowcast.origin())
         or not exists (select from pg_class t where t.oid = entry.target)) then
    nothing := 'its table is gone, or came from a dump: select * from rowcast.watched';
  end if;
  drifted := rowcast.drifted_names(policy);
  if policy.columns is null and entry.target is null then
    shown := 'all';
  else
    select string_agg(n.name, ', ' order by n.place) into shown
      from (select s.name, s.attnum::int as place from rowcast.shown_column s
             where s.channel = entry.id
               and (policy.columns is null or (s.name = any (policy.columns) and s.name <> all (drifted)))
            union all
            select c.name, c.place::int from unnest(policy.columns) with ordinality c(name, place)
             where entry.target is null) n;
    select c.name into column_name from unnest(policy.columns) c(name)
     where entry.target is not null
       and c.name <> all (drifted)
       and not exists (select from rowcast.shown_column s where s.channel = entry.id and s.name = c.name);
    if found then
      nothing := coalesce(nothing, format('the policy names column %s, which the channel does not have: '
                                          'call rowcast.allow again', column_name));
    end if;
  end if;

  rest := policy.row_filter;
  for part in select * from rowcast.filter_tests(policy.row_filter) loop
    if part.problem is not null then
      nothing := coalesce(nothing, 'its row filter cannot be read: ' || part.problem);
      exit;
    end if;
    fault := null;
    named := case when not part.is_quoted then substring(part.operand from '^[{](.*)[}]$') end;

    -- where it stands: the groups that begin with it, and how it is written
    if cardinality(joined) = 0 then
      text_begins := rest;
    end if;
    loop
      found_text := regexp_match(
        rest,
        case when cardinality(joined) = 0 then '^(not[.])?(or|and)=[ \t]*[(]'
             else '^[ \t]*(not[.])?(or|and)[ \t]*[(]' end);
      exit when found_text is null;
      rest := regexp_replace(rest, '^[^(]*[(]', '');
      filter_sql := filter_sql || case when found_text[1] is null then '(' else '(not (' end;
      joined := joined || case when found_text[1] is null then found_text[2] else 'not ' || found_text[2] end;
    end loop;
    found_text := regexp_match(
      rest,
      case when cardinality(joined) = 0
           then '^((?:"(?:[^"\\]|\\.)*"(?==)|(?!"(?:[^"\\]|\\.)*"=)[^=]*)=(not[.])?[^.]*[.])'
           else '^([ \t]*(?:"(?:[^"\\]|\\.)*"[ \t]*|[^.,()"]+)[.](not[.])?[^.,()"]+[.])' end);
    value := found_text[1];
    is_not := found_text[2] is not null;
    rest := substr(rest, length(value) + 1);
    body := case when part.is_quoted then substring(rest from '^"(?:[^"\\]|\\.)*"') else part.operand end;
    rest := substr(rest, length(body) + 1);
    conditions := conditions || part.condition;
    tests := tests || (ltrim(value, E' \t') || body);

    -- its values
    if named is null then
      source := 'policy';
      if part.operator = 'in' then
        held := array(
          select case when v.m[1] like '"%'
                        then regexp_replace(substr(v.m[1], 2, length(v.m[1]) - 2), '\\(.)', '\1', 'g')
                      else v.m[1] end
            from regexp_matches(substr(part.operand, 2, length(part.operand) - 2),
                                '(?:^|,)("(?:[^"\\]|\\.)*"|[^,]*)', 'g') with ordinality v(m, place)
           order by v.place);
        fault := case when part.operand not like '(%)' then 'in takes a list: in.(1,2,3)' end;
      else
        held := array[part.operand];
      end if;
    elsif exists (select from rowcast.claim c where c.name = named) then
      source := 'table';
      held := null;
      if whose is null then
        fault := format('the token has no claim sub, by which claim %s is read', named);
      elsif part.operator <> 'in' then
        fault := format('claim %s is a list: write %s=in.{%s}', named, part."column", named);
      else
        select v.drift into fault from rowcast.claims v where v.name = named and v.drift is not null limit 1;
        select m.members, coalesce(
                 fault,
                 'the values of claim ' || named || ' cannot be read: ' || m.problem,
                 case when m.members is null
                      then format('the query of claim %s takes no %s for {sub}: select * from rowcast.claims',
                                  named, whose)
                      when cardinality(m.members) > 100000
                      then format('claim %s has more than 100,000 values for %s', named, whose) end)
          into held, fault
          from rowcast.members(array[whose]) m where m.claim = named;
        if fault like '%: 42501: %' then
          -- of the caller nothing follows for a relay, which reads with rights of its own
          raise exception 'cannot say who sees channel %: % may not read what claim % reads',
            channel,
            current_user,
            named
            using errcode = 'insufficient_privilege', hint = 'ask as the owner of the tables, or as a superuser';
        end if;
      end if;
    else
      source := 'token';
      value := jsonb_typeof(token -> named);
      held := case value
                when 'array' then array(select jsonb_array_elements_text(token -> named))
                when 'object' then null
                else array[token ->> named] end;
      fault := case
        when value is null or value = 'null' then format('the token has no claim %s', named)
        when value = 'object' then format('claim %s of the token is an object, not a value', named)
        when value = 'array' and part.operator <> 'in'
          then format('claim %s of the token is a list: write %s=in.{%s}', named, part."column", named)
        when cardinality(held) = 0 then format('claim %s of the token is an empty list', named)
        when cardinality(held) > 10000
          then format('claim %s of the token has %s values, 10000 are allowed', named, cardinality(held))
        when '' = any (held) then format('claim %s of the token is empty, or has an empty value', named)
        when array_position(held, null) is not null
          or (value = 'array'
              and exists (select from jsonb_array_elements(token -> named) e
                           where jsonb_typeof(e.value) in ('array', 'object')))
          then format('claim %s of the token has a value that is none: null, a list or an object', named)
        when part.operator = 'is' then 'is takes null, not_null, true or false, and no claim' end;
      held := case when value is null or value = 'null' then null else held end;
    end if;

    -- what it is in SQL: as a relay compares values of the column's type
    column_sql := null;
    kind := null;
    if fault is null and entry.target is not null and nothing is null then
      select case when b.typtype = 'e' then 'enum'
                  when b.typtype = 'c' or b.typcategory = 'A' then 'structured'
                  else format_type(b.oid, null) end
        into kind
        from rowcast.shown_column s
        join pg_type t on t.oid = s.type
        join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
       where s.channel = entry.id and s.name = part."column";
      if not found then
        fault := format('the channel has no column %s any more', part."column");
      elsif part."column" = any (drifted) then
        fault := format('another column has the name %s now: call rowcast.allow again', part."column");
      else
        column_sql := format('t.%I', part."column");
        kind := case
          when kind in ('smallint', 'integer', 'bigint') then 'integer'
          when kind in ('numeric', 'real', 'double precision', 'oid') then 'number'
          when kind in ('text', 'character varying', 'name') then 'text'
          when kind in ('json', 'jsonb', 'structured', 'enum', 'boolean', 'uuid', 'date', 'character')
            or kind in ('timestamp with time zone', 'timestamp without time zone', 'time without time zone') then kind
          else 'opaque' end;
        -- the null of JSON is null; of a type that is not Postgres' own no cast is run, which may be anybody's
        body := case
          when part.operator = 'is' and kind = 'jsonb' then format('nullif(%s, ''null''::jsonb)', column_sql)
          when part.operator = 'is' and kind = 'json' then format('nullif(btrim(%s::text), ''null'')', column_sql)
          when part.operator = 'is' then column_sql
          when kind in ('integer', 'number') then format('%s::text::numeric', column_sql)
          when kind = 'text' then format('%s::text collate "C"', column_sql)
          when kind = 'character' then format('rtrim(%s::text, '' '') collate "C"', column_sql)
          when kind in ('enum', 'opaque') then
            format('(case when %1$s is distinct from null then format(''%%s'', %1$s) end) collate "C"', column_sql)
          else column_sql end;
        fault := case
          when part.operator = 'is' and part.operand in ('true', 'false') and kind <> 'boolean'
            or part.operator <> 'is' and kind in ('json', 'jsonb', 'structured')
            or part.operator in ('lt', 'lte', 'gt', 'gte') and kind in ('boolean', 'enum', 'opaque')
            or part.operator in ('like', 'ilike') and kind not in ('text', 'enum')
            then format('%s does not fit column %s, which has type %s', part.operator, part."column", kind)
          when part.operator in ('like', 'ilike') and length(part.operand) > 100
            then 'a pattern may have 100 characters' end;
        literals := '{}';
        if fault is null and part.operator <> 'is' then
          foreach value in array held loop
            begin
              value := case
                when kind in ('integer', 'number')
                  and value ~ '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,6})?$'
                  or kind = 'number' and lower(value) in ('infinity', 'inf', '-infinity', '-inf', 'nan')
                  then format('%L::numeric', value::numeric)
                when kind in ('integer', 'number') then null
                when kind = 'boolean' then case when value in ('true', 'false') then value end
                when kind = 'uuid'
                  then case when value ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                            then format('%L::uuid', value) end
                when kind = 'date' and value ~* '^([0-9]{4,}-|-?infinity$)' then format('%L::date', value::date)
                when kind = 'timestamp with time zone'
                  and value ~* '^([0-9]{4,}-.*:.*(z|[+-][0-9:]+)( bc)?$|-?infinity$)'
                  then format('%L::timestamptz', value::timestamptz)
                when kind = 'timestamp without time zone' and value ~* '^([0-9]{4,}-|-?infinity$)'
                  then format('%L::timestamp', value::timestamp)
                when kind = 'time without time zone' and value ~ '^[0-9]' then format('%L::time', value::time)
                when kind = 'date' or kind like 'time%' then null
                when kind = 'character' then format('%L::text', rtrim(value, ' '))
                -- a value of the token is itself, in a pattern too; one of the policy has * for %
                when part.operator in ('like', 'ilike') and source = 'token'
                  then format('%L::text', regexp_replace(value, '([\\%_])', '\\\1', 'g'))
                when part.operator in ('like', 'ilike') then
                  (select format('%L::text', string_agg(
                            case m.part[1] when '*' then '%' when '\' then '\\' else m.part[1] end,
                            '' order by m.place))
                     from regexp_matches(value, '(\\.|.)', 'g') with ordinality m(part, place))
                else format('%L::text', value) end;
              if value is not null then
                literals := literals || value;
              elsif source <> 'table' then
                fault := format('a value is no %s, the type of column %s', kind, part."column");
              end if;
            exception when data_exception then
              if source <> 'table' then
                fault := format('a value is no %s, the type of column %s', kind, part."column");
              end if;
            end;
          end loop;
        end if;
        column_sql := case
          when fault is not null then null
          when part.operator = 'is' then
            case when part.operand in ('null', 'unknown') then body || ' is not distinct from null'
                 when part.operand = 'not_null' then body || ' is distinct from null'
                 else body || ' is ' || part.operand end
          when part.operator in ('eq', 'in') and cardinality(literals) = 0
            then format('case when %s is distinct from null then false end', body)
          when part.operator in ('eq', 'in') then format('%s = any (array[%s])', body, array_to_string(literals, ', '))
          when part.operator = 'like' then format('%s like %s', body, literals[1])
          when part.operator = 'ilike' then
            format('lower((%s) collate "default") collate "C" like lower(%s collate "default") collate "C"',
                   body, literals[1])
          else format('%s %s %s', body,
                      case part.operator when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<='
                                         when 'gt' then '>' else '>=' end,
                      literals[1]) end;
      end if;
    end if;
    column_sql := format(case when is_not then '(not (%s))' else '(%s)' end, coalesce(column_sql, 'null::bool'));
    nothing := coalesce(nothing, fault);
    sources := sources || source;
    samples := samples || case when part.operator <> 'is' then to_jsonb(held[1:20])::text end;
    totals := totals || case when part.operator <> 'is' then cardinality(held) end;
    bare := bare || (cardinality(joined) = 0 and not is_not);
    empty := empty || (source = 'table' and fault is null and cardinality(held) = 0);
    problems := problems || fault;
    tests_sql := tests_sql || column_sql;

    -- what stands behind it: the ends of groups, then a comma, or the next condition
    filter_sql := filter_sql || column_sql;
    while cardinality(joined) > 0 and rest ~ '^[ \t]*[)]' loop
      rest := regexp_replace(rest, '^[ \t]*[)]', '');
      filter_sql := filter_sql || case when joined[cardinality(joined)] like 'not %' then '))' else ')' end;
      joined := joined[1:cardinality(joined) - 1];
    end loop;
    if cardinality(joined) > 0 then
      rest := regexp_replace(rest, '^[ \t]*,', '');
      filter_sql := filter_sql || case when joined[cardinality(joined)] like '%or' then ' or ' else ' and ' end;
    else
      rest := ltrim(rest, E' \t');
      texts := texts || btrim(left(text_begins, length(text_begins) - length(rest)), E' \t');
      filters := filters || filter_sql;
      filter_sql := '';
      rest := substr(rest, 2);
    end if;
  end loop;

  -- the row
  if key is not null and nothing is null then
    if entry.target is null then
      raise exception 'cannot read a row of channel %: it has no table', channel
        using errcode = 'invalid_parameter_value', hint = 'leave out the key';
    end if;
    for item in
      select k.name, k.value, jsonb_typeof(key -> k.name) as sort, a.attname is not null as is_there,
             case when b.oid is null or b.typtype <> 'b' then 'other'
                  when format_type(b.oid, null) = 'character' then 'bpchar'
                  else format_type(b.oid, null) end as type
        from jsonb_each_text(key) k(name, value)
        left join pg_attribute a
          on a.attrelid = entry.target and a.attname = k.name and a.attnum > 0 and not a.attisdropped
        left join pg_type t on t.oid = a.atttypid
        left join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    loop
      if not item.is_there or item.sort not in ('string', 'number', 'boolean') then
        raise exception 'cannot read a row of table %: % is no column of it, or its value is none',
          entry.target,
          item.name
          using errcode = 'invalid_parameter_value', hint = 'give the primary key, such as ''{"pet_id":1}''';
      end if;
      if item.type in ('smallint', 'integer', 'bigint', 'numeric', 'uuid', 'boolean', 'date', 'text',
                       'character varying', 'bpchar', 'timestamp with time zone', 'timestamp without time zone',
                       'time without time zone') then
        begin
          execute format('select %L::%s', item.value, item.type);
        exception when data_exception then
          raise exception 'cannot read a row of table %: the value of % is no %', entry.target, item.name, item.type
            using errcode = 'invalid_parameter_value';
        end;
        key_sql := key_sql || format(' and t.%I = %L::%s', item.name, item.value, item.type);
      else
        -- no cast of another's type, which may be anybody's code
        key_sql := key_sql || format(' and format(''%%s'', t.%I) = %L', item.name, item.value);
      end if;
    end loop;
    begin
      -- a second row takes no part, and is counted
      execute format(
        'select n.result, count(*) over () from (select array[%s]::bool[] from %s t where %s limit 2) n(result)',
        array_to_string(tests_sql || filters || array['true'], ', '),
        entry.target,
        key_sql)
        into result, results;
    exception
      when insufficient_privilege then
        raise exception 'cannot read the row of table %: % may not', entry.target, current_user
          using errcode = 'insufficient_privilege', hint = 'ask as the owner of the table, or as a superuser';
      when data_exception then
        nothing := 'its conditions cannot be evaluated on this row';
    end;
    if results > 1 then
      raise exception 'cannot read a row of table %: more than one has this key', entry.target
        using errcode = 'invalid_parameter_value', hint = 'give all columns of the primary key';
    end if;
  end if;

  source := null;
  seen := case
    when nothing is not null then false
    when key is not null then results is not null
      and not exists (select from generate_subscripts(filters, 1) f(n)
                       where result[cardinality(tests) + f.n] is not true)
    when exists (select from unnest(bare, empty) t(is_bare, is_empty) where t.is_bare and t.is_empty) then false
    else true end;
  verdict := case
    when nothing is not null then 'nothing is shown: ' || nothing
    when key is not null and results is null then 'the table has no row with this key'
    when not seen and key is not null then
      'the row is not seen; these conditions do not hold: '
      || (select string_agg(texts[f.n], ' & ' order by f.n) from generate_subscripts(filters, 1) f(n)
           where result[cardinality(tests) + f.n] is not true)
    when key is not null then 'the row is seen; columns seen: ' || coalesce(shown, 'none')
    when not seen then
      (select format('claim %s has no values for %s: nothing is shown until it has',
                     substring(t.test from '[{](.*)[}]$'), whose)
         from unnest(tests, bare, empty) with ordinality t(test, is_bare, is_empty, place)
        where t.is_bare and t.is_empty
        order by t.place
        limit 1)
    else case when policy.row_filter is null then 'all rows are seen'
              when cardinality(texts) = 1 then 'rows are seen for which the condition holds'
              else 'rows are seen for which all conditions hold' end
         || '; columns seen: ' || coalesce(shown, 'none') end
    || case when entry.id is null then '; nothing is captured yet, there is no channel ' || channel else '' end;
  return next;

  for item in select generate_subscripts(tests, 1) as n loop
    condition := conditions[item.n];
    test := tests[item.n];
    source := sources[item.n];
    "values" := array(select jsonb_array_elements_text(samples[item.n]::jsonb));
    "values" := case when samples[item.n] is not null then "values" end;
    total := totals[item.n];
    seen := case when problems[item.n] is not null then false
                 when nothing is null and results is not null then coalesce(result[item.n], false)
                 when bare[item.n] and empty[item.n] then false end;
    verdict := case
      when problems[item.n] is not null then problems[item.n]
      when empty[item.n] then
        format('claim %s has no values for %s', substring(test from '[{](.*)[}]$'), whose)
        || case when bare[item.n] then ': nothing is shown until it has' else '' end
      when seen then 'it holds for the row'
      when not seen then 'it does not hold for the row'
      else 'it depends on the row' end;
    return next;
  end loop;
end $$;
comment on function rowcast.who_sees(text, jsonb, jsonb) is
  'why a client with these claims sees rows of a channel, or not: '
  'select * from rowcast.who_sees(''pets'', ''{"sub":"7","role":"vet"}'')';
