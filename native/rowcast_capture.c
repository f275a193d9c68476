/*
 * The capture of a plain row change in native code: what sql/functions/capture.sql says in PL/pgSQL, for rows with nothing
 * special. Whatever is special (excluded columns, user rules, large rows, output settings) goes to the PL/pgSQL function, in
 * the same call, so there is one description of it.
 *
 * It may do as little as that one: it does not raise, and waits for nothing that another transaction may hold. What needs rights
 * (the state of capture, the doorbell, the bound of the outbox) runs as the owner of the function, who has nothing else. So does a
 * cast to json, which is code of a type's owner: as the writer it could take what the writer has.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
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
#include "utils/datum.h"
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
	/* it has what is called here; else it is of a later version, and PL/pgSQL captures */
	bool		fits;
} Installation;

/* More installations than these in one session read what they know at each change. */
#define INSTALLATIONS 4
static Installation installations[INSTALLATIONS];
/* How often something was forgotten: what is learnt meanwhile is good for one row. */
static uint64 forgotten;

/* Where a column, its name and its value, stands in the JSON of a row. */
typedef struct Span
{
	int			begin;
	int			length;
} Span;

/* A row: its columns, and its JSON. */
typedef struct Image
{
	Datum	   *values;
	bool	   *nulls;
	Datum		json;
	/* of each column; NULL where row_to_json made it */
	Span	   *spans;
} Image;

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

	/* InvalidOid where there is none */
	return LookupFuncName(qualified, count, arguments, true);
}

/* As the owner of the function, until the user that was there before is set again; where an error comes between, the end of
 * the (sub)transaction does it. */
static void
become(Oid owner, Oid *user, int *context)
{
	GetUserIdAndSecContext(user, context);
	SetUserIdAndSecContext(owner, *context | SECURITY_LOCAL_USERID_CHANGE);
}

static void
learn(Installation *known, Oid function, bool is_brief)
{
	static const Oid ring_arguments[] = {TEXTOID, CHAROID, JSONOID};
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid			schema;
	Oid			lock;
	Oid			mode;
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
	known->fits = OidIsValid(known->ids) && OidIsValid(known->state);
	for (int i = 0; i < SEGMENTS; i++)
	{
		char		name[] = "outbox_0";

		name[7] += is_brief ? i + SEGMENTS : i;
		known->segments[i] = get_relname_relid(name, schema);
		known->fits &= OidIsValid(known->segments[i]);
	}
	become(known->owner, &user, &context);
	known->plpgsql = function_named(schema, is_brief ? "capture_brief_plpgsql" : "capture_plpgsql", 0, NULL);
	known->ring = function_named(schema, "ring", 3, ring_arguments);
	known->bound = function_named(schema, is_brief ? "bound_outbox_brief" : "bound_outbox", 0, NULL);
	if (!OidIsValid(known->plpgsql))
		elog(ERROR, "function %u is none of an installation of rowcast", function);
	lock = function_named(schema, "bell_lock", 0, NULL);
	mode = function_named(schema, "bell_mode", 0, NULL);
	known->fits &= OidIsValid(known->ring) && OidIsValid(known->bound) && OidIsValid(lock) && OidIsValid(mode);
	if (known->fits)
	{
		char	   *bell = TextDatumGetCString(OidFunctionCall0(mode));

		known->bell_lock = DatumGetInt32(OidFunctionCall0(lock));
		known->bell = strcmp(bell, "never") == 0 ? BELL_NEVER :
			strcmp(bell, "always") == 0 ? BELL_ALWAYS : BELL_WHERE_ASLEEP;
	}
	SetUserIdAndSecContext(user, context);
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

/* What has something special is captured as before. What calls the other function is kept from row to row of a statement. */
static Datum
capture_in_plpgsql(FunctionCallInfo fcinfo, const Installation *of)
{
	LOCAL_FCINFO(inner, 0);
	FmgrInfo   *plpgsql = fcinfo->flinfo->fn_extra;
	Datum		result;

	if (plpgsql == NULL)
	{
		plpgsql = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(of->plpgsql, plpgsql, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = plpgsql;
	}
	InitFunctionCallInfoData(*inner, plpgsql, 0, InvalidOid, fcinfo->context, NULL);
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
	{
		int			length = strlen(named);

		/* a short one is not looked at: its bytes may have come without a check, and end inside a character */
		if (length > ACTOR)
			length = Min(length, pg_mbcharcliplen(named, length, ACTOR));
		return cstring_to_text_with_len(named, length);
	}
	/* the setting, not the role's entry: a role that was dropped since still writes */
	user = GetConfigOptionByName("session_authorization", NULL, false);
	application = application_name;
	if (application == NULL || *application == '\0')
		return cstring_to_text(user);
	return cstring_to_text(psprintf("%s/%s", user, application));
}

/* A string; most have nothing to escape, and are copied in one piece. */
static void
append_string(StringInfo json, const char *bytes, int length)
{
	for (int i = 0; i < length; i++)
		if ((unsigned char) bytes[i] < ' ' || bytes[i] == '"' || bytes[i] == '\\')
		{
			escape_json(json, pnstrdup(bytes, length));
			return;
		}
	appendStringInfoCharMacro(json, '"');
	appendBinaryStringInfo(json, bytes, length);
	appendStringInfoCharMacro(json, '"');
}

static void
append_integer(StringInfo json, int64 value)
{
	char		digits[MAXINT8LEN + 1];

	pg_lltoa(value, digits);
	appendStringInfoString(json, digits);
}

/* NaN and infinity are no numbers of JSON. */
static void
append_number(StringInfo json, const char *number)
{
	if (IsValidJsonNumber(number, strlen(number)))
		appendStringInfoString(json, number);
	else
		append_string(json, number, strlen(number));
}

/*
 * A value as row_to_json writes it, which asks the catalogue about the type of each column of each row. Here the usual types
 * are known by their number. False: of another type.
 */
static bool
append_value(StringInfo json, Oid type, Datum value)
{
	char		moment[MAXDATELEN + 1];
	text	   *characters;

	switch (type)
	{
		case BOOLOID:
			appendStringInfoString(json, DatumGetBool(value) ? "true" : "false");
			return true;
		case INT2OID:
			append_integer(json, DatumGetInt16(value));
			return true;
		case INT4OID:
			append_integer(json, DatumGetInt32(value));
			return true;
		case INT8OID:
			append_integer(json, DatumGetInt64(value));
			return true;
		case NUMERICOID:
			append_number(json, DatumGetCString(DirectFunctionCall1(numeric_out, value)));
			return true;
		case FLOAT4OID:
			append_number(json, DatumGetCString(DirectFunctionCall1(float4out, value)));
			return true;
		case FLOAT8OID:
			append_number(json, DatumGetCString(DirectFunctionCall1(float8out, value)));
			return true;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			JsonEncodeDateTime(moment, value, type, NULL);
			append_string(json, moment, strlen(moment));
			return true;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			characters = DatumGetTextPP(value);
			append_string(json, VARDATA_ANY(characters), VARSIZE_ANY_EXHDR(characters));
			return true;
		case NAMEOID:
			append_string(json, NameStr(*DatumGetName(value)), strlen(NameStr(*DatumGetName(value))));
			return true;
		case UUIDOID:
			escape_json(json, DatumGetCString(DirectFunctionCall1(uuid_out, value)));
			return true;
		case JSONOID:
			characters = DatumGetTextPP(value);
			appendBinaryStringInfo(json, VARDATA_ANY(characters), VARSIZE_ANY_EXHDR(characters));
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

static Image
image_of(HeapTuple row, TupleDesc columns)
{
	Image		image = {0};

	image.values = palloc(columns->natts * sizeof(Datum));
	image.nulls = palloc(columns->natts * sizeof(bool));
	heap_deform_tuple(row, columns, image.values, image.nulls);
	return image;
}

/* Which columns of an updated row have the image that they had, as *<> compares it. NULL: all. */
static bool *
same_columns(const Image *before, const Image *after, TupleDesc columns)
{
	bool	   *same = palloc(columns->natts * sizeof(bool));
	bool		differs = false;

	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		same[i] = column->attisdropped ||
			(before->nulls[i] == after->nulls[i] &&
			 (before->nulls[i] || datum_image_eq(before->values[i], after->values[i], column->attbyval, column->attlen)));
		differs |= !same[i];
	}
	return differs ? same : NULL;
}

/*
 * Makes a row's JSON, byte for byte as row_to_json gives it. Most columns of an updated row are the same as before: what has the
 * same image has the same JSON, which is copied.
 */
static void
make_json(const Installation *of, Image *image, HeapTuple row, TupleDesc columns, const Image *before, const bool *same)
{
	StringInfoData json;
	char		separator = '{';

	image->spans = palloc(columns->natts * sizeof(Span));
	initStringInfo(&json);
	/* the length of the datum comes here */
	appendStringInfoSpaces(&json, VARHDRSZ);
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);
		Span	   *span = &image->spans[i];

		if (column->attisdropped)
			continue;
		appendStringInfoCharMacro(&json, separator);
		separator = ',';
		span->begin = json.len;
		if (before && before->spans && same[i])
			appendBinaryStringInfo(&json, DatumGetPointer(before->json) + before->spans[i].begin, before->spans[i].length);
		else
		{
			append_string(&json, NameStr(column->attname), strlen(NameStr(column->attname)));
			appendStringInfoCharMacro(&json, ':');
			if (image->nulls[i])
				appendStringInfoString(&json, "null");
			else if (!append_value(&json, column->atttypid, image->values[i]))
			{
				Oid			user;
				int			context;

				image->spans = NULL;
				/* as in PL/pgSQL: a cast to json is code of the type's owner, who could take what the writer has */
				become(of->owner, &user, &context);
				image->json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(row, columns));
				SetUserIdAndSecContext(user, context);
				return;
			}
		}
		span->length = json.len - span->begin;
	}
	if (separator == '{')
		appendStringInfoCharMacro(&json, separator);
	appendStringInfoCharMacro(&json, '}');
	SET_VARSIZE(json.data, json.len);
	image->json = PointerGetDatum(json.data);
}

/*
 * Whether a segment has the columns that are known here, and nothing on it that only the executor heeds. A later version may have
 * added a column while the lock of the segment was waited for. An operator may have put an index over an expression there, a
 * constraint or a trigger. The catalogue's insert, used below, ignores them, or ends the server.
 */
static bool
is_bare(Relation outbox, CatalogIndexState indexes)
{
	static const Oid types[OUTBOX_COLUMNS] =
	{INT8OID, XID8OID, TIMESTAMPTZOID, INT4OID, CHAROID, JSONOID, JSONOID, TEXTOID, TEXTARRAYOID, INT4OID};
	TupleDesc	columns = RelationGetDescr(outbox);
	TupleConstr *constraints = columns->constr;

	if (columns->natts != OUTBOX_COLUMNS)
		return false;
	for (int i = 0; i < OUTBOX_COLUMNS; i++)
		if (TupleDescAttr(columns, i)->atttypid != types[i])
			return false;
	if (outbox->rd_rel->relam != HEAP_TABLE_AM_OID || outbox->trigdesc != NULL ||
		(constraints != NULL && constraints->num_check > 0))
		return false;
	for (int i = 0; i < indexes->ri_NumIndices; i++)
	{
		IndexInfo  *index = indexes->ri_IndexRelationInfo[i];

		if (index->ii_Expressions != NIL || index->ii_Predicate != NIL || index->ii_ExclusionOps != NULL ||
			!indexes->ri_IndexRelationDescs[i]->rd_index->indimmediate)
			return false;
	}
	return true;
}

/* The id of the row; 0: nothing was written, PL/pgSQL has to. */
static int64
append(const Installation *of, int64 segment, int32 channel, char op, Datum old, Datum new)
{
	Relation	outbox = table_open(of->segments[segment], RowExclusiveLock);
	CatalogIndexState indexes = CatalogOpenIndexes(outbox);
	int64		id;
	Datum		values[OUTBOX_COLUMNS] = {0};
	bool		nulls[OUTBOX_COLUMNS] = {0};
	HeapTuple	row;

	if (!is_bare(outbox, indexes))
	{
		CatalogCloseIndexes(indexes);
		table_close(outbox, NoLock);
		return 0;
	}
	id = nextval_internal(of->ids, false);
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
	/* a heap's row, and its plain indexes */
	CatalogTupleInsertWithInfo(outbox, row, indexes);
	CatalogCloseIndexes(indexes);
	table_close(outbox, NoLock);
	CommandCounterIncrement();
	return id;
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
		*of[7] == '\0' && (*of[2] == '\0' || (*of[2] == 'x' && !output_deviates()));
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
	Image		old = {0},
				new = {0};
	bool	   *same = NULL;
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
	if (before)
		old = image_of(before, columns);
	if (after)
		new = image_of(after, columns);
	if (op == 'U')
	{
		same = same_columns(&old, &new, columns);
		if (same == NULL)
			return PointerGetDatum(NULL);
	}
	if (before)
		make_json(of, &old, before, columns, NULL, NULL);
	if (after)
		make_json(of, &new, after, columns, before ? &old : NULL, same);

	channel = pg_strtoint32(trigger->tg_trigger->tgargs[0]);
	id = append(of, segment, channel, op, old.json, new.json);
	if (id == 0)
		return capture_in_plpgsql(fcinfo, of);

	looks = DatumGetInt32(DirectFunctionCall1(hashint8, Int64GetDatum(id))) >= LOOKS;
	rings = is_to_ring(of);
	if (rings || looks)
	{
		become(of->owner, &user, &context);
		if (looks)
			OidFunctionCall0(of->bound);
		if (rings)
			OidFunctionCall3(of->ring, CStringGetTextDatum(trigger->tg_trigger->tgargs[1]), CharGetDatum(op), after ? new.json : old.json);
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
