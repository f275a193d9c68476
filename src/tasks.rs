//! The tasks of the process, each with its name. Owns that none ends unnoticed: a server whose half is dead would look
//! well from outside, and its clients would wait for ever. Knows nothing of what they do.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

use crate::error::{Error, Kind};

/// Those that run.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, Cow<'static, str>>,
}

impl Tasks {
    /// Runs a task that goes on until the shutdown.
    pub fn spawn(&mut self, name: impl Into<Cow<'static, str>>, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name.into());
    }

    /// Waits for the first that ends, and says which and how. Before the shutdown none may. Cancel safe.
    pub async fn first_end(&mut self) -> Error {
        match self.next().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Waits for all, after the shutdown has begun. One that panics on its way out is told.
    pub async fn finish(&mut self) {
        while let Some(ended) = self.running.join_next_with_id().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                let task = self.name_of(error.id());
                tracing::error!(event = "task_died", %task, error = panic_text(error));
            }
        }
    }

    async fn next(&mut self) -> Option<Error> {
        let ended = self.running.join_next_with_id().await?;
        let (name, how) = match ended {
            Ok((id, ())) => (self.name_of(id), "it returned".to_owned()),
            Err(error) => (self.name_of(error.id()), panic_text(error)),
        };
        tracing::error!(event = "task_died", task = %name, error = how);
        let text = format!("the task {name} has ended before the shutdown: {how}");
        Some(Error::new(Kind::Io, text).hint("a fault of rowcast: start it again, and report this line"))
    }

    fn name_of(&mut self, id: Id) -> Cow<'static, str> {
        self.names.remove(&id).unwrap_or(Cow::Borrowed("?"))
    }
}

/// What a panic said; it holds no row: such texts are of this program.
fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "it was given up".to_owned() };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_that_panics_is_named_with_what_it_said() {
        let mut tasks = Tasks::default();
        tasks.spawn("calm", std::future::pending());
        tasks.spawn("shard 1", async { panic!("{} is no slot", 7) });
        let error = tasks.first_end().await.to_string();
        assert_eq!(error, "the task shard 1 has ended before the shutdown: it panicked: 7 is no slot");
    }

    #[tokio::test]
    async fn one_that_only_returns_is_no_less_dead() {
        let mut tasks = Tasks::default();
        tasks.spawn("retention", async {});
        tasks.spawn("calm", std::future::pending());
        assert!(tasks.first_end().await.to_string().contains("the task retention has ended"));
    }

    #[tokio::test]
    async fn after_the_shutdown_all_are_waited_for() {
        let mut tasks = Tasks::default();
        let (done, mut told) = tokio::sync::mpsc::channel(2);
        for _ in 0..2 {
            let done = done.clone();
            tasks.spawn("late", async move {
                tokio::task::yield_now().await;
                let _ = done.send(()).await;
            });
        }
        tasks.finish().await;
        assert!(told.try_recv().is_ok() && told.try_recv().is_ok());
    }
}
