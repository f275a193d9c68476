//! Shutdown as a level, not an edge: once begun, a task that looks later sees it too. Owns the signal, knows nobody.

use tokio::sync::watch;

/// Begins the shutdown. When it is dropped without a word, that is a shutdown as well.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Waits for the shutdown; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and the handle that waits for it.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Begins the shutdown.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it has begun. Cancel safe.
    pub async fn begun(&mut self) {
        // an error means that the trigger is gone, which is a shutdown too
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}
