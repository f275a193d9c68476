//! Which database this is, and which incarnations its server had. Owns the reading of both; what follows from them for a
//! cursor is decided in `cursor`.

use super::client::{Client, Pool};
use crate::error::{Error, Kind, Result};
use crate::incarnations::{Incarnation, Incarnations};
use crate::seal::Seal;

const EPOCH: &str = "
select pg_catalog.hashtextextended(c.system_identifier || ' ' || d.oid || ' ' || i.id, 0)
  from pg_catalog.pg_control_system() c, pg_catalog.pg_database d, rowcast.installation i
 where d.datname = pg_catalog.current_database()";

/// A connection of the pool to the database `followed`, which is wanted for `what`. A connection that leads to another one, as
/// after a pooler's name was given to it, is ended.
///
/// # Errors
/// [`Kind::Connection`] or [`Kind::Database`].
pub(super) async fn client_of(pool: &Pool, followed: Option<u64>, what: &str) -> Result<Client> {
    loop {
        let client = pool.client_for(what).await?;
        if followed.is_none() {
            return Ok(client);
        }
        let row = client.query_one(EPOCH, &[]).await.map_err(|e| Error::database(what, e))?;
        if followed == Some(row.get::<_, i64>(0).cast_unsigned()) {
            return Ok(client);
        }
        let is_new = client.is_new();
        client.discard();
        if is_new {
            return Err(another(Kind::Database));
        }
    }
}

/// Refuses a database that is not the one that is followed.
///
/// # Errors
/// [`Kind::Connection`]: to ask again may help.
pub(super) fn check(epoch: u64, followed: Option<u64>) -> Result<()> {
    if followed.is_none_or(|followed| followed == epoch) { Ok(()) } else { Err(another(Kind::Connection)) }
}

fn another(kind: Kind) -> Error {
    Error::new(kind, "the database URL leads to another database than the one that this server follows").hint(
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
    let row = client
        .query_one(
            "select pg_catalog.hashtextextended(c.system_identifier || ' ' || d.oid || ' ' || i.id, 0), i.cursor_key
               from pg_catalog.pg_control_system() c, pg_catalog.pg_database d, rowcast.installation i
              where d.datname = pg_catalog.current_database()",
            &[],
        )
        .await
        .map_err(|e| Error::database("cannot read the database's identity", e))?;
    let epoch = row.get::<_, i64>(0).cast_unsigned();
    let seal = Some(Seal::new(row.get(1)));
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
    let incarnations = rows
        .iter()
        .map(|row| Incarnation {
            id: row.get::<_, i64>(0).cast_unsigned(),
            bound: row.get::<_, Option<i64>>(1).map(i64::cast_unsigned),
        })
        .collect();
    Ok(Incarnations { epoch, incarnations, seal })
}
