//! What came: whether each socket got each of its messages once and in order, and how late. Pure.

use std::collections::VecDeque;
use std::ops::Range;

use hdrhistogram::Histogram;

use crate::args::Args;
use crate::frames::{Mark, Marks};

/// Longer than any run.
const LONGEST_US: u64 = 3_600_000_000;

/// Counts of all sockets together.
pub struct Arrivals {
    marks: Marks,
    publishers: usize,
    /// `Some`: message n is for socket n modulo this
    owners: Option<u64>,
    /// of each socket, one for each publisher
    streams: Vec<Stream>,
    floor: Floor,
    measure_from: u64,
    /// messages, each counted once at each socket
    pub delivered: u64,
    /// came once more
    pub repeated: u64,
    /// came after a later message of their publisher
    pub disordered: u64,
    /// were for another socket
    pub misdirected: u64,
    /// when the earliest one was written, by its writer's clock
    pub first_us: u64,
    /// when the last one came
    pub last_us: u64,
    /// microseconds from the writer's clock to the read
    pub latency: Histogram<u64>,
}

impl Arrivals {
    pub fn new(args: &Args) -> Self {
        let owners = args.is_addressed().then_some(args.connections as u64);
        let publishers = if args.publish.is_some() || args.follow.is_some() { args.publishers } else { 0 };
        let streams = (0..args.connections as u64).flat_map(|socket| {
            std::iter::repeat_with(move || Stream::new(if owners.is_some() { socket } else { 0 })).take(publishers)
        });
        Self {
            marks: Marks::new(),
            publishers,
            owners,
            streams: streams.collect(),
            floor: Floor::new(args.connections),
            measure_from: 0,
            delivered: 0,
            repeated: 0,
            disordered: 0,
            misdirected: 0,
            first_us: u64::MAX,
            last_us: 0,
            latency: latencies(),
        }
    }

    /// Only messages that were written from this moment on count for latency.
    pub fn measure_from(&mut self, us: u64) {
        self.measure_from = us;
    }

    /// A message that a socket got.
    pub fn take(&mut self, socket: usize, payload: &[u8], now_us: u64) {
        let Some(mark) = self.marks.find(payload) else { return };
        self.count(socket, mark, now_us);
    }

    fn count(&mut self, socket: usize, mark: Mark, now_us: u64) {
        let publisher = mark.publisher as usize;
        let is_mine = self.owners.is_none_or(|owners| mark.n % owners == socket as u64);
        if !is_mine || publisher >= self.publishers {
            self.misdirected += 1;
            return;
        }
        match self.streams[socket * self.publishers + publisher].take(mark.n, self.owners.unwrap_or(1)) {
            Seen::Again => {
                self.repeated += 1;
                return;
            }
            Seen::Late => self.disordered += 1,
            Seen::Next => {}
        }
        self.delivered += 1;
        self.first_us = self.first_us.min(mark.t);
        self.last_us = now_us;
        self.floor.raise(socket);
        if mark.t >= self.measure_from {
            self.latency.saturating_record(now_us.saturating_sub(mark.t).max(1));
        }
    }

    /// How many messages came to all sockets that they are for.
    pub fn settled(&self) -> u64 {
        if self.owners.is_some() { self.delivered } else { self.floor.least }
    }
}

/// A histogram of microseconds.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds that a histogram can have")
}

/// One publisher's messages at one socket.
struct Stream {
    next: u64,
    /// messages that were skipped, in steps like those of the stream
    missing: Vec<Range<u64>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Next,
    Late,
    Again,
}

impl Stream {
    fn new(first: u64) -> Self {
        Self { next: first, missing: Vec::new() }
    }

    fn take(&mut self, n: u64, step: u64) -> Seen {
        if n >= self.next {
            if n > self.next {
                self.missing.push(self.next..n);
            }
            self.next = n + step;
            return Seen::Next;
        }
        let Some(at) = self.missing.iter().position(|gap| gap.contains(&n)) else { return Seen::Again };
        let gap = self.missing.swap_remove(at);
        self.missing.extend([gap.start..n, n + step..gap.end].into_iter().filter(|part| !part.is_empty()));
        Seen::Late
    }
}

/// How many messages the slowest socket has, without asking all of them.
struct Floor {
    counts: Vec<u64>,
    /// how many sockets have `least` messages, `least + 1`, and so on
    levels: VecDeque<usize>,
    least: u64,
}

impl Floor {
    fn new(sockets: usize) -> Self {
        Self { counts: vec![0; sockets], levels: VecDeque::from([sockets]), least: 0 }
    }

    fn raise(&mut self, socket: usize) {
        let level = (self.counts[socket] - self.least) as usize;
        self.counts[socket] += 1;
        self.levels[level] -= 1;
        if level + 1 == self.levels.len() {
            self.levels.push_back(0);
        }
        self.levels[level + 1] += 1;
        while self.levels[0] == 0 {
            self.levels.pop_front();
            self.least += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_tells_late_from_repeated() {
        let mut stream = Stream::new(0);
        let seen: Vec<Seen> = [0, 1, 5, 3, 3, 2, 1, 6, 4, 4].into_iter().map(|n| stream.take(n, 1)).collect();
        use Seen::{Again, Late, Next};
        assert_eq!(seen, [Next, Next, Next, Late, Again, Late, Again, Next, Late, Again]);
        assert!(stream.missing.is_empty());
    }

    #[test]
    fn a_stream_of_one_owner_goes_in_steps() {
        let mut stream = Stream::new(7);
        let seen: Vec<Seen> = [7, 17, 47, 37, 27, 27].into_iter().map(|n| stream.take(n, 10)).collect();
        assert_eq!(seen, [Seen::Next, Seen::Next, Seen::Next, Seen::Late, Seen::Late, Seen::Again]);
    }

    #[test]
    fn the_floor_is_the_slowest_socket() {
        let mut floor = Floor::new(3);
        for (socket, least) in [(0, 0), (0, 0), (1, 0), (2, 1), (2, 1), (1, 2), (1, 2), (2, 2)] {
            floor.raise(socket);
            assert_eq!(floor.least, least);
        }
        assert_eq!(floor.counts, [2, 3, 3]);
    }

    #[test]
    fn every_message_counts_once_at_the_socket_it_is_for() {
        let line = "fanout --url ws://127.0.0.1:1/{n} --server-pid 1 --publish pg --dsn host=/run --connections 10";
        let args = Args::parse(line.split_whitespace().map(str::to_owned)).unwrap().unwrap();
        let mut arrivals = Arrivals::new(&args);
        arrivals.measure_from(1000);
        for (socket, n, t) in [(3, 3, 999), (3, 13, 1000), (3, 13, 1000), (4, 3, 1000), (3, 33, 1000), (3, 23, 1000)] {
            let payload = format!("{{\"publisher\":0,\"n\":{n},\"t\":{t}}}");
            arrivals.take(socket, payload.as_bytes(), 3000);
        }
        arrivals.take(3, br#"{"publisher":7,"n":43,"t":1000}"#, 3000);
        arrivals.take(3, br#"{"type":"heartbeat"}"#, 3000);
        assert_eq!((arrivals.delivered, arrivals.settled()), (4, 4));
        assert_eq!((arrivals.repeated, arrivals.disordered, arrivals.misdirected), (1, 1, 2));
        assert_eq!((arrivals.latency.len(), arrivals.latency.max()), (3, 2000));
        assert_eq!((arrivals.first_us, arrivals.last_us), (999, 3000));
    }
}
