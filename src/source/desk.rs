//! Requests of clients, and which of them are answered now: so many at a time, each asker in turn. Owns the waiting;
//! whose turn it is says `turns`, and the answer is the caller's.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::turns::{Turn, Turns, WAITING};
use crate::request::Request;
use crate::shutdown::Shutdown;

/// Has requests answered until the shutdown. An answer may let go of its turn and last on, where another desk answers the
/// rest of it.
pub async fn serve<Answering>(
    mut requests: mpsc::Receiver<Request>,
    at_a_time: usize,
    mut shutdown: Shutdown,
    answer: impl Fn(Request, Turn) -> Answering,
) where
    Answering: Future<Output = ()> + Send + 'static,
{
    let mut turns = Turns::new(at_a_time);
    let mut running = JoinSet::new();
    loop {
        while let Some((request, turn)) = turns.take() {
            running.spawn(answer(request, turn));
        }
        tokio::select! {
            request = requests.recv(), if turns.has_turn() && running.len() < WAITING => {
                let Some(request) = request else { return shutdown.begun().await };
                turns.wait(request.asker().clone(), request);
            }
            Some(_) = running.join_next() => {}
            () = shutdown.begun() => return,
        }
    }
}
