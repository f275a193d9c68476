//! What is owed to views that are told the newest change of each row, at most so often: which changes, and when. Pure: moments
//! in, what is due out; what of it a view shows, and where it is written, is the hub's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fold::{Folding, RowChange};
use crate::change::Change;
use crate::delivery::scope::projection::Projection;

/// A change, as it is kept for each view that it concerns.
#[derive(Debug, Clone)]
pub enum Noted {
    /// of one row
    Row(Arc<RowChange>),
    /// of many, or of what is not known whole: it is told as it is, where it came
    Other(Arc<Change>),
}

impl Noted {
    /// `key` names the columns of the primary key of the change's table.
    pub fn of(change: &Change, key: &[Box<str>]) -> Self {
        match RowChange::of(change, key) {
            Some(row) => Self::Row(Arc::new(row)),
            None => Self::Other(Arc::new(change.clone())),
        }
    }
}

/// What a view is owed.
#[derive(Debug)]
pub struct Owed<V> {
    /// the view
    pub view: V,
    /// what it shows of the changes
    pub projection: Arc<Projection>,
    /// a client that has all that the view was told before goes on here
    pub from: Arc<str>,
    ticket: Ticket,
    /// when it is due
    at: Instant,
    stretches: Vec<OwedStretch>,
    bytes: u64,
}

/// Names what a view is owed: the view's number, and one that no other time has.
pub type Ticket = (u64, u64);

/// Changes that are told one after the other.
#[derive(Debug)]
enum OwedStretch {
    Rows(Folding),
    Other(Arc<Change>),
}

/// What is told.
#[derive(Debug)]
pub struct OwedChange {
    /// the row that it is the newest change of; `None`: it is told as it came
    pub row: Option<Box<str>>,
    /// the change
    pub change: Change,
}

impl<V> Owed<V> {
    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Names it.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Takes what is told, in its order.
    pub fn take_changes(&mut self) -> Vec<OwedChange> {
        let mut changes = Vec::new();
        for stretch in std::mem::take(&mut self.stretches) {
            match stretch {
                OwedStretch::Rows(folding) => {
                    let folded = folding.changes().into_iter();
                    changes.extend(folded.map(|folded| OwedChange { row: Some(folded.name), change: folded.change }));
                }
                OwedStretch::Other(change) => {
                    changes.push(OwedChange { row: None, change: Arc::unwrap_or_clone(change) })
                }
            }
        }
        changes
    }

    fn add(&mut self, noted: &Noted) {
        match noted {
            Noted::Other(change) => {
                self.bytes += change.size();
                self.stretches.push(OwedStretch::Other(change.clone()));
            }
            Noted::Row(row) => {
                if !matches!(self.stretches.last(), Some(OwedStretch::Rows(_))) {
                    self.stretches.push(OwedStretch::Rows(Folding::default()));
                }
                if let Some(OwedStretch::Rows(folding)) = self.stretches.last_mut() {
                    let (added, freed) = folding.add(row);
                    self.bytes = self.bytes + added - freed;
                }
            }
        }
    }
}

/// The views that are owed something, by their number.
#[derive(Debug)]
pub struct LatestViews<V> {
    owed: HashMap<u64, Owed<V>>,
    due: BTreeSet<(Instant, u64)>,
    /// those that are owed more than may wait, also for the end of a cut
    full: BTreeSet<u64>,
    /// when each was told last
    told: HashMap<u64, Instant>,
    /// what is being told
    under_way: BTreeSet<Ticket>,
    /// bytes that may wait for one view, and for all together
    most: u64,
    most_in_all: u64,
    bytes: u64,
    serial: u64,
}

impl<V> LatestViews<V> {
    /// Nothing is owed yet. So many bytes may wait for one view, and for all together.
    pub fn new(most: u64, most_in_all: u64) -> Self {
        let (owed, told) = (HashMap::new(), HashMap::new());
        let (due, full, under_way) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { owed, due, full, told, under_way, most, most_in_all, bytes: 0, serial: 0 }
    }

    /// A view is owed these as well: at once where it was told nothing for `every`, else then. `from`: where the stream was before
    /// them.
    pub fn add<'a>(
        &mut self,
        number: u64,
        view: impl FnOnce() -> (V, Arc<Projection>),
        every: Duration,
        from: &Arc<str>,
        changes: impl Iterator<Item = &'a Noted>,
        now: Instant,
    ) {
        let owed = self.owed.entry(number).or_insert_with(|| {
            self.serial += 1;
            let at = self.told.get(&number).map_or(now, |told| now.max(*told + every));
            self.due.insert((at, number));
            let ((view, projection), ticket) = (view(), (number, self.serial));
            Owed { view, projection, from: from.clone(), ticket, at, stretches: Vec::new(), bytes: 0 }
        });
        let before = owed.bytes;
        changes.for_each(|change| owed.add(change));
        self.bytes = self.bytes - before + owed.bytes;
        if owed.bytes > self.most {
            self.full.insert(number);
        }
        if self.bytes > self.most_in_all {
            self.full.extend(self.owed.keys());
        }
    }

    /// A client has come to a view, and has the rows as they are now: what they were before is no more what it was told. So what
    /// comes from now on is told beside what waits, and nothing cancels out over this moment.
    pub fn divide(&mut self, number: u64) {
        if let Some(owed) = self.owed.get_mut(&number)
            && matches!(owed.stretches.last(), Some(OwedStretch::Rows(folding)) if !folding.is_empty())
        {
            owed.stretches.push(OwedStretch::Rows(Folding::default()));
        }
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is due; where a cut is arriving, that alone of which more is owed than may wait. It is under way until
    /// [`note_told`](Self::note_told) says that it is not.
    pub fn take_due(&mut self, now: Instant, is_at_boundary: bool) -> Vec<Owed<V>> {
        let mut numbers = std::mem::take(&mut self.full);
        if is_at_boundary {
            numbers.extend(self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, number)| *number));
        }
        numbers.into_iter().filter_map(|number| self.take(number, now)).collect()
    }

    /// What a view is owed, due or not; under way as well.
    pub fn take(&mut self, number: u64, now: Instant) -> Option<Owed<V>> {
        let owed = self.remove(number)?;
        self.told.insert(number, now);
        self.under_way.insert(owed.ticket);
        Some(owed)
    }

    fn remove(&mut self, number: u64) -> Option<Owed<V>> {
        let owed = self.owed.remove(&number)?;
        self.due.remove(&(owed.at, number));
        self.full.remove(&number);
        self.bytes -= owed.bytes;
        Some(owed)
    }

    /// It was told.
    pub fn note_told(&mut self, ticket: Ticket) {
        self.under_way.remove(&ticket);
    }

    /// Nothing of what these are owed is to be told any more.
    pub fn forget(&mut self, gone: impl Fn(&V) -> bool) {
        for number in self.owing(gone) {
            self.remove(number);
        }
    }

    /// Those that wait are due at once. Returns what is not told yet, what is under way included.
    pub fn hurry(&mut self, wanted: impl Fn(&V) -> bool, now: Instant) -> Vec<Ticket> {
        let mut tickets: Vec<Ticket> = self.under_way.iter().copied().collect();
        for number in self.owing(wanted) {
            if let Some(owed) = self.owed.get_mut(&number) {
                self.due.remove(&(owed.at, number));
                owed.at = now.min(owed.at);
                self.due.insert((owed.at, number));
                tickets.push(owed.ticket);
            }
        }
        tickets
    }

    /// Whether one of these is not told yet.
    pub fn owes(&self, tickets: &[Ticket]) -> bool {
        let waits = |ticket: &Ticket| self.owed.get(&ticket.0).is_some_and(|owed| owed.ticket == *ticket);
        tickets.iter().any(|ticket| self.under_way.contains(ticket) || waits(ticket))
    }

    /// The numbers of those that are owed something.
    pub fn owing(&self, wanted: impl Fn(&V) -> bool) -> Vec<u64> {
        self.owed.iter().filter(|(_, owed)| wanted(&owed.view)).map(|(number, _)| *number).collect()
    }

    /// Where a client goes on that has all that a view was told, while it is owed more.
    pub fn place_of(&self, number: u64) -> Option<&Arc<str>> {
        self.owed.get(&number).map(|owed| &owed.from)
    }

    /// Forgets when those were told that may be told again at once, after `longest`.
    pub fn sweep(&mut self, longest: Duration, now: Instant) {
        self.told.retain(|_, told| now.duration_since(*told) < longest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::change::{Size, Update};

    const EVERY: Duration = Duration::from_millis(500);

    fn update(id: i64, action: &'static str, row: &str, old: Option<&str>) -> Change {
        let update = Update {
            channel: "pets".into(),
            action: action.into(),
            data: row.into(),
            changed: old.map(|_| "n".into()).into_iter().collect(),
            old: old.map(Into::into),
            old_key: None,
            size: Size::Whole,
            is_published: false,
        };
        Change { id, tx: 1, at: 0, actor: None, update: Some(update), notification: None }
    }

    fn noted(change: &Change) -> Noted {
        Noted::of(change, &["id".into()])
    }

    /// A row's number goes from one value to the next.
    fn step(id: i64, row: i64, from: i64) -> Noted {
        let (is, was) = (format!(r#"{{"id":{row},"n":{}}}"#, from + 1), format!(r#"{{"n":{from}}}"#));
        noted(&update(id, "updated", &is, Some(&was)))
    }

    fn add(views: &mut LatestViews<u64>, number: u64, from: &str, changes: &[Noted], now: Instant) {
        views.add(number, || (number, Arc::default()), EVERY, &from.into(), changes.iter(), now);
    }

    fn told(mut owed: Owed<u64>) -> (String, Vec<String>) {
        let (from, changes) = (owed.from.clone(), owed.take_changes());
        let text = |change: &OwedChange| {
            let update = change.change.update.as_ref().unwrap();
            format!("{} {}", update.action, update.data)
        };
        // one that leaves its row as it was is news to nobody, see the hub's
        let is_news = |change: &&OwedChange| {
            let update = change.change.update.as_ref().unwrap();
            update.action != "updated" || !update.changed.is_empty()
        };
        (from.to_string(), changes.iter().filter(is_news).map(text).collect())
    }

    #[test]
    fn the_first_change_is_told_at_once_and_the_next_ones_at_most_so_often() {
        let mut views = LatestViews::new(1 << 20, 1 << 20);
        let start = Instant::now();
        add(&mut views, 7, "a", &[step(1, 1, 0)], start);
        assert_eq!(views.next_due(), Some(start));
        let owed = views.take_due(start, true).pop().unwrap();
        assert_eq!(told(owed), ("a".into(), vec![r#"updated {"id":1,"n":1}"#.into()]));
        let later = start + Duration::from_millis(10);
        add(&mut views, 7, "b", &[step(2, 1, 1), step(3, 2, 0)], later);
        add(&mut views, 7, "c", &[step(4, 1, 2)], later);
        assert!(views.take_due(later, true).is_empty());
        assert_eq!(views.next_due(), Some(start + EVERY));
        assert_eq!(
            views.place_of(7).map(|place| &**place),
            Some("b"),
            "a client that goes on behind what is owed loses it"
        );
        let owed = views.take_due(start + EVERY, true).pop().unwrap();
        let rows = [r#"updated {"id":2,"n":1}"#, r#"updated {"id":1,"n":3}"#];
        assert_eq!(told(owed), ("b".into(), rows.map(Into::into).to_vec()));
        add(&mut views, 7, "d", &[step(5, 1, 3)], start + 3 * EVERY);
        assert_eq!(views.next_due(), Some(start + 3 * EVERY), "it was silent for longer than that");
    }

    #[test]
    fn what_is_no_change_of_one_row_is_told_where_it_came() {
        let mut views = LatestViews::new(1 << 20, 1 << 20);
        let now = Instant::now();
        let changes = [step(1, 1, 0), noted(&update(2, "truncated", "null", None)), step(3, 1, 1), step(4, 1, 2)];
        add(&mut views, 7, "a", &changes, now);
        let owed = views.take_due(now, true).pop().unwrap();
        let rows = [r#"updated {"id":1,"n":1}"#, "truncated null", r#"updated {"id":1,"n":3}"#];
        assert_eq!(told(owed).1, rows);
    }

    #[test]
    fn one_row_that_changes_a_million_times_takes_the_memory_of_two() {
        let mut views = LatestViews::new(2_000, 1 << 20);
        let now = Instant::now();
        add(&mut views, 7, "a", &[], now);
        for id in 0..1_000 {
            add(&mut views, 7, "a", &[step(id, 1, id)], now);
        }
        assert!(views.take_due(now, false).is_empty(), "it is not full");
        let other: Vec<Noted> = (0..10).map(|row| step(2_000 + row, 100 + row, 0)).collect();
        add(&mut views, 7, "a", &other, now);
        assert_eq!(views.take_due(now, false).len(), 1, "amid a cut what is full is told");
        assert_eq!((views.bytes, views.next_due()), (0, None));
    }

    #[test]
    fn all_views_together_may_let_only_so_much_wait() {
        let mut views = LatestViews::new(1 << 20, 4_000);
        let now = Instant::now();
        for number in 0..20 {
            add(&mut views, number, "a", &[step(1, 1, 0)], now);
        }
        assert!(!views.take_due(now, false).is_empty());
    }

    #[test]
    fn who_hurries_waits_for_what_is_under_way_too() {
        let mut views = LatestViews::new(1 << 20, 1 << 20);
        let now = Instant::now();
        add(&mut views, 7, "a", &[step(1, 1, 0)], now);
        let first = views.take_due(now, true).pop().unwrap();
        add(&mut views, 7, "b", &[step(2, 1, 1)], now);
        add(&mut views, 8, "b", &[step(2, 1, 1)], now);
        assert_eq!(views.next_due(), Some(now), "the other view is due");
        let waits_for = views.hurry(|view| *view == 7, now);
        assert_eq!(waits_for.len(), 2);
        let tickets: Vec<Ticket> = views.take_due(now, true).iter().map(Owed::ticket).collect();
        assert_eq!(tickets.len(), 2);
        tickets.iter().for_each(|ticket| views.note_told(*ticket));
        assert!(views.owes(&waits_for));
        views.note_told(first.ticket());
        assert!(!views.owes(&waits_for));
        add(&mut views, 7, "c", &[step(3, 1, 2)], now);
        views.forget(|view| *view == 7);
        assert_eq!((views.next_due(), views.place_of(7)), (None, None));
    }

    proptest! {
        /// Rows that are set to what changes say, in any stretches, end where all changes one by one end: those of a client that is
        /// there from the beginning, and of one that comes with the rows as they are at some moment.
        #[test]
        fn the_newest_changes_end_where_all_changes_end(
            steps in proptest::collection::vec((0_i64..4, 0..4), 1..60),
            tells in proptest::collection::vec(any::<bool>(), 60),
            comes in 0_usize..60,
        ) {
            let mut views = LatestViews::new(1 << 20, 1 << 20);
            let mut now = Instant::now();
            let mut all = HashMap::new();
            let mut clients = vec![HashMap::new()];
            for (place, ((row, what), tell)) in steps.iter().zip(tells).enumerate() {
                let id = i64::try_from(place).unwrap();
                if place == comes {
                    views.divide(7);
                    clients.push(all.clone());
                }
                let data = |n: i64| format!(r#"{{"id":{row},"n":{n}}}"#);
                let change = match (what, all.get(row).copied()) {
                    (0, _) => {
                        all.clear();
                        update(id, "truncated", "null", None)
                    }
                    (1, Some(n)) => {
                        all.remove(row);
                        update(id, "deleted", &data(n), None)
                    }
                    (_, Some(n)) => {
                        all.insert(*row, id);
                        update(id, "updated", &data(id), Some(&format!(r#"{{"n":{n}}}"#)))
                    }
                    (_, None) => {
                        all.insert(*row, id);
                        update(id, "created", &data(id), None)
                    }
                };
                add(&mut views, 7, "a", &[noted(&change)], now);
                if tell || steps.len() == place + 1 {
                    now += EVERY;
                    for text in views.take_due(now, true).into_iter().flat_map(|owed| told(owed).1) {
                        let (action, row) = text.split_once(' ').unwrap();
                        let row: serde_json::Value = serde_json::from_str(row).unwrap();
                        for shown in &mut clients {
                            match action {
                                "truncated" => shown.clear(),
                                "deleted" => _ = shown.remove(&row["id"].as_i64().unwrap()),
                                _ => _ = shown.insert(row["id"].as_i64().unwrap(), row["n"].as_i64().unwrap()),
                            }
                        }
                    }
                }
            }
            for shown in clients {
                prop_assert_eq!(&shown, &all);
            }
        }
    }
}
