//! One client's conversation: its commands, its subscriptions on their way to the present, its token. Knows the views through
//! the hub, and the socket as something that is written to and read from.
//!
//! `session` is the loop; `pending` holds the subscriptions that `catch_up` brings to the present; `rows` sends
//! pages of rows; `token_lease` says
//! what the token is still worth.

pub mod catch_up;
mod pending;
pub(crate) mod rows;
pub mod session;
mod syncs;
mod token_lease;
