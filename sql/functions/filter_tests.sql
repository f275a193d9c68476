-- rowcast.filter_tests(row_filter) -> setof record: the tests of a policy's row filter, in their order
--   condition    number of the condition, between which stands &: 1, 2, ..
--   column       the column that is tested
--   operator     eq, in, ..; without 'not.' in front of it
--   operand      the value as it is meant, without the quotes; of in with its parentheses
--   is_quoted    the operand stood in quotes: braces are characters then
--   shown        the test as it is written, for people
--   problem      why the condition cannot be read
-- The grammar is that of src/condition.rs, read in the same way: column=[not.]operator.value, or a group:
-- [not.]or=(column.operator.value,and(..),..). One loop goes from character to character, and remembers in how many
-- groups it is; what is read next is a member of a group, its end, or a condition.
-- tables touched: none
create or replace function rowcast.filter_tests(
  row_filter text,
  out condition int,
  out "column" text,
  out operator text,
  out operand text,
  out is_quoted bool,
  out shown text,
  out problem text)
returns setof record
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
declare
  -- what stands in quotes, and what ends a member
  in_quotes constant text := '^"(([^"\\]|\\.)*)"';
  form constant text :=
    'a group is or=(a.eq.1,b.gt.2), with values that hold a comma or a parenthesis in double quotes';
  -- of a list: in quotes, or as it is where no quotes are closed
  element constant text := '(?:"(?:[^"\\]|\\.)*"|(?!"(?:[^"\\]|\\.)*")[^,)]*)';
  rest text := row_filter;
  parts text[];
  value text;
  depth int;
begin
  condition := 1;
  loop
    parts := regexp_match(rest, '^(?:not[.])?(?:or|and)=[ \t]*([(].*)$');
    if parts is null then
      -- a column in quotes may hold any character
      parts := regexp_match(rest, in_quotes || '=(.*)$');
      if parts is not null then
        "column" := regexp_replace(parts[1], '\\(.)', '\1', 'g');
        value := split_part(parts[3], '&', 1);
        rest := substr(parts[3], length(value) + 1);
        shown := format('"%s"=%s', parts[1], value);
      else
        shown := split_part(rest, '&', 1);
        rest := substr(rest, length(shown) + 1);
        "column" := split_part(shown, '=', 1);
        value := substr(shown, length("column") + 2);
      end if;
      parts := regexp_match(case when value like 'not.%' then substr(value, 5) else value end, '^([^.]*)[.](.*)$');
      operator := parts[1];
      operand := parts[2];
      is_quoted := false;
      problem := case when parts is null then 'write it as column=operator.value, such as user_id=eq.{sub}' end;
      return next;
    else
      rest := substr(parts[1], 2);
      depth := 1;
      problem := null;
      while depth > 0 and problem is null loop
        -- a member: first the groups that begin with it
        rest := ltrim(rest, E' \t');
        parts := regexp_match(rest, '^(?:not[.])?(?:or|and)[ \t]*[(](.*)$');
        if parts is not null then
          depth := depth + 1;
          rest := parts[1];
          problem := case when depth > 10 then 'groups lie in each other more than 10 deep' end;
          continue;
        end if;
        parts := regexp_match(rest, in_quotes || '[ \t]*[.](.*)$');
        if parts is not null then
          "column" := regexp_replace(parts[1], '\\(.)', '\1', 'g');
          rest := parts[3];
        else
          parts := regexp_match(rest, '^([^.,()"]+)[.](.*)$');
          "column" := btrim(parts[1], E' \t');
          rest := parts[2];
        end if;
        rest := case when rest like 'not.%' then substr(rest, 5) else rest end;
        parts := regexp_match(rest, '^([^.,()"]+)[.](.*)$');
        if coalesce("column", '') = '' or parts is null then
          problem := 'in a group write column.operator.value, such as or=(user_id.eq.{sub},open.is.true)';
          continue;
        end if;
        operator := parts[1];
        rest := parts[2];
        -- its value: a list, in quotes, in braces, or as it is
        is_quoted := false;
        if operator = 'in' and rest like '(%' then
          operand := substring(rest from '^[(](?:' || element || ',)*' || element || '[)]');
          if operand is null then
            problem := 'in takes a list: in.(1,2,3), with values that hold a comma in double quotes';
            continue;
          end if;
          rest := substr(rest, length(operand) + 1);
        else
          parts := regexp_match(rest, in_quotes || '(?=[ \t]*(?:[,)]|$))');
          is_quoted := parts is not null;
          if is_quoted then
            operand := regexp_replace(parts[1], '\\(.)', '\1', 'g');
            rest := regexp_replace(rest, in_quotes, '');
          else
            operand := coalesce(
              substring(rest from '^[{][^{}]*[}]'),
              rtrim(substring(rest from '^[^,)]*'), E' \t'));
            rest := substr(rest, length(operand) + 1);
          end if;
        end if;
        shown := format('%s.%s.%s', "column", operator, operand);
        return next;
        -- what stands behind it: the ends of groups, then a comma
        rest := ltrim(rest, E' \t');
        while depth > 0 and rest like ')%' loop
          depth := depth - 1;
          rest := ltrim(substr(rest, 2), E' \t');
        end loop;
        if depth > 0 then
          problem := case when rest not like ',%' then form end;
          rest := substr(rest, 2);
        elsif rest not like '&%' and rest <> '' then
          problem := 'something stands behind its last parenthesis';
        end if;
      end loop;
      if problem is not null then
        "column" := null;
        operator := null;
        operand := null;
        is_quoted := null;
        shown := row_filter;
        return next;
        -- where the next one begins cannot be told
        return;
      end if;
    end if;
    exit when rest = '';
    rest := substr(rest, 2);
    condition := condition + 1;
  end loop;
end $$;
comment on function rowcast.filter_tests(text) is 'the tests of a policy''s row filter, in groups too, in their order';
