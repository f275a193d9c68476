//! Which database this is, and which life of its server. Owns the rule that says whether a place in the stream is
//! still true after a reconnect; knows nothing of tokens.

use tokio_postgres::Client;

use crate::error::{Error, Kind, Result};

/// Identity of the database and of the server's present life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// system identifier, database and installation, hashed
    pub id: u64,
    /// timeline and start time
    life: String,
    /// `pg_last_wal_replay_lsn()`: the end of what a crash or promotion recovered; `None` after a clean start
    recovered: Option<u64>,
}

/// Reads the present epoch.
///
/// # Errors
/// [`Kind::Schema`] where rowcast is not installed, [`Kind::Database`] on a standby.
pub async fn read(client: &Client) -> Result<Epoch> {
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
            "select pg_catalog.hashtextextended(c.system_identifier || ' ' || d.oid || ' ' || i.id, 0),
                    pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) || ' ' || pg_catalog.pg_postmaster_start_time(),
                    (pg_catalog.pg_last_wal_replay_lsn() - '0/0')::pg_catalog.int8
               from pg_catalog.pg_control_system() c, pg_catalog.pg_database d, rowcast.installation i
              where d.datname = pg_catalog.current_database()",
            &[],
        )
        .await
        .map_err(|e| Error::database("cannot read the database's identity", e))?;
    Ok(Epoch {
        id: row.get::<_, i64>(0).cast_unsigned(),
        life: row.get(1),
        recovered: row.get::<_, Option<i64>>(2).map(i64::cast_unsigned),
    })
}

impl Epoch {
    /// Whether what was seen up to `lsn` in the epoch `before` is still true in this one. After a crash, or the
    /// promotion of a standby that was behind, transaction ids of the lost tail are used again, so a place beyond the
    /// recovered end would silently skip changes.
    pub fn continues(&self, before: &Epoch, lsn: u64) -> bool {
        self.id == before.id && (self.same_life(before) || self.recovered.is_none_or(|end| lsn <= end))
    }

    /// The crash of one backend rebuilds shared memory without a new start time: only the recovered end tells.
    fn same_life(&self, before: &Epoch) -> bool {
        self.life == before.life && self.recovered == before.recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(id: u64, life: &str, recovered: Option<u64>) -> Epoch {
        Epoch { id, life: life.into(), recovered }
    }

    #[test]
    fn a_planned_restart_continues() {
        assert!(epoch(1, "b", None).continues(&epoch(1, "a", None), 500));
        assert!(epoch(1, "a", Some(90)).continues(&epoch(1, "a", Some(90)), 500));
    }

    #[test]
    fn a_lost_tail_does_not() {
        assert!(epoch(1, "b", Some(500)).continues(&epoch(1, "a", None), 500));
        assert!(!epoch(1, "b", Some(499)).continues(&epoch(1, "a", None), 500));
        assert!(!epoch(1, "a", Some(499)).continues(&epoch(1, "a", None), 500), "one backend crashed");
        assert!(!epoch(2, "a", None).continues(&epoch(1, "a", None), 1), "another database");
    }
}
