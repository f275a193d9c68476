/*
 * The capture of a plain row change in native code: what sql/functions/capture.sql says in PL/pgSQL, for rows with nothing
 * special. Whatever is special (excluded columns, user rules, large rows, output settings) goes to the PL/pgSQL function, in
 * the same call, so there is one description of it.
 *
 * It may do as little as that one: it does not raise, waits for nothing that another transaction may hold, and runs nobody's
 * code with the rights of its owner. What needs rights (the state of capture, the doorbell, the bound of the outbox) runs as
 * the owner of the function.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "common/jsonapi.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "pgtime.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(rowcast_capture_1);
PG_FUNCTION_INFO_V1(rowcast_capture_brief_1);

/* Two images of so many bytes together are written as they are; rowcast.capture says why. */
#define SMALL 1900
/* The hash of an id, a number of 32 bits, is as large as this for one id in 1,024. */
#define LOOKS 2143289344
/* Characters of an actor. */
#define ACTOR 200
/* Capture is paused, or the outbox is full, from this state on. */
#define SEGMENTS 3

enum OutboxColumn
{
	OUTBOX_ID = 1,
	OUTBOX_XID,
	OUTBOX_AT,
	OUTBOX_CHANNEL,
	OUTBOX_OP,
	OUTBOX_OLD,
	OUTBOX_NEW,
	OUTBOX_ACTOR,
	OUTBOX_USERS,
	OUTBOX_DEPTH,
	OUTBOX_COLUMNS = OUTBOX_DEPTH
};

typedef enum Bell
{
	BELL_NEVER,
	BELL_WHERE_ASLEEP,
	BELL_ALWAYS
} Bell;

/* What a function of ours needs to know of its installation. Good until one of its objects changes. */
typedef struct Installation
{
	bool		is_valid;
	Oid			function;
	Oid			owner;
	Oid			ids;
	Oid			state;
	Oid			segments[SEGMENTS];
	Oid			plpgsql;
	Oid			ring;
	Oid			bound;
	Bell		bell;
	int32		bell_lock;
	/* the outbox has the columns that are known here; else a later version has made it, and PL/pgSQL writes it */
	bool		fits;
} Installation;

/* More installations than these in one session read what they know at each change. */
#define INSTALLATIONS 4
static Installation installations[INSTALLATIONS];
/* How often something was forgotten: what is learnt meanwhile is good for one row. */
static uint64 forgotten;

/* What a statement keeps from row to row. */
typedef struct Call
{
	FmgrInfo	plpgsql;
	FmgrInfo	differs;
} Call;

static void
forget(Datum arg, int cache, uint32 hash)
{
	forgotten++;
	for (int i = 0; i < INSTALLATIONS; i++)
		installations[i].is_valid = false;
}

static void
forget_relation(Datum arg, Oid relation)
{
	forgotten++;
	for (int i = 0; i < INSTALLATIONS; i++)
	{
		Installation *known = &installations[i];

		if (relation == InvalidOid || relation == known->ids || relation == known->state ||
			relation == known->segments[0] || relation == known->segments[1] || relation == known->segments[2])
			known->is_valid = false;
	}
}

static Oid
function_named(Oid schema, const char *name, int count, const Oid *arguments)
{
	List	   *qualified = list_make2(makeString(get_namespace_name(schema)), makeString(pstrdup(name)));

	return LookupFuncName(qualified, count, arguments, false);
}

/* As the owner of the function, until the user that was there before is set again; where an error comes between, the end of
 * the (sub)transaction does it. */
static void
become(Oid owner, Oid *user, int *context)
{
	GetUserIdAndSecContext(user, context);
	SetUserIdAndSecContext(owner, *context | SECURITY_LOCAL_USERID_CHANGE);
}

/* 0 where there is no such table. */
static int
columns_of(Oid table)
{
	HeapTuple	row = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	int			count;

	if (!HeapTupleIsValid(row))
		return 0;
	count = ((Form_pg_class) GETSTRUCT(row))->relnatts;
	ReleaseSysCache(row);
	return count;
}

static void
learn(Installation *known, Oid function, bool is_brief)
{
	static const Oid ring_arguments[] = {TEXTOID, CHAROID, JSONOID};
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid			schema;
	char	   *bell;
	Oid			user;
	int			context;
	uint64		began = forgotten;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	proc = (Form_pg_proc) GETSTRUCT(row);
	known->function = function;
	known->owner = proc->proowner;
	schema = proc->pronamespace;
	ReleaseSysCache(row);

	known->ids = get_relname_relid("outbox_id", schema);
	known->state = get_relname_relid(is_brief ? "capture_state_brief" : "capture_state", schema);
	known->fits = true;
	for (int i = 0; i < SEGMENTS; i++)
	{
		char		name[] = "outbox_0";

		name[7] += is_brief ? i + SEGMENTS : i;
		known->segments[i] = get_relname_relid(name, schema);
		known->fits &= columns_of(known->segments[i]) == OUTBOX_COLUMNS;
	}
	become(known->owner, &user, &context);
	known->plpgsql = function_named(schema, is_brief ? "capture_brief_plpgsql" : "capture_plpgsql", 0, NULL);
	known->ring = function_named(schema, "ring", 3, ring_arguments);
	known->bound = function_named(schema, is_brief ? "bound_outbox_brief" : "bound_outbox", 0, NULL);
	known->bell_lock = DatumGetInt32(OidFunctionCall0(function_named(schema, "bell_lock", 0, NULL)));
	bell = TextDatumGetCString(OidFunctionCall0(function_named(schema, "bell_mode", 0, NULL)));
	SetUserIdAndSecContext(user, context);
	known->bell = strcmp(bell, "never") == 0 ? BELL_NEVER :
		strcmp(bell, "always") == 0 ? BELL_ALWAYS : BELL_WHERE_ASLEEP;
	known->is_valid = began == forgotten;
}

/* A copy: what a type's output function writes may need the place for another installation. */
static Installation
installation_of(Oid function, bool is_brief)
{
	static bool is_listening = false;
	Installation *known = NULL;

	if (!is_listening)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget, (Datum) 0);
		CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
		is_listening = true;
	}
	for (int i = 0; i < INSTALLATIONS; i++)
	{
		if (installations[i].is_valid && installations[i].function == function)
			return installations[i];
		if (known == NULL && (!installations[i].is_valid || i == INSTALLATIONS - 1))
			known = &installations[i];
	}
	known->is_valid = false;
	learn(known, function, is_brief);
	return *known;
}

static Call *
call_of(FunctionCallInfo fcinfo, const Installation *of)
{
	Call	   *call = fcinfo->flinfo->fn_extra;

	if (call == NULL)
	{
		call = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Call));
		fmgr_info_cxt(of->plpgsql, &call->plpgsql, fcinfo->flinfo->fn_mcxt);
		fmgr_info_cxt(F_RECORD_IMAGE_NE, &call->differs, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = call;
	}
	return call;
}

/* What has something special is captured as before. */
static Datum
capture_in_plpgsql(FunctionCallInfo fcinfo, const Installation *of)
{
	LOCAL_FCINFO(inner, 0);
	Datum		result;

	InitFunctionCallInfoData(*inner, &call_of(fcinfo, of)->plpgsql, 0, InvalidOid, fcinfo->context, NULL);
	result = FunctionCallInvoke(inner);
	/* a trigger's result is a pointer, and that of an AFTER trigger counts for nothing */
	return inner->isnull ? PointerGetDatum(NULL) : result;
}

/* The segment that takes rows; SEGMENTS and more: none. -1: not to be read. */
static int64
state_of(const Installation *of)
{
	LOCAL_FCINFO(inner, 1);
	Datum		state;

	InitFunctionCallInfoData(*inner, NULL, 1, InvalidOid, NULL, NULL);
	inner->args[0].value = ObjectIdGetDatum(of->state);
	inner->args[0].isnull = false;
	state = pg_sequence_last_value(inner);
	return inner->isnull ? -1 : DatumGetInt64(state);
}

static int32
trigger_depth(void)
{
	LOCAL_FCINFO(inner, 0);

	InitFunctionCallInfoData(*inner, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetInt32(pg_trigger_depth(inner));
}

/* As rowcast.actor() says it. */
static text *
actor(void)
{
	const char *named = GetConfigOption("rowcast.actor", true, false);
	const char *application;
	char	   *user;

	if (named != NULL && *named != '\0')
		return cstring_to_text_with_len(named, pg_mbcharcliplen(named, strlen(named), ACTOR));
	/* the setting, not the role's entry: a role that was dropped since still writes */
	user = GetConfigOptionByName("session_authorization", NULL, false);
	application = application_name;
	if (application == NULL || *application == '\0')
		return cstring_to_text(user);
	return cstring_to_text(psprintf("%s/%s", user, application));
}

/*
 * A value as row_to_json writes it, which asks the catalogue about the type of each column of each row. Here the usual types
 * are known by their number. False: of another type.
 */
static bool
append_value(StringInfo json, Oid type, Datum value)
{
	char		moment[MAXDATELEN + 1];
	char	   *out;

	switch (type)
	{
		case BOOLOID:
			appendStringInfoString(json, DatumGetBool(value) ? "true" : "false");
			return true;
		case INT2OID:
			appendStringInfo(json, "%d", DatumGetInt16(value));
			return true;
		case INT4OID:
			appendStringInfo(json, "%d", DatumGetInt32(value));
			return true;
		case INT8OID:
			appendStringInfo(json, INT64_FORMAT, DatumGetInt64(value));
			return true;
		case NUMERICOID:
		case FLOAT4OID:
		case FLOAT8OID:
			out = DatumGetCString(type == NUMERICOID ? DirectFunctionCall1(numeric_out, value) :
								  type == FLOAT4OID ? DirectFunctionCall1(float4out, value) :
								  DirectFunctionCall1(float8out, value));
			/* NaN and infinity are no numbers of JSON */
			if (IsValidJsonNumber(out, strlen(out)))
				appendStringInfoString(json, out);
			else
				escape_json(json, out);
			return true;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			JsonEncodeDateTime(moment, value, type, NULL);
			appendStringInfo(json, "\"%s\"", moment);
			return true;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			escape_json(json, TextDatumGetCString(value));
			return true;
		case NAMEOID:
			escape_json(json, NameStr(*DatumGetName(value)));
			return true;
		case UUIDOID:
			escape_json(json, DatumGetCString(DirectFunctionCall1(uuid_out, value)));
			return true;
		case JSONOID:
			appendStringInfoString(json, TextDatumGetCString(value));
			return true;
		case JSONBOID:
			appendStringInfoString(json, DatumGetCString(DirectFunctionCall1(jsonb_out, value)));
			return true;
		default:
			/* row_to_json uses a cast to json where somebody has made one */
			if (!type_is_enum(type) ||
				SearchSysCacheExists2(CASTSOURCETARGET, ObjectIdGetDatum(type), ObjectIdGetDatum(JSONOID)))
				return false;
			escape_json(json, DatumGetCString(DirectFunctionCall1(enum_out, value)));
			return true;
	}
}

/* A row's JSON, byte for byte as row_to_json gives it. */
static Datum
json_of(HeapTuple row, TupleDesc columns)
{
	Datum	   *values = palloc(columns->natts * sizeof(Datum));
	bool	   *nulls = palloc(columns->natts * sizeof(bool));
	StringInfoData json;
	char		separator = '{';

	heap_deform_tuple(row, columns, values, nulls);
	initStringInfo(&json);
	/* the length of the datum comes here */
	appendStringInfoSpaces(&json, VARHDRSZ);
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped)
			continue;
		appendStringInfoChar(&json, separator);
		separator = ',';
		escape_json(&json, NameStr(column->attname));
		appendStringInfoChar(&json, ':');
		if (nulls[i])
			appendStringInfoString(&json, "null");
		else if (!append_value(&json, column->atttypid, values[i]))
			return DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(row, columns));
	}
	if (separator == '{')
		appendStringInfoChar(&json, separator);
	appendStringInfoChar(&json, '}');
	SET_VARSIZE(json.data, json.len);
	return PointerGetDatum(json.data);
}

/* Whether nothing of an updated row has another image. */
static bool
is_unchanged(Call *call, HeapTuple before, HeapTuple after, TupleDesc columns)
{
	uint32		header = before->t_data->t_hoff;

	/* the same bytes behind the same header; else the images are compared column by column, as by *<> */
	if (before->t_len == after->t_len && header == after->t_data->t_hoff &&
		(before->t_data->t_infomask & HEAP_HASNULL) == (after->t_data->t_infomask & HEAP_HASNULL) &&
		HeapTupleHeaderGetNatts(before->t_data) == HeapTupleHeaderGetNatts(after->t_data) &&
		memcmp((char *) before->t_data + SizeofHeapTupleHeader, (char *) after->t_data + SizeofHeapTupleHeader,
			   before->t_len - SizeofHeapTupleHeader) == 0)
		return true;
	return !DatumGetBool(FunctionCall2(&call->differs, heap_copy_tuple_as_datum(before, columns),
									   heap_copy_tuple_as_datum(after, columns)));
}

static void
append(const Installation *of, int64 segment, int64 id, int32 channel, char op, Datum old, Datum new)
{
	Relation	outbox = table_open(of->segments[segment], RowExclusiveLock);
	CatalogIndexState indexes = CatalogOpenIndexes(outbox);
	Datum		values[OUTBOX_COLUMNS] = {0};
	bool		nulls[OUTBOX_COLUMNS] = {0};
	HeapTuple	row;

	values[OUTBOX_ID - 1] = Int64GetDatum(id);
	/* also inside a savepoint: what commits is the whole transaction */
	values[OUTBOX_XID - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[OUTBOX_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[OUTBOX_CHANNEL - 1] = Int32GetDatum(channel);
	values[OUTBOX_OP - 1] = CharGetDatum(op);
	values[OUTBOX_OLD - 1] = old;
	nulls[OUTBOX_OLD - 1] = op == 'I';
	values[OUTBOX_NEW - 1] = new;
	nulls[OUTBOX_NEW - 1] = op == 'D';
	values[OUTBOX_ACTOR - 1] = PointerGetDatum(actor());
	nulls[OUTBOX_USERS - 1] = true;
	values[OUTBOX_DEPTH - 1] = Int32GetDatum(trigger_depth());
	row = heap_form_tuple(RelationGetDescr(outbox), values, nulls);
	/* a command of its own, as a statement of PL/pgSQL has: the order inside a transaction goes by it */
	CommandCounterIncrement();
	/* the same for any table: a heap's row, and its plain indexes */
	CatalogTupleInsertWithInfo(outbox, row, indexes);
	CatalogCloseIndexes(indexes);
	table_close(outbox, NoLock);
	CommandCounterIncrement();
}

/* After the row is written and has its transaction: the barrier of the relay wants it in this order. */
static bool
is_to_ring(const Installation *of)
{
	if (of->bell != BELL_WHERE_ASLEEP)
		return of->bell == BELL_ALWAYS;
	if (!DatumGetBool(DirectFunctionCall2(pg_try_advisory_lock_shared_int4, Int32GetDatum(of->bell_lock), Int32GetDatum(1))))
		return false;
	return DatumGetBool(DirectFunctionCall2(pg_advisory_unlock_shared_int4, Int32GetDatum(of->bell_lock), Int32GetDatum(1)));
}

/* As rowcast.output_deviates() says it. */
static bool
output_deviates(void)
{
	const char *zone = pg_get_timezone_name(session_timezone);

	return zone == NULL || (strcmp(zone, "UTC") != 0 && strcmp(zone, "Etc/UTC") != 0) ||
		IntervalStyle != INTSTYLE_POSTGRES || bytea_output != BYTEA_OUTPUT_HEX ||
		DateStyle != USE_ISO_DATES || extra_float_digits < 1;
}

/* As rowcast.is_plain() says it, which names the arguments. */
static bool
is_plain(const Trigger *trigger)
{
	char	  **of = trigger->tgargs;

	if (trigger->tgnargs == 2)
		return true;
	return trigger->tgnargs >= 8 && strcmp(of[3], "{}") == 0 && *of[5] == '\0' && strcmp(of[6], "{}") == 0 &&
		*of[7] == '\0' && (*of[2] == '\0' || !output_deviates());
}

static Datum
capture(FunctionCallInfo fcinfo, bool is_brief)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Installation known;
	const Installation *of = &known;
	const char *mute;
	HeapTuple	before = NULL,
				after = NULL;
	TupleDesc	columns;
	Datum		old = (Datum) 0,
				new = (Datum) 0;
	Oid			user;
	int			context;
	int64		segment;
	int64		id;
	int32		channel;
	char		op;
	bool		looks,
				rings;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("rowcast.capture is a trigger function")));
	known = installation_of(fcinfo->flinfo->fn_oid, is_brief);

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		op = 'I';
		after = trigger->tg_trigtuple;
	}
	else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		op = 'D';
		before = trigger->tg_trigtuple;
	}
	else
	{
		op = 'U';
		before = trigger->tg_trigtuple;
		after = trigger->tg_newtuple;
	}
	mute = GetConfigOption("rowcast.mute", true, false);
	if (!known.fits || !is_plain(trigger->tg_trigger) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) || (mute != NULL && strcmp(mute, "on") == 0) ||
		(before ? before->t_len : 0) + (after ? after->t_len : 0) > SMALL ||
		(before && HeapTupleHasExternal(before)) || (after && HeapTupleHasExternal(after)))
		return capture_in_plpgsql(fcinfo, of);

	become(of->owner, &user, &context);
	segment = state_of(of);
	SetUserIdAndSecContext(user, context);
	if (segment < 0 || segment >= SEGMENTS)
		return capture_in_plpgsql(fcinfo, of);

	columns = RelationGetDescr(trigger->tg_relation);
	if (op == 'U' && is_unchanged(call_of(fcinfo, of), before, after, columns))
		return PointerGetDatum(NULL);
	/* as the writer: the output of a type may be anybody's code */
	if (before)
		old = json_of(before, columns);
	if (after)
		new = json_of(after, columns);

	channel = pg_strtoint32(trigger->tg_trigger->tgargs[0]);
	id = nextval_internal(of->ids, false);
	append(of, segment, id, channel, op, old, new);

	looks = DatumGetInt32(DirectFunctionCall1(hashint8, Int64GetDatum(id))) >= LOOKS;
	rings = is_to_ring(of);
	if (rings || looks)
	{
		become(of->owner, &user, &context);
		if (looks)
			OidFunctionCall0(of->bound);
		if (rings)
			OidFunctionCall3(of->ring, CStringGetTextDatum(trigger->tg_trigger->tgargs[1]), CharGetDatum(op), after ? new : old);
		SetUserIdAndSecContext(user, context);
	}
	return PointerGetDatum(NULL);
}

Datum
rowcast_capture_1(PG_FUNCTION_ARGS)
{
	return capture(fcinfo, false);
}

Datum
rowcast_capture_brief_1(PG_FUNCTION_ARGS)
{
	return capture(fcinfo, true);
}
