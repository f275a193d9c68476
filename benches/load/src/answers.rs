//! Which sockets have asked, and which have the answer. Pure.

use hdrhistogram::Histogram;
use memchr::memmem::Finder;

use crate::args::Ask;
use crate::arrivals::latencies;

/// What all sockets together asked for and got.
pub struct Answers {
    answer: Finder<'static>,
    before: Option<Finder<'static>>,
    sockets: Vec<Asked>,
    /// sockets that have the answer
    pub answered: usize,
    /// of these, those that should have had another message before
    pub without: usize,
    /// microseconds from a question to its answer
    pub waited: Histogram<u64>,
}

#[derive(Clone, Copy)]
enum Asked {
    NotYet,
    At { us: u64, has_before: bool },
    Answered,
}

impl Answers {
    pub fn new(ask: &Ask, sockets: usize) -> Self {
        let finder = |text: &str| Finder::new(text).into_owned();
        Self {
            answer: finder(&ask.answer),
            before: ask.before.as_deref().map(finder),
            sockets: vec![Asked::NotYet; sockets],
            answered: 0,
            without: 0,
            waited: latencies(),
        }
    }

    /// A socket asks.
    pub fn asks(&mut self, socket: usize, now_us: u64) {
        self.sockets[socket] = Asked::At { us: now_us, has_before: self.before.is_none() };
    }

    /// A message that a socket got.
    pub fn take(&mut self, socket: usize, payload: &[u8], now_us: u64) {
        let Some(&Asked::At { us, has_before }) = self.sockets.get(socket) else { return };
        if self.answer.find(payload).is_some() {
            self.sockets[socket] = Asked::Answered;
            self.answered += 1;
            self.without += usize::from(!has_before);
            self.waited.saturating_record(now_us.saturating_sub(us).max(1));
        } else if self.before.as_ref().is_some_and(|before| before.find(payload).is_some()) {
            self.sockets[socket] = Asked::At { us, has_before: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_counts_once_and_only_for_a_question() {
        let ask = Ask { say: "?".into(), within: Duration::ZERO, answer: "done".into(), before: Some("rows".into()) };
        let mut answers = Answers::new(&ask, 3);
        answers.take(0, b"done", 5);
        assert_eq!(answers.answered, 0, "nobody asked");
        answers.asks(0, 10);
        answers.asks(1, 10);
        for (socket, text) in [(0, &b"rows"[..]), (0, b"other"), (0, b"done"), (0, b"done"), (1, b"done"), (2, b"done")]
        {
            answers.take(socket, text, 40);
        }
        assert_eq!((answers.answered, answers.without), (2, 1));
        assert_eq!((answers.waited.len(), answers.waited.max()), (2, 30));
    }
}
