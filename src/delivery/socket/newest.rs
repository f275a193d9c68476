//! Of a log of the newest change of each row: the frames that have left it and are still the newest of their rows. Owns
//! which frame takes the place of which; knows no reader. A reader that is too slow for the log is given these, so what it
//! misses is what nobody needs any more.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::meter::Meter;

/// Where a frame is in the log, and of which row it is the newest; `None`: it stands for itself, as a `gap` does.
#[derive(Debug)]
struct Frame {
    start: u64,
    length: usize,
    row: Option<Arc<str>>,
}

/// A frame that has left the log's segments.
#[derive(Debug)]
struct KeptFrame {
    row: Option<Arc<str>>,
    bytes: Bytes,
}

/// The newest frames.
#[derive(Debug)]
pub(super) struct NewestFrames {
    /// where the newest frame of each row begins
    places: HashMap<Arc<str>, u64>,
    /// the frames of each segment of the log, oldest first
    segments: VecDeque<Vec<Frame>>,
    /// those that are in no segment any more, by where they began
    kept: BTreeMap<u64, KeptFrame>,
    bytes: u64,
    budget: u64,
    /// a frame before this may be missing
    lost_before: u64,
    meter: Arc<Meter>,
}

/// What a reader is given that is behind the segments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// whole frames, and where it goes on
    By(Vec<Bytes>, u64),
    /// something is missing
    Lost,
}

impl NewestFrames {
    /// None yet; it keeps `budget` bytes.
    pub(super) fn new(budget: u64, meter: Arc<Meter>) -> Self {
        let (places, segments, kept) = (HashMap::new(), VecDeque::new(), BTreeMap::new());
        Self { places, segments, kept, bytes: 0, budget, lost_before: 0, meter }
    }

    /// A segment that begins at `start` was appended to the log: its frames, by length and row.
    pub(super) fn append(&mut self, start: u64, frames: Vec<(usize, Option<Arc<str>>)>) {
        let mut at = start;
        let place = |(length, row)| {
            let frame = Frame { start: at, length, row };
            at += length as u64;
            frame
        };
        let frames: Vec<Frame> = frames.into_iter().map(place).collect();
        for frame in &frames {
            let before = frame.row.as_ref().and_then(|row| self.places.insert(row.clone(), frame.start));
            if let Some(before) = before {
                self.drop_kept(before);
            }
        }
        self.segments.push_back(frames);
    }

    /// The oldest segment leaves the log: its frames that are still the newest ones are kept.
    pub(super) fn keep_oldest(&mut self, segment: &Bytes) {
        let mut at = 0;
        for Frame { start, length, row } in self.segments.pop_front().unwrap_or_default() {
            let bytes = segment.get(at..at + length);
            at += length;
            let is_newest = row.as_ref().is_none_or(|row| self.places.get(row) == Some(&start));
            // a copy of its own: else one row would keep all that were told together with it
            if let Some(bytes) = bytes.filter(|_| is_newest) {
                self.bytes += bytes.len() as u64;
                let bytes = self.meter.hold(bytes.to_vec());
                self.kept.insert(start, KeptFrame { row, bytes });
            }
        }
        while self.bytes > self.budget
            && let Some((start, frame)) = self.kept.first_key_value()
        {
            let (start, end) = (*start, start + frame.bytes.len() as u64);
            self.lost_before = end;
            self.forget_place(start);
            self.drop_kept(start);
        }
    }

    /// The oldest segment leaves the log, which ends at `end`, and nothing of it is kept.
    pub(super) fn lose_oldest(&mut self, end: u64) {
        for Frame { start, row, .. } in self.segments.pop_front().unwrap_or_default() {
            if let Some(row) = row.filter(|row| self.places.get(row) == Some(&start)) {
                self.places.remove(&row);
            }
        }
        self.lost_before = self.lost_before.max(end);
    }

    /// Lets go of what has left the segments and begins before `offset`.
    pub(super) fn forget_before(&mut self, offset: u64) {
        while let Some((start, _)) = self.kept.first_key_value().filter(|(start, _)| **start < offset) {
            let start = *start;
            self.lost_before = self.lost_before.max(start + 1);
            self.forget_place(start);
            self.drop_kept(start);
        }
    }

    /// What a reader is given whose place is before the first segment, up to `until`: about `most` bytes.
    pub(super) fn behind(&self, offset: u64, until: u64, most: usize) -> Behind {
        if offset < self.lost_before {
            return Behind::Lost;
        }
        let (mut frames, mut bytes, mut next) = (Vec::new(), 0, until);
        for (start, frame) in self.kept.range(offset..until.max(offset)) {
            if bytes >= most {
                next = *start;
                break;
            }
            bytes += frame.bytes.len();
            frames.push(frame.bytes.clone());
        }
        Behind::By(frames, next)
    }

    /// Where the oldest of those begins that have left the segments.
    pub(super) fn first(&self) -> Option<u64> {
        self.kept.first_key_value().map(|(start, _)| *start)
    }

    /// How many frames there are from `offset` on that have left the segments.
    pub(super) fn count(&self, offset: u64) -> u64 {
        self.kept.range(offset..).count() as u64
    }

    fn drop_kept(&mut self, start: u64) {
        if let Some(frame) = self.kept.remove(&start) {
            self.bytes -= frame.bytes.len() as u64;
        }
    }

    fn forget_place(&mut self, start: u64) {
        let row = self.kept.get(&start).and_then(|frame| frame.row.as_ref());
        if let Some(row) = row {
            self.places.remove(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(budget: u64) -> NewestFrames {
        NewestFrames::new(budget, Meter::new(1 << 20))
    }

    /// A segment of frames of four bytes, each of a row.
    fn append(newest: &mut NewestFrames, start: u64, rows: &[&str]) -> Bytes {
        newest.append(start, rows.iter().map(|row| (4, Some(Arc::from(*row)))).collect());
        rows.iter().map(|row| format!("{row:4}")).collect::<String>().into()
    }

    fn texts(behind: Behind) -> (Vec<String>, u64) {
        let Behind::By(frames, next) = behind else { panic!("something is missing") };
        (frames.iter().map(|frame| String::from_utf8_lossy(frame).trim().to_owned()).collect(), next)
    }

    #[test]
    fn a_frame_that_has_left_is_kept_until_a_newer_one_of_its_row_comes() {
        let mut newest = newest(1000);
        let first = append(&mut newest, 0, &["a", "b", "c"]);
        let second = append(&mut newest, 12, &["b"]);
        newest.keep_oldest(&first);
        assert_eq!(texts(newest.behind(0, 12, 1000)), (vec!["a".into(), "c".into()], 12));
        append(&mut newest, 16, &["a"]);
        newest.keep_oldest(&second);
        assert_eq!(texts(newest.behind(0, 16, 1000)), (vec!["c".into(), "b".into()], 16));
        assert_eq!(texts(newest.behind(9, 16, 1000)), (vec!["b".into()], 16), "it had c");
        assert_eq!((newest.first(), newest.count(0)), (Some(8), 2));
    }

    #[test]
    fn a_reader_is_given_so_much_at_a_time_and_goes_on_behind_it() {
        let mut newest = newest(1000);
        let first = append(&mut newest, 0, &["a", "b", "c"]);
        newest.keep_oldest(&first);
        let (frames, next) = texts(newest.behind(0, 12, 5));
        assert_eq!((frames, next), (vec!["a".into(), "b".into()], 8));
        assert_eq!(texts(newest.behind(8, 12, 5)), (vec!["c".into()], 12));
        assert_eq!(texts(newest.behind(0, 8, 1000)), (vec!["a".into(), "b".into()], 8), "it may go no further");
    }

    #[test]
    fn more_rows_than_may_be_kept_are_missing_for_a_reader_that_has_not_had_them() {
        let mut newest = newest(8);
        let first = append(&mut newest, 0, &["a", "b", "c"]);
        newest.keep_oldest(&first);
        assert_eq!(newest.behind(0, 12, 1000), Behind::Lost);
        assert_eq!(texts(newest.behind(4, 12, 1000)).0, ["b", "c"]);
        newest.forget_before(8);
        assert_eq!(newest.behind(4, 12, 1000), Behind::Lost);
        assert_eq!((newest.bytes, newest.places.len()), (4, 1));
    }

    #[test]
    fn what_is_lost_with_its_segment_is_not_the_newest_of_its_row_any_more() {
        let mut newest = newest(1000);
        append(&mut newest, 0, &["a"]);
        newest.lose_oldest(4);
        assert_eq!(newest.behind(0, 4, 1000), Behind::Lost);
        assert!(newest.places.is_empty());
    }
}
