//! Relay: whatever commits arrives, once and in order, whichever session writes it and whatever breaks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use futures_util::SinkExt as _;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rowcast::incarnations::{Incarnation, Incarnations};
use rowcast::source::client::Client;
use rowcast::source::position::Position;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::support::PATIENCE;
use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;
use super::support::socket::Socket;

const COUNTERS: &str =
    "create table counters (k int primary key, v int not null default 0); select rowcast.watch('counters')";

/// Reads until `id` of the table's last change, and says what came: ids in order of arrival.
async fn read_until(socket: &mut Socket, last: i64) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        let message = socket.message().await;
        if message["type"] != "realtime_update" {
            continue;
        }
        let id = message["id"].as_i64().unwrap();
        messages.push(message);
        if messages.iter().any(|m| m["id"] == last) && id >= last {
            return messages;
        }
    }
}

async fn outbox_ids(db: &TestDatabase, channel: &str) -> Vec<i64> {
    let sql = "select o.id from rowcast.outbox o join rowcast.channel c on c.id = o.channel where c.name = $1 and o.op <> 'C' order by 1";
    db.client.query(sql, &[&channel]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Four sessions that insert counters one after the other. Postgres itself goes round: on a busy machine they would ring too
/// seldom to wake a relay, if each waited for this process.
struct Writers {
    tasks: JoinSet<()>,
    stopped: Client,
}

impl Writers {
    async fn start(db: &TestDatabase) -> Self {
        db.run("create table stopped (); create sequence written").await;
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let session = db.another_client().await;
            tasks.spawn(async move {
                let round = "do $$ begin
                    while not exists (select from stopped) loop
                      insert into counters values (nextval('written'));
                      commit;
                      perform pg_sleep(0.0005);
                    end loop;
                  end $$";
                session.batch_execute(round).await.unwrap();
            });
        }
        Self { tasks, stopped: db.another_client().await }
    }

    async fn stop(self) {
        self.stopped.batch_execute("insert into stopped default values").await.unwrap();
        self.tasks.join_all().await;
    }
}

/// The ids of changes, as they come, until the one of counter -1, which is written last.
async fn read_to_the_last(mut socket: Socket) -> Vec<i64> {
    let mut ids = Vec::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "realtime_update" {
            ids.push(message["id"].as_i64().unwrap());
            if message["data"]["k"] == -1 {
                return ids;
            }
        }
    }
}

/// Waits until a question to the database is answered by `wanted`.
async fn until_answered(db: &TestDatabase, question: &str, wanted: &str) {
    let asking = async {
        while db.text(question).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not {wanted}: {question}"));
}

fn assert_complete(messages: &[Value], expected: &[i64]) {
    let mut ids: Vec<i64> = messages.iter().map(|m| m["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, expected, "every change once");
    let mut values: HashMap<i64, i64> = HashMap::new();
    for message in messages {
        let (k, v) = (message["data"]["k"].as_i64().unwrap(), message["data"]["v"].as_i64().unwrap());
        let before = values.insert(k, v);
        assert!(before.is_none_or(|before| before < v), "row {k}: {v} after {before:?}");
    }
}

#[tokio::test]
async fn every_kind_of_writer_counts() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    db.run("create table log (note text); select rowcast.watch('log')").await;
    db.run("create function note() returns trigger language plpgsql as $$ begin insert into log values ('k' || new.k); return null; end $$").await;
    db.run("create trigger note after insert on counters for each row execute function note()").await;
    let server = TestServer::start(&db.url);
    let mut counters = server.subscribed("/ws/counters").await;
    let mut log = server.subscribed("/ws/log").await;
    // COPY
    let sink = db.client.copy_in("copy counters (k, v) from stdin").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::from_static(b"1\t1\n2\t1\n")).await.unwrap();
    sink.close().await.unwrap();
    // savepoints, a statement of many rows, a function, MERGE's older sister
    db.run("begin; savepoint a; update counters set v = 99; rollback to a; update counters set v = v + 1; commit")
        .await;
    db.run("do $$ begin update counters set v = v + 1 where k = 1; end $$").await;
    db.run("insert into counters values (1, 0) on conflict (k) do update set v = counters.v + 1").await;
    // with parameters, as drivers do
    db.client.execute("update counters set v = v + $1 where k = $2", &[&1, &2]).await.unwrap();
    let expected = outbox_ids(&db, "counters").await;
    assert_eq!(expected.len(), 7);
    assert_complete(&read_until(&mut counters, *expected.last().unwrap()).await, &expected);
    assert_eq!(log.message().await["data"]["note"], "k1");
    assert_eq!(log.message().await["data"]["note"], "k2");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_while_the_relays_backends_are_killed() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    db.run("insert into counters select k from generate_series(1, 20) k").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/counters").await;
    let before = outbox_ids(&db, "counters").await.len();
    let kills = Arc::new(AtomicI64::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (client, kills) = (db.another_client().await, kills.clone());
        writers.spawn(async move {
            // a fast machine is through with it before the relay is back for the second time
            let mut round = 0;
            while round < 150 || round % 5 > 0 || kills.load(Relaxed) < 3 {
                let k = (writer * 7 + round) % 20 + 1;
                let sql = match round % 5 {
                    0 => format!("begin; update counters set v = v + 1 where k = {k}; savepoint s; insert into counters values ({k}, 0) on conflict do nothing; rollback to s; commit"),
                    1 => format!("begin; update counters set v = v + 1 where k = {k}; rollback"),
                    _ => format!("update counters set v = v + 1 where k = {k}"),
                };
                client.batch_execute(&sql).await.unwrap();
                round += 1;
            }
            round / 5 * 4
        });
    }
    let killer = db.another_client().await;
    let mut committed = 0;
    while !writers.is_empty() {
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name ~ '^rowcast (listen|read)'";
        kills.fetch_add(killer.query_one(kill, &[]).await.unwrap().get(0), Relaxed);
        if let Ok(Some(ended)) = tokio::time::timeout(std::time::Duration::from_millis(100), writers.join_next()).await
        {
            committed += ended.unwrap();
        }
    }
    assert!(kills.load(Relaxed) > 2, "the relay was hit {kills:?} times");
    // a change after the last kill ends the reading
    db.run("update counters set v = v + 1 where k = 1").await;
    let expected = outbox_ids(&db, "counters").await;
    let expected = &expected[before..];
    assert_eq!(expected.len(), committed + 1);
    assert_complete(&read_until(&mut socket, *expected.last().unwrap()).await, expected);
    server.stop().await.unwrap();
}

/// How many hold one of the two locks of the sleep protocol.
fn holders(lock: u8, mode: &str) -> String {
    format!(
        "select count(*) from pg_locks where locktype = 'advisory' and classid = 1919907683 and objid = {lock} and mode = '{mode}' and database = (select oid from pg_database where datname = current_database())"
    )
}

#[tokio::test]
async fn under_load_the_relay_wakes_and_holds_quiet_then_sleeps_again() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    let server = TestServer::start(&db.url);
    let socket = server.subscribed("/ws/counters").await;
    while server.status().await["source"]["mode"] != "asleep" {
        tokio::task::yield_now().await;
    }
    let reading = tokio::spawn(read_to_the_last(socket));
    let writers = Writers::start(&db).await;
    // while busy it holds QUIET, so that writers need not ring
    until_answered(&db, &holders(1, "ExclusiveLock"), "1").await;
    writers.stop().await;
    while server.status().await["source"]["mode"] != "asleep" {
        tokio::task::yield_now().await;
    }
    assert_eq!(db.text(&holders(1, "ExclusiveLock")).await, "0");
    db.run("insert into counters values (-1)").await;
    let mut ids = reading.await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, outbox_ids(&db, "counters").await);
    assert_eq!(server.status().await["source"]["found_by_safety_read"], 0, "bells wake it, not the clock");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn beside_an_open_transaction_a_busy_relay_is_awake_all_the_same() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    let open = db.another_client().await;
    open.batch_execute("begin; insert into counters values (1000000000)").await.unwrap();
    let server = TestServer::start(&db.url);
    let reading = tokio::spawn(read_to_the_last(server.subscribed("/ws/counters").await));
    // it wants to sleep, and waits for the transaction to end
    until_answered(&db, &holders(2, "ShareLock"), "1").await;
    let writers = Writers::start(&db).await;
    // else every writer would ring until the transaction ends
    until_answered(&db, &holders(1, "ExclusiveLock"), "1").await;
    writers.stop().await;
    open.batch_execute("commit").await.unwrap();
    db.run("insert into counters values (-1)").await;
    let mut ids = reading.await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, outbox_ids(&db, "counters").await);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_transaction_holds_nobody_up_and_arrives_whole() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/counters").await;
    let long = db.another_client().await;
    long.batch_execute("begin; insert into counters values (1), (2)").await.unwrap();
    db.run("insert into counters values (3)").await;
    assert_eq!(socket.message().await["data"]["k"], 3);
    long.batch_execute("insert into counters values (4); commit").await.unwrap();
    let mut tx = Vec::new();
    for k in [1, 2, 4] {
        let message = socket.message().await;
        assert_eq!(message["data"]["k"], k);
        tx.push(message["tx"].clone());
    }
    assert!(tx.iter().all(|t| *t == tx[0]));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_forged_bell_changes_nothing_and_a_silent_mode_polls() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/counters").await;
    db.run("select pg_notify('rowcast', 'forged ' || i) from generate_series(1, 1000) i").await;
    db.run("insert into counters values (1)").await;
    assert_eq!(socket.message().await["data"]["k"], 1);
    drop(socket);
    server.stop().await.unwrap();
    db.run("select rowcast.configure('notify', 'never')").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/counters").await;
    db.run("insert into counters values (2)").await;
    assert_eq!(socket.message().await["data"]["k"], 2);
    assert_eq!(server.status().await["source"]["mode"], "polling");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_statement_of_many_rows_arrives_whole_and_in_order() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "67108864")]);
    let mut socket = server.subscribed("/ws/counters").await;
    db.run("insert into counters select k, 0 from generate_series(1, 20000) k").await;
    for k in 1..=20_000 {
        let message = socket.message().await;
        assert_eq!(message["data"]["k"], k);
        let is_inside = message["cursor"].as_str().unwrap().contains('.');
        assert_eq!(is_inside, k < 20_000, "the last change carries the cursor after the cut");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_freezes_is_noticed_and_what_it_held_back_arrives() {
    let db = TestDatabase::new().await;
    if !TestDatabase::is_private() {
        eprintln!("skipped: processes of a server elsewhere cannot be stopped");
        return;
    }
    db.run(COUNTERS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/counters").await;
    let backends = "select pid from pg_stat_activity where datname = current_database() and application_name ~ '^rowcast (read|listen)'";
    let pids: Vec<i32> = db.client.query(backends, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(pids.len(), 2);
    let signal = |signal| pids.iter().for_each(|pid| nix::sys::signal::kill(Pid::from_raw(*pid), signal).unwrap());
    // as a machine does whose disk hangs or whose hypervisor pauses it: connections stay open and nobody answers
    signal(Signal::SIGSTOP);
    db.run("insert into counters values (1)").await;
    let down = socket.message().await;
    assert_eq!(down["code"], "source_down", "{down}");
    let change = socket.message().await;
    assert_eq!(change["data"]["k"], 1, "{change}");
    signal(Signal::SIGCONT);
    db.run("insert into counters values (2)").await;
    assert_eq!(socket.message().await["data"]["k"], 2);
}

/// What a node begins with is the newest changes, and whatever commits later: also where it was written before them.
#[tokio::test]
async fn the_position_where_a_relay_begins_claims_nothing_that_still_runs() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    let slow = db.another_client().await;
    slow.batch_execute("begin; insert into counters values (-1)").await.unwrap();
    let xid: u64 =
        slow.query_one("select pg_current_xact_id()::text", &[]).await.unwrap().get::<_, &str>(0).parse().unwrap();
    db.run("insert into counters select generate_series(1, 15000)").await;
    db.run("insert into counters select generate_series(15001, 30000)").await;
    let incarnations =
        Arc::new(Incarnations { epoch: 1, incarnations: vec![Incarnation { id: 1, bound: None }], seal: None });
    let position = Position::recent(&db.client, incarnations).await.unwrap();
    assert!(position.seen().sees(3) && !position.seen().sees(xid), "{}", position.seen());
    slow.batch_execute("commit").await.unwrap();
}

/// It accepts connections and says nothing, as a server that is suspended does.
#[tokio::test]
async fn a_start_gives_up_a_database_that_never_answers() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://nobody@{}/x", silent.local_addr().unwrap());
    let started = TestServer::start_with(&url, &[("wait-seconds", "1")]);
    let ended = tokio::time::timeout(PATIENCE, started.stop_by_itself());
    let error = ended.await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), rowcast::error::Kind::Connection, "{error}");
}

/// Postgres is restarted a moment after the relay could reach it.
#[tokio::test]
async fn a_start_that_loses_its_connection_tries_again() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let other = db.another_client().await;
    other.batch_execute("begin; lock table rowcast.revoked").await.unwrap();
    let server = TestServer::start(&db.url);
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and application_name ~ '^rowcast read' and wait_event_type = 'Lock'";
    while db.text(ended).await == "0" {
        tokio::task::yield_now().await;
    }
    other.batch_execute("commit").await.unwrap();
    let mut pets = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1)").await;
    assert_eq!(pets.message().await["data"]["id"], 1);
    server.stop().await.unwrap();
}

/// Gives a database another name, once its sessions have ended. Under that name only a superuser comes in, for now.
async fn rename(postgres: &Client, from: &str, to: &str) {
    postgres.batch_execute(&format!("alter database {from} connection limit 0")).await.unwrap();
    let sessions = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
    while postgres.query_one(sessions, &[&from]).await.unwrap().get::<_, i64>(0) > 0 {}
    postgres.batch_execute(&format!("alter database {from} rename to {to}")).await.unwrap();
}

/// As after a restore that takes the name of what was there. Rows name their channel by a number, which is another table's there;
/// and a lock, as of somebody's forgotten transaction, keeps the channels from being read.
#[tokio::test]
async fn rows_of_a_database_that_took_the_name_of_another_wait_until_its_own_channels_are_read() {
    let (before, now) = (TestDatabase::new().await, TestDatabase::new().await);
    let (url, url_now) = (before.url.clone(), now.url.clone());
    let ((base, name), (_, name_now)) = (url.rsplit_once('/').unwrap(), url_now.rsplit_once('/').unwrap());
    let role = format!("of_{name}");
    before
        .run(&format!(
            "create role {role} login password 'secret' in role rowcast_relay;
             create table pets (id int primary key, name text); select rowcast.watch('pets')"
        ))
        .await;
    now.run(
        "create table salaries (id int primary key, name text); select rowcast.watch('salaries');
         create table pets (id int primary key, name text); select rowcast.watch('pets')",
    )
    .await;
    let number = before.text("select id from rowcast.channel where name = 'pets'").await;
    assert_eq!(now.text("select id from rowcast.channel where name = 'salaries'").await, number);
    let server = TestServer::start(&before.url_of(&role));
    let mut pets = server.subscribed("/ws/pets").await;
    before.run("insert into pets values (1, 'Luna')").await;
    assert_eq!(pets.message().await["data"]["name"], "Luna");

    let postgres = connect(&format!("{base}/postgres")).await;
    drop((before, now));
    rename(&postgres, name, &format!("{name}_before")).await;
    rename(&postgres, name_now, name).await;
    let now = TestDatabase { client: connect(&url).await, url: url.clone() };
    let holder = now.another_client().await;
    holder.batch_execute("begin; lock table rowcast.channel").await.unwrap();
    postgres.batch_execute(&format!("alter database {name} connection limit -1")).await.unwrap();
    let reconnects = async || server.status().await["source"]["reconnects"].as_u64().unwrap();
    let first = reconnects().await;
    // as capture does, which does not wait for that lock
    let salary = format!(
        "insert into rowcast.outbox_0 (channel, op, new) values ({number}, 'I', '{{\"id\": 7, \"name\": \"a salary\"}}')"
    );
    // of two attempts that begin from here on the first one began behind the lock, and has ended
    let is_tried_in_vain = async {
        while reconnects().await < first + 2 {
            now.run(&salary).await;
        }
    };
    let is_told = async {
        loop {
            let message = pets.message().await;
            if message["type"] == "realtime_update" {
                return message;
            }
        }
    };
    tokio::select! {
        told = is_told => panic!("told to those that follow pets: {told}"),
        () = is_tried_in_vain => {}
    }

    holder.batch_execute("commit").await.unwrap();
    while server.get("/readyz").await.0 != 200 {}
    now.run("insert into pets values (2, 'Nala')").await;
    let mut gaps = Vec::new();
    let change = loop {
        let message = pets.message().await;
        match message["type"].as_str() {
            Some("realtime_update") => break message,
            Some("gap") => gaps.push(message["reason"].clone()),
            _ => assert_eq!(message["code"], "source_down", "{message}"),
        }
    };
    assert_eq!(change["data"], json!({"id": 2, "name": "Nala"}));
    assert!(gaps.contains(&json!("failover")), "{gaps:?}");
    let mut salaries = server.subscribed("/ws/salaries").await;
    now.run("insert into salaries values (8, 'another')").await;
    assert_eq!(salaries.message().await["data"]["id"], 8);
    server.stop().await.unwrap();
}

/// Takes connections to a database, and tells how many came.
fn forwarding(listener: TcpListener, there: String) -> (JoinHandle<()>, watch::Receiver<u32>) {
    let (came, counted) = watch::channel(0);
    let forwards = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            came.send_modify(|count| *count += 1);
            let there = there.clone();
            tokio::spawn(async move {
                let mut postgres = TcpStream::connect(there).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut postgres).await;
            });
        }
    });
    (forwards, counted)
}

/// As at the boot of a machine on which Postgres is slower.
#[tokio::test]
async fn a_start_waits_for_a_database_that_is_away_and_answers_health_meanwhile() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let there = db.url.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let door = tokio::net::TcpSocket::new_v4().unwrap();
    door.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let here = door.local_addr().unwrap();
    let url = db.url.replace(&there, &here.to_string());
    assert_ne!(url, db.url);

    let ended = TestServer::start_with(&url, &[("wait-seconds", "0")]).stop_by_itself().await.unwrap_err();
    assert_eq!(ended.kind(), rowcast::error::Kind::Connection, "{ended}");

    let server = TestServer::start(&url);
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 503);
    let listener = door.listen(16).unwrap();
    let (forwards, _) = forwarding(listener, there);
    while server.get("/readyz").await.0 != 200 {}
    let mut pets = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1)").await;
    assert_eq!(pets.message().await["data"]["id"], 1);
    server.stop().await.unwrap();
    forwards.abort();
}

/// The machine of the first host is gone: no answer comes, and no refusal.
#[tokio::test]
async fn a_host_that_is_gone_without_a_word_does_not_hide_the_next_one() {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    hole.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    hole.listen(0).unwrap();
    let address = hole.local_addr().unwrap().as_socket().unwrap();
    // a queue that is full passes over a client that comes
    let mut queue = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200)) {
        queue.push(stream);
    }
    let (before, behind) = db.url.split_once('@').unwrap();
    let server = TestServer::start(&format!("{before}@{address},{behind}"));
    let mut socket = server.subscribed("/ws/counters").await;
    // what occasional queries read
    db.run("create table dogs (id int primary key); select rowcast.watch('dogs'); insert into counters values (1)")
        .await;
    assert_eq!(socket.message().await["data"]["k"], 1);
    server.subscribed("/ws/dogs").await;
    server.stop().await.unwrap();
}

/// As when Postgres was restarted, and all its clients come back at once.
#[tokio::test]
async fn a_start_waits_for_a_database_that_has_no_connection_left() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let role = db.text("select 'late_of_' || current_database()").await;
    db.run(&format!("create role {role} login password 'secret' connection limit 0 in role rowcast_relay")).await;
    let url = db.url_of(&role);
    let there = url.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url.replace(&there, &listener.local_addr().unwrap().to_string());
    let (forwards, mut came) = forwarding(listener, there);
    let server = TestServer::start(&url);
    // it was refused, and has come again
    tokio::time::timeout(PATIENCE, came.wait_for(|count| *count > 1)).await.expect("it tries again").unwrap();
    assert_eq!(server.get("/readyz").await.0, 503);
    db.run(&format!("alter role {role} connection limit -1")).await;
    let mut pets = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1)").await;
    assert_eq!(pets.message().await["data"]["id"], 1);
    server.stop().await.unwrap();
    forwards.abort();
    db.run(&format!("drop role {role}")).await;
}
