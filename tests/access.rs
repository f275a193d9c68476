//! Who may see what: tokens, policies, origins and limits, at the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Error;

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

const SECRET: &str = "a secret that only the tests know";
const CLINIC: &str =
    "create table pets (pet_id int primary key, owner text, clinic int, name text, chip text, notes text);
    select rowcast.watch('pets', user_rule => 'owner', exclude => '{chip}');
    select rowcast.allow('pets', 'vet');
    select rowcast.allow('pets', 'owner', 'owner=eq.{sub}', '{pet_id,name}');
    select rowcast.allow('pets', 'clinic', 'clinic=in.{clinics}', '{pet_id,clinic,name}');
    select rowcast.allow('user/*', 'support')";

fn token(claims: Value) -> String {
    let mut all = json!({"exp": now() + 600, "iat": now()});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    encode(&Header::default(), &all, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn clinic() -> (TestDatabase, TestServer) {
    let db = TestDatabase::new().await;
    db.run(CLINIC).await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    // before the first contact a socket waits for the policies; then it is refused at once
    server.subscribed(&as_role("/ws/pets", "vet")).await;
    (db, server)
}

fn as_role(path: &str, role: &str) -> String {
    format!("{path}?token={}", token(json!({"sub": "x", "role": role})))
}

async fn status(server: &TestServer, path: &str) -> u16 {
    match Socket::connect(server.address, path, None).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Ok(_) => 101,
        Err(other) => panic!("{other}"),
    }
}

async fn close_code(server: &TestServer, path: &str) -> u16 {
    Socket::connect(server.address, path, Some("rowcast.v1")).await.unwrap().close_code().await
}

#[tokio::test]
async fn without_a_policy_there_is_no_access() {
    let (db, server) = clinic().await;
    let nobody = "/ws/pets".to_owned();
    assert_eq!((status(&server, &nobody).await, close_code(&server, &nobody).await), (401, 4401));
    let stranger = as_role("/ws/pets", "stranger");
    assert_eq!((status(&server, &stranger).await, close_code(&server, &stranger).await), (403, 4403));
    assert_eq!(status(&server, "/ws/pets?token=nonsense").await, 401);
    // which channels there are is not for everybody
    let unknown = as_role("/ws/cats", "stranger");
    assert_eq!(status(&server, &unknown).await, 403);
    db.run("select rowcast.allow('pets', 'anon', null, '{pet_id}')").await;
    while status(&server, "/ws/pets").await != 101 {}
    let mut anybody = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1, '5', 1, 'Luna', 'secret', 'private')").await;
    assert_eq!(anybody.message().await["data"], json!({"pet_id": 1}));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn each_role_sees_its_rows_and_columns_by_every_way() {
    let (db, server) = clinic().await;
    db.run("insert into pets values (1, '5', 1, 'Luna', 'secret', 'private'), (2, '6', 2, 'Rex', 'secret', 'private')")
        .await;
    let five = token(json!({"sub": 5, "role": "owner"}));
    let path = format!("/ws/pets?snapshot=true&old=true&token={five}");
    let mut owner = Socket::connect(server.address, &path, None).await.unwrap();
    let rows = owner.message().await;
    assert_eq!(rows["rows"], json!([{"pet_id": 1, "name": "Luna"}]), "a snapshot");
    let left = loop {
        let message = owner.message().await;
        if message["type"] == "subscribed" {
            break message["cursor"].as_str().unwrap().to_owned();
        }
    };
    let mut clinics =
        server.subscribed(&format!("/ws/pets?token={}", token(json!({"role": "clinic", "clinics": [2, 3]})))).await;
    db.run("update pets set notes = 'more' where pet_id = 1; update pets set name = 'Lu' where pet_id = 1;
            update pets set owner = '6', name = 'Mine now' where pet_id = 1; update pets set owner = '5' where pet_id = 2;
            delete from pets where pet_id = 2").await;
    let mut expected = [
        json!({"action": "updated", "data": {"pet_id": 1, "name": "Lu"}, "changed": ["name"], "old": {"name": "Luna"}}),
        json!({"action": "left", "data": {"pet_id": 1, "name": "Lu"}}),
        json!({"action": "entered", "data": {"pet_id": 2, "name": "Rex"}}),
        json!({"action": "deleted", "data": {"pet_id": 2, "name": "Rex"}}),
    ];
    let seen = |message: &Value| {
        let fields = ["action", "data", "changed", "old"].into_iter().filter(|name| !message[*name].is_null());
        fields.map(|name| (name.to_owned(), message[name].clone())).collect::<Value>()
    };
    for wanted in &expected {
        assert_eq!(seen(&owner.message().await), *wanted, "live");
    }
    let mut back =
        Socket::connect(server.address, &format!("/ws/pets?old=true&since={left}&token={five}"), None).await.unwrap();
    for wanted in &expected {
        assert_eq!(seen(&back.message().await), *wanted, "replayed");
    }
    assert_eq!(back.message().await["recovered"], true);
    expected[0] = clinics.message().await;
    assert_eq!(
        expected[0]["action"], "deleted",
        "an owner's change of columns that the clinic does not see is nothing"
    );
    // what is not granted cannot be asked for, nor asked about
    for wish in ["filter=notes=eq.private", "columns=notes", "filter=owner=neq.5", "columns=pet_id,chip"] {
        assert_eq!(status(&server, &format!("/ws/pets?{wish}&token={five}")).await, 400, "{wish}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn notifications_are_their_users_own() {
    let (db, server) = clinic().await;
    let five = token(json!({"sub": "5", "role": "owner"}));
    let mut own = server.subscribed(&format!("/ws/user/5?token={five}")).await;
    assert_eq!(status(&server, &format!("/ws/user/6?token={five}")).await, 403);
    assert_eq!(status(&server, "/ws/user/5").await, 401);
    let mut support = server.subscribed(&as_role("/ws/user/5", "support")).await;
    let mut one = server.socket(&format!("/ws?token={five}")).await;
    one.send(r#"{"type":"subscribe","channel":"user/6","ref":1}"#).await;
    assert_eq!(one.message().await["code"], "forbidden");
    db.run("select rowcast.notify('5', 'hello', '1')").await;
    assert_eq!((own.message().await["data"].clone(), support.message().await["data"].clone()), (json!(1), json!(1)));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_policy_that_changes_reaches_open_sockets() {
    let (db, server) = clinic().await;
    let path = format!("/ws/pets?token={}", token(json!({"sub": "5", "role": "owner"})));
    let mut owner = server.subscribed(&path).await;
    let mut vet = server.subscribed(&as_role("/ws/pets", "vet")).await;
    db.run("select rowcast.allow('pets', 'owner', 'owner=eq.{sub}', '{pet_id}')").await;
    assert_eq!(owner.message().await["reason"], "policy");
    assert_eq!(owner.message().await["type"], "subscribed");
    db.run("insert into pets values (1, '5', 1, 'Luna', 'secret', 'private')").await;
    assert_eq!(owner.message().await["data"], json!({"pet_id": 1}));
    assert_eq!(vet.message().await["data"]["notes"], "private", "whose part is the same goes on");
    db.run("select rowcast.deny('pets', 'owner')").await;
    assert_eq!(owner.close_code().await, 4403);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn who_comes_back_with_other_rights_loads_again() {
    let (db, server) = clinic().await;
    let owner = |path: &str| format!("/ws/pets?{path}token={}", token(json!({"sub": "5", "role": "owner"})));
    let mut socket = server.socket(&owner("")).await;
    let cursor = socket.message().await["cursor"].as_str().unwrap().to_owned();
    drop(socket);
    let mut watching = server.subscribed(&as_role("/ws/pets", "vet")).await;
    db.run("insert into pets values (1, '5', 1, 'Luna', 'secret', 'private')").await;
    watching.message().await;
    let since = owner(&format!("since={cursor}&"));
    assert_eq!(server.socket(&since).await.message().await["action"], "created", "the same rights");
    let vet = format!("/ws/pets?since={cursor}&token={}", token(json!({"sub": "5", "role": "vet"})));
    assert_eq!(server.socket(&vet).await.message().await["reason"], "policy", "another token");
    db.run("select rowcast.allow('pets', 'owner', 'owner=eq.{sub}', '{pet_id}')").await;
    while server.socket(&since).await.message().await["reason"] != "policy" {}
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_token_is_renewed_on_the_open_socket_and_ends_it_when_it_expires() {
    let (db, server) = clinic().await;
    let dying = token(json!({"sub": "5", "role": "owner", "exp": now() + 2}));
    let mut ends = Socket::connect(server.address, &format!("/ws/pets?token={dying}"), None).await.unwrap();
    let mut lives = Socket::connect(server.address, &format!("/ws/pets?token={dying}"), None).await.unwrap();
    for socket in [&mut ends, &mut lives] {
        let mut kinds = [socket.message().await["type"].clone(), socket.message().await["type"].clone()];
        kinds.sort_by_key(ToString::to_string);
        assert_eq!(kinds, ["subscribed", "token_expiring"]);
    }
    let auth = |claims: Value| json!({"type": "auth", "token": token(claims), "ref": 1}).to_string();
    lives.send(&auth(json!({"sub": "6", "role": "owner"}))).await;
    assert_eq!(lives.message().await["code"], "unauthenticated", "a socket is one person's");
    lives.send(&auth(json!({"sub": "5", "role": "owner"}))).await;
    let answer = lives.message().await;
    assert_eq!(
        (&answer["type"], &answer["user_id"], &answer["ref"]),
        (&json!("authenticated"), &json!("5"), &json!(1))
    );
    assert_eq!(ends.close_code().await, 4401);
    db.run("insert into pets values (1, '5', 1, 'Luna', 'secret', 'private')").await;
    assert_eq!(lives.message().await["data"], json!({"pet_id": 1, "name": "Luna"}));
    lives.send(&auth(json!({"sub": "5", "role": "vet"}))).await;
    assert_eq!(lives.message().await["role"], "vet");
    assert_eq!(lives.message().await["reason"], "policy", "another role, another part: load it anew");
    assert_eq!(lives.message().await["type"], "subscribed");
    lives.send(&auth(json!({"sub": "5", "role": "stranger"}))).await;
    assert_eq!(lives.message().await["role"], "stranger");
    assert_eq!(lives.message().await["code"], "forbidden");
    assert_eq!(lives.close_code().await, 4403);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_revoked_user_is_gone_everywhere_and_cannot_come_back() {
    let (db, server) = clinic().await;
    let other = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let path = format!("/ws/user/5?token={}", token(json!({"sub": "5", "iat": now() - 1})));
    let mut here = server.subscribed(&path).await;
    let mut there = other.subscribed(&path).await;
    let mut six = server.subscribed(&format!("/ws/user/6?token={}", token(json!({"sub": "6"})))).await;
    db.run("select rowcast.revoke('5')").await;
    assert_eq!((here.close_code().await, there.close_code().await), (4401, 4401));
    assert_eq!((status(&server, &path).await, status(&other, &path).await), (401, 401));
    db.run("select rowcast.notify('6', 'hello', '1')").await;
    assert_eq!(six.message().await["data"], 1);
    other.stop().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_browser_sends_its_token_as_a_subprotocol() {
    let (_db, server) = clinic().await;
    let offer = format!("rowcast.v1, bearer.{}", token(json!({"role": "vet"})));
    let mut socket = Socket::connect(server.address, "/ws/pets", Some(&offer)).await.unwrap();
    assert_eq!(socket.message().await["type"], "subscribed");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_servers_own_pages_are_for_admins_once_tokens_are_checked() {
    let (_db, server) = clinic().await;
    for path in ["/websocket/status", "/websocket/behind", "/websocket/database", "/metrics", "/explain/1"] {
        assert_eq!(server.get(path).await.0, 401, "{path}");
        assert_eq!(server.get(&as_role(path, "vet")).await.0, 401, "{path}");
        assert_eq!(server.get(&as_role(path, "admin")).await.0, 200, "{path}");
    }
    assert_eq!((server.get("/healthz").await.0, server.get("/readyz").await.0), (200, 200));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_open_a_socket() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    for (origin, allowed) in [("https://evil.example", false), ("null", false), ("http://localhost:5173", true)] {
        let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "GET /ws/pets HTTP/1.1\r\nhost: {}\r\norigin: {origin}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.address
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        tcp.read_exact(&mut answer).await.unwrap();
        let wanted = if allowed { "HTTP/1.1 101" } else { "HTTP/1.1 403" };
        assert_eq!(std::str::from_utf8(&answer).unwrap(), wanted, "{origin}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_too_many_commands_is_told_and_then_closed() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start_with(&db.url, &[("commands-per-second", "5"), ("max-sockets-per-address", "2")]);
    let mut flood = server.subscribed("/ws/pets").await;
    let mut calm = server.subscribed("/ws/pets").await;
    assert_eq!(status(&server, "/ws/pets").await, 503, "two sockets of an address");
    for _ in 0..300 {
        flood.try_send(r#"{"type":"ping"}"#).await;
    }
    let mut answered = 0;
    let refused = loop {
        let message = flood.message().await;
        if message["type"] == "error" {
            break message;
        }
        answered += 1;
    };
    assert!((5..10).contains(&answered), "{answered}");
    assert_eq!(refused["code"], "rate_limited");
    assert!(refused["retry_after"].as_f64().unwrap() > 0.0);
    assert_eq!(flood.close_code().await, 4429);
    db.run("insert into pets values (1)").await;
    assert_eq!(calm.message().await["action"], "created");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_policy_that_cannot_be_meant_is_refused_when_it_is_stated() {
    let db = TestDatabase::new().await;
    db.run(CLINIC).await;
    for (policy, part) in [
        ("'pets', 'x', 'owner'", "is no condition"),
        ("'pets', 'x', 'owner=is7.5'", "is no condition"),
        ("'pets', 'x', 'colour=eq.red'", "has no column colour"),
        ("'pets', 'x', 'chip=eq.1'", "or it is excluded"),
        ("'pets', 'x', 'clinic=eq.north'", "north is no integer"),
        ("'pets', 'x', 'owner=eq.a{sub}'", "stands beside other text"),
        ("'pets', 'x', null, '{pet_id,chip}'", "has no column chip"),
        ("'pets', ''", "must not be empty"),
        ("'pets', 'x', ''", "an empty row filter"),
        ("'not-watched', 'x', null, array['a', null]", "a column without a name"),
        ("'user/*', 'x', 'a=eq.1'", "neither rows nor columns"),
    ] {
        let error = db.refused(&format!("select rowcast.allow({policy})")).await;
        assert!(error.contains(part), "{policy}: {error}");
    }
    db.run("select rowcast.allow('not-watched-yet', 'x', 'a=eq.{sub}&b=in.(1,2)', '{a}')").await;
    let seen = "select string_agg(\"column\" || ':' || exposure, ' ') from rowcast.exposure where role = 'owner'";
    assert_eq!(db.text(seen).await, "pet_id:seen owner:hidden clinic:hidden name:seen chip:excluded notes:hidden");
    assert_eq!(db.text("select rowcast.deny('pets', 'vet')::text || rowcast.deny('pets', 'vet')").await, "truefalse");
    // of a table with a list of columns that may leave
    db.run("create table cats (id int primary key, name text, secret text); select rowcast.watch('cats', columns => '{id,name}')").await;
    for policy in ["'cats', 'x', 'secret=eq.{sub}'", "'cats', 'x', null, '{id,secret}'"] {
        let error = db.refused(&format!("select rowcast.allow({policy})")).await;
        assert!(error.contains("no column secret, or it is excluded"), "{policy}: {error}");
    }
    db.run("select rowcast.allow('cats', 'owner')").await;
    let secret = "select exposure || ' ' || bell from rowcast.exposure where channel = 'cats' and role = 'owner' and \"column\" = 'secret'";
    assert_eq!(db.text(secret).await, "excluded false");
}

#[tokio::test]
async fn a_policy_may_join_what_it_asks_and_a_claim_stays_one_value() {
    let db = TestDatabase::new().await;
    db.run(CLINIC).await;
    db.run(
        r#"select rowcast.allow('pets', 'group', 'or=(owner.eq.{sub},and(clinic.in.{clinics},not.or(name.like.{sub},notes.eq."a&b),")))&pet_id=not.eq.0', '{pet_id,name}')"#,
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    server.subscribed(&as_role("/ws/pets", "vet")).await;
    let named =
        "select string_agg(name, ' ' order by name) from rowcast.policy, unnest(named) name where role = 'group'";
    assert_eq!(db.text(named).await, "clinic name notes owner pet_id");
    let rogue = r#"x"),or(owner.is.null,owner.not.is.null"#;
    let path = |sub: &str| {
        let claims = json!({"sub": sub, "role": "group", "clinics": [1, "2"]});
        format!("/ws/pets?snapshot=true&token={}", token(claims))
    };
    let mut mine = server.subscribed_with_rows(&path("5")).await;
    let mut theirs = server.subscribed_with_rows(&path(rogue)).await;
    db.run(
        "insert into pets (pet_id, owner, clinic, name, notes) values
           (1, '5', 3, 'Luna', null), (2, '6', 1, 'Rex', 'x'), (3, '6', 2, 'Tom', null), (4, '6', 1, '5', 'x'),
           (5, '6', 1, 'Kit', 'a&b),'), (6, '6', 3, 'Max', 'x'), (0, '5', 3, 'None', 'x'), (7, null, 3, 'Ole', 'x')",
    )
    .await;
    db.run(&format!("insert into pets (pet_id, owner, name, notes) values (8, '{rogue}', 'Odd', 'x')")).await;
    // of 3 it is unknown whether its notes are those, so of neither it is told
    for (socket, ids) in [(&mut mine.1, [1, 2]), (&mut theirs.1, [2, 4])] {
        for id in ids {
            assert_eq!(socket.message().await["data"]["pet_id"], id);
        }
    }
    assert_eq!(theirs.1.message().await["data"], json!({"pet_id": 8, "name": "Odd"}));
    for (sub, ids) in [("5", &[1, 2][..]), (rogue, &[2, 4, 8])] {
        let (rows, _) = server.subscribed_with_rows(&path(sub)).await;
        let mut shown: Vec<_> = rows.iter().map(|row| row["pet_id"].as_i64().unwrap()).collect();
        shown.sort_unstable();
        assert_eq!(shown, ids, "{sub}");
    }
    // what is hidden does not exist, also not in a group
    let mut asks = server.socket(&path("5").replace("/pets?snapshot=true&", "?")).await;
    for column in ["notes", "gone"] {
        let filter = format!("or=(name.eq.x,and(pet_id.gt.0,{column}.like.s*))");
        asks.send(&json!({"type": "subscribe", "channel": "pets", "filter": filter}).to_string()).await;
        let refused = asks.message().await;
        assert_eq!(refused["code"], "bad_filter");
        let text = refused["message"].as_str().unwrap();
        assert!(text.ends_with(&format!("there is no column {column}; there are: pet_id, name")), "{text}");
    }
    // a column that takes the name of one in a group is not the one that was meant
    db.run("alter table pets rename notes to old_notes; alter table pets rename chip to notes").await;
    let drift = "select exposure from rowcast.exposure where role = 'group' and \"column\" = 'pet_id'";
    assert_eq!(db.text(drift).await, "drifted");
    for (policy, part) in [
        ("or=(owner.eq.{sub}", "is no condition: a group is or=(a.eq.1,b.gt.2)"),
        ("or=(owner.eq.{sub},colour.eq.red)", "has no column colour"),
        ("or=(owner.eq.x{sub},clinic.eq.1)", "stands beside other text"),
        ("or=(clinic.eq.1,not.and(clinic.gt.north,clinic.lt.9))", "north is no integer"),
        ("owner=not.is.5", "is takes null"),
        ("or=(owner.eq.1)and=(clinic.eq.2)", "something stands behind"),
    ] {
        let error = db.refused(&format!("select rowcast.allow('pets', 'x', '{policy}')")).await;
        assert!(error.contains(part), "{policy}: {error}");
    }
    let many = format!("or=({})", vec!["clinic.eq.1"; 101].join(","));
    let error = db.refused(&format!("select rowcast.allow('pets', 'x', '{many}')")).await;
    assert!(error.contains("more than 100 tests"), "{error}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_key_set_may_come_late_and_rotate() {
    let db = TestDatabase::new().await;
    db.run(CLINIC).await;
    let folder = std::env::temp_dir().join(format!("rowcast-jwks-{}", fastrand::u64(..)));
    let path = folder.to_str().unwrap();
    let server = TestServer::start_with(&db.url, &[("jwks", path)]);
    let pem = include_bytes!("keys/rsa.private.pem");
    let header = Header { kid: Some("one".into()), ..Header::new(jsonwebtoken::Algorithm::RS256) };
    let claims = json!({"exp": now() + 600, "role": "vet"});
    let signed = encode(&header, &claims, &EncodingKey::from_rsa_pem(pem).unwrap()).unwrap();
    let vet = format!("/ws/pets?token={signed}");
    assert_eq!(status(&server, &vet).await, 401, "no keys yet");
    std::fs::write(&folder, include_str!("keys/jwks.json")).unwrap();
    while status(&server, &vet).await != 101 {
        tokio::task::yield_now().await;
    }
    server.subscribed(&vet).await;
    std::fs::remove_file(&folder).unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn stating_a_policy_runs_nobodys_code() {
    let db = TestDatabase::new().await;
    db.run(
        "create table called (by text);
         create function noted(v text) returns bool language plpgsql as $$ begin insert into called values (v); return true; end $$;
         create domain inner_code as text check (noted(value)); create domain code as inner_code;
         create table visits (id int primary key, code code); select rowcast.watch('visits');
         select rowcast.allow('visits', 'vet', 'code=eq.x')",
    )
    .await;
    assert_eq!(db.text("select count(*)::text from called").await, "0");
}

#[tokio::test]
async fn a_function_of_somebody_else_is_not_taken_for_postgres_own() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key); insert into pets values (1); select rowcast.watch('pets');
         create function public.format(text, text, text, regclass, text) returns text language sql
           as $$ select 'select ''{\"pet_id\":666}''::text' $$",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws/pets?snapshot=true").await;
    assert_eq!(socket.message().await["rows"], json!([{"pet_id": 1}]));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_user_has_so_many_sockets_however_the_token_comes() {
    let db = TestDatabase::new().await;
    db.run(CLINIC).await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET), ("max-sockets-per-user", "2")]);
    let five = token(json!({"sub": "5"}));
    let path = format!("/ws/user/5?token={five}");
    let _first = server.subscribed(&path).await;
    let _second = server.subscribed(&path).await;
    let Err(Error::Http(refused)) = Socket::connect(server.address, &path, None).await else { panic!("a third one") };
    let seconds: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!((refused.status().as_u16(), (1..=10).contains(&seconds)), (503, true));
    let mut later = server.socket("/ws").await;
    later.send(&json!({"type": "auth", "token": five}).to_string()).await;
    assert_eq!(later.close_code().await, 4503);
    // and the other way about: a socket that came by a command counts for one that comes by a handshake
    let six = token(json!({"sub": "6"}));
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = server.socket("/ws").await;
        socket.send(&json!({"type": "auth", "token": six}).to_string()).await;
        assert_eq!(socket.message().await["type"], "authenticated");
        sockets.push(socket);
    }
    assert_eq!(status(&server, &format!("/ws/user/6?token={six}")).await, 503);
    drop(sockets.pop());
    while status(&server, &format!("/ws/user/6?token={six}")).await != 101 {}
    server.stop().await.unwrap();
}

#[tokio::test]
async fn headers_that_never_end_are_not_waited_for() {
    let (_db, server) = clinic().await;
    let mut slow = tokio::net::TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /ws/pets HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let mut answer = Vec::new();
    // the server's ten seconds, and a few for a machine that is busy
    let ended = tokio::time::timeout(std::time::Duration::from_secs(15), slow.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "it was still open");
    assert!(!String::from_utf8_lossy(&answer).contains("101"), "no socket");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn strangers_take_no_places_for_long() {
    let db = TestDatabase::new().await;
    db.run(CLINIC).await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET), ("max-sockets", "100")]);
    let mut strangers = Vec::new();
    for _ in 0..100 {
        strangers.push(server.socket("/ws").await);
    }
    assert_eq!(status(&server, &as_role("/ws/pets", "vet")).await, 503);
    for mut stranger in strangers {
        assert_eq!(stranger.close_code().await, 4401, "neither token nor subscription");
    }
    // their places are free again
    while server.status_as_admin(&token(json!({"role": "admin"}))).await["connections"] != 0 {}
    server.subscribed(&as_role("/ws/pets", "vet")).await;
    server.stop().await.unwrap();
}

/// A proxy that forwards bytes says who stands behind it, before the first byte of the client.
#[tokio::test]
async fn behind_a_proxy_that_forwards_bytes_each_client_has_its_own_address() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let settings = [
        ("proxy-protocol", "true"),
        ("trusted-proxies", "127.0.0.1"),
        ("allow-anonymous", "true"),
        ("max-sockets-per-address", "1"),
        ("history-bytes", "1000000"),
    ];
    let server = TestServer::start_with(&db.url, &settings);
    let open = async |header: &[u8]| {
        let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let request = "GET /ws/pets HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        tcp.write_all(&[header, request.as_bytes()].concat()).await.unwrap();
        let mut answer = [0; 12];
        let status = match tcp.read_exact(&mut answer).await {
            Ok(_) => String::from_utf8_lossy(&answer[9..]).into_owned(),
            Err(_) => "closed".to_owned(),
        };
        (status, tcp)
    };
    let version_2 = |client: [u8; 4]| {
        let addresses = [&client[..], &[10, 0, 0, 1, 0x11, 0x22, 0x1f, 0x90]].concat();
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &addresses[..]].concat()
    };
    let (seven, eight) = (b"PROXY TCP4 203.0.113.7 10.0.0.1 4386 8080\r\n", version_2([203, 0, 113, 8]));
    let (status, open_7) = open(seven).await;
    assert_eq!(status, "101");
    let (status, _open_8) = open(&eight).await;
    assert_eq!(status, "101", "another client of the same proxy");
    assert_eq!(open(&version_2([203, 0, 113, 7])).await.0, "503", "one has a socket, whatever the version says");
    // without a header, or with a broken one, nobody is let in
    for header in [&b""[..], b"PROXY TCP4 x y 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        assert_eq!(open(header).await.0, "closed", "{}", header.escape_ascii());
    }
    drop(open_7);
    while open(seven).await.0 != "101" {}
    server.stop().await.unwrap();
    // from an address that is no proxy's, a header is a stranger's word
    let settings = [("proxy-protocol", "true"), ("trusted-proxies", "10.0.0.1"), ("allow-anonymous", "true")];
    let server = TestServer::start_with(&db.url, &settings);
    let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(&[&seven[..], b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"].concat()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
    server.stop().await.unwrap();
}
