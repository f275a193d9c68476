-- rowcast.note_tables() -> void
-- Notes the tables that there are and are not new: those of schemas whose future tables nobody wants, and partitions.
-- What is left is rowcast.newcomer. A relay calls it each ten seconds. Nothing to do where no schema is watched with
-- its future tables.
-- tables touched: rowcast.seen_table (insert, delete)
create or replace function rowcast.note_tables() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from rowcast.watched_schema) then
    return;
  end if;
  delete from rowcast.seen_table s where not exists (select from pg_class c where c.oid = s.number);
  insert into rowcast.seen_table
    select c.oid from pg_class c
     where c.relkind in ('r', 'p') and c.relpersistence <> 't'
       and not exists (select from rowcast.seen_table s where s.number = c.oid)
       and (exists (select from pg_inherits i where i.inhrelid = c.oid)
         or not exists (select from rowcast.watched_schema w where w.number = c.relnamespace))
    on conflict do nothing;
end $$;
comment on function rowcast.note_tables() is 'notes the tables that are not new';
