//! `rowcast.cursor()`: a page that an application renders, and the stream behind it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rowcast::cursor::{Cursor, Snapshot};
use rowcast::demo::cluster::Cluster;
use rowcast::naming::Naming;
use rowcast::seal::Seal;
use rowcast::source::client::Client;
use rowcast::source::install;
use rowcast::source::pool::{Database, Purpose};
use serde_json::{Value, json};

use super::support::PATIENCE;
use super::support::postgres::{TestDatabase, connect};
use super::support::redis::TestRedis;
use super::support::server::TestServer;
use super::support::socket::Socket;

const ORDERS: &str = "create table orders (id int primary key, v int not null); select rowcast.watch('orders')";
/// The rows and the position, in one statement.
const PAGE: &str = "select rowcast.cursor(), coalesce(json_object_agg(id, v), '{}')::text from orders";
/// The same while others write: its MVCC snapshot was taken some time before.
const SLOW_PAGE: &str = "select rowcast.cursor(), (select coalesce(json_object_agg(id, v), '{}')::text from orders)
    from pg_sleep(0.02)";

/// Rows as a client has them.
type Rows = BTreeMap<i64, i64>;

fn rows_of(text: &str) -> Rows {
    let rows: BTreeMap<String, i64> = serde_json::from_str(text).unwrap();
    rows.into_iter().map(|(id, v)| (id.parse().unwrap(), v)).collect()
}

async fn page(client: &Client) -> (String, Rows) {
    rendered(client, PAGE).await
}

async fn rendered(client: &Client, page: &str) -> (String, Rows) {
    let row = client.query_one(page, &[]).await.unwrap();
    (row.get(0), rows_of(row.get(1)))
}

fn apply(rows: &mut Rows, message: &Value) {
    let id = message["data"]["id"].as_i64();
    match message["action"].as_str().unwrap_or_else(|| panic!("{message}")) {
        "deleted" => _ = rows.remove(&id.unwrap()),
        "truncated" => rows.clear(),
        _ => _ = rows.insert(id.unwrap(), message["data"]["v"].as_i64().unwrap()),
    }
}

/// Goes on from a page; says how often each row was told before `subscribed`.
async fn resumed(socket: &mut Socket, rows: &mut Rows) -> BTreeMap<i64, usize> {
    let mut told = BTreeMap::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "subscribed" {
            assert_eq!(message["recovered"], true);
            return told;
        }
        *told.entry(message["data"]["id"].as_i64().unwrap_or_default()).or_insert(0) += 1;
        apply(rows, &message);
    }
}

/// Until the stream has come to now.
async fn settled(db: &TestDatabase, socket: &mut Socket, rows: &mut Rows) {
    let cursor = db.text("rowcast.cursor()").await;
    socket.send(&json!({"type": "sync", "cursor": cursor}).to_string()).await;
    loop {
        let message = socket.message().await;
        if message["type"] == "synced" {
            return;
        }
        apply(rows, &message);
    }
}

async fn seal(db: &TestDatabase, schema: &str) -> Seal {
    let key = format!("select cursor_key from {schema}.installation");
    Seal::new(db.client.query_one(&key, &[]).await.unwrap().get(0))
}

/// A client with a page that was rendered while others wrote goes on from it, and has the table in the end; it is told
/// nothing that the page has.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_what_follows_its_cursor_are_the_table() {
    let db = TestDatabase::new().await;
    db.run(ORDERS).await;
    // nobody reads these sockets while others write
    let server = TestServer::start_with(&db.url, &[("ping-seconds", "600"), ("heartbeat-seconds", "600")]);
    server.subscribed("/ws/orders").await;
    let mut writers = Vec::new();
    for number in 0..4 {
        let client = db.another_client().await;
        writers.push(tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(number);
            for _ in 0..150 {
                let mut sql = String::from("begin; ");
                for _ in 0..random.u32(1..6) {
                    let (id, v) = (random.u32(0..40) * 4 + number as u32, random.u32(..1_000));
                    sql += &match random.u32(..5) {
                        0 => format!("delete from orders where id = {id}; "),
                        1 => format!("savepoint s; insert into orders values ({id}, {v}) on conflict do nothing; rollback to s; "),
                        _ => format!("savepoint s; insert into orders values ({id}, {v}) on conflict (id) do update set v = excluded.v; "),
                    };
                }
                sql += if random.u32(..8) == 0 { "rollback" } else { "commit" };
                client.batch_execute(&sql).await.unwrap();
            }
        }));
    }
    let mut readers = Vec::new();
    for number in 0..3 {
        let reader = db.another_client().await;
        let address = server.address;
        readers.push(tokio::spawn(async move {
            let mut sockets = Vec::new();
            for _ in 0..12 {
                // in a transaction of its own, in one that keeps its snapshot, and in one that writes as well
                let (begin, end) = match number {
                    0 => ("", ""),
                    1 => ("begin isolation level repeatable read; select count(*) from orders", "commit"),
                    _ => ("begin; create temp table own(); drop table own", "commit"),
                };
                reader.batch_execute(begin).await.unwrap();
                let (cursor, mut rows) = rendered(&reader, SLOW_PAGE).await;
                reader.batch_execute(end).await.unwrap();
                let mut socket =
                    Socket::connect(address, &format!("/ws/orders?since={cursor}"), Some("rowcast.v1")).await.unwrap();
                resumed(&mut socket, &mut rows).await;
                sockets.push((socket, rows));
            }
            sockets
        }));
    }
    let mut sockets = Vec::new();
    for reader in readers {
        sockets.extend(reader.await.unwrap());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let table = page(&db.client).await.1;
    assert!(!table.is_empty());
    for (mut socket, mut rows) in sockets {
        settled(&db, &mut socket, &mut rows).await;
        assert_eq!(rows, table);
    }
    server.stop().await.unwrap();
}

/// What it wrote before it read is in the rows, and what it writes afterwards is not: it runs, whatever its snapshot says of it.
#[tokio::test]
async fn the_changes_of_the_own_transaction_follow() {
    let db = TestDatabase::new().await;
    db.run(ORDERS).await;
    db.run("insert into orders values (1, 1)").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/orders").await;
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let (one, other) = (db.another_client().await, db.another_client().await);
        db.run("truncate orders; insert into orders values (1, 1)").await;
        one.batch_execute(&format!("begin isolation level {isolation}; insert into orders values (2, 2)"))
            .await
            .unwrap();
        // others begin after it and end before it, so that its id lies inside the snapshot
        other.batch_execute("insert into orders values (3, 3); insert into orders values (4, 4)").await.unwrap();
        let (cursor, mut rows) = page(&one).await;
        assert!(rows.contains_key(&2), "its own row is on the page");
        one.batch_execute(
            "savepoint s; insert into orders values (5, 5); release s; update orders set v = 6 where id = 2",
        )
        .await
        .unwrap();
        // nobody waits for a transaction that may not end for long
        let mut early = server.socket(&format!("/ws/orders?since={cursor}")).await;
        let mut early_rows = rows.clone();
        resumed(&mut early, &mut early_rows).await;
        one.batch_execute("commit").await.unwrap();
        let mut late = server.socket(&format!("/ws/orders?since={cursor}")).await;
        let told = resumed(&mut late, &mut rows).await;
        assert!(told.keys().all(|id| [2, 3, 4, 5].contains(id)), "{isolation}: {told:?}");
        let table = page(&db.client).await.1;
        for (socket, rows) in [(&mut early, &mut early_rows), (&mut late, &mut rows)] {
            settled(&db, socket, rows).await;
            assert_eq!(*rows, table, "{isolation}");
        }
    }
    server.stop().await.unwrap();
}

/// Field by field what a server gives out at the same place, with or without a server that has noted the incarnation.
#[tokio::test]
async fn the_cursor_is_the_one_that_a_server_gives_out() {
    let db = TestDatabase::new().await;
    db.run(ORDERS).await;
    let seal = seal(&db, "rowcast").await;
    // before any server was here
    let early = db.text("rowcast.cursor()").await;
    let server = TestServer::start(&db.url);
    let (_, given) = server.subscribed_at("/ws/orders").await;
    let given = Cursor::parse(&given).unwrap();
    let mut open = Vec::new();
    for transactions in [0_usize, 1, 40] {
        while open.len() < transactions {
            let client = db.another_client().await;
            client.batch_execute("begin; select pg_current_xact_id()").await.unwrap();
            open.push(client);
        }
        let row = db.client.query_one("select rowcast.cursor(), pg_current_snapshot()::text", &[]).await.unwrap();
        let (token, snapshot): (&str, &str) = (row.get(0), row.get(1));
        let (token, rights) = token.split_at(token.find('~').unwrap());
        assert!(seal.is_on(token), "{token}");
        let cursor = Cursor::parse(token).unwrap();
        assert_eq!(seal.put(&cursor.token()), token);
        assert_eq!(rights, "~-");
        assert_eq!(cursor.seen, Snapshot::parse(snapshot).unwrap());
        assert_eq!((cursor.epoch, cursor.incarnation, &cursor.inside), (given.epoch, given.incarnation, &None));
        assert!(cursor.lsn >= given.lsn, "{} {}", cursor.lsn, given.lsn);
    }
    let early = Cursor::parse(early.strip_suffix("~-").unwrap()).unwrap();
    assert_eq!(
        (early.epoch, early.incarnation),
        (given.epoch, given.incarnation),
        "the next note gives it this number"
    );
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_page_from_before_a_server_was_here_goes_on_with_the_first_one() {
    let db = TestDatabase::new().await;
    db.run(ORDERS).await;
    db.run("insert into orders values (1, 1)").await;
    let (cursor, mut rows) = page(&db.client).await;
    db.run("insert into orders values (2, 2)").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket(&format!("/ws/orders?since={cursor}")).await;
    resumed(&mut socket, &mut rows).await;
    settled(&db, &mut socket, &mut rows).await;
    assert_eq!(rows, Rows::from([(1, 1), (2, 2)]));
    server.stop().await.unwrap();
}

/// An application's role needs the schema and no table of it, and can read neither the key nor a row.
#[tokio::test]
async fn a_role_without_rights_gets_the_position_and_nothing_else() {
    let db = TestDatabase::new().await;
    db.run(ORDERS).await;
    let app = db.text("select 'app_of_' || current_database()").await;
    db.run(&format!(
        "create role {app} login password 'secret'; grant usage on schema rowcast to {app}; grant select on orders to {app}"
    ))
    .await;
    let theirs = connect(&db.url_of(&app)).await;
    // names of others, and settings that change what a text means
    theirs
        .batch_execute(
            "set search_path = pg_temp, public, pg_catalog; set standard_conforming_strings = off; set transform_null_equals = on;
             set bytea_output = escape; set quote_all_identifiers = on; set intervalstyle = iso_8601; set extra_float_digits = -3;
             set timezone = 'Asia/Tokyo'; set datestyle = german",
        )
        .await
        .unwrap();
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/orders").await;
    for begin in ["begin", "begin read only", "begin isolation level serializable, read only, deferrable"] {
        theirs.batch_execute(begin).await.unwrap();
        let (cursor, mut rows) = page(&theirs).await;
        theirs.batch_execute("commit").await.unwrap();
        let mut socket = server.socket(&format!("/ws/orders?since={cursor}")).await;
        assert_eq!(resumed(&mut socket, &mut rows).await, BTreeMap::new());
    }
    for secret in
        ["select cursor_key from rowcast.installation", "select rowcast.present_life()", "select * from rowcast.outbox"]
    {
        let error = theirs.simple_query(secret).await.expect_err(secret);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{secret}");
    }
    // a query that reads with several processes goes on doing so
    db.run("insert into orders select i, i from generate_series(1, 20000) i; analyze orders").await;
    let parallel = "set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
        set debug_parallel_query = on";
    let older = parallel.replace("debug_parallel_query", "force_parallel_mode");
    if theirs.batch_execute(parallel).await.is_err() {
        theirs.batch_execute(&older).await.unwrap();
    }
    let row = theirs.query_one("select rowcast.cursor(), count(*), sum(v) from orders", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(2)), (20_000, 200_010_000));
    server.stop().await.unwrap();
    drop(theirs);
    db.run(&format!("drop owned by {app}; drop role {app}")).await;
}

/// It goes on whatever its rights are, and is told what they let it see now, and `gap` where what may be seen has changed since.
#[tokio::test]
async fn a_cursor_of_the_database_is_good_for_every_right_and_shows_none_more() {
    let db = TestDatabase::new().await;
    db.run(ORDERS).await;
    db.run("select rowcast.allow('orders', 'clerk', 'id=lt.10')").await;
    let secret = "a secret of some length";
    let server = TestServer::start_with(&db.url, &[("jwt-secret", secret)]);
    let token = |role: &str| {
        let claims = json!({"sub": "7", "role": role, "exp": 4_000_000_000_u64});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let clerk = token("clerk");
    server.subscribed(&format!("/ws/orders?token={clerk}")).await;
    let (cursor, mut rows) = page(&db.client).await;
    db.run("insert into orders values (1, 1), (11, 11)").await;
    let mut socket = server.socket(&format!("/ws/orders?token={clerk}&since={cursor}")).await;
    resumed(&mut socket, &mut rows).await;
    settled(&db, &mut socket, &mut rows).await;
    assert_eq!(rows, Rows::from([(1, 1)]), "not what is behind its filter");
    let mut socket = server.socket(&format!("/ws?token={}", token("stranger"))).await;
    socket.send(&json!({"type": "subscribe", "channel": "orders", "since": cursor}).to_string()).await;
    assert_eq!(socket.message().await["code"], "forbidden");
    // one that sees other rows now
    db.run("select rowcast.allow('orders', 'clerk', 'id=gt.10')").await;
    let mut watching = server.socket(&format!("/ws/orders?token={clerk}")).await;
    while watching.message().await["type"] != "subscribed" {}
    loop {
        let mut socket = server.socket(&format!("/ws/orders?token={clerk}&since={cursor}")).await;
        let first = socket.message().await;
        if first["type"] == "gap" {
            assert_eq!(first["reason"], "policy");
            break;
        }
        assert_eq!(first["data"]["id"], 1, "by the policy of before");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_installation_of_another_name_has_a_cursor_of_its_own() {
    let db = TestDatabase::new().await;
    let schema = db.text("select 'shop_of_' || current_database() || 'x'").await;
    let naming = Naming::of_schema(&schema).unwrap();
    let mut client = Database::parse(&db.url).unwrap().with_naming(naming).client(Purpose::Command).await.unwrap();
    install::migrate(&mut client).await.unwrap();
    db.run(&format!("{ORDERS}; select {schema}.watch('orders')")).await;
    let server = TestServer::start_with(&db.url, &[("schema", &schema)]);
    server.subscribed("/ws/orders").await;
    let row = db.client.query_one(&format!("select {schema}.cursor(), rowcast.cursor()"), &[]).await.unwrap();
    let (own, neighbours): (String, String) = (row.get(0), row.get(1));
    db.run("insert into orders values (1, 1)").await;
    let mut socket = server.socket(&format!("/ws/orders?since={own}")).await;
    let mut rows = Rows::new();
    resumed(&mut socket, &mut rows).await;
    if rows.is_empty() {
        apply(&mut rows, &socket.message().await);
    }
    assert_eq!(rows, Rows::from([(1, 1)]));
    let mut socket = server.socket(&format!("/ws/orders?since={neighbours}")).await;
    assert_eq!(socket.message().await["reason"], "bad_cursor");
    server.stop().await.unwrap();
    drop(client);
    while db.text("select count(*) from pg_stat_activity where datname = current_database() and application_name like 'rowcast/%'").await != "0" {}
    db.run(&format!("select {schema}.uninstall()")).await;
}

#[tokio::test]
async fn a_page_goes_on_at_a_gateway_without_a_database() {
    let db = TestDatabase::new().await;
    db.run(ORDERS).await;
    let redis = TestRedis::start().await;
    let _publisher = TestServer::start_with(&db.url, &[("publish", &redis.url())]);
    let gateway = TestServer::start_with("", &[("subscribe", &redis.url())]);
    gateway.subscribed("/ws/orders").await;
    for n in 1..20 {
        let (cursor, mut rows) = page(&db.client).await;
        db.run(&format!("insert into orders values ({n}, {n})")).await;
        let mut socket = gateway.socket(&format!("/ws/orders?since={cursor}")).await;
        resumed(&mut socket, &mut rows).await;
        settled(&db, &mut socket, &mut rows).await;
        assert_eq!(rows, page(&db.client).await.1);
    }
}

/// It is called for each page that is rendered.
#[tokio::test]
async fn a_cursor_takes_less_than_a_millisecond() {
    let db = TestDatabase::new().await;
    let mut open = Vec::new();
    for running in [0, 50] {
        while open.len() < running {
            let client = db.another_client().await;
            client.batch_execute("begin; select pg_current_xact_id()").await.unwrap();
            open.push(client);
        }
        let rounds = 100_u32;
        // the snapshot differs from call to call, so nothing is kept
        let calls = format!("do $$ begin for i in 1..{rounds} loop perform rowcast.cursor(); end loop; end $$");
        let mut least = Duration::MAX;
        // the quickest of some: what else the machine does may take most of the time
        for _ in 0..40 {
            let began = Instant::now();
            db.run(&calls).await;
            least = least.min(began.elapsed());
        }
        let each = least / rounds;
        println!("{each:?} with {running} transactions that run");
        assert!(each < Duration::from_millis(1), "{each:?}");
    }
}

/// A Postgres server of its own, which goes down and comes back.
struct Own {
    folder: std::path::PathBuf,
    cluster: Cluster,
}

impl Own {
    async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    fn url(&self) -> String {
        self.cluster.url("postgres", "postgres")
    }

    async fn start(folder: std::path::PathBuf) -> Self {
        let began = Instant::now();
        loop {
            match Cluster::start_with(&folder, &[]).await {
                Ok(cluster) => return Self { folder, cluster },
                // a program that another test starts has the lock of the folder until it is another program
                Err(error) if error.to_string().starts_with("another process uses") => {
                    assert!(began.elapsed() < PATIENCE, "{error}");
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A planned restart.
    async fn restarted(self) -> Self {
        self.cluster.stop().await;
        Self::start(self.folder).await
    }

    /// As after the machine has lost its power.
    async fn crashed(self) -> Self {
        let pid = self.cluster.pid().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
        self.cluster.stop().await;
        Self::start(self.folder).await
    }
}

/// What a client is answered that comes with a cursor: the reason of the `gap`, or nothing.
async fn answer(server: &TestServer, cursor: &str) -> Option<String> {
    let mut socket = server.socket(&format!("/ws/orders?since={cursor}")).await;
    let mut gap = None;
    loop {
        let message = socket.message().await;
        match message["type"].as_str().unwrap() {
            "gap" => gap = Some(message["reason"].as_str().unwrap().to_owned()),
            "subscribed" => return gap,
            _ => {}
        }
    }
}

/// A page is rendered also while no server of rowcast is there. Where the end of the WAL may be lost, its client is told so.
#[tokio::test]
async fn a_page_outlives_restarts_that_no_server_has_seen_and_no_crash() {
    let folder = std::env::temp_dir().join(format!("rowcast-pages-{}", std::process::id()));
    let own = match Cluster::start_with(&folder, &[]).await {
        Ok(cluster) => Own { folder: folder.clone(), cluster },
        Err(error) => {
            assert!(!TestDatabase::is_private(), "{error}");
            return eprintln!("skipped: {error}");
        }
    };
    install::migrate(&mut own.client().await).await.unwrap();
    let client = own.client().await;
    client.batch_execute(ORDERS).await.unwrap();
    let visit = async |own: &Own| {
        let server = TestServer::start(&own.url());
        server.subscribed("/ws/orders").await;
        server.stop().await.unwrap();
    };
    visit(&own).await;
    let noted = page(&client).await.0;
    drop(client);

    let own = own.restarted().await;
    let not_noted = page(&own.client().await).await.0;
    let server = TestServer::start(&own.url());
    for cursor in [&noted, &not_noted, &page(&own.client().await).await.0] {
        assert_eq!(answer(&server, cursor).await, None);
    }
    server.stop().await.unwrap();

    // one that is lost with what it saw, and one of after the crash
    let lost = page(&own.client().await).await.0;
    let own = own.crashed().await;
    let not_noted = page(&own.client().await).await.0;
    let server = TestServer::start(&own.url());
    assert_eq!(answer(&server, &lost).await.as_deref(), Some("failover"));
    assert_eq!(answer(&server, &not_noted).await, None);
    server.stop().await.unwrap();

    // two lives that no server has seen, with a crash between them: nobody knows the first
    let own = own.restarted().await;
    let first = page(&own.client().await).await.0;
    let own = own.crashed().await;
    let second = page(&own.client().await).await.0;
    let server = TestServer::start(&own.url());
    assert_eq!(answer(&server, &first).await.as_deref(), Some("failover"));
    assert_eq!(answer(&server, &second).await, None);
    server.stop().await.unwrap();

    own.cluster.stop().await;
    std::fs::write(folder.join("data/standby.signal"), "").unwrap();
    let own = Own::start(folder).await;
    let error = own.client().await.query_one(PAGE, &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "cannot say the position: this server is a standby");
    assert_eq!(
        error.hint(),
        Some("read the rows and rowcast.cursor() from the primary: a standby shows commits in another order")
    );
    own.cluster.stop().await;
    std::fs::remove_dir_all(&own.folder).unwrap();
}
