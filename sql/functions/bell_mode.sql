-- rowcast.bell_mode() -> text
-- How the doorbell rings: 'row', 'empty', 'always' or 'never'. Immutable, so that it is a
-- constant in the plans of rowcast.capture and costs nothing a row; rowcast.configure('notify', ..) replaces it, which
-- invalidates those plans. Name it in them directly: inside another SQL function, the change did not reach open
-- sessions. The default is 'never' where two-phase commit is enabled: a transaction that ran NOTIFY cannot be
-- prepared.
do $do$
declare
  mode text := coalesce((select value from rowcast.setting where name = 'notify'),
                        case when current_setting('max_prepared_transactions')::int > 0 then 'never' else 'row' end);
begin
  execute format('create or replace function rowcast.bell_mode() returns text language sql immutable parallel safe as '
                 '%L',
                 format('select %L::pg_catalog.text', mode));
end $do$;
comment on function rowcast.bell_mode() is
  'how the doorbell rings: row, empty, always or never; set by rowcast.configure(''notify'', ..)';
