-- rowcast.configure(name, value) -> void
-- Settings kept in the database:
--   notify       row | empty | always | never: how the doorbell rings
--   retention    an interval of a minute or more; how long changes are kept. Default 24 hours
--   outbox_size  such as '10 GB'; the oldest changes go earlier when the outbox is larger. Default 10 GB
--   brief_retention, brief_size  the same for tables that are kept briefly (rowcast.keep_briefly). Default 1 hour, 1 GB
--   capture      plpgsql | native: whether plain changes are captured by the library rowcast_capture. It has to be
--                there on this server and on each that may take its place; a superuser says so. Default plpgsql
--   actor        show | hide: whether anybody is told who wrote. Default show
--   order        index | any: whether clients may have the pages of a large table in any order, or in one that an index
--                serves. Default index
--   row_bytes    such as '8 MB', 4 MB to 128 MB: a row whose JSON is longer is told by its key alone. Leave it at 32 MB
--                or less: a longer image is captured and not read, so its channel is told gap, unreadable, where the
--                key would have come. Default 8 MB
-- tables touched: rowcast.setting (insert, update)
create or replace function rowcast.configure(name text, value text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  -- of what is replaced here: an event trigger may have given it away, as sql/owners.sql says
  owner name := (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'rowcast');
begin
  if value is null then
    raise exception 'setting % cannot be null', coalesce(name, 'null') using errcode = 'null_value_not_allowed';
  end if;
  begin
    if name = 'notify' then
      perform value where value in ('row', 'empty', 'always', 'never');
    elsif name in ('retention', 'brief_retention') then
      perform value where value::interval >= interval '1 minute';
    elsif name in ('outbox_size', 'brief_size') then
      perform value where pg_size_bytes(value) >= 64 * 1024 * 1024;
    elsif name = 'actor' then
      perform value where value in ('show', 'hide');
    elsif name = 'capture' then
      perform value where value in ('plpgsql', 'native');
    elsif name = 'order' then
      perform value where value in ('index', 'any');
    elsif name = 'row_bytes' then
      -- at most 128 MB: two images and what is made of them must fit into a row of 1 GB
      perform value where pg_size_bytes(value) between 4 * 1024 * 1024 and 128 * 1024 * 1024;
    else
      raise exception 'unknown setting %', coalesce(name, 'null')
        using errcode = 'undefined_object',
          hint = 'known settings: actor, brief_retention, brief_size, capture, notify, order, outbox_size, retention, '
                 'row_bytes';
    end if;
    if not found then
      raise invalid_parameter_value;
    end if;
  exception when invalid_parameter_value or data_exception then
    raise exception 'setting % cannot be %', name, value
      using errcode = 'invalid_parameter_value',
            hint = case name when 'notify' then 'it is one of: row, empty, always, never'
                             when 'retention' then 'it is an interval of a minute or more, such as 24 hours'
                             when 'brief_retention' then 'it is an interval of a minute or more, such as 1 hour'
                             when 'actor' then 'it is one of: show, hide'
                             when 'capture' then 'it is one of: plpgsql, native'
                             when 'order' then 'it is one of: index, any'
                             when 'row_bytes' then 'it is a size of 4 MB to 128 MB, such as 8 MB'
                             else 'it is a size of 64 MB or more, such as 10 GB' end;
  end;
  insert into rowcast.setting (name, value) values (configure.name, configure.value)
    on conflict on constraint setting_pkey do update set value = excluded.value;
  if name = 'notify' then
    if value <> 'never' and current_setting('max_prepared_transactions')::int > 0 then
      raise warning 'two-phase commit is enabled (max_prepared_transactions = %): a transaction that rang cannot be '
                    'prepared',
        current_setting('max_prepared_transactions') using hint = 'notify = never lets the relay poll instead';
    end if;
    execute format('create or replace function rowcast.bell_mode() returns text language sql immutable parallel safe '
                   'as %L',
                   format('select %L::pg_catalog.text', configure.value));
    execute format('alter function rowcast.bell_mode() owner to %I', owner);
  elsif name = 'capture' then
    perform rowcast.capture_by(value);
  elsif name = 'actor' then
    -- what servers have in memory has the actors of before
    perform rowcast.raise_floor(c.id) from rowcast.channel c;
  elsif name = 'row_bytes' then
    execute format('create or replace function rowcast.row_bytes() returns int language sql immutable parallel safe as '
                   '%L',
                   format('select %s', pg_size_bytes(configure.value)));
    execute format('alter function rowcast.row_bytes() owner to %I', owner);
  end if;
end $$;
comment on function rowcast.configure(text, text) is
  'changes a setting kept in the database: notify, retention, outbox_size, brief_retention, brief_size, row_bytes, '
  'capture, actor or order';
