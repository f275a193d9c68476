-- rowcast.origin() -> text, the cluster and the database in it
-- A restored dump has another one, whatever numbers its tables and columns have got.
create or replace function rowcast.origin() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select c.system_identifier || ' ' || d.oid
    from pg_control_system() c, pg_database d
   where d.datname = current_database();
$$;
comment on function rowcast.origin() is 'the cluster and the database in it';
