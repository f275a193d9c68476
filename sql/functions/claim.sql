-- rowcast.claim(name, query, follows) -> void
-- A claim for row filters whose values are not in the token but in tables: after
--   select rowcast.claim('clinics', 'select clinic_id from public.staff where user_id = {sub}::int and active');
--   select rowcast.allow('pets', 'vet', 'clinic_id=in.{clinics}');
-- a vet sees the pets of the clinics of the rows that staff has for that user now. Stated again it replaces what was
-- stated before. A claim of this name in a token means nothing from then on.
--   query    gives the values, one column; {sub} stands for claim sub of the token, which is text. Names need their
--            schema. It is run with the rights of rowcast_relay, which gets SELECT on the columns that it reads
--   follows  the tables whose changes may change the values; default: all that the query reads, through views too. Each
--            of them is captured from now on, in a channel that clients do not see where nobody watches it
-- Refused is what could not be followed (functions that are volatile, the time, foreign tables), and a query that goes
-- through all of a table with more than 10,000 rows for each holder. Several of a row's tables make a chain by a join.
-- tables touched: rowcast.claim, rowcast.followed (insert, update, delete), rowcast.channel (insert, update),
-- rowcast.outbox_0..2 (insert), and the tables that the query reads (select)
create or replace function rowcast.claim(name text, query text, follows regclass[] default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = on
set jit = off
set row_security = off
set client_min_messages = warning
as $$
declare
  large constant float4 := 10000;
  body text;
  checked regclass;
  holder text;
  holder_of regclass;
  holder_type text;
  canonical text := 'null::text';
  value_type regtype;
  read record;
  scan record;
  plan json;
  policy record;
  role text := current_setting('role');
begin
  if name is null
     or name !~ '^[A-Za-z0-9_.:/-]+$'
     or name in ('sub', 'role', 'iss', 'aud', 'exp', 'nbf', 'iat', 'jti') then
    raise exception 'cannot state claim %: it cannot have this name', quote_nullable(name)
      using errcode = 'invalid_parameter_value',
            hint = 'letters, digits and _.:/- make a name; sub, role, iss, aud, exp, nbf, iat and jti are the token''s';
  end if;
  if query is null or query !~* '^[[:space:]]*(select|with)[[:space:]]' or query !~ '[{]sub[}]' then
    raise exception 'cannot state claim %: it needs a query over {sub}', name
      using errcode = 'invalid_parameter_value',
            hint = 'such as ''select clinic_id from public.staff where user_id = {sub}::int''';
  end if;
  if exists (select from regexp_matches(query, '''[^'']*''', 'g') m where m[1] ~ '[{]sub[}]') then
    raise exception 'cannot state claim %: {sub} stands in quotes', name
      using errcode = 'invalid_parameter_value', hint = 'it is a value of type text: write {sub}, or {sub}::int';
  end if;
  body := rowcast.claim_body(query);
  select n.address, n.version into read
    from rowcast.node n
   where n.seen_at > clock_timestamp() - interval '30 seconds' and coalesce(n.knows, 0) < 7 limit 1;
  if found then
    raise exception 'cannot state claim %: the node at % (version %) would take it from tokens',
      name,
      read.address,
      read.version
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'upgrade all nodes first; one that has ended counts for half a minute: select * from rowcast.nodes;';
  end if;

  drop view if exists pg_temp.claim_to_check;
  begin
    execute format(
      'create temp view claim_to_check as select q.* from (select null::text as sub) "claim holder", lateral %s q',
      body);
  exception
    when insufficient_privilege then
      raise;
    when others then
      raise exception 'cannot state claim %: its query does not work: %', name, sqlerrm
        using errcode = sqlstate,
              hint = 'give a query over {sub} with schema-qualified names and one column, such as '
                     '''select clinic_id from public.staff where user_id = {sub}::int''';
  end;
  checked := 'pg_temp.claim_to_check'::regclass;
  if (select count(*) from pg_attribute a where a.attrelid = checked and a.attnum > 0) <> 1 then
    raise exception 'cannot state claim %: its query gives more than one column', name
      using errcode = 'invalid_parameter_value', hint = 'the values of the claim are one column';
  end if;
  select coalesce(nullif(t.typbasetype, 0), t.oid)::regtype into value_type
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
   where a.attrelid = checked and a.attnum = 1;
  select r.problem into read from rowcast.claim_reads(checked) r where r.problem is not null limit 1;
  if not found then
    -- as a literal it is the time when the query is read, each time anew
    select format('its literal %s is a time that goes on', m[1]) as problem into read
      from regexp_matches(query, '(''[[:space:]]*(?:now|today|tomorrow|yesterday)\M[^'']*'')', 'gi') m
     where exists (select from pg_rewrite r
                    where r.ev_class = checked
                      and r.ev_action::text ~ ':consttype (1082|1083|1114|1184|1266) ') limit 1;
  end if;
  if found then
    raise exception 'cannot state claim %: %', name, read.problem
      using errcode = 'feature_not_supported',
            hint = 'the values may depend on {sub} and on tables alone: from their changes the relay learns when to '
                   'read '
                   'them again';
  end if;
  select r.relation into read from rowcast.claim_reads(checked) r where r.relation <> all (follows) limit 1;
  if found then
    raise exception 'cannot state claim %: it reads table %, which it does not follow', name, read.relation
      using errcode = 'invalid_parameter_value', hint = 'add it to follows, or leave follows out';
  end if;
  if not exists (select from rowcast.claim_reads(checked)) and follows is null then
    raise exception 'cannot state claim %: its query reads no table', name
      using errcode = 'invalid_parameter_value', hint = 'what depends on the token alone can be a claim of the token';
  end if;

  select h.relation, h."column" into holder_of, holder
    from rowcast.claim_holder(query, checked) h;
  if holder_of is not null then
    select format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) into holder_type
      from pg_attribute a
      join pg_type t on t.oid = a.atttypid
     where a.attrelid = holder_of and a.attname = holder and not a.attisdropped;
    -- of these types equal values have one text
    if holder_type in ('smallint', 'integer', 'bigint') then
      canonical := '{sub}::bigint::text';
    elsif holder_type = 'uuid' then
      canonical := '{sub}::uuid::text';
    elsif holder_type in ('text', 'character varying')
      and query !~ '[{]sub[}][[:space:]]*::'
      and not exists (select from pg_attribute a join pg_collation k on k.oid = a.attcollation
                       where a.attrelid = holder_of and a.attname = holder and not k.collisdeterministic) then
      canonical := '{sub}';
    else
      holder_of := null;
    end if;
  end if;

  -- each table through an index: with sequential scans out of the question, one that is left has none to use
  if exists (select from pg_prepared_statements s where s.name = 'claim_to_check') then
    deallocate claim_to_check;  -- of a call that failed
  end if;
  execute 'prepare claim_to_check(text) as ' || replace(query, '{sub}', '$1');
  perform set_config('enable_seqscan', 'off', true);
  execute 'explain (format json) execute claim_to_check(null)' into plan;
  perform set_config('enable_seqscan', 'on', true);
  deallocate claim_to_check;
  with recursive node(plan) as (
      select plan -> 0 -> 'Plan'
    union all
      select inner_plan from node cross join lateral json_array_elements(node.plan -> 'Plans') inner_plan
  )
  select c.oid::regclass as relation, c.reltuples into scan
    from node
    join pg_class c on c.relname = node.plan ->> 'Relation Name' and c.reltuples > large
    join rowcast.claim_reads(checked) r on r.relation = c.oid
     or c.oid in (select i.inhrelid from pg_inherits i where i.inhparent = r.relation)
   where node.plan ->> 'Node Type' in ('Seq Scan', 'Index Scan', 'Index Only Scan', 'Parallel Seq Scan')
     and node.plan ->> 'Index Cond' is null
   limit 1;
  if found then
    raise exception 'cannot state claim %: for each holder it goes through all of table %, about % rows',
      name,
      scan.relation,
      scan.reltuples::bigint
      using errcode = 'program_limit_exceeded',
            hint = coalesce(
              'give it an index: '
              || case when holder_of = scan.relation then format('create index on %s (%I);', holder_of, holder) end,
              'give it an index on the columns that the query compares');
  end if;

  insert into rowcast.claim as c (name, query, value_type, canonical)
    values (claim.name, claim.query, value_type, case when holder_of is null then 'null::text' else canonical end)
    on conflict on constraint claim_has_one_meaning do update
      set query = excluded.query,
          value_type = excluded.value_type,
          canonical = excluded.canonical,
          stated_at = clock_timestamp(),
          stated_by = session_user;
  delete from rowcast.followed f where f.claim = claim.name;
  insert into rowcast.followed (claim, target, columns, holder)
    select claim.name, r.relation, r.columns, case when r.relation = holder_of then holder end
      from rowcast.claim_reads(checked) r
    union all
    -- of a table that is named and not read nothing is known
    select distinct claim.name, t,
           array(select a.attname::text from pg_attribute a
                  where a.attrelid = t and a.attnum > 0 and not a.attisdropped),
           null
      from unnest(follows) t
     where t not in (select r.relation from rowcast.claim_reads(checked) r);
  drop view pg_temp.claim_to_check;

  for read in select f.target, f.columns from rowcast.followed f where f.claim = claim.name order by f.target loop
    perform rowcast.follow(read.target, read.columns);
  end loop;
  perform rowcast.unfollow();

  for policy in
    select p.channel, p.row_filter from rowcast.policy p where position('{' || claim.name || '}' in p.row_filter) > 0
  loop
    perform rowcast.check_filter(policy.channel, policy.row_filter);
  end loop;
  -- what the relay will do, with its rights
  begin
    perform set_config('role', 'rowcast_relay', true);
    execute format('select from (select null::text as sub) "claim holder", lateral %s q', body);
    perform set_config('role', role, true);
  exception when insufficient_privilege or feature_not_supported then
    raise exception 'cannot state claim %: rowcast_relay, which runs its query, may not: %', name, sqlerrm
      using errcode = 'insufficient_privilege',
            hint = 'grant rowcast_relay what it lacks; where row security is in the way, read through a view that the '
                   'table''s owner owns';
  end;
  perform rowcast.tell_policy(claim.name);
end $$;
comment on function rowcast.claim(text, text, regclass[]) is
  'states a claim whose values a query reads: '
  'select rowcast.claim(''clinics'', ''select clinic_id from public.staff where user_id = {sub}::int'')';
