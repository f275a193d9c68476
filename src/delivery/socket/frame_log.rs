//! The log of one channel view: its frames as ready-made bytes, the newest few megabytes of them. Owns memory and
//! offsets; knows no socket. A subscriber is an offset into it, so one that falls behind costs nothing; when it falls
//! off the end, it is told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::meter::Meter;
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
}

#[derive(Debug, Default)]
struct KeptFrames {
    /// whole frames each, oldest first, without a hole between them
    segments: VecDeque<Segment>,
    /// offset after the newest byte
    end: u64,
}

#[derive(Debug, Clone)]
struct Segment {
    start: u64,
    bytes: Bytes,
    appended: Instant,
}

/// What a reader has still to write, from its offset on.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// oldest first; the first one begins at the reader's offset
    pub bytes: Vec<Bytes>,
    /// whether the reader's offset is where a frame begins
    pub at_frame_boundary: bool,
}

impl Due {
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
        Self { kept: Mutex::default(), budget, meter, mark, is_of_claims: false }
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
        if frames.is_empty() {
            return;
        }
        let mut kept = self.lock();
        let start = kept.end;
        let newest = kept.segments.back().map_or(start, |newest| newest.start + newest.bytes.len() as u64);
        debug_assert_eq!(newest, start, "I6: a hole between two segments");
        kept.end += frames.len() as u64;
        kept.segments.push_back(Segment { start, bytes: frames, appended: Instant::now() });
        self.meter.add(SEGMENT);
        while kept.segments.len() > 1 && kept.end - kept.segments[0].start > self.budget {
            kept.segments.pop_front();
            self.meter.take(SEGMENT);
        }
    }

    /// Drops what ends before `offset`.
    pub fn forget_before(&self, offset: u64) {
        let mut kept = self.lock();
        while kept.segments.front().is_some_and(|oldest| oldest.start + oldest.bytes.len() as u64 <= offset) {
            kept.segments.pop_front();
            self.meter.take(SEGMENT);
        }
        if kept.segments.is_empty() {
            kept.segments = VecDeque::new();
        }
    }

    /// Bytes from the oldest frame that is kept on; others may share them.
    pub fn kept(&self) -> u64 {
        let kept = self.lock();
        kept.segments.front().map_or(0, |oldest| kept.end - oldest.start)
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
        let first = kept.segments.partition_point(|segment| segment.start <= offset).checked_sub(1).ok_or(FellOff)?;
        let segment = &kept.segments[first];
        let skip = (offset - segment.start) as usize;
        let mut bytes = Vec::with_capacity((kept.segments.len() - first).min(DUE_SEGMENTS));
        bytes.push(segment.bytes.slice(skip..));
        bytes.extend(kept.segments.range(first + 1..).take(DUE_SEGMENTS - 1).map(|segment| segment.bytes.clone()));
        Ok(Due { at_frame_boundary: skip == 0 || is_frame_boundary(&segment.bytes, skip), bytes })
    }

    /// For how long the oldest frame that follows `offset` has been here.
    pub fn wait(&self, offset: u64) -> Duration {
        let kept = self.lock();
        let first = kept.segments.partition_point(|segment| segment.start + segment.bytes.len() as u64 <= offset);
        kept.segments.get(first).map_or(Duration::ZERO, |oldest| oldest.appended.elapsed())
    }

    /// How many frames follow `offset`, one in whose middle it lies included. Looks at each of them.
    pub fn count(&self, offset: u64) -> u64 {
        let segments: Vec<_> = {
            let kept = self.lock();
            let first = kept.segments.partition_point(|segment| segment.start + segment.bytes.len() as u64 <= offset);
            kept.segments.range(first..).cloned().collect()
        };
        let frames = |segment: &Segment| {
            let (mut at, mut count) = (0, 0);
            while let Some(length) = segment.bytes.get(at..).and_then(frame_length) {
                at += length;
                count += u64::from(segment.start + at as u64 > offset);
            }
            count
        };
        segments.iter().map(frames).sum()
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
