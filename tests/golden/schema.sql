-- What an installation consists of, without the bodies of functions and views: `make schema-dump` writes this file.
CREATE SCHEMA rowcast;
ALTER SCHEMA rowcast OWNER TO installer;

COMMENT ON SCHEMA rowcast IS 'rowcast: committed row changes, on their way to WebSocket clients. Start with: select * from rowcast.health';

CREATE FUNCTION rowcast.actor() RETURNS text
    LANGUAGE sql STABLE
    AS …;
ALTER FUNCTION rowcast.actor() OWNER TO installer;

COMMENT ON FUNCTION rowcast.actor() IS 'who writes: the setting rowcast.actor, else session user and application name';

CREATE FUNCTION rowcast.adopt() RETURNS TABLE(channel text, done text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.adopt() OWNER TO installer;

COMMENT ON FUNCTION rowcast.adopt() IS 'takes channels over after pg_upgrade, where tables and columns have the numbers that they had';

CREATE FUNCTION rowcast.allow(channel text, role text, row_filter text DEFAULT NULL::text, columns text[] DEFAULT NULL::text[], actor boolean DEFAULT NULL::boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.allow(channel text, role text, row_filter text, columns text[], actor boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.allow(channel text, role text, row_filter text, columns text[], actor boolean) IS 'lets a role see a channel: select rowcast.allow(''pets'', ''owner'', ''user_id=eq.{sub}'', ''{pet_id,name}'')';

CREATE FUNCTION rowcast.append(channel integer, op "char", old json, new json, actor text, users text[]) RETURNS boolean
    LANGUAGE plpgsql
    AS …;
ALTER FUNCTION rowcast.append(channel integer, op "char", old json, new json, actor text, users text[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.append(channel integer, op "char", old json, new json, actor text, users text[]) IS 'writes one row into the outbox; says whether the doorbell is to be rung';

CREATE FUNCTION rowcast.append_brief(channel integer, op "char", old json, new json, actor text, users text[]) RETURNS boolean
    LANGUAGE plpgsql
    AS …;
ALTER FUNCTION rowcast.append_brief(channel integer, op "char", old json, new json, actor text, users text[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.append_brief(channel integer, op "char", old json, new json, actor text, users text[]) IS 'the same for tables that are kept briefly';

CREATE FUNCTION rowcast.bell_lock() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS …;
ALTER FUNCTION rowcast.bell_lock() OWNER TO installer;

COMMENT ON FUNCTION rowcast.bell_lock() IS 'the first number of this installation''s advisory locks';

CREATE FUNCTION rowcast.bell_mode() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS …;
ALTER FUNCTION rowcast.bell_mode() OWNER TO installer;

COMMENT ON FUNCTION rowcast.bell_mode() IS 'how the doorbell rings: row, empty, always or never; set by rowcast.configure(''notify'', ..)';

CREATE FUNCTION rowcast.bind_policies(channel text, role text, target regclass, origin text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.bind_policies(channel text, role text, target regclass, origin text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.bind_policies(channel text, role text, target regclass, origin text) IS 'notes which columns policies mean by the names in them';

CREATE FUNCTION rowcast.bound_outbox() RETURNS void
    LANGUAGE plpgsql
    AS …;
ALTER FUNCTION rowcast.bound_outbox() OWNER TO installer;

COMMENT ON FUNCTION rowcast.bound_outbox() IS 'stops capture where the outbox has outgrown its size';

CREATE FUNCTION rowcast.bound_outbox_brief() RETURNS void
    LANGUAGE plpgsql
    AS …;
ALTER FUNCTION rowcast.bound_outbox_brief() OWNER TO installer;

COMMENT ON FUNCTION rowcast.bound_outbox_brief() IS 'the same of tables that are kept briefly';

CREATE FUNCTION rowcast.capture() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS …;
ALTER FUNCTION rowcast.capture() OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.capture() IS 'row trigger of watched tables: writes the change into the outbox and rings the doorbell';

CREATE FUNCTION rowcast.capture_brief() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS …;
ALTER FUNCTION rowcast.capture_brief() OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.capture_brief() IS 'the same of tables that are kept briefly';

CREATE FUNCTION rowcast.capture_brief_plpgsql() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS …;
ALTER FUNCTION rowcast.capture_brief_plpgsql() OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.capture_brief_plpgsql() IS 'the same of tables that are kept briefly';

CREATE FUNCTION rowcast.capture_by(code text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.capture_by(code text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.capture_by(code text) IS 'chooses what captures plain changes: plpgsql or native';

CREATE FUNCTION rowcast.capture_large(op "char", o anyelement, n anyelement, rel oid, root oid, channel integer, attnums smallint[], names text[], allowed smallint[], OUT what "char", OUT old json, OUT new json) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    SET bytea_output TO 'hex'
    SET extra_float_digits TO '1'
    SET "DateStyle" TO 'ISO'
    AS …;
ALTER FUNCTION rowcast.capture_large(op "char", o anyelement, n anyelement, rel oid, root oid, channel integer, attnums smallint[], names text[], allowed smallint[], OUT what "char", OUT old json, OUT new json) OWNER TO installer;

COMMENT ON FUNCTION rowcast.capture_large(op "char", o anyelement, n anyelement, rel oid, root oid, channel integer, attnums smallint[], names text[], allowed smallint[], OUT what "char", OUT old json, OUT new json) IS 'images of a change of a large row';

CREATE FUNCTION rowcast.capture_pinned(op "char", o anyelement, n anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[], OUT old json, OUT new json) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    SET bytea_output TO 'hex'
    SET extra_float_digits TO '1'
    SET "DateStyle" TO 'ISO'
    AS …;
ALTER FUNCTION rowcast.capture_pinned(op "char", o anyelement, n anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[], OUT old json, OUT new json) OWNER TO installer;

COMMENT ON FUNCTION rowcast.capture_pinned(op "char", o anyelement, n anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[], OUT old json, OUT new json) IS 'images of a change under the server''s default output settings';

CREATE FUNCTION rowcast.capture_plpgsql() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS …;
ALTER FUNCTION rowcast.capture_plpgsql() OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.capture_plpgsql() IS 'the same in PL/pgSQL, for what native capture leaves to it';

CREATE FUNCTION rowcast.capture_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.capture_truncate() OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.capture_truncate() IS 'truncate trigger of watched tables';

CREATE FUNCTION rowcast.capture_truncate_brief() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.capture_truncate_brief() OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.capture_truncate_brief() IS 'the same of tables that are kept briefly';

CREATE FUNCTION rowcast.casts_to_json(target regclass) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.casts_to_json(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.casts_to_json(target regclass) IS 'whether the text of a table''s rows is made by a function of an extension';

CREATE FUNCTION rowcast.check_filter(channel text, row_filter text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.check_filter(channel text, row_filter text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.check_filter(channel text, row_filter text) IS 'raises unless a relay understands this row filter of a policy';

CREATE FUNCTION rowcast.claim(name text, query text, follows regclass[] DEFAULT NULL::regclass[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'on'
    SET jit TO 'off'
    SET row_security TO 'off'
    SET client_min_messages TO 'warning'
    AS …;
ALTER FUNCTION rowcast.claim(name text, query text, follows regclass[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.claim(name text, query text, follows regclass[]) IS 'states a claim whose values a query reads: select rowcast.claim(''clinics'', ''select clinic_id from public.staff where user_id = {sub}::int'')';

CREATE FUNCTION rowcast.claim_body(query text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.claim_body(query text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.claim_body(query text) IS 'a claim''s query as a part of a statement over all holders';

CREATE FUNCTION rowcast.claim_holder(query text, checked regclass, OUT relation regclass, OUT "column" text) RETURNS record
    LANGUAGE plpgsql STABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.claim_holder(query text, checked regclass, OUT relation regclass, OUT "column" text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.claim_holder(query text, checked regclass, OUT relation regclass, OUT "column" text) IS 'the table and column of a claim''s query that say whose a row is; null where none is found for sure';

CREATE FUNCTION rowcast.claim_reads(checked regclass, OUT relation regclass, OUT columns text[], OUT problem text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.claim_reads(checked regclass, OUT relation regclass, OUT columns text[], OUT problem text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.claim_reads(checked regclass, OUT relation regclass, OUT columns text[], OUT problem text) IS 'the tables that a view reads, and why they cannot be followed';

CREATE FUNCTION rowcast.configure(name text, value text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.configure(name text, value text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.configure(name text, value text) IS 'changes a setting kept in the database: notify, retention, outbox_size, brief_retention, brief_size, row_bytes, capture, actor or order';

CREATE FUNCTION rowcast.create_channel(name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.create_channel(name text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.create_channel(name text) IS 'makes a channel without a table, for rowcast.publish';

CREATE FUNCTION rowcast.cursor() RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.cursor() OWNER TO installer;

COMMENT ON FUNCTION rowcast.cursor() IS 'the position of the statement that calls it, for `since` and `sync`';

CREATE FUNCTION rowcast.deny(channel text, role text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.deny(channel text, role text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.deny(channel text, role text) IS 'takes a role''s access to a channel back';
CREATE TABLE rowcast.policy (
    channel text NOT NULL,
    role text NOT NULL,
    row_filter text,
    columns text[],
    stated_at timestamp with time zone DEFAULT now() NOT NULL,
    stated_by text DEFAULT SESSION_USER NOT NULL,
    floor pg_snapshot,
    actor boolean DEFAULT true NOT NULL,
    target_oid oid,
    origin text,
    named text[] DEFAULT '{}'::text[] NOT NULL,
    attnums smallint[] DEFAULT '{}'::smallint[] NOT NULL,
    CONSTRAINT policy_columns_have_names CHECK ((array_position(columns, NULL::text) IS NULL)),
    CONSTRAINT policy_filter_is_not_empty CHECK ((row_filter <> ''::text))
);
ALTER TABLE rowcast.policy OWNER TO installer;

COMMENT ON TABLE rowcast.policy IS 'who may see what; change it with rowcast.allow and rowcast.deny, audit it with rowcast.exposure';

COMMENT ON COLUMN rowcast.policy.floor IS 'sees everything from before the policy was stated or changed: nothing of that is shown by it';

COMMENT ON COLUMN rowcast.policy.actor IS 'whether its holders are told who wrote';

COMMENT ON COLUMN rowcast.policy.target_oid IS 'the table that fed the channel when the policy was bound to columns';

COMMENT ON COLUMN rowcast.policy.origin IS 'rowcast.origin() then';

COMMENT ON COLUMN rowcast.policy.named IS 'the columns that it names, in columns and in row_filter';

COMMENT ON COLUMN rowcast.policy.attnums IS 'their numbers then; 0: there was none';

CREATE FUNCTION rowcast.drifted_names(policy rowcast.policy) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.drifted_names(policy rowcast.policy) OWNER TO installer;

COMMENT ON FUNCTION rowcast.drifted_names(policy rowcast.policy) IS 'the names in a policy that another column has taken since it was stated';

CREATE FUNCTION rowcast.drop_channel(name text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.drop_channel(name text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.drop_channel(name text) IS 'removes a channel that has no table';

CREATE FUNCTION rowcast.drop_claim(name text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.drop_claim(name text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.drop_claim(name text) IS 'takes a claim back';

CREATE FUNCTION rowcast.dump() RETURNS SETOF text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.dump() OWNER TO installer;

COMMENT ON FUNCTION rowcast.dump() IS 'the calls that state what is stated here, one a row';

CREATE FUNCTION rowcast.filter_tests(row_filter text, OUT condition integer, OUT "column" text, OUT operator text, OUT operand text, OUT is_quoted boolean, OUT shown text, OUT problem text) RETURNS SETOF record
    LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.filter_tests(row_filter text, OUT condition integer, OUT "column" text, OUT operator text, OUT operand text, OUT is_quoted boolean, OUT shown text, OUT problem text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.filter_tests(row_filter text, OUT condition integer, OUT "column" text, OUT operator text, OUT operand text, OUT is_quoted boolean, OUT shown text, OUT problem text) IS 'the tests of a policy''s row filter, in groups too, in their order';

CREATE FUNCTION rowcast.floor_now() RETURNS pg_snapshot
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.floor_now() OWNER TO installer;

COMMENT ON FUNCTION rowcast.floor_now() IS 'the present snapshot with this transaction in it';

CREATE FUNCTION rowcast.follow(target regclass, columns text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.follow(target regclass, columns text[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.follow(target regclass, columns text[]) IS 'has columns of a table captured for claims';

CREATE FUNCTION rowcast.forget_role(role name) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.forget_role(role name) OWNER TO installer;

COMMENT ON FUNCTION rowcast.forget_role(role name) IS 'takes back a right of use that is of no use any more';

CREATE FUNCTION rowcast.free_channel(target regclass, prefix text DEFAULT ''::text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.free_channel(target regclass, prefix text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.free_channel(target regclass, prefix text) IS 'a channel''s name for a table that no other table has';

CREATE FUNCTION rowcast.give_rule(rule regprocedure, owner name) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.give_rule(rule regprocedure, owner name) OWNER TO installer;

COMMENT ON FUNCTION rowcast.give_rule(rule regprocedure, owner name) IS 'gives the function of a user rule to the table''s owner';

CREATE FUNCTION rowcast.grant_added(target regclass) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.grant_added(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.grant_added(target regclass) IS 'lets the relay read columns that were added beside excluded ones';

CREATE FUNCTION rowcast.grant_snapshot(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.grant_snapshot(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.grant_snapshot(target regclass) IS 'lets the relay read a watched table for snapshots';

CREATE FUNCTION rowcast.holders(relation regclass, readers boolean DEFAULT false) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.holders(relation regclass, readers boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.holders(relation regclass, readers boolean) IS 'who holds a lock on a relation';

CREATE FUNCTION rowcast.install_triggers(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.install_triggers(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.install_triggers(target regclass) IS 'gives a watched table its triggers';

CREATE FUNCTION rowcast.install_user_query(target regclass, query text, suffix text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.install_user_query(target regclass, query text, suffix text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.install_user_query(target regclass, query text, suffix text) IS 'makes the trigger function of a user rule that is a query';

CREATE FUNCTION rowcast.is_plain(arguments text[]) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS …;
ALTER FUNCTION rowcast.is_plain(arguments text[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.is_plain(arguments text[]) IS 'whether nothing is special about a table, as this session writes it';

CREATE FUNCTION rowcast.json_differing(old json, new json) RETURNS json
    LANGUAGE plpgsql
    AS …;
ALTER FUNCTION rowcast.json_differing(old json, new json) OWNER TO installer;

COMMENT ON FUNCTION rowcast.json_differing(old json, new json) IS 'of an old image the columns that differ';

CREATE FUNCTION rowcast.json_key(r anyelement, rel oid, channel integer) RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.json_key(r anyelement, rel oid, channel integer) OWNER TO installer;

COMMENT ON FUNCTION rowcast.json_key(r anyelement, rel oid, channel integer) IS 'the key of a row that is too large to be told whole';

CREATE FUNCTION rowcast.json_within(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.json_within(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.json_within(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) IS 'a row''s JSON; null where it is longer than row_bytes';

CREATE FUNCTION rowcast.json_without(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) RETURNS json
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS …;
ALTER FUNCTION rowcast.json_without(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.json_without(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) IS 'a row''s JSON with the columns emptied that may not leave';

CREATE FUNCTION rowcast.keep_briefly(target regclass, briefly boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS …;
ALTER FUNCTION rowcast.keep_briefly(target regclass, briefly boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.keep_briefly(target regclass, briefly boolean) IS 'keeps a table''s changes for brief_retention, in an outbox of their own: for one that writes more than all others';

CREATE FUNCTION rowcast.keep_excluded() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.keep_excluded() OWNER TO installer;

COMMENT ON FUNCTION rowcast.keep_excluded() IS 'excludes by number what has the name of an excluded column';

CREATE FUNCTION rowcast.lock_for_triggers(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS …;
ALTER FUNCTION rowcast.lock_for_triggers(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.lock_for_triggers(target regclass) IS 'takes a table''s lock for trigger changes without making writers queue';

CREATE FUNCTION rowcast.members(holders text[], OUT claim text, OUT holder text, OUT canonical text, OUT members text[], OUT problem text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS …;
ALTER FUNCTION rowcast.members(holders text[], OUT claim text, OUT holder text, OUT canonical text, OUT members text[], OUT problem text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.members(holders text[], OUT claim text, OUT holder text, OUT canonical text, OUT members text[], OUT problem text) IS 'the values of every claim, of each of these holders';

CREATE FUNCTION rowcast.note_durable() RETURNS pg_lsn
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.note_durable() OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_durable() IS 'notes how far the log is flushed';

CREATE FUNCTION rowcast.note_exposure() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.note_exposure() OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_exposure() IS 'trigger of rowcast.channel: from when on something may be seen, and under which names columns were excluded';

CREATE FUNCTION rowcast.note_forms() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.note_forms() OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_forms() IS 'tells subscribers where the rows of a table say something else than before';

CREATE FUNCTION rowcast.note_left_out(briefly boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.note_left_out(briefly boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_left_out(briefly boolean) IS 'raises the floor where changes were left out';

CREATE FUNCTION rowcast.note_life() RETURNS TABLE(number integer, life text, bound pg_lsn)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '2s'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS …;
ALTER FUNCTION rowcast.note_life() OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_life() IS 'notes the present life of the server; gives all of them';

CREATE FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot) OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot) IS 'the same of a program that does not say which version of the schema it is of';

CREATE FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot, knows integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    AS …;
ALTER FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot, knows integer) OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot, knows integer) IS 'a node says that it lives, and what it has not read';

CREATE FUNCTION rowcast.note_tables() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.note_tables() OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_tables() IS 'notes the tables that are not new';

CREATE FUNCTION rowcast.note_tally(OUT channel text, OUT rows bigint) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS …;
ALTER FUNCTION rowcast.note_tally(OUT channel text, OUT rows bigint) OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_tally(OUT channel text, OUT rows bigint) IS 'compares what was written into watched tables with what was captured; channels where nothing was';

CREATE FUNCTION rowcast.note_watch(target regclass, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean, prefix text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.note_watch(target regclass, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean, prefix text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.note_watch(target regclass, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean, prefix text) IS 'notes that a table is watched, and how';

CREATE FUNCTION rowcast.notify(user_id text, notification_type text, data jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.notify(user_id text, notification_type text, data jsonb) OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.notify(user_id text, notification_type text, data jsonb) IS 'sends a notification to one user when the transaction commits';

CREATE FUNCTION rowcast.origin() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.origin() OWNER TO installer;

COMMENT ON FUNCTION rowcast.origin() IS 'the cluster and the database in it';

CREATE FUNCTION rowcast.output_deviates() RETURNS boolean
    LANGUAGE sql STABLE
    AS …;
ALTER FUNCTION rowcast.output_deviates() OWNER TO installer;

COMMENT ON FUNCTION rowcast.output_deviates() IS 'whether text of this session differs from that of the defaults';

CREATE FUNCTION rowcast.pause() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.pause() OWNER TO installer;

COMMENT ON FUNCTION rowcast.pause() IS 'stops capture at once, of every table, without a lock on any of them; rowcast.resume() ends it';

CREATE FUNCTION rowcast.present_life() RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.present_life() OWNER TO installer;

COMMENT ON FUNCTION rowcast.present_life() IS 'what tells the present life of the server from any other';

CREATE FUNCTION rowcast.prune() RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.prune() OWNER TO installer;

COMMENT ON FUNCTION rowcast.prune() IS 'drops changes older than the retention, a segment at a time';

CREATE FUNCTION rowcast.prune_part(briefly boolean) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS …;
ALTER FUNCTION rowcast.prune_part(briefly boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.prune_part(briefly boolean) IS 'what rowcast.prune does with the outbox, or with that of tables that are kept briefly';

CREATE FUNCTION rowcast.publish(channel text, action text, data jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.publish(channel text, action text, data jsonb) OWNER TO rowcast_capture;

COMMENT ON FUNCTION rowcast.publish(channel text, action text, data jsonb) IS 'sends a realtime_update on a channel when the transaction commits';

CREATE FUNCTION rowcast.raise_floor(channel_id integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.raise_floor(channel_id integer) OWNER TO installer;

COMMENT ON FUNCTION rowcast.raise_floor(channel_id integer) IS 'what of a channel was captured until now is told to nobody any more who comes back';

CREATE FUNCTION rowcast.refuse_beside_relays() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.refuse_beside_relays() OWNER TO installer;

COMMENT ON FUNCTION rowcast.refuse_beside_relays() IS 'raises where a relay is connected';

CREATE FUNCTION rowcast.refuse_unwatchable(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.refuse_unwatchable(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.refuse_unwatchable(target regclass) IS 'raises where a table cannot be watched, with the remedy';

CREATE FUNCTION rowcast.remove_triggers(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    AS …;
ALTER FUNCTION rowcast.remove_triggers(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.remove_triggers(target regclass) IS 'drops rowcast''s triggers from a table';

CREATE FUNCTION rowcast.resume() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.resume() OWNER TO installer;

COMMENT ON FUNCTION rowcast.resume() IS 'ends rowcast.pause(): changes are captured again';

CREATE FUNCTION rowcast.revoke(user_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.revoke(user_id text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.revoke(user_id text) IS 'closes every socket of a user, on every relay, and refuses the tokens that were issued until now';

CREATE FUNCTION rowcast.revoke_snapshot(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'error'
    AS …;
ALTER FUNCTION rowcast.revoke_snapshot(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.revoke_snapshot(target regclass) IS 'takes the right to read a table back from the relay';

CREATE FUNCTION rowcast.ring(channel text, op "char", data json) RETURNS void
    LANGUAGE plpgsql
    AS …;
ALTER FUNCTION rowcast.ring(channel text, op "char", data json) OWNER TO installer;

COMMENT ON FUNCTION rowcast.ring(channel text, op "char", data json) IS 'rings the doorbell; never raises';

CREATE FUNCTION rowcast.row_bytes() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS …;
ALTER FUNCTION rowcast.row_bytes() OWNER TO installer;

COMMENT ON FUNCTION rowcast.row_bytes() IS 'bytes of JSON of the largest row that is told whole; set by rowcast.configure(''row_bytes'', ..)';

CREATE FUNCTION rowcast.row_security(target regclass DEFAULT NULL::regclass, OUT "table" regclass, OUT policy name, OUT call text, OUT problem text, OUT role text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, YMD'
    AS …;
ALTER FUNCTION rowcast.row_security(target regclass, OUT "table" regclass, OUT policy name, OUT call text, OUT problem text, OUT role text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.row_security(target regclass, OUT "table" regclass, OUT policy name, OUT call text, OUT problem text, OUT role text) IS 'what row security shows, as calls of rowcast.allow: select * from rowcast.row_security(''public.pets'')';

CREATE FUNCTION rowcast.serves() RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.serves() OWNER TO installer;

COMMENT ON FUNCTION rowcast.serves() IS 'the oldest version of the schema whose programs work with this one';

CREATE FUNCTION rowcast.singular(name text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.singular(name text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.singular(name text) IS 'guesses the singular of an English table name';

CREATE FUNCTION rowcast.state_schema(name text, INOUT prefix text, INOUT except_tables text[], future boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.state_schema(name text, INOUT prefix text, INOUT except_tables text[], future boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.state_schema(name text, INOUT prefix text, INOUT except_tables text[], future boolean) IS 'notes how a schema is watched';

CREATE FUNCTION rowcast.supersede(old text, new text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.supersede(old text, new text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.supersede(old text, new text) IS 'drops a function of an earlier version';

CREATE FUNCTION rowcast.take_publishing(instance text, since timestamp with time zone, replaces boolean) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.take_publishing(instance text, since timestamp with time zone, replaces boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.take_publishing(instance text, since timestamp with time zone, replaces boolean) IS 'makes the calling session the publisher, if there is none';

CREATE FUNCTION rowcast.tell_policy(channel text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.tell_policy(channel text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.tell_policy(channel text) IS 'makes every relay read the policies again';

CREATE FUNCTION rowcast.types_within(type oid) RETURNS SETOF oid
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.types_within(type oid) OWNER TO installer;

COMMENT ON FUNCTION rowcast.types_within(type oid) IS 'a type, and those that its values are made of';

CREATE FUNCTION rowcast.unfollow() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.unfollow() OWNER TO installer;

COMMENT ON FUNCTION rowcast.unfollow() IS 'stops capturing the tables that no claim follows any more';

CREATE FUNCTION rowcast.uninstall() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    AS …;
ALTER FUNCTION rowcast.uninstall() OWNER TO installer;

COMMENT ON FUNCTION rowcast.uninstall() IS 'removes rowcast from this database, with everything it captured';

CREATE FUNCTION rowcast.unwatch(target regclass) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.unwatch(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.unwatch(target regclass) IS 'stops capturing a table';

CREATE PROCEDURE rowcast.unwatch_all()
    LANGUAGE plpgsql
    AS …;
ALTER PROCEDURE rowcast.unwatch_all() OWNER TO installer;

COMMENT ON PROCEDURE rowcast.unwatch_all() IS 'stops capturing every table, one in a transaction';

CREATE FUNCTION rowcast.unwatched_of(schema text, except_tables text[]) RETURNS regclass[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.unwatched_of(schema text, except_tables text[]) OWNER TO installer;

COMMENT ON FUNCTION rowcast.unwatched_of(schema text, except_tables text[]) IS 'tables of a schema that could be watched and are not';

CREATE FUNCTION rowcast.watch(target regclass, channel text DEFAULT NULL::text, user_rule text DEFAULT NULL::text, notification jsonb DEFAULT NULL::jsonb, exclude text[] DEFAULT '{}'::text[], singular text DEFAULT NULL::text, columns text[] DEFAULT NULL::text[], replicated boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.watch(target regclass, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.watch(target regclass, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean) IS 'captures every change of a table from now on: select rowcast.watch(''public.pets'')';

CREATE FUNCTION rowcast.watch_call(target text, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.watch_call(target text, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.watch_call(target text, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean) IS 'the call of rowcast.watch that states this';

CREATE PROCEDURE rowcast.watch_each(IN schema text, IN prefix text DEFAULT NULL::text, IN except_tables text[] DEFAULT NULL::text[], IN future boolean DEFAULT NULL::boolean)
    LANGUAGE plpgsql
    AS …;
ALTER PROCEDURE rowcast.watch_each(IN schema text, IN prefix text, IN except_tables text[], IN future boolean) OWNER TO installer;

COMMENT ON PROCEDURE rowcast.watch_each(IN schema text, IN prefix text, IN except_tables text[], IN future boolean) IS 'watches every table of a schema, each in a transaction of its own';

CREATE FUNCTION rowcast.watch_newcomer(target regclass) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.watch_newcomer(target regclass) OWNER TO installer;

COMMENT ON FUNCTION rowcast.watch_newcomer(target regclass) IS 'watches a new table of a schema whose future tables are watched';

CREATE FUNCTION rowcast.watch_schema(name text, prefix text DEFAULT NULL::text, except_tables text[] DEFAULT NULL::text[], future boolean DEFAULT NULL::boolean) RETURNS TABLE(target regclass, channel text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.watch_schema(name text, prefix text, except_tables text[], future boolean) OWNER TO installer;

COMMENT ON FUNCTION rowcast.watch_schema(name text, prefix text, except_tables text[], future boolean) IS 'watches every table of a schema that is not watched yet';

CREATE FUNCTION rowcast.watch_with_prefix(target regclass, prefix text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.watch_with_prefix(target regclass, prefix text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.watch_with_prefix(target regclass, prefix text) IS 'watches a table on a channel whose name begins so';

CREATE FUNCTION rowcast.who_sees(channel text, claims jsonb, key jsonb DEFAULT NULL::jsonb, OUT condition integer, OUT test text, OUT source text, OUT "values" text[], OUT total integer, OUT seen boolean, OUT verdict text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, YMD'
    AS …;
ALTER FUNCTION rowcast.who_sees(channel text, claims jsonb, key jsonb, OUT condition integer, OUT test text, OUT source text, OUT "values" text[], OUT total integer, OUT seen boolean, OUT verdict text) OWNER TO installer;

COMMENT ON FUNCTION rowcast.who_sees(channel text, claims jsonb, key jsonb, OUT condition integer, OUT test text, OUT source text, OUT "values" text[], OUT total integer, OUT seen boolean, OUT verdict text) IS 'why a client with these claims sees rows of a channel, or not: select * from rowcast.who_sees(''pets'', ''{"sub":"7","role":"vet"}'')';

CREATE FUNCTION rowcast.write_to(segment integer) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS …;
ALTER FUNCTION rowcast.write_to(segment integer) OWNER TO installer;

COMMENT ON FUNCTION rowcast.write_to(segment integer) IS 'makes new changes go to a segment of the outbox';

CREATE UNLOGGED TABLE rowcast.alive (
    incarnation integer NOT NULL
);
ALTER TABLE rowcast.alive OWNER TO installer;

COMMENT ON TABLE rowcast.alive IS 'the incarnation that goes on; emptied by a crash or a promotion';

CREATE SEQUENCE rowcast.capture_state
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    MAXVALUE 8
    CACHE 1;
ALTER TABLE rowcast.capture_state OWNER TO installer;

COMMENT ON SEQUENCE rowcast.capture_state IS 'segment that takes new changes, 0 to 2; 3 more: the outbox is full; 6 more: paused';

CREATE SEQUENCE rowcast.capture_state_brief
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    MAXVALUE 8
    CACHE 1;
ALTER TABLE rowcast.capture_state_brief OWNER TO installer;

COMMENT ON SEQUENCE rowcast.capture_state_brief IS 'the same of tables that are kept briefly: 0 to 2 are segments 3 to 5';

CREATE TABLE rowcast.channel (
    id integer NOT NULL,
    name text NOT NULL,
    target regclass,
    singular text NOT NULL,
    user_column smallint,
    user_query text,
    notification jsonb,
    exclude smallint[] DEFAULT '{}'::smallint[] NOT NULL,
    target_oid oid,
    origin text,
    given_rule text,
    given_exclude text[] DEFAULT '{}'::text[] NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    given_columns text[],
    allowed smallint[],
    floor pg_snapshot,
    floored_by xid8,
    hidden_names text[] DEFAULT '{}'::text[] NOT NULL,
    given_schema name,
    given_name name,
    form text[],
    replicated boolean DEFAULT false NOT NULL,
    briefly boolean DEFAULT false NOT NULL,
    unlisted boolean DEFAULT false NOT NULL,
    CONSTRAINT channel_name_fits_a_url CHECK (((name <> ''::text) AND (length(name) <= 100) AND (name !~ '[[:space:][:cntrl:]/?#%]'::text) AND (name <> 'user'::text))),
    CONSTRAINT channel_notification_is_an_object CHECK (((notification IS NULL) OR (jsonb_typeof(notification) = 'object'::text))),
    CONSTRAINT channel_one_user_rule CHECK (((user_column IS NULL) OR (user_query IS NULL)))
);
ALTER TABLE rowcast.channel OWNER TO installer;

COMMENT ON TABLE rowcast.channel IS 'a channel, fed by a watched table or, where target is null, by rowcast.publish alone';

COMMENT ON COLUMN rowcast.channel.user_column IS 'attnum of the column that names the user to notify';

COMMENT ON COLUMN rowcast.channel.user_query IS 'query over "row" that gives the users to notify';

COMMENT ON COLUMN rowcast.channel.notification IS '{key in the notification''s data: column of the row}; null: the whole row';

COMMENT ON COLUMN rowcast.channel.exclude IS 'attnums of the columns that never leave the table';

COMMENT ON COLUMN rowcast.channel.target_oid IS 'number of the table when it was watched; another one now: the table comes from a dump';

COMMENT ON COLUMN rowcast.channel.origin IS 'rowcast.origin() then: after a dump a table may have its old number by chance';

COMMENT ON COLUMN rowcast.channel.given_rule IS 'as rowcast.watch was told';

COMMENT ON COLUMN rowcast.channel.given_exclude IS 'as rowcast.watch was told';

COMMENT ON COLUMN rowcast.channel.given_columns IS 'as rowcast.watch was told: the only columns that may leave; null: all that are not excluded';

COMMENT ON COLUMN rowcast.channel.allowed IS 'attnums of the columns that may leave, where columns were given; a column that is added later is not among them';

COMMENT ON COLUMN rowcast.channel.floor IS 'sees everything from before what may be seen was changed: a cursor that does not see all of it gets gap, policy';

COMMENT ON COLUMN rowcast.channel.floored_by IS 'the transaction that changed it, which the floor sees as well';

COMMENT ON COLUMN rowcast.channel.hidden_names IS 'every name under which a column was excluded, also of columns that are gone: older rows have them';

COMMENT ON COLUMN rowcast.channel.given_schema IS 'the schema of the table when rowcast.watch was called';

COMMENT ON COLUMN rowcast.channel.given_name IS 'the name of the table then';

COMMENT ON COLUMN rowcast.channel.form IS 'what rowcast.form said when a relay last looked; see rowcast.note_forms';

COMMENT ON COLUMN rowcast.channel.replicated IS 'whether what a subscription of logical replication writes is captured as well';

COMMENT ON COLUMN rowcast.channel.briefly IS 'whether its changes are kept for brief_retention; see rowcast.keep_briefly';

COMMENT ON COLUMN rowcast.channel.unlisted IS 'it is captured because a claim follows it, and is no channel for clients';

ALTER TABLE rowcast.channel ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rowcast.channel_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE rowcast.claim (
    name text NOT NULL,
    query text NOT NULL,
    value_type regtype NOT NULL,
    canonical text NOT NULL,
    stated_at timestamp with time zone DEFAULT now() NOT NULL,
    stated_by name DEFAULT SESSION_USER NOT NULL,
    CONSTRAINT claim_name_fits_braces CHECK ((name ~ '^[A-Za-z0-9_.:/-]+$'::text))
);
ALTER TABLE rowcast.claim OWNER TO installer;

COMMENT ON TABLE rowcast.claim IS 'claims of row filters whose values a query reads: see rowcast.claim';

COMMENT ON COLUMN rowcast.claim.query IS 'gives the values of one holder; {sub} stands for claim sub of its token';

COMMENT ON COLUMN rowcast.claim.value_type IS 'the type of its values';

COMMENT ON COLUMN rowcast.claim.canonical IS 'the holder as the column has it that the query compares with {sub}: an expression over {sub}';

CREATE VIEW rowcast.displaced (
    channel integer
);
ALTER TABLE rowcast.displaced OWNER TO installer;

COMMENT ON VIEW rowcast.displaced IS 'channels whose table has given its name to another one';

CREATE TABLE rowcast.followed (
    claim text NOT NULL,
    target regclass NOT NULL,
    columns text[] NOT NULL,
    holder text
);
ALTER TABLE rowcast.followed OWNER TO installer;

COMMENT ON TABLE rowcast.followed IS 'the tables whose changes may change the values of a claim';

COMMENT ON COLUMN rowcast.followed.columns IS 'the columns that the query reads: a change of no other matters';

COMMENT ON COLUMN rowcast.followed.holder IS 'the column that says whose values a row is of; null: a row may be of everybody';

CREATE TABLE rowcast.hidden_column (
    channel integer NOT NULL,
    attnum smallint NOT NULL
);
ALTER TABLE ONLY rowcast.hidden_column REPLICA IDENTITY FULL;
ALTER TABLE rowcast.hidden_column OWNER TO installer;

COMMENT ON TABLE rowcast.hidden_column IS 'columns that took the name of an excluded one, as their writers saw it; see rowcast.keep_excluded';

CREATE VIEW rowcast.shown_column (
    channel integer,
    attnum smallint,
    name text,
    type oid
);
ALTER TABLE rowcast.shown_column OWNER TO installer;

COMMENT ON VIEW rowcast.shown_column IS 'columns of watched tables that may leave';

CREATE VIEW rowcast.claims (
    name text,
    query text,
    value_type regtype,
    "table" regclass,
    columns text[],
    holder text,
    channel text,
    since timestamp with time zone,
    drift text
);
ALTER TABLE rowcast.claims OWNER TO installer;

COMMENT ON VIEW rowcast.claims IS 'claims whose values are read from tables, and the tables that they follow';

CREATE SEQUENCE rowcast.outbox_id
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER TABLE rowcast.outbox_id OWNER TO installer;

CREATE TABLE rowcast.outbox (
    id bigint DEFAULT nextval('rowcast.outbox_id'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    channel integer NOT NULL,
    op "char" NOT NULL,
    old json,
    new json,
    actor text,
    users text[],
    depth integer
);
ALTER TABLE rowcast.outbox OWNER TO installer;

COMMENT ON TABLE rowcast.outbox IS 'every captured change, written in the writer''s own transaction; read it through rowcast.recent';

COMMENT ON COLUMN rowcast.outbox.op IS 'I, U, D, T: row created, updated, deleted, table truncated; i, u, d: the same of a row larger than row_bytes, whose images may hold the key alone; N: rowcast.notify; P: rowcast.publish; C: a channel or a policy changed; R: rowcast.revoke';

COMMENT ON COLUMN rowcast.outbox.old IS 'the row before; of an updated one that is large, only the columns that differ';

COMMENT ON COLUMN rowcast.outbox.users IS 'users to notify, where the channel''s rule is a query or the row is a notification';

COMMENT ON COLUMN rowcast.outbox.depth IS 'how many triggers were running, one inside the other, the one that captured it included; null: from before it was noted';

CREATE TABLE rowcast.segment (
    number integer NOT NULL,
    opened_at timestamp with time zone,
    closed pg_snapshot,
    closed_at timestamp with time zone,
    CONSTRAINT segment_is_one_of_six CHECK (((number >= 0) AND (number <= 5)))
);
ALTER TABLE rowcast.segment OWNER TO installer;

COMMENT ON TABLE rowcast.segment IS 'which segment takes new rows (the one opened last), and since when a segment takes none; see rowcast.prune. 0 to 2; 3 to 5: of tables that are kept briefly';

COMMENT ON COLUMN rowcast.segment.opened_at IS 'null: empty';

COMMENT ON COLUMN rowcast.segment.closed IS 'sees every row in it; null while some writer may still add one';

CREATE VIEW rowcast.cost (
    channel text,
    "table" regclass,
    changes bigint,
    per_second numeric,
    outbox_bytes bigint,
    old_bytes bigint,
    new_bytes bigint,
    wal_bytes bigint,
    large bigint,
    omitted bigint,
    trigger_us numeric,
    looked_at numeric
);
ALTER TABLE rowcast.cost OWNER TO installer;

COMMENT ON VIEW rowcast.cost IS 'what capture costs by table, of the changes that the outbox keeps: the dearest first';

COMMENT ON COLUMN rowcast.cost.changes IS 'changes that the outbox keeps';

COMMENT ON COLUMN rowcast.cost.per_second IS 'changes a second, since the oldest segment of the outbox was opened';

COMMENT ON COLUMN rowcast.cost.outbox_bytes IS 'what they take of the outbox, index included';

COMMENT ON COLUMN rowcast.cost.old_bytes IS 'of that the rows as they were before';

COMMENT ON COLUMN rowcast.cost.new_bytes IS 'of that the rows as they were afterwards';

COMMENT ON COLUMN rowcast.cost.wal_bytes IS 'what they have added to the WAL, about; without images of whole pages';

COMMENT ON COLUMN rowcast.cost.large IS 'changes of rows that are stored out of line: TOAST';

COMMENT ON COLUMN rowcast.cost.omitted IS 'changes told by their key alone: the row was longer than row_bytes';

COMMENT ON COLUMN rowcast.cost.trigger_us IS 'microseconds of a call of the trigger, over all tables with the same one; null unless track_functions is pl or all';

COMMENT ON COLUMN rowcast.cost.looked_at IS 'per cent of the outbox that the figures come from';

CREATE VIEW rowcast.exposure (
    channel text,
    "table" regclass,
    "column" text,
    role text,
    exposure text,
    row_filter text,
    notified text,
    actor boolean,
    bell boolean,
    since timestamp with time zone,
    claims text[],
    drift text
);
ALTER TABLE rowcast.exposure OWNER TO installer;

COMMENT ON VIEW rowcast.exposure IS 'for each role, channel and column: whether it can be seen, of which rows, and by which other ways it leaves';

CREATE VIEW rowcast.form (
    channel integer,
    form text[]
);
ALTER TABLE rowcast.form OWNER TO installer;

COMMENT ON VIEW rowcast.form IS 'what the rows of watched tables look like';

CREATE TABLE rowcast.seen_table (
    number oid NOT NULL
);
ALTER TABLE rowcast.seen_table OWNER TO installer;

COMMENT ON TABLE rowcast.seen_table IS 'tables that a look for new ones has seen';

CREATE TABLE rowcast.stated_table (
    schema name NOT NULL,
    name name NOT NULL,
    number oid NOT NULL,
    is_out boolean DEFAULT false NOT NULL
);
ALTER TABLE rowcast.stated_table OWNER TO installer;

COMMENT ON TABLE rowcast.stated_table IS 'names of tables that are or were watched, also of those that are gone';

COMMENT ON COLUMN rowcast.stated_table.is_out IS 'rowcast.unwatch has taken it out of a schema whose future tables are watched';

CREATE TABLE rowcast.watched_schema (
    name text NOT NULL,
    number oid NOT NULL,
    prefix text DEFAULT ''::text NOT NULL,
    except_tables text[] DEFAULT '{}'::text[] NOT NULL,
    stated_at timestamp with time zone DEFAULT now() NOT NULL,
    stated_by text DEFAULT SESSION_USER NOT NULL
);
ALTER TABLE rowcast.watched_schema OWNER TO installer;

COMMENT ON TABLE rowcast.watched_schema IS 'schemas whose future tables are watched as well; change it with rowcast.watch_schema, and rowcast.unwatch for one table';

COMMENT ON COLUMN rowcast.watched_schema.number IS 'number of the schema then: where another one has the name now, its tables are not watched';

CREATE VIEW rowcast.newcomer (
    "table" regclass
);
ALTER TABLE rowcast.newcomer OWNER TO installer;

COMMENT ON VIEW rowcast.newcomer IS 'tables that a relay is about to watch';

CREATE TABLE rowcast.node (
    node text NOT NULL,
    version text NOT NULL,
    address text NOT NULL,
    role text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    sockets bigint NOT NULL,
    lag_ms double precision NOT NULL,
    seen pg_snapshot,
    unread timestamp with time zone,
    knows integer
);
ALTER TABLE rowcast.node OWNER TO installer;

COMMENT ON TABLE rowcast.node IS 'nodes, as they noted themselves; rowcast.nodes shows those that live';

COMMENT ON COLUMN rowcast.node.seen IS 'what this snapshot sees of the outbox the node needs no more';

COMMENT ON COLUMN rowcast.node.unread IS 'when the first change was captured of those that the node had not read; such a one is young, unless the node stands still';

COMMENT ON COLUMN rowcast.node.knows IS 'the version of the schema that its program is of; null: 6 or less';

CREATE VIEW rowcast.nodes (
    node text,
    role text,
    version text,
    address text,
    sockets bigint,
    lag_ms double precision,
    started_at timestamp with time zone,
    seen_at timestamp with time zone
);
ALTER TABLE rowcast.nodes OWNER TO installer;

COMMENT ON VIEW rowcast.nodes IS 'nodes that live: what each is for (relay, publisher, candidate, gateway), sockets, and milliseconds from capture to the log of the last change';

CREATE TABLE rowcast.setting (
    name text NOT NULL,
    value text NOT NULL
);
ALTER TABLE rowcast.setting OWNER TO installer;

COMMENT ON TABLE rowcast.setting IS 'settings kept in the database; change them with rowcast.configure(name, value)';

CREATE TABLE rowcast.tally (
    channel integer NOT NULL,
    target oid NOT NULL,
    written bigint NOT NULL,
    living bigint NOT NULL,
    captured bigint NOT NULL,
    surplus bigint,
    estimated timestamp with time zone,
    parts integer,
    silent_rows bigint,
    silent_at timestamp with time zone,
    silent_tx xid8
);
ALTER TABLE rowcast.tally OWNER TO installer;

COMMENT ON TABLE rowcast.tally IS 'rows that Postgres has counted in watched tables, beside those that were captured; see rowcast.note_tally';

COMMENT ON COLUMN rowcast.tally.target IS 'the table that was counted';

COMMENT ON COLUMN rowcast.tally.written IS 'rows inserted and deleted as Postgres counts them, those of transactions that were rolled back included';

COMMENT ON COLUMN rowcast.tally.living IS 'rows that live, as Postgres estimates';

COMMENT ON COLUMN rowcast.tally.captured IS 'rows inserted and deleted by the outbox; begins with what was written when the table was first counted';

COMMENT ON COLUMN rowcast.tally.surplus IS 'the most by which written was larger than captured; null: the tally begins, and sessions may still tell what they wrote before';

COMMENT ON COLUMN rowcast.tally.estimated IS 'when the rows that live were estimated anew, by ANALYZE or VACUUM';

COMMENT ON COLUMN rowcast.tally.parts IS 'a hash of the partitions that were counted: one that comes or goes brings its rows';

COMMENT ON COLUMN rowcast.tally.silent_rows IS 'rows that were written while none was captured, the last time that it was so';

COMMENT ON COLUMN rowcast.tally.silent_tx IS 'the transaction that noted it: who had the floor of the channel raised since has told the subscribers';

CREATE VIEW rowcast.watched (
    "table" regclass,
    channel text,
    singular text,
    user_rule text,
    notification jsonb,
    exclude text[],
    columns text[],
    since timestamp with time zone,
    state text,
    drift text,
    remedy text,
    replicated boolean,
    also_on text[],
    briefly boolean
);
ALTER TABLE rowcast.watched OWNER TO installer;

COMMENT ON VIEW rowcast.watched IS 'channels: table, user rule, excluded columns, state of the triggers, drift and its remedy';

CREATE VIEW rowcast.health (
    finding text,
    state text,
    detail text,
    remedy text
);
ALTER TABLE rowcast.health OWNER TO installer;

COMMENT ON VIEW rowcast.health IS 'findings for an operator: ok, warn or fail, and what to do';

CREATE TABLE rowcast.incarnation (
    number integer NOT NULL,
    life text NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    bound pg_lsn,
    durable pg_lsn DEFAULT pg_current_wal_flush_lsn() NOT NULL,
    durable_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE rowcast.incarnation OWNER TO installer;

COMMENT ON TABLE rowcast.incarnation IS 'lives of the server, as relays saw them begin';

COMMENT ON COLUMN rowcast.incarnation.life IS 'timeline, start time and recovered end of the log';

COMMENT ON COLUMN rowcast.incarnation.bound IS 'cursors of earlier lives are honoured up to here; null: all of them';

COMMENT ON COLUMN rowcast.incarnation.durable IS 'flushed position, noted while the life went on';

ALTER TABLE rowcast.incarnation ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rowcast.incarnation_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE rowcast.installation (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    installed_at timestamp with time zone DEFAULT now() NOT NULL,
    floor pg_snapshot,
    only_one boolean DEFAULT true NOT NULL,
    left_out_until xid8,
    cursor_key bytea DEFAULT (((uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) || uuid_send(gen_random_uuid())) || uuid_send(gen_random_uuid())) NOT NULL,
    tallied pg_snapshot,
    tallied_at timestamp with time zone,
    brief_floor pg_snapshot,
    brief_floored_by xid8,
    brief_left_out_until xid8,
    CONSTRAINT installation_is_one_row CHECK (only_one)
);
ALTER TABLE rowcast.installation OWNER TO installer;

COMMENT ON TABLE rowcast.installation IS 'identity of this installation; part of the epoch that every cursor carries';

COMMENT ON COLUMN rowcast.installation.floor IS 'sees every change that was pruned: a cursor that does not see all it sees is too old';

COMMENT ON COLUMN rowcast.installation.left_out_until IS 'transactions below this one may have left changes out while capture was paused or full; null: none runs any more';

COMMENT ON COLUMN rowcast.installation.cursor_key IS 'what cursors are sealed with; another one makes all that were given out worthless';

COMMENT ON COLUMN rowcast.installation.tallied IS 'what it sees of the outbox was counted; see rowcast.note_tally';

COMMENT ON COLUMN rowcast.installation.brief_floor IS 'the floor of tables that are kept briefly';

COMMENT ON COLUMN rowcast.installation.brief_floored_by IS 'the transaction that has set it: a snapshot that sees it sees all that the floor sees';

COMMENT ON COLUMN rowcast.installation.brief_left_out_until IS 'as left_out_until, of tables that are kept briefly';

CREATE VIEW rowcast.neighbour (
    number oid,
    name text
);
ALTER TABLE rowcast.neighbour OWNER TO installer;

COMMENT ON VIEW rowcast.neighbour IS 'other installations of rowcast in this database';

CREATE TABLE rowcast.outbox_0 (
)
INHERITS (rowcast.outbox)
WITH (autovacuum_enabled='false', toast.autovacuum_enabled='false');
ALTER TABLE rowcast.outbox_0 OWNER TO installer;

CREATE TABLE rowcast.outbox_1 (
)
INHERITS (rowcast.outbox)
WITH (autovacuum_enabled='false', toast.autovacuum_enabled='false');
ALTER TABLE rowcast.outbox_1 OWNER TO installer;

CREATE TABLE rowcast.outbox_2 (
)
INHERITS (rowcast.outbox)
WITH (autovacuum_enabled='false', toast.autovacuum_enabled='false');
ALTER TABLE rowcast.outbox_2 OWNER TO installer;

CREATE TABLE rowcast.outbox_3 (
    id bigint DEFAULT nextval('rowcast.outbox_id'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    channel integer NOT NULL,
    op "char" NOT NULL,
    old json,
    new json,
    actor text,
    users text[],
    depth integer
)
WITH (autovacuum_enabled='false', toast.autovacuum_enabled='false');
ALTER TABLE rowcast.outbox_3 OWNER TO installer;

CREATE TABLE rowcast.outbox_4 (
    id bigint DEFAULT nextval('rowcast.outbox_id'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    channel integer NOT NULL,
    op "char" NOT NULL,
    old json,
    new json,
    actor text,
    users text[],
    depth integer
)
WITH (autovacuum_enabled='false', toast.autovacuum_enabled='false');
ALTER TABLE rowcast.outbox_4 OWNER TO installer;

CREATE TABLE rowcast.outbox_5 (
    id bigint DEFAULT nextval('rowcast.outbox_id'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    channel integer NOT NULL,
    op "char" NOT NULL,
    old json,
    new json,
    actor text,
    users text[],
    depth integer
)
WITH (autovacuum_enabled='false', toast.autovacuum_enabled='false');
ALTER TABLE rowcast.outbox_5 OWNER TO installer;

CREATE TABLE rowcast.publisher (
    pid integer DEFAULT 0 NOT NULL,
    since timestamp with time zone,
    instance text DEFAULT ''::text NOT NULL,
    only_one boolean DEFAULT true NOT NULL,
    CONSTRAINT publisher_is_one_row CHECK (only_one)
);
ALTER TABLE rowcast.publisher OWNER TO installer;

COMMENT ON TABLE rowcast.publisher IS 'the session that publishes into the stream, if it lives; see rowcast.take_publishing';

COMMENT ON COLUMN rowcast.publisher.since IS 'when that session began, which tells it from a later one of the same number';

CREATE VIEW rowcast.recent (
    id bigint,
    at timestamp with time zone,
    channel text,
    action text,
    data json,
    actor text,
    users text[],
    tx xid8
);
ALTER TABLE rowcast.recent OWNER TO installer;

COMMENT ON VIEW rowcast.recent IS 'the last hundred changes';

CREATE TABLE rowcast.revoked (
    user_id text NOT NULL,
    at timestamp with time zone NOT NULL
);
ALTER TABLE rowcast.revoked OWNER TO installer;

COMMENT ON TABLE rowcast.revoked IS 'users whose tokens of before that moment are no longer good; forgotten after a day';

CREATE TABLE rowcast.schema_history (
    version integer NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);
ALTER TABLE rowcast.schema_history OWNER TO installer;

CREATE VIEW rowcast.unwatched (
    "table" regclass,
    reason text,
    remedy text
);
ALTER TABLE rowcast.unwatched OWNER TO installer;

COMMENT ON VIEW rowcast.unwatched IS 'tables whose changes nobody hears';

ALTER TABLE ONLY rowcast.outbox_0 ALTER COLUMN id SET DEFAULT nextval('rowcast.outbox_id'::regclass);

ALTER TABLE ONLY rowcast.outbox_0 ALTER COLUMN xid SET DEFAULT pg_current_xact_id();

ALTER TABLE ONLY rowcast.outbox_0 ALTER COLUMN at SET DEFAULT clock_timestamp();

ALTER TABLE ONLY rowcast.outbox_1 ALTER COLUMN id SET DEFAULT nextval('rowcast.outbox_id'::regclass);

ALTER TABLE ONLY rowcast.outbox_1 ALTER COLUMN xid SET DEFAULT pg_current_xact_id();

ALTER TABLE ONLY rowcast.outbox_1 ALTER COLUMN at SET DEFAULT clock_timestamp();

ALTER TABLE ONLY rowcast.outbox_2 ALTER COLUMN id SET DEFAULT nextval('rowcast.outbox_id'::regclass);

ALTER TABLE ONLY rowcast.outbox_2 ALTER COLUMN xid SET DEFAULT pg_current_xact_id();

ALTER TABLE ONLY rowcast.outbox_2 ALTER COLUMN at SET DEFAULT clock_timestamp();

ALTER TABLE ONLY rowcast.channel
    ADD CONSTRAINT channel_name_taken UNIQUE (name);

ALTER TABLE ONLY rowcast.channel
    ADD CONSTRAINT channel_pkey PRIMARY KEY (id);

ALTER TABLE ONLY rowcast.channel
    ADD CONSTRAINT channel_target_watched_once UNIQUE (target);

ALTER TABLE ONLY rowcast.claim
    ADD CONSTRAINT claim_has_one_meaning PRIMARY KEY (name);

ALTER TABLE ONLY rowcast.followed
    ADD CONSTRAINT followed_once PRIMARY KEY (claim, target);

ALTER TABLE ONLY rowcast.incarnation
    ADD CONSTRAINT incarnation_pkey PRIMARY KEY (number);

ALTER TABLE ONLY rowcast.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_one);

ALTER TABLE ONLY rowcast.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (node);

ALTER TABLE ONLY rowcast.policy
    ADD CONSTRAINT policy_one_for_a_role PRIMARY KEY (channel, role);

ALTER TABLE ONLY rowcast.publisher
    ADD CONSTRAINT publisher_pkey PRIMARY KEY (only_one);

ALTER TABLE ONLY rowcast.revoked
    ADD CONSTRAINT revoked_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY rowcast.schema_history
    ADD CONSTRAINT schema_history_pkey PRIMARY KEY (version);

ALTER TABLE ONLY rowcast.seen_table
    ADD CONSTRAINT seen_table_pkey PRIMARY KEY (number);

ALTER TABLE ONLY rowcast.segment
    ADD CONSTRAINT segment_pkey PRIMARY KEY (number);

ALTER TABLE ONLY rowcast.setting
    ADD CONSTRAINT setting_pkey PRIMARY KEY (name);

ALTER TABLE ONLY rowcast.stated_table
    ADD CONSTRAINT stated_table_has_one_name PRIMARY KEY (schema, name);

ALTER TABLE ONLY rowcast.tally
    ADD CONSTRAINT tally_pkey PRIMARY KEY (channel);

ALTER TABLE ONLY rowcast.watched_schema
    ADD CONSTRAINT watched_schema_pkey PRIMARY KEY (name);

CREATE INDEX outbox_0_xid ON rowcast.outbox_0 USING btree (xid);

CREATE INDEX outbox_1_xid ON rowcast.outbox_1 USING btree (xid);

CREATE INDEX outbox_2_xid ON rowcast.outbox_2 USING btree (xid);

CREATE INDEX outbox_3_xid ON rowcast.outbox_3 USING btree (xid);

CREATE INDEX outbox_4_xid ON rowcast.outbox_4 USING btree (xid);

CREATE INDEX outbox_5_xid ON rowcast.outbox_5 USING btree (xid);

CREATE TRIGGER note_exposure BEFORE INSERT OR UPDATE ON rowcast.channel FOR EACH ROW EXECUTE FUNCTION rowcast.note_exposure();
ALTER TABLE rowcast.channel ENABLE ALWAYS TRIGGER note_exposure;

ALTER TABLE ONLY rowcast.followed
    ADD CONSTRAINT followed_by_a_claim FOREIGN KEY (claim) REFERENCES rowcast.claim(name) ON DELETE CASCADE;

GRANT USAGE ON SCHEMA rowcast TO rowcast_capture;
GRANT USAGE ON SCHEMA rowcast TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.actor() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.actor() TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.adopt() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.allow(channel text, role text, row_filter text, columns text[], actor boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.append(channel integer, op "char", old json, new json, actor text, users text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.append(channel integer, op "char", old json, new json, actor text, users text[]) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.append_brief(channel integer, op "char", old json, new json, actor text, users text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.append_brief(channel integer, op "char", old json, new json, actor text, users text[]) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.bell_lock() FROM PUBLIC;

GRANT ALL ON FUNCTION rowcast.bell_mode() TO rowcast_capture;
GRANT ALL ON FUNCTION rowcast.bell_mode() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.bind_policies(channel text, role text, target regclass, origin text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.bound_outbox() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.bound_outbox() TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.bound_outbox_brief() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.bound_outbox_brief() TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.capture() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.capture_brief() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.capture_brief_plpgsql() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.capture_by(code text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.capture_large(op "char", o anyelement, n anyelement, rel oid, root oid, channel integer, attnums smallint[], names text[], allowed smallint[], OUT what "char", OUT old json, OUT new json) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.capture_large(op "char", o anyelement, n anyelement, rel oid, root oid, channel integer, attnums smallint[], names text[], allowed smallint[], OUT what "char", OUT old json, OUT new json) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.capture_pinned(op "char", o anyelement, n anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[], OUT old json, OUT new json) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.capture_pinned(op "char", o anyelement, n anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[], OUT old json, OUT new json) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.capture_plpgsql() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.capture_truncate() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.capture_truncate_brief() FROM PUBLIC;

GRANT ALL ON FUNCTION rowcast.casts_to_json(target regclass) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.check_filter(channel text, row_filter text) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.check_filter(channel text, row_filter text) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.claim(name text, query text, follows regclass[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.claim_body(query text) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.claim_body(query text) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.claim_holder(query text, checked regclass, OUT relation regclass, OUT "column" text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.claim_reads(checked regclass, OUT relation regclass, OUT columns text[], OUT problem text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.configure(name text, value text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.create_channel(name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.deny(channel text, role text) FROM PUBLIC;

GRANT SELECT ON TABLE rowcast.policy TO rowcast_relay;

GRANT ALL ON FUNCTION rowcast.drifted_names(policy rowcast.policy) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.drop_channel(name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.drop_claim(name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.dump() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.floor_now() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.follow(target regclass, columns text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.forget_role(role name) FROM PUBLIC;

GRANT ALL ON FUNCTION rowcast.free_channel(target regclass, prefix text) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.give_rule(rule regprocedure, owner name) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.grant_added(target regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.grant_added(target regclass) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.grant_snapshot(target regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.holders(relation regclass, readers boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.install_triggers(target regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.install_user_query(target regclass, query text, suffix text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.is_plain(arguments text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.is_plain(arguments text[]) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.json_differing(old json, new json) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.json_differing(old json, new json) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.json_key(r anyelement, rel oid, channel integer) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.json_key(r anyelement, rel oid, channel integer) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.json_within(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.json_within(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) TO rowcast_capture;
GRANT ALL ON FUNCTION rowcast.json_within(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.json_without(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.json_without(r anyelement, rel oid, root oid, attnums smallint[], names text[], allowed smallint[]) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.keep_briefly(target regclass, briefly boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.keep_excluded() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.keep_excluded() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.lock_for_triggers(target regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.members(holders text[], OUT claim text, OUT holder text, OUT canonical text, OUT members text[], OUT problem text) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.members(holders text[], OUT claim text, OUT holder text, OUT canonical text, OUT members text[], OUT problem text) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_durable() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.note_durable() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_exposure() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.note_forms() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.note_forms() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_left_out(briefly boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.note_life() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.note_life() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot, knows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.note_node(node text, version text, address text, role text, started_at timestamp with time zone, sockets bigint, lag_ms double precision, seen pg_snapshot, knows integer) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_tables() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.note_tables() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_tally(OUT channel text, OUT rows bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.note_tally(OUT channel text, OUT rows bigint) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.note_watch(target regclass, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean, prefix text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.notify(user_id text, notification_type text, data jsonb) FROM PUBLIC;

GRANT ALL ON FUNCTION rowcast.origin() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.output_deviates() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.output_deviates() TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.pause() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.present_life() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.prune() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.prune() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.prune_part(briefly boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.publish(channel text, action text, data jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.raise_floor(channel_id integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.refuse_beside_relays() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.refuse_unwatchable(target regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.remove_triggers(target regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.resume() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.revoke(user_id text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.revoke_snapshot(target regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.ring(channel text, op "char", data json) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.ring(channel text, op "char", data json) TO rowcast_capture;

REVOKE ALL ON FUNCTION rowcast.row_bytes() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.row_bytes() TO rowcast_capture;
GRANT ALL ON FUNCTION rowcast.row_bytes() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.row_security(target regclass, OUT "table" regclass, OUT policy name, OUT call text, OUT problem text, OUT role text) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.row_security(target regclass, OUT "table" regclass, OUT policy name, OUT call text, OUT problem text, OUT role text) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.serves() FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.serves() TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.singular(name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.state_schema(name text, INOUT prefix text, INOUT except_tables text[], future boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.supersede(old text, new text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.take_publishing(instance text, since timestamp with time zone, replaces boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.take_publishing(instance text, since timestamp with time zone, replaces boolean) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.tell_policy(channel text) FROM PUBLIC;

GRANT ALL ON FUNCTION rowcast.types_within(type oid) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.unfollow() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.uninstall() FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.unwatch(target regclass) FROM PUBLIC;

REVOKE ALL ON PROCEDURE rowcast.unwatch_all() FROM PUBLIC;

GRANT ALL ON FUNCTION rowcast.unwatched_of(schema text, except_tables text[]) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.watch(target regclass, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean) FROM PUBLIC;

GRANT ALL ON FUNCTION rowcast.watch_call(target text, channel text, user_rule text, notification jsonb, exclude text[], singular text, columns text[], replicated boolean) TO rowcast_relay;

REVOKE ALL ON PROCEDURE rowcast.watch_each(IN schema text, IN prefix text, IN except_tables text[], IN future boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.watch_newcomer(target regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION rowcast.watch_newcomer(target regclass) TO rowcast_relay;

REVOKE ALL ON FUNCTION rowcast.watch_schema(name text, prefix text, except_tables text[], future boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.watch_with_prefix(target regclass, prefix text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.who_sees(channel text, claims jsonb, key jsonb, OUT condition integer, OUT test text, OUT source text, OUT "values" text[], OUT total integer, OUT seen boolean, OUT verdict text) FROM PUBLIC;

REVOKE ALL ON FUNCTION rowcast.write_to(segment integer) FROM PUBLIC;

GRANT SELECT ON TABLE rowcast.alive TO rowcast_relay;

GRANT ALL ON SEQUENCE rowcast.capture_state TO rowcast_capture;
GRANT SELECT ON SEQUENCE rowcast.capture_state TO rowcast_relay;

GRANT ALL ON SEQUENCE rowcast.capture_state_brief TO rowcast_capture;
GRANT SELECT ON SEQUENCE rowcast.capture_state_brief TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.channel TO rowcast_relay;

GRANT SELECT(id) ON TABLE rowcast.channel TO rowcast_capture;

GRANT SELECT(name) ON TABLE rowcast.channel TO rowcast_capture;

GRANT SELECT(target) ON TABLE rowcast.channel TO rowcast_capture;

GRANT SELECT(user_column) ON TABLE rowcast.channel TO rowcast_capture;

GRANT SELECT ON TABLE rowcast.claim TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.displaced TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.followed TO rowcast_relay;

GRANT SELECT,INSERT ON TABLE rowcast.hidden_column TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.hidden_column TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.shown_column TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.claims TO rowcast_relay;

GRANT USAGE ON SEQUENCE rowcast.outbox_id TO rowcast_capture;
GRANT SELECT ON SEQUENCE rowcast.outbox_id TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.outbox TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.segment TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.cost TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.exposure TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.form TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.seen_table TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.stated_table TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.watched_schema TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.newcomer TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.node TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.nodes TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.setting TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.setting TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.tally TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.watched TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.health TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.incarnation TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.installation TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.neighbour TO rowcast_relay;

GRANT INSERT ON TABLE rowcast.outbox_0 TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.outbox_0 TO rowcast_relay;

GRANT INSERT ON TABLE rowcast.outbox_1 TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.outbox_1 TO rowcast_relay;

GRANT INSERT ON TABLE rowcast.outbox_2 TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.outbox_2 TO rowcast_relay;

GRANT INSERT ON TABLE rowcast.outbox_3 TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.outbox_3 TO rowcast_relay;

GRANT INSERT ON TABLE rowcast.outbox_4 TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.outbox_4 TO rowcast_relay;

GRANT INSERT ON TABLE rowcast.outbox_5 TO rowcast_capture;
GRANT SELECT ON TABLE rowcast.outbox_5 TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.publisher TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.recent TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.revoked TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.schema_history TO rowcast_relay;

GRANT SELECT ON TABLE rowcast.unwatched TO rowcast_relay;

