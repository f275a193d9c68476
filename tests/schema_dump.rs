//! What an installation consists of, as a reviewer sees it change: `tests/golden/schema.sql`. Bodies of functions and of views
//! are left out, since their text is in `sql/`; who may do what is in.

use std::collections::BTreeSet;
use std::path::Path;

use super::support::postgres::TestDatabase;

const GOLDEN: &str = "tests/golden/schema.sql";
const HEADER: &str = "-- What an installation consists of, without the bodies of functions and views: `make schema-dump` writes this file.\n";

#[tokio::test]
async fn the_schema_is_the_one_that_was_reviewed() {
    let db = TestDatabase::new().await;
    let pg_dump = rowcast::demo::cluster::find_programs().expect("Postgres's programs").join("pg_dump");
    // of another version it says the same in other words; the programs that scripts/test-versions fetches have none
    let major = format!(" {}.", db.text("current_setting('server_version_num')::int / 10000").await);
    let version = tokio::process::Command::new(&pg_dump).arg("--version").output().await;
    let version = version.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    if !version.contains(&major) {
        eprintln!("{GOLDEN} is not compared: {} is no pg_dump{major}", pg_dump.display());
        return;
    }
    let seen = interface(&db, &pg_dump).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("ROWCAST_WRITE_GOLDEN").is_some() {
        std::fs::write(&file, &seen).unwrap();
    }
    let reviewed = std::fs::read_to_string(&file).unwrap_or_default();
    if seen != reviewed {
        let (seen, reviewed): (BTreeSet<&str>, BTreeSet<&str>) = (seen.lines().collect(), reviewed.lines().collect());
        let gone = reviewed.difference(&seen).map(|line| format!("- {line}"));
        let new = seen.difference(&reviewed).map(|line| format!("+ {line}"));
        let lines: Vec<String> = gone.chain(new).take(40).collect();
        panic!("the schema differs from {GOLDEN}; where that is meant: make schema-dump\n{}", lines.join("\n"));
    }
}

/// The dump of a database in which there is nothing else, without what differs from machine to machine, and from Postgres 14
/// to 18.
async fn interface(db: &TestDatabase, pg_dump: &Path) -> String {
    let dumped = tokio::process::Command::new(pg_dump).args(["--schema-only", &db.url]).output().await.unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let installer = db.text("current_user").await;
    let mut text = String::from(HEADER);
    let mut lines = std::str::from_utf8(&dumped.stdout).unwrap().lines();
    while let Some(line) = lines.next() {
        if line.is_empty() || ["--", "\\", "SET ", "SELECT pg_catalog."].iter().any(|noise| line.starts_with(noise)) {
            continue;
        }
        if let Some(body) = line.strip_prefix("    AS $") {
            let quote = format!("${}$", body.split('$').next().unwrap());
            let is_whole = body.ends_with(&format!("{quote};"));
            let _ = is_whole || lines.any(|line| line.ends_with(&format!("{quote};")));
            text.push_str("    AS …;\n");
        } else if let Some(view) = line.strip_prefix("CREATE VIEW ").and_then(|rest| rest.split([' ', '(']).next()) {
            let _ = line.ends_with(';') || lines.any(|line| line.ends_with(';'));
            let columns = "select string_agg(format(E'    %I %s', attname, format_type(atttypid, atttypmod)), E',\\n' order by attnum)";
            let columns = db
                .text(&format!("{columns} from pg_attribute where attrelid = '{view}'::regclass and attnum > 0"))
                .await;
            text.push_str(&format!("CREATE VIEW {view} (\n{columns}\n);\n"));
        } else {
            // which kind it is, is said by the statement before; versions differ in whether it is said again
            let line = line.replace("ALTER SEQUENCE ", "ALTER TABLE ").replace("ALTER VIEW ", "ALTER TABLE ");
            text.push_str(&line.replace(&format!(" {installer};"), " installer;"));
            text.push('\n');
        }
        // a paragraph for each object
        if text.ends_with(";\n")
            && lines.clone().find(|line| !line.is_empty()).is_some_and(|next| next.starts_with("--"))
        {
            text.push('\n');
        }
    }
    text
}
