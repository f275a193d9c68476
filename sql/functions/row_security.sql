-- rowcast.row_security(target) -> setof record: what row security shows, as calls of rowcast.allow
--   target  a table; null: each table that is watched
-- One row for each policy of row security that says what may be read (for select, or for all), and each of its roles:
--   table, policy, role  which; a policy for all roles is stated for 'authenticated', and for each role that is named
--   call     what to run: rowcast.claim for what it reads in other tables, and rowcast.allow. A role has one call, the
--            same in all of its rows: it joins the policies of the role, and rowcast.allow knows one for each
--   problem  why there is no call, or what to know about it
-- A call never shows more than the policies do. auth.uid() of Supabase, current_setting('request.jwt.claims') and the
-- like are claims of the token; a setting such as app.user_id is taken for claim sub, and problem says so.
-- The text of the condition is reduced from within: what stands in quotes is numbered, what tells the user becomes
-- {claim:type}, a subquery or a test becomes #1#, and so does what AND and OR join. What is left is not understood.
-- tables touched: rowcast.channel, rowcast.claim, rowcast.policy (select)
create or replace function rowcast.row_security(
  target regclass default null,
  out "table" regclass,
  out policy name,
  out call text,
  out problem text,
  out role text)
returns setof record
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
declare
  id constant text := '(?:[a-z_][a-z0-9_$]*|"[0-9]+")';
  -- what is equal for Postgres is equal for a relay
  exact constant text[] := array['smallint', 'integer', 'bigint', 'numeric', 'boolean', 'uuid', 'date', 'enum', 'text',
    'character varying', 'timestamp with time zone', 'timestamp without time zone'];
  whole constant text[] := array['smallint', 'integer', 'bigint'];
  -- needs no quotes in a row filter
  plain constant text := '^(?!(or|and|not)$)[A-Za-z0-9_]+$';
  unknown constant text := 'it has a form that is not known here: ';
  watched record;
  entry rowcast.channel;
  asked record;
  -- the text, and what stood in quotes in it
  expression text;
  quoted text[];
  before text;
  found_text text[];
  hit record;
  piece text;
  at_char int;
  depth int;
  parts text[];
  fault text;
  note text;
  -- what #1# is: as a member of a group, alone, and whether it is always true (1) or false (-1)
  members text[];
  alone text[];
  sure int[];
  n int;
  -- a test
  column_name text;
  kind text;
  cast_to text;
  operator text;
  operand text;
  value_texts text[];
  is_exact bool;
  verdict int;
  -- a subquery
  inner_column text;
  outer_column text;
  conditions text[];
  claim_query text;
  claim_name text;
  -- all that were named so far, by their queries
  claim_names text[] := '{}';
  claim_queries text[] := '{}';
  -- of each policy of a role
  names name[];
  are_permissive bool[];
  faults text[];
  notes text[];
  their_members text[];
  their_alone text[];
  their_sure int[];
  filter text;
  columns text[];
  refused text;
begin
  for watched in
    select c.oid as oid, c.relname, c.relrowsecurity
      from pg_class c
     where c.relkind in ('r', 'p') and (c.oid = target or target is null and exists (
             select from rowcast.channel w where w.target = c.oid and not w.unlisted and w.name not like '.%'))
     order by c.oid::regclass::text
  loop
    "table" := watched.oid;
    entry := null;
    select * into entry from rowcast.channel c where c.target = watched.oid and c.name not like '.%' and not c.unlisted;
    for role in
      select distinct case r.oid when 0 then 'authenticated' else pg_get_userbyid(r.oid)::text end
        from pg_policy p cross join unnest(p.polroles) r(oid)
       where p.polrelid = watched.oid and p.polcmd in ('r', '*')
       order by 1
    loop
      names := '{}';
      are_permissive := '{}';
      faults := '{}';
      notes := '{}';
      their_members := '{}';
      their_alone := '{}';
      their_sure := '{}';
      for asked in
        select p.oid, p.polname, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as qual,
               0 = any (p.polroles) as is_all
          from pg_policy p
         where p.polrelid = watched.oid
           and p.polcmd in ('r', '*')
           -- those of a role are for its members, too
           and exists (select from unnest(p.polroles) r(oid)
                        where r.oid = 0 or pg_get_userbyid(r.oid)::text = role
                           or exists (select from pg_roles u
                                       where u.rolname = role and pg_has_role(u.oid, r.oid, 'usage')))
         order by p.polname
      loop
        fault := case when asked.qual is null then 'it has no USING, so it shows nothing' end;
        note := case when asked.is_all and role = 'authenticated'
                     then 'the policy is for all roles: state it for each role that clients have, such as anon' end;
        members := '{}';
        alone := '{}';
        sure := '{}';
        if fault is null then
          select 'it calls ' || string_agg(d.refobjid::regprocedure::text, ', ')
                 || ', whose rule cannot be read from here: state it as a query over {sub}'
            into fault
            from pg_depend d
            join pg_proc p on p.oid = d.refobjid
            join pg_namespace s on s.oid = p.pronamespace
           where d.classid = 'pg_policy'::regclass and d.objid = asked.oid and d.refclassid = 'pg_proc'::regclass
             and not (s.nspname = 'auth' and p.proname in ('uid', 'jwt', 'role') and p.pronargs = 0
               and p.prosrc like '%request.jwt%');
        end if;

        -- what stands in quotes, as its number
        expression := coalesce(asked.qual, 'false');
        quoted := array(select m.part[1]
                          from regexp_matches(expression, '(E?''(?:[^'']|'''')*''|"(?:[^"]|"")*")', 'g')
                               with ordinality m(part, place)
                         order by m.place);
        expression := regexp_replace(expression, 'E?''(?:[^'']|'''')*''|"(?:[^"]|"")*"', E'\x01', 'g');
        select string_agg(
                 s.part || case when s.place > cardinality(quoted) then ''
                                when quoted[s.place] like '"%' then format('"%s"', s.place)
                                else format('''%s''', s.place) end,
                 '' order by s.place)
          into expression
          from unnest(string_to_array(expression, E'\x01')) with ordinality s(part, place);
        quoted := array(
          select case when q.text like '"%' then replace(substr(q.text, 2, length(q.text) - 2), '""', '"')
                      when q.text like 'E%'
                        then replace(replace(substr(q.text, 3, length(q.text) - 3), '''''', ''''), '\\', '\')
                      else replace(substr(q.text, 2, length(q.text) - 2), '''''', '''') end
            from unnest(quoted) with ordinality q(text, place)
           order by q.place);
        expression := replace(regexp_replace(expression, '\s+', ' ', 'g'), '( SELECT', '(SELECT');

        -- what tells the user: {claim:type}
        expression := replace(replace(expression, 'auth.uid()', '{sub:uuid}'), 'auth.role()', '{role:text}');
        expression := replace(expression, 'auth.jwt()', '{}');
        for hit in
          select distinct m.part[1] as written, quoted[m.part[2]::int] as setting
            from regexp_matches(expression, '(current_setting\(''([0-9]+)''::text(?:, (?:true|false))?\))', 'g') m(part)
        loop
          if hit.setting in ('request.jwt.claims', 'request.jwt.claim') then
            expression := replace(expression, hit.written, '{}');
          elsif hit.setting ~ '^request[.]jwt[.]claim[.][A-Za-z0-9_-]+$' then
            expression := replace(expression, hit.written, format('{%s:text}', substr(hit.setting, 19)));
          elsif hit.setting ~ '[._](user_?id|uid|sub|(current_)?user)$' then
            expression := replace(expression, hit.written, '{sub:text}');
            note := concat_ws('; ', note, format('setting %s is taken for claim sub of the token', hit.setting));
          else
            fault := coalesce(fault, format('it asks for setting %s: where the token has the same as a claim, name '
                                            'that claim in the row filter', hit.setting));
          end if;
        end loop;
        loop
          before := expression;
          expression := regexp_replace(expression, '\(SELECT ({[^{}]*})(?: AS ' || id || ')?\)', '\1', 'g');
          for hit in
            select distinct m.part[1] as written, m.part[2] as claim, quoted[m.part[3]::int] as value
              from regexp_matches(expression, '(NULLIF\({([^{}]*)}, ''([0-9]+)''::text\))', 'g') m(part)
          loop
            if hit.value = '' then
              expression := replace(expression, hit.written, format('{%s}', hit.claim));
            end if;
          end loop;
          expression := regexp_replace(expression, '\({}\)::jsonb?', '{}', 'g');
          for hit in
            select distinct m.part[1] as written, quoted[m.part[2]::int] as claim
              from regexp_matches(expression, '(\({} ->> ''([0-9]+)''::text\))', 'g') m(part)
          loop
            if hit.claim ~ '^[A-Za-z0-9_./-]+$' then
              expression := replace(expression, hit.written, format('{%s:text}', hit.claim));
            else
              fault := coalesce(fault, format('claim %s has a name that a row filter cannot have', hit.claim));
            end if;
          end loop;
          expression := regexp_replace(
            expression,
            '\(?({[A-Za-z0-9_./-]+:)[a-z ]+}\)?::(uuid|integer|bigint|smallint|numeric|text|character varying)'
            '(?![a-z\[(])',
            '\1\2}', 'g');
          exit when expression = before;
        end loop;

        -- subqueries, the outermost first
        while fault is null loop
          found_text := regexp_match(
            expression,
            format('^(.*?)(\((EXISTS|(?:%s|\(%s\)::text|{[^{}]*}) IN) \(SELECT .*)$', id, id));
          exit when found_text is null;
          -- where its parenthesis ends
          depth := 0;
          at_char := 0;
          loop
            at_char := at_char + 1;
            depth := depth + case substr(found_text[2], at_char, 1) when '(' then 1 when ')' then -1 else 0 end;
            exit when depth = 0 or at_char > length(found_text[2]);
          end loop;
          piece := left(found_text[2], at_char);
          before := found_text[1];
          expression := substr(found_text[2], at_char + 1);
          n := cardinality(members) + 1;
          expression := before || format('#%s#', n) || expression;
          operand := regexp_replace(found_text[3], ' IN$', '');
          -- SELECT .. FROM .. WHERE ..
          piece := substr(piece, length(found_text[3]) + 11);
          piece := left(piece, length(piece) - 2);
          parts := array[
            split_part(piece, ' FROM ', 1),
            split_part(substr(piece, length(split_part(piece, ' FROM ', 1)) + 7), ' WHERE ', 1)];
          parts := parts || substr(piece, length(parts[1]) + length(parts[2]) + 14);
          parts[1] := regexp_replace(parts[1], '^DISTINCT | AS ' || id || '$', '', 'g');
          if parts[3] = ''
             or piece ~ '\m(UNION|INTERSECT|EXCEPT|GROUP|HAVING|LIMIT|OFFSET|FETCH|WINDOW|WITH|ORDER|LATERAL|OVER)\M'
             or parts[1] || parts[2] like '%SELECT%'
             or (operand <> 'EXISTS' and parts[1] !~ ('^' || id || '[.]' || id || '$')) then
            fault := 'its subquery is not one SELECT of a column, one FROM and one WHERE: state a query over {sub} by '
                     'hand';
            exit;
          end if;
          if piece ~ '\m[a-z_0-9]+["]?\(' or piece ~ 'CURRENT_|LOCALTIME|SESSION_USER' then
            fault := 'its subquery calls a function: state it as a query over {sub} by hand, with rowcast.claim';
            exit;
          end if;
          -- the conditions, between which stands AND, without a parenthesis around all of it
          piece := parts[3];
          conditions := '{}';
          fault := (
            select 'its subquery gives, or joins by, a column of the table: state a query over {sub} by hand'
              from regexp_matches(concat_ws(' ', parts[1], parts[2]), '(' || id || ')[.]' || id, 'g') m(part)
             where case when m.part[1] like '"%' then quoted[btrim(m.part[1], '"')::int] else m.part[1] end
                     = watched.relname
             limit 1);
          exit when fault is not null;
          loop
            depth := 0;
            at_char := 0;
            loop
              at_char := at_char + 1;
              depth := depth + case substr(piece, at_char, 1) when '(' then 1 when ')' then -1 else 0 end;
              exit when depth <= 0 or at_char >= length(piece);
            end loop;
            exit when piece not like '(%' or at_char < length(piece);
            piece := substr(piece, 2, length(piece) - 2);
          end loop;
          depth := 0;
          before := '';
          for at_char in 1 .. length(piece) loop
            depth := depth + case substr(piece, at_char, 1) when '(' then 1 when ')' then -1 else 0 end;
            before := before || substr(piece, at_char, 1);
            if depth = 0 and before like '% AND ' then
              conditions := conditions || left(before, -5);
              before := '';
            end if;
          end loop;
          conditions := conditions || before;
          inner_column := case when operand <> 'EXISTS' then parts[1] end;
          is_exact := operand not like '%::text';
          outer_column := case when operand <> 'EXISTS' then operand end;
          -- {sub} IN (SELECT m.user_id ..) is EXISTS (SELECT .. WHERE m.user_id = {sub})
          if operand like '{%' then
            conditions := format('%s = %s', inner_column, operand) || conditions;
            inner_column := null;
            outer_column := null;
          end if;
          parts := parts[1:2] || '{}'::text[];
          foreach piece in array conditions loop
            loop
              depth := 0;
              at_char := 0;
              loop
                at_char := at_char + 1;
                depth := depth + case substr(piece, at_char, 1) when '(' then 1 when ')' then -1 else 0 end;
                exit when depth <= 0 or at_char >= length(piece);
              end loop;
              exit when piece not like '(%' or at_char < length(piece);
              piece := substr(piece, 2, length(piece) - 2);
            end loop;
            found_text := regexp_match(
              piece,
              format('^\(?(%s)[.](%s)(?:\)::text)? = \(?(%s)[.](%s)(?:\)::text)?$', id, id, id, id));
            if found_text is not null then
              -- their names, without the numbers
              value_texts := array(
                select case when f.name like '"%' then quoted[btrim(f.name, '"')::int] else f.name end
                  from unnest(found_text) with ordinality f(name, place)
                 order by f.place);
              if (value_texts[1] = watched.relname) <> (value_texts[3] = watched.relname) then
                if inner_column is not null then
                  fault := 'its subquery compares more than one column of the table: give the table a column that '
                           'says it all, or state a query over {sub} by hand';
                  exit;
                end if;
                is_exact := piece not like '%::text%';
                inner_column := case when value_texts[1] = watched.relname
                                     then found_text[3] || '.' || found_text[4]
                                     else found_text[1] || '.' || found_text[2] end;
                outer_column := case when value_texts[1] = watched.relname then found_text[2] else found_text[4] end;
                continue;
              end if;
            end if;
            if exists (select from regexp_matches(piece, '(' || id || ')[.]' || id, 'g') m(part)
                        where case when m.part[1] like '"%' then quoted[btrim(m.part[1], '"')::int] else m.part[1] end
                                = watched.relname) then
              fault := 'its subquery compares the table otherwise than column = column: state a query over {sub} by '
                       'hand';
              exit;
            end if;
            found_text := regexp_match(piece, format('^(%s[.]%s) = ({sub:[^{}]*})$', id, id));
            found_text := coalesce(
              found_text,
              (select array[m.part[2], m.part[1]]
                 from regexp_matches(piece, format('^({sub:[^{}]*}) = (%s[.]%s)$', id, id)) m(part)));
            if found_text is not null then
              -- the comparison with the user, first
              parts := parts[1:2] || array[found_text[1] || ' = ' || found_text[2]] || parts[3:];
            else
              parts := parts || case when piece ~ ' (OR|AND) ' then '(' || piece || ')' else piece end;
            end if;
          end loop;
          exit when fault is not null;
          if exists (select from regexp_matches(array_to_string(parts[3:], ' '), '{([^{}:]*)', 'g') m(part)
                      where m.part[1] <> 'sub') then
            fault := 'its subquery needs another claim than sub, and a query of rowcast.claim knows {sub} alone';
          elsif parts[3] is null or parts[3] not like '%{sub:%' then
            fault := 'its subquery does not compare a column with the user: a query of rowcast.claim is over {sub}';
          elsif outer_column is null then
            fault := 'its subquery does not say which rows of the table it means';
          end if;
          exit when fault is not null;
          column_name := regexp_replace(outer_column, '^\((.*)\)::text$', '\1');
          column_name := case when column_name like '"%' then quoted[btrim(column_name, '"')::int] else column_name end;
          select case when b.typtype = 'e' then 'enum' else format_type(b.oid, null) end into kind
            from pg_attribute a
            join pg_type t on t.oid = a.atttypid
            join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
            left join pg_collation l on l.oid = a.attcollation
           where a.attrelid = watched.oid and a.attname = column_name and l.collisdeterministic is not false;
          if kind is null or kind <> all (exact)
             or not is_exact and kind not in ('text', 'character varying') then
            fault := format('it compares column %s, of which equal values are not the same text', column_name);
            exit;
          end if;
          -- other tables: those of row security show the user less than a claim reads, or as much
          for hit in
            select c.oid::regclass as name, c.relrowsecurity, c.relkind, c.oid, c.reloptions,
                   exists (select from pg_roles r
                            where r.rolname = role
                              and exists (
                                select from pg_depend x
                                 where x.classid = 'pg_policy'::regclass
                                   and x.objid = asked.oid
                                   and x.refclassid = 'pg_class'::regclass
                                   and x.refobjid = c.oid
                                   and case when x.refobjsubid > 0
                                         then not has_column_privilege(r.oid, c.oid, x.refobjsubid::int2, 'select')
                                         else not has_any_column_privilege(r.oid, c.oid, 'select') end)) as is_closed,
                   exists (select from pg_roles r
                            where r.rolname = 'rowcast_relay' and (r.rolbypassrls or r.rolsuper)) as may_pass,
                   not exists (select from pg_policy p
                                where p.polrelid = c.oid and not p.polpermissive and p.polcmd in ('r', '*'))
                   and exists (
                     select from pg_policy p
                      cross join regexp_replace(pg_get_expr(p.polqual, p.polrelid),
                                                '\( SELECT auth.uid\(\) AS uid\)', 'auth.uid()', 'g') q(qual)
                      where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('r', '*')
                        and exists (select from unnest(p.polroles) r(oid)
                                     where r.oid = 0 or pg_get_userbyid(r.oid)::text = role)
                        and (q.qual = 'true'
                          -- of the only table of the subquery: of a second one, or the same again, row security would
                          -- show the user's own rows alone
                          or r1.reads = 1
                             and parts[3] ~ ('^' || id || '[.]' || id || ' = {sub:uuid}$')
                             and q.qual in (
                               format('(%s = auth.uid())', substring(parts[3] from '[.](.*) = ')),
                               format('(auth.uid() = %s)', substring(parts[3] from '[.](.*) = '))))) as shows_all
              from (select distinct d.refobjid
                      from pg_depend d
                     where d.classid = 'pg_policy'::regclass
                       and d.objid = asked.oid
                       and d.refclassid = 'pg_class'::regclass) d
              join pg_class c on c.oid = d.refobjid
             cross join lateral (
               select count(*) as reads
                 from pg_policy y cross join regexp_matches(y.polqual::text, ':rtekind 0 :relid [0-9]+ ', 'g')
                where y.oid = asked.oid) r1
             where c.oid <> watched.oid
                or (select count(*) from pg_policy y cross join regexp_matches(
                      y.polqual::text, ':rtekind 0 :relid ' || watched.oid || ' ', 'g') where y.oid = asked.oid) > 0
          loop
            fault := coalesce(fault, case
              when hit.oid = watched.oid
                then 'its subquery reads the table itself, of which row security shows nothing then'
              when hit.relkind = 'v' and hit.reloptions::text ~* 'security_invoker=(t|y|on|1)'
                then format('it reads view %s with the rights of the user, under row security', hit.name)
              when hit.relkind not in ('r', 'p', 'v')
                then format('it reads %s, whose changes cannot be captured', hit.name)
              when hit.is_closed then format('role %s has no right to select from %s, which it reads', role, hit.name)
              when hit.relrowsecurity and not hit.shows_all
                then format('it reads %s, which has row security of its own, and a query of rowcast.claim would read '
                            'more than the user sees: state it by hand', hit.name)
              when hit.relrowsecurity and not hit.may_pass
                then format('it reads %s, which has row security, and rowcast_relay may not read past it: '
                            'alter role rowcast_relay bypassrls; or state a query over a view by hand', hit.name) end);
          end loop;
          exit when fault is not null;
          -- the names in quotes again, and {sub}
          claim_query := format(
            'select %s from %s where %s', inner_column, parts[2], array_to_string(parts[3:], ' and '));
          claim_query := regexp_replace(claim_query, '{sub:text}', '{sub}', 'g');
          claim_query := regexp_replace(claim_query, '{sub:([^{}]*)}', '{sub}::\1', 'g');
          claim_query := (
            select string_agg(
                     case when s.part ~ '^"[0-9]+"$' then quote_ident(quoted[btrim(s.part, '"')::int])
                          when s.part ~ '^''[0-9]+''$' then quote_literal(quoted[btrim(s.part, '''')::int])
                          else s.part end, '' order by s.place)
              from (select m.part[1] as part, m.place
                      from regexp_matches(claim_query, '("[0-9]+"|''[0-9]+''|[^"'']+)', 'g')
                           with ordinality m(part, place)) s);
          if exists (select from unnest(quoted) q(text)
                      where q.text ~ '[{]sub[}]' and position(replace(q.text, '''', '''''') in claim_query) > 0) then
            fault := 'its subquery has {sub} in quotes, where rowcast.claim would put the user: state it by hand';
            exit;
          end if;
          claim_name := claim_names[array_position(claim_queries, claim_query)];
          if claim_name is null then
            select coalesce(min(c.name), '') into claim_name from rowcast.claim c where c.query = claim_query;
            if claim_name = '' then
              value_texts := array[(regexp_match(parts[2], format('^%s[.](%s)', id, id)))[1],
                                   substring(inner_column from '[.](.*)$')];
              before := (
                select string_agg(regexp_replace(
                         case when v.name is null then watched.relname
                              when v.name like '"%' then quoted[btrim(v.name, '"')::int]
                              else v.name end, '[^A-Za-z0-9_]', '', 'g'), '_' order by v.place)
                  from unnest(value_texts) with ordinality v(name, place));
              n := 1;
              claim_name := before;
              while claim_name = any (claim_names)
                or exists (select from rowcast.claim c where c.name = claim_name)
                or exists (select from rowcast.policy p
                            where position('{' || claim_name || '}' in p.row_filter) > 0) loop
                n := n + 1;
                claim_name := before || '_' || n;
              end loop;
            end if;
            claim_names := claim_names || claim_name;
            claim_queries := claim_queries || claim_query;
          end if;
          before := case when column_name ~ plain then column_name
                         else '"' || regexp_replace(column_name, '(["\\])', '\\\1', 'g') || '"' end;
          members := members || format('%s.in.{%s}', before, claim_name);
          alone := alone || format('%s=in.{%s}', before, claim_name);
          sure := sure || 0;
        end loop;

        -- tests, and what joins them, from within
        expression := regexp_replace(expression, '= ANY \(ARRAY\[([^\]]*)\]\)', '=ANY [\1]', 'g');
        expression := regexp_replace(expression, '<> ALL \(ARRAY\[([^\]]*)\]\)', '<>ALL [\1]', 'g');
        expression := regexp_replace(expression, '= ANY \(\(ARRAY\[([^\]]*)\]\)::text\[\]\)', '=ANY [\1]', 'g');
        expression := regexp_replace(expression, '<> ALL \(\(ARRAY\[([^\]]*)\]\)::text\[\]\)', '<>ALL [\1]', 'g');
        expression := regexp_replace(
          expression,
          '\((' || id || '|-?[0-9.]+|''[0-9]+''::character varying)\)::(text|integer|bigint|numeric)(?![a-z\[(])',
          '\1::\2', 'g');
        expression := case when expression like '(%' then expression else '(' || expression || ')' end;
        while fault is null and expression !~ '^#[0-9]+#$' loop
          found_text := regexp_match(expression, '\(([^()]*)\)');
          piece := coalesce(found_text[1], expression);
          if found_text is null then
            fault := unknown || piece;
            exit;
          end if;
          before := piece;
          if piece ~ ('^(#[0-9]+#|' || id || ')( AND (#[0-9]+#|' || id || '))*$')
             or piece ~ ('^(#[0-9]+#|' || id || ')( OR (#[0-9]+#|' || id || '))*$') then
            -- a column, or true, is a test of itself
            operator := case when piece ~ ' OR ' then 'or' else 'and' end;
            parts := regexp_split_to_array(piece, ' (AND|OR) ');
            for i in 1 .. cardinality(parts) loop
              continue when parts[i] like '#%';
              column_name := case when parts[i] like '"%' then quoted[btrim(parts[i], '"')::int] else parts[i] end;
              if parts[i] in ('true', 'false') then
                members := members || null::text;
                alone := alone || null::text;
                sure := sure || case parts[i] when 'true' then 1 else -1 end;
              elsif exists (
                select from pg_attribute a
                 where a.attrelid = watched.oid and a.attname = column_name and a.atttypid = 'bool'::regtype) then
                column_name := case when column_name ~ plain then column_name
                                    else '"' || regexp_replace(column_name, '(["\\])', '\\\1', 'g') || '"' end;
                members := members || (column_name || '.is.true');
                alone := alone || (column_name || '=is.true');
                sure := sure || 0;
              else
                fault := unknown || column_name;
                exit;
              end if;
              parts[i] := format('#%s#', cardinality(members));
            end loop;
            exit when fault is not null;
            -- where one of them decides, or all say the same, nothing is left to test
            verdict := case operator when 'or' then -1 else 1 end;
            value_texts := '{}';
            conditions := '{}';
            for i in 1 .. cardinality(parts) loop
              n := btrim(parts[i], '#')::int;
              if sure[n] = 0 then
                value_texts := value_texts || members[n];
                conditions := conditions || alone[n];
                verdict := 0;
              elsif sure[n] = (case operator when 'or' then 1 else -1 end) then
                verdict := sure[n];
                exit;
              end if;
            end loop;
            members := members || case
              when verdict <> 0 then null
              when cardinality(value_texts) = 1 then value_texts[1]
              else format('%s(%s)', operator, array_to_string(value_texts, ',')) end;
            alone := alone || case
              when verdict <> 0 then null
              when cardinality(value_texts) = 1 or operator = 'and' then array_to_string(conditions, '&')
              else format('or=(%s)', array_to_string(value_texts, ',')) end;
            sure := sure || verdict;
          elsif piece ~ '^{role:text} = ''[0-9]+''::text$' then
            members := members || null::text;
            alone := alone || null::text;
            sure := sure || case when quoted[substring(piece from '''([0-9]+)''')::int] = role then 1 else -1 end;
          else
            -- a column, what it is cast to, an operator, values
            cast_to := null;
            operator := null;
            value_texts := null;
            found_text := regexp_match(piece, '^(' || id || ') IS (NOT )?(NULL|TRUE|FALSE)$');
            if found_text is not null then
              operator := case when found_text[2] is null then 'is' else 'not.is' end;
              value_texts := array[lower(found_text[3])];
            elsif piece ~ ('^NOT ' || id || '$') then
              found_text := array[substr(piece, 5)];
              operator := 'eq';
              value_texts := array['false'];
            else
              found_text := regexp_match(
                piece,
                '^({[^{}]*}|-?[0-9.]+|''[0-9]+''(?:::[^=]*)?) = (' || id || '(?:::[a-z ]+)?)$');
              piece := coalesce(found_text[2] || ' = ' || found_text[1], piece);
              found_text := regexp_match(
                piece,
                '^(' || id || ')(?:::([a-z ]+))? (=|<>|<|<=|>|>=|=ANY|<>ALL) (.+)$');
              cast_to := found_text[2];
              operator := case found_text[3]
                when '=' then 'eq' when '<>' then 'neq' when '<' then 'lt' when '<=' then 'lte' when '>' then 'gt'
                when '>=' then 'gte' when '=ANY' then 'in' when '<>ALL' then 'not.in' end;
            end if;
            if operator is null then
              fault := case
                when piece ~ '^NOT ' then 'it says NOT of more than one column: turn it round, and state it by hand'
                when piece ~ '{sub:[^{}]*} IS NOT NULL'
                  then 'it asks whether the token has claim sub, which a row filter does not'
                else unknown || piece end;
              exit;
            end if;
            column_name := case when found_text[1] like '"%' then quoted[btrim(found_text[1], '"')::int]
                                else found_text[1] end;
            kind := null;
            select case when b.typtype = 'e' then 'enum'
                        when b.typtype = 'c' or b.typcategory = 'A' then 'structured'
                        else format_type(b.oid, null) end,
                   l.collisdeterministic is not false
              into kind, is_exact
              from pg_attribute a
              join pg_type t on t.oid = a.atttypid
              join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
              left join pg_collation l on l.oid = a.attcollation
             where a.attrelid = watched.oid and a.attname = column_name and a.attnum > 0;
            if kind is null then
              fault := unknown || piece;
            elsif operator like '%is' then
              fault := case
                when value_texts[1] = 'null' and kind in ('json', 'jsonb', 'structured')
                  then format('it asks whether column %s is null, which in JSON says something else', column_name)
                when value_texts[1] <> 'null' and kind <> 'boolean' then unknown || piece end;
            elsif not is_exact or kind <> all (exact) then
              fault := format('it compares column %s of type %s, of which equal values are not the same text',
                              column_name, kind);
            elsif operator in ('lt', 'lte', 'gt', 'gte')
              and kind <> all (
                whole || array['numeric', 'date', 'timestamp with time zone', 'timestamp without time zone']) then
              fault := format('it compares column %s by an order that a relay does not have', column_name);
            elsif cast_to is not null and not (
              kind in ('text', 'character varying') and cast_to = 'text'
              or kind = any (whole) and cast_to in ('integer', 'bigint', 'numeric')
              or kind = 'enum' and cast_to = 'text'
              or kind = 'uuid' and cast_to = 'text' and found_text[4] = '{sub:text}') then
              fault := format('it compares column %s as %s, and a relay as %s: if that is the same, state it by hand',
                              column_name, cast_to, kind);
            end if;
            exit when fault is not null;
            column_name := case when column_name ~ plain then column_name
                                else '"' || regexp_replace(column_name, '(["\\])', '\\\1', 'g') || '"' end;
            if found_text[4] ~ '^{[^{}]+}$' and operator = 'eq' then
              operand := regexp_replace(found_text[4], ':[^:]*}$', '}');
              if exists (select from rowcast.claim c where '{' || c.name || '}' = operand) then
                fault := format('claim %s is one that rowcast.claim has stated, and not the token''s', operand);
                exit;
              end if;
              members := members || format('%s.eq.%s', column_name, operand);
              alone := alone || format('%s=eq.%s', column_name, operand);
            else
              if value_texts is null then
                value_texts := '{}';
                conditions := case when operator like '%in'
                                   then string_to_array(substr(found_text[4], 2, length(found_text[4]) - 2), ', ')
                                   else array[found_text[4]] end;
                foreach piece in array conditions loop
                  parts := regexp_match(piece, '^(?:''([0-9]+)''|(-?[0-9.]+|true|false))((?:::[a-z0-9_". ]+)*)$');
                  if parts is null
                     or kind like any (array['date', 'timestamp%']) and parts[3] <> '::' || kind
                     or kind <> 'enum' and parts[3] ~ '[."]'
                     or kind = any (whole) and coalesce(quoted[parts[1]::int], parts[2]) !~ '^-?[0-9]+$' then
                    fault := unknown || before;
                    exit;
                  end if;
                  value_texts := value_texts || coalesce(quoted[parts[1]::int], parts[2]);
                end loop;
                exit when fault is not null;
              end if;
              operand := (
                select string_agg(case when v.text ~ '^[A-Za-z0-9_.:+-]+$' then v.text
                                       else '"' || regexp_replace(v.text, '(["\\])', '\\\1', 'g') || '"' end,
                                  ',' order by v.place)
                  from unnest(value_texts) with ordinality v(text, place));
              if operator like '%in' then
                if operand ~ '[{}]' then
                  fault := 'it has a list with braces in it, which are those of claims in a row filter';
                  exit;
                end if;
                operand := '(' || operand || ')';
              end if;
              members := members || format('%s.%s.%s', column_name, operator, operand);
              alone := alone || case when operand ~ '["&]' then format('and=(%s)', members[cardinality(members)])
                                     else format('%s=%s.%s', column_name, operator, operand) end;
            end if;
            sure := sure || 0;
          end if;
          expression := overlay(
            expression placing format('#%s#', cardinality(members))
            from position('(' || before || ')' in expression) for length(before) + 2);
        end loop;
        if fault like unknown || '%' then
          fault := unknown || left(regexp_replace(asked.qual, '\s+', ' ', 'g'), 300);
        end if;
        n := case when fault is null then btrim(expression, '#')::int end;
        names := names || asked.polname;
        are_permissive := are_permissive || asked.polpermissive;
        faults := faults || fault;
        notes := notes || note;
        their_members := their_members || members[n];
        their_alone := their_alone || alone[n];
        their_sure := their_sure || sure[n];
      end loop;

      -- one call for the role: one of the permissive policies, and all that are restrictive
      select case when not bool_or(p.is_permissive)
                    then 'no permissive policy is for this role, so it sees nothing'
                  when bool_or(not p.is_permissive and p.fault is not null)
                    then format('restrictive policies are conjunctions, and %s cannot be stated',
                                string_agg(quote_ident(p.name), ', ')
                                  filter (where not p.is_permissive and p.fault is not null))
                  when bool_or(not p.is_permissive and p.sure = -1)
                       or bool_and(p.fault is null) and not bool_or(p.is_permissive and p.sure >= 0)
                    then 'it shows nothing, so there is nothing to allow'
                  when not bool_or(p.is_permissive and coalesce(p.sure, -1) >= 0) then '' end,
             concat_ws(
               '&',
               case when bool_or(p.is_permissive and p.sure = 1) then null
                    when count(*) filter (where p.is_permissive and p.sure = 0) = 1
                      then min(p.alone) filter (where p.is_permissive and p.sure = 0)
                    else format('or=(%s)', string_agg(p.member, ',' order by p.name)
                                             filter (where p.is_permissive and p.sure = 0)) end,
               string_agg(p.alone, '&' order by p.name) filter (where not p.is_permissive and p.sure = 0))
        into refused, filter
        from unnest(names, are_permissive, faults, their_members, their_alone, their_sure)
             p(name, is_permissive, fault, member, alone, sure);
      filter := nullif(filter, '');
      -- the columns that the role may read, where there is such a role in the database
      columns := null;
      if refused is null and exists (select from pg_roles r where r.rolname = role)
         and not has_table_privilege(role, watched.oid, 'select') then
        columns := array(select a.attname::text from pg_attribute a
                          where a.attrelid = watched.oid and a.attnum > 0 and not a.attisdropped
                            and has_column_privilege(role, watched.oid, a.attnum, 'select')
                          order by a.attnum);
        refused := case when columns = '{}' then format('role %s has no right to select from the table', role) end;
      end if;
      if refused is null and filter is not null then
        begin
          perform rowcast.check_filter(coalesce(entry.name, ''), filter);
        exception when others then
          refused := sqlerrm;
        end;
      end if;
      call := null;
      if refused is null then
        call := coalesce(
          (select string_agg(format('select rowcast.claim(%L, %L);', c.name, c.query), E'\n' order by c.place)
             from unnest(claim_names, claim_queries) with ordinality c(name, query, place)
            where position('{' || c.name || '}' in filter) > 0) || E'\n', '')
          || 'select rowcast.allow('
          || array_to_string(array[quote_literal(coalesce(entry.name, watched.relname)), quote_literal(role),
                                   coalesce(quote_literal(filter), case when columns is not null then 'null' end),
                                   quote_literal(columns)], ', ')
          || ');';
      end if;
      for n in 1 .. cardinality(names) loop
        policy := names[n];
        problem := nullif(concat_ws(
          '; ',
          faults[n],
          nullif(refused, ''),
          notes[n],
          case when call is not null and cardinality(names) > 1 then
            'one call for all policies of role ' || role
            || coalesce(', without ' || (select string_agg(quote_ident(p.name), ', ')
                                           from unnest(names, faults) p(name, fault)
                                          where p.fault is not null), '') end,
          case when entry.id is null
               then format('the table is not watched: select rowcast.watch(%L);', watched.oid::regclass) end,
          case when not watched.relrowsecurity then 'row security is not enabled for the table' end), '');
        return next;
      end loop;
    end loop;
  end loop;
end $$;
comment on function rowcast.row_security(regclass) is
  'what row security shows, as calls of rowcast.allow: select * from rowcast.row_security(''public.pets'')';
