-- rowcast.write_to(segment) -> void
-- Makes rowcast.capture and rowcast.append write to a segment of the outbox, by replacing their text. Sessions take the
-- new text at their next transaction that writes; until then they write to the old segment, which rowcast.prune
-- expects. An argument or a setting instead of a constant would cost every row an expression.
create or replace function rowcast.write_to(segment int) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  now text;
  wanted text;
begin
  for now in select pg_get_functiondef(p.oid) from pg_proc p
              where p.pronamespace = 'rowcast'::regnamespace and p.proname in ('capture', 'append') loop
    wanted := regexp_replace(now, 'rowcast\.outbox_[0-2]', 'rowcast.outbox_' || segment, 'g');
    if wanted <> now then
      execute wanted;
    end if;
  end loop;
end $$;
comment on function rowcast.write_to(int) is 'makes new changes go to a segment of the outbox';
