-- rowcast.row_bytes() -> int
-- A row whose JSON is longer is told by its key alone. Immutable, so that it is a constant in plans;
-- rowcast.configure('row_bytes', ..) replaces it. At least 4 MB: a row that is stored in 2,000 bytes has at most 3 MB
-- of JSON (lz4 gives 255:1 at most, JSON writes a byte as 6), so rowcast.capture measures only those that are stored
-- in more.
do $do$
begin
  execute pg_catalog.format('create or replace function rowcast.row_bytes() returns int language sql immutable '
                            'parallel safe as %L',
    pg_catalog.format(
      'select %s',
      pg_catalog.pg_size_bytes(coalesce((select value from rowcast.setting where name = 'row_bytes'), '8 MB'))));
end $do$;
comment on function rowcast.row_bytes() is
  'bytes of JSON of the largest row that is told whole; set by rowcast.configure(''row_bytes'', ..)';
