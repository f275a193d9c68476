//! The incarnations of the database server, and which cursors outlive them. Pure: owns the rule; how an incarnation is
//! noted, and by which session, is the source's.

use serde::{Deserialize, Serialize};

use crate::seal::Seal;

/// Why changes are missing, or may be; the `reason` of a `gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// older than what the outbox keeps
    Retention,
    /// the end of the server's log was lost, and the cursor may speak of it
    Failover,
    /// no cursor of this database, or one from the future
    BadCursor,
    /// the table's triggers were off
    TriggerOff,
    /// what may be seen of the channel is something else now
    Policy,
    /// a change of the channel cannot be read
    Unreadable,
    /// the client was too slow for the newest change of each row
    Slow,
}

impl Gap {
    /// Each there is.
    pub const ALL: [Self; 7] = [
        Self::Retention,
        Self::Failover,
        Self::BadCursor,
        Self::TriggerOff,
        Self::Policy,
        Self::Unreadable,
        Self::Slow,
    ];

    /// As the wire says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Failover => "failover",
            Self::BadCursor => "bad_cursor",
            Self::TriggerOff => "trigger_off",
            Self::Policy => "policy",
            Self::Unreadable => "unreadable",
            Self::Slow => "slow",
        }
    }
}

/// Which database, and which incarnation of its server. Positions of one lineage can be compared; two databases of one server
/// have the same incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lineage {
    /// which installation of which database
    pub epoch: u64,
    /// [`Incarnation::id`]
    pub incarnation: u64,
}

/// The incarnations of the server that cursors may come from, the present one last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnations {
    /// which installation of which database
    pub epoch: u64,
    /// in the order in which they began; `lives` on the Redis Stream, as ever
    #[serde(rename = "lives")]
    pub incarnations: Vec<Incarnation>,
    /// what its cursors are sealed with; `None`: they are not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

/// One incarnation of the server, from a start to a restart, crash or promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// its number, and 16 bits that tell it from the same number of a copy of the database
    pub id: u64,
    /// cursors of earlier incarnations are good up to this LSN; `None`: all of them
    pub bound: Option<u64>,
}

impl Incarnations {
    /// The present incarnation.
    pub fn present(&self) -> u64 {
        self.incarnations.last().map_or(0, |incarnation| incarnation.id)
    }

    /// That of what is told now.
    pub fn lineage(&self) -> Lineage {
        Lineage { epoch: self.epoch, incarnation: self.present() }
    }

    /// Whether an incarnation is among them.
    pub fn know(&self, incarnation: u64) -> bool {
        self.incarnations.iter().any(|each| each.id == incarnation)
    }

    /// Whether one incarnation came before another; not where one of them is not known.
    pub fn is_earlier(&self, one: u64, other: u64) -> bool {
        let at = |id| self.incarnations.iter().position(|incarnation| incarnation.id == id);
        at(one).zip(at(other)).is_some_and(|(one, other)| one < other)
    }

    /// The LSN up to which everything has survived since an incarnation; `None` where that incarnation is not known.
    pub fn survived_since(&self, incarnation: u64) -> Option<u64> {
        let at = self.incarnations.iter().position(|each| each.id == incarnation)?;
        Some(self.incarnations[at + 1..].iter().filter_map(|incarnation| incarnation.bound).min().unwrap_or(u64::MAX))
    }

    /// Whether what was seen up to `lsn` in `incarnation` is still true. After a crash, or the promotion of
    /// a standby that was behind, transaction ids of the lost tail are used again: a bare snapshot then lost changes
    /// in 193 of 1,534 cursors, silently.
    ///
    /// # Errors
    /// [`Gap::BadCursor`] for another database, [`Gap::Failover`] for a position that may have been lost.
    pub fn judge(&self, epoch: u64, incarnation: u64, lsn: u64) -> Result<(), Gap> {
        if epoch != self.epoch {
            return Err(Gap::BadCursor);
        }
        // an incarnation nobody knows: of a copy of this database that went another way, or its note was in the lost tail
        let survived = self.survived_since(incarnation).ok_or(Gap::Failover)?;
        if lsn <= survived { Ok(()) } else { Err(Gap::Failover) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_as_long_as_no_crash_lost_what_it_saw() {
        let incarnation = |id, bound| Incarnation { id, bound };
        let incarnations = Incarnations {
            epoch: 7,
            incarnations: vec![
                incarnation(1, None),
                incarnation(2, None),
                incarnation(3, Some(500)),
                incarnation(4, None),
            ],
            seal: None,
        };
        assert_eq!(incarnations.judge(7, 4, 9_000), Ok(()), "the present life");
        assert_eq!(incarnations.judge(7, 3, 9_000), Ok(()), "a planned restart in between");
        assert_eq!(incarnations.judge(7, 1, 500), Ok(()), "what had reached the disk");
        assert_eq!(incarnations.judge(7, 2, 501), Err(Gap::Failover), "what may not");
        assert_eq!(incarnations.judge(7, 9, 1), Err(Gap::Failover), "a life of a copy");
        assert_eq!(incarnations.judge(8, 4, 1), Err(Gap::BadCursor), "another database");
    }
}
