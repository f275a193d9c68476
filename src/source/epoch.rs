//! Which database this is, and which incarnations its server had. Owns the reading of both; what follows from them for a
//! cursor is decided in `cursor`.

use super::client::Client;
use crate::error::{Error, Kind, Result};
use crate::incarnations::{Incarnation, Incarnations};
use crate::seal::Seal;

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
