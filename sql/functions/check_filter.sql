-- rowcast.check_filter(channel, row_filter) -> void
-- Raises unless each condition of a policy's row filter is one that a relay understands: column=operator.value, several
-- with & between them, in the grammar of subscriptions (docs/reference/protocol.md). A value may be one claim of the
-- token: user_id=eq.{sub}, clinic_id=in.{clinics}.
-- tables touched: rowcast.channel (select)
create or replace function rowcast.check_filter(channel text, row_filter text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  entry rowcast.channel;
  condition text;
  parts text[];
  type_name text;
  operand text;
begin
  select * into entry from rowcast.channel c where c.name = check_filter.channel;
  foreach condition in array string_to_array(row_filter, '&') loop
    parts := regexp_match(condition, '^([^=]+)=(eq|neq|lt|lte|gt|gte|in|is|like|ilike)[.](.*)$');
    if parts is null then
      raise exception 'cannot allow channel %: % is no condition', channel, condition
        using errcode = 'invalid_parameter_value',
              hint = 'write column=operator.value, such as user_id=eq.{sub}; operators: eq, neq, lt, lte, gt, gte, in, '
                     'is, like, ilike';
    end if;
    if parts[3] ~ '[{}]' and parts[3] !~ '^[{][A-Za-z0-9_.:/-]+[}]$' then
      raise exception 'cannot allow channel %: in condition % a claim stands beside other text', channel, condition
        using errcode = 'invalid_parameter_value', hint = 'a claim is the whole value: user_id=eq.{sub}';
    end if;
    if parts[2] = 'is' and parts[3] not in ('null', 'not_null', 'true', 'false', 'unknown') then
      raise exception 'cannot allow channel %: in condition % is takes null, not_null, true or false',
        channel,
        condition
        using errcode = 'invalid_parameter_value';
    end if;
    if entry.target is null then
      continue;  -- no table, so nothing says which columns there are
    end if;
    select format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) into type_name
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = entry.target
       and a.attname = parts[1]
       and a.attnum > 0
       and not a.attisdropped
       and a.attnum <> all (entry.exclude)
       and a.attname <> all (entry.hidden_names || entry.given_exclude);
    if not found then
      raise exception 'cannot allow channel %: table % has no column %, or it is excluded',
        channel,
        entry.target,
        parts[1]
        using errcode = 'undefined_column',
              hint = 'columns: ' || (select string_agg(attname, ', ' order by attnum) from pg_attribute
                                      where attrelid = entry.target
                                        and attnum > 0
                                        and not attisdropped
                                        and attnum <> all (entry.exclude)
                                         and attname <> all (entry.hidden_names || entry.given_exclude));
    end if;
    -- only to types whose input runs nobody's code: a domain's check, or a type of the table's owner, would run as the
    -- caller
    if parts[2] in ('eq', 'neq', 'lt', 'lte', 'gt', 'gte') and parts[3] !~ '^[{]'
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
        execute format('select %L::%s', parts[3], type_name);
      exception when data_exception then
        raise exception 'cannot allow channel %: % is no %, the type of column %',
          channel,
          parts[3],
          type_name,
          parts[1]
          using errcode = 'invalid_parameter_value';
      end;
    end if;
  end loop;
end $$;
comment on function rowcast.check_filter(text, text) is 'raises unless a relay understands this row filter of a policy';
