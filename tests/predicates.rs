//! Filters in SQL: what the database is asked for is what the filter means, or more of it, whatever the types; and what filters mean
//! is what Postgres means by the same words. Random rows of many types, random conditions, one seed.

use std::collections::BTreeSet;

use fastrand::Rng;
use rowcast::change::{Column, ValueKind};
use rowcast::condition;
use rowcast::delivery::scope::projection::Projection;
use rowcast::delivery::scope::selection::Selection;
use rowcast::delivery::scope::telling::Telling;
use rowcast::source::predicate;
use serde_json::json;

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

/// A column: its name, its type, what stands in it and what it is compared with, and the words of Postgres that compare it as filters
/// do: the value's and the operand's.
struct Sort {
    name: &'static str,
    of: &'static str,
    values: &'static [&'static str],
    /// that no row has
    operands: &'static [&'static str],
    words: Option<(&'static str, &'static str)>,
}

const TEXTS: &[&str] = &[
    "", "a", "A", "b", "B", "ä", "Ä", "ab", "a b", "a,b", "a.b", "a)b", "(a", "\"a\"", "a\\", "\\", "%", "_", "a%",
    "z", "ß", "ss", "é", "e\u{301}", "æ", "𝒳", "\u{fffd}", "NULL", "{a}", "not.eq.a", "1", "10", "9",
];
const STAMPS: &[&str] = &[
    "2024-02-29 12:00:00",
    "2024-02-29 12:00:00.000001",
    "1969-12-31 23:59:59.999999",
    "2000-01-01 00:00:00",
    "infinity",
    "-infinity",
    "12345-06-07 08:09:10",
    "0044-03-15 12:00:00 BC",
    "4714-11-24 00:00:00 BC",
    "294276-12-31 23:59:59",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "0001-01-01 00:00:00",
    "0001-12-31 23:59:59 BC",
];
const MOMENTS: &[&str] = &[
    "2024-02-29 12:00:00+00",
    "2024-02-29 12:00:00.000001+00",
    "2024-02-29 14:00:00+02",
    "1969-12-31 23:59:59.999999+00",
    "infinity",
    "-infinity",
    "12345-06-07 08:09:10+00",
    "0044-03-15 12:00:00+00 BC",
    "294276-12-31 23:59:59+00",
    "9999-12-31 23:59:59.999999+00",
    "0001-12-31 23:59:59+00 BC",
];
const DATES: &[&str] = &[
    "2024-02-29",
    "2000-01-01",
    "1999-12-31",
    "infinity",
    "-infinity",
    "12345-06-07",
    "5874897-12-31",
    "0044-03-15 BC",
    "4714-11-24 BC",
    "9999-12-31",
    "10000-01-01",
    "0001-01-01",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "1.5",
    "1.50",
    "0.1",
    "-0.001",
    "7",
    "1e20",
    "-1e20",
    "99999999999999999999.000000001",
    "NaN",
    "Infinity",
    "-Infinity",
    "9223372036854775807",
    "9223372036854775808",
];
const FLOATS: &[&str] = &[
    "0",
    "-0",
    "1",
    "1.5",
    "0.1",
    "0.30000001",
    "16777217",
    "1e-40",
    "3e38",
    "NaN",
    "Infinity",
    "-Infinity",
    "-1e20",
    "7",
];
const OTHER_NUMBERS: &[&str] =
    &["0.10000000000000001", "0.1000000001", "7.0", "1e400", "-1e400", "1e-400", "2", "1e39", "7e-1", "-7.5"];
const MOODS: &[&str] = &["sad", "ok", "Ok", "it's \"fine\", (or.not)"];
const UUIDS: &[&str] = &[
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12",
];
const WORDS: Option<(&str, &str)> = Some(("{}::text collate \"C\"", "{}"));

const SORTS: &[Sort] = &[
    sort("i2", "int2", &["0", "1", "-1", "7", "32767", "-32768"], OTHER_NUMBERS, Some(("{}", "{}::numeric"))),
    sort("i4", "int4", &["0", "1", "-1", "7", "2147483647"], OTHER_NUMBERS, Some(("{}", "{}::numeric"))),
    sort(
        "i8",
        "int8",
        &["0", "7", "9223372036854775807", "-9223372036854775808"],
        OTHER_NUMBERS,
        Some(("{}", "{}::numeric")),
    ),
    sort("num", "numeric", NUMBERS, OTHER_NUMBERS, Some(("{}", "{}::numeric"))),
    sort("cut", "numeric(12,3)", &["0", "1.5", "0.100", "99999", "-7.500"], OTHER_NUMBERS, Some(("{}", "{}::numeric"))),
    sort("f4", "float4", FLOATS, OTHER_NUMBERS, None),
    sort("f8", "float8", FLOATS, OTHER_NUMBERS, None),
    sort("o", "oid", &["0", "7", "4294967295"], &["-1", "7.5"], Some(("{}::int8", "{}::numeric"))),
    sort("t", "text", TEXTS, &["zz"], WORDS),
    sort("v", "varchar(20)", TEXTS, &["zz"], WORDS),
    sort("nm", "name", TEXTS, &["zz"], WORDS),
    sort(
        "c",
        "char(6)",
        &["", "a", "a b", "A", "ä", "b"],
        &["a   ", " a", "a          b"],
        Some(("{}::text collate \"C\"", "rtrim({}, ' ')")),
    ),
    sort("ci", "citext", TEXTS, &["zz"], WORDS),
    sort("fold", "text collate fold", TEXTS, &["zz"], WORDS),
    sort("icu", "text collate \"und-x-icu\"", TEXTS, &["zz"], WORDS),
    sort("u", "uuid", UUIDS, &["b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], Some(("{}", "{}::uuid"))),
    sort("b", "bool", &["true", "false"], &[], Some(("{}", "{}::bool"))),
    sort("d", "date", DATES, &["2024-03-01"], Some(("{}", "{}::date"))),
    sort(
        "tm",
        "time",
        &["00:00:00", "10:20:30.5", "23:59:59.999999", "24:00:00"],
        &["10:20:30.500000"],
        Some(("{}", "{}::time")),
    ),
    sort("ts", "timestamp", STAMPS, &["2024-02-29T12:00", "2024-02-29"], Some(("{}", "{}::timestamp"))),
    sort("tz", "timestamptz", MOMENTS, &["2024-02-29T12:00:00Z"], Some(("{}", "{}::timestamptz"))),
    sort("e", "mood", MOODS, &["lost"], WORDS),
    sort("di", "count", &["0", "7", "2147483647"], OTHER_NUMBERS, Some(("{}::int4", "{}::numeric"))),
    sort("dt", "folded", TEXTS, &["zz"], WORDS),
    sort("dd", "counted", &["0", "7", "10"], &["8"], WORDS),
    sort("de", "feeling", MOODS, &["lost"], WORDS),
    sort("iv", "interval", &["1 day", "24:00:00", "1 mon"], &["00:00:01"], WORDS),
    sort("js", "jsonb", &["null", "[]", "{\"a\": 1}", "\"x\""], &[], None),
    sort("arr", "int4[]", &["{}", "{1,NULL}"], &[], None),
    sort("pair", "pair", &["(,)", "(1,)", "(1,2)"], &[], None),
    sort("or", "int4", &["1", "2"], &["3"], Some(("{}", "{}::numeric"))),
    sort("not", "text", &["eq", "a.b"], &["not.eq.1"], WORDS),
    sort("a \"b\", (c).d", "int4", &["1", "2"], &["3"], Some(("{}", "{}::numeric"))),
];

const fn sort(
    name: &'static str,
    of: &'static str,
    values: &'static [&'static str],
    operands: &'static [&'static str],
    words: Option<(&'static str, &'static str)>,
) -> Sort {
    Sort { name, of, values, operands, words }
}

const ROWS: usize = 200;
const CASES: usize = 1500;
/// In one statement.
const AT_ONCE: usize = 75;

fn literal(text: &str) -> String {
    // backslashes as they are, whatever the session says
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is asked: in the words of filters, in those of a group, and in those of Postgres where they mean the same.
struct Asked {
    alone: String,
    grouped: String,
    sql: Option<String>,
}

fn asked(rng: &mut Rng, columns: &[(&Sort, ValueKind)], depth: usize) -> Asked {
    let is_not = rng.u8(..4) == 0;
    let not = if is_not { "not." } else { "" };
    if depth > 0 && rng.bool() {
        let word = *rng.choice(["or", "and"].iter()).unwrap();
        let members: Vec<Asked> = (0..rng.usize(1..4)).map(|_| asked(rng, columns, depth - 1)).collect();
        let group = members.iter().map(|member| &*member.grouped).collect::<Vec<_>>().join(",");
        let sql = members.iter().map(|member| member.sql.clone()).collect::<Option<Vec<_>>>();
        let sql = sql.map(|sql| format!("{}({})", if is_not { "not " } else { "" }, sql.join(&format!(" {word} "))));
        return Asked { alone: format!("{not}{word}=({group})"), grouped: format!("{not}{word}({group})"), sql };
    }
    let (sort, kind) = *rng.choice(columns.iter()).unwrap();
    let has_order = !matches!(kind, ValueKind::Bool | ValueKind::Enum | ValueKind::Opaque);
    let operator = loop {
        let operator =
            *rng.choice(["eq", "neq", "in", "lt", "lte", "gt", "gte", "like", "ilike", "is"].iter()).unwrap();
        match operator {
            "is" => break operator,
            _ if kind == ValueKind::Structured => {}
            "lt" | "lte" | "gt" | "gte" if !has_order => {}
            "like" | "ilike" if !matches!(kind, ValueKind::Text | ValueKind::Enum) => {}
            _ => break operator,
        }
    };
    let mut operand = || {
        let all: Vec<_> = sort.values.iter().chain(sort.operands).copied().collect();
        *rng.choice(all.iter()).unwrap()
    };
    let place = format!("t.{}", identifier(sort.name));
    let of = |operator: &str, operand: &str| {
        let (value, limit) = sort.words?;
        Some(format!("{} {operator} {}", value.replace("{}", &place), limit.replace("{}", &literal(operand))))
    };
    let (text, sql) = match operator {
        "is" if kind == ValueKind::Bool && operand() == "true" => {
            let word = operand();
            (word.to_owned(), Some(format!("{place} is {word}")))
        }
        "is" => {
            let (word, sql) =
                if operand().len() % 2 == 0 { ("null", "not distinct") } else { ("not_null", "distinct") };
            (word.to_owned(), (kind != ValueKind::Structured).then(|| format!("{place} is {sql} from null")))
        }
        "in" => {
            let values = [operand(), operand(), operand()];
            let values: Vec<&str> = values.into_iter().filter(|value| fits(kind, value)).collect();
            let sql = values.iter().map(|value| of("=", value)).collect::<Option<Vec<_>>>();
            let list: Vec<String> = values.iter().map(|value| condition::quoted(value)).collect();
            if list.is_empty() {
                return asked(rng, columns, 0);
            }
            (format!("({})", list.join(",")), sql.map(|sql| format!("({})", sql.join(" or "))))
        }
        "like" | "ilike" => {
            let pattern = operand();
            let pattern = match pattern.chars().next() {
                Some(first) if pattern.len() % 2 == 0 => format!("{first}%"),
                Some('\\') | None => "%a_b".to_owned(),
                Some(first) => format!("_*{first}%"),
            };
            let pattern = if pattern.starts_with('\\') { "\\\\%".to_owned() } else { pattern };
            // which letters are the same in another case, each collation says in its own way
            let sql = if operator == "like" { of("like", &pattern.replace('*', "%")) } else { None };
            (pattern, sql)
        }
        operator => {
            let operand = operand();
            if !fits(kind, operand) {
                return asked(rng, columns, 0);
            }
            let symbol = match operator {
                "eq" => "=",
                "neq" => "<>",
                "lt" => "<",
                "lte" => "<=",
                "gt" => ">",
                _ => ">=",
            };
            (operand.to_owned(), of(symbol, operand))
        }
    };
    let is_plain = !text.contains([',', ')', '(', '"', '{', '\\']) && !sort.name.contains([',', '.']);
    let grouped_value =
        if operator == "in" || (is_plain && rng.bool()) { text.clone() } else { condition::quoted(&text) };
    let column = if sort.name.contains(['"', '.']) { condition::quoted(sort.name) } else { sort.name.to_owned() };
    let sql = sql.map(|sql| if is_not { format!("not ({sql})") } else { sql });
    Asked {
        alone: format!("{column}={not}{operator}.{text}"),
        grouped: format!("{column}.{not}{operator}.{grouped_value}"),
        sql,
    }
}

/// Whole numbers and oids have no infinity.
fn fits(kind: ValueKind, operand: &str) -> bool {
    kind != ValueKind::Integer || !operand.contains(['N', 'I'])
}

/// A database with a table of such rows, and what of it may be asked.
async fn sample(rng: &mut Rng) -> (TestDatabase, Vec<(&'static Sort, ValueKind)>) {
    let db = TestDatabase::new().await;
    let has_citext =
        db.text("select exists (select from pg_available_extensions where name = 'citext')").await == "true";
    if has_citext {
        db.run("create extension citext").await;
    }
    // a Postgres may be built without it
    let has_icu = db.text("select exists (select from pg_collation where collprovider = 'i')").await == "true";
    let needs_icu = |sort: &Sort| ["fold", "icu", "dt"].contains(&sort.name);
    let is_there = |sort: &Sort| (sort.of != "citext" || has_citext) && (has_icu || !needs_icu(sort));
    let sorts: Vec<&Sort> = SORTS.iter().filter(|sort| is_there(sort)).collect();
    if has_icu {
        db.run(
            "create collation fold (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create domain folded as text collate fold",
        )
        .await;
    }
    let columns: Vec<String> = sorts.iter().map(|sort| format!("{} {}", identifier(sort.name), sort.of)).collect();
    let names: Vec<String> = sorts.iter().map(|sort| identifier(sort.name)).collect();
    let moods: Vec<String> = MOODS.iter().map(|mood| literal(mood)).collect();
    let rows = (1..=ROWS).map(|id| {
        let values = sorts.iter().map(|sort| match rng.choice(sort.values.iter()).filter(|_| rng.u8(..5) > 0) {
            Some(value) => literal(value),
            None => "null".to_owned(),
        });
        format!("({id}, {})", values.collect::<Vec<_>>().join(", "))
    });
    let rows: Vec<String> = rows.collect();
    db.run(&format!(
        "create type mood as enum ({}); create type pair as (x int, y int);
         create domain count as int4 check (value >= 0); create domain counted as count;
         create domain feeling as mood;
         set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 1;
         create table sample (id int primary key, {}); select rowcast.watch('sample');
         insert into sample (id, {}) values {}",
        moods.join(", "),
        columns.join(", "),
        names.join(", "),
        rows.join(", ")
    ))
    .await;
    let kinds = db
        .client
        .query(
            "select a.attname::text, case when b.typtype = 'e' then 'enum' when b.typtype = 'c' or b.typcategory = 'A' then 'structured'
                                          else format_type(b.oid, null) end
               from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
              where a.attrelid = 'sample'::regclass and a.attnum > 0",
            &[],
        )
        .await
        .unwrap();
    let kind = |name: &str| {
        let row = kinds.iter().find(|row| row.get::<_, &str>(0) == name).unwrap();
        ValueKind::of_type(row.get(1))
    };
    let columns = sorts.into_iter().map(|sort| (sort, kind(sort.name))).collect();
    (db, columns)
}

fn known(columns: &[(&Sort, ValueKind)]) -> Vec<Column> {
    let id = Column { name: "id".into(), kind: ValueKind::Integer, number: 1, is_key: false };
    let others = columns.iter().zip(2..).map(|((sort, kind), number)| Column {
        name: sort.name.into(),
        kind: *kind,
        number,
        is_key: false,
    });
    [id].into_iter().chain(others).collect()
}

#[tokio::test]
async fn the_database_is_asked_for_all_that_a_filter_admits_and_for_no_more_where_it_says_so() {
    // the same cases each time; others with another seed
    let seed = std::env::var("ROWCAST_FILTER_SEED").ok().and_then(|seed| seed.parse().ok());
    let rng = &mut Rng::with_seed(seed.unwrap_or(20_261_129));
    let (db, columns) = sample(rng).await;
    let known = known(&columns);
    let table: u32 = db.client.query_one("select 'sample'::regclass::oid", &[]).await.unwrap().get(0);
    let types = predicate::column_types(&db.client.query(predicate::COLUMNS, &[&table]).await.unwrap());
    let rows = db.client.query("select id, row_to_json(t.*)::text from sample t", &[]).await.unwrap();
    let rows: Vec<(i32, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();

    let mut cases = Vec::new();
    while cases.len() < CASES {
        let asked = asked(rng, &columns, 3);
        let selection = Selection::new([asked.alone.clone()], None, Telling::default());
        let projection = match Projection::compile(&selection, Some(&known)) {
            Ok(projection) => projection,
            Err(unfit) => panic!("{}: {unfit:?}", asked.alone),
        };
        let admitted: BTreeSet<i32> =
            rows.iter().filter(|(_, json)| projection.row(json).is_some()).map(|(id, _)| *id).collect();
        cases.push((asked, projection, admitted));
    }
    let (mut exact, mut alike, mut narrowed) = (0, 0, 0);
    for cases in cases.chunks(AT_ONCE) {
        let (mut parts, mut values, mut are_exact) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (_, projection, _)) in cases.iter().enumerate() {
            let wanted = predicate::render(&projection.predicate(), &types, "t", values.len() + 1);
            parts.push(format!("select {i}, t.id from sample t where {}", wanted.clause));
            values.extend(wanted.values);
            are_exact.push(wanted.is_exact);
        }
        let values: Vec<Vec<&str>> =
            values.iter().map(|values| values.iter().map(|value| &**value).collect()).collect();
        let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            values.iter().map(|value| value as _).collect();
        let asked = parts.join(" union all ");
        let found = db.client.query(&asked, &parameters).await.unwrap_or_else(|e| panic!("{e:?}: {asked}"));
        let by_hand = cases.iter().enumerate().filter_map(|(i, (asked, ..))| {
            Some(format!("select {i}, t.id from sample t where {}", asked.sql.as_ref()?))
        });
        let by_hand = by_hand.collect::<Vec<_>>().join(" union all ");
        let meant = db.client.query(&by_hand, &[]).await.unwrap_or_else(|e| panic!("{e:?}: {by_hand}"));
        let of = |rows: &[tokio_postgres::Row], case: usize| -> BTreeSet<i32> {
            let rows = rows.iter().filter(|row| row.get::<_, i32>(0) == i32::try_from(case).unwrap());
            rows.map(|row| row.get(1)).collect()
        };
        for (i, (asked, _, admitted)) in cases.iter().enumerate() {
            let found = of(&found, i);
            let missed: Vec<_> = admitted.difference(&found).collect();
            assert!(missed.is_empty(), "{} misses {missed:?}: {}", asked.alone, parts[i]);
            if are_exact[i] {
                assert_eq!(&found, admitted, "{}: {}", asked.alone, parts[i]);
                exact += 1;
            }
            narrowed += usize::from(found.len() < ROWS);
            if let Some(sql) = &asked.sql {
                assert_eq!(&of(&meant, i), admitted, "{} is not {sql}", asked.alone);
                alike += 1;
            }
        }
    }
    println!("of {CASES} filters {exact} are left to the database, {narrowed} narrow it, {alike} mean what SQL means");
    assert!(exact > CASES / 2 && alike > CASES / 2 && narrowed > CASES / 2, "{exact} {alike} {narrowed}");
}

#[tokio::test]
async fn a_snapshot_has_the_rows_that_satisfy_the_filter() {
    let rng = &mut Rng::with_seed(5);
    let (db, columns) = sample(rng).await;
    let known = known(&columns);
    let rows = db.client.query("select id, row_to_json(t.*)::text from sample t", &[]).await.unwrap();
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws").await;
    let mut told = 0;
    for case in 0..60 {
        let filters: Vec<String> = (0..rng.usize(1..3)).map(|_| asked(rng, &columns, 3).alone).collect();
        let selection = Selection::new(filters.clone(), None, Telling::default());
        let projection = Projection::compile(&selection, Some(&known)).unwrap();
        let admitted = rows.iter().filter(|row| projection.row(row.get(1)).is_some()).map(|row| row.get::<_, i32>(0));
        let admitted: BTreeSet<i64> = admitted.map(i64::from).collect();
        let view = format!("v{case}");
        let subscribe =
            json!({"type": "subscribe", "channel": "sample", "view": view, "filter": filters, "snapshot": true});
        socket.send(&subscribe.to_string()).await;
        let mut shown = BTreeSet::new();
        loop {
            let message = socket.message().await;
            match message["type"].as_str().unwrap() {
                "snapshot" => {
                    shown.extend(message["rows"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()));
                }
                "subscribed" => break,
                _ => panic!("{filters:?}: {message}"),
            }
        }
        assert_eq!(shown, admitted, "{filters:?}");
        told += shown.len();
        socket.send(&json!({"type": "unsubscribe", "view": view, "channel": "sample"}).to_string()).await;
        assert_eq!(socket.message().await["type"], "unsubscribed");
    }
    assert!(told > 1000, "{told}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_index_finds_what_a_filter_asks_for() {
    let rng = &mut Rng::with_seed(3);
    let (db, columns) = sample(rng).await;
    let known = known(&columns);
    let indexed = ["i8", "t", "v", "c", "fold", "tz", "num", "u", "dt", "nm"];
    let indexed = indexed.iter().filter(|name| known.iter().any(|column| *column.name == ***name));
    let indexes: Vec<String> = indexed.map(|name| format!("create index on sample ({name})")).collect();
    db.run(&format!("set enable_seqscan = off; {}", indexes.join("; "))).await;
    let table: u32 = db.client.query_one("select 'sample'::regclass::oid", &[]).await.unwrap().get(0);
    let types = predicate::column_types(&db.client.query(predicate::COLUMNS, &[&table]).await.unwrap());
    for filter in [
        "i8=in.(7,8)",
        "and=(i8.gte.7,i8.lt.9)",
        "t=eq.a",
        "v=eq.a",
        "c=eq.a",
        "fold=eq.a",
        "dt=in.(a,b)",
        "nm=eq.a",
        "tz=gt.2024-01-01T00:00:00Z",
        "num=eq.1.5",
        "u=eq.a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "t=is.null",
        "or=(i8.eq.7,t.eq.a)",
        "and=(t.eq.a,i4.not.eq.3,v.ilike.x*)",
    ] {
        let projection =
            Projection::compile(&Selection::new([filter.to_owned()], None, Telling::default()), Some(&known));
        let Ok(projection) = projection else {
            assert!(filter.starts_with("fold") || filter.starts_with("dt"), "{filter}: a Postgres without ICU");
            continue;
        };
        let wanted = predicate::render(&projection.predicate(), &types, "t", 1);
        let values: Vec<Vec<&str>> =
            wanted.values.iter().map(|all| all.iter().map(|value| &**value).collect()).collect();
        let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            values.iter().map(|value| value as _).collect();
        let asked = format!("explain (costs off) select from sample t where {}", wanted.clause);
        let plan = db.client.query(&asked, &parameters).await.unwrap();
        let plan: Vec<&str> = plan.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("Index Cond")), "{filter}: {plan:#?}");
    }
}

/// A test as the relay reads it, or as `rowcast.filter_tests` does: condition, column, operator, operand, whether it is quoted.
type Read = Vec<(i32, String, String, String, bool)>;

fn read(filter: &str) -> Option<Read> {
    let mut all = Vec::new();
    for (text, number) in condition::split(filter).into_iter().zip(1..) {
        let asked = condition::ParsedCondition::read(text).ok()?;
        all.extend(asked.tests().into_iter().map(|test| {
            (number, test.column.to_string(), test.operator.to_owned(), test.operand.to_string(), test.is_quoted)
        }));
    }
    Some(all)
}

#[tokio::test]
async fn a_row_filter_is_read_alike_where_it_is_stated_and_where_it_holds() {
    const PARTS: [&str; 22] = [
        "or=(",
        "and=(",
        "or(",
        "not.",
        "and (",
        ")",
        ",",
        ".",
        "=",
        "\"",
        "\\",
        "{",
        "}",
        "&",
        " ",
        "a",
        "\"b,\\\"\"",
        "eq.",
        "in.(",
        "(x",
        "\n",
        "ä",
    ];
    let rng = &mut Rng::with_seed(7);
    let (db, columns) = sample(rng).await;
    let mut filters: Vec<String> = (0..10_000)
        .map(|_| {
            let begin = *rng.choice(["", "or=(a.eq.1,", "a=eq.1&not.and=(", "or=(", "\"a\"=in.("].iter()).unwrap();
            let parts = (0..rng.usize(..10)).map(|_| *rng.choice(PARTS.iter()).unwrap());
            parts.fold(begin.to_owned(), |text, part| text + part)
        })
        .collect();
    for _ in 0..1_000 {
        filters.push((0..rng.usize(1..3)).map(|_| asked(rng, &columns, 3).alone).collect::<Vec<_>>().join("&"));
    }
    let rows = db
        .client
        .query(
            "select x.n::int4, f.condition, f.\"column\", f.operator, f.operand, f.is_quoted, f.problem
               from unnest($1::text[]) with ordinality x(text, n) cross join lateral rowcast.filter_tests(x.text) f order by 1",
            &[&filters],
        )
        .await
        .unwrap();
    let mut of_filter = vec![Vec::new(); filters.len()];
    for row in &rows {
        of_filter[usize::try_from(row.get::<_, i32>(0)).unwrap() - 1].push(row);
    }
    let mut understood = 0;
    for (filter, rows) in filters.iter().zip(of_filter) {
        let has_problem = rows.iter().any(|row| row.get::<_, Option<&str>>(6).is_some());
        let in_sql: Option<Read> = (!has_problem)
            .then(|| rows.iter().map(|row| (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5))).collect());
        assert_eq!(in_sql, read(filter), "{filter}");
        understood += usize::from(!has_problem);
    }
    assert!(understood > 2_000, "{understood}");
}
