-- rowcast.dump() -> setof text, one call a row
-- The calls that state what is stated here: settings, channels, watched tables and schemas, policies. Run on a
-- database with the same tables and a new schema rowcast they lead to the same state: psql -Atc 'select
-- rowcast.dump()' > rowcast.sql What was captured is not in it, nor who was revoked, nor a pause. Columns and tables
-- have the names that they have now. What cannot be stated anew as it is, is a comment that begins with --.
create or replace function rowcast.dump() returns setof text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  -- a comment is one to the end: a name, or a query, may have several lines
  return query select case
    when call like '--%' then regexp_replace(call, E'[\n\r]+', E'\n-- ', 'g')
    else call end from (
    -- another server may lack the library
    select 1, s.name, case when (s.name, s.value) = ('capture', 'native') then '-- where it is installed: ' else '' end
        || format('select rowcast.configure(%L, %L);', s.name, s.value)
      from rowcast.setting s
     where s.name <> 'paused'
    union all
    select 2, c.name, format('select rowcast.create_channel(%L);', c.name) from rowcast.channel c where c.target is null
    union all
    select 3, c.name, case when p.root is not null then format('-- %s is a partition of %s by now: ', d.name, p.root)
                           when d.name is null then format('-- the table %I.%I is gone: ', c.given_schema, c.given_name)
                           when t.oid is not null and exists (
                             select from jsonb_each_text(coalesce(c.notification, '{}')) k
                              where not exists (select from pg_attribute a
                                                 where a.attrelid = c.target
                                                   and a.attname = k.value
                                                   and not a.attisdropped))
                             then '-- a column of its notification is gone: '
                             else '' end
        || rowcast.watch_call(
          coalesce(d.name, format('%I.%I', c.given_schema, c.given_name)),
          w.channel,
          w.user_rule,
          w.notification,
          w.exclude,
          w.singular,
          w.columns,
          w.replicated)
      from rowcast.channel c join rowcast.watched w on w.channel = c.name
      left join pg_class t on t.oid = c.target left join pg_namespace n on n.oid = t.relnamespace
      left join pg_inherits i on i.inhrelid = c.target and t.relispartition
     cross join lateral (select i.inhparent::regclass) p(root)
     cross join lateral (select case
       when exists (select from rowcast.displaced d where d.channel = c.id)
         then format('%I.%I', c.given_schema, c.given_name)
                                     when t.oid is not null then format('%I.%I', n.nspname, t.relname) end) d(name)
     where c.target is not null and not c.unlisted
    union all
    select 3, c.name || ' ', format('select rowcast.keep_briefly(%L);', format('%I.%I', n.nspname, t.relname))
      from rowcast.channel c join pg_class t on t.oid = c.target join pg_namespace n on n.oid = t.relnamespace
     where c.briefly and not exists (select from rowcast.displaced d where d.channel = c.id)
       and not exists (select from pg_inherits i where i.inhrelid = c.target and t.relispartition)
    union all
    -- a column of such a name would be told
    select 3, c.name || ' ', format('-- of channel %I no column may leave that takes the name %I', c.name, gone)
      from rowcast.channel c cross join lateral unnest(c.hidden_names) gone
     where exists (select from pg_class t where t.oid = c.target)
       and not exists (select from pg_attribute a
                        where a.attrelid = c.target and a.attname = gone and not a.attisdropped)
       and not exists (select from pg_attribute a
                        where a.attrelid = c.target and a.attnum = any (c.exclude) and not a.attisdropped)
    union all
    select 4,
           s.name,
           case when not exists (select from pg_namespace n where n.nspname = s.name)
                  then format('-- the schema %I is gone: ', s.name)
                when not exists (select from pg_namespace n where n.nspname = s.name and n.oid = s.number)
                  then format('-- another schema has the name %I by now: ', s.name)
                else '' end
           || format(
             'select rowcast.watch_schema(%L, prefix => %L, except_tables => %L, future => true);',
             s.name,
             s.prefix,
        -- also those that were taken out, or gave their name away
        array(select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = s.name and c.relkind in ('r', 'p') and (c.relname = any (s.except_tables)
                  or exists (select from rowcast.stated_table o
                              where o.is_out and (o.number = c.oid or (o.schema, o.name) = (n.nspname, c.relname)))
                  or exists (select from rowcast.displaced d
                               join rowcast.channel x on x.id = d.channel
                              where x.target = c.oid)
                  or (exists (select from rowcast.unwatched u where u."table" = c.oid)
                    and not exists (select from rowcast.newcomer w where w."table" = c.oid)
                      and not exists (select from rowcast.channel g
                                       where (g.given_schema, g.given_name) = (n.nspname, c.relname))))
               order by 1))
      from rowcast.watched_schema s
    union all
    select 4, s.name || ' ', format('-- it excepted a table that is gone: %I', gone)
      from rowcast.watched_schema s cross join lateral unnest(s.except_tables) gone
     where not exists (select from pg_class c
                         join pg_namespace n on n.oid = c.relnamespace
                        where n.nspname = s.name and c.relname = gone)
    union all
    select 4.5, k.name, format(
             'select rowcast.claim(%L, %L, follows => %L);',
             k.name,
             k.query,
             array(select f.target::text from rowcast.followed f where f.claim = k.name order by 1))
      from rowcast.claim k
    union all
    select 5, p.channel || ' ' || p.role, case
        when rowcast.drifted_names(p) <> '{}' or exists (
          select from rowcast.channel c cross join lateral unnest(p.named) named
           where c.name = p.channel and c.target is not null and exists (select from pg_class t where t.oid = c.target)
             and not exists (select from rowcast.shown_column s where s.channel = c.id and s.name = named))
        then '-- a column is another one by now, gone or excluded: see rowcast.exposure: ' else '' end
        || format(
          'select rowcast.allow(%L, %L, row_filter => %L, columns => %L, actor => %L);',
          p.channel,
          p.role,
          p.row_filter,
          p.columns,
          p.actor)
      from rowcast.policy p
  ) stated(sort, name, call) order by sort, name;
end $$;
comment on function rowcast.dump() is 'the calls that state what is stated here, one a row';
