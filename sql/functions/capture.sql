-- rowcast.capture() -> trigger, AFTER .. FOR EACH ROW; rowcast.capture_brief()
-- Writes the change into the outbox, in the writer's own transaction, and rings the doorbell where somebody sleeps.
-- arguments: 0 channel id, 1 channel name, and for a table with something special also
--            2 'x' where a column's text depends on output settings, 's' where it depends on the search_path, else ''
--            3 attnums (of the watched root) to exclude, 4 oid of the watched root, 5 the setting in which the rule
--            leaves the users, else ''
--            6 names to exclude, 7 attnums that alone may leave, '' for all, 8 how many columns the watched root had
-- tables touched: rowcast.outbox_0..2 (insert), rowcast.hidden_column (insert)
--
-- One generic function for every table: generated code per table was no faster and fails every write once a
-- column is dropped. What it costs is the number of expressions and of the functions in them, as each is made ready
-- anew, with a look at the rights: those of PL/pgSQL once a transaction (2,300 instructions an expression and 1,500 a
-- function), those of the INSERT for each row. So a table with nothing special has one expression that asks everything,
-- an INSERT without a WHERE and without RETURNING, and the two values that take many functions are variables. A
-- single-row INSERT pays 163,000 instructions instead of 209,000, a row of a bulk one 94,000 instead of 177,000.
-- The INSERT stands here once for each segment of the outbox: which one takes new rows is the state of a sequence (V2),
-- and a table that is chosen by a value would cost a row 2 microseconds. For the same reason tables that are kept
-- briefly have a function of their own, which is the same text with other segments and another sequence.
--
-- The transaction has its id when the trigger runs, since a row was written. So the test whether to ring comes after
-- it, as the relay's barrier wants it (see rowcast.append). It is asked again before the ring: each answer is as good.
--
-- An update that changes nothing is left out here, not by a WHEN of the trigger, which Postgres reads from its text and
-- makes ready in every statement: 8 of 67 microseconds of a single-row update. *<> compares images: IS DISTINCT FROM
-- fails the application's UPDATE on a table with a json column.
--
-- So is one of nothing but columns that may not leave, as its images are equal: the way to have a busy table cost less.
--
-- Of an updated row of more than 950 bytes the old image is kept as the columns that differ: both images would be more
-- than a row of the outbox may have, and Postgres would try to compress them. It takes 15 to 20 of 105 to 130
-- microseconds, and spares the log 1,165 of 2,696 bytes, or 1,775 of 4,108. Of a smaller one it would take 35 to 40 of
-- 80 to 90. Images of 1,900 bytes together are written as they are.
--
-- A row that is stored in more than 2,000 bytes is rowcast.capture_large's. pg_column_size does not copy the row in one
-- piece, which fails at 1 GB; *<> and row_to_json do, so they come after it.
--
-- What it may not do, and why:
--   * raise: row_to_json, never jsonb (a \u0000, 1e200000 or a large bytea would fail the application's write);
--   * wait: no upsert, no foreign key, no lock on anything another transaction may hold;
--   * burn transaction ids: no EXCEPTION block around a write (one a row);
--   * run anybody's code as its owner: it is security definer and has the search_path of the writer, since a SET of its
--     own would be a tenth of its cost. So every name, operator and type is qualified, here and in what it calls: a
--     schema full of twins, ahead of pg_catalog, is tried in tests/rights.rs. CASE x WHEN, IN, BETWEEN, LIKE, NULLIF,
--     IS DISTINCT FROM and a bare = look their operator up in the search_path, a variable its type. The owner may only
--     insert into the outbox.
do $do$
declare
  -- what is compared with null is not false: old is null in an insert, new in a delete
  into_segment text := $insert$
    insert into rowcast.outbox_%1$s (channel, op, old, new, actor, depth)
      values (channel_id, tg_op::pg_catalog."char", pg_catalog.row_to_json(old.*), pg_catalog.row_to_json(new.*), who,
              pg_catalog.pg_trigger_depth());$insert$;
  rings text := $rings$(rowcast.bell_mode() operator(pg_catalog.<>) 'never'
        and (rowcast.bell_mode() operator(pg_catalog.=) 'always'
             or (pg_catalog.pg_try_advisory_lock_shared(1919907683, 1)
               and pg_catalog.pg_advisory_unlock_shared(1919907683, 1))))$rings$;
  -- one id in 1,024: the hash is a number of 32 bits
  looks text := $looks$pg_catalog.hashint8(pg_catalog.currval('rowcast.outbox_id'::pg_catalog.regclass))
      operator(pg_catalog.>=) 2143289344$looks$;
  outbox pg_catalog.record;
begin
  for outbox in
    select o.suffix, o.first, o.suffix operator(pg_catalog.||) k.kind as name
      from (values ('', 0), ('_brief', 3)) o(suffix, first) cross join (values (''), ('_plpgsql')) k(kind)
     -- native code stays, and asks for the other one
     where k.kind operator(pg_catalog.<>) '' or not exists (
       select from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid operator(pg_catalog.=) p.prolang
        where p.oid operator(pg_catalog.=)
          pg_catalog.to_regprocedure('rowcast.capture' operator(pg_catalog.||) o.suffix operator(pg_catalog.||) '()')
          and l.lanname operator(pg_catalog.=) 'c')
  loop
    execute pg_catalog.format($function$
create or replace function rowcast.capture%7$s() returns trigger
language plpgsql security definer as $body$
declare
  -- which segment, where nothing is special about table, row and session; 3 and more: changes are left out
  segment pg_catalog.int8 := case
    when (tg_nargs operator(pg_catalog.=) 2 or rowcast.is_plain(tg_argv))
      and (pg_catalog.current_setting('rowcast.mute', true) operator(pg_catalog.=) 'on') is not true
      and coalesce(pg_catalog.pg_column_size(new.*), 0) operator(pg_catalog.<=)
        (1900 operator(pg_catalog.-) coalesce(pg_catalog.pg_column_size(old.*), 0))
      and (old.* operator(pg_catalog.*<>) new.*) is not false
    then pg_catalog.pg_sequence_last_value('rowcast.capture_state%4$s'::pg_catalog.regclass) end;
  channel_id pg_catalog.int4 := tg_argv[0]::pg_catalog.int4;
  who pg_catalog.text := rowcast.actor();
begin
  if segment operator(pg_catalog.=) 0 then%1$s
  elsif segment operator(pg_catalog.=) 1 then%2$s
  elsif segment operator(pg_catalog.=) 2 then%3$s
  else
    declare
      is_large pg_catalog.bool;
      op pg_catalog."char";
      before pg_catalog.json;
      after pg_catalog.json;
      deviates pg_catalog.bool;
      images pg_catalog.record;
      attnums pg_catalog.int2[];
      names pg_catalog.text[];
      allowed pg_catalog.int2[];
      rule pg_catalog.text;
      users pg_catalog.text[];
    begin
      -- whatever has something special, is large, muted, or was changed to what it was. A row whose text may raise
      -- counts as large
      is_large := coalesce(tg_argv[2] operator(pg_catalog.=) 'c', false)
        or greatest(pg_catalog.pg_column_size(new.*), pg_catalog.pg_column_size(old.*)) operator(pg_catalog.>) 2000;
      if pg_catalog.pg_sequence_last_value('rowcast.capture_state%4$s'::pg_catalog.regclass) operator(pg_catalog.>=) 3
        or pg_catalog.current_setting('rowcast.mute', true) operator(pg_catalog.=) 'on'
        or (not is_large and (old.* operator(pg_catalog.*<>) new.*) is false) then
        return new;
      end if;
      op := tg_op::pg_catalog."char";
      attnums := coalesce(tg_argv[3], '{}');
      names := coalesce(tg_argv[6], '{}');
      if pg_catalog.length(tg_argv[7]) operator(pg_catalog.>) 0 then
        allowed := tg_argv[7];
      end if;
      -- a column that was added may have taken an excluded name, and may have another one by the next row: from now on
      -- it is excluded by its number too. An expression asks whether there is one, so that a table without new columns
      -- pays no query
      if names operator(pg_catalog.<>) '{}'
         and (pg_catalog.pg_identify_object_as_address(
           1259,
           tg_argv[4]::pg_catalog.oid,
           coalesce(tg_argv[8]::pg_catalog.int4, 1600) operator(pg_catalog.+) 1)).object_names[3] is not null then
        attnums := attnums
          operator(pg_catalog.||) array(select h.attnum
                                          from rowcast.hidden_column h
                                         where h.channel operator(pg_catalog.=) channel_id);
        insert into rowcast.hidden_column
          select channel_id, a.attnum from pg_catalog.pg_attribute a
           where a.attrelid operator(pg_catalog.=) tg_argv[4]::pg_catalog.oid
             and a.attname::pg_catalog.text operator(pg_catalog.=) any (names)
             and a.attnum operator(pg_catalog.<>) all (attnums) and not a.attisdropped;
      end if;
      deviates := tg_argv[2] operator(pg_catalog.=) 's'
        or (tg_argv[2] operator(pg_catalog.=) 'x' and rowcast.output_deviates());
      -- an argument's type must be the row's also where there is none: each call names only what there is. As
      -- expressions: a function in FROM hands its result over by a temporary file where it is larger than work_mem
      if is_large then
        if op operator(pg_catalog.=) 'I' then
          images := rowcast.capture_large(
            op,
            new,
            new,
            tg_relid,
            coalesce(tg_argv[4]::pg_catalog.oid, tg_relid),
            channel_id,
            attnums,
            names,
            allowed);
        elsif op operator(pg_catalog.=) 'D' then
          images := rowcast.capture_large(
            op,
            old,
            old,
            tg_relid,
            coalesce(tg_argv[4]::pg_catalog.oid, tg_relid),
            channel_id,
            attnums,
            names,
            allowed);
        else
          images := rowcast.capture_large(
            op,
            old,
            new,
            tg_relid,
            coalesce(tg_argv[4]::pg_catalog.oid, tg_relid),
            channel_id,
            attnums,
            names,
            allowed);
        end if;
        op := images.what;
        before := images.old;
        after := images.new;
      elsif deviates then
        if op operator(pg_catalog.=) 'I' then
          images := rowcast.capture_pinned(op, new, new, tg_relid, tg_argv[4]::pg_catalog.oid, attnums, names, allowed);
        elsif op operator(pg_catalog.=) 'D' then
          images := rowcast.capture_pinned(op, old, old, tg_relid, tg_argv[4]::pg_catalog.oid, attnums, names, allowed);
        else
          images := rowcast.capture_pinned(op, old, new, tg_relid, tg_argv[4]::pg_catalog.oid, attnums, names, allowed);
        end if;
        before := images.old;
        after := images.new;
      elsif attnums operator(pg_catalog.=) '{}' and names operator(pg_catalog.=) '{}' and allowed is null then
        before := pg_catalog.row_to_json(old.*);
        after := pg_catalog.row_to_json(new.*);
      else
        if op operator(pg_catalog.<>) 'I' then
          before := rowcast.json_without(old, tg_relid, tg_argv[4]::pg_catalog.oid, attnums, names, allowed);
        end if;
        if op operator(pg_catalog.<>) 'D' then
          after := rowcast.json_without(new, tg_relid, tg_argv[4]::pg_catalog.oid, attnums, names, allowed);
        end if;
      end if;

      if pg_catalog.length(tg_argv[5]) operator(pg_catalog.>) 0 then
        -- read and cleared, so that no other row can take it for its own; '' is what a setting is after its transaction
        rule := pg_catalog.current_setting(tg_argv[5], true);
        if pg_catalog.length(rule) operator(pg_catalog.>) 0 then
          users := rule::pg_catalog.text[];
          perform pg_catalog.set_config(tg_argv[5], '', true);
        end if;
      end if;
      -- nothing differs that anybody may see
      if op is null
        or (op operator(pg_catalog.=) 'U'
          and before::pg_catalog.text operator(pg_catalog.=) after::pg_catalog.text) then
        return new;
      end if;
      -- and a wide one's old image is kept as the columns that differ
      if op operator(pg_catalog.=) 'U'
        and not is_large
        and pg_catalog.pg_column_size(old.*) operator(pg_catalog.>) 950 then
        before := rowcast.json_differing(before, after);
      end if;
      if rowcast.append%4$s(channel_id, op, before, after, who, users) then
        perform rowcast.ring(tg_argv[1], op, coalesce(after, before));
      end if;
      if is_large then
        perform rowcast.bound_outbox%4$s();
      end if;
    end;
    return new;
  end if;
  if %5$s or %6$s then
    if %6$s then
      perform rowcast.bound_outbox%4$s();
    end if;
    if %5$s then
      perform rowcast.ring(
        tg_argv[1],
        tg_op::pg_catalog."char",
        coalesce(pg_catalog.row_to_json(new.*), pg_catalog.row_to_json(old.*)));
    end if;
  end if;
  return new;  -- what it is counts for nothing, and it is no expression
end $body$ $function$,
    pg_catalog.format(into_segment, outbox.first),
    pg_catalog.format(into_segment, outbox.first operator(pg_catalog.+) 1),
    pg_catalog.format(into_segment, outbox.first operator(pg_catalog.+) 2),
    outbox.suffix,
    rings,
    looks,
    outbox.name);
  end loop;
end $do$;
comment on function rowcast.capture() is
  'row trigger of watched tables: writes the change into the outbox and rings the doorbell';
comment on function rowcast.capture_brief() is 'the same of tables that are kept briefly';
comment on function rowcast.capture_plpgsql() is 'the same in PL/pgSQL, for what native capture leaves to it';
comment on function rowcast.capture_brief_plpgsql() is 'the same of tables that are kept briefly';
-- rowcast.bell_lock() -> int: the first number of the advisory locks of this installation, for native capture
create or replace function rowcast.bell_lock() returns int language sql immutable parallel safe as 'select 1919907683';
comment on function rowcast.bell_lock() is 'the first number of this installation''s advisory locks';
