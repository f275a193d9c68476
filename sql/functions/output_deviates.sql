-- rowcast.output_deviates() -> bool
-- Whether intervals, bytea, floats or times have another text in this session than under Postgres' defaults. Plain SQL,
-- so that it is inlined into what calls it, which is what rowcast.capture calls: every name is qualified.
create or replace function rowcast.output_deviates() returns bool language sql stable as $$
  select not (
    (pg_catalog.current_setting('TimeZone') operator(pg_catalog.=) 'UTC'
      or pg_catalog.current_setting('TimeZone') operator(pg_catalog.=) 'Etc/UTC')
    and pg_catalog.current_setting('IntervalStyle') operator(pg_catalog.=) 'postgres'
    and pg_catalog.current_setting('bytea_output') operator(pg_catalog.=) 'hex'
    and pg_catalog.starts_with(pg_catalog.current_setting('DateStyle'), 'ISO')
    and pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 operator(pg_catalog.>=) 1)
$$;
comment on function rowcast.output_deviates() is 'whether text of this session differs from that of the defaults';
