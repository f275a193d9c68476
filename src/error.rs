//! The crate's error: a kind, a text with the value in it, and a remedy. Owns how errors read; knows no stage.

use std::fmt;

use tokio_postgres::error::SqlState;

/// What went wrong, for a caller that has to decide whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A setting or an argument that cannot be meant.
    Config,
    /// The database cannot be reached, or the connection to it was lost. Trying again may help.
    Connection,
    /// The database answered with an error.
    Database,
    /// The schema `rowcast` is missing, older or newer than this program needs.
    Schema,
    /// A file, a socket or a process of this machine.
    Io,
    /// The other side sent what the protocol does not allow.
    Protocol,
}

/// An error with its remedy. Lower case, no full stop, only what this layer knows; the cause is in `source`.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    text: String,
    hint: Option<String>,
    is_told: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    may_pass: bool,
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a text that names the value.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), hint: None, is_told: false, source: None, may_pass: false }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// It stands in the log.
    #[must_use]
    pub fn told(mut self) -> Self {
        self.is_told = true;
        self
    }

    /// Whether it stands in the log, and need not be printed.
    pub fn is_told(&self) -> bool {
        self.is_told
    }

    /// What kind of error it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the database may do the same in a moment: somebody held a lock for too long, or it was short of something.
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// An error of `doing` something in the database. The server's message and hint are kept; its DETAIL is not,
    /// since it can hold row values.
    pub fn database(doing: impl fmt::Display, error: tokio_postgres::Error) -> Self {
        use std::error::Error as _;
        let Some(db) = error.as_db_error() else {
            // what TLS refuses, a certificate say, is refused again
            let may_pass = |io: &std::io::Error| io.kind() != std::io::ErrorKind::InvalidData;
            let is_passing = error.source().and_then(|s| s.downcast_ref()).is_some_and(may_pass);
            let kind = if error.is_closed() || is_passing { Kind::Connection } else { Kind::Database };
            return Self::new(kind, format!("{doing}: {error}")).because(error);
        };
        let lost = db.code().code().starts_with("08") || db.code().code().starts_with("57P");
        let kind = if lost { Kind::Connection } else { Kind::Database };
        let mut this = Self::new(kind, format!("{doing}: {} (SQLSTATE {})", db.message(), db.code().code()));
        this.hint = db.hint().map(str::to_owned);
        // 53: insufficient resources, among them connections
        let is_short = db.code().code().starts_with("53") && *db.code() != SqlState::CONFIGURATION_LIMIT_EXCEEDED;
        this.may_pass = is_short || *db.code() == SqlState::LOCK_NOT_AVAILABLE;
        this
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

/// The error and its causes on one line, each once: for logs and for the end of a command.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_says_each_cause_once() {
        let inner = Error::new(Kind::Io, "connection refused");
        let outer = Error::new(Kind::Connection, "cannot connect to db:5432: connection refused").because(inner);
        assert_eq!(chain(&outer), "cannot connect to db:5432: connection refused");
        let outer = Error::new(Kind::Connection, "cannot connect").because(Error::new(Kind::Io, "no route"));
        assert_eq!(chain(&outer), "cannot connect: no route");
    }
}
