-- rowcast.configure(name, value) -> void
-- Settings kept in the database. Known: notify = row | empty | always | never.
-- tables touched: rowcast.setting (insert, update)
create or replace function rowcast.configure(name text, value text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if name is distinct from 'notify' then
    raise exception 'unknown setting %', coalesce(name, 'null') using errcode = 'undefined_object', hint = 'known settings: notify';
  end if;
  if value is null or value not in ('row', 'empty', 'always', 'never') then
    raise exception 'setting notify cannot be %', coalesce(value, 'null')
      using errcode = 'invalid_parameter_value', hint = 'it is one of: row, empty, always, never';
  end if;
  if value <> 'never' and current_setting('max_prepared_transactions')::int > 0 then
    raise warning 'two-phase commit is enabled (max_prepared_transactions = %): a transaction that rang cannot be prepared',
      current_setting('max_prepared_transactions') using hint = 'notify = never lets the relay poll instead';
  end if;
  insert into rowcast.setting (name, value) values (configure.name, configure.value)
    on conflict on constraint setting_pkey do update set value = excluded.value;
  execute format('create or replace function rowcast.bell_mode() returns text language sql immutable parallel safe as %L',
                 format('select %L::pg_catalog.text', configure.value));
end $$;
comment on function rowcast.configure(text, text) is 'changes a setting kept in the database: notify = row | empty | always | never';
