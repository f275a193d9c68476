//! The clinic's application as far as its page needs one: what a button there writes, it writes, with plain SQL and its own
//! role. Owns which errands there are; knows no HTTP, and nothing of rowcast.

use tokio::sync::mpsc;
use tokio_postgres::Client;

use crate::errand::Errand;
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::source::pool::Database;

/// A pet of the user if there is one, 100 g heavier.
const WEIGH: &str = "update public.pets set weight_kg = coalesce(weight_kg, 1) + 0.1
    where pet_id = (select pet_id from public.pets order by user_id = $1 desc, random() limit 1)";
const READ: &str = "update public.inbox set read_at = now() where user_id = $1 and read_at is null";

/// Does errands until the shutdown. `psql` is the command that opens the clinic's database, or empty.
pub async fn run(database: Database, psql: String, mut errands: mpsc::Receiver<Errand>, mut shutdown: Shutdown) {
    let mut client = None;
    loop {
        let errand = tokio::select! {
            errand = errands.recv() => errand,
            () = shutdown.begun() => None,
        };
        let Some(Errand { may_write, path, answer }) = errand else { return };
        let (name, user) = path.split_once('/').unwrap_or((&path, ""));
        let done = match (name, may_write, user.parse::<i64>()) {
            ("psql", false, _) => Ok(psql.clone()),
            ("weigh", true, Ok(user)) => write(&mut client, &database, WEIGH, user).await,
            ("read", true, Ok(user)) => write(&mut client, &database, READ, user).await,
            _ => continue,
        };
        match done {
            // a page that has gone needs no answer
            Ok(text) => drop(answer.send(text)),
            Err(error) => tracing::warn!(event = "errand_failed", %error),
        }
    }
}

/// How many rows were written, as text.
async fn write(client: &mut Option<Client>, database: &Database, sql: &str, user: i64) -> Result<String> {
    let failed = |e| Error::database("the clinic's application cannot write", e);
    let open = match client.take().filter(|client| !client.is_closed()) {
        Some(open) => open,
        None => {
            let open = database.as_caller().await?;
            // its own name, which subscribers are told as the actor, and its own role
            open.batch_execute("set application_name = 'page'; set role clinic_app").await.map_err(failed)?;
            open
        }
    };
    let rows = client.insert(open).execute(sql, &[&user]).await.map_err(failed)?;
    Ok(rows.to_string())
}
