//! From a cut to the sockets that are owed something. Owns which sockets watch what; knows how a frame is made, not how
//! it is written.
//!
//! `route` finds the views that a change concerns, `told` is what a view is told of it, the `view`'s frame log keeps the
//! frame, the `hub` applies all that under its lock, and wakes each `shard`. `history` remembers the latest cuts,
//! `pages` the rows that were read a moment ago, and `fold` makes one change for each row of what a stretch of the stream
//! has: `latest` keeps those for views that are told at most so often.

pub mod fold;
pub mod history;
pub mod hub;
pub mod latest;
pub(crate) mod pages;
pub mod route;
mod shard;
pub mod told;
pub mod view;
