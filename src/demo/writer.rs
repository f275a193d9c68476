//! The clinic's day: plain SQL, written by an application that knows nothing of rowcast. Owns the pace; the steps
//! are `sql/clinic/day.sql`.

use std::time::Duration;

use crate::error::chain;
use crate::shutdown::Shutdown;
use crate::source::pool::Database;

const DAY: &str = include_str!("../../sql/clinic/day.sql");

struct DemoStep {
    weight: usize,
    sql: &'static str,
}

/// Writes until the shutdown, one step every 0.2 to 1.2 seconds.
pub async fn run(database: Database, mut shutdown: Shutdown) {
    let steps = steps();
    let total: usize = steps.iter().map(|step| step.weight).sum();
    loop {
        let client = database.as_caller().await;
        if let Ok(client) = &client {
            // the application's own name and role, wherever the demo got its connection from
            let _ = client.batch_execute("set application_name = 'clinic'; set role clinic_app").await;
            while !client.is_closed() {
                let pause = Duration::from_millis(200 + fastrand::u64(..1000));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.begun() => return,
                }
                let mut pick = fastrand::usize(..total.max(1));
                let step = steps.iter().find(|step| {
                    let found = pick < step.weight;
                    pick = pick.saturating_sub(step.weight);
                    found
                });
                if let Some(step) = step
                    && let Err(error) = client.batch_execute(step.sql).await
                {
                    tracing::debug!(event = "writer_step_failed", error = chain(&error));
                    let _ = client.batch_execute("rollback").await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = shutdown.begun() => return,
        }
    }
}

fn steps() -> Vec<DemoStep> {
    let mut steps = Vec::new();
    for text in DAY.split("\n-- step ").skip(1) {
        let (head, sql) = text.split_once('\n').unwrap_or((text, ""));
        let weight = head.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        steps.push(DemoStep { weight, sql });
    }
    steps
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_step_of_the_day_has_weight_and_sql() {
        let steps = super::steps();
        assert!(steps.len() > 10);
        assert!(steps.iter().all(|step| step.weight > 0 && step.sql.contains(';')));
    }
}
