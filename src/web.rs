//! HTTP around the sockets. Owns routes, upgrades and pages; knows neither Postgres nor how changes are delivered.

pub mod admit;
mod ask;
pub mod connections;
mod cors;
pub mod jwks;
pub mod pages;
mod proxied;
mod reply;
mod router;
pub mod rows;
pub mod server;
pub mod socket;
mod spare;
pub mod sse;
pub mod state;
pub mod status;
pub mod tls;
