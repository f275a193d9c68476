-- rowcast.check_filter(channel, row_filter) -> void
-- Raises unless each condition of a policy's row filter is one that a relay understands: column=operator.value, or a
-- group such as or=(a.eq.1,b.is.null), several with & between them, in the grammar of subscriptions
-- (docs/reference/protocol.md). A value may be one claim of the token: user_id=eq.{sub}, clinic_id=in.{clinics}.
-- tables touched: rowcast.channel (select)
create or replace function rowcast.check_filter(channel text, row_filter text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  entry rowcast.channel;
  test record;
  tests int := 0;
  type_name text;
  stated rowcast.claim;
begin
  select * into entry from rowcast.channel c where c.name = check_filter.channel;
  for test in select * from rowcast.filter_tests(row_filter) loop
    tests := tests + 1;
    if tests > 100 then
      raise exception 'cannot allow channel %: more than 100 tests are too many', channel
        using errcode = 'invalid_parameter_value', hint = 'in takes a list: state=in.(new,open)';
    end if;
    if test.problem is not null
       or test."column" = ''
       or test.operator not in ('eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in', 'is', 'like', 'ilike') then
      raise exception 'cannot allow channel %: % is no condition%',
        channel,
        test.shown,
        coalesce(': ' || test.problem, '')
        using errcode = 'invalid_parameter_value',
              hint = 'write column=operator.value, such as user_id=eq.{sub}, or or=(a.eq.1,b.is.null); operators: '
                     'eq, neq, lt, lte, gt, gte, in, is, like, ilike; not. in front of one';
    end if;
    if test.operand ~ '[{}]' and not test.is_quoted and test.operand !~ '^[{][A-Za-z0-9_.:/-]+[}]$' then
      raise exception 'cannot allow channel %: in condition % a claim stands beside other text', channel, test.shown
        using errcode = 'invalid_parameter_value', hint = 'a claim is the whole value: user_id=eq.{sub}';
    end if;
    select * into stated from rowcast.claim c where not test.is_quoted and test.operand = '{' || c.name || '}';
    if found and test.operator <> 'in' then
      raise exception 'cannot allow channel %: in condition % claim % is a list that rowcast.claim has stated',
        channel,
        test.shown,
        stated.name
        using errcode = 'invalid_parameter_value', hint = format('write %s=in.{%s}', test."column", stated.name);
    end if;
    if test.operator = 'is' and test.operand not in ('null', 'not_null', 'true', 'false', 'unknown') then
      raise exception 'cannot allow channel %: in condition % is takes null, not_null, true or false',
        channel,
        test.shown
        using errcode = 'invalid_parameter_value';
    end if;
    if entry.target is null then
      continue;  -- no table, so nothing says which columns there are
    end if;
    select format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) into type_name
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = entry.target
       and a.attname = test."column"
       and a.attnum > 0
       and not a.attisdropped
       and a.attgenerated <> 'v'
       and a.attnum <> all (entry.exclude)
       and (entry.allowed is null or a.attnum = any (entry.allowed))
       and a.attname <> all (entry.hidden_names || entry.given_exclude);
    if not found then
      raise exception 'cannot allow channel %: table % has no column %, or it is excluded',
        channel,
        entry.target,
        test."column"
        using errcode = 'undefined_column',
              hint = 'columns: ' || (select string_agg(attname, ', ' order by attnum) from pg_attribute
                                      where attrelid = entry.target
                                        and attnum > 0
                                        and not attisdropped
                                        and attgenerated <> 'v'
                                        and attnum <> all (entry.exclude)
                                        and (entry.allowed is null or attnum = any (entry.allowed))
                                         and attname <> all (entry.hidden_names || entry.given_exclude));
    end if;
    -- as numbers, as text, or as what they are: the values of the claim are compared with the column's
    if stated.name is not null and not exists (
      select from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
        join pg_type v on v.oid = stated.value_type
       where a.attrelid = entry.target and a.attname = test."column" and not a.attisdropped
         and (b.oid = v.oid
           or (b.typcategory = v.typcategory and b.typcategory in ('N', 'S'))
           or (b.typcategory = 'E' and v.typcategory = 'S'))) then
      raise exception 'cannot allow channel %: column % is of type %, and claim % has values of type %',
        channel,
        test."column",
        type_name,
        stated.name,
        stated.value_type
        using errcode = 'datatype_mismatch', hint = 'state the claim with a query that gives the type of the column';
    end if;
    -- only to types whose input runs nobody's code: a domain's check, or a type of the table's owner, would run as the
    -- caller
    if test.operator in ('eq', 'neq', 'lt', 'lte', 'gt', 'gte') and (test.is_quoted or test.operand !~ '^[{]')
       and type_name in (
         'smallint',
         'integer',
         'bigint',
         'numeric',
         'real',
         'double precision',
         'boolean',
         'uuid',
         'date',
                         'timestamp without time zone', 'timestamp with time zone', 'time without time zone') then
      begin
        execute format('select %L::%s', test.operand, type_name);
      exception when data_exception then
        raise exception 'cannot allow channel %: % is no %, the type of column %',
          channel,
          test.operand,
          type_name,
          test."column"
          using errcode = 'invalid_parameter_value';
      end;
    end if;
  end loop;
end $$;
comment on function rowcast.check_filter(text, text) is 'raises unless a relay understands this row filter of a policy';
