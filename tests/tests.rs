//! Integration tests: one binary, one file per stage, named after it. Each test has a database of its own.
#![allow(missing_docs, clippy::unwrap_used)]

mod access;
mod backbone;
mod capture;
mod cli;
mod doorbell;
mod filters;
mod inspect;
mod install;
mod layers;
mod link;
mod metrics;
mod order;
mod pooler;
mod reading;
mod relay;
mod restore;
mod resume;
mod sockets;
mod sse;
mod support;
mod tls;
mod vanished;
mod writers;
