//! Databases whose event triggers take part in each DDL: they give away what is made, note it, or refuse it.

use rowcast::source::install;
use tokio::time::timeout;

use super::support::PATIENCE;
use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

/// Gives what is made to another role, as where many people create tables.
async fn with_reassigning(db: &TestDatabase, tags: &str) -> String {
    let owner = db.text("select 'makers_of_' || current_database()").await;
    db.run(&format!(
        "create role {owner}; grant create on schema public to {owner};
         create function public.reassign() returns event_trigger language plpgsql as $$
         declare made record;
         begin
           if current_setting('app.reassigning', true) = 'on' then return; end if;
           perform set_config('app.reassigning', 'on', true);
           for made in select * from pg_event_trigger_ddl_commands() where object_type in ('table', 'view', 'function', 'schema') loop
             execute format('alter %s %s owner to {owner}', made.object_type, made.object_identity);
           end loop;
           perform set_config('app.reassigning', '', true);
         end $$;
         create event trigger reassign on ddl_command_end {tags} execute function public.reassign()"
    ))
    .await;
    owner
}

async fn migrated(db: &TestDatabase) -> Result<(), String> {
    match install::migrate(&mut db.another_client().await).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error} -> {}", error.remedy().unwrap_or_default())),
    }
}

/// What in schema rowcast belongs to this role.
async fn owned(db: &TestDatabase, role: &str) -> String {
    db.text(&format!(
        "select string_agg(what, ' ') from (
           select nspname::text from pg_namespace where nspname = 'rowcast' and nspowner = '{role}'::regrole
           union all select oid::regclass::text from pg_class where relnamespace = to_regnamespace('rowcast') and relowner = '{role}'::regrole
           union all select oid::regprocedure::text from pg_proc where pronamespace = to_regnamespace('rowcast') and proowner = '{role}'::regrole) t(what)"
    ))
    .await
}

#[tokio::test]
async fn what_is_given_away_as_it_is_made_is_taken_back() {
    let db = TestDatabase::empty().await;
    let tags = "when tag in ('CREATE TABLE', 'CREATE VIEW', 'CREATE FUNCTION', 'CREATE SCHEMA')";
    let owner = with_reassigning(&db, tags).await;
    migrated(&db).await.unwrap();
    assert_eq!(owned(&db, &owner).await, "");
    migrated(&db).await.expect("an update");
    assert_eq!(owned(&db, &owner).await, "");

    for (name, value) in [("capture", "plpgsql"), ("notify", "always"), ("row_bytes", "5 MB"), ("notify", "row")] {
        db.run(&format!("select rowcast.configure('{name}', '{value}')")).await;
        assert_eq!(owned(&db, &owner).await, "", "{name}");
    }

    // the table and its user rule are the makers', and all works
    db.run(
        "create table pets (id int primary key, vet int); create table vets (id int primary key, user_id int); insert into vets values (1, 7);
         select rowcast.watch('pets', user_rule => 'select v.user_id from public.vets v where v.id = row.vet')",
    )
    .await;
    assert_eq!(db.text("select tableowner from pg_tables where tablename = 'pets'").await, owner);
    let server = TestServer::start(&db.url);
    let (mut pets, mut bell) = (server.socket("/ws/pets").await, server.socket("/ws/user/7").await);
    assert_eq!(pets.message().await["type"], "subscribed");
    assert_eq!(bell.message().await["type"], "subscribed");
    db.run("insert into pets values (1, 1)").await;
    assert_eq!(pets.message().await["data"]["id"], 1);
    assert_eq!(bell.message().await["type"], "notification");
    assert_eq!(
        db.text("select count(*) from rowcast.recent where action = 'created'").await,
        "1",
        "the views have their owner's rights"
    );
    server.stop().await.unwrap();

    db.run("select rowcast.uninstall()").await;
    db.run(&format!(
        "drop owned by {owner} cascade; drop event trigger reassign; drop function public.reassign(); drop role {owner}"
    ))
    .await;
}

#[tokio::test]
async fn what_is_given_away_whatever_one_does_is_refused_with_the_remedy() {
    let db = TestDatabase::empty().await;
    let owner = with_reassigning(&db, "").await;
    let refused = migrated(&db).await.unwrap_err();
    assert!(refused.contains("an event trigger of this database gives away what rowcast makes"), "{refused}");
    assert_eq!(db.text("select to_regnamespace('rowcast')").await, "", "nothing is left of it");
    let (_, remedy) = refused.split_once("around the migrate: ").expect(&refused);
    let (before, afterwards) = remedy.split_once("-- and afterwards: ").expect(&refused);
    assert_eq!(
        (before, afterwards),
        ("alter event trigger reassign disable; ", "alter event trigger reassign enable;")
    );
    db.run(remedy).await;
    migrated(&db).await.unwrap();
    db.run(afterwards).await;
    db.run("select rowcast.uninstall()").await;
    db.run(&format!("drop event trigger reassign; drop owned by {owner} cascade; drop role {owner}")).await;
}

#[tokio::test]
async fn an_event_trigger_that_fails_is_named_with_what_helps() {
    let db = TestDatabase::empty().await;
    db.run(
        "create table public.ddl_log (at timestamptz default now(), tag text);
         create function public.note_ddl() returns event_trigger language plpgsql as $$ begin insert into ddl_log (tag) values (tg_tag); end $$;
         create event trigger note_ddl on ddl_command_end execute function public.note_ddl()",
    )
    .await;
    let refused = migrated(&db).await.unwrap_err();
    assert!(refused.contains("that was event trigger note_ddl of this database"), "{refused}");
    let remedy = refused.split_once("run: ").expect(&refused).1;
    db.run(remedy).await;
    migrated(&db).await.unwrap();
    db.run("create table pets (id int primary key); select rowcast.watch('pets'); insert into pets values (1)").await;
    assert_eq!(db.text("select count(*) from rowcast.recent where action = 'created'").await, "1");
    assert_ne!(db.text("select count(*) from ddl_log where tag = 'CREATE TRIGGER'").await, "0", "it goes on noting");
    db.run("select rowcast.uninstall()").await;

    // one that refuses by its own will
    db.run(
        "drop event trigger note_ddl;
         create function public.no_ddl() returns event_trigger language plpgsql set search_path = public as $$ begin raise exception 'no DDL on Fridays'; end $$;
         create event trigger fridays on ddl_command_start execute function public.no_ddl()",
    )
    .await;
    let refused = migrated(&db).await.unwrap_err();
    assert!(
        refused.contains("no DDL on Fridays") && refused.contains("alter event trigger fridays disable"),
        "{refused}"
    );
    db.run("alter event trigger fridays disable").await;
    migrated(&db).await.unwrap();
}

/// A role that is no superuser counts on the roles that it is in; what is made anew is not theirs all the same.
#[tokio::test]
async fn an_update_by_a_role_without_superuser_takes_back_what_is_given_away() {
    let db = TestDatabase::empty().await;
    let (installer, team) = (
        db.text("select 'installer_of_' || current_database()").await,
        db.text("select 'team_of_' || current_database()").await,
    );
    db.run(&format!(
        "create role {team}; create role {installer} login createrole password 'secret' in role {team};
         alter database {} owner to {installer}; grant create on schema public to {installer};
         do $$ begin create role rowcast_capture; exception when duplicate_object then null; end $$;
         do $$ begin create role rowcast_relay; exception when duplicate_object then null; end $$;
         grant rowcast_capture, rowcast_relay to {installer};
         create function public.reassign() returns event_trigger language plpgsql security definer as $$
         declare made record;
         begin
           for made in select * from pg_event_trigger_ddl_commands() where object_type in ('table', 'view', 'function') and schema_name = 'rowcast' loop
             execute format('alter %s %s owner to {team}', made.object_type, made.object_identity);
           end loop;
         end $$;
         create event trigger reassign on ddl_command_end when tag in ('CREATE TABLE', 'CREATE VIEW', 'CREATE FUNCTION') execute function public.reassign()",
        db.text("select current_database()").await
    ))
    .await;
    let url = db.url_of(&installer);
    for _ in 0..2 {
        install::migrate(&mut connect(&url).await).await.unwrap();
        assert_eq!(owned(&db, &team).await, "");
    }
    db.run(
        "set role rowcast_relay; select count(*) from rowcast.watched; select count(*) from rowcast.health; reset role",
    )
    .await;
    db.run(&format!(
        "drop event trigger reassign; select rowcast.uninstall(); alter database {} owner to postgres;
         drop owned by {team}, {installer} cascade; drop role {installer}, {team}",
        db.text("select current_database()").await
    ))
    .await;
}

/// An event trigger that runs this statement, with `%s` for its name, for each table that is made.
fn on_each_new_table(statement: &str) -> String {
    format!(
        "create function public.treat() returns event_trigger language plpgsql as $$
         declare made record;
         begin
           for made in select * from pg_event_trigger_ddl_commands() where object_type = 'table' loop
             execute format('{statement}', made.object_identity);
           end loop;
         end $$;
         create event trigger treat on ddl_command_end when tag in ('CREATE TABLE') execute function public.treat()"
    )
}

/// "Secure by default": whatever is made gets row security, without a policy.
#[tokio::test]
async fn row_security_on_tables_of_rowcast_fails_no_write() {
    let db = TestDatabase::empty().await;
    db.run(&on_each_new_table("alter table %s enable row level security")).await;
    migrated(&db).await.unwrap();
    let role = db.text("select 'writer_of_' || current_database()").await;
    db.run(&format!(
        "create table pets (id int primary key); alter table pets disable row level security; select rowcast.watch('pets');
         create role {role} login password 'secret'; grant insert on pets to {role}"
    ))
    .await;
    let writer = connect(&db.url_of(&role)).await;
    writer.batch_execute("insert into pets values (1)").await.unwrap();
    // later, by a script
    db.run("alter table rowcast.outbox_0 enable row level security").await;
    assert!(writer.batch_execute("insert into pets values (2)").await.is_err());
    let finding = |column: &str| format!("select {column} from rowcast.health where finding = 'capture'");
    assert_eq!(db.text(&finding("state")).await, "fail");
    let remedy = db.text(&finding("remedy")).await;
    db.run(&remedy).await;
    assert_eq!(db.text(&finding("state")).await, "ok");
    writer.batch_execute("insert into pets values (2)").await.unwrap();
    assert_eq!(db.text("select count(*) from rowcast.recent where action = 'created'").await, "2");
}

/// As "audit all tables" does it. Migrate writes no change, so that nothing would show before the first write of a watched table.
#[tokio::test]
async fn what_would_fail_each_write_is_refused_when_it_is_installed() {
    let db = TestDatabase::empty().await;
    db.run(
        "create schema audit; create table audit.log (t text);
         create function audit.note() returns trigger language plpgsql as $$
         begin insert into audit.log values (tg_table_name); return new; end $$",
    )
    .await;
    let audit = "create or replace trigger audited after insert on %s for each row execute function audit.note()";
    db.run(&on_each_new_table(audit)).await;
    let refused = migrated(&db).await.unwrap_err();
    assert!(refused.contains("each write of a watched table would fail"), "{refused}");
    assert!(refused.contains("let it pass schema rowcast over"), "{refused}");
    assert_eq!(db.text("select count(*) from pg_namespace where nspname = 'rowcast'").await, "0");
}

/// A deployment that freezes DDL refuses the GRANT by which a relay may read a column that was added.
#[tokio::test]
async fn an_event_trigger_that_refuses_a_grant_keeps_nobody_from_hearing_of_ddl() {
    let db = TestDatabase::new().await;
    db.run(
        "create table users (id int primary key, pw text); create table job (id int primary key, price int);
         select rowcast.watch('users', exclude => '{pw}'), rowcast.watch('job');
         create function public.no_ddl() returns event_trigger language plpgsql as $$ begin raise exception 'no DDL'; end $$;
         create event trigger no_grant on ddl_command_start when tag in ('GRANT') execute function public.no_ddl()",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("heartbeat-seconds", "1")]);
    let mut open = server.subscribed("/ws/job").await;
    timeout(PATIENCE, async {
        while db.text("select count(*) from rowcast.channel where form is null").await != "0" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    db.run("alter table users add column note text; alter table job rename price to cost").await;
    assert_eq!(open.gap().await, "policy");
    server.stop().await.unwrap();
}
