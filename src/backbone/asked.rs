//! The way back: a node that waits for the present has it read now. Owns the list by which it is asked, at both ends; a
//! wish that is lost costs latency.

use std::convert::Infallible;
use std::sync::Arc;

use redis::Cmd;

use super::StreamKeys;
use super::link::{Link, backoff, explain};
use crate::error::{self, Result};
use crate::feedback::Feedback;

/// A wish that nobody took is of no use after this time, in milliseconds.
const KEPT_MS: u32 = 3_000;
/// It is waited for so long at a time, in seconds.
const WITHIN: u32 = 1;

/// Has the present read whenever a node asks for it.
pub async fn listen(link: Link, keys: StreamKeys, feedback: Arc<Feedback>) -> Result<()> {
    let mut attempt = 0;
    loop {
        let asked: Result<Infallible> = async {
            let mut connection = link.connect().await?;
            let mut wait = Cmd::new();
            wait.arg("BLPOP").arg(&keys.asked).arg(WITHIN);
            loop {
                let asked: Option<(String, String)> =
                    connection.run(&wait).await.map_err(|e| explain("cannot wait for what is asked", e))?;
                attempt = 0;
                if asked.is_some() {
                    feedback.nudge();
                }
            }
        }
        .await;
        let Err(error) = asked;
        tracing::debug!(event = "asked_lost", error = error::chain(&error));
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

/// Asks the publisher to read the present now, whenever this node is nudged. Never ends.
pub async fn ask(link: Link, keys: StreamKeys, feedback: Arc<Feedback>) {
    let mut attempt = 0;
    loop {
        let asked: Result<Infallible> = async {
            let mut connection = link.connect().await?;
            loop {
                feedback.nudged().await;
                for command in [
                    Cmd::new().arg("RPUSH").arg(&keys.asked).arg("1"),
                    Cmd::new().arg("LTRIM").arg(&keys.asked).arg(-1).arg(-1),
                    Cmd::new().arg("PEXPIRE").arg(&keys.asked).arg(KEPT_MS),
                ] {
                    let sent: Result<redis::Value, _> = connection.run(command).await;
                    sent.map_err(|e| explain("cannot ask for the present", e))?;
                }
                attempt = 0;
            }
        }
        .await;
        let Err(error) = asked;
        tracing::debug!(event = "ask_failed", error = error::chain(&error));
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
        // a node that waits is still waiting
        feedback.nudge();
    }
}
