//! A database in small, that fires triggers as Postgres does, and a client that applies what comes of it.
//!
//! A statement changes all its rows; then its AFTER triggers fire, one row after the other: first capture, then the
//! application's, whose own statements fire theirs at their own end. What cascades is changed at once, and its triggers
//! wait behind those of the statement. Each captured row and each statement takes a number from the command counter.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::source::catalog::CatalogChannel;

/// Changes some rows: those with a key of `from` and up to `count` more; relative to a row where a trigger runs it.
#[derive(Debug, Clone, Copy)]
struct Statement {
    kind: u8,
    from: i64,
    count: i64,
}

/// Runs a statement for rows whose key leaves `rest`.
#[derive(Debug, Clone, Copy)]
struct Rule {
    every: i64,
    rest: i64,
    cascades: bool,
    statement: Statement,
}

type Version = (i64, u64);

/// op, images, command, depth
type ModelRow = (u8, Option<Version>, Option<Version>, u32, u8);

#[derive(Debug, Default)]
struct ModelDatabase {
    rows: BTreeMap<u64, Version>,
    rules: Vec<Rule>,
    captured: Vec<ModelRow>,
    command: u32,
    values: u64,
    /// how many values there are: few come back
    distinct: u64,
    /// the application's triggers do something else as well, of which nothing is captured
    audits: bool,
    /// after some statement two rows had one key, which only a deferred constraint allows
    is_shared: bool,
}

impl ModelDatabase {
    fn row(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    /// What a row holds next: it comes back to what it was where there are few values.
    fn value(&mut self) -> u64 {
        self.row() % self.distinct
    }

    /// Changes the rows of a statement, and says which triggers wait.
    fn change(&mut self, statement: Statement) -> Vec<(u8, Option<Version>, Option<Version>)> {
        self.command += 1;
        let Statement { kind, from, count } = statement;
        let is_meant = |key: i64| (from..=from + count).contains(&key);
        let meant: Vec<u64> = self.rows.iter().filter(|(_, (key, _))| is_meant(*key)).map(|(row, _)| *row).collect();
        if kind == 0 {
            let key = from + count;
            if self.rows.values().any(|(known, _)| *known == key) {
                return Vec::new();
            }
            let (row, new) = (self.row(), (key, self.value()));
            self.rows.insert(row, new);
            return vec![(b'I', None, Some(new))];
        }
        let mut waiting = Vec::new();
        for row in meant {
            let old = self.rows[&row];
            let new = match kind {
                1 => None,
                // to another key; a value is like no other, so that no two rows look alike
                2 => Some((old.0 + 1, self.row())),
                3 => Some((2 * from + count - old.0, self.row())),
                4 => Some((old.0 + count, self.row())),
                // set, and set back
                _ => Some((
                    old.0,
                    if self.distinct < 9 { (old.1 + u64::from(kind == 6)) % self.distinct } else { self.value() },
                )),
            };
            match new {
                Some(new) => self.rows.insert(row, new),
                None => self.rows.remove(&row),
            };
            waiting.push((if new.is_some() { b'U' } else { b'D' }, Some(old), new));
        }
        self.is_shared |= self.table().len() < self.rows.len();
        waiting
    }

    fn run(&mut self, statement: Statement, depth: u32) {
        let mut waiting = VecDeque::from(self.change(statement));
        while let Some((op, old, new)) = waiting.pop_front() {
            if self.captured.len() > 200 || self.command > 2_000 {
                return;
            }
            if old != new {
                self.command += 1;
                self.captured.push((op, old, new, self.command, depth as u8 + 1));
            }
            let key = new.or(old).map_or(0, |(key, _)| key);
            self.command += u32::from(self.audits);
            for rule in self.rules.clone() {
                if depth < 3 && key.rem_euclid(rule.every) == rule.rest {
                    let statement = Statement { from: key + rule.statement.from - 2, ..rule.statement };
                    if rule.cascades {
                        waiting.extend(self.change(statement));
                    } else {
                        self.run(statement, depth + 1);
                    }
                }
            }
        }
    }

    fn table(&self) -> BTreeMap<i64, u64> {
        self.rows.values().copied().collect()
    }
}

fn statements() -> impl Strategy<Value = Statement> {
    (0_u8..7, 0_i64..6, 0_i64..4).prop_map(|(kind, from, count)| Statement { kind, from, count })
}

/// What triggers run changes no key: where they move rows through keys that others had a moment ago, several histories fit.
fn rules() -> impl Strategy<Value = Rule> {
    let in_place = statements().prop_map(|one| Statement { kind: [0, 1, 5, 6][usize::from(one.kind % 4)], ..one });
    (1_i64..4, 0_i64..3, prop::bool::weighted(0.2), in_place).prop_map(|(every, rest, cascades, statement)| Rule {
        every,
        rest: rest % every,
        // a foreign key updates and deletes
        cascades: cascades && statement.kind != 0,
        statement,
    })
}

/// The client's table after these rows, or what does not fit.
fn applied(
    before: &BTreeMap<i64, u64>,
    database: &ModelDatabase,
    others: usize,
) -> Result<Option<BTreeMap<i64, u64>>, String> {
    let json = |version: &Option<Version>| version.map(|(key, value)| format!(r#"{{"k":{key},"v":{value}}}"#));
    let texts: Vec<_> = database.captured.iter().map(|(_, old, new, ..)| (json(old), json(new))).collect();
    let mut rows = Vec::new();
    for (i, ((op, _, _, command, depth), (old, new))) in database.captured.iter().zip(&texts).enumerate() {
        let (id, old, new) = (rows.len() as i64, old.as_deref(), new.as_deref());
        let (actor, users) = (None, None);
        rows.push(OutboxRow {
            id,
            xid: 7,
            at: id,
            channel: 1,
            op: *op,
            old,
            new,
            actor,
            users,
            command: *command,
            depth: *depth,
        });
        if others > 0 && i % others == 0 {
            let id = id + 1;
            rows.push(OutboxRow {
                id,
                xid: 8,
                at: id,
                op: b'I',
                old: None,
                new: Some(r#"{"k":1,"v":0}"#),
                command: 0,
                ..rows[0]
            });
        }
    }
    let channel = CatalogChannel { key: vec!["k".into()], ..CatalogChannel::named("t") };
    let catalog = Catalog::of([(1, channel)]);
    if order_of(&rows, &catalog).is_torn(7, 1) {
        // the client is told that something is missing, and loads again
        return Ok(None);
    }
    let (mut table, mut told) = (before.clone(), Vec::new());
    settle(&rows, &catalog, |row| {
        if row.xid != 7 {
            return;
        }
        let version = |image: Option<&str>| {
            let columns: serde_json::Value = serde_json::from_str(image?).ok()?;
            Some((columns["k"].as_i64()?, columns["v"].as_u64()?))
        };
        let (old, new) = (version(row.old), version(row.new));
        told.push(row.id);
        if let Some((key, _)) = old {
            table.remove(&key);
        }
        table.extend(new);
    });
    if told.len() != database.captured.len() || told.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(format!("told {told:?}"));
    }
    Ok(Some(table))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, max_global_rejects: 200_000, ..ProptestConfig::default() })]

    /// Whatever the triggers do, a client ends with the table, or is told that something is missing.
    #[test]
    fn a_client_ends_with_the_table(
        keys in prop::collection::btree_set(0_i64..8, 0..6),
        rules in prop::collection::vec(rules(), 0..3),
        transaction in prop::collection::vec(statements(), 1..5),
        others in 0_usize..4,
        (distinct, audits) in (prop_oneof![Just(u64::MAX), 2_u64..4], any::<bool>()),
    ) {
        let mut database = ModelDatabase { rules, distinct, audits, ..ModelDatabase::default() };
        for key in keys {
            let (row, value) = (database.row(), database.value());
            database.rows.insert(row, (key, value));
        }
        let before = database.table();
        for statement in transaction {
            database.run(statement, 0);
        }
        prop_assume!(!database.is_shared && database.captured.len() < 200 && database.command < 2_000);
        let Some(table) = applied(&before, &database, others).map_err(TestCaseError::fail)? else {
            prop_assume!(false);
            return Ok(());
        };
        prop_assert_eq!(table, database.table(), "{:?}", database.captured);
    }
}
