//! Whose turn it is to be answered: the first request of one asker comes before the second of another. Owns the order
//! of those that wait, and how long one that does not take its answer keeps its turn; knows neither what they ask for
//! nor who answers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};
use tokio::time::Instant;

use crate::sync::lock;

/// So many wait for their turn; beyond that they wait before they ask.
pub(super) const WAITING: usize = 64;
/// While others wait, a part of an answer is taken within this time, or the turn is over.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same where another asker waits that has no turn, and this one has several.
const SHORT_PATIENCE: Duration = Duration::from_millis(250);

/// The order. `T` is what is asked for.
#[derive(Debug)]
pub struct Turns<T> {
    at_a_time: usize,
    /// first come first
    waiting: VecDeque<(Arc<str>, T)>,
    askers: Arc<Mutex<Askers>>,
}

/// How many each asker has.
#[derive(Debug, Default)]
struct Askers {
    running: TurnCounts,
    waiting: TurnCounts,
}

type TurnCounts = HashMap<Arc<str>, usize>;

/// A turn: the answer is given now. Over when dropped.
#[derive(Debug)]
pub struct Turn {
    asker: Arc<str>,
    askers: Arc<Mutex<Askers>>,
}

impl<T> Turns<T> {
    /// Nobody waits, and `at_a_time` are answered at a time.
    pub fn new(at_a_time: usize) -> Self {
        Self { at_a_time, waiting: VecDeque::new(), askers: Arc::default() }
    }

    /// Whether one more may wait.
    pub fn has_turn(&self) -> bool {
        self.waiting.len() < WAITING
    }

    /// One more waits.
    pub fn wait(&mut self, asker: Arc<str>, what: T) {
        *lock(&self.askers).waiting.entry(asker.clone()).or_default() += 1;
        self.waiting.push_back((asker, what));
    }

    /// The next whose turn it is, if anybody's: the asker that is answered least now, and of several such the one that
    /// came first.
    pub fn take(&mut self) -> Option<(T, Turn)> {
        let mut askers = lock(&self.askers);
        if askers.running.values().sum::<usize>() >= self.at_a_time {
            return None;
        }
        let of = |asker: &Arc<str>| askers.running.get(asker).copied().unwrap_or_default();
        let (place, _) = self.waiting.iter().enumerate().min_by_key(|(_, (asker, _))| of(asker))?;
        let (asker, what) = self.waiting.remove(place)?;
        less(&mut askers.waiting, &asker);
        *askers.running.entry(asker.clone()).or_default() += 1;
        Some((what, Turn { asker, askers: self.askers.clone() }))
    }
}

impl Turn {
    /// Whether anybody waits.
    pub fn some_wait(&self) -> bool {
        !lock(&self.askers).waiting.is_empty()
    }

    /// Gives a part of the answer; says whether the asker has taken it. One that is slow keeps its turn as long as nobody
    /// waits for it.
    pub async fn give<T: Send>(&self, parts: &mpsc::Sender<T>, part: T) -> bool {
        let mut part = match parts.try_send(part) {
            Ok(()) => return true,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(part)) => part,
        };
        let began = Instant::now();
        loop {
            match parts.send_timeout(part, SHORT_PATIENCE).await {
                Ok(()) => return true,
                Err(SendTimeoutError::Timeout(back)) if self.has_time(began.elapsed()) => part = back,
                Err(_) => return false,
            }
        }
    }

    /// Ready where an asker that has taken nothing since this call has no time left.
    pub async fn wait_until_over(&self) {
        let began = Instant::now();
        while self.has_time(began.elapsed()) {
            tokio::time::sleep(SHORT_PATIENCE).await;
        }
    }

    fn has_time(&self, taken: Duration) -> bool {
        let askers = lock(&self.askers);
        let has_several = askers.running.get(&self.asker).is_some_and(|count| *count > 1);
        let mut waiting = askers.waiting.keys();
        let patience = if has_several && waiting.any(|asker| !askers.running.contains_key(asker)) {
            SHORT_PATIENCE
        } else {
            PATIENCE
        };
        askers.waiting.is_empty() || taken < patience
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        less(&mut lock(&self.askers).running, &self.asker);
    }
}

fn less(counts: &mut TurnCounts, asker: &Arc<str>) {
    if let Some(count) = counts.get_mut(asker) {
        *count -= 1;
        if *count == 0 {
            counts.remove(asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(turns: &mut Turns<u32>) -> Option<(u32, Turn)> {
        turns.take()
    }

    #[test]
    fn one_wish_comes_before_anothers_second() {
        let mut turns = Turns::new(3);
        for n in 0..60 {
            turns.wait("greedy".into(), n);
        }
        let mut first: Vec<_> = (0..3).map(|_| taken(&mut turns).unwrap()).collect();
        assert!(taken(&mut turns).is_none(), "three at a time");
        turns.wait("calm".into(), 100);
        turns.wait("calm".into(), 101);
        turns.wait("other".into(), 200);
        let mut next = || {
            drop(first.remove(0));
            let turn = taken(&mut turns).unwrap();
            let what = turn.0;
            first.push(turn);
            what
        };
        assert_eq!([next(), next()], [100, 200], "askers with nothing running come first, by how long they wait");
    }

    #[test]
    fn who_does_not_take_its_answer_gives_way_and_sooner_to_who_has_nothing() {
        let (short, long) = (SHORT_PATIENCE, PATIENCE);
        let mut turns = Turns::new(3);
        for n in 0..2 {
            turns.wait("greedy".into(), n);
        }
        let (one, two) = (taken(&mut turns).unwrap().1, taken(&mut turns).unwrap().1);
        assert!(one.has_time(long * 20), "nobody waits");
        turns.wait("greedy".into(), 2);
        let three = taken(&mut turns).unwrap().1;
        turns.wait("greedy".into(), 3);
        assert!(one.has_time(short) && !one.has_time(long), "its own next wish waits");
        turns.wait("calm".into(), 9);
        assert!(!one.has_time(short));
        drop((one, two));
        assert!(three.has_time(short) && !three.has_time(long), "it has but one turn");
        let calm = taken(&mut turns).unwrap();
        assert_eq!(calm.0, 9);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut turns = Turns::new(1);
        for n in 0..WAITING as u32 {
            assert!(turns.has_turn());
            turns.wait(n.to_string().into(), n);
        }
        assert!(!turns.has_turn());
        for n in 0..WAITING as u32 {
            assert_eq!(taken(&mut turns).unwrap().0, n, "one place: first come, first served");
        }
        assert!(taken(&mut turns).is_none());
    }
}
