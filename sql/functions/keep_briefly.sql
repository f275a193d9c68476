-- rowcast.keep_briefly(target, briefly) -> void
-- For a table that writes more than all others: its changes go to an outbox of their own, which has a retention and a
-- size of its own (brief_retention, brief_size), so that it shortens what is kept of no other table. They are
-- delivered as ever; a client that comes back from before brief_retention is told `gap` on this channel. False: back to
-- the others, and its subscribers load again.
--
-- The table gets other triggers, so a writer of any other table pays nothing. From the first call on readers look into
-- three segments more. That takes rowcast.outbox for itself: a reader that had planned without them could miss what is
-- written next.
--
-- A table that notifies users is refused: what a user missed is read from all channels, so nothing older could be had
-- of any.
-- tables touched: rowcast.channel, rowcast.segment (update), rowcast.outbox (alter)
create or replace function rowcast.keep_briefly(target regclass, briefly boolean default true) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
  entry rowcast.channel;
  part regclass;
  wanted regclass := 'rowcast.outbox';  -- to be locked
begin
  select * into entry from rowcast.channel c where c.target = keep_briefly.target for update;
  if not found then
    raise exception 'table % is not watched', target
      using errcode = 'undefined_object', hint = format('select rowcast.watch(%L);', target::text);
  elsif briefly is null then
    raise exception 'whether changes are kept briefly cannot be null' using errcode = 'null_value_not_allowed';
  elsif entry.briefly = briefly then
    return;
  elsif briefly and (entry.user_column is not null or entry.user_query is not null) then
    raise exception 'changes of table % cannot be kept briefly: it notifies users', target
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'a user coming back would be told gap instead of all that was missed; watch it without user_rule,'
                   ' and notify with rowcast.notify';
  end if;
  update rowcast.channel c set briefly = keep_briefly.briefly where c.id = entry.id;
  perform rowcast.install_triggers(target);
  if not briefly then
    perform rowcast.raise_floor(entry.id);
    return;
  end if;
  if not exists (select from pg_inherits
                  where inhparent = 'rowcast.outbox'::regclass and inhrelid = 'rowcast.outbox_3'::regclass) then
    -- no reader waits longer behind this
    begin
      lock table only rowcast.outbox in access exclusive mode;
      wanted := 'rowcast.segment';
      update rowcast.segment set opened_at = clock_timestamp() where number = 3;
    exception when lock_not_available then
      raise exception 'changes of table % cannot be kept briefly now: % is in use by %',
        target,
        wanted,
        rowcast.holders(wanted, true)
        using errcode = 'lock_not_available',
          hint = 'call it again; the first table needs the outbox for a moment for itself';
    end;
    foreach part in array array['rowcast.outbox_3', 'rowcast.outbox_4', 'rowcast.outbox_5']::regclass[] loop
      execute format('alter table %s inherit rowcast.outbox', part);
    end loop;
    -- sequences follow no rollback: a pause that was rolled back may have left it paused
    if not exists (select from rowcast.setting where name = 'paused') then
      perform rowcast.write_to(3);
    end if;
  end if;
  -- the relay has to know before anything of it is pruned
  if rowcast.append(entry.id, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(entry.name, 'C', null);
  end if;
end $$;
comment on function rowcast.keep_briefly(regclass, boolean) is
  'keeps a table''s changes for brief_retention, in an outbox of their own: for one that writes more than all others';
