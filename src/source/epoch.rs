//! Which database this is, and which incarnations its server had. Owns the reading of both; what follows from them for a
//! cursor is decided in `cursor`.

use super::client::{Client, Pool};
use crate::error::{Error, Kind, Result};
use crate::incarnations::{Incarnation, Incarnations};
use crate::seal::Seal;

/// Which installation of which database it is, hashed. Of a standby, which is behind, there is none.
macro_rules! epoch {
    () => {
        "select pg_catalog.hashtextextended(c.system_identifier || ' ' || d.oid || ' ' || i.id, 0), i.cursor_key
           from pg_catalog.pg_control_system() c, pg_catalog.pg_database d, rowcast.installation i
          where d.datname = pg_catalog.current_database() and not pg_catalog.pg_is_in_recovery()"
    };
}
pub(super) use epoch;
const EPOCH: &str = epoch!();

/// A connection of the pool to the database `followed`, which is wanted for `what`. A connection that leads to another one, as
/// after a pooler's name was given to it, is ended.
///
/// # Errors
/// [`Kind::Connection`] or [`Kind::Database`].
pub(super) async fn client_of(pool: &Pool, followed: Option<u64>, what: &str) -> Result<Client> {
    loop {
        let client = pool.client_for(what).await?;
        let Some(followed) = followed else { return Ok(client) };
        if leads_to(&client, followed, what).await? {
            return Ok(client);
        }
        let is_new = client.is_new();
        client.discard();
        if is_new {
            return Err(another(Kind::Database));
        }
    }
}

/// Refuses a session that does not lead to the database `followed`, which is wanted for `what`.
///
/// # Errors
/// [`Kind::Connection`]: to ask again may help.
pub(super) async fn check(client: &Client, followed: u64, what: &str) -> Result<()> {
    if leads_to(client, followed, what).await? { Ok(()) } else { Err(another(Kind::Connection)) }
}

async fn leads_to(client: &Client, followed: u64, what: &str) -> Result<bool> {
    let row = client.query_opt(EPOCH, &[]).await.map_err(|e| Error::database(what, e))?;
    Ok(row.is_some_and(|row| row.get::<_, i64>(0).cast_unsigned() == followed))
}

/// That a session leads elsewhere.
pub(super) fn another(kind: Kind) -> Error {
    Error::new(kind, "the database URL leads to another database, or to a standby, than this server follows").hint(
        "if it is to follow that one, end its sessions in the one before: RECONNECT in PgBouncer, or pg_terminate_backend",
    )
}

/// Notes the present incarnation of the server and reads all of them.
///
/// # Errors
/// [`Kind::Schema`] where rowcast is not installed, [`Kind::Database`] on a standby.
pub async fn note(client: &Client) -> Result<Incarnations> {
    let standby: bool = client
        .query_one("select pg_catalog.pg_is_in_recovery()", &[])
        .await
        .map_err(|e| Error::database("cannot ask the server's state", e))?
        .get(0);
    if standby {
        return Err(Error::new(Kind::Database, "the server is a standby")
            .hint("connect to the primary: a standby shows commits in another order"));
    }
    // a copy of a database goes on counting where the original was, so the number alone does not tell them apart
    let rows = client
        .query(
            "select (number::pg_catalog.int8 << 16) | (pg_catalog.hashtextextended(life, 0) & 65535),
                    (bound - '0/0')::pg_catalog.int8
               from rowcast.note_life()",
            &[],
        )
        .await
        .map_err(|e| Error::database("cannot note the server's life", e))?;
    // not before: a restored database gets another identity by that
    let row =
        client.query_one(EPOCH, &[]).await.map_err(|e| Error::database("cannot read the database's identity", e))?;
    let epoch = row.get::<_, i64>(0).cast_unsigned();
    let seal = Some(Seal::new(row.get(1)));
    let incarnations = rows
        .iter()
        .map(|row| Incarnation {
            id: row.get::<_, i64>(0).cast_unsigned(),
            bound: row.get::<_, Option<i64>>(1).map(i64::cast_unsigned),
        })
        .collect();
    Ok(Incarnations { epoch, incarnations, seal })
}
