//! How far a socket may write that is told the end of each cut, and where that end is due. Owns the place that all its
//! readers go to together; knows neither a log nor a frame, only offsets.
//!
//! Nothing is written beyond offsets that all have come to together before that is said. A slow socket passes over boundaries:
//! it is told the newest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::frontier::Frontier;

/// Where the readers of a socket go together; one entry for each of them, in their order.
#[derive(Debug)]
pub(crate) struct Cuts {
    frontier: Arc<Frontier>,
    /// the session's
    waker: Waker,
    /// how far each reader may write now
    until: Vec<u64>,
    /// the cursor there, where it is a boundary
    boundary: Option<Arc<str>>,
    /// something was said since the last boundary that was told
    is_due: bool,
    /// what was said was for this socket alone: a boundary follows it also where there is no reader
    is_wanted: bool,
    /// see [`Frontier::wait`]
    waits_since: u64,
    /// while the socket is held: each touch, and the cursor of the boundary before it, if it came at one
    held: VecDeque<(u64, Option<Arc<str>>)>,
}

impl Cuts {
    /// Of readers at these offsets; the next boundary is told them in any case.
    pub(crate) fn new(frontier: Arc<Frontier>, waker: Waker, until: Vec<u64>) -> Self {
        let (boundary, held) = (None, VecDeque::new());
        Self { frontier, waker, until, boundary, is_due: true, is_wanted: false, waits_since: 0, held }
    }

    /// The session's waker may become another one.
    pub(crate) fn wakes(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
    }

    /// One more reader, at another boundary than that of the others.
    pub(crate) fn add(&mut self, offset: u64) {
        self.until.push(offset);
        (self.boundary, self.is_due) = (None, true);
    }

    /// One reader less.
    pub(crate) fn remove(&mut self, index: usize) {
        self.until.remove(index);
    }

    /// All readers stop at this boundary, if it is one.
    pub(crate) fn hold(&mut self, touch: u64, boundary: Option<Arc<str>>) {
        self.held.push_back((touch, boundary));
    }

    /// They go on to before a touch, or as others do.
    pub(crate) fn release(&mut self, touch: Option<u64>) {
        self.held.retain(|(held, _)| touch.is_some_and(|touch| *held >= touch));
    }

    /// All readers have written what they may, and go on to where they are held: the cursor of the boundary that is to be told
    /// first, if they are at one.
    pub(crate) fn go_on_to_hold(&mut self, touch: u64, ends: Vec<u64>) -> Option<Arc<str>> {
        let held = self.held.front().filter(|(held, _)| *held == touch);
        let Some(here) = held.and_then(|(_, boundary)| boundary.clone()) else {
            self.go_on_apart(ends);
            return None;
        };
        let is_more = ends != self.until;
        let reached = self.boundary.take().or_else(|| (!is_more).then(|| here.clone())).filter(|_| self.is_due);
        if reached.is_some() {
            (self.is_due, self.is_wanted) = (false, false);
        }
        if is_more {
            (self.is_due, self.until, self.boundary) = (true, ends, Some(here));
        }
        reached
    }

    /// All readers have written what they may, and go on to where each waits, which is no boundary of all.
    pub(crate) fn go_on_apart(&mut self, ends: Vec<u64>) {
        if ends != self.until {
            (self.is_due, self.until, self.boundary) = (true, ends, None);
        }
    }

    /// How far a reader may write now.
    pub(crate) fn until(&self, index: usize) -> u64 {
        self.until[index]
    }

    /// Whether readers at these offsets have written what they may.
    pub(crate) fn are_there(&self, offsets: impl Iterator<Item = u64>) -> bool {
        offsets.zip(&self.until).all(|(offset, until)| offset >= *until)
    }

    /// Whether there is a limit for each of the readers at these offsets, and none is beyond its own.
    pub(crate) fn are_within(&self, offsets: impl ExactSizeIterator<Item = u64>) -> bool {
        offsets.len() == self.until.len() && offsets.zip(&self.until).all(|(offset, until)| offset <= *until)
    }

    /// The boundary that is due once the readers are there.
    pub(crate) fn due(&self) -> Option<&Arc<str>> {
        self.boundary.as_ref().filter(|_| self.is_due)
    }

    /// It was told.
    pub(crate) fn told(&mut self) {
        (self.boundary, self.is_due, self.is_wanted) = (None, false, false);
    }

    /// Something was said for this socket alone: a boundary follows it.
    pub(crate) fn want(&mut self) {
        (self.is_due, self.is_wanted) = (true, true);
    }

    /// All readers have written what they may, and go on to the `ends` of their logs: the cursor of the boundary that is to be
    /// told first, if they are at one. Where nothing follows, and a cut is arriving, the session is woken at its end.
    pub(crate) fn go_on(&mut self, ends: impl FnOnce() -> Vec<u64>) -> Option<Arc<str>> {
        let (ends, boundary) = self.frontier.look(ends);
        let is_more = ends != self.until;
        let reached = self.boundary.take().or_else(|| boundary.clone().filter(|_| !is_more));
        // there is nothing to be whole where no log is read, and nothing is to be shown
        let is_for_somebody = self.is_wanted || !ends.is_empty();
        let reached = reached.filter(|_| self.is_due && is_for_somebody);
        if reached.is_some() {
            (self.is_due, self.is_wanted) = (false, false);
        }
        if is_more {
            (self.is_due, self.until, self.boundary) = (true, ends, boundary);
        } else if self.is_due && is_for_somebody {
            self.frontier.wait(&self.waker, &mut self.waits_since);
        }
        reached
    }
}
