//! rowcast: a row committed in Postgres, by anyone, is in every browser that may see it, a few milliseconds later,
//! and never lost.
//!
//! # The path of a change
//!
//! 1. **capture** (SQL, `sql/functions/capture.sql`): a trigger writes the change into the outbox, in the writer's
//!    own transaction, and rings the doorbell unless every relay is known to be awake.
//! 2. **read** ([`source`]): the relay reads what became visible since its last snapshot, a *cut*, in order.
//! 3. **log, route, hub** ([`delivery`]): each change is encoded once per channel view and appended to the view's
//!    log; a subscriber is an offset into it.
//! 4. **session** ([`delivery::conversation`], [`web`]): sockets write what is due to them.
//!
//! [`source`] and [`delivery`] meet in [`change`], on the way back in [`request`] and [`feedback`], and nowhere else. [`cursor`] is a
//! position in the stream, [`incarnations`] says how long it is good, and a [`seal`] that a server gave it out.
//!
//! Beyond one machine, a [`backbone`] lies between the two: one node reads, all serve.
//!
//! Imports point down this list: `cli` → `demo` → `serve` → `web` → `delivery`, `backbone` → `source` → `row`, `condition`,
//! `question`, `errand`, `metrics`, `node`, `spans`, `request`, `change`, `cursor`, `incarnations`, `seal`, `feedback`, `refusals`, `fetch`, `shutdown`, `tasks`, `actor`, `naming`, `error`, `sync`.

pub mod actor;
pub mod backbone;
pub mod change;
pub mod cli;
pub mod condition;
pub mod config;

pub mod cursor;
pub mod delivery;
pub mod demo;

pub mod errand;
pub mod error;
pub mod feedback;
pub mod fetch;
pub mod incarnations;
pub mod metrics;
pub mod naming;
pub mod node;
pub mod question;
pub mod refusals;
pub mod request;
mod room;
pub mod row;
pub mod seal;
pub mod serve;
mod service_manager;

pub mod shutdown;
pub mod source;
pub mod spans;
mod sync;
pub mod tasks;
pub mod web;
