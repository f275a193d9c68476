//! From when on each channel may be seen. Pure: owns the floors that the source told; which client is told what of them
//! is the hub's.
//!
//! A floor is where what may be seen was changed: a column was excluded, another table feeds the channel. What lies
//! before it was decoded by the rules of then, wherever it is kept. So nobody goes on from a position that has not seen all
//! of it, and nothing from before it is told, also where it arrives late.

use std::collections::HashMap;
use std::sync::Arc;

use crate::change::{Change, Channel, Floor};
use crate::cursor::Snapshot;

/// Those of all channels.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Floors(HashMap<Arc<str>, Stands>);

/// What of a channel matters to them.
#[derive(Debug, PartialEq, Eq)]
struct Stands {
    floor: Option<Floor>,
    notifies: bool,
}

impl Floors {
    /// As the source told them.
    pub fn new(channels: &[Channel]) -> Self {
        let stands = |channel: &Channel| Stands { floor: channel.floor.clone(), notifies: channel.notifies };
        Self(channels.iter().map(|channel| (channel.name.clone(), stands(channel))).collect())
    }

    /// A channel's.
    pub fn of(&self, channel: &str) -> Option<&Floor> {
        self.0.get(channel)?.floor.as_ref()
    }

    /// Whether a channel may be seen by a client that goes on from a position.
    pub fn let_in(&self, channel: &str, seen: &Snapshot) -> bool {
        self.of(channel).is_none_or(|floor| seen.covers(&floor.seen))
    }

    /// The channels that notify users.
    pub fn notifying(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().filter(|(_, stands)| stands.notifies).map(|(name, _)| name)
    }

    /// Whether a change is from before its channel's floor, or its channel is gone: its table is no longer watched.
    pub fn cover(&self, change: &Change) -> bool {
        change.update.as_ref().is_some_and(|update| match self.0.get(&update.channel) {
            Some(stands) => stands.floor.as_ref().is_some_and(|floor| floor.seen.sees(change.tx)),
            None => true,
        })
    }

    /// The same of a change that arrives only now. What the changing transaction wrote itself was decoded after it.
    pub fn keep_out(&self, change: &Change) -> bool {
        let floor = change.update.as_ref().and_then(|update| self.of(&update.channel));
        floor.is_some_and(|floor| floor.seen.sees(change.tx) && floor.by != change.tx)
    }

    /// Whether what has come to `seen` still brings changes from before some floor.
    pub fn are_ahead_of(&self, seen: &Snapshot) -> bool {
        self.0.values().filter_map(|stands| stands.floor.as_ref()).any(|floor| !seen.covers(&floor.seen))
    }

    /// The channels that were there before and have another floor, and whether they notify users, or did.
    pub fn raised_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a Arc<str>, bool)> {
        self.0.iter().filter_map(|(name, now)| {
            let then = before.0.get(name)?;
            (then.floor != now.floor).then_some((name, then.notifies || now.notifies))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Update;

    fn floors(seen: &str, by: u64) -> Floors {
        let floor = Some(Floor { seen: Snapshot::parse(seen).unwrap(), by });
        Floors::new(&[Channel { name: "pets".into(), columns: None, floor, notifies: true, is_unlisted: false }])
    }

    fn change(channel: &str, tx: u64) -> Change {
        let update = Update {
            channel: channel.into(),
            action: "created".into(),
            data: "{}".into(),
            changed: Vec::new(),
            old: None,
            old_key: None,
            size: crate::change::Size::Whole,
            is_published: false,
        };
        Change { id: 1, tx, at: 0, actor: None, update: Some(update), notification: None }
    }

    #[test]
    fn nobody_goes_on_from_before_a_floor() {
        let floors = floors("10:21:12", 20);
        for (seen, may) in
            [("20:20:", false), ("10:21:12", true), ("10:21:12,20", false), ("10:30:11", false), ("30:30:", true)]
        {
            assert_eq!(floors.let_in("pets", &Snapshot::parse(seen).unwrap()), may, "{seen}");
            assert_eq!(floors.are_ahead_of(&Snapshot::parse(seen).unwrap()), !may, "{seen}");
        }
        assert!(floors.let_in("owners", &Snapshot::all_before(3)), "of another channel");
    }

    #[test]
    fn what_arrives_late_is_kept_out_but_not_what_came_with_the_change_itself() {
        let floors = floors("10:21:12", 20);
        for (tx, covered, kept_out) in
            [(9, true, true), (12, false, false), (19, true, true), (20, true, false), (21, false, false)]
        {
            let change = change("pets", tx);
            assert_eq!((floors.cover(&change), floors.keep_out(&change)), (covered, kept_out), "{tx}");
        }
        assert!(floors.cover(&change("owners", 99)), "of a table that is no longer watched");
    }

    #[test]
    fn a_channel_that_is_new_had_nobody_to_tell() {
        let (before, after) = (floors("10:21:12", 20), floors("30:31:", 30));
        assert_eq!(after.raised_since(&before).collect::<Vec<_>>(), [(&"pets".into(), true)]);
        assert_eq!(after.raised_since(&Floors::default()).count(), 0);
        assert_eq!(after.raised_since(&after).count(), 0);
    }
}
