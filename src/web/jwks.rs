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

use crate::delivery::auth::{Key, Keys};
use crate::error::{self, Error, Kind, Result};
use crate::fetch;
use crate::shutdown::Shutdown;

const EVERY: Duration = Duration::from_secs(300);
const AT_LEAST: Duration = Duration::from_secs(10);
/// Until there is a first set, it is tried so often.
const FIRST: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(10);

/// Keeps the set current until the shutdown. `source`: `https://…`, `http://…`, or a file.
pub async fn run(source: String, keys: Arc<Keys>, mut shutdown: Shutdown) {
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
            keys.misses_one().await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = asked => {}
            () = shutdown.begun() => return,
        }
    }
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
        tokio::fs::read_to_string(source)
            .await
            .map_err(|e| Error::new(Kind::Io, format!("cannot read the key set {source}")).because(e))?
    };
    Key::set(&text).map_err(|what| Error::new(Kind::Config, format!("{source}: {what}")))
}
