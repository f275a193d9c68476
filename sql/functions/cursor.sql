-- rowcast.cursor() -> text, the position of the statement that calls it: what it does not see follows behind that
-- For an application that shows rows which it has read itself. A client that subscribes with it as `since` is told each
-- change that the rows do not have, whatever its rights: the mark at the end, ~-, says so.
-- The text is that of src/cursor.rs and src/seal.rs: numbers as unsigned LEB128. The key of the seal is in no answer.
-- The statement's MVCC snapshot does not say of this transaction that it still runs. It is added, so that what it
-- writes after this call follows; what it has written before follows as well, and is told twice.
-- A life of the server that no relay has noted yet has the number that the next note will give it. Where another number
-- comes, nobody knows the life, and the client is told `gap`.
-- tables touched: rowcast.installation, rowcast.incarnation, rowcast.alive (select)
create or replace function rowcast.cursor() returns text
language plpgsql stable parallel restricted security definer set search_path = pg_catalog, pg_temp as $$
declare
  seen pg_snapshot := pg_current_snapshot();
  own xid8 := pg_current_xact_id_if_assigned();
  running int8[] := array(select xip::text::int8 from pg_snapshot_xip(seen) xip);
  xmin int8 := pg_snapshot_xmin(seen)::text::int8;
  xmax int8 := pg_snapshot_xmax(seen)::text::int8;
  present text;
  incarnation int8;
  epoch int8;
  key bytea;
  numbers int8[];
  number int8;
  previous int8;
  fields bytea;
  length int;
  counted bytea := '';
begin
  if pg_is_in_recovery() then
    raise exception 'cannot say the position: this server is a standby'
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'read the rows and rowcast.cursor() from the primary: a standby shows commits in another order';
  end if;
  if own < pg_snapshot_xmax(seen) and pg_visible_in_snapshot(own, seen) then
    running := array(select xid from unnest(running || own::text::int8) xid order by xid);
  end if;
  select hashtextextended(c.system_identifier || ' ' || d.oid || ' ' || i.id, 0), i.cursor_key into strict epoch, key
    from pg_control_system() c, pg_database d, rowcast.installation i
   where d.datname = current_database();
  present := rowcast.present_life();
  select i.number into incarnation
    from (select n.number, n.life from rowcast.incarnation n order by n.number desc limit 1) i
   where i.life = present and exists (select from rowcast.alive a where a.incarnation = i.number);
  if incarnation is null then
    select s.last_value + s.is_called::int into incarnation from rowcast.incarnation_number_seq s;
  end if;
  numbers := array[
    incarnation << 16 | (hashtextextended(present, 0) & 65535),
    -- after the snapshot was taken: an upper bound of what it sees
    (pg_current_wal_insert_lsn() - '0/0')::int8,
    xmax,
    xmax - xmin,
    cardinality(running)];
  previous := xmin;
  foreach number in array running loop
    numbers := numbers || (number - previous);
    previous := number;
  end loop;
  fields := int8send(epoch);
  foreach number in array numbers loop
    while number > 127 loop
      fields := fields || substr(int8send(number & 127 | 128), 8);
      number := number >> 7;
    end loop;
    fields := fields || substr(int8send(number), 8);
  end loop;
  length := octet_length(fields);
  while length > 127 loop
    counted := counted || substr(int4send(length & 127 | 128), 4);
    length := length >> 7;
  end loop;
  counted := counted || substr(int4send(length), 4) || fields;
  counted := counted || substr(sha256(key || counted), 1, 8);
  return '1' || translate(encode(counted, 'base64'), '+/=' || chr(10), '-_') || '~-';
end $$;
comment on function rowcast.cursor() is 'the position of the statement that calls it, for `since` and `sync`';
