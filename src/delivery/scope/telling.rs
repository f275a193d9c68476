//! How the changes of a view's rows are told: each one whole, with the columns as they were, with those alone that differ, or
//! the newest one of each row at most so often. Pure.

use std::time::Duration;

/// How changes are told. The default is each one, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Telling {
    /// an update tells its columns as they were
    pub old: bool,
    /// an update tells the key and the columns that differ, but where the key does; a deletion the key
    pub changed: bool,
    /// the newest change of each row, at most so often
    pub every: Option<Every>,
}

/// The time from one telling of a view to the next one, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Every(u32);

impl Every {
    /// What `latest` means without `every`.
    const USUAL: u32 = 500;
    /// More often than this saves nothing: a change is at the socket after some milliseconds anyway.
    const LEAST: u32 = 20;
    const MOST: u32 = 60_000;
    /// The longest one.
    pub(crate) const LONGEST: Duration = Duration::from_millis(Self::MOST as u64);

    /// As a time.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl Telling {
    /// Of what a subscription asks for; `every` is in milliseconds.
    ///
    /// # Errors
    /// What does not go together, for people.
    pub fn of(old: bool, changed: bool, latest: bool, every: Option<u32>) -> Result<Self, String> {
        if every.is_some() && !latest {
            return Err("every belongs to latest: say latest=true too".to_owned());
        }
        if latest && (old || changed) {
            // a slow client is told one change of a row in the place of several, and would miss what the others changed
            return Err("latest tells whole rows: it goes with neither old nor changed".to_owned());
        }
        let every = latest.then(|| every.unwrap_or(Every::USUAL));
        if let Some(every) = every.filter(|every| !(Every::LEAST..=Every::MOST).contains(every)) {
            return Err(format!("every is {} to {} milliseconds, not {every}", Every::LEAST, Every::MOST));
        }
        Ok(Self { old, changed, every: every.map(Every) })
    }

    /// Whether rows are told from each other by their key.
    pub(super) fn needs_key(self) -> bool {
        self.changed || self.every.is_some()
    }

    /// As the query of a path has it.
    pub(super) fn parameters(self) -> impl Iterator<Item = String> {
        let flag = |is: bool, text: &str| is.then(|| text.to_owned());
        let every = self.every.map(|Every(every)| format!("latest=true&every={every}"));
        [flag(self.old, "old=true"), flag(self.changed, "changed=true"), every].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_refused_with_the_reason() {
        for (asked, reason) in [
            ((false, false, false, Some(500)), "say latest=true too"),
            ((true, false, true, None), "neither old nor changed"),
            ((false, true, true, None), "neither old nor changed"),
            ((false, false, true, Some(19)), "20 to 60000 milliseconds, not 19"),
            ((false, false, true, Some(60_001)), "not 60001"),
        ] {
            let (old, changed, latest, every) = asked;
            let refused = Telling::of(old, changed, latest, every).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn what_was_asked_for_is_said_as_a_path_says_it() {
        let parameters = |old, changed, latest, every| {
            Telling::of(old, changed, latest, every).unwrap().parameters().collect::<Vec<_>>().join("&")
        };
        assert_eq!(parameters(false, false, false, None), "");
        assert_eq!(parameters(true, false, false, None), "old=true");
        assert_eq!(parameters(true, true, false, None), "old=true&changed=true");
        assert_eq!(parameters(false, false, true, None), "latest=true&every=500");
        assert_eq!(parameters(false, false, true, Some(60_000)), "latest=true&every=60000");
    }
}
