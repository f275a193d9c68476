//! Integration tests: one binary, one file per stage, named after it. Each test has a database of its own.
#![allow(missing_docs, clippy::unwrap_used)]

mod access;
mod backbone;
mod capture;
mod cli;
mod doorbell;
mod encodings;
mod filters;
mod inspect;
mod install;
mod layers;
mod link;
mod locks;
mod metrics;
mod pooler;
mod relay;
mod restore;
mod resume;
mod rights;
mod sockets;
mod sse;
mod support;
mod tls;
mod vanished;
mod writers;
