//! What is owed to one socket: frames for it alone, and its offsets in the frame logs that it reads. Owns their order on the
//! wire and where frames begin there; knows no socket, only a function that takes bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::cuts::Cuts;
use super::frame_log::{DUE_SEGMENTS, Due, FellOff, FrameLog, InPlace};
use super::frontier::Frontier;
use crate::delivery::wire::frame::{self, CloseCode};
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;

/// Answers that wait for a client to read them: pongs, errors, echoes. One that lets more pile up is dropped.
const ANSWER_BYTES: u32 = 1 << 20;

/// A socket that is too slow for a log of the newest change of each row is given so many bytes of those at a time.
const IN_PLACE_BYTES: usize = 64 << 10;

/// What a socket still takes. It does not go back to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Life {
    /// whatever there is
    #[default]
    Open,
    /// what was put before the close frame, and that
    Closing,
    /// nothing: the connection broke, or what followed would stand in the middle of a frame
    Broken,
    /// nothing: the client did not answer a ping
    Silent,
}

impl Life {
    /// Whether nothing can be written any more.
    pub(crate) fn is_over(self) -> bool {
        self >= Self::Broken
    }
}

/// What is owed.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    /// Frames for this socket alone: answers, pings, close. They leave at the next boundary of a frame.
    control: Vec<u8>,
    /// bytes of answers among them, since it was last empty
    answers: u32,
    readers: Vec<LogReader>,
    /// whose frame is cut in half on the wire: only its rest may follow
    half: Half,
    life: Life,
    /// how often `control` was written to its end; wraps
    emptied: u16,
    /// where it is told the end of each cut
    cuts: Option<Box<Cuts>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Half {
    #[default]
    None,
    Control,
    /// its index; small, as there are many sockets
    Reader(u32),
}

/// A place in a frame log.
#[derive(Debug)]
struct LogReader {
    log: Arc<FrameLog>,
    subscription: u64,
    offset: u64,
    /// no further than the first of these, while what its holder has of claims is in doubt: the touches, and where its log ended
    /// before each
    #[allow(clippy::box_collection, reason = "there are many readers, and few are held")]
    holds: Option<Box<VecDeque<(u64, u64)>>>,
}

impl LogReader {
    /// No further than here.
    fn until(&self) -> Option<u64> {
        self.holds.as_ref()?.front().map(|(_, until)| *until)
    }
}

/// A log that nothing follows in any more, and how its sockets are told.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) log: Arc<FrameLog>,
    /// where it is all that a socket follows
    pub(crate) code: CloseCode,
    pub(crate) reason: Arc<str>,
    /// where a socket follows others
    pub(crate) message: Arc<str>,
}

/// More answers wait than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyAnswers;

/// What a write has done.
pub(crate) enum Written {
    /// nothing was due
    Nothing,
    /// so many bytes, and nothing more is due
    All(usize),
    /// so many bytes, and there may be more
    Part(usize),
}

/// Why nothing was written.
pub(crate) enum Unwritten {
    /// a place is no longer kept
    FellOff,
    /// the socket says so
    Io(io::Error),
}

/// Most sockets of a shard are at the same offset of the same log: what is due to one is due to the next.
#[derive(Debug, Default)]
pub struct DueCache(Option<(Arc<FrameLog>, u64, Due)>);

impl SendQueue {
    /// Lets `write` append whole frames that answer the client.
    pub(crate) fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooManyAnswers> {
        let before = self.control.len();
        write(&mut self.control);
        self.answers = self.answers.saturating_add((self.control.len() - before) as u32);
        if self.answers <= ANSWER_BYTES {
            return Ok(());
        }
        // a close frame would only join the others
        self.control = Vec::new();
        Err(TooManyAnswers)
    }

    /// Appends whole frames for this socket alone, as many as its maker holds back others for.
    pub(crate) fn put(&mut self, frames: &[u8]) {
        self.control.extend_from_slice(frames);
    }

    /// Tells the end of each cut from now on; `waker` is the session's, which may become another one.
    pub(crate) fn tell_cuts(&mut self, frontier: &Arc<Frontier>, waker: &Waker) {
        if self.life != Life::Open {
            return;
        }
        match &mut self.cuts {
            Some(cuts) => cuts.wakes(waker),
            None => {
                let until = self.readers.iter().map(|reader| reader.offset).collect();
                self.cuts = Some(Box::new(Cuts::new(frontier.clone(), waker.clone(), until)));
            }
        }
    }

    /// Whether frames for this socket alone wait.
    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// How often all frames for this socket alone were written. What is put is written when it happens next: a reader that is too
    /// slow for its log fills their place again at once.
    pub(crate) fn emptied(&self) -> u16 {
        self.emptied
    }

    /// Reads a log from `offset` on, after `messages`.
    pub(crate) fn follow(&mut self, log: Arc<FrameLog>, subscription: u64, offset: u64, messages: &[&str]) {
        messages.iter().for_each(|message| frame::push_text_frame(&mut self.control, message));
        // most sockets read one log: a vector of four places would be memory for three that never come
        self.readers.reserve_exact(1);
        self.readers.push(LogReader { log, subscription, offset, holds: None });
        if let Some(cuts) = &mut self.cuts {
            cuts.add(offset);
        }
    }

    /// What depends on claims is written up to where its log ends now, and no further, until this touch is released. Where
    /// the ends of cuts are told, so is all else: to `boundary`, if the logs end at one.
    pub(crate) fn hold(&mut self, touch: u64, boundary: Option<&Arc<str>>) {
        if !self.readers.iter().any(|reader| reader.log.is_of_claims()) {
            return;
        }
        let all = self.cuts.is_some();
        for reader in self.readers.iter_mut().filter(|reader| all || reader.log.is_of_claims()) {
            let end = reader.log.end();
            reader.holds.get_or_insert_default().push_back((touch, end));
        }
        if let Some(cuts) = &mut self.cuts {
            cuts.hold(touch, boundary.cloned());
        }
    }

    /// These subscriptions go on: up to `touch`, or as others do. Where the ends of cuts are told, all do together.
    pub(crate) fn release(&mut self, subscriptions: &[u64], touch: Option<u64>) {
        let is_one = |reader: &LogReader| subscriptions.contains(&reader.subscription);
        if let Some(cuts) = &mut self.cuts {
            if !self.readers.iter().all(|reader| is_one(reader) || !reader.log.is_of_claims()) {
                return;
            }
            cuts.release(touch);
        }
        let all = self.cuts.is_some();
        for reader in self.readers.iter_mut().filter(|reader| all || is_one(reader)) {
            let Some(holds) = &mut reader.holds else { continue };
            holds.retain(|(held, _)| touch.is_some_and(|touch| *held >= touch));
            if holds.is_empty() {
                reader.holds = None;
            }
        }
    }

    /// Before which touch a subscription is held, and where its log ended there.
    pub(crate) fn held(&self, subscription: u64) -> Option<(u64, u64)> {
        let reader = self.readers.iter().find(|reader| reader.subscription == subscription)?;
        reader.holds.as_ref()?.front().copied()
    }

    /// Stops following; `false` where this subscription does not.
    pub(crate) fn leave(&mut self, subscription: u64) -> bool {
        let index = self.readers.iter().position(|reader| reader.subscription == subscription);
        if let Some(index) = index {
            self.stop(index);
        }
        index.is_some()
    }

    fn stop(&mut self, index: usize) {
        self.finish_half();
        self.readers.remove(index);
        if let Some(cuts) = &mut self.cuts {
            cuts.remove(index);
        }
    }

    /// Stops reading logs that are no more, and says of each its message; `false` where it reads no other. One that it
    /// does not follow yet is not spoken of.
    pub(crate) fn lose(&mut self, lost: &[Lost]) -> bool {
        let of = |reader: &LogReader| lost.iter().find(|lost| Arc::ptr_eq(&lost.log, &reader.log));
        if !self.readers.is_empty() && self.readers.iter().all(|reader| of(reader).is_some()) {
            return false;
        }
        while let Some((index, lost)) =
            self.readers.iter().enumerate().find_map(|(index, reader)| Some((index, of(reader)?)))
        {
            self.stop(index);
            frame::push_text_frame(&mut self.control, &lost.message);
        }
        true
    }

    /// Puts a close frame, which nothing follows; whether there was none yet.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) -> bool {
        if self.life != Life::Open {
            return false;
        }
        self.finish_half();
        self.readers.clear();
        self.cuts = None;
        frame::push_close_frame(&mut self.control, code, reason);
        self.end(Life::Closing);
        true
    }

    /// Whether a reader of `log` has not come to the end of its log.
    pub(crate) fn is_behind(&self, log: &FrameLog) -> bool {
        let mut readers = self.readers.iter();
        readers.any(|reader| std::ptr::eq(&*reader.log, log) && reader.offset < log.end())
    }

    /// The logs of the newest change of each row that it reads.
    pub(crate) fn newest_logs(&self) -> Vec<Arc<FrameLog>> {
        self.readers.iter().filter(|reader| reader.log.is_of_newest()).map(|reader| reader.log.clone()).collect()
    }

    /// The logs of which something is still due, and how far the reader of each has come.
    pub(crate) fn behind(&self) -> Vec<(Arc<FrameLog>, u64)> {
        let behind = self.readers.iter().filter(|reader| reader.offset < reader.log.end());
        behind.map(|reader| (reader.log.clone(), reader.offset)).collect()
    }

    /// Where the reader of `log` is that has come least far.
    pub(crate) fn place_in(&self, log: &FrameLog) -> Option<u64> {
        let mine = self.readers.iter().filter(|reader| std::ptr::eq(&*reader.log, log));
        mine.map(|reader| reader.offset).min()
    }

    /// What the logs hold now and was not written: of each such reader its subscription, and the end of its log.
    pub(crate) fn owed(&self) -> Vec<(u64, u64)> {
        let ends = self.readers.iter().map(|reader| (reader, reader.log.end()));
        ends.filter(|(reader, end)| reader.offset < *end).map(|(reader, end)| (reader.subscription, end)).collect()
    }

    /// Whether a subscription is still followed, and has not come to this offset.
    pub(crate) fn owes(&self, subscription: u64, until: u64) -> bool {
        let mut readers = self.readers.iter();
        readers.any(|reader| reader.subscription == subscription && reader.offset < until)
    }

    /// Where the ends of cuts are told: one follows what was put so far.
    pub(crate) fn want_cut(&mut self) {
        if let Some(cuts) = &mut self.cuts {
            cuts.want();
        }
    }

    /// What the socket still takes.
    pub(crate) fn life(&self) -> Life {
        self.life
    }

    /// It takes no more than this from now on.
    pub(crate) fn end(&mut self, life: Life) {
        self.life = self.life.max(life);
    }

    /// Whether a frame of a log is cut in half on the wire.
    pub(crate) fn is_inside_a_frame(&self) -> bool {
        matches!(self.half, Half::Reader(_))
    }

    /// Whether a place is no longer kept.
    pub(crate) fn has_fallen_off(&self) -> bool {
        self.readers.iter().any(|reader| reader.log.due(reader.offset).is_err())
    }

    /// One write of everything that is due: the frame that is cut in half goes on first, then control, then the logs.
    pub(crate) fn write(
        &mut self,
        cache: &mut DueCache,
        send: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Result<Written, Unwritten> {
        self.come_to_boundary();
        self.take_in_place();
        debug_assert!(
            self.cuts.as_ref().is_none_or(|cuts| cuts.are_within(self.readers.iter().map(|reader| reader.offset))),
            "I7: a reader is beyond the boundary that is to be told"
        );
        debug_assert!(
            self.readers.iter().all(|reader| reader.until().is_none_or(|until| reader.offset <= until)),
            "I20: a reader is beyond the cut before which it is held"
        );
        // what nearly every socket is at nearly every time
        if let ([reader @ LogReader { holds: None, .. }], true, None) =
            (&mut self.readers[..], self.control.is_empty(), &self.cuts)
        {
            let due = cache.due(reader)?;
            let written = match &due.bytes[..] {
                [] => return Ok(Written::Nothing),
                [only] => send(&[IoSlice::new(only)])?,
                many => send(&many.iter().map(|bytes| IoSlice::new(bytes)).collect::<Vec<_>>())?,
            };
            reader.offset += written as u64;
            let is_all = written == length(due);
            // what was due is bounded in segments, so there may be more
            let has_more = due.bytes.len() >= DUE_SEGMENTS;
            let rest = (!is_all && reader.log.is_of_newest()).then(|| due.rest_of_frame(written));
            self.half = if is_all { Half::None } else { self.half_after(0, rest) };
            return Ok(if is_all && !has_more { Written::All(written) } else { Written::Part(written) });
        }
        let mut all_due = Vec::with_capacity(self.readers.len());
        for (index, reader) in self.readers.iter().enumerate() {
            let mut due = cache.due(reader)?.clone();
            if let Some(cuts) = &self.cuts {
                due.end_after(cuts.until(index) - reader.offset);
            }
            if let Some(until) = reader.until() {
                due.end_after(until.saturating_sub(reader.offset));
            }
            all_due.push(due);
        }
        let first = match self.half {
            Half::Reader(index) => Some(index as usize),
            Half::None | Half::Control => None,
        };
        let others = (0..self.readers.len()).filter(|index| Some(*index) != first);
        // a reader's index, or control
        let order: Vec<Option<usize>> = first.into_iter().map(Some).chain([None]).chain(others.map(Some)).collect();
        let mut slices = Vec::new();
        for part in &order {
            match part {
                None => slices.push(IoSlice::new(&self.control)),
                Some(index) => slices.extend(all_due[*index].bytes.iter().map(|bytes| IoSlice::new(bytes))),
            }
        }
        // the end of the cut leaves in the same write, where this one comes to it
        let end = self.end_of_cut(&all_due);
        slices.extend(end.as_deref().map(IoSlice::new));
        slices.retain(|slice| !slice.is_empty());
        if slices.is_empty() {
            return Ok(Written::Nothing);
        }
        let written = send(&slices)?;
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        let before = all - end.as_ref().map_or(0, Vec::len);
        drop(slices);
        self.account(written.min(before), &order, &all_due);
        if let (Some(end), Some(cuts), true) = (end, &mut self.cuts, written > before) {
            cuts.told();
            let rest = &end[written - before..];
            if !rest.is_empty() {
                self.control.extend_from_slice(rest);
                self.half = Half::Control;
            } else if self.readers.iter().all(|reader| reader.offset == reader.log.end()) {
                return Ok(Written::All(written));
            }
            // what came while this cut was on its way: no shard comes to a blocked socket for it
        }
        Ok(Written::Part(written))
    }

    /// The frame that tells the boundary, where what is due comes to it.
    fn end_of_cut(&self, all_due: &[Due]) -> Option<Vec<u8>> {
        let cuts = self.cuts.as_ref().filter(|_| !all_due.is_empty())?;
        let cursor = cuts.due()?;
        let after = self.readers.iter().zip(all_due).map(|(reader, due)| reader.offset + length(due) as u64);
        cuts.are_there(after).then(|| self.cut_frame(cursor))
    }

    /// Views of other rights have other cursors at one place, and a view of the newest changes may owe some from before it: then
    /// there is none that all of them take.
    fn cut_frame(&self, cursor: &str) -> Vec<u8> {
        let mark = self.readers.first().map(|reader| reader.log.mark());
        let takes = |reader: &LogReader, mark| reader.log.mark() == mark && !reader.log.is_of_newest();
        let mark = mark.filter(|mark| self.readers.iter().all(|reader| takes(reader, *mark)));
        let cursor = mark.map(|rights| ResumeToken::of(cursor, rights).to_string());
        frame::text_frame(&protocol::cut(cursor.as_deref()))
    }

    /// Where every reader has written what it may: tells the boundary, if it is one, and lets them go on.
    fn come_to_boundary(&mut self) {
        let Some(cuts) = &mut self.cuts else { return };
        let readers = &self.readers;
        if !cuts.are_there(readers.iter().map(|reader| reader.offset)) {
            return;
        }
        let first = readers.iter().find_map(|reader| reader.holds.as_ref()?.front()).map(|(touch, _)| *touch);
        let reached = match first {
            None => cuts.go_on(|| readers.iter().map(|reader| reader.log.end()).collect()),
            Some(touch) => {
                let end = |reader: &LogReader| {
                    let (held, until) = reader.holds.as_ref()?.front()?;
                    (*held == touch).then_some(*until)
                };
                let ends: Vec<Option<u64>> = readers.iter().map(end).collect();
                let all: Option<Vec<u64>> = ends.iter().copied().collect();
                match all {
                    Some(all) => cuts.go_on_to_hold(touch, all),
                    // one that follows since is beyond the cut before which the others are held: it waits, and no cut is told
                    None => {
                        let ends = readers.iter().zip(ends).map(|(reader, end)| end.unwrap_or(reader.offset));
                        cuts.go_on_apart(ends.collect());
                        None
                    }
                }
            }
        };
        if let Some(cursor) = reached {
            let frame = self.cut_frame(&cursor);
            self.control.extend_from_slice(&frame);
        }
    }

    /// Moves on by what was written of the parts in their order.
    fn account(&mut self, written: usize, order: &[Option<usize>], all_due: &[Due]) {
        let had_control = self.has_control();
        let mut left = written;
        for part in order {
            if left == 0 {
                break;
            }
            let taken = match part {
                None => {
                    let taken = left.min(self.control.len());
                    self.half = if taken == self.control.len() { Half::None } else { Half::Control };
                    self.control.drain(..taken);
                    if taken > 0 && self.control.is_empty() {
                        self.emptied = self.emptied.wrapping_add(1);
                        self.answers = 0;
                    }
                    taken
                }
                Some(index) => {
                    let due = length(&all_due[*index]);
                    let taken = left.min(due);
                    let reader = &mut self.readers[*index];
                    reader.offset += taken as u64;
                    let rest = (taken < due && reader.log.is_of_newest()).then(|| all_due[*index].rest_of_frame(taken));
                    self.half = if taken == due { Half::None } else { self.half_after(*index, rest) };
                    taken
                }
            };
            left -= taken;
        }
        if had_control && !self.has_control() {
            // few sockets say anything of their own, and then seldom
            self.control = Vec::new();
            self.answers = 0;
        }
    }

    /// A reader that is too slow for its log of the newest change of each row is given those, a piece at a time.
    fn take_in_place(&mut self) {
        if !self.control.is_empty() {
            return;
        }
        for (index, reader) in self.readers.iter_mut().enumerate() {
            if self.control.len() >= IN_PLACE_BYTES {
                break;
            }
            let until = self.cuts.as_ref().map_or(u64::MAX, |cuts| cuts.until(index));
            let until = until.min(reader.until().unwrap_or(u64::MAX));
            match reader.log.in_place(reader.offset, until, IN_PLACE_BYTES) {
                InPlace::Nothing => {}
                InPlace::Frames(frames, next) => {
                    frames.iter().for_each(|frame| self.control.extend_from_slice(frame));
                    reader.offset = next;
                }
                InPlace::Gap(message, next) => {
                    frame::push_text_frame(&mut self.control, &message);
                    reader.offset = next;
                }
            }
        }
    }

    /// Moves the rest of a frame that is cut in half into `control`, so that its reader may go.
    fn finish_half(&mut self) {
        let Half::Reader(index) = self.half else { return };
        let reader = &mut self.readers[index as usize];
        let Some(rest) = reader.log.rest_of_frame(reader.offset) else {
            self.end(Life::Broken);
            self.half = Half::None;
            return;
        };
        // this reader may stay: what control sends now is not to be sent again
        reader.offset += rest.len() as u64;
        self.control.splice(..0, rest.iter().copied());
        self.half = Half::Control;
    }

    /// Of a reader that has written a part of what was due. `rest`: of its frame, where that may be kept no longer than now.
    fn half_after(&mut self, index: usize, rest: Option<Bytes>) -> Half {
        let reader = &mut self.readers[index];
        if let Some(rest) = rest {
            reader.offset += rest.len() as u64;
            self.control.splice(..0, rest.iter().copied());
            return if rest.is_empty() { Half::None } else { Half::Control };
        }
        match reader.log.due(reader.offset) {
            Ok(due) if due.at_frame_boundary => Half::None,
            Ok(_) | Err(FellOff) => Half::Reader(index as u32),
        }
    }
}

impl DueCache {
    fn due(&mut self, reader: &LogReader) -> Result<&Due, FellOff> {
        let fits =
            self.0.as_ref().is_some_and(|(log, offset, _)| *offset == reader.offset && Arc::ptr_eq(log, &reader.log));
        if !fits {
            self.0 = Some((reader.log.clone(), reader.offset, reader.log.due(reader.offset)?));
        }
        self.0.as_ref().map(|(_, _, due)| due).ok_or(FellOff)
    }
}

fn length(due: &Due) -> usize {
    due.bytes.iter().map(Bytes::len).sum()
}

impl From<FellOff> for Unwritten {
    fn from(FellOff: FellOff) -> Self {
        Self::FellOff
    }
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests;
