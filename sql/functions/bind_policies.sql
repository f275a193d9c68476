-- rowcast.bind_policies(channel, role, its table, origin) -> void
-- Notes which columns of the table a policy means by the names in it; role null: those of every role that were bound to
-- another table, or to none. From then on a name that another column has taken shows nothing of that column.
-- tables touched: rowcast.policy (update)
create or replace function rowcast.bind_policies(channel text, role text, target regclass, origin text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  update rowcast.policy p
     set target_oid = bind_policies.target, origin = bind_policies.origin, named = n.names,
         attnums = array(select coalesce((select a.attnum from pg_attribute a
                                           where a.attrelid = bind_policies.target
                                             and a.attname = name
                                             and a.attnum > 0
                                             and not a.attisdropped),
                                           0)::int2
                           from unnest(n.names) with ordinality names(name, place) order by place)
    from rowcast.policy q
   cross join lateral (
      select array(select unnest(q.columns)
                    union select f."column"
                     from rowcast.filter_tests(q.row_filter) f where f."column" is not null)) n(names)
   where q.channel = p.channel and q.role = p.role and p.channel = bind_policies.channel
     and (p.role = bind_policies.role
          or (bind_policies.role is null
            and (p.target_oid is distinct from bind_policies.target::oid
              or p.origin is distinct from bind_policies.origin)));
end $$;
comment on function rowcast.bind_policies(text, text, regclass, text) is
  'notes which columns policies mean by the names in them';
