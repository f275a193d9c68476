//! The log of one channel view: its frames as ready-made bytes, the newest few megabytes of them. Owns memory and
//! offsets; knows no socket. A subscriber is an offset into it, so one that falls behind costs nothing; when it falls
//! off the end, it is told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::meter::Meter;
use super::newest::{self, NewestFrames};
use crate::delivery::wire::frame::{frame_length, is_frame_boundary};
use crate::sync::lock;

/// The frames of a view.
#[derive(Debug)]
pub struct FrameLog {
    kept: Mutex<KeptFrames>,
    /// bytes that are kept at most, besides the newest segment
    budget: u64,
    /// of all logs
    meter: Arc<Meter>,
    /// follows each cursor in its frames: which rights they were made for
    mark: String,
    /// they depend on claims whose values stand in tables
    is_of_claims: bool,
    /// it tells the newest change of each row, and this where even those are too many to keep
    gap: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct KeptFrames {
    /// whole frames each, oldest first, without a hole between them
    segments: VecDeque<Segment>,
    /// offset after the newest byte
    end: u64,
    /// of a log of the newest change of each row
    newest: Option<Box<NewestFrames>>,
}

#[derive(Debug, Clone)]
struct Segment {
    start: u64,
    bytes: Bytes,
    appended: Instant,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// What a reader has still to write, from its offset on.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// oldest first; the first one begins at the reader's offset
    pub bytes: Vec<Bytes>,
    /// whether the reader's offset is where a frame begins
    pub at_frame_boundary: bool,
}

/// What a reader of the newest change of each row is given in the place of what the log had where the reader is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InPlace {
    /// nothing: that is still in the log
    Nothing,
    /// whole frames, and where it goes on
    Frames(Vec<Bytes>, u64),
    /// this message, and where it goes on
    Gap(Box<str>, u64),
}

impl Due {
    /// The rest of the frame in which so many bytes end; the first frame begins where the reader is.
    pub(crate) fn rest_of_frame(&self, written: usize) -> Bytes {
        debug_assert!(self.at_frame_boundary, "where the reader is, no frame begins");
        let mut left = written;
        for bytes in &self.bytes {
            if left < bytes.len() {
                let mut at = 0;
                while at < left {
                    let Some(length) = bytes.get(at..).and_then(frame_length) else { break };
                    at += length;
                }
                return bytes.slice(left..at.max(left));
            }
            left -= bytes.len();
        }
        Bytes::new()
    }

    /// Leaves no more than so many bytes.
    pub(crate) fn end_after(&mut self, most: u64) {
        let mut left = usize::try_from(most).unwrap_or(usize::MAX);
        self.bytes.retain_mut(|bytes| {
            bytes.truncate(left);
            left -= bytes.len();
            !bytes.is_empty()
        });
    }
}

/// The reader's offset is older than what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FellOff;

/// Bytes of a segment beside its frames, which logs may share: its place in a queue that may be half empty.
const SEGMENT: u64 = 2 * size_of::<Segment>() as u64;

/// Segments written at a time: a writev of more gains nothing (the kernel's own limit is 1,024).
pub const DUE_SEGMENTS: usize = 64;

impl FrameLog {
    /// An empty log that keeps `budget` bytes; `mark` follows the cursors of its frames.
    pub fn new(budget: u64, meter: Arc<Meter>, mark: String) -> Self {
        Self { kept: Mutex::default(), budget, meter, mark, is_of_claims: false, gap: None }
    }

    /// The same, of the newest change of each row: a reader that falls off is given those, or told `gap` where they are more
    /// than the log keeps.
    pub fn of_newest(mut self, gap: String) -> Self {
        let newest = NewestFrames::new(self.budget, self.meter.clone());
        self.kept = Mutex::new(KeptFrames { newest: Some(Box::new(newest)), ..KeptFrames::default() });
        self.gap = Some(gap.into());
        self
    }

    /// Whether it is of the newest change of each row.
    pub fn is_of_newest(&self) -> bool {
        self.gap.is_some()
    }

    /// The same, where its frames depend on claims whose values stand in tables: then a socket may be held.
    pub fn of_claims(mut self, is_of_claims: bool) -> Self {
        self.is_of_claims = is_of_claims;
        self
    }

    /// Whether its frames depend on claims whose values stand in tables.
    pub fn is_of_claims(&self) -> bool {
        self.is_of_claims
    }

    /// Follows each cursor in its frames.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Appends whole frames. Drops the oldest segments beyond the budget.
    pub fn append(&self, frames: Bytes) {
        self.append_of_rows(frames, |length| vec![(length, None)]);
    }

    /// The same to a log of the newest change of each row: `rows` says of how many bytes each frame is, and of which row. One
    /// without a row stands for itself.
    pub fn append_newest(&self, frames: Bytes, rows: Vec<(usize, Option<Arc<str>>)>) {
        debug_assert_eq!(rows.iter().map(|(length, _)| length).sum::<usize>(), frames.len(), "frames without a row");
        self.append_of_rows(frames, |_| rows);
    }

    fn append_of_rows(&self, frames: Bytes, rows: impl FnOnce(usize) -> Vec<(usize, Option<Arc<str>>)>) {
        if frames.is_empty() {
            return;
        }
        let mut kept = self.lock();
        let start = kept.end;
        let newest = kept.segments.back().map_or(start, Segment::end);
        debug_assert_eq!(newest, start, "I6: a hole between two segments");
        kept.end += frames.len() as u64;
        if let Some(newest) = &mut kept.newest {
            newest.append(start, rows(frames.len()));
        }
        kept.segments.push_back(Segment { start, bytes: frames, appended: Instant::now() });
        self.meter.add(SEGMENT);
        while kept.segments.len() > 1 && kept.end - kept.segments[0].start > self.budget {
            self.retire_oldest(&mut kept);
        }
    }

    /// Of a log of the newest change of each row: what ends before `offset` is kept only as far as nothing newer has taken its
    /// place.
    pub fn retire_before(&self, offset: u64) {
        let mut kept = self.lock();
        while kept.segments.front().is_some_and(|oldest| oldest.end() <= offset) {
            self.retire_oldest(&mut kept);
        }
    }

    fn retire_oldest(&self, kept: &mut KeptFrames) {
        let Some(oldest) = kept.segments.pop_front() else { return };
        self.meter.take(SEGMENT);
        match &mut kept.newest {
            // a socket may be held where nothing may be missing before, and nothing from behind may stand for it
            Some(newest) if self.is_of_claims => newest.lose_oldest(oldest.end()),
            Some(newest) => newest.keep_oldest(&oldest.bytes),
            None => {}
        }
    }

    /// Drops what ends before `offset`.
    pub fn forget_before(&self, offset: u64) {
        let mut kept = self.lock();
        while let Some(oldest) = kept.segments.front().filter(|oldest| oldest.end() <= offset) {
            let end = oldest.end();
            kept.segments.pop_front();
            self.meter.take(SEGMENT);
            if let Some(newest) = &mut kept.newest {
                newest.lose_oldest(end);
            }
        }
        if let Some(newest) = &mut kept.newest {
            newest.forget_before(offset);
        }
        if kept.segments.is_empty() {
            kept.segments = VecDeque::new();
        }
    }

    /// Bytes from the oldest frame that is kept on; others may share them.
    pub fn kept(&self) -> u64 {
        let kept = self.lock();
        let first = kept.newest.as_ref().and_then(|newest| newest.first());
        first.or_else(|| kept.segments.front().map(|oldest| oldest.start)).map_or(0, |first| kept.end - first)
    }

    /// The offset after the newest frame.
    pub fn end(&self) -> u64 {
        self.lock().end
    }

    /// What follows `offset`, at most 64 segments of it.
    ///
    /// # Errors
    /// [`FellOff`] when a part of it is no longer kept.
    pub fn due(&self, offset: u64) -> Result<Due, FellOff> {
        let kept = self.lock();
        debug_assert!(offset <= kept.end, "I6: a reader at {offset}, the log ends at {}", kept.end);
        if offset >= kept.end {
            return Ok(Due { bytes: Vec::new(), at_frame_boundary: true });
        }
        let first = match kept.segments.partition_point(|segment| segment.start <= offset).checked_sub(1) {
            Some(first) => first,
            // it is given something in the place of that first
            None if kept.newest.is_some() => return Ok(Due { bytes: Vec::new(), at_frame_boundary: true }),
            None => return Err(FellOff),
        };
        let segment = &kept.segments[first];
        let skip = (offset - segment.start) as usize;
        let mut bytes = Vec::with_capacity((kept.segments.len() - first).min(DUE_SEGMENTS));
        bytes.push(segment.bytes.slice(skip..));
        bytes.extend(kept.segments.range(first + 1..).take(DUE_SEGMENTS - 1).map(|segment| segment.bytes.clone()));
        Ok(Due { at_frame_boundary: skip == 0 || is_frame_boundary(&segment.bytes, skip), bytes })
    }

    /// What a reader at `offset`, where a frame begins, is given in the place of what the log had there: up to `until`, and about
    /// `most` bytes of it.
    pub(crate) fn in_place(&self, offset: u64, until: u64, most: usize) -> InPlace {
        let Some(gap) = &self.gap else { return InPlace::Nothing };
        let kept = self.lock();
        let first = kept.segments.front().map_or(kept.end, |oldest| oldest.start);
        let Some(newest) = kept.newest.as_ref().filter(|_| offset < first.min(until)) else { return InPlace::Nothing };
        match newest.behind(offset, first.min(until), most) {
            newest::Behind::By(frames, next) => InPlace::Frames(frames, next),
            newest::Behind::Lost => InPlace::Gap(gap.clone(), kept.end.min(until)),
        }
    }

    /// For how long the oldest frame that follows `offset` has been here.
    pub fn wait(&self, offset: u64) -> Duration {
        let kept = self.lock();
        let first = kept.segments.partition_point(|segment| segment.end() <= offset);
        kept.segments.get(first).map_or(Duration::ZERO, |oldest| oldest.appended.elapsed())
    }

    /// How many frames follow `offset`, one in whose middle it lies included. Looks at each of them.
    pub fn count(&self, offset: u64) -> u64 {
        let (segments, retired): (Vec<_>, u64) = {
            let kept = self.lock();
            let first = kept.segments.partition_point(|segment| segment.end() <= offset);
            let retired = kept.newest.as_ref().map_or(0, |newest| newest.count(offset));
            (kept.segments.range(first..).cloned().collect(), retired)
        };
        let frames = |segment: &Segment| {
            let (mut at, mut count) = (0, 0);
            while let Some(length) = segment.bytes.get(at..).and_then(frame_length) {
                at += length;
                count += u64::from(segment.start + at as u64 > offset);
            }
            count
        };
        segments.iter().map(frames).sum::<u64>() + retired
    }

    /// The rest of the frame in whose middle `offset` lies.
    pub fn rest_of_frame(&self, offset: u64) -> Option<Bytes> {
        let kept = self.lock();
        let first = kept.segments.partition_point(|segment| segment.start <= offset).checked_sub(1)?;
        let segment = &kept.segments[first];
        let skip = usize::try_from(offset - segment.start).ok()?;
        let mut at = 0;
        while at < skip {
            at += frame_length(segment.bytes.get(at..)?)?;
        }
        segment.bytes.get(skip..at)?;
        Some(segment.bytes.slice(skip..at))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, KeptFrames> {
        lock(&self.kept)
    }
}

impl Drop for FrameLog {
    fn drop(&mut self) {
        self.meter.take(SEGMENT * self.lock().segments.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::wire::frame::text_frame;

    fn log(budget: u64) -> FrameLog {
        FrameLog::new(budget, Meter::new(1 << 20), String::new())
    }

    fn frames(texts: &[&str]) -> Bytes {
        texts.iter().flat_map(|text| text_frame(text)).collect::<Vec<u8>>().into()
    }

    #[test]
    fn a_reader_gets_what_follows_its_offset() {
        let log = log(1000);
        log.append(frames(&["one", "two"]));
        let after = log.end();
        log.append(frames(&["three"]));
        assert_eq!(log.due(0).unwrap().bytes.concat(), frames(&["one", "two", "three"]));
        assert_eq!(log.due(after).unwrap().bytes.concat(), frames(&["three"]));
        assert!(log.due(log.end()).unwrap().bytes.is_empty());
    }

    #[test]
    fn a_reader_inside_a_frame_is_told_so() {
        let log = log(1000);
        log.append(frames(&["one", "two"]));
        assert!(log.due(5).unwrap().at_frame_boundary);
        assert!(!log.due(6).unwrap().at_frame_boundary);
    }

    #[test]
    fn logs_that_are_gone_hold_nothing() {
        let meter = Meter::new(1000);
        let (one, two) =
            (FrameLog::new(1000, meter.clone(), String::new()), FrameLog::new(1000, meter.clone(), String::new()));
        let shared = meter.hold(vec![0; 500]);
        one.append(shared.clone());
        two.append(shared);
        assert!((500..900).contains(&meter.held()), "{}", meter.held());
        one.forget_before(one.end());
        drop(two);
        assert_eq!(meter.held(), 0);
    }

    #[test]
    fn what_a_reader_has_not_taken_is_counted() {
        let log = log(1000);
        log.append(frames(&["one", "two"]));
        log.append(frames(&["three"]));
        for (offset, count) in [(0, 3), (5, 2), (6, 2), (10, 1), (11, 1), (17, 0)] {
            assert_eq!(log.count(offset), count, "{offset}");
        }
        assert!(log.wait(0) >= log.wait(10) && log.wait(17).is_zero());
    }

    #[test]
    fn who_falls_behind_the_budget_falls_off() {
        let log = log(20);
        for _ in 0..10 {
            log.append(frames(&["12345678"]));
        }
        assert_eq!(log.due(0).unwrap_err(), FellOff);
        assert_eq!(log.due(80).unwrap().bytes.concat().len(), 20);
    }

    #[test]
    fn what_is_forgotten_is_missed_only_by_who_had_not_written_it() {
        let log = log(1000);
        log.append(frames(&["one"]));
        let mark = log.end();
        log.append(frames(&["two"]));
        log.forget_before(mark);
        assert_eq!(log.due(0).unwrap_err(), FellOff);
        assert_eq!(log.due(mark).unwrap().bytes.concat(), frames(&["two"]));
        log.forget_before(log.end());
        assert_eq!(log.due(mark).unwrap_err(), FellOff);
        assert!(log.due(log.end()).unwrap().bytes.is_empty());
    }
}
