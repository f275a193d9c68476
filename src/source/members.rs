//! What holders have of the claims whose values stand in tables: one statement for many holders, and one snapshot. Knows no stream.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use super::client::{Client, Parameter, Pool};
use super::encoding::{Bytes, Encoding};
use super::epoch;
use crate::cursor::Snapshot;
use crate::error::{self, Error, Kind, Result};
use crate::request::{Held, Members, MembersRead, Membership};
use crate::shutdown::Shutdown;

const MEMBERS: &str = concat!(
    "select pg_catalog.pg_current_snapshot()::text, pg_catalog.current_setting('server_encoding'),
            m.claim, m.holder, m.canonical, m.members, m.problem, (select e.hashtextextended from (",
    epoch::epoch!(),
    ") e)
       from (select) one left join rowcast.members($1::text[]) m on true"
);
/// Values of one holder at most, of one claim.
const MOST: usize = 100_000;

/// So often it is read again at once where a table was truncated meanwhile.
const OVERTAKEN: u32 = 10;
/// A statement may take so long: then fewer are read by it.
const BEGIN: &str = "begin read only; set local statement_timeout = '10s'";
/// A server that is frozen says nothing.
const WITHIN: Duration = Duration::from_secs(15);

/// Answers one question after the other until the shutdown.
pub async fn run(pool: Pool, mut asked: mpsc::Receiver<Membership>, mut shutdown: Shutdown) {
    // a failure lasts, and is told once
    let mut told = None;
    loop {
        let question = tokio::select! {
            question = asked.recv() => question,
            () = shutdown.begun() => return,
        };
        let Some(Membership { holders, bytes, epoch, answer }) = question else { return shutdown.begun().await };
        match read_some(&pool, epoch, holders, bytes).await {
            Ok(read) => {
                told = None;
                let _ = answer.send(read);
            }
            // of a database that is away `source_down` tells
            Err(error) if error.kind() == Kind::Connection => {}
            Err(error) => {
                let error = error::chain(&error);
                if told.as_ref() != Some(&error) {
                    tracing::warn!(event = "claims_unread", error);
                    told = Some(error);
                }
            }
        }
    }
}

/// Reads what these holders have of every claim. Where the database refuses the statement, half of them are read, and so on: a
/// name that it cannot take, say, concerns its own user, who has nothing.
async fn read_some(pool: &Pool, epoch: Option<u64>, mut holders: Vec<Arc<str>>, bytes: usize) -> Result<MembersRead> {
    let mut again = 0;
    loop {
        // no text of Postgres has it
        let asked: Vec<&str> = holders.iter().map(|holder| &**holder).filter(|holder| !holder.contains('\0')).collect();
        match read(pool, epoch, &asked, bytes).await {
            Ok((seen, held, beyond_memory)) => return Ok(MembersRead { seen, holders, held, beyond_memory }),
            Err(ReadFailed { error, is_of_a_holder: true, .. }) if holders.len() > 1 => {
                tracing::debug!(event = "claims_halved", error = error::chain(&error));
                holders.truncate(holders.len() / 2);
            }
            Err(ReadFailed { error, is_of_a_holder: true, .. }) => {
                tracing::warn!(event = "claims_unread", error = error::chain(&error));
                let (seen, held, beyond_memory) = read(pool, epoch, &[], bytes).await.map_err(|failed| failed.error)?;
                return Ok(MembersRead { seen, holders, held, beyond_memory });
            }
            // a table was truncated meanwhile
            Err(ReadFailed { is_overtaken: true, .. }) if again < OVERTAKEN => again += 1,
            Err(ReadFailed { error, .. }) => return Err(error),
        }
    }
}

/// Why nothing was read.
struct ReadFailed {
    error: Error,
    /// for others it may go well
    is_of_a_holder: bool,
    /// at once it may go well
    is_overtaken: bool,
    /// the session leads to another database
    is_elsewhere: bool,
}

impl From<Error> for ReadFailed {
    fn from(error: Error) -> Self {
        Self { error, is_of_a_holder: false, is_overtaken: false, is_elsewhere: false }
    }
}

async fn read(
    pool: &Pool,
    epoch: Option<u64>,
    holders: &[&str],
    bytes: usize,
) -> Result<(Snapshot, Vec<Held>, usize), ReadFailed> {
    let explain = |error: tokio_postgres::Error| {
        // what passes by itself: a lock, a lack of resources. One that was cancelled has lasted too long
        let passes = error.code().is_none_or(|code| {
            *code != SqlState::QUERY_CANCELED && ["25", "40", "53", "55", "57", "58", "XX"].contains(&&code.code()[..2])
        });
        let is_overtaken = error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE);
        ReadFailed {
            error: Error::database("cannot read what claims say", error),
            is_of_a_holder: !passes,
            is_overtaken,
            is_elsewhere: false,
        }
    };
    loop {
        let client = pool.client_for("no connection to read what claims say").await?;
        let answered = timeout(WITHIN, async {
            let read = async {
                client.batch_execute(BEGIN).await.map_err(explain)?;
                take(&client, epoch, holders, bytes, explain).await
            }
            .await;
            client.batch_execute("rollback").await.map_err(explain)?;
            read
        })
        .await;
        match answered {
            // one that the pool had, from when the database's name led there
            Ok(Err(ReadFailed { is_elsewhere: true, .. })) if !client.is_new() => client.discard(),
            Ok(read) => return read,
            Err(_) => {
                // its transaction may be open, in which nobody else could write
                client.discard();
                return Err(Error::new(Kind::Connection, "the server does not answer").into());
            }
        }
    }
}

async fn take(
    client: &Client,
    epoch: Option<u64>,
    holders: &[&str],
    bytes: usize,
    explain: impl Fn(tokio_postgres::Error) -> ReadFailed + Copy,
) -> Result<(Snapshot, Vec<Held>, usize), ReadFailed> {
    let parameters: [Parameter<'_>; 1] = [&holders];
    let mut rows = pin!(client.query_raw(MEMBERS, parameters).await.map_err(explain)?);
    let (mut seen, mut told, mut all) = (None, BTreeSet::new(), Vec::new());
    let (mut held, mut beyond_memory) = (0, BTreeSet::new());
    while let Some(row) = rows.try_next().await.map_err(explain)? {
        let found = row.get::<_, Option<i64>>(7).map(i64::cast_unsigned);
        if epoch.is_some_and(|epoch| found != Some(epoch)) {
            let error = epoch::another(Kind::Database);
            return Err(ReadFailed { is_elsewhere: true, ..error.into() });
        }
        seen = seen.or_else(|| Snapshot::parse(row.get(0)));
        let encoding = Encoding::of(row.get(1));
        let text = |index: usize| row.get::<_, Option<Bytes<'_>>>(index).map(|text| encoding.decode(text.0));
        let (Some(claim), Some(holder)) = (text(2), text(3)) else { continue };
        let values = row.get::<_, Option<Vec<Option<Bytes<'_>>>>>(5);
        let is_too_long = values.as_ref().is_some_and(|values| values.len() > MOST);
        let is_unfit = values.is_none() && text(6).is_none();
        let problem = text(6).or_else(|| is_too_long.then(|| format!("more than {MOST} values of one holder").into()));
        if let Some(problem) = problem
            && told.insert(claim.clone().into_owned())
        {
            tracing::warn!(event = "claim_unread", %claim, problem = &*problem, "its holders see nothing by it");
        }
        let members = values.filter(|values| values.len() <= MOST).map(|values| {
            let values: Vec<_> = values.into_iter().flatten().map(|value| encoding.decode(value.0)).collect();
            Members::of(values.iter().map(|value| &**value))
        });
        held += members.as_ref().map_or(0, Members::bytes);
        let members = members.filter(|_| held <= bytes);
        if held > bytes {
            beyond_memory.insert(holder.clone().into_owned());
        }
        let form = text(4).map(|form| form.into());
        all.push(Held { claim: claim.into(), holder: holder.into(), form, members, is_unfit });
    }
    let seen = seen.ok_or_else(|| Error::new(Kind::Database, "what claims say was read at no snapshot"))?;
    Ok((seen, all, beyond_memory.len()))
}
