-- rowcast.watch_call(target, channel, user_rule, notification, exclude, singular, columns, replicated) -> text
-- The call of rowcast.watch that states this: what remedies and rowcast.dump() print.
create or replace function rowcast.watch_call(
  target text,
  channel text,
  user_rule text,
  notification jsonb,
  exclude text[],
  singular text, columns text[], replicated boolean)
returns text language sql immutable set search_path = pg_catalog, pg_temp as $$
  select format('select rowcast.watch(%L, channel => %L, user_rule => %L, notification => %L, exclude => %L, singular '
                '=> %L, columns => %L%s);',
                target,
                channel,
                user_rule,
                notification,
                exclude,
                singular,
                columns,
                case when replicated then ', replicated => true' else '' end);
$$;
comment on function rowcast.watch_call(text, text, text, jsonb, text[], text, text[], boolean) is
  'the call of rowcast.watch that states this';
