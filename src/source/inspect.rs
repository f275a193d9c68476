//! Answers what people ask of the database through the web. Owns the statements, and that people cannot burden the
//! database: one question at a time, and the same one not twice in two seconds.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::captured::changes_of;
use super::catalog::Catalog;
use super::client::{Client, Pool};
use super::encoding::{Bytes, Encoding};
use crate::error::{self, Error, Kind, Result};
use crate::question::{Question, Recorded};
use crate::shutdown::Shutdown;

/// What was told of the database is told again for so long.
const FRESH: Duration = Duration::from_secs(2);
/// The outbox has no index by id: a look through all of it may take long.
const WITHIN: &str = "set local statement_timeout = '2s'";
/// Afterwards it is not asked again for so many times as long: while it reads, no segment can be emptied.
const REST: u32 = 4;
/// A rest that is over so soon is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

const DATABASE: &str = r#"
select json_build_object(
  'read_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'health', (select coalesce(json_agg(h), '[]') from rowcast.health h),
  'watched', (select coalesce(json_agg(json_build_object('table', w."table"::text, 'channel', w.channel, 'user_rule', w.user_rule,
      'exclude', w.exclude, 'since', w.since, 'state', w.state, 'drift', w.drift, 'remedy', w.remedy) order by w.channel), '[]') from rowcast.watched w),
  'unwatched', (select coalesce(json_agg(json_build_object('table', u."table"::text, 'reason', u.reason, 'remedy', u.remedy)
      order by u."table"::text), '[]') from rowcast.unwatched u),
  'cost', (select coalesce(json_agg(json_build_object('channel', c.channel, 'changes', c.changes, 'per_second', c.per_second,
      'outbox_bytes', c.outbox_bytes, 'wal_bytes', c.wal_bytes, 'large', c.large, 'omitted', c.omitted, 'trigger_us', c.trigger_us,
      'looked_at', c.looked_at)), '[]') from rowcast.cost c where c.changes > 0),
  'nodes', (select coalesce(json_agg(n), '[]') from rowcast.nodes n))::text, current_setting('server_encoding')"#;

const CHANGE: &str = "
select o.id, o.xid, o.at, o.channel, o.op, o.old::text, o.new::text, o.actor, o.users from rowcast.outbox o where o.id = $1";

/// Answers until the shutdown.
pub async fn run(pool: Pool, mut questions: mpsc::Receiver<Question>, mut shutdown: Shutdown) {
    let mut known: Option<(Instant, String)> = None;
    let mut rested = Instant::now();
    loop {
        let question = tokio::select! {
            question = questions.recv() => question,
            () = shutdown.begun() => return,
        };
        match question {
            None => return,
            Some(Question::Database(answer)) if answer.is_closed() => {}
            Some(Question::Change { answer, .. }) if answer.is_closed() => {}
            Some(Question::Change { answer, .. }) if Instant::now() + PATIENCE < rested => {
                let _ = answer.send(Err("this was asked a moment ago: try again in a few seconds".to_owned()));
            }
            Some(Question::Database(answer)) => {
                known = known.filter(|(read, _)| read.elapsed() < FRESH);
                let told = match &known {
                    Some((_, text)) => Ok(text.clone()),
                    None => tokio::select! {
                        told = database(&pool) => told.inspect(|text| known = Some((Instant::now(), text.clone()))),
                        () = shutdown.begun() => return,
                    },
                };
                // the caller may have gone
                let _ = answer.send(told.map_err(|e| error::chain(&e)));
            }
            Some(Question::Change { id, answer }) => {
                let look = async {
                    tokio::time::sleep_until(rested).await;
                    let began = Instant::now();
                    (change(&pool, id).await, began)
                };
                let (told, began) = tokio::select! {
                    looked = look => looked,
                    () = shutdown.begun() => return,
                };
                rested = Instant::now() + began.elapsed() * REST;
                let _ = answer.send(told.map_err(|e| error::chain(&e)));
            }
        }
    }
}

async fn connection(pool: &Pool) -> Result<Client> {
    pool.get().await.map_err(|e| Error::new(Kind::Connection, "the database cannot be asked").because(e))
}

async fn database(pool: &Pool) -> Result<String> {
    let row = connection(pool).await?.query_one(DATABASE, &[]).await;
    let row = row.map_err(|e| Error::database("cannot read how the database is", e))?;
    let encoding = Encoding::of(row.get(1));
    Ok(encoding.decode(row.get::<_, Bytes<'_>>(0).0).into_owned())
}

async fn change(pool: &Pool, id: i64) -> Result<Recorded> {
    let explain = |e| Error::database("cannot look for the change in the outbox", e);
    let catalog = Catalog::load(pool, None).await?;
    let mut client = connection(pool).await?;
    let transaction = client.transaction().await.map_err(explain)?;
    transaction.batch_execute(WITHIN).await.map_err(explain)?;
    let last = transaction.query_one("select last_value from rowcast.outbox_id", &[]).await.map_err(explain)?.get(0);
    if id > last {
        return Ok(Recorded::Absent { last, first: None });
    }
    if let Some(row) = transaction.query_opt(CHANGE, &[&id]).await.map_err(explain)? {
        let change = changes_of(&[row], &catalog, 0).pop();
        return Ok(change.map_or(Recorded::Nothing, |change| Recorded::Change(Box::new(change))));
    }
    let first = transaction.query_one("select min(id) from rowcast.outbox", &[]).await.map_err(explain)?.get(0);
    Ok(Recorded::Absent { last, first })
}
