//! Claims whose values stand in tables: who sees which rows while members come and go, at the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::support::postgres::TestDatabase;
use super::support::redis::TestRedis;
use super::support::server::TestServer;
use super::support::socket::Socket;

const SECRET: &str = "a secret that only the tests know";
const CLINICS: &str = "create table pets (pet_id int primary key, clinic int, name text);
    create table staff (staff_id int primary key generated always as identity, user_id int, clinic int, active bool default true, phone text);
    insert into pets values (1, 1, 'Luna'), (2, 2, 'Rex'), (3, 3, 'Tom');
    insert into staff (user_id, clinic) values (7, 1), (8, 2), (8, 3);
    select rowcast.watch('pets');
    select rowcast.claim('clinics', 'select clinic from public.staff where user_id = {sub}::int and active');
    select rowcast.allow('pets', 'vet', 'clinic=in.{clinics}')";

fn token(claims: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({"exp": now + 600, "iat": now, "role": "vet"});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    encode(&Header::default(), &all, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn vet(user: &str) -> String {
    token(&json!({"sub": user}))
}

async fn clinics() -> (TestDatabase, TestServer) {
    let db = TestDatabase::new().await;
    db.run(CLINICS).await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    (db, server)
}

/// The rows that `subscribe` gives, and the socket behind them.
async fn pets_of(server: &TestServer, user: &str) -> (BTreeSet<i64>, Socket) {
    let (rows, socket) = server.subscribed_with_rows(&format!("/ws/pets?snapshot=true&token={}", vet(user))).await;
    (ids(&rows), socket)
}

fn ids(rows: &[Value]) -> BTreeSet<i64> {
    rows.iter().map(|row| row["pet_id"].as_i64().unwrap()).collect()
}

/// The next message that is about rows, or what they are.
async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = socket.message().await;
        if message["type"] != "heartbeat" {
            return message;
        }
    }
}

/// The rows that a change of members has shown and hidden, up to the end of the cut.
async fn changed(socket: &mut Socket) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let (mut gained, mut lost) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let message = socket.any_message().await;
        if message["type"] == "cut" && message["channel"] == "pets" {
            return (gained, lost);
        }
        assert_eq!(message["type"], "realtime_update", "{message}");
        let pet = message["data"]["pet_id"].as_i64().unwrap();
        match message["action"].as_str().unwrap() {
            // or it is a row that is new
            "entered" | "created" => gained.insert(pet),
            "left" => lost.insert(pet),
            _ => panic!("{message}"),
        };
    }
}

/// The rows again, after a gap that a change of what may be seen has caused.
async fn reloaded(socket: &mut Socket) -> BTreeSet<i64> {
    let gap = next(socket).await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("policy")), "{gap}");
    assert_eq!(next(socket).await["type"], "subscribed");
    socket.send(r#"{"type":"rows","channel":"pets","order":"pet_id","limit":100,"ref":"again"}"#).await;
    let page = next(socket).await;
    assert_eq!((&page["type"], &page["ref"]), (&json!("rows"), &json!("again")), "{page}");
    ids(page["rows"].as_array().unwrap())
}

#[tokio::test]
async fn members_see_their_rows_as_they_come_and_go() {
    let (db, server) = clinics().await;
    let (rows, mut seven) = pets_of(&server, "7").await;
    assert_eq!(rows, [1].into());
    let (rows, mut eight) = pets_of(&server, "8").await;
    assert_eq!(rows, [2, 3].into());
    // nobody's member: a view that is live and empty
    let (rows, mut nine) = pets_of(&server, "9").await;
    assert_eq!(rows, BTreeSet::new());

    db.run("update pets set name = 'Luna II' where pet_id = 1; update pets set name = 'Rex II' where pet_id = 2").await;
    assert_eq!(next(&mut seven).await["data"]["name"], "Luna II");
    assert_eq!(next(&mut eight).await["data"]["name"], "Rex II");
    // a column that the query does not read, a row that is nobody's here, another clinic: nothing to hear
    db.run("update staff set phone = '1'; insert into staff (user_id, clinic) values (70, 1); insert into pets values (4, 4, 'Kim')").await;

    db.run("insert into staff (user_id, clinic) values (9, 1), (7, 4)").await;
    assert_eq!(changed(&mut nine).await, ([1].into(), [].into()));
    assert_eq!(changed(&mut seven).await, ([4].into(), [].into()));
    db.run("update staff set active = false where user_id = 7 and clinic = 1").await;
    assert_eq!(changed(&mut seven).await, ([].into(), [1].into()));
    db.run("update pets set name = 'Luna III' where pet_id = 1; update pets set name = 'Rex III' where pet_id = 2")
        .await;
    assert_eq!(next(&mut nine).await["data"]["name"], "Luna III");
    assert_eq!(next(&mut eight).await["data"]["name"], "Rex III", "it was told nothing of the others' members");
    db.run("delete from staff where user_id = 9; update staff set user_id = 7 where user_id = 8 and clinic = 2").await;
    assert_eq!(changed(&mut nine).await, ([].into(), [1].into()));
    assert_eq!(changed(&mut eight).await, ([].into(), [2].into()));
    assert_eq!(changed(&mut seven).await, ([2].into(), [].into()));
    db.run("truncate staff").await;
    assert_eq!(changed(&mut seven).await, ([].into(), [2, 4].into()));
    assert_eq!(changed(&mut eight).await, ([].into(), [3].into()));
    db.run("insert into staff (user_id, clinic) values (9, 3)").await;
    assert_eq!(changed(&mut nine).await, ([3].into(), [].into()));
    server.stop().await.unwrap();
}

/// One transaction changes members and rows: of a row that was changed, its last image is told, once.
#[tokio::test]
async fn a_change_of_members_is_told_as_the_rows_that_come_and_go() {
    let (db, server) = clinics().await;
    db.run("insert into pets values (4, 1, 'Kim'), (5, 2, 'Bo'), (6, 2, 'Pip'), (7, 1, 'Ed'), (11, 1, 'Al'), (12, 2, 'Cy'), (13, 1, 'Di')").await;
    let (rows, mut seven) = pets_of(&server, "7").await;
    assert_eq!(rows, [1, 4, 7, 11, 13].into());
    db.run(
        "do $$ begin
           update staff set clinic = 2 where user_id = 7;
           update pets set name = 'secret' where pet_id in (1, 2, 4, 5);
           update pets set name = 'told' where pet_id in (2, 5);
           update pets set clinic = 2 where pet_id = 4;
           delete from pets where pet_id = 5;
           update pets set name = 'for a moment' where pet_id in (11, 12); update pets set name = 'Al' where pet_id = 11;
           delete from pets where pet_id = 12; insert into pets values (12, 2, 'Cy');
           delete from pets where pet_id = 13;
           insert into pets values (8, 2, 'Zoe'), (9, 1, 'hidden'), (10, 2, 'gone'); delete from pets where pet_id = 10;
         end $$",
    )
    .await;
    let (mut told, mut cursor) = (BTreeMap::new(), String::new());
    while cursor.is_empty() {
        let message = seven.any_message().await;
        match message["type"].as_str().unwrap() {
            "cut" => message["cursor"].as_str().unwrap().clone_into(&mut cursor),
            _ => {
                let pet = message["data"]["pet_id"].as_i64().unwrap();
                let last = told.insert(pet, (message["action"].clone(), message["data"]["name"].clone()));
                assert!(last.is_none(), "each once: {message}");
                // a user who may not see a row any more is not told who has changed it since, nor when
                assert_eq!(message["tx"] == "0", matches!(pet, 1 | 6 | 7 | 11 | 12 | 13), "{message}");
            }
        }
    }
    let wanted = [
        (1, "left", "Luna"),
        (2, "entered", "told"),
        (4, "updated", "secret"),
        (6, "entered", "Pip"),
        (7, "left", "Ed"),
        (8, "created", "Zoe"),
        (11, "left", "Al"),
        (12, "entered", "Cy"),
        (13, "left", "Di"),
    ];
    assert_eq!(told, wanted.map(|(pet, action, name)| (pet, (json!(action), json!(name)))).into());
    // from there it goes on, here and after a reload
    db.run("update pets set name = 'Rex III' where pet_id = 2").await;
    assert_eq!(next(&mut seven).await["data"]["name"], "Rex III");
    let mut back = server.socket(&format!("/ws/pets?since={cursor}&token={}", vet("7"))).await;
    assert_eq!(next(&mut back).await["data"]["name"], "Rex III");
    let subscribed = next(&mut back).await;
    assert_eq!((&subscribed["recovered"], &subscribed["replayed"]), (&json!(true), &json!(1)), "{subscribed}");
    server.stop().await.unwrap();
}

/// Then its client loads again.
#[tokio::test]
async fn what_cannot_be_told_row_by_row_is_a_gap() {
    let (db, server) = clinics().await;
    db.run(
        "create table visits (clinic int, at int); select rowcast.watch('visits'), rowcast.allow('visits', 'vet', 'clinic=in.{clinics}');
         insert into visits values (1, 1), (2, 2);
         insert into pets select g, 5, 'many' from generate_series(1001, 2001) g",
    )
    .await;
    let member = |clinic: i32| format!("insert into staff (user_id, clinic) values (7, {clinic})");
    for (change, why) in [
        (member(5), "more rows than are told at once"),
        (format!("{}; truncate pets; insert into pets values (1, 1, 'Luna')", member(6)), "the table was emptied"),
        (format!("{}; update pets set pet_id = 11 where pet_id = 1", member(7)), "another key"),
        (
            format!("{}; select rowcast.publish('pets', 'deleted', '{{\"pet_id\":11,\"clinic\":1}}')", member(8)),
            "no change of a row",
        ),
    ] {
        let (_, mut seven) = pets_of(&server, "7").await;
        db.run(&format!("do $do$ begin {}; end $do$", change.replace("select rowcast", "perform rowcast"))).await;
        let gap = next(&mut seven).await;
        assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("policy")), "{why}: {gap}");
        assert_eq!(next(&mut seven).await["type"], "subscribed", "{why}");
    }
    let (_, mut seven) = pets_of(&server, "7").await;
    let mut holder = db.another_client().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("lock table pets in access exclusive mode").await.unwrap();
    db.run(&member(9)).await;
    let gap = next(&mut seven).await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("policy")), "a locked table: {gap}");
    assert_eq!(next(&mut seven).await["type"], "subscribed");
    lock.commit().await.unwrap();
    let mut visits = server.subscribed(&format!("/ws/visits?token={}", vet("7"))).await;
    db.run(&member(2)).await;
    let gap = next(&mut visits).await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("policy")), "no primary key: {gap}");
    server.stop().await.unwrap();
}

/// Its rows cannot be read meanwhile: the socket waits, others do not, and a client that unsubscribes hears nothing
/// more.
#[tokio::test]
async fn a_subscription_that_waits_for_its_rows_can_be_left() {
    let (db, server) = clinics().await;
    db.run("create table visits (visit_id int primary key); select rowcast.watch('visits'), rowcast.allow('visits', 'vet')").await;
    let mut sockets = Vec::new();
    for path in ["/ws", "/ws?cuts=true"] {
        let joined = if path.contains('?') { '&' } else { '?' };
        let mut socket = server.socket(&format!("{path}{joined}token={}", vet("7"))).await;
        for channel in ["pets", "visits"] {
            socket.send(&format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#)).await;
            while next(&mut socket).await["type"] != "subscribed" {}
        }
        sockets.push(socket);
    }
    let mut holder = db.another_client().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("lock table pets in access exclusive mode").await.unwrap();
    db.run("insert into staff (user_id, clinic) values (7, 2); insert into visits values (1)").await;
    let [plain, cuts] = &mut sockets[..] else { unreachable!() };
    assert_eq!(next(plain).await["data"]["visit_id"], 1, "another channel goes on");
    wait_for_rows(&db, 2).await;
    for socket in [&mut *plain, &mut *cuts] {
        socket.send(r#"{"type":"unsubscribe","channel":"pets"}"#).await;
        while next(socket).await["type"] != "unsubscribed" {}
    }
    lock.batch_execute("update pets set name = 'Luna II' where pet_id = 1").await.unwrap();
    lock.commit().await.unwrap();
    db.run("insert into visits values (2)").await;
    for (socket, visits) in [(plain, vec![2]), (cuts, vec![1, 2])] {
        let mut told = Vec::new();
        while told.last() != Some(&2) {
            let message = next(socket).await;
            assert_ne!(message["entity_type"], "pets", "{message}");
            told.extend(message["data"]["visit_id"].as_i64());
        }
        assert_eq!(told, visits);
    }
    server.stop().await.unwrap();
}

/// Until so many wait for the rows of a table that is locked.
async fn wait_for_rows(db: &TestDatabase, count: i64) {
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and application_name ~ '^rowcast '";
    // they give up after two seconds: what follows holds then as well
    let begun = std::time::Instant::now();
    while db.text(waiting).await.parse::<i64>().unwrap() < count && begun.elapsed().as_secs() < 5 {}
}

/// The rules change while the rows that come with a membership are read.
#[tokio::test]
async fn a_policy_that_is_stated_while_members_change_holds_for_what_is_told() {
    let (db, server) = clinics().await;
    let (_, mut seven) = pets_of(&server, "7").await;
    let mut holder = db.another_client().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("lock table pets in access exclusive mode").await.unwrap();
    db.run("insert into staff (user_id, clinic) values (7, 2)").await;
    wait_for_rows(&db, 1).await;
    lock.batch_execute("select rowcast.allow('pets', 'vet', 'clinic=in.{clinics}', '{pet_id}')").await.unwrap();
    lock.commit().await.unwrap();
    // policies reach an open socket within a second, and it is told when
    let (mut pet, mut is_told) = (20, false);
    while !is_told {
        pet += 1;
        db.run(&format!("insert into pets values ({pet}, 2, 'hidden')")).await;
        loop {
            let message = next(&mut seven).await;
            is_told |= message["type"] == "gap" && message["reason"] == "policy";
            if message["data"]["pet_id"] == pet || message["type"] == "subscribed" {
                break;
            }
        }
    }
    db.run("update pets set name = 'hidden' where pet_id = 2; update pets set clinic = 3 where pet_id = 21").await;
    let mut told = Value::Null;
    while told["action"] != "left" {
        told = next(&mut seven).await;
        assert!(told["data"]["name"].is_null(), "{told}");
    }
    assert_eq!(told["data"], json!({"pet_id": 21}));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_token_says_of_such_a_claim_means_nothing() {
    let (db, server) = clinics().await;
    let forged = token(&json!({"sub": "7", "clinics": [2, 3]}));
    let (rows, _socket) = server.subscribed_with_rows(&format!("/ws/pets?snapshot=true&token={forged}")).await;
    assert_eq!(ids(&rows), [1].into());
    let (status, page) = server.get(&format!("/rows/pets?token={forged}")).await;
    assert_eq!((status, ids(&serde_json::from_str::<Vec<Value>>(&page).unwrap())), (200, [1].into()));
    // a user whose name is no number is nobody's member, and spoils nothing for the others
    for sub in ["abc", "7 or true", "99999999999999"] {
        let token = token(&json!({"sub": sub}));
        let (status, _) = server.get(&format!("/rows/pets?token={token}")).await;
        assert_eq!(status, 403, "{sub}");
    }
    let nobody = token(&json!({"clinics": [1, 2, 3]}));
    assert_eq!(server.get(&format!("/rows/pets?token={nobody}")).await.0, 403, "no sub, no member");
    // the same number, written in another way, hears of its row's changes
    let (rows, mut seven) = server.subscribed_with_rows(&format!("/ws/pets?snapshot=true&token={}", vet(" 07"))).await;
    assert_eq!(ids(&rows), [1].into());
    db.run("delete from staff where user_id = 7").await;
    assert_eq!(changed(&mut seven).await, ([].into(), [1].into()));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_cursor_is_good_as_long_as_the_members_are_the_same() {
    let (db, server) = clinics().await;
    let (mut seven, cursor) = server.subscribed_at(&format!("/ws/pets?token={}", vet("7"))).await;
    // what is not this user's leaves it good, also where a node has just begun
    db.run("insert into staff (user_id, clinic) values (9, 1); update pets set name = 'Luna II' where pet_id = 1")
        .await;
    assert_eq!(next(&mut seven).await["data"]["name"], "Luna II");
    let back = async |server: &TestServer, cursor: &str| {
        server.socket(&format!("/ws/pets?since={cursor}&token={}", vet("7"))).await
    };
    let other = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    for server in [&server, &other] {
        let mut socket = back(server, &cursor).await;
        assert_eq!(next(&mut socket).await["data"]["name"], "Luna II");
        let subscribed = next(&mut socket).await;
        assert_eq!(
            (&subscribed["type"], &subscribed["recovered"]),
            (&json!("subscribed"), &json!(true)),
            "{subscribed}"
        );
    }
    // away and back again: what was changed meanwhile was not this user's to see
    db.run("update staff set active = false where user_id = 7").await;
    assert_eq!(changed(&mut seven).await, ([].into(), [1].into()));
    db.run("update pets set name = 'Luna III' where pet_id = 1; update staff set active = true where user_id = 7")
        .await;
    assert_eq!(changed(&mut seven).await, ([1].into(), [].into()));
    db.run("update pets set name = 'Luna IV' where pet_id = 1").await;
    assert_eq!(next(&mut seven).await["data"]["name"], "Luna IV");
    for server in [&server, &other, &TestServer::start_with(&db.url, &[("jwt-secret", SECRET)])] {
        let mut socket = back(server, &cursor).await;
        let gap = next(&mut socket).await;
        assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("policy")), "{gap}");
        assert_eq!(next(&mut socket).await["type"], "subscribed");
    }
}

#[tokio::test]
async fn every_kind_of_node_knows_the_members_or_says_that_it_does_not() {
    let (db, redis) = (TestDatabase::new().await, TestRedis::start().await);
    db.run(CLINICS).await;
    let node = |url: &str, role: &str| TestServer::start_with(url, &[("jwt-secret", SECRET), (role, &redis.url())]);
    let nodes = [
        node(&db.url, "publish"),
        node(&db.url, "subscribe"),
        TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]),
    ];
    let mut sockets = Vec::new();
    for node in &nodes {
        let (rows, socket) = pets_of(node, "7").await;
        assert_eq!(rows, [1].into());
        sockets.push(socket);
    }
    db.run("insert into staff (user_id, clinic) values (7, 2)").await;
    for socket in &mut sockets {
        assert_eq!(changed(socket).await, ([2].into(), [].into()));
    }
    db.run("update pets set name = 'Rex II' where pet_id = 2").await;
    for socket in &mut sockets {
        assert_eq!(next(socket).await["data"]["name"], "Rex II");
    }
    // a gateway that only has the stream
    let without = node("", "subscribe");
    let mut socket = without.socket(&format!("/ws?token={}", vet("7"))).await;
    socket.send(r#"{"type":"subscribe","channel":"pets","ref":1}"#).await;
    let refused = next(&mut socket).await;
    assert_eq!((&refused["code"], &refused["ref"]), (&json!("forbidden"), &json!(1)), "{refused}");
}

/// A session that holds a lock on the members' table keeps nobody else from anything.
#[tokio::test]
async fn members_that_cannot_be_read_now_concern_nobody_else() {
    let (db, server) = clinics().await;
    db.run("create table visits (visit_id int primary key); select rowcast.watch('visits'), rowcast.allow('visits', 'vet')").await;
    let (_, mut seven) = pets_of(&server, "7").await;
    let (_, mut eight) = pets_of(&server, "8").await;
    let mut visits = server.subscribed(&format!("/ws/visits?token={}", vet("7"))).await;
    let mut holder = db.another_client().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("lock table staff in access exclusive mode").await.unwrap();
    // the lock's holder changes a member and commits it in the end
    lock.batch_execute("insert into staff (user_id, clinic) values (7, 2)").await.unwrap();
    db.run("update pets set name = 'Luna II' where pet_id = 1").await;
    assert_eq!(next(&mut seven).await["data"]["name"], "Luna II", "nothing is committed yet");
    // a user of whom nothing is known yet has to wait
    let path = format!("/ws/pets?snapshot=true&token={}", vet("9"));
    let mut nine = Socket::connect(server.address, &path, None).await.unwrap();
    db.run("update pets set name = 'Rex II' where pet_id = 2; insert into visits values (1)").await;
    assert_eq!(next(&mut eight).await["data"]["name"], "Rex II");
    assert_eq!(next(&mut visits).await["data"]["visit_id"], 1);
    lock.commit().await.unwrap();
    assert_eq!(changed(&mut seven).await, ([2].into(), [].into()));
    while next(&mut nine).await["type"] != "subscribed" {}
    server.stop().await.unwrap();
}

/// Of a project's row nobody can say whose it is: what all have is read again, and a holder that has the same goes on
/// without a word.
#[tokio::test]
async fn a_row_that_may_be_of_everybody_is_told_to_those_whose_values_it_changes() {
    let db = TestDatabase::new().await;
    db.run(
        "create table members (org int, member text, primary key (org, member)); create index on members (member);
         create table projects (project int primary key, org int); create table issues (issue int primary key, project int, title text);
         insert into members values (1, 'ann'), (2, 'bob'); insert into projects values (10, 1), (20, 2);
         insert into issues values (100, 10, 'a'), (110, 11, 'in no project yet'), (200, 20, 'b');
         select rowcast.watch('issues');
         select rowcast.claim('projects', 'select p.project from public.projects p join public.members m using (org) where m.member = {sub}');
         select rowcast.allow('issues', 'vet', 'or=(project.in.{projects},title.eq.public)', '{issue,title}')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let of = async |user: &str| server.subscribed(&format!("/ws/issues?token={}", vet(user))).await;
    let (mut ann, mut bob) = (of("ann").await, of("bob").await);
    db.run("insert into projects values (11, 1); update issues set title = 'b2' where issue = 200").await;
    let entered = next(&mut ann).await;
    assert_eq!(
        (&entered["action"], &entered["data"]),
        (&json!("entered"), &json!({"issue": 110, "title": "in no project yet"}))
    );
    let told = next(&mut bob).await;
    assert_eq!(told["data"], json!({"issue": 200, "title": "b2"}), "{told}");
    db.run("insert into issues values (101, 11, 'c'), (201, 21, 'public')").await;
    assert_eq!(next(&mut ann).await["data"]["issue"], 101);
    for socket in [&mut ann, &mut bob] {
        assert_eq!(next(socket).await["data"]["issue"], 201);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_claim_that_does_not_follow_its_table_any_more_shows_nothing() {
    let (db, server) = clinics().await;
    let (_, mut seven) = pets_of(&server, "7").await;
    let path = format!("/rows/pets?token={}", vet("7"));
    assert_eq!(server.get("/ws/.staff").await.0, 401, "the members' table is no channel for anybody");
    assert_eq!(server.get(&format!("/rows/.staff?token={}", vet("7"))).await.0, 403);
    db.run("select rowcast.allow('.staff', 'vet')").await;
    while server.get(&format!("/rows/.staff?token={}", vet("7"))).await.0 != 404 {}
    assert_eq!(db.text("select state from rowcast.health where finding = 'claims'").await, "ok");
    db.run("select rowcast.unwatch('staff')").await;
    let refused = next(&mut seven).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("forbidden")), "{refused}");
    assert_eq!(seven.close_code().await, 4403);
    assert_eq!(server.get(&path).await.0, 403);
    assert_eq!(db.text("select state from rowcast.health where finding = 'claims'").await, "fail");
    // the remedy as it is printed
    let remedy = db.text("select split_part(drift, 'again: ', 2) from rowcast.claims").await;
    db.run(&remedy).await;
    while server.get(&path).await.0 != 200 {}
    // another query: what is shown is what it says
    db.run("select rowcast.claim('clinics', 'select clinic + 1 from public.staff where user_id = {sub}::int')").await;
    while !server.get(&path).await.1.contains("Rex") {}
    let refused = db.refused("select rowcast.drop_claim('clinics')").await;
    assert!(refused.contains("the policy of role vet for channel pets names it"), "{refused}");
    db.run("select rowcast.deny('pets', 'vet'); select rowcast.drop_claim('clinics')").await;
    assert_eq!(db.text("select count(*) from rowcast.watched").await, "1", "nothing but pets is captured any more");
    server.stop().await.unwrap();
}

/// The query reads its table through a function, so the table is named. Its name is one that has to be quoted twice.
#[tokio::test]
async fn the_remedy_of_a_claim_keeps_what_it_was_told_to_follow() {
    let db = TestDatabase::new().await;
    db.run(
        r#"create table "The ""staff"", all" (user_id int primary key, clinic int);
           create function clinics_of(int) returns setof int immutable security definer language plpgsql as $$
           begin return query select clinic from public."The ""staff"", all" where user_id = $1; end $$;
           select rowcast.claim('clinics', 'select * from public.clinics_of({sub}::int)',
                                follows => array['public."The ""staff"", all"'::regclass]);
           select rowcast.unwatch('public."The ""staff"", all"')"#,
    )
    .await;
    let remedy = db.text("select split_part(drift, 'again: ', 2) from rowcast.claims").await;
    db.run(&remedy).await;
    let follows = r#"select target = 'public."The ""staff"", all"'::regclass from rowcast.followed"#;
    assert_eq!(db.text(follows).await, "true", "{remedy}");
    assert_eq!(db.text("select drift from rowcast.claims").await, "");
}

/// While changes are left out nobody is told who is a member since.
#[tokio::test]
async fn a_claim_shows_nothing_while_capture_is_paused() {
    let (db, server) = clinics().await;
    let (_, mut seven) = pets_of(&server, "7").await;
    let path = format!("/rows/pets?token={}", vet("7"));
    assert_eq!(server.get(&path).await.0, 200);
    db.run("select rowcast.pause(); delete from staff where user_id = 7; insert into pets values (5, 1, 'New')").await;
    let refused = next(&mut seven).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("forbidden")), "{refused}");
    assert_eq!(server.get(&path).await.0, 403);
    assert_eq!(db.text("select state from rowcast.health where finding = 'claims'").await, "fail");
    db.run("select rowcast.resume()").await;
    while server.get(&path).await.0 != 200 {}
    assert_eq!(server.get(&path).await.1.trim(), "[]");
    // a full outbox is the same, of which nobody tells: the servers look each ten seconds
    db.run("insert into staff (user_id, clinic) values (7, 1)").await;
    while server.get(&path).await.1.trim() == "[]" {}
    while server.get(&path).await.0 != 403 {
        // again, where a prune has found room meanwhile
        db.run("select setval('rowcast.capture_state', last_value % 3 + 3) from rowcast.capture_state").await;
    }
    server.stop().await.unwrap();
}

/// `rowcast.watched` names what a claim follows, with a remedy like any other.
#[tokio::test]
async fn the_remedy_of_what_a_claim_follows_makes_it_no_channel_of_clients() {
    let db = TestDatabase::new().await;
    db.run(
        "create table staff (user_id int primary key, clinic int);
         select rowcast.claim('clinics', 'select clinic from public.staff where user_id = {sub}::int')",
    )
    .await;
    for fault in [
        "drop trigger \"!rowcast\" on staff",
        "alter table staff rename to staff_old; create table staff (user_id int primary key, clinic int)",
        "drop table staff; create table staff (user_id int primary key, clinic int)",
    ] {
        db.run(fault).await;
        let remedy = db.text("select remedy from rowcast.watched where channel = '.staff'").await;
        assert!(remedy.contains("rowcast.watch("), "{fault}: {remedy}");
        db.run(&remedy).await;
        assert_eq!(db.text("select unlisted from rowcast.channel where name = '.staff'").await, "true", "{fault}");
    }
}

/// Its program would take the claim from tokens.
#[tokio::test]
async fn no_claim_is_stated_beside_a_node_of_an_older_version() {
    let db = TestDatabase::new().await;
    db.run("create table staff (user_id int, clinic int)").await;
    let noted = |knows: &str| {
        format!("select rowcast.note_node('a', '0.0.9', 'here:1', 'relay', now(), 0, 0, pg_current_snapshot(){knows})")
    };
    const CLAIM: &str = "select rowcast.claim('clinics', 'select clinic from public.staff where user_id = {sub}::int')";
    // an older one, and one that went back to an older one
    for before in ["", ", 7"] {
        db.run(&noted(before)).await;
        db.run(&noted("")).await;
        let refused = db.refused(CLAIM).await;
        assert!(refused.contains("the node at here:1 (version 0.0.9) would take it from tokens"), "{refused}");
    }
    db.run(&noted(", 7")).await;
    db.run(CLAIM).await;
}

#[tokio::test]
async fn notifications_tell_the_rows_that_a_member_may_see() {
    let db = TestDatabase::new().await;
    db.run(CLINICS).await;
    db.run("alter table pets add column owner text; select rowcast.watch('pets', user_rule => 'owner')").await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let mut seven = server.subscribed(&format!("/ws/user/7?token={}", vet("7"))).await;
    db.run("insert into pets (pet_id, owner, clinic, name) values (5, '7', 2, 'Of another clinic'), (6, '7', 1, 'Of the own')").await;
    assert_eq!(next(&mut seven).await["data"]["pet_id"], 6);
    db.run("insert into staff (user_id, clinic) values (7, 2)").await;
    let gap = next(&mut seven).await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("policy")), "{gap}");
    assert_eq!(next(&mut seven).await["type"], "subscribed");
    db.run("update pets set name = 'His as well' where pet_id = 5").await;
    assert_eq!(next(&mut seven).await["data"]["pet_id"], 5);
    server.stop().await.unwrap();
}

/// Taken and given back, faster than anybody can read: what was changed meanwhile was not this user's to see.
#[tokio::test]
async fn a_membership_that_was_taken_and_given_back_shows_nothing_of_between() {
    let (db, server) = clinics().await;
    let (_, mut seven) = pets_of(&server, "7").await;
    for n in 0..20 {
        db.run(&format!(
            "do $$ begin
               update staff set active = false where user_id = 7; commit;
               update pets set name = 'secret {n}' where pet_id = 1; commit;
               update staff set active = true where user_id = 7; commit;
               update pets set name = 'public {n}' where pet_id = 1; commit;
             end $$"
        ))
        .await;
        // whatever comes, it is not that; and the present is shown in the end
        loop {
            let message = next(&mut seven).await;
            assert!(!message.to_string().contains("secret"), "{message}");
            if message["type"] == "subscribed" {
                seven.send(r#"{"type":"rows","channel":"pets","order":"pet_id","limit":100}"#).await;
            }
            if message.to_string().contains(&format!("public {n}")) {
                break;
            }
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_user_whose_name_the_database_cannot_take_stops_nobody() {
    let (db, server) = clinics().await;
    let (_, mut seven) = pets_of(&server, "7").await;
    for sub in ["7\u{0}", "\u{1F600}", "'; drop table staff; --", "{sub}"] {
        let (status, _) = server.get(&format!("/rows/pets?token={}", vet(sub))).await;
        assert_eq!(status, 403, "{sub:?}");
    }
    // one whose query fails for one user alone
    db.run("create table logins (login text, user_id int); insert into logins values ('ann', 7), ('bob', 8), ('bob', 9);
            create index on logins (login); create index on staff (user_id);
            select rowcast.claim('clinics', 'select clinic from public.staff where user_id = (select l.user_id from public.logins l where l.login = {sub})')").await;
    let status = async |sub: &str| server.get(&format!("/rows/pets?token={}", vet(sub))).await.0;
    while status("ann").await != 200 {}
    let mut all = Vec::new();
    for sub in ["bob", "ann", "zoe"] {
        all.push(status(sub).await);
    }
    assert_eq!(all, [403, 200, 200]);
    // user 7 is nobody's login
    assert_eq!(changed(&mut seven).await, ([].into(), [1].into()));
    server.stop().await.unwrap();
}

/// A policy took a claim from tokens, until the claim was stated.
#[tokio::test]
async fn stating_a_claim_reaches_the_sockets_that_are_open() {
    let db = TestDatabase::new().await;
    db.run(&CLINICS.lines().filter(|line| !line.contains("rowcast.claim")).collect::<String>()).await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let token = token(&json!({"sub": "7", "clinics": [2, 3]}));
    let (rows, mut seven) = server.subscribed_with_rows(&format!("/ws/pets?snapshot=true&token={token}")).await;
    assert_eq!(ids(&rows), [2, 3].into());
    db.run("select rowcast.claim('clinics', 'select clinic from public.staff where user_id = {sub}::int')").await;
    assert_eq!(reloaded(&mut seven).await, [1].into());
    server.stop().await.unwrap();
}

/// Where a table says of no row whose it is, each change has all read again. A socket goes on all the same.
#[tokio::test]
async fn rows_of_nobody_in_particular_that_change_all_the_time_stop_nobody() {
    let db = TestDatabase::new().await;
    db.run(
        "create table members (org int, member text, primary key (org, member)); create index on members (member);
         create table projects (project int primary key generated always as identity, org int); create index on projects (org);
         create table issues (issue int primary key, project int, n int);
         insert into members values (1, 'ann'); insert into projects (org) values (1); insert into issues values (100, 1, 0);
         select rowcast.watch('issues');
         select rowcast.claim('projects', 'select p.project from public.projects p join public.members m using (org) where m.member = {sub}');
         select rowcast.allow('issues', 'vet', 'project=in.{projects}')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let mut sockets = Vec::new();
    for parameters in ["", "cuts=true&"] {
        sockets.push(server.subscribed(&format!("/ws/issues?{parameters}token={}", vet("ann"))).await);
    }
    let (tell, told) = watch::channel(false);
    let writer = db.another_client().await;
    let writing = tokio::spawn(async move {
        let mut written = 0;
        // until it was told; a hundred thousand are more than a minute's
        while !*told.borrow() && written < 100_000 {
            writer.batch_execute("insert into projects (org) values (2)").await.unwrap();
            written += 1;
        }
        *told.borrow()
    });
    for n in 1..=20 {
        db.run(&format!("update issues set n = {n}")).await;
        for socket in &mut sockets {
            loop {
                let message = next(socket).await;
                assert_ne!(message["type"], "gap", "what ann has is the same: {message}");
                if message["data"]["n"] == n {
                    break;
                }
            }
        }
    }
    tell.send_replace(true);
    assert!(writing.await.unwrap());
    // one that comes now is let in
    let (rows, _) = server.subscribed_with_rows(&format!("/ws/issues?snapshot=true&token={}", vet("ann"))).await;
    assert_eq!(rows.len(), 1);
    server.stop().await.unwrap();
}

/// By which column a changed row names its holder; `-` where it may be of everybody; or why the query is refused.
#[tokio::test]
async fn a_holder_is_found_only_where_no_row_can_be_of_another() {
    let db = TestDatabase::new().await;
    db.run(
        "create table staff (user_id int not null, clinic int not null, active bool, until timestamptz, login text, code uuid, primary key (user_id, clinic));
         create table pets (pet_id int primary key, clinic int);
         create view active_staff as select * from staff where active; grant select on active_staff to rowcast_relay;
         create function of_mine() returns setof int stable language sql as 'select 1';
         create table parent (user_id int, clinic int); create table child () inherits (parent)",
    )
    .await;
    let cases = [
        ("select clinic from public.staff where user_id = {sub}::int and active", "user_id"),
        (
            "select distinct s.clinic from public.staff s where s.active is not false and s.user_id = {sub}::bigint;",
            "user_id",
        ),
        (
            "select p.clinic from public.pets p join public.staff s using (clinic) where s.user_id={sub}::int order by 1",
            "user_id",
        ),
        ("select clinic from public.staff where login = {sub}", "login"),
        ("select clinic from public.staff where code = {sub}::uuid", "code"),
        ("select clinic from public.staff where login = {sub} and until > '2020-01-01'", "login"),
        (
            "select greatest(max(clinic), max(clinic) filter (where user_id = {sub}::int and active)) from public.staff",
            "-",
        ),
        (
            "select s.clinic from public.staff s, pg_catalog.unnest(array[7,8]) u(user_id) where s.user_id > 0 and u.user_id = {sub}::int",
            "-",
        ),
        (r"select clinic from public.staff where E'\'' <> login or login = 'a' and user_id = {sub}::int", "-"),
        ("select clinic from public.staff where user_id = {sub}::real", "-"),
        ("select clinic from public.staff where user_id = {sub}::int or active", "-"),
        ("select clinic from public.staff where not user_id = {sub}::int", "-"),
        ("select clinic from public.staff where (user_id = {sub}::int) is not true", "-"),
        ("select clinic from public.staff where user_id = {sub}::int is not true", "-"),
        ("select clinic from (select clinic from public.staff where user_id = {sub}::int) x", "-"),
        (
            "select b.clinic from public.staff a join public.staff b on b.clinic = a.clinic where a.user_id = {sub}::int",
            "-",
        ),
        (
            "select p.clinic from public.pets p left join public.staff s on s.clinic = p.clinic and s.user_id = {sub}::int",
            "-",
        ),
        (
            "select clinic from public.staff where user_id = (select max(o.user_id) from public.staff o where o.login = {sub})",
            "-",
        ),
        ("select clinic from public.active_staff where user_id = {sub}::int", "-"),
        (
            "select v.clinic from public.staff s join public.active_staff v on v.login = s.login where s.user_id = {sub}::int",
            "-",
        ),
        (
            "select clinic from public.staff where user_id = {sub}::int and until > 'now'::timestamptz",
            "a time that goes on",
        ),
        ("select clinic from public.staff where user_id = {sub}::int and until > pg_catalog.now()", "it calls now()"),
        ("select clinic from public.staff where user_id = {sub}::int and until > current_date", "asks for the time"),
        (
            "select clinic from public.staff where user_id = {sub}::int and pg_catalog.random() > 0.5",
            "it calls random()",
        ),
        (
            "select clinic from public.staff where user_id = {sub}::int and pg_catalog.age(until) < '1 year'",
            "it calls age(",
        ),
        (
            "select clinic from public.staff where user_id = {sub}::int and until > {sub}::timestamptz",
            "makes a time of a text",
        ),
        (
            "select clinic from public.staff where user_id = {sub}::int and clinic in (select public.of_mine())",
            "it calls public.of_mine()",
        ),
        ("select clinic from public.staff tablesample system (10) where user_id = {sub}::int", "a sample of a table"),
        (
            "select m.roleid::int from pg_catalog.pg_auth_members m where m.member = {sub}::int",
            "it reads pg_auth_members",
        ),
        ("select clinic from public.parent where user_id = {sub}::int", "children by inheritance"),
        ("select clinic from staff where user_id = {sub}::int", "relation \"staff\" does not exist"),
        ("select clinic, user_id from public.staff where user_id = {sub}::int", "more than one column"),
        ("select clinic from public.staff where login = '{sub}'", "{sub} stands in quotes"),
        ("select {sub}", "reads no table"),
    ];
    for (query, wanted) in cases {
        let call = format!("select rowcast.claim('q', $q${query}$q$)");
        match db.client.batch_execute(&call).await {
            Ok(()) => {
                let holder = "select coalesce(string_agg(holder, ','), '-') from rowcast.claims where name = 'q'";
                assert_eq!(db.text(holder).await, wanted, "{query}");
            }
            Err(error) => {
                let error = error.as_db_error().unwrap();
                assert!(error.message().contains(wanted), "{query}: {error:?}");
                assert!(error.hint().is_some(), "{query}: {error:?}");
            }
        }
    }
    // a row that is read as a whole: any of its columns
    db.run("select rowcast.claim('q', $$select (pg_catalog.to_jsonb(s)->>'clinic')::int from public.staff s where s.user_id = {sub}::int$$)").await;
    assert_eq!(db.text("select cardinality(columns) from rowcast.claims where name = 'q'").await, "6");
    // the index that a large table needs is named, and helps
    db.run("drop view active_staff; alter table staff drop constraint staff_pkey; insert into staff select g, g from generate_series(1, 11000) g; analyze staff").await;
    let call = "select rowcast.claim('q', 'select clinic from public.staff where user_id = {sub}::int')";
    let error = db.client.batch_execute(call).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert!(error.message().contains("goes through all of table public.staff, about 11000 rows"), "{error:?}");
    db.run(error.hint().unwrap().split_once(": ").unwrap().1).await;
    db.run(call).await;
}

/// Who sees a row and why, asked in SQL and from the shell: what a client sees.
#[tokio::test]
async fn why_somebody_sees_a_row_is_told() {
    let (db, server) = clinics().await;
    let (rows, _socket) = pets_of(&server, "8").await;
    for pet in 1..=3 {
        let seen = db
            .text(&format!(
                "select seen from rowcast.who_sees('pets', '{{\"sub\":\"8\",\"role\":\"vet\"}}', '{{\"pet_id\":{pet}}}') where test is null"
            ))
            .await;
        assert_eq!(seen == "t" || seen == "true", rows.contains(&pet), "{pet}: {seen}");
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command.args(["explain", "--as", r#"{"sub":"9","role":"vet"}"#, "--channel", "pets", "--database-url", &db.url]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains("clinic=in.{clinics}"), "{told}");
    server.stop().await.unwrap();
}

/// What the views have to show is noted in the transaction that changes it.
const STEPS: &str = "create table pets (pet_id int primary key, clinic int, n int);
    create table staff (user_id int, clinic int, primary key (user_id, clinic));
    create table ticks (tick_id int primary key, n int, members jsonb, pets jsonb);
    insert into pets select g, g % 5, 0 from generate_series(1, 20) g;
    insert into staff values (7, 1), (8, 1);
    insert into ticks values (1, 0, '{\"7\":[1],\"8\":[1]}', (select jsonb_agg(p) from pets p));
    select rowcast.watch('pets'), rowcast.watch('ticks');
    select rowcast.claim('clinics', 'select clinic from public.staff where user_id = {sub}::int');
    select rowcast.allow('pets', 'vet', 'clinic=in.{clinics}'), rowcast.allow('ticks', 'vet');
    create function step(tick int, who int, to_clinic int) returns void language plpgsql as $$
    begin
      if tick % 31 = 0 then
        truncate staff;
        insert into staff values (7, tick % 5), (8, tick % 4);
      elsif tick % 23 = 0 then
        insert into staff select 1000 + g, to_clinic from generate_series(1, 2000) g on conflict do nothing;
      elsif exists (select from staff where user_id = who and clinic = to_clinic) then
        delete from staff where user_id = who and clinic = to_clinic;
      else
        insert into staff values (who, to_clinic);
      end if;
      update pets set n = tick, clinic = case when pet_id = tick % 20 + 1 then tick % 5 else clinic end
       where pet_id in (tick % 20 + 1, tick * 3 % 20 + 1);
      update ticks set n = tick, members = (select coalesce(jsonb_object_agg(user_id, clinics), '{}') from (
        select user_id, jsonb_agg(clinic) clinics from staff where user_id < 1000 group by user_id) s),
        pets = (select jsonb_agg(p) from pets p);
    end $$";

/// Nobody is shown a row of a cut under what another cut makes of the members.
#[tokio::test]
async fn at_each_cut_a_view_is_what_the_members_of_that_cut_may_see() {
    let db = TestDatabase::new().await;
    db.run(STEPS).await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    compare_each_cut(&db, &server, 400, false).await;
    server.stop().await.unwrap();
}

/// The same on a gateway, whose values come from the database and whose changes come from Redis; connections are lost meanwhile.
#[tokio::test]
async fn so_it_is_on_a_gateway_and_where_connections_are_lost() {
    let (db, redis) = (TestDatabase::new().await, TestRedis::start().await);
    db.run(STEPS).await;
    let node = |role: &str| TestServer::start_with(&db.url, &[("jwt-secret", SECRET), (role, &redis.url())]);
    let (publisher, gateway) = (node("publish"), node("subscribe"));
    compare_each_cut(&db, &gateway, 200, true).await;
    publisher.stop().await.unwrap();
    gateway.stop().await.unwrap();
}

async fn compare_each_cut(db: &TestDatabase, server: &TestServer, steps: i64, with_faults: bool) {
    // clients that are not told where a cut ends have the same in the end
    let mut plain = Vec::new();
    for user in ["7", "8"] {
        plain.push(server.subscribed_with_rows(&format!("/ws/pets?snapshot=true&token={}", vet(user))).await);
    }
    // the writer goes on in bursts, behind each of which every reader gets to a whole view once
    let mut whole = Vec::new();
    let readers = ["7", "8", "9"].map(|user| {
        let (address, path) = (server.address, format!("/ws?cuts=true&token={}", vet(user)));
        let (tell, told) = watch::channel(0);
        whole.push(told);
        tokio::spawn(
            async move { follow(Socket::connect(address, &path, None).await.unwrap(), user, steps, tell).await },
        )
    });
    let writer = db.another_client().await;
    for tick in 1..=steps {
        if tick % 13 == 0 {
            for whole in &mut whole {
                whole.wait_for(|seen| *seen >= tick - 1).await.unwrap();
            }
        }
        // not before they have begun
        if with_faults && tick % 40 == 20 {
            let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name ~ '^rowcast ' and datname = current_database()
                and pid <> pg_backend_pid() and application_name !~ 'command'";
            writer.batch_execute(end).await.unwrap();
        }
        let (who, clinic) = (7 + tick % 2, (tick * 7) % 5);
        // some steps change rows alone: nobody's members; and some are taken back
        let who = if tick % 3 == 0 { 100 } else { who };
        if tick % 7 == 0 {
            writer.batch_execute(&format!("begin; select step({tick}, {who}, {clinic}); rollback")).await.unwrap();
        }
        writer.batch_execute(&format!("select step({tick}, {who}, {clinic})")).await.unwrap();
    }
    for user in ["7", "8"] {
        Box::pin(come_to_the_same(db, server, user, plain.remove(0))).await;
    }
    let mut compared = Vec::new();
    for reader in readers {
        compared.push(reader.await.unwrap());
    }
    assert!(compared.iter().all(|[cuts, ..]| *cuts > 3), "{compared:?}");
    let are_told = compared[..2].iter().all(|[_, regrants, _]| *regrants > 3);
    // a truncate may be of everybody, and user 9 has nothing before and after it
    assert!(compared[2][1..] == [0, 0] && are_told, "cuts compared, regrants, gaps told: {compared:?}");
}

/// A reader that applies what it is told has what its user may see in the end.
async fn come_to_the_same(db: &TestDatabase, server: &TestServer, user: &str, reader: (Vec<Value>, Socket)) {
    let wanted = db
        .text(&format!("select coalesce(jsonb_agg(p order by pet_id), '[]') from pets p where clinic in (select clinic from staff where user_id = {user})"))
        .await;
    let wanted: Vec<Value> = serde_json::from_str(&wanted).unwrap();
    let by_key = |rows: &[Value]| -> BTreeMap<i64, Value> {
        rows.iter().map(|row| (row["pet_id"].as_i64().unwrap(), row.clone())).collect()
    };
    let (rows, mut socket) = reader;
    let mut pets = by_key(&rows);
    socket.send(r#"{"type":"ping","ref":"behind all"}"#).await;
    let mut is_behind_all = false;
    while !is_behind_all || pets != by_key(&wanted) {
        let message = socket.any_message().await;
        match message["type"].as_str().unwrap() {
            "realtime_update" if matches!(message["action"].as_str(), Some("left" | "deleted")) => {
                pets.remove(&message["data"]["pet_id"].as_i64().unwrap());
            }
            "realtime_update" => {
                pets.insert(message["data"]["pet_id"].as_i64().unwrap(), message["data"].clone());
            }
            "gap" => {
                let (rows, again) =
                    server.subscribed_with_rows(&format!("/ws/pets?snapshot=true&token={}", vet(user))).await;
                (pets, socket) = (by_key(&rows), again);
                is_behind_all = true;
            }
            "pong" => is_behind_all = true,
            _ => {}
        }
    }
}

/// Follows pets and ticks to the last step; how many whole cuts were compared, in how many rows came or went though they were not
/// changed, and how many gaps were told.
async fn follow(mut socket: Socket, user: &str, last: i64, whole: watch::Sender<i64>) -> [usize; 3] {
    socket.send(r#"{"type":"subscribe","channel":"ticks","rows":{"order":"tick_id","limit":5}}"#).await;
    socket.send(r#"{"type":"subscribe","channel":"pets","rows":{"order":"pet_id","limit":100}}"#).await;
    let mut pets: BTreeMap<i64, Value> = BTreeMap::new();
    let mut tick = Value::Null;
    let (mut touched, mut is_whole, mut asked) = (BTreeSet::new(), false, 0);
    let (mut cuts, mut regrants, mut gaps, mut is_regranted) = (0, 0, 0, false);
    loop {
        let message = next(&mut socket).await;
        let is_of_pets = message["channel"] == "pets" || message["entity_type"] == "pets";
        match message["type"].as_str().unwrap() {
            "rows" if !is_of_pets => tick = message["rows"][0].clone(),
            "rows" if asked > 0 && message["ref"] != asked => {}
            "rows" => {
                for row in message["rows"].as_array().unwrap() {
                    let id = row["pet_id"].as_i64().unwrap();
                    if !touched.contains(&id) {
                        pets.insert(id, row.clone());
                    }
                }
                is_whole = is_whole || message["last"] == true;
            }
            "realtime_update" if !is_of_pets => tick = message["data"].clone(),
            "realtime_update" => {
                let id = message["data"]["pet_id"].as_i64().unwrap();
                touched.insert(id);
                is_regranted |= message["tx"] == "0";
                match message["action"].as_str().unwrap() {
                    "left" | "deleted" => _ = pets.remove(&id),
                    _ => _ = pets.insert(id, message["data"].clone()),
                }
            }
            "gap" => {
                assert_eq!((&message["reason"], is_of_pets), (&json!("policy"), true), "{message}");
                gaps += 1;
                is_whole = false;
                pets.clear();
            }
            "subscribed" if is_of_pets && message["ref"].is_null() && gaps > 0 => {
                asked += 1;
                touched.clear();
                pets.clear();
                is_whole = false;
                socket
                    .send(&format!(r#"{{"type":"rows","channel":"pets","order":"pet_id","limit":100,"ref":{asked}}}"#))
                    .await;
            }
            // what its page shows was another part meanwhile
            "error" if message["ref"] == asked && message["code"] == "unanswered" => {
                asked += 1;
                socket
                    .send(&format!(r#"{{"type":"rows","channel":"pets","order":"pet_id","limit":100,"ref":{asked}}}"#))
                    .await;
            }
            "error" if message["code"] == "unanswered" => {}
            "error" if message["code"] == "source_down" => {}
            "cut" if is_whole && !tick.is_null() => {
                cuts += 1;
                regrants += usize::from(std::mem::take(&mut is_regranted));
                let members = tick["members"][user].as_array().cloned().unwrap_or_default();
                let of_members = tick["pets"].as_array().unwrap().iter().filter(|pet| members.contains(&pet["clinic"]));
                let wanted: BTreeMap<i64, Value> =
                    of_members.map(|pet| (pet["pet_id"].as_i64().unwrap(), pet.clone())).collect();
                assert_eq!(pets, wanted, "user {user} at {}", tick["n"]);
                let n = tick["n"].as_i64().unwrap();
                whole.send_replace(n);
                if n >= last {
                    return [cuts, regrants, gaps];
                }
            }
            "subscribed" | "cut" => {}
            _ => panic!("user {user}: {message}"),
        }
    }
}

/// What Postgres shows by row security, and what the calls that are printed for it show.
#[tokio::test]
async fn the_calls_for_row_security_show_what_its_policies_show() {
    let db = TestDatabase::new().await;
    let role = db.text("select 'app_of_' || current_database()").await;
    db.run(&format!("create role {role}")).await;
    db.run(&include_str!("support/row_security.sql").replace("$ROLE$", &role)).await;
    let wrong =
        db.text("select coalesce(string_agg(q || ': ' || wrong, '; '), '') from outcome where wrong is not null").await;
    assert_eq!(wrong, "");
    let are_told = "select count(role_call) > 50 and count(*) filter (where role_call is null and problem is null) = 0 from outcome";
    assert_eq!(db.text(are_told).await, "true", "calls for most of them, or why not");
    // tables of which row security shows a user less than a claim reads, and those that it shows nothing of
    db.run(&format!(
        "create table shares (user_id uuid, org_id int, staff_id int); alter table members enable row level security; alter table shares enable row level security;
         create policy own on members using (user_id = auth.uid()); create policy own on shares using (user_id = auth.uid());
         grant select on members, shares to {role}; drop policy p on docs"
    ))
    .await;
    for (using, why) in [
        (
            "exists (select 1 from public.members m join public.shares s on s.org_id = m.org_id where m.user_id = auth.uid() and s.org_id = docs.org_id)",
            "row security of its own",
        ),
        (
            "exists (select 1 from public.members m join public.members o on o.org_id = m.org_id where m.user_id = auth.uid() and o.org_id = docs.org_id)",
            "row security of its own",
        ),
        ("org_id in (select d.org_id from public.docs d where d.user_id = auth.uid())", "reads the table itself"),
    ] {
        db.run(&format!("create policy p on docs for select to {role} using ({using})")).await;
        let told = db.text("select coalesce(call, 'none') || ': ' || problem from rowcast.row_security('docs')").await;
        assert!(told.starts_with("none: ") && told.contains(why), "{using}: {told}");
        db.run("drop policy p on docs").await;
    }
    db.run(&format!("drop owned by {role}; drop role {role}")).await;
}

/// A changed row of the table says nothing of what another holder reads of it through the view.
#[tokio::test]
async fn a_membership_that_is_lost_through_a_view_of_the_same_table_hides_its_rows() {
    let db = TestDatabase::new().await;
    db.run(
        "create table staff (user_id int, team int, clinic int, primary key (user_id, clinic)); create index on staff (team);
         create table pets (pet_id int primary key, clinic int); insert into pets values (1, 10), (2, 20);
         create view team_clinics as select team, clinic from staff; grant select on team_clinics to rowcast_relay;
         insert into staff values (7, 1, 10), (9, 1, 20); select rowcast.watch('pets');
         select rowcast.claim('clinics', 'select t.clinic from public.staff s join public.team_clinics t on t.team = s.team where s.user_id = {sub}::int');
         select rowcast.allow('pets', 'vet', 'clinic=in.{clinics}')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let (rows, mut socket) = pets_of(&server, "7").await;
    assert_eq!(rows, [1, 2].into());
    db.run("delete from staff where user_id = 9").await;
    assert_eq!(changed(&mut socket).await, ([].into(), [2].into()));
    server.stop().await.unwrap();
}

/// The text of a value is that which rows have.
#[tokio::test]
async fn values_of_a_claim_are_compared_by_what_they_are() {
    let db = TestDatabase::new().await;
    db.run(
        "create table staff (user_id int primary key, clinic numeric(10,2), host inet);
         create table pets (pet_id int primary key, clinic int); create table logs (id int primary key, host inet);
         insert into staff values (1, 7, '10.0.0.1'); insert into pets values (1, 7), (2, 8);
         insert into logs values (1, '10.0.0.1'), (2, '10.0.0.2'); select rowcast.watch('pets'), rowcast.watch('logs');
         select rowcast.claim('clinics', 'select clinic from public.staff where user_id = {sub}::int'),
                rowcast.claim('hosts', 'select host from public.staff where user_id = {sub}::int');
         select rowcast.allow('pets', 'vet', 'clinic=in.{clinics}'), rowcast.allow('logs', 'vet', 'host=in.{hosts}')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let (rows, mut pets) = pets_of(&server, "1").await;
    assert_eq!(rows, [1].into());
    let (rows, mut logs) = server.subscribed_with_rows(&format!("/ws/logs?snapshot=true&token={}", vet("1"))).await;
    assert_eq!(rows, [json!({"id": 1, "host": "10.0.0.1"})]);
    db.run("insert into pets values (3, 9), (4, 7); insert into logs values (3, '10.0.0.3'), (4, '10.0.0.1')").await;
    assert_eq!(next(&mut pets).await["data"]["pet_id"], 4);
    assert_eq!(next(&mut logs).await["data"]["id"], 4);
    server.stop().await.unwrap();
}
