//! The name of an installation: the schema that it lives in, and what else is called after it. Owns which words of our own
//! texts are the name; knows no statement.
//!
//! All texts say `rowcast`: files of SQL, statements, remedies. In an installation of another name each of them is put into
//! its words before anybody sees it, and a statement in one place, `source::client`. Only in these positions is the word a
//! name; in all others it is the program, or prose:
//!
//! | text | for `live` |
//! |---|---|
//! | `rowcast.watch(..)`, `rowcast.%I` | `live.watch(..)`, `live.%I` |
//! | `rowcast.actor`, `rowcast.mute`: settings that the application makes | as they are: it says who writes once, for all |
//! | `rowcast.users`, `rowcast.bells`: settings of ours in the writer's transaction | `rowcast.live_users` |
//! | `rowcast_capture`, `rowcast_relay` | `live_capture`, `live_relay` |
//! | `"!rowcast_t"`, `'^!!?rowcast(_t)?$'` | `"!live_t"`, `'^!!?live(_t)?$'` |
//! | `schema rowcast`, `'rowcast'` | `schema live`, `'live'` |
//! | `listen rowcast`, `pg_notify('rowcast', ..)` | `rowcast_live`: an application may have a channel `live` of its own |
//! | `'^rowcast read '`, the name of a session | `'^rowcast/live read '` |
//! | `rowcast migrate`, what an operator types | `rowcast --schema live migrate` |
//! | 1919907683, the first number of our advisory locks | one made of the name |

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};

/// The name that all texts are written for.
const WRITTEN: &str = "rowcast";
/// The first number of our advisory locks in them: "rowc".
const LOCKS: &str = "1919907683";
/// With what is added to it, a name has to fit into 63 bytes: `!!NAME_users_4294967295`, `rowcast/NAME publish 0123abcd`.
const LONGEST: usize = 32;
/// Settings with our prefix that concern every installation, or only the session that installs one.
const OF_ALL: &[&str] =
    &["actor", "mute", "all_tables", "before", "callers_path", "callers_strings", "callers_nulls", "callers_quotes"];
/// Settings in which an installation's own triggers hand something on.
const OF_ONE: &[&str] = &["users", "bells"];
/// What looks like a name in our schema and is a file, or a version.
const FILES: &[&str] = &["js", "sql", "v1"];
/// What stands behind the name in the name of a session.
const PURPOSES: &[&str] = &["(", "listen ", "read ", "query ", "replay ", "publish ", "command "];
/// Commands of the program that concern an installation.
const COMMANDS: &[&str] = &["migrate", "serve", "watch", "unwatch", "uninstall", "doctor", "sql", "types"];

/// The name of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// `None`: as it is written
    other: Option<Arc<str>>,
}

impl Naming {
    /// The installation in this schema.
    ///
    /// # Errors
    /// [`Kind::Config`] where it cannot be one's name, with the reason.
    pub fn of_schema(name: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let text = format!("an installation of rowcast cannot be named {name}: {why}");
            Err(Error::new(Kind::Config, text).hint("choose another --schema, or leave it out for rowcast"))
        };
        let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        if !begins_well || !name.chars().all(is_of_word) || name.len() > LONGEST {
            return refuse("a name has 1 to 32 lower-case letters, digits and _, and begins with no digit");
        }
        // the roles are NAME_capture and NAME_relay
        if format!("{name}_").starts_with("pg_") {
            return refuse("schemas and roles that begin with pg_ are Postgres' own");
        }
        if ["public", "information_schema"].contains(&name) {
            return refuse("that schema is there for others, and an installation is alone in its own");
        }
        let last = name.rsplit_once('_').map_or("", |(_, last)| last);
        if ["t", "u", "users"].contains(&last) || (!last.is_empty() && last.chars().all(|c| c.is_ascii_digit())) {
            return refuse("with an end like _t, _u, _users or _2 its triggers could not be told from another one's");
        }
        Ok(Self { other: (name != WRITTEN).then(|| name.into()) })
    }

    /// The schema.
    pub fn schema(&self) -> &str {
        self.other.as_deref().unwrap_or(WRITTEN)
    }

    /// The channel of LISTEN and NOTIFY.
    pub fn bell(&self) -> String {
        self.other.as_ref().map_or_else(|| WRITTEN.to_owned(), |name| format!("rowcast_{name}"))
    }

    /// What the names of its sessions begin with, a purpose and a number follow.
    pub fn session(&self) -> String {
        self.other.as_ref().map_or_else(|| WRITTEN.to_owned(), |name| format!("rowcast/{name}"))
    }

    /// A text of ours in the words of this installation. Not for what the database, or anybody else, has said: there
    /// `rowcast` may be another installation.
    pub fn of<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(name) = &self.other else { return Cow::Borrowed(text) };
        let mut said = String::with_capacity(text.len());
        let mut rest = 0;
        for (at, word) in text.match_indices(['r', '1']).map(|(at, _)| (at, &text[at..])) {
            if at < rest {
                continue;
            }
            let (length, new) = if word.starts_with(LOCKS) {
                (LOCKS.len(), locks(name).to_string())
            } else if let Some(after) = word.strip_prefix(WRITTEN) {
                match in_its_place(name, &text[..at], after) {
                    Some((more, new)) => (WRITTEN.len() + more, new),
                    None => continue,
                }
            } else {
                continue;
            };
            said.push_str(&text[rest..at]);
            said.push_str(&new);
            rest = at + length;
        }
        said.push_str(&text[rest..]);
        Cow::Owned(said)
    }
}

/// What takes the word's place between these two, and how much of what follows with it.
fn in_its_place(name: &str, before: &str, after: &str) -> Option<(usize, String)> {
    if before.ends_with(|c: char| is_of_word(c) || c.is_ascii_uppercase() || "./-".contains(c)) {
        return None;
    }
    let is = |new: String| Some((0, new));
    let member = after.strip_prefix('.').filter(|member| member.starts_with(|c| is_of_word(c) || "%*{\"".contains(c)));
    if let Some(member) = member {
        let word = &member[..member.find(|c| !is_of_word(c)).unwrap_or(member.len())];
        let is_called = member[word.len()..].starts_with('(');
        return match word {
            _ if FILES.contains(&word) || (OF_ALL.contains(&word) && !is_called) => None,
            _ if OF_ONE.contains(&word) && !is_called => Some((1 + word.len(), format!("rowcast.{name}_{word}"))),
            _ => is(name.to_owned()),
        };
    }
    let rest = after.find(|c| !is_of_word(c)).unwrap_or(after.len());
    let names_something =
        before.ends_with('!') || before.ends_with("!?") || ["_capture", "_relay"].contains(&&after[..rest]);
    if names_something {
        return is(name.to_owned());
    }
    if rest > 0 {
        return None;
    }
    if before.ends_with("pg_notify('") || before.ends_with("listen ") {
        return is(format!("rowcast_{name}"));
    }
    if before.ends_with("schema ")
        || before.ends_with("schema if not exists ")
        || (before.ends_with('\'') && after.starts_with('\''))
    {
        return is(name.to_owned());
    }
    let next = after.strip_prefix(' ')?;
    if before.ends_with(['\'', '^']) && PURPOSES.iter().any(|purpose| next.starts_with(purpose)) {
        return is(format!("rowcast/{name}"));
    }
    let typed = &next[..next.find(|c| !is_of_word(c)).unwrap_or(next.len())];
    if COMMANDS.contains(&typed) { is(format!("rowcast --schema {name}")) } else { None }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// The first number of an installation's advisory locks, as a positive number: FNV-1a of the name. Any other program
/// with the same one costs latency, as any session does that holds such a lock.
fn locks(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_put_into_the_words_of_another_installation() {
        let live = Naming::of_schema("live").unwrap();
        for (text, said) in [
            ("select rowcast.watch('pets')", "select live.watch('pets')"),
            ("format('rowcast.%I', x), 'rowcast.outbox_'::regclass", "format('live.%I', x), 'live.outbox_'::regclass"),
            ("drop function rowcast.users_of_%s()", "drop function live.users_of_%s()"),
            (
                "rowcast.actor(), current_setting('rowcast.actor', true)",
                "live.actor(), current_setting('rowcast.actor', true)",
            ),
            ("'rowcast.mute=on' or set rowcast.all_tables = on", "'rowcast.mute=on' or set rowcast.all_tables = on"),
            ("set_config('rowcast.users', '', true)", "set_config('rowcast.live_users', '', true)"),
            ("'rowcast.users' || suffix", "'rowcast.live_users' || suffix"),
            ("grant x to rowcast_relay, 'rowcast_capture'", "grant x to live_relay, 'live_capture'"),
            ("'!rowcast_t' || suffix, '!!rowcast_users'", "'!live_t' || suffix, '!!live_users'"),
            ("~ '^!!?rowcast(_users|_u|_t)?(_[0-9]+)?$'", "~ '^!!?live(_users|_u|_t)?(_[0-9]+)?$'"),
            ("drop schema rowcast cascade", "drop schema live cascade"),
            ("they do not have schema rowcast. Publish", "they do not have schema live. Publish"),
            ("create schema if not exists rowcast;", "create schema if not exists live;"),
            ("n.nspname = 'rowcast'", "n.nspname = 'live'"),
            ("pg_notify('rowcast', body); listen rowcast", "pg_notify('rowcast_live', body); listen rowcast_live"),
            ("application_name ~ '^rowcast (listen|read) '", "application_name ~ '^rowcast/live (listen|read) '"),
            ("= 'rowcast publish ' || known", "= 'rowcast/live publish ' || known"),
            ("run: rowcast migrate", "run: rowcast --schema live migrate"),
            ("`rowcast watch --schema`", "`rowcast --schema live watch --schema`"),
            ("the triggers of rowcast stay", "the triggers of rowcast stay"),
            (
                "a fault of rowcast. rowcast needs it, rowcast-client, /rowcast.js",
                "a fault of rowcast. rowcast needs it, rowcast-client, /rowcast.js",
            ),
            ("select pg_advisory_unlock(1919907683, 1)", &format!("select pg_advisory_unlock({}, 1)", locks("live"))),
        ] {
            assert_eq!(live.of(text), said);
            assert_eq!(Naming::default().of(text), text);
        }
    }

    #[test]
    fn a_name_is_plain_and_its_triggers_are_nobody_elses() {
        for name in ["live", "_x", "rowcast2", "tenant_a", "t", "a2345678901234567890123456789012"] {
            assert_eq!(Naming::of_schema(name).unwrap().schema(), name);
        }
        assert_eq!(Naming::of_schema("rowcast").unwrap(), Naming::default());
        let long = "a".repeat(33);
        for name in [
            "",
            "Live",
            "2live",
            "li-ve",
            "liv\u{e9}",
            "pg_x",
            "pg",
            "public",
            "information_schema",
            "live_t",
            "live_users",
            "rowcast_2",
            &long,
        ] {
            let refused = Naming::of_schema(name).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
            assert_eq!(refused.kind(), Kind::Config);
        }
    }
}
