//! Installations of other names than rowcast, and two of them in one database: neither sees the other. Roles are the
//! cluster's, so each test has names of its own.

use std::collections::BTreeMap;

use rowcast::naming::Naming;
use rowcast::source::client::Client;
use rowcast::source::install;
use rowcast::source::pool::{Database, Purpose};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::restore::dumped;
use super::support::PATIENCE;
use super::support::postgres::{TestDatabase, connect};
use super::support::redis::TestRedis;
use super::support::server::TestServer;
use super::support::socket::Socket;

/// A command, and whether it has succeeded.
async fn rowcast(url: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command.args(arguments).env("DATABASE_URL", url).env_remove("ROWCAST_DATABASE_URL").env_remove("ROWCAST_SCHEMA");
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// A client in the words of an installation that is there from now on.
async fn installed(url: &str, schema: &str) -> Client {
    let naming = Naming::of_schema(schema).unwrap();
    let mut client = Database::parse(url).unwrap().with_naming(naming).client(Purpose::Command).await.unwrap();
    install::migrate(&mut client).await.unwrap();
    client
}

/// What is left when a test is over: its roles.
async fn uninstalled(db: &TestDatabase, schema: &str) {
    // a server that has stopped may have backends that have not noticed yet
    let own = if schema == "rowcast" { "rowcast ".to_owned() } else { format!("rowcast/{schema} ") };
    let sessions = format!(
        "select count(*) from pg_stat_activity where datname = current_database() and starts_with(application_name, '{own}')"
    );
    while db.text(&sessions).await != "0" {
        tokio::task::yield_now().await;
    }
    db.run(&format!("select {schema}.uninstall()")).await;
    let left = format!("select count(*) from pg_roles where rolname in ('{schema}_relay', '{schema}_capture')");
    assert_eq!(db.text(&left).await, "0", "{schema}");
}

/// Numbers of rows as they come, up to one.
async fn numbers(socket: &mut Socket, last: i64) -> Vec<i64> {
    let mut came = Vec::new();
    while came.last() != Some(&last) {
        came.push(socket.message().await["data"]["n"].as_i64().unwrap());
    }
    came
}

const WRITES: &str = "create table t (n int primary key, who int, secret text);
    create function write(from_n int, to_n int) returns void language plpgsql as $$ begin
      insert into t select n, 100 + n, 'hush' from generate_series(from_n, to_n) n; end $$";

#[tokio::test]
async fn two_installations_tell_each_change_once_and_in_order() {
    let db = TestDatabase::new().await;
    db.run(WRITES).await;
    installed(&db.url, "twice").await;
    // rules that are queries hand the users on in settings of the writer's transaction
    db.run(
        "select rowcast.watch('t', user_rule => 'select row.who', exclude => '{secret}');
         select twice.watch('t', channel => 'tee', user_rule => 'select row.who + 1000')",
    )
    .await;
    let (first, second) =
        (TestServer::start(&db.url), TestServer::start_with(&db.url, &[("schema", "twice"), ("ping-seconds", "60")]));
    let (mut t, mut tee) = (first.subscribed("/ws/t").await, second.subscribed("/ws/tee").await);
    let (mut user, mut other_user) = (first.subscribed("/ws/user/150").await, second.subscribed("/ws/user/1150").await);
    // single ones, by which relays sleep, then many at once, by which they wake
    for n in 1..=60 {
        db.run(&format!("select write({n}, {n})")).await;
    }
    db.run("begin; select write(61, 3000); select set_config('rowcast.actor', 'anna', true); select write(3001, 3001); commit").await;
    let expected: Vec<i64> = (1..=3001).collect();
    assert_eq!(numbers(&mut t, 3001).await, expected);
    assert_eq!(numbers(&mut tee, 3001).await, expected);
    for socket in [&mut user, &mut other_user] {
        let told = socket.message().await;
        assert_eq!(told["data"]["n"], 50, "{told}");
    }
    // what an application says of itself is heard by both, what each excludes is its own
    db.run("select set_config('rowcast.actor', 'berta', false); update t set who = 0 where n = 1").await;
    let (one, other) = (t.message().await, tee.message().await);
    assert_eq!((&one["actor"], &other["actor"]), (&"berta".into(), &"berta".into()));
    assert_eq!((one["data"].get("secret"), &other["data"]["secret"]), (None, &"hush".into()));
    // and what stops one stops the other not
    db.run(
        "select twice.pause(); update t set who = 1 where n = 2; select twice.resume(); update t set who = 2 where n = 3",
    )
    .await;
    assert_eq!(numbers(&mut t, 3).await, [2, 3]);
    assert_eq!(tee.gap().await, "retention");
    db.run("set rowcast.mute = on; update t set who = 3; reset rowcast.mute; update t set who = 4 where n = 4").await;
    assert_eq!(numbers(&mut t, 4).await, [4]);
    second.stop().await.unwrap();
    first.stop().await.unwrap();
    uninstalled(&db, "twice").await;
}

/// The next bell, which comes at once or never.
async fn next(bells: &mut UnboundedReceiver<String>) -> String {
    timeout(PATIENCE, bells.recv()).await.expect("a bell").unwrap()
}

#[tokio::test]
async fn neither_rings_for_the_other_nor_keeps_it_quiet() {
    let db = TestDatabase::new().await;
    db.run("create table mine (n int primary key); create table theirs (n int primary key); create table ours (n int primary key)").await;
    installed(&db.url, "bells").await;
    db.run("select rowcast.watch('mine'), rowcast.watch('ours'); select bells.watch('theirs'), bells.watch('ours')")
        .await;
    let mut rung = db.bells_on("rowcast").await;
    let mut others = db.bells_on("rowcast_bells").await;
    let ids =
        |bell: &str| -> String { serde_json::from_str::<Value>(bell).unwrap()["entity_type"].as_str().unwrap().into() };
    // of one transaction, in which each counts its own bells
    db.run("begin; insert into mine select generate_series(1, 30); insert into theirs values (1); commit").await;
    assert_eq!(ids(&next(&mut others).await), "theirs");
    for _ in 0..16 {
        assert_eq!(ids(&next(&mut rung).await), "mine");
    }
    assert_eq!(next(&mut rung).await, "{\"more\":true}");
    // the lock of a relay that is awake
    let awake = db.another_client().await;
    awake.batch_execute("select pg_advisory_lock(1919907683, 1)").await.unwrap();
    db.run("insert into ours values (1)").await;
    assert_eq!(ids(&next(&mut others).await), "ours");
    db.run("select pg_notify('rowcast', 'end')").await;
    assert_eq!(next(&mut rung).await, "end", "a relay that is awake reads without a bell");
    drop(awake);
    uninstalled(&db, "bells").await;
}

#[tokio::test]
async fn a_cursor_is_good_in_its_own_installation_alone() {
    let db = TestDatabase::new().await;
    db.run(WRITES).await;
    installed(&db.url, "place").await;
    db.run("select rowcast.watch('t'); select place.watch('t'); select write(1, 1)").await;
    let first = TestServer::start(&db.url);
    let second = TestServer::start_with(&db.url, &[("schema", "place")]);
    let (_, of_first) = first.subscribed_at("/ws/t").await;
    let (_, of_second) = second.subscribed_at("/ws/t").await;
    second.stop().await.unwrap();
    db.run("select write(2, 40)").await;
    let second = TestServer::start_with(&db.url, &[("schema", "place")]);
    let mut resumed = second.socket(&format!("/ws/t?since={of_second}")).await;
    assert_eq!(numbers(&mut resumed, 40).await, (2..=40).collect::<Vec<i64>>());
    let mut wrong = second.socket(&format!("/ws/t?since={of_first}")).await;
    assert_eq!(wrong.gap().await, "bad_cursor");
    // a snapshot, and what only the database answers
    let mut rows = second.socket("/ws/t?snapshot=true&filter=n=eq.7").await;
    assert_eq!(rows.message().await["rows"][0]["n"], 7);
    let state: Value = serde_json::from_str(&second.get("/websocket/database").await.1).unwrap();
    let nodes: Vec<&str> =
        state["nodes"].as_array().unwrap().iter().map(|node| node["address"].as_str().unwrap()).collect();
    let own = |server: &TestServer| nodes.contains(&&*server.address.to_string());
    assert!(own(&second) && !own(&first), "{nodes:?}");
    let page = second.get("/").await.1;
    assert!(page.contains("select place.watch('public.your_table');") && !page.contains("rowcast.watch"));
    assert!(first.get("/").await.1.contains("select rowcast.watch('public.your_table');"));
    second.stop().await.unwrap();
    first.stop().await.unwrap();
    uninstalled(&db, "place").await;
}

#[tokio::test]
async fn two_publishers_of_one_database_need_two_streams() {
    let (db, redis) = (TestDatabase::new().await, TestRedis::start().await);
    db.run(WRITES).await;
    installed(&db.url, "streamed").await;
    db.run("select rowcast.watch('t'); select streamed.watch('t')").await;
    let url = redis.url();
    let first = TestServer::start_with(&db.url, &[("publish", &url), ("redis-stream", "one")]);
    let second = TestServer::start_with(&db.url, &[("publish", &url), ("redis-stream", "two"), ("schema", "streamed")]);
    let (mut t, mut other) = (first.subscribed("/ws/t").await, second.subscribed("/ws/t").await);
    db.run("select write(1, 20)").await;
    for socket in [&mut t, &mut other] {
        assert_eq!(numbers(socket, 20).await, (1..=20).collect::<Vec<i64>>());
    }
    for schema in ["rowcast", "streamed"] {
        let publishers = format!("select count(*) from {schema}.publisher p join pg_stat_activity a on a.pid = p.pid");
        assert_eq!(db.text(&publishers).await, "1", "{schema}");
    }
    second.stop().await.unwrap();
    first.stop().await.unwrap();
    uninstalled(&db, "streamed").await;
}

/// The names that are left in what is installed: after a point, before one, of a role, a trigger, a schema.
fn names_left(text: &str, schema: &str) -> Vec<String> {
    let kept = [
        "rowcast.actor",
        "rowcast.mute",
        "rowcast.all_tables",
        "rowcast.before",
        "rowcast.js",
        &format!("rowcast.{schema}_users"),
        &format!("rowcast.{schema}_bells"),
        &format!("rowcast/{schema} "),
        &format!("'rowcast_{schema}'"),
        &format!("rowcast --schema {schema} "),
        "rowcast --schema ' ||",
    ]
    .map(str::to_owned);
    let mut left = Vec::new();
    for (at, word) in text.match_indices("rowcast") {
        let (before, rest) = (&text[..at], &text[at + word.len()..]);
        let is_prose = rest.starts_with(". ") || rest.starts_with("'s ") || rest.starts_with("''s ");
        let is_name = before.ends_with(['!', '\'', '?', '^', '"']) || rest.starts_with(['.', '_', '/', '\'', '"']);
        let is_kept =
            kept.iter().any(|kept| text[at..].starts_with(kept) || text[at.saturating_sub(1)..].starts_with(kept));
        if is_name && !is_prose && !is_kept {
            left.push(text[at.saturating_sub(30)..text.len().min(at + 40)].to_owned());
        }
    }
    left
}

#[tokio::test]
async fn nothing_that_is_installed_names_rowcast() {
    const TEXTS: &str = "select string_agg(text, e'\\n') from (
        select pg_get_functiondef(p.oid) || ' ' || coalesce(obj_description(p.oid, 'pg_proc'), '') || coalesce(p.proacl::text, '') || pg_get_userbyid(p.proowner)
          from pg_proc p where p.pronamespace = to_regnamespace('named')
        union all select case c.relkind when 'v' then pg_get_viewdef(c.oid) else c.relname end || ' ' || coalesce(obj_description(c.oid, 'pg_class'), '') || coalesce(c.relacl::text, '')
          from pg_class c where c.relnamespace = to_regnamespace('named')
        union all select coalesce(col_description(a.attrelid, a.attnum), '') || coalesce(a.attacl::text, '') || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
          from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relnamespace = to_regnamespace('named')
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        union all select pg_get_constraintdef(oid) from pg_constraint where connamespace = to_regnamespace('named')
        union all select pg_get_triggerdef(oid) || tgname from pg_trigger where tgrelid = 't'::regclass or tgrelid in (select oid from pg_class where relnamespace = to_regnamespace('named'))
        union all select n.nspacl::text || coalesce(obj_description(n.oid, 'pg_namespace'), '') from pg_namespace n where n.oid = to_regnamespace('named')
        union all select relacl::text from pg_class where oid = 't'::regclass) texts(text)";
    let db = TestDatabase::empty().await;
    db.run(WRITES).await;
    let script = rowcast(&db.url, &["sql", "--schema", "named"]).await.1;
    db.run(&script).await;
    db.run("select named.watch('t', user_rule => 'select row.who', exclude => '{secret}')").await;
    let text = db.text(TEXTS).await;
    assert!(text.contains("named.outbox_0") && text.contains("!named_t") && text.contains("named_relay="), "{text}");
    assert_eq!(names_left(&text, "named"), [""; 0]);
    assert_eq!(db.text("select to_regnamespace('rowcast')").await, "");
    // with it goes what the printed script has said: a migrate has nothing to do
    assert!(rowcast(&db.url, &["--schema", "named", "migrate"]).await.1.contains("schema named was at version"));
    uninstalled(&db, "named").await;
}

#[tokio::test]
async fn what_one_reports_and_its_remedies_are_its_own() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key, name text, secret text); create table owners (id int primary key)")
        .await;
    // what the views do is done sooner than compiled
    db.run("set jit = off").await;
    installed(&db.url, "own").await;
    db.run(
        "select rowcast.watch('pets', exclude => '{secret}'); select own.watch('pets', channel => 'beasts', exclude => '{secret}', user_rule => 'select row.id');
         select own.allow('beasts', 'vet', null, '{id,name}')",
    )
    .await;
    for (schema, other) in [("rowcast", "own"), ("own", "rowcast")] {
        let unwatched = format!("select string_agg(\"table\"::text || ' ' || remedy, ' ') from {schema}.unwatched");
        assert_eq!(db.text(&unwatched).await, format!("owners select {schema}.watch('owners');"));
        let refused = db.refused(&format!("select {schema}.watch('{other}.outbox')")).await;
        assert!(refused.contains("watch the application's own tables"), "{refused}");
        let refused = db.refused(&format!("select {schema}.watch_schema('{other}')")).await;
        assert!(refused.contains("it is not the application's"), "{refused}");
    }
    assert_eq!(db.text("select count(*) from rowcast.exposure").await, "0");
    assert_eq!(db.text("select count(*) from own.exposure").await, "3");
    let states = "select (select string_agg(state || ' ' || coalesce(drift, 'as stated'), '') from rowcast.watched)
        || ', ' || (select string_agg(state || ' ' || coalesce(drift, 'as stated'), '') from own.watched)";
    let sound = "live as stated, live as stated";
    assert_eq!(db.text(states).await, sound);
    // each drift is of one installation, and its remedy says which
    for (broken, drift) in [
        ("drop trigger \"!own\" on pets", "off triggers missing: !own; call own.watch again, with all its arguments"),
        ("alter table pets disable trigger \"!!own_users\"", "off triggers disabled: !!own_users"),
        (
            "alter table pets rename secret to old; alter table pets add secret text",
            "another column has, or had, the name of an excluded one",
        ),
    ] {
        db.run(broken).await;
        let state = db.text(states).await;
        let (one, other) = state.split_once(", ").unwrap();
        if broken.contains("own") {
            assert_eq!(one, "live as stated", "{broken}");
        }
        assert!(other.contains(drift), "{broken}: {other}");
        let (ok, said) = rowcast(&db.url, &["--schema", "own", "doctor"]).await;
        assert!(!ok && said.contains("-> select * from own.watched where drift is not null;"), "{said}");
        db.run(&db.text("select remedy from own.watched").await).await;
        db.run(&db.text("select coalesce((select remedy from rowcast.watched), 'select 1')").await).await;
        assert_eq!(db.text(states).await, sound, "{broken}");
    }
    let said = rowcast(&db.url, &["--schema", "own", "doctor"]).await.1;
    assert!(said.contains("schema                 installed") && !said.contains("rowcast."), "{said}");
    let dump = db.text("select string_agg(call, ' ') from own.dump() call").await;
    assert!(
        dump.contains("select own.watch('public.pets', channel => 'beasts'") && !dump.contains("rowcast"),
        "{dump}"
    );
    db.run(&db.text("select remedy from own.unwatched").await).await;
    assert_eq!(db.text("select count(*) from own.unwatched").await, "0");
    uninstalled(&db, "own").await;
}

#[tokio::test]
async fn uninstalling_one_leaves_the_other_whole_and_both_leave_nothing() {
    let db = TestDatabase::empty().await;
    db.run(WRITES).await;
    db.run(
        "create table parts (n int primary key) partition by list (n); create table part partition of parts default",
    )
    .await;
    let Some(before) = dumped(&db, &db.url, &["--schema-only"]).await else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "pg_dump of the server's version is missing");
        return eprintln!("skipped: pg_dump of the server's version is missing");
    };
    installed(&db.url, "stays").await;
    let watch = |schema: &str| {
        format!("select {schema}.watch('t', user_rule => 'select row.who'); select {schema}.watch('parts')")
    };
    db.run(&watch("stays")).await;
    let alone = dumped(&db, &db.url, &["--schema-only"]).await.unwrap().unwrap();
    installed(&db.url, "goes").await;
    db.run(&watch("goes")).await;
    let server = TestServer::start_with(&db.url, &[("schema", "stays")]);
    let mut socket = server.subscribed("/ws/t").await;
    // a relay of one is no reason to keep the other
    let (ok, said) = rowcast(&db.url, &["--schema", "stays", "uninstall", "--yes"]).await;
    assert!(!ok && said.contains("end rowcast --schema stays serve first"), "{said}");
    let (ok, said) = rowcast(&db.url, &["uninstall", "--schema", "goes"]).await;
    let (_, remedy) = said.split_once("-> rowcast ").expect(&said);
    assert!(!ok && remedy.trim() == "--schema goes uninstall --yes", "{said}");
    let arguments: Vec<&str> = remedy.split_whitespace().collect();
    assert!(rowcast(&db.url, &arguments).await.0);
    assert_eq!(without_keys(&dumped(&db, &db.url, &["--schema-only"]).await.unwrap().unwrap()), without_keys(&alone));
    db.run("select write(1, 3)").await;
    assert_eq!(numbers(&mut socket, 3).await, [1, 2, 3]);
    server.stop().await.unwrap();
    assert!(rowcast(&db.url, &["--schema", "stays", "uninstall", "--yes"]).await.0);
    assert_eq!(
        without_keys(&dumped(&db, &db.url, &["--schema-only"]).await.unwrap().unwrap()),
        without_keys(&before.unwrap())
    );
    let roles = "select string_agg(rolname, ' ') from pg_roles where rolname ~ '^(stays|goes)_'";
    assert_eq!(db.text(roles).await, "");
}

/// Newer ones protect a dump by a key that is another one each time.
fn without_keys(dump: &str) -> String {
    dump.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn the_option_is_heard_before_a_command_behind_it_and_from_the_environment() {
    let db = TestDatabase::empty().await;
    db.run("create schema shop; create table shop.a (id int primary key); create table shop.b (id int primary key)")
        .await;
    let (_, said) = rowcast(&db.url, &["--schema", "heard", "watch", "shop.a"]).await;
    assert!(said.contains("this database has no schema heard\n  -> run: rowcast --schema heard migrate"), "{said}");
    for arguments in [["migrate", "--schema", "heard"], ["--schema", "heard", "migrate"]] {
        assert!(rowcast(&db.url, &arguments).await.0);
    }
    // where a schema of the application's is meant
    let (ok, said) = rowcast(&db.url, &["--schema", "heard", "watch", "--schema", "shop", "--prefix", "s-"]).await;
    assert!(ok, "{said}");
    assert_eq!(db.text("select string_agg(name, ' ' order by name) from heard.channel").await, "s-a s-b");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command.args(["unwatch", "shop.a"]).env("DATABASE_URL", &db.url).env("ROWCAST_SCHEMA", "heard");
    assert!(command.output().await.unwrap().status.success());
    assert_eq!(db.text("select string_agg(name, ' ') from heard.channel").await, "s-b");
    let (ok, said) = rowcast(&db.url, &["unwatch", "shop.a", "--schema", "heard"]).await;
    assert!(!ok && said.contains("-> select * from heard.watched;"), "{said}");
    let types = rowcast(&db.url, &["types", "--schema", "heard"]).await.1;
    assert!(types.contains("\"s-b\": {"), "{types}");
    let grants = rowcast(&db.url, &["migrate", "--print-grants", "--schema", "heard"]).await.1;
    assert!(grants.contains("grant usage on schema heard to heard_relay"), "{grants}");
    uninstalled(&db, "heard").await;
}

#[tokio::test]
async fn a_schema_that_is_somebody_elses_is_refused_with_one_that_works() {
    let db = TestDatabase::empty().await;
    db.run("create schema app_of_us; create table app_of_us.users (id int primary key); create function app_of_us.f() returns int language sql as 'select 1'; create schema bare_one").await;
    let before = db.text("select string_agg(rolname, ' ' order by 1) from pg_roles where rolname ~ '^app_of_us'").await;
    let (ok, said) = rowcast(&db.url, &["--schema", "app_of_us", "migrate"]).await;
    assert!(
        !ok && said.contains("schema app_of_us has what is not of rowcast: app_of_us.f(), app_of_us.users"),
        "{said}"
    );
    assert_eq!(
        db.text("select count(*) from pg_class where relnamespace = 'app_of_us'::regnamespace and relkind = 'r'").await,
        "1"
    );
    assert_eq!(
        db.text("select string_agg(rolname, ' ' order by 1) from pg_roles where rolname ~ '^app_of_us'").await,
        before
    );
    let (_, remedy) = said.split_once("that is not there yet: rowcast ").expect(&said);
    let arguments: Vec<&str> = remedy.split('.').next().unwrap().split_whitespace().collect();
    assert_eq!(arguments, ["--schema", "app_of_us_rowcast", "migrate"]);
    assert!(rowcast(&db.url, &arguments).await.0);
    // one that was made for it
    assert!(rowcast(&db.url, &["--schema", "bare_one", "migrate"]).await.0);
    for (schema, reason) in [
        ("select", "an installation of rowcast cannot be named \"select\": it is a word of SQL"),
        ("Live", "a name has 1 to 32 lower-case letters"),
        ("public", "that schema is there for others"),
        ("pg_live", "begin with pg_ are Postgres' own"),
        ("live_2", "its triggers could not be told from another one's"),
    ] {
        let (ok, said) = rowcast(&db.url, &["--schema", schema, "migrate"]).await;
        assert!(!ok && said.contains(reason), "{schema}: {said}");
        assert!(said.contains("choose another --schema"), "{schema}: {said}");
    }
    uninstalled(&db, "app_of_us_rowcast").await;
    uninstalled(&db, "bare_one").await;
}

#[tokio::test]
async fn an_owner_without_superuser_installs_and_its_relay_serves() {
    let db = TestDatabase::empty().await;
    let owner = db.text("select 'named_by_' || current_database()").await;
    let name = db.text("select current_database()").await;
    db.run(&format!(
        "create role {owner} login password 'secret'; alter database {name} owner to {owner}; grant create on schema public to {owner}"
    ))
    .await;
    let theirs = db.url_of(&owner);
    let (ok, said) = rowcast(&theirs, &["--schema", "lent", "migrate"]).await;
    let (_, statements) = said.split_once("run: ").expect(&said);
    assert!(!ok && statements.contains("create role lent_capture nologin; grant lent_capture to"), "{said}");
    db.run(statements.split("Then run it again").next().unwrap()).await;
    let (ok, said) = rowcast(&theirs, &["--schema", "lent", "migrate"]).await;
    assert!(ok, "{said}");
    let session = connect(&theirs).await;
    session.batch_execute("create table t (n int primary key); select lent.watch('t')").await.unwrap();
    db.run("alter role lent_relay login password 'secret'").await;
    let server = TestServer::start_with(&db.url_of("lent_relay"), &[("schema", "lent")]);
    let mut socket = server.socket("/ws/t?snapshot=true").await;
    while socket.message().await["type"] != "subscribed" {}
    session.batch_execute("insert into t values (1), (2)").await.unwrap();
    assert_eq!(numbers(&mut socket, 2).await, [1, 2]);
    // the probe's remedy is of this installation
    let (relay, page) = (db.url_of("lent_relay"), format!("http://{}", server.address));
    let probe = ["--schema", "lent", "doctor", "--probe", "--url", &page];
    let (_, said) = rowcast(&relay, &probe).await;
    let (_, grant) = said.split_once("let the owner of schema lent run: ").expect(&said);
    session.batch_execute(grant.lines().next().unwrap()).await.unwrap();
    let (_, said) = rowcast(&relay, &probe).await;
    assert!(said.contains("written and committed in "), "{said}");
    server.stop().await.unwrap();
    session.batch_execute("select lent.uninstall()").await.unwrap();
    drop(session);
    db.run(&format!("drop owned by {owner} cascade; alter database {name} owner to postgres; drop role {owner}; drop role if exists lent_relay, lent_capture")).await;
}

/// Each installation is one of the sessions of a relay, and each session says whose it is.
#[tokio::test]
async fn sessions_say_which_installation_they_serve() {
    let db = TestDatabase::new().await;
    installed(&db.url, "session").await;
    let (first, second) = (TestServer::start(&db.url), TestServer::start_with(&db.url, &[("schema", "session")]));
    for (server, schema) in [(&first, "rowcast"), (&second, "session")] {
        server.subscribed("/ws/user/1").await;
        let state: Value = serde_json::from_str(&server.get("/websocket/database").await.1).unwrap();
        assert!(state["health"].as_array().is_some_and(|health| !health.is_empty()), "{schema}: {state}");
    }
    let purposes = "select split_part(application_name, ' ', 1), count(distinct split_part(application_name, ' ', 2)) from pg_stat_activity
        where datname = current_database() and application_name ~ '^rowcast' group by 1";
    let rows = db.client.query(purposes, &[]).await.unwrap();
    let found: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = ["rowcast", "rowcast/session"];
    assert_eq!(found.keys().collect::<Vec<_>>(), expected, "{found:?}");
    assert!(found.values().all(|purposes| *purposes >= 3), "listen, read, query: {found:?}");
    second.stop().await.unwrap();
    first.stop().await.unwrap();
    uninstalled(&db, "session").await;
}

#[tokio::test]
async fn the_questions_of_a_dba_are_put_into_its_words() {
    let db = TestDatabase::empty().await;
    db.run(WRITES).await;
    installed(&db.url, "asked").await;
    db.run("select asked.watch('t'); select write(1, 2)").await;
    let psql = rowcast::demo::cluster::find_programs().expect("psql, from Postgres's own programs").join("psql");
    let file = std::env::temp_dir().join(format!("rowcast-asked-{}.sql", std::process::id()));
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/inspect")).unwrap() {
        let path = entry.unwrap().path();
        let (ok, text) = rowcast(&db.url, &["--schema", "asked", "sql", path.to_str().unwrap()]).await;
        assert!(ok && !text.contains("1919907683"), "{text}");
        std::fs::write(&file, text).unwrap();
        let mut command = tokio::process::Command::new(&psql);
        command.args(["-qX", "-v", "ON_ERROR_STOP=1", "-v", "id=1", "-f"]).arg(&file).arg(&db.url);
        let output = command.env("PGOPTIONS", "-c role=asked_relay -c jit=off").output().await.unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    }
    std::fs::remove_file(&file).unwrap();
    uninstalled(&db, "asked").await;
}

#[tokio::test]
async fn a_migrate_survives_that_another_database_uninstalls_the_last_installation() {
    let (leaving, coming) = (TestDatabase::new().await, TestDatabase::empty().await);
    installed(&leaving.url, "parting").await;
    // the migrate has found the roles, and stands before it grants them anything
    coming
        .run(
            "create function public.stand() returns event_trigger language plpgsql set search_path = pg_catalog as $$ begin
               perform pg_advisory_lock(77); perform pg_advisory_unlock(77); end $$;
             create event trigger stand on ddl_command_start when tag in ('REVOKE') execute function public.stand()",
        )
        .await;
    let holder = coming.another_client().await;
    holder.batch_execute("select pg_advisory_lock(77)").await.unwrap();
    let url = coming.url.clone();
    let migrate = tokio::spawn(async move { rowcast(&url, &["--schema", "parting", "migrate"]).await });
    let stands = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                   where l.locktype = 'advisory' and not l.granted and l.objid = 77 and d.datname = current_database()";
    while coming.text(stands).await == "0" {}
    uninstalled(&leaving, "parting").await;
    holder.batch_execute("select pg_advisory_unlock(77)").await.unwrap();
    let (done, said) = migrate.await.unwrap();
    assert!(done, "{said}");
    assert_eq!(coming.text("select count(*) from pg_roles where rolname like 'parting%'").await, "2");
    coming.run("drop event trigger stand; create table t (n int primary key); select parting.watch('t'); insert into t values (1)").await;
    uninstalled(&coming, "parting").await;
}
