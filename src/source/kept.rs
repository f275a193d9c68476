//! From when on the outbox has everything, as it stands beside what was read. Knows no statement and no position of a reader.
//!
//! A segment that is emptied moves a floor: a position that does not see all that the floor sees has missed something. There are
//! two, one of all tables, and one of those whose changes are kept briefly.

use std::sync::Arc;

use super::catalog::Catalog;
use crate::change::{Change, Update};
use crate::cursor::Snapshot;

/// The floors as one text, of the one row of `rowcast.installation`.
macro_rules! kept {
    () => {
        "coalesce(floor::text, '') || coalesce('/' || brief_floor::text || '/' || brief_floored_by::text, '')"
    };
}
pub(super) use kept;

/// By itself.
pub(super) const KEPT: &str = concat!("select ", kept!(), " from rowcast.installation");

/// The floors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) all: Option<Snapshot>,
    /// and the transaction that has set it
    pub(super) brief: Option<(Snapshot, u64)>,
}

impl Kept {
    /// As the statements give them.
    pub(super) fn parse(text: Option<&str>) -> Self {
        let mut fields = text.unwrap_or_default().split('/');
        let all = fields.next().and_then(Snapshot::parse);
        let brief = fields.next().and_then(Snapshot::parse).zip(fields.next().and_then(|xid| xid.parse().ok()));
        Self { all, brief }
    }

    /// The floor of all tables, where a position has missed something below it.
    pub(super) fn missed_by(&self, seen: &Snapshot) -> Option<&Snapshot> {
        self.all.as_ref().filter(|floor| !seen.covers(floor))
    }

    /// The same of tables that are kept briefly: the transaction that has emptied what was missed. A cursor that sees
    /// it sees all that the floor sees: everything below the floor had ended before it began.
    pub(super) fn missed_briefly_by(&self, seen: &Snapshot) -> Option<u64> {
        self.brief.as_ref().filter(|(floor, _)| !seen.covers(floor)).map(|(_, by)| *by)
    }
}

/// What tells the channels that are kept briefly that something is gone, each to be handed over by itself, after what has this
/// id. In the place of the transaction that has emptied it, so that a client that comes back from before it hears of it, too; where
/// the cut from `seen` to `until` had ended before, in that of the latest one of the cut.
pub(super) fn gone(by: u64, (seen, until): (&Snapshot, &Snapshot), catalog: &Catalog, after: i64) -> Vec<Change> {
    let by = if until.sees(by) { by } else { until.latest_since(seen).unwrap_or(by) };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
    // ids begin with 1, which is no row's: a channel that is watched has drawn some
    let id = after.max(1);
    let told = move |name: Arc<str>| {
        let update = Some(Update::gone(name));
        Change { id, tx: by, at: now, actor: None, update, notification: None }
    };
    catalog.kept_briefly().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_before_a_floor_has_missed_something() {
        let kept = Kept::parse(Some("10:10:/20:22:20/21"));
        for (seen, all, brief) in
            [("9:9:", true, true), ("10:10:", false, true), ("20:22:20", false, false), ("30:30:", false, false)]
        {
            let seen = Snapshot::parse(seen).unwrap();
            assert_eq!((kept.missed_by(&seen).is_some(), kept.missed_briefly_by(&seen)), (all, brief.then_some(21)));
        }
        assert_eq!(Kept::parse(Some("")), Kept::default());
        assert_eq!(Kept::parse(None), Kept::default());
        let of_brief = Kept::parse(Some("/20:22:20/21"));
        assert_eq!((of_brief.all.is_none(), of_brief.brief.is_some()), (true, true));
    }
}
