-- rowcast.holders(relation, with readers) -> text, who holds a lock on it, for the end of an error message
-- "pid 123 (role, application name)", the first few.
create or replace function rowcast.holders(relation regclass, readers boolean default false) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(
           string_agg(
             format('pid %s (%s, %s)',
                    coalesce(h.pid::text, 'none'),
                    case when h.pid is null then 'a prepared transaction'
                         when h.usesysid is null then 'autovacuum'
                         else coalesce(h.usename, 'a role that is gone') end,
                    coalesce(nullif(h.application_name, ''), 'no application name')),
             ', '),
           'nobody any more')
    from (select distinct l.pid, a.usesysid, a.usename, a.application_name
            from pg_locks l
            left join pg_stat_activity a on a.pid = l.pid
           where l.locktype = 'relation'
             and l.relation = holders.relation
             and l.granted
             and l.pid is distinct from pg_backend_pid()
             and l.database = (select oid from pg_database where datname = current_database())
             and (readers or l.mode <> 'AccessShareLock')
           order by l.pid limit 5) h
$$;
comment on function rowcast.holders(regclass, boolean) is 'who holds a lock on a relation';
