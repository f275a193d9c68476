-- rowcast.drop_claim(name) -> boolean
-- Takes back what rowcast.claim has stated; false where nothing was. Refused while a policy names it: that policy would
-- take a claim of this name from tokens.
-- tables touched: rowcast.claim (delete), rowcast.channel (delete), rowcast.outbox_0..2 (insert)
create or replace function rowcast.drop_claim(name text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  used rowcast.policy;
begin
  select * into used from rowcast.policy p
   where exists (select from rowcast.filter_tests(p.row_filter) t
                  where not t.is_quoted and t.operand = '{' || drop_claim.name || '}') limit 1;
  if found and exists (select from rowcast.claim c where c.name = drop_claim.name) then
    raise exception 'cannot drop claim %: the policy of role % for channel % names it', name, used.role, used.channel
      using errcode = 'dependent_objects_still_exist',
            hint = format('first: select rowcast.deny(%L, %L);', used.channel, used.role);
  end if;
  -- a session that is a replica's runs no foreign key
  delete from rowcast.followed f where f.claim = drop_claim.name;
  delete from rowcast.claim c where c.name = drop_claim.name;
  if not found then
    return false;
  end if;
  perform rowcast.unfollow();
  perform rowcast.tell_policy(name);
  return true;
end $$;
comment on function rowcast.drop_claim(text) is 'takes a claim back';
