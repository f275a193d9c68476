//! Keeps the key set of an issuer current, from a file or over HTTP. Owns when it is fetched; what a key is worth is
//! delivery's to say.
//!
//! It is read every five minutes, and when a token names a key that is not there, at most once in ten seconds: so an
//! issuer may rotate its keys without a restart, and strangers cannot make this server hammer the issuer. Where it
//! cannot be read, the last one goes on.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{sleep, timeout};

use super::admit;
use crate::delivery::access::auth::{Key, Keys};
use crate::error::{self, Error, Kind, Result};
use crate::fetch;
use crate::shutdown::Shutdown;

const EVERY: Duration = Duration::from_secs(300);
const AT_LEAST: Duration = Duration::from_secs(10);
/// Until there is a first set, it is tried so often.
const FIRST: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(10);
/// Issuers have a handful of keys. A token that does not name its own is tried with several, so each costs something.
const KEYS: usize = 100;
/// A file of more is none of so few keys; over HTTP no more is taken.
const BYTES: u64 = 1 << 20;

/// Keeps the set current until the shutdown. `source`: `https://…`, `http://…`, or a file.
pub async fn run(source: String, keys: Arc<Keys>, mut shutdown: Shutdown) {
    if source.strip_prefix("http://").is_some_and(|rest| !is_loopback(rest)) {
        tracing::warn!(event = "keys_unprotected", %source, "a stranger on the way may give other keys: use https");
    }
    let mut has_set = false;
    let mut failing = false;
    loop {
        match timeout(WITHIN, read(&source)).await.unwrap_or_else(|_| Err(slow(&source))) {
            Ok(set) => {
                if !has_set || failing {
                    tracing::info!(event = "keys_read", source = %source, keys = set.len());
                }
                (has_set, failing) = (true, false);
                keys.replace(set);
            }
            Err(error) => {
                if !failing {
                    tracing::error!(event = "keys_unreadable", error = error::chain(&error), has_older = has_set);
                }
                failing = true;
            }
        }
        let pause = if has_set { EVERY } else { FIRST };
        let asked = async {
            sleep(AT_LEAST.min(pause)).await;
            keys.wait_for_unknown_key().await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = asked => {}
            () = shutdown.begun() => return,
        }
    }
}

/// Whether what follows `http://` is on this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    admit::is_this_machine(authority)
}

fn slow(source: &str) -> Error {
    Error::new(Kind::Connection, format!("{source} does not answer within {} s", WITHIN.as_secs()))
}

async fn read(source: &str) -> Result<Vec<Key>> {
    let text = if source.starts_with("http://") || source.starts_with("https://") {
        let (status, text) = fetch::get(source, None).await?;
        if status != StatusCode::OK {
            return Err(Error::new(
                Kind::Connection,
                format!("cannot fetch the key set {source}: the answer is {status}"),
            ));
        }
        text
    } else {
        let cannot = |e| Error::new(Kind::Io, format!("cannot read the key set {source}")).because(e);
        let bytes = tokio::fs::metadata(source).await.map_err(cannot)?.len();
        if bytes > BYTES {
            return Err(Error::new(Kind::Config, format!("{source} has {bytes} bytes: a key set has {BYTES} at most")));
        }
        tokio::fs::read_to_string(source).await.map_err(cannot)?
    };
    let keys = Key::set(&text).map_err(|what| Error::new(Kind::Config, format!("{source}: {what}")))?;
    if keys.len() > KEYS {
        let text = format!("{source} has {} keys: {KEYS} are allowed", keys.len());
        return Err(Error::new(Kind::Config, text).hint("give only those that tokens are signed with now"));
    }
    Ok(keys)
}
