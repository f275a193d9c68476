//! Whose turn it is to be answered: who asks for one thing comes before another's second. Owns the order of those who
//! wait and how many of one asker are answered at a time; knows neither what they ask for nor who answers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many wait for their turn; beyond that they wait before they ask.
pub const WAITING: usize = 64;

/// The order. `T` is what is asked for.
#[derive(Debug)]
pub struct Turns<T> {
    at_a_time: usize,
    /// first come first
    waiting: VecDeque<(Arc<str>, T)>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// whose are answered now, and how many
    running: Mutex<HashMap<Arc<str>, usize>>,
    waiting: AtomicUsize,
}

/// A turn: the answer is given now. Over when dropped.
#[derive(Debug)]
pub struct Turn {
    asker: Arc<str>,
    shared: Arc<Shared>,
}

impl<T> Turns<T> {
    /// Nobody waits, and `at_a_time` are answered at a time. Of these one is never the same asker's as all others, so
    /// that whoever takes long over all of its own keeps nobody waiting.
    pub fn new(at_a_time: usize) -> Self {
        Self { at_a_time, waiting: VecDeque::new(), shared: Arc::default() }
    }

    /// Whether one more may wait.
    pub fn has_place(&self) -> bool {
        self.waiting.len() < WAITING
    }

    /// One more waits.
    pub fn wait(&mut self, asker: Arc<str>, what: T) {
        self.waiting.push_back((asker, what));
        self.shared.waiting.store(self.waiting.len(), Relaxed);
    }

    /// The next whose turn it is, if anybody's: who is answered least now, and of these who came first.
    pub fn next(&mut self) -> Option<(T, Turn)> {
        let place = {
            let running = lock(&self.shared.running);
            let all: usize = running.values().sum();
            let of = |asker: &Arc<str>| running.get(asker).copied().unwrap_or_default();
            let most = self.at_a_time.saturating_sub(1).max(1);
            let mut waiting = self.waiting.iter().enumerate();
            let mut best: Option<(usize, usize)> = None;
            while all < self.at_a_time
                && let Some((place, (asker, _))) = waiting.next()
            {
                let count = of(asker);
                if count < most && best.is_none_or(|(least, _)| count < least) {
                    best = Some((count, place));
                }
            }
            best?.1
        };
        let (asker, what) = self.waiting.remove(place)?;
        self.shared.waiting.store(self.waiting.len(), Relaxed);
        *lock(&self.shared.running).entry(asker.clone()).or_default() += 1;
        Some((what, Turn { asker, shared: self.shared.clone() }))
    }
}

impl Turn {
    /// Whether anybody waits.
    pub fn some_wait(&self) -> bool {
        self.shared.waiting.load(Relaxed) > 0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = lock(&self.shared.running);
        if let Some(count) = running.get_mut(&self.asker) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.asker);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(turns: &mut Turns<u32>) -> Option<(u32, Turn)> {
        turns.next()
    }

    #[test]
    fn one_wish_comes_before_anothers_second() {
        let mut turns = Turns::new(3);
        for n in 0..60 {
            turns.wait("greedy".into(), n);
        }
        let first = [taken(&mut turns).unwrap(), taken(&mut turns).unwrap()];
        assert_eq!(first.each_ref().map(|(n, _)| *n), [0, 1]);
        assert!(taken(&mut turns).is_none(), "the last place is for others");
        assert!(first[0].1.some_wait());
        turns.wait("calm".into(), 100);
        let (calm, turn) = taken(&mut turns).unwrap();
        assert_eq!(calm, 100);
        drop(turn);
        turns.wait("calm".into(), 101);
        turns.wait("other".into(), 200);
        let one = taken(&mut turns).unwrap();
        assert_eq!(one.0, 101);
        assert!(taken(&mut turns).is_none(), "three at a time");
        drop(first);
        let next: Vec<u32> =
            (0..2).map(|_| taken(&mut turns).map(|(n, turn)| (n, std::mem::forget(turn)).0).unwrap()).collect();
        assert_eq!(next, [2, 200], "who has nothing running comes first, and of these who waits longest");
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut turns = Turns::new(1);
        for n in 0..WAITING as u32 {
            assert!(turns.has_place());
            turns.wait(n.to_string().into(), n);
        }
        assert!(!turns.has_place());
        for n in 0..WAITING as u32 {
            assert_eq!(taken(&mut turns).unwrap().0, n, "one place: first come, first served");
        }
        assert!(taken(&mut turns).is_none());
    }
}
