//! What the clinic's page asks of the clinic's application: the type in which `web` and `demo` meet. Plain data. Only
//! `rowcast demo` has an application; rowcast itself writes nothing for a browser.

use tokio::sync::oneshot;

/// An errand, and where its answer goes.
#[derive(Debug)]
pub struct Errand {
    /// a POST, which may write
    pub may_write: bool,
    /// the path after `/clinic/`
    pub path: String,
    /// takes a text; is dropped where there is no such errand, or it has failed
    pub answer: oneshot::Sender<String>,
}
