//! When a client that says nothing is given up: a pure rule over pings and bytes. Owns no clock and no socket.
//!
//! The answer to a ping stands behind all that was written before it. The kernel keeps up to 4 MB of that (`tcp_wmem`), so
//! on a slow line a client that is well may need a minute to come to the ping.

use std::time::Duration;

/// Bytes a second: the slowest line whose client gets the time to take what was written to it.
const SLOWEST_LINE: u64 = 16 * 1024;
/// Bytes that may lie between this socket and its client: both kernels' buffers, and a translator's.
const MOST_BETWEEN: u64 = 8 << 20;
/// Bytes are counted by so many, so that an idle socket takes six bytes for all of this.
const UNIT: u64 = 256;

/// What is known of a client since it was last heard.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// pings since the client said something, or took something
    pings: u16,
    /// units written since it said something
    written: u16,
    /// units written between the two times before that: what it said need not be the answer to a ping
    written_before: u16,
}

impl Silence {
    /// So many bytes went to the kernel.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        let units = (bytes as u64 + UNIT / 2).min(MOST_BETWEEN) / UNIT;
        self.written = (u64::from(self.written) + units).min(MOST_BETWEEN / UNIT) as u16;
    }

    /// The kernel takes more than it did, so the client has taken something.
    pub(crate) fn moved(&mut self) {
        self.pings = 0;
    }

    /// To be called when a ping is due, `interval` after the one before. `true` where the client is gone instead.
    pub(crate) fn is_over(&mut self, heard: bool, interval: Duration) -> bool {
        if heard {
            *self = Self { pings: 0, written: 0, written_before: self.written };
            return false;
        }
        let quiet = interval * u32::from(self.pings);
        self.pings = self.pings.saturating_add(1);
        let written = (u64::from(self.written) + u64::from(self.written_before)) * UNIT;
        quiet >= Duration::from_secs(written / SLOWEST_LINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn a_client_to_which_nothing_was_written_answers_before_the_next_ping() {
        let mut silence = Silence::default();
        assert!(!silence.is_over(true, INTERVAL), "the first ping");
        assert!(!silence.is_over(true, INTERVAL), "it was answered");
        assert!(silence.is_over(false, INTERVAL));
    }

    #[test]
    fn a_slow_line_gets_the_time_that_it_needs_and_no_more() {
        let mut silence = Silence::default();
        silence.wrote(4 << 20); // 256 s at the slowest
        for ping in 1..=9 {
            assert!(!silence.is_over(false, INTERVAL), "after {} s", 30 * ping);
        }
        assert!(silence.is_over(false, INTERVAL), "after 300 s");
    }

    #[test]
    fn a_word_from_the_client_does_not_say_that_it_took_all() {
        let mut silence = Silence::default();
        silence.wrote(1 << 20);
        assert!(!silence.is_over(true, INTERVAL));
        assert!(!silence.is_over(false, INTERVAL), "what was written before stands before the ping");
        assert!(!silence.is_over(true, INTERVAL));
        assert!(silence.is_over(false, INTERVAL), "nothing was written since");
    }

    #[test]
    fn a_gigabyte_does_not_buy_a_day() {
        let mut silence = Silence::default();
        silence.wrote(1 << 30);
        let pings = (1..).find(|_| silence.is_over(false, INTERVAL));
        assert_eq!(pings, Some(19), "512 s, in pings");
        silence.moved();
        assert!(!silence.is_over(false, INTERVAL), "it takes what it is sent");
    }
}
