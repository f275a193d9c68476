//! How the stream fares, as far as a follower can tell. Pure: times in, a word out.

use std::time::Duration;

/// A publisher says something each second. Silent for so long, it is gone.
pub const SILENT: Duration = Duration::from_secs(5);

/// What a follower may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// changes arrive
    Live,
    /// a publisher writes, but is not connected to Postgres, or has told no position yet
    Waiting,
    /// nobody writes
    Silent,
    /// nobody has written since this node connected: it may have come to the wrong place
    Lost,
}

impl Health {
    /// `unheard` since the publisher's last word, `connected` since this node reached Redis. `publishes`: the publisher is
    /// connected to Postgres; `has_position`: this node knows where it is.
    pub(super) fn of(unheard: Duration, connected: Duration, publishes: bool, has_position: bool) -> Self {
        if unheard >= SILENT {
            return if connected > SILENT { Self::Lost } else { Self::Silent };
        }
        if publishes && has_position { Self::Live } else { Self::Waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_live_while_a_publisher_that_reads_postgres_is_heard() {
        let (soon, late) = (SILENT - Duration::from_millis(1), SILENT + Duration::from_millis(1));
        for connected in [soon, late] {
            assert_eq!(Health::of(soon, connected, true, true), Health::Live);
            assert_eq!(Health::of(soon, connected, false, true), Health::Waiting, "it has lost Postgres");
            assert_eq!(Health::of(soon, connected, true, false), Health::Waiting, "it has told no position");
        }
    }

    #[test]
    fn a_silent_publisher_is_waited_for_once_and_then_looked_for() {
        let (soon, late) = (SILENT - Duration::from_millis(1), SILENT + Duration::from_millis(1));
        for (publishes, has_position) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(Health::of(SILENT, soon, publishes, has_position), Health::Silent, "it has only just connected");
            assert_eq!(Health::of(SILENT, late, publishes, has_position), Health::Lost);
        }
    }
}
