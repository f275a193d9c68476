//! Postgres → ordered changes. Owns every connection to the database; knows no socket and no subscriber.
//!
//! The path of a change through it: [`doorbell`] hears that something was committed, [`relay`] decides when to read,
//! [`outbox`] reads a cut, [`decode`] turns its rows into [`Change`](crate::change::Change)s with the help of
//! [`catalog`].

mod bulk;
pub mod captured;
pub mod catalog;
mod chain;
pub mod client;
pub mod decode;
pub mod delivered_rows;
pub mod desk;
pub mod directory;
pub mod doorbell;
pub mod encoding;
pub mod epoch;
mod image;
pub mod inspect;
pub mod install;
mod kept;
mod keyset;
pub mod members;
pub mod newcomers;
pub mod node;
pub mod order;
pub mod outbox;
mod page;
pub mod passed;
pub mod pool;
pub mod position;
pub mod predicate;
pub mod relay;
pub mod replay;
pub mod retention;
mod session;
mod shapes;
mod shelf;
pub mod sleep;
pub mod snapshot;
mod spool;
mod table;
pub mod thread;
pub mod tls;
pub mod turns;
mod url;
