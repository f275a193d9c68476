-- Policies of row security, the calls that rowcast.row_security makes of them, and whether a user sees by these what
-- Postgres shows by the policies: for each policy, of three users and 60 rows. $ROLE$ is a role of this test.
create schema auth;
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
create function auth.jwt() returns jsonb language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
create function auth.role() returns text language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $$;
create type public.st as enum ('draft', 'done');
create table public.members (user_id uuid, org_id int, role text, active bool, primary key (user_id, org_id));
create table public.staff (user_id int, org_id int, "weird ""Col" text, primary key (user_id, org_id));
create function public.can_see(bigint) returns bool language sql stable as 'select true';
create collation if not exists public.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create domain public.code as text;
create table public.docs (id bigint primary key, user_id uuid, owner int, org_id int, name text, is_public bool,
      status text, n int, kind public.st, deleted_at timestamptz, created_at timestamptz, price float8, tags text[], doc jsonb,
      vc varchar(20), "We""ird (col" text, slug text collate public.nocase, dom public.code, day date, ch char(4), num numeric);
insert into public.docs
  select i, (array[null, '00000000-0000-0000-0000-0000000000aa', '00000000-0000-0000-0000-0000000000bb']::uuid[])[1 + i % 3],
    (array[null, 7, 8])[1 + i % 3], (array[null, 1, 2, 3])[1 + i % 4], (array[null, 'x', '00000000-0000-0000-0000-0000000000aa'])[1 + i % 3],
    (array[null, true, false])[1 + i / 2 % 3], (array[null, 'a', 'b, c', 'x', 'x&y', '{x}', '', '{sub:text}', '#1#', E'a\\\\b''"'])[1 + i % 10],
    (array[null, 1, -2, 6, 5])[1 + i % 5], (array[null, 'draft', 'done']::public.st[])[1 + i % 3],
    (array[null, '2024-01-01']::timestamptz[])[1 + i % 2], (array[null, '2024-01-01', '2024-01-02', 'infinity']::timestamptz[])[1 + i % 4], 0.1, '{x}', 'null',
    (array[null, 'x', 'y', 'z'])[1 + i % 4], (array[null, 'x', 'y'])[1 + i % 3], (array['X', 'x'])[1 + i % 2], (array[null, 'x', 'y'])[1 + i % 3],
    (array[null, '2024-01-01', '2023-01-01']::date[])[1 + i % 3], (array[null, 'x', 'y'])[1 + i % 3], (array[null, 1.50, 2])[1 + i % 3]
  from generate_series(1, 60) i;
insert into public.members values ('00000000-0000-0000-0000-0000000000aa', 1, 'x', true), ('00000000-0000-0000-0000-0000000000aa', 2, 'q', null),
  ('00000000-0000-0000-0000-0000000000bb', 3, 'it''s', true);
insert into public.staff values (7, 1, '("x")'), (7, 2, 'no'), (8, 3, '("x")');
alter table public.docs enable row level security;
grant usage on schema public, auth to $ROLE$; grant execute on all functions in schema auth to $ROLE$;
grant select on all tables in schema public to $ROLE$;
select rowcast.watch('public.docs');
create table public.outcome (i int, q text, role_call text, problem text, wrong text);
do $$
declare
  quals text[] := array[
    'user_id = auth.uid()', '(select auth.uid()) = user_id', 'auth.uid()::text = user_id::text', 'auth.uid()::text = name',
    'owner = nullif(current_setting(''app.user_id'', true), '''')::int',
    'current_setting(''request.jwt.claims'', true)::json ->> ''sub'' = name',
    '(auth.jwt() ->> ''org_id'')::int = org_id',
    'org_id in (select m.org_id from public.members m where m.user_id = auth.uid())',
    'org_id in (select org_id from public.members where user_id = (select auth.uid()) and active and (role = ''x'' or role = ''it''''s''))',
    'exists (select 1 from public.members m where m.org_id = docs.org_id and m.user_id = auth.uid() and m.active is distinct from false)',
    'auth.uid() in (select m.user_id from public.members m where m.org_id = docs.org_id)',
    'exists (select 1 from public.staff s where s.org_id = docs.org_id and s.user_id = current_setting(''app.user_id'')::int and s."weird ""Col" = ''("x")'')',
    'true', 'is_public', 'is_public and status in (''a'', ''b, c'') or n > 5', '(is_public or n > 5) and (kind = ''draft'' or status is null)',
    'not is_public', 'status = ''x&y''', 'status <> ''x''', 'status not in (''x'', ''a'')', 'kind <> ''done'' and deleted_at is null', '"We""ird (col" = ''x'' or user_id = auth.uid()',
    'vc = ''x''', 'vc in (''x'', ''y'')', 'vc not in (''x'')', 'n in (1, -2)', 'n not in (1, 6)', 'created_at >= ''2024-01-02''', 'created_at > ''2024-01-01''::date',
    'created_at <= ''infinity''', 'day < ''2024-01-01''', 'num = 1.5', 'num <> 1.5 or n <= 5', 'n >= 5::bigint', 'kind::text = ''draft''', 'kind in (''draft'', ''done'')',
    'is_public is not true', 'is_public is true', 'is_public is not false and n = 5', 'is_public = false or is_public is null', 'status = ''{x}''', 'status = ''''', 'status = ''{sub:text}'' or status = ''#1#''',
    'status = E''a\\\\b''''"''', 'slug = ''x''', 'slug <> ''x''', 'dom = ''x''', 'dom <> ''x''', 'ch = ''x''', 'ch <> ''x''', 'user_id <> auth.uid()', 'user_id is distinct from auth.uid()',
    'user_id = auth.uid() and (org_id = 1 or org_id in (select m.org_id from public.members m where m.user_id = auth.uid() and not coalesce(m.active, false)))',
    'org_id in (select m.org_id from public.members m where m.user_id = auth.uid() and m.active = any (array[true]))',
    'exists (select 1 from public.members m join public.staff s on s.org_id = m.org_id where m.org_id = docs.org_id and m.user_id = auth.uid())',
    'exists (select 1 from public.members m, public.staff s where s.org_id = m.org_id and docs.org_id = m.org_id and m.user_id = auth.uid() and s.user_id = 7)',
    'exists (select 1 from public.members docs where docs.user_id = auth.uid())',
    'org_id in (select m.org_id from public.members m where m.user_id = auth.uid() or m.active)', 'org_id in (select m.org_id from public.members m where m.user_id = auth.uid() and m.role <> ''{sub}'''' '')', '(vc::text in (select m.role from public.members m where m.user_id = auth.uid()))',
    'auth.role() = ''$ROLE$'' and n = 5', 'auth.role() = ''x'' or n = 5', 'doc is not null', '(n = 5) = is_public', '(n = 5) is not true', 'not (n = 5)', 'is_public <> false', 'true = is_public', 'n = owner', 'n + 0 = 5'];
  q text;
  i int := 0;
  s record;
  d record;
  who record;
  wrong text;
  visible bool;
  told bool;
begin
  foreach q in array quals loop
    i := i + 1;
    drop policy if exists p on public.docs;
    execute format('create policy p on public.docs for select to $ROLE$ using (%s)', q);
    select * into s from rowcast.row_security('public.docs');
    wrong := null;
    if s.call is not null then
      execute s.call;
      for who in select * from (values ('00000000-0000-0000-0000-0000000000aa', 7), ('00000000-0000-0000-0000-0000000000bb', 8), ('00000000-0000-0000-0000-0000000000cc', 9)) v(u, o) loop
        -- of a setting: the token has its value as sub
        perform set_config('request.jwt.claims', jsonb_build_object('sub', who.u, 'role', '$ROLE$', 'org_id', 2)::text, true);
        perform set_config('app.user_id', who.o::text, true);
        for d in select id from public.docs loop
          set local role $ROLE$;
          visible := exists (select from public.docs x where x.id = d.id);
          reset role;
          select w.seen into told from rowcast.who_sees('docs',
            jsonb_build_object('sub', case when s.problem like '%app.user_id%' then who.o::text else who.u end, 'role', '$ROLE$', 'org_id', 2),
            jsonb_build_object('id', d.id)) w where w.test is null;
          if told is distinct from visible then
            wrong := concat_ws(', ', wrong, format('%s:%s %s/%s', right(who.u, 2), d.id, visible, told));
          end if;
        end loop;
      end loop;
    end if;
    insert into public.outcome values (i, q, s.call, s.problem, left(wrong, 200));
  end loop;
end $$;