//! A thread of its own for what has to keep time. Owns the thread and its runtime; knows nothing of what runs there.

use crate::error::{Error, Kind, Result};

/// Runs a future on a new thread, with everything that it spawns, and waits for its end. Given up, it goes on there until
/// it ends by itself.
///
/// # Errors
/// Those of the future; [`Kind::Io`] where there can be no thread, or the future has panicked.
pub async fn run<F>(name: &str, make: impl FnOnce() -> F + Send + 'static) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (end, ended) = tokio::sync::oneshot::channel();
    let cannot_begin = |error| Error::new(Kind::Io, "cannot begin a thread").because(error);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _ = end.send(runtime.map_err(cannot_begin).and_then(|runtime| runtime.block_on(make())));
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(cannot_begin)?;
    ended.await.unwrap_or_else(|_| Err(Error::new(Kind::Io, format!("the thread {name} has ended: it panicked"))))
}
