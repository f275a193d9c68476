-- rowcast.is_plain(arguments of rowcast.capture) -> bool
-- Whether a change of this table is captured as one of a table with nothing special: all of the row may leave, no query
-- names users, and no text depends on what this session has set. Not inlined, so that a table with nothing special has
-- one function more to make ready, and not thirty.
create or replace function rowcast.is_plain(arguments text[]) returns bool
language plpgsql stable as $$
begin
  return arguments[3] operator(pg_catalog.=) '{}'
    and arguments[5] operator(pg_catalog.=) ''
    and arguments[6] operator(pg_catalog.=) '{}'
    and arguments[7] operator(pg_catalog.=) ''
    and (arguments[2] operator(pg_catalog.=) ''
      or (arguments[2] operator(pg_catalog.=) 'x' and not rowcast.output_deviates()));
end $$;
comment on function rowcast.is_plain(text[]) is 'whether nothing is special about a table, as this session writes it';
