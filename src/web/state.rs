//! What every request may need. Owns nothing but that: the parts of the server as they were put together at its start.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::admit::HostNames;
use super::connections::Connections;
use super::tls::Tls;
use crate::config::Admission;
use crate::delivery::conversation::session::Limits;
use crate::delivery::fanout::hub::Hub;
use crate::errand::Errand;
use crate::metrics::SourceMetrics;
use crate::metrics::hour::Hour;
use crate::naming::Naming;
use crate::node::NodeState;
use crate::question::Question;
use crate::shutdown::Shutdown;

/// What every request may need.
#[derive(Debug)]
pub struct Web {
    /// subscribers
    pub hub: Arc<Hub>,
    /// the source's counters
    pub source: Arc<SourceMetrics>,
    /// what this node is
    pub node: Arc<NodeState>,
    /// what it did in the last hour
    pub hour: Arc<Hour>,
    /// of a socket
    pub limits: Limits,
    /// who may open one
    pub admission: Admission,
    /// by which names it may be called
    pub names: HostNames,
    /// of the demo alone: takes what the clinic's page asks of the clinic's application
    pub application: Option<mpsc::Sender<Errand>>,
    /// takes what people ask of the database; `None`: this node has none
    pub questions: Option<mpsc::Sender<Question>>,
    /// the installation, for SQL that its pages show
    pub naming: Naming,
    /// metrics and status are answered to operators, on a listener of their own
    pub has_admin_listener: bool,
    /// `None`: connections are not encrypted
    pub tls: Option<Arc<Tls>>,
    /// those that are open
    pub connections: Arc<Connections>,
    /// sockets in all
    pub max_sockets: i64,
    /// sockets and connections that are open
    pub tasks: TaskTracker,
    /// begins when the server drains
    pub shutdown: Shutdown,
}

impl Web {
    /// Whether another socket fits.
    pub fn has_room(&self) -> bool {
        self.hub.metrics().sockets.get() < self.max_sockets
    }
}
